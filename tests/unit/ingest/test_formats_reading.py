"""Snapshots are read from every known layout, and a directory that is not one is refused before its first frame."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from tests.epochs import matrix, run_directory, save_epoch
from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.reading import Frame, Limits, read, read_one
from topostrata.ingest.inspection import inspect
from topostrata.ingest.pushing import check_files
from topostrata.refs import PathRef, parse_path_ref
from topostrata.topology import Topology


def test_all_fifteen_agree_with_scipy_reading_them(
    reference_directory: Path, reference_topologies: dict[str, Topology]
) -> None:
    """The 15 reference networks are read as SciPy reads their files, with their steps, widths and epochs."""
    by_name: dict[str, Frame] = {}
    for run in sorted(path for path in reference_directory.iterdir() if path.is_dir()):
        frames = list(read(run))
        assert [frame.step for frame in frames] == [0, 10, 50]
        by_name.update({f"{run.name}/{frame.source.name}": frame for frame in frames})

    assert {name: frame.topology for name, frame in by_name.items()} == reference_topologies
    assert len(by_name) == 15
    for frame in by_name.values():
        layers = frame.topology.layers
        assert [space.size for space in frame.topology.spaces] == [784, 784, 784, 784, 10]
        assert [layer.name for layer in layers] == ["l0", "l1", "l2", "l3"]
        assert all(3000 <= layer.nnz <= 3800 for layer in layers[:3])
        assert layers[3].nnz == 7840
        assert frame.epoch == frame.step


def test_accuracies_stand_beside_the_epochs_where_the_run_has_them(reference_directory: Path) -> None:
    """Line N of ``testacc.txt`` is the accuracy of epoch N; a run without the file has no metrics."""
    frames = list(read(reference_directory / "e5_s0_w0"))
    lines = (reference_directory / "e5_s0_w0" / "testacc.txt").read_text().split()
    assert [frame.metrics for frame in frames] == [{"accuracy": float(lines[epoch])} for epoch in (0, 10, 50)]
    assert [frame.metrics for frame in read(reference_directory / "e5_s0_w2")] == [{}, {}, {}]


def test_a_step_that_is_said_needs_no_name_that_tells_it(tmp_path: Path) -> None:
    """The note on a name with a number that is no step comes only where no step was said."""
    np.savez(tmp_path / "net_v7.npz", l0=np.eye(3, dtype=bool))
    (frame,) = read(tmp_path / "net_v7.npz", bias="none")
    assert any("tells no step" in note for note in frame.notes)
    (frame,) = read(tmp_path / "net_v7.npz", bias="none", steps=[3])
    assert not any("tells no step" in note for note in frame.notes)


def test_epochs_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Epochs are sorted by number, not by name, and leading zeros make no difference."""
    truth = run_directory(tmp_path, (9, 10, 100))
    frames = list(read(tmp_path))
    assert {frame.step: frame.topology for frame in frames} == truth
    assert [(frame.step, frame.epoch) for frame in frames] == [(9, 9.0), (10, 10.0), (100, 100.0)]
    assert frames[0].source == tmp_path / "epoch_009"


def test_a_matrix_without_a_bias_row_keeps_all_its_inputs(tmp_path: Path) -> None:
    """Where the shapes chain, every row is an input; ``bias='none'`` gives the same."""
    truth = run_directory(tmp_path, bias=False)
    assert {frame.step: frame.topology for frame in read(tmp_path)} == truth
    assert {frame.step: frame.topology for frame in read(tmp_path, bias="none")} == truth


def test_files_may_be_counted_from_one(tmp_path: Path) -> None:
    """Layers keep the numbers of their files, so ``weight_l1`` may be the first."""
    save_epoch(tmp_path / "epoch_1", [matrix(3, 4), matrix(4, 2)], start=1)
    (frame,) = read(tmp_path)
    assert [layer.name for layer in frame.topology.layers] == ["l1", "l2"]


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("compressed", [True, False])
def test_scipy_formats_are_the_same_wiring(tmp_path: Path, form: Any, compressed: bool) -> None:
    """CSR, CSC and COO, compressed or not, give the topology that the matrices have."""
    layers = [matrix(6, 5), matrix(5, 3)]
    save_epoch(tmp_path / "epoch_0", [layer.asformat(form) for layer in layers], compressed=compressed)
    (frame,) = read(tmp_path)
    assert frame.topology == Topology.from_masks(layers)


@pytest.mark.parametrize("form", ["bsr", "dia"])
def test_blocks_and_diagonals_count_by_value(tmp_path: Path, form: Any) -> None:
    """BSR and DIA store zeros that fill blocks and diagonals up; they are no connections, whatever `zeros` says."""
    layers = [matrix(4, 4), matrix(4, 4, seed=8)]
    save_epoch(tmp_path / "epoch_0", [layers[0].asformat(form), layers[1]])
    for zeros in (None, "absent", "present"):
        assert next(read(tmp_path, zeros=zeros)).topology == Topology.from_masks(layers)


def test_another_format_of_scipy_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """A format that no library writes is named."""
    refused(tmp_path, r"expected a SciPy matrix in format csr, .*found 'lil'.*tocsr", format=b"lil")


def test_stored_zeros_are_absent_unless_they_are_said_to_be_present(tmp_path: Path) -> None:
    """Weights and masks count by value; `present` makes the pattern the topology."""
    for kind, dtype in (("weights", np.float32), ("mask", np.bool_), ("ints", np.int8)):
        data = np.array([1, 0, 1], dtype)
        layer = sp.csr_array((data, np.array([0, 1, 2]), np.array([0, 2, 3])), shape=(2, 3))
        save_epoch(tmp_path / kind / "epoch_0", [layer, matrix(3, 2, density=1)])
    nnz = {
        (kind, zeros): next(read(tmp_path / kind, zeros=zeros)).topology.layers[0].nnz
        for kind in ("weights", "mask", "ints")
        for zeros in (None, "absent", "present")
    }
    assert nnz == {
        ("weights", None): 2, ("weights", "absent"): 2, ("weights", "present"): 3,
        ("mask", None): 2, ("mask", "absent"): 2, ("mask", "present"): 3,
        ("ints", None): 2, ("ints", "absent"): 2, ("ints", "present"): 3,
    }  # fmt: skip


def test_one_epoch_directory_is_read_by_itself(tmp_path: Path) -> None:
    """Its step and its accuracy are those that it has within the run."""
    truth = run_directory(tmp_path)
    (tmp_path / "testacc.txt").write_text("0.1\n" * 20)
    (frame,) = read(tmp_path / "epoch_010")
    assert (frame.step, frame.epoch, frame.topology, frame.metrics) == (10, 10.0, truth[10], {"accuracy": 0.1})


def test_layer_files_in_a_directory_of_any_name_are_step_0(tmp_path: Path) -> None:
    """A directory without an epoch in its name is one snapshot at step 0, without an epoch."""
    truth = run_directory(tmp_path, (5,))
    (tmp_path / "epoch_005").rename(tmp_path / "final")
    (frame,) = read(tmp_path / "final")
    assert (frame.step, frame.epoch, frame.topology) == (0, None, truth[5])


def test_the_working_directory_knows_its_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path ``.`` takes the epoch from the real name of the directory."""
    run_directory(tmp_path)
    (tmp_path / "testacc.txt").write_text("0.1\n" * 20)
    monkeypatch.chdir(tmp_path / "epoch_010")
    (frame,) = read(Path())
    assert (frame.step, frame.metrics) == (10, {"accuracy": 0.1})


def test_foreign_files_are_ignored(tmp_path: Path) -> None:
    """Other files and directories in a run or in an epoch change nothing."""
    truth = run_directory(tmp_path)
    (tmp_path / "epoch_000" / "optimizer.npz").write_bytes(b"not ours")
    (tmp_path / "epoch_099").write_text("a file, not an epoch")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "epoch_last").mkdir()
    assert [frame.step for frame in read(tmp_path)] == list(truth)


def test_an_epoch_beyond_the_last_accuracy_has_none(tmp_path: Path) -> None:
    """An epoch for which ``testacc.txt`` has no line has no metrics."""
    run_directory(tmp_path, (0, 1, 2))
    (tmp_path / "testacc.txt").write_text("0.25\n5e-1\n\n")
    assert [frame.metrics for frame in read(tmp_path)] == [{"accuracy": 0.25}, {"accuracy": 0.5}, {}]


def test_only_one_snapshot_is_read_ahead_of_being_asked(tmp_path: Path) -> None:
    """Frames are read lazily: a file that goes away is an error only when its frame is due."""
    run_directory(tmp_path)
    frames = read(tmp_path)
    assert next(frames).step == 0
    shutil.rmtree(tmp_path / "epoch_050")
    assert next(frames).step == 10
    with pytest.raises(InvalidInputError, match=r"epoch_050: expected .*found: No such file"):
        next(frames)


@pytest.mark.parametrize(("text", "step"), [("", 50), ("@last", 50), ("@first", 0), ("@10", 10), ("/epoch_010", 10)])
def test_a_path_ref_names_one_epoch(tmp_path: Path, text: str, step: int) -> None:
    """``PATH``, ``PATH@first``, ``PATH@last``, ``PATH@N`` and the path of an epoch each give one snapshot."""
    truth = run_directory(tmp_path)
    frame = read_one(parse_path_ref(f"{tmp_path}{text}"))
    assert (frame.step, frame.topology) == (step, truth[step])


def test_an_epoch_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    """The error lists the epochs that the directory has."""
    run_directory(tmp_path)
    with pytest.raises(InvalidInputError, match="expected an epoch 11, found 0, 10, 50"):
        read_one(PathRef(tmp_path, 11))


def test_one_broken_epoch_does_not_hide_the_others(tmp_path: Path) -> None:
    """Reading one epoch does not read the files of another."""
    run_directory(tmp_path)
    (tmp_path / "epoch_000" / "weight_l1.npz").write_bytes(b"PK")
    assert read_one(PathRef(tmp_path, 10)).step == 10


def test_a_file_of_one_snapshot_has_one_step(tmp_path: Path) -> None:
    """``first``, ``last`` and its own step name it; another step is an error."""
    path = tmp_path / "w0_step_20.npz"
    snapshot_file.write(path, Topology.from_masks([np.eye(3)]))
    assert read_one(PathRef(path)).step == read_one(PathRef(path, "first")).step == 20
    assert read_one(PathRef(path, 20)).step == 20
    with pytest.raises(InvalidInputError, match="expected step 21, found one snapshot, step 20"):
        read_one(PathRef(path, 21))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run_directory(tmp_path / "w0")
    return tmp_path / "w0"


def test_the_same_epoch_twice(run: Path) -> None:
    """Two directories of one epoch number are an error that names both."""
    shutil.copytree(run / "epoch_010", run / "epoch_10")
    with pytest.raises(InvalidInputError, match="epoch 10 twice: epoch_010 and epoch_10"):
        read(run)


def test_a_missing_layer_file_before_a_whole_epoch(run: Path) -> None:
    """A hole in the middle of a run is no run that is being written: nothing is read."""
    (run / "epoch_010" / "weight_l1.npz").unlink()
    with pytest.raises(InvalidInputError, match=r"epoch_010: expected .* without gaps, found no weight_l1\.npz"):
        read(run)


def test_an_epoch_with_fewer_layers_before_a_whole_one(run: Path) -> None:
    """The layers of all epochs are the same."""
    (run / "epoch_010" / "weight_l2.npz").unlink()
    with pytest.raises(
        InvalidInputError, match=r"epoch_010: expected the layers of epoch_000 \(l0, l1, l2\), found l0, l1: missing l2"
    ):
        read(run)


@pytest.mark.parametrize("damage", ["empty", "gap", "short", "cut"])
def test_a_run_that_is_being_written_is_read_as_far_as_it_is_whole(run: Path, damage: str) -> None:
    """The last epoch is not whole: the others are read, and it is named, by whoever only looks too."""
    last = run / "epoch_050"
    if damage == "empty":
        shutil.rmtree(last)
        last.mkdir()
    elif damage == "cut":
        path = last / "weight_l2.npz"
        path.write_bytes(path.read_bytes()[:-30])
    else:
        (last / f"weight_l{1 if damage == 'gap' else 2}.npz").unlink()
    frames = list(read(run))
    assert [frame.step for frame in frames] == [0, 10]
    for (note,) in (frames[0].notes, inspect(run).notes):
        assert "is it being written?" in note
        assert "epoch_050" in note


def test_only_the_steps_that_are_asked_for_are_looked_at(run: Path) -> None:
    """A damaged epoch does not keep the others from being read by name."""
    (run / "epoch_010" / "weight_l1.npz").write_bytes(b"PK")
    assert [frame.step for frame in read(run, steps=[0, 50])] == [0, 50]
    with pytest.raises(InvalidInputError, match=r"expected epochs \[7\], found 0, 10, 50"):
        read(run, steps=[7])


def test_a_layer_twice(run: Path) -> None:
    """Two files of one layer number are an error that names both."""
    shutil.copy(run / "epoch_010" / "weight_l1.npz", run / "epoch_010" / "weight_l01.npz")
    with pytest.raises(InvalidInputError, match=r"every layer once, found weight_l01\.npz and weight_l1\.npz"):
        read(run)


def test_an_empty_epoch_before_a_whole_one(run: Path) -> None:
    """An empty directory in the middle of a run is an error."""
    (run / "epoch_020").mkdir()
    with pytest.raises(InvalidInputError, match="epoch_020: expected layer files"):
        read(run)


def test_shapes_that_change(run: Path) -> None:
    """An epoch whose layer has another shape than before belongs to another run, and is refused."""
    sp.save_npz(run / "epoch_050" / "weight_l2.npz", matrix(4, 2, bias=True))
    with pytest.raises(InvalidInputError, match=r"l2': expected 5 x 3 as in epoch_000, found 5 x 2.*another run"):
        read(run)


def test_a_truncated_epoch_before_a_whole_one(run: Path) -> None:
    """A file that is cut off in the middle of a run is an error."""
    path = run / "epoch_010" / "weight_l2.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InvalidInputError, match=r"weight_l2\.npz: .*cut off"):
        read(run)


def test_shapes_that_do_not_chain(tmp_path: Path) -> None:
    """Layers whose sizes do not fit together are listed with their shapes."""
    save_epoch(tmp_path / "epoch_0", [matrix(6, 5), matrix(7, 3)])
    with pytest.raises(InvalidInputError, match=r"as many sources.*found l0 6 x 5, l1 7 x 3"):
        read(tmp_path)


def test_shapes_of_which_only_some_have_a_bias_row(tmp_path: Path) -> None:
    """Either every layer has a bias row or none has: a mixture is refused."""
    save_epoch(tmp_path / "epoch_0", [matrix(6, 5), matrix(5, 4), matrix(5, 3)])
    with pytest.raises(InvalidInputError, match=r"each one more.*found l0 6 x 5, l1 5 x 4, l2 5 x 3"):
        read(tmp_path)


def test_one_layer_alone_does_not_say_whether_its_last_row_is_a_bias(tmp_path: Path) -> None:
    """A single layer needs the option ``bias``, and the error names both choices."""
    save_epoch(tmp_path / "epoch_0", [matrix(6, 5)])
    with pytest.raises(InvalidInputError, match=r"l0 6 x 5.*--bias none or --bias last-row"):
        read(tmp_path)
    assert next(read(tmp_path, bias="none")).topology.layers[0].source.size == 6
    assert next(read(tmp_path, bias="last-row")).topology.layers[0].source.size == 5


def test_a_bias_told_against_the_shapes(run: Path, tmp_path: Path) -> None:
    """An option ``bias`` that the shapes contradict is an error that names the one that fits."""
    with pytest.raises(InvalidInputError, match=r"--bias none, found l0 7 x 5, l1 6 x 4.*fit --bias last-row"):
        read(run, bias="none")
    run_directory(tmp_path / "plain", bias=False)
    with pytest.raises(InvalidInputError, match=r"--bias last-row, found .*fit --bias none"):
        read(tmp_path / "plain", bias="last-row")


def test_a_network_that_is_only_biases(tmp_path: Path) -> None:
    """A layer needs at least one input besides the bias row."""
    save_epoch(tmp_path / "epoch_0", [matrix(1, 5)])
    with pytest.raises(InvalidInputError, match="at least one row besides the bias, found l0 1 x 5"):
        read(tmp_path, bias="last-row")


@pytest.mark.parametrize(
    ("text", "line"),
    [("0.1\nx\n", "line 2: .*'x'"), ("nan\n", "line 1: .*'nan'"), ("0.1\n\n0.2\n", "line 2: .*''")],
)
def test_a_malformed_accuracy(run: Path, text: str, line: str) -> None:
    """The error names the line of ``testacc.txt`` and what stands there."""
    (run / "testacc.txt").write_text(text)
    with pytest.raises(InvalidInputError, match=rf"testacc\.txt: {line}"):
        read(run)


def test_accuracies_that_are_no_text(run: Path) -> None:
    """A ``testacc.txt`` that is not text is an error that names the file."""
    (run / "testacc.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match=r"testacc\.txt: .*no text"):
        read(run)


def test_an_epoch_too_large_to_be_a_step(run: Path) -> None:
    """Steps end at 2**53 - 1, which JSON can hold."""
    (run / "epoch_9999999999999999").mkdir()
    with pytest.raises(InvalidInputError, match="expected an epoch of at most 9007199254740991"):
        read(run)


def test_an_empty_directory_names_the_known_layouts(tmp_path: Path) -> None:
    """The error lists what a directory may hold."""
    with pytest.raises(InvalidInputError, match=r"expected epoch directories or layer files.*epoch_<N>.*safetensors"):
        read(tmp_path)


def test_nothing_at_all_names_the_known_layouts(tmp_path: Path) -> None:
    """A path that does not exist gives the list of layouts too."""
    with pytest.raises(InvalidInputError, match=r"gone: expected a file or directory, found none.*epoch_<N>"):
        read(tmp_path / "gone")


def test_a_file_of_another_kind_names_the_known_layouts(tmp_path: Path) -> None:
    """A file of an unknown suffix gives the list of formats too."""
    (tmp_path / "model.onnx").write_bytes(b"something else")
    with pytest.raises(InvalidInputError, match=r"model\.onnx: expected a \.npz, \.safetensors, .*file.*epoch_<N>"):
        read(tmp_path / "model.onnx")


@pytest.mark.parametrize("option", [{"bias": "first-row"}, {"zeros": "maybe"}, {"orientation": "up"}])
def test_an_unknown_option(run: Path, option: dict[str, Any]) -> None:
    """An unknown value of an option is an error that names the option and its values."""
    with pytest.raises(InvalidInputError, match=f"{next(iter(option))}: expected one of"):
        read(run, **option)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(layers=2), "2 layers, found 3"),
        (Limits(units=5), "layer 'l0': expected at most 5 units in a space, found 7"),
        (Limits(connections=10), "10 connections"),
        (Limits(total_bytes=100), r"weight_l0\.npz: expected at most 100 bytes unpacked"),
        (Limits(members=4), "4 members, found"),
    ],
)
def test_a_network_beyond_the_limits(run: Path, limits: Limits, words: str) -> None:
    """Layers, units, connections, bytes and members are each limited."""
    with pytest.raises(LimitError, match=words):
        list(read(run, limits=limits))


@pytest.mark.parametrize(("name", "value", "enough"), [("layers", 2049, "2049"), ("ratio", 1100.5, "1101")])
def test_a_default_limit_says_how_to_read_more(name: str, value: float, enough: str) -> None:
    """With the value that would do; a service, which has limits of its own, does not say so."""
    with pytest.raises(LimitError) as caught:
        Limits().check("a.npz", **{name: value})
    way = f"Python takes more: archive.push_files(FILE, RUN, limits=ts.Limits({name}={enough}))"
    assert caught.value.hint == way
    with pytest.raises(LimitError) as caught:
        Limits(units=9).check("a.npz", **{name: value})
    assert caught.value.hint is None


def refused(tmp_path: Path, words: str, **changed: Any) -> None:
    parts: dict[str, Any] = {
        "indices": np.array([0, 2, 1], np.int32),
        "indptr": np.array([0, 2, 3], np.int32),
        "format": b"csr",
        "shape": (2, 3),
        "data": np.ones(3, np.float32),
    }
    directory = tmp_path / "epoch_0"
    save_epoch(directory, [matrix(2, 3), matrix(3, 2)])
    np.savez_compressed(directory / "weight_l0.npz", **{k: v for k, v in {**parts, **changed}.items() if v is not None})
    with pytest.raises(InvalidInputError, match=rf"weight_l0\.npz: .*{words}"):
        list(read(tmp_path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    """NaN and infinity are refused with the layer and the place."""
    data = np.array([1, value, 1], np.float32)
    refused(tmp_path, rf"layer 'l0': expected finite values, found {value} at \[0, 2\]", data=data)


@pytest.mark.parametrize("bad", [3, -1])
def test_a_column_out_of_range(tmp_path: Path, bad: int) -> None:
    """A column index outside the shape is refused with the entry that has it."""
    indices = np.array([0, bad, 1])
    words = rf"layer 'l0': entry 1: expected a position in \[0, 3\) on axis 1, found {bad}"
    refused(tmp_path, words, indices=indices)


def test_entries_stored_twice_are_summed(tmp_path: Path) -> None:
    """As every library does: +1 and -1 at one place are a zero, which is no connection."""
    for form in ("coo", "csr"):
        coo = sp.coo_array(([1.0, -1.0, 1.0, 2.0], ([0, 0, 1, 1], [2, 2, 0, 0])), shape=(2, 3))
        layer = sp.csr_array((coo.data, coo.coords[1], np.array([0, 2, 4])), shape=(2, 3)) if form == "csr" else coo
        save_epoch(tmp_path / form / "epoch_0", [layer, matrix(3, 2)])
        topology = next(read(tmp_path / form)).topology
        assert topology["l0"].mask.cells.tolist() == [1]
        assert topology["l0"].mask.digest == Topology.from_masks([layer]).layers[0].mask.digest


def test_offsets_that_fall(tmp_path: Path) -> None:
    """Row offsets that decrease are refused."""
    refused(
        tmp_path, "expected pointers that rise from 0 to at most 3, found 1 at position 2", indptr=np.array([0, 2, 1])
    )


def test_offsets_that_do_not_begin_at_0(tmp_path: Path) -> None:
    """Row offsets that begin at another number than 0 are refused."""
    refused(
        tmp_path, "expected pointers that rise from 0 to at most 3, found 1 at position 0", indptr=np.array([1, 2, 3])
    )


def test_offsets_of_another_number_of_rows(tmp_path: Path) -> None:
    """There is one offset more than rows, or the file is refused."""
    refused(tmp_path, "expected 3 pointers, found 2", indptr=np.array([0, 3]))


def test_offsets_beyond_the_indices(tmp_path: Path) -> None:
    """Offsets that promise more entries than there are indices are refused."""
    refused(tmp_path, r"indices': expected 9 \(the last of indptr\), found 3", indptr=np.array([0, 2, 9]))


def test_fewer_values_than_indices(tmp_path: Path) -> None:
    """Every index has a value, or the file is refused."""
    refused(tmp_path, r"layer 'l0': expected 3 values, found 2", data=np.ones(2))


def test_indices_that_are_no_integers(tmp_path: Path) -> None:
    """Indices of a floating-point type are refused."""
    refused(tmp_path, "indices': expected int or uint, found dtype float64", indices=np.array([0.0, 2, 1]))


def test_complex_values(tmp_path: Path) -> None:
    """Complex values are refused."""
    refused(tmp_path, "data': expected .*found", data=np.ones(3, np.complex64))


def test_an_object_array_is_refused_unread(tmp_path: Path) -> None:
    """An array of Python objects is refused without unpickling it."""
    refused(tmp_path, r"data': expected .*found .*object", data=np.array([1, "x", None], dtype=object))


def test_an_unknown_member(tmp_path: Path) -> None:
    """A member that ``save_npz`` does not write is refused."""
    refused(tmp_path, "expected a matrix as scipy.sparse.save_npz writes it.*extra", extra=np.ones(3))


def test_a_missing_member(tmp_path: Path) -> None:
    """A member that ``save_npz`` always writes must be there."""
    refused(
        tmp_path, "layer 'l0': expected indptr, indices, shape and data of a csr matrix, found no indptr", indptr=None
    )


def test_a_shape_of_three_axes(tmp_path: Path) -> None:
    """The shape of a matrix has two axes."""
    refused(tmp_path, r"shape': expected 2 axes, found \[2, 3, 1\]", shape=(2, 3, 1))


def test_room_behind_the_last_entry_is_no_connection(tmp_path: Path) -> None:
    """SciPy keeps spare room in a matrix that was thinned out, and saves it."""
    layer = sp.csr_array(np.ones((2, 3), np.float32))
    spare = sp.csr_array((np.append(layer.data, [0, 0]), np.append(layer.indices, [0, 0]), layer.indptr), (2, 3))
    save_epoch(tmp_path / "epoch_0", [spare, matrix(3, 2)])
    assert next(read(tmp_path)).topology.layers[0].nnz == 6


def test_every_snapshot_counts_once_in_the_progress_of_a_check(tmp_path: Path) -> None:
    """The total is there before any is read, though all are looked at first."""
    for number in range(3):
        np.savez(tmp_path / f"step_{number}.npz", fc1=np.eye(4), fc2=np.ones((4, 2)))
    told: list[tuple[int, int]] = []
    check_files(tmp_path, progress=lambda done, count: told.append((done, count)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
