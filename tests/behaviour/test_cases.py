"""Files as people store them, collected from trackers: each is read as it is meant, or refused with the way out.

The files and what is right for each lie in ``../shared/cases`` (or where ``TOPOSTRATA_CASES`` says); each folder has a
README with its source.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from tests.conftest import ROOT
from topostrata.distance.nnstd import nnstd
from topostrata.errors import InvalidInputError, LimitError
from topostrata.evolution.between import between
from topostrata.ingest.formats.reading import Frame, read, read_one
from topostrata.ingest.inspection import inspect
from topostrata.ingest.pushing import check_files
from topostrata.refs import PathRef
from topostrata.topology import Topology, Wiring


@pytest.fixture(scope="module")
def cases() -> Path:
    """Where the cases lie."""
    path = Path(os.environ.get("TOPOSTRATA_CASES") or ROOT / ".." / "shared" / "cases").resolve()
    if not path.is_dir():
        message = f"no cases at {path}: set TOPOSTRATA_CASES"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def one(path: Path, **options: Any) -> Frame:
    """The only snapshot of a file."""
    (frame,) = read(path, **options)
    return frame


def widths(topology: Topology) -> list[int]:
    return [space.size for space in topology.spaces]


def counts(topology: Topology) -> list[int]:
    return [layer.nnz for layer in topology]


def test_01_kernels_of_torch_in_an_npz(cases: Path) -> None:
    """Every 3 x 3 kernel chains with every other in the wrong order of axes; the names say the right one."""
    topology = one(cases / "files/01-conv-oihw-npz/masks.npz").topology
    assert widths(topology) == [3, 8, 16, 16, 32]
    assert counts(topology) == [33, 222, 493, 890]
    assert {layer.taps for layer in topology} == {9}


def test_04_masks_of_parametrizations(cases: Path) -> None:
    """The originals between the masks are no layers."""
    frame = one(cases / "files/04-ao-pruning-names/model.safetensors")
    assert widths(frame.topology) == [12, 12, 12, 12]
    assert counts(frame.topology) == [51, 45, 47]
    assert any("0.parametrizations.weight.original" in note for note in frame.notes)
    assert len(one(cases / "files/04-ao-pruning-names/model_mlp.safetensors").topology) == 3


def test_06_a_network_and_its_relabelled_copy_have_distance_0(cases: Path) -> None:
    """GPT-NeoX's h_to_4h comes before 4h_to_h, whatever the alphabet says."""
    folder = cases / "files/06-neox-mlp-order"
    original, relabelled = (one(folder / f"model{name}.safetensors").topology for name in ("", "_relabelled"))
    assert widths(original) == [16, 48, 16]
    assert nnstd(original, relabelled).nnstd == 0


def test_07_a_stored_false_is_no_connection(cases: Path) -> None:
    """Masks that were made from the data of weights store their zeros."""
    first, second = (frame.topology for frame in read(cases / "files/07-csr-mask-stored-false/run"))
    assert (counts(first), counts(second)) == ([15, 9], [15, 6])
    changes = [between(name, [first[name].mask, second[name].mask]) for name in ("l0", "l1")]
    assert [(layer.survived, layer.died, layer.born) for layer in changes] == [(4, 11, 11), (5, 4, 1)]


def test_09_a_checkpoint_of_torch(cases: Path) -> None:
    """It is read without torch and without unpickling."""
    topology = one(cases / "files/09-torch-pth/mask.pth").topology
    assert (widths(topology), counts(topology)) == ([8, 6, 4], [18, 7])


def test_10_records_of_masks_over_time(cases: Path) -> None:
    """RigL's pickled dictionary of iterations holds a snapshot for each."""
    path = cases / "files/10-mask-records-npy/mask_records.npy"
    assert [(frame.step, counts(frame.topology)) for frame in read(path)] == [
        (0, [12, 6]),
        (100, [13, 8]),
        (250, [11, 7]),
    ]
    assert [counts(frame.topology) for frame in check_files(path, steps=[100]).frames()] == [[13, 8]]
    with pytest.raises(InvalidInputError, match=r"expected steps \[7\], found \[0, 100, 250\]"):
        list(read(path, steps=[7]))
    assert read_one(PathRef(path, 100)).step == 100
    assert read_one(PathRef(path, "first")).step == 0
    assert read_one(PathRef(path)).step == 250


def test_11_names_with_slashes(cases: Path) -> None:
    """Flax and TensorFlow write them."""
    topology = one(cases / "files/11-slash-names-npz/masks.npz").topology
    assert [(layer.name, layer.nnz) for layer in topology] == [("Dense_0", 10), ("Dense_1", 4)]
    assert widths(topology) == [8, 6, 4]


@pytest.mark.parametrize("name", ["vgg.safetensors", "vgg_definition_order.npz"])
def test_12_features_before_classifier(cases: Path, name: str) -> None:
    """The alphabet has it the other way round."""
    topology = one(cases / "files/12-features-classifier" / name).topology
    assert widths(topology) == [3, 8, 16, 10, 5]
    assert counts(topology) == [56, 331, 194, 12]


def test_15_misspelt_names(cases: Path) -> None:
    """weights_l2.npz is the third layer; an epoch whose name says no step is named."""
    folder = cases / "files/15-names-that-are-ignored"
    assert widths(one(folder / "layer").topology) == [8, 6, 5, 4]
    frames = list(read(folder / "epochs"))
    assert [frame.step for frame in frames] == [0, 10, 20]
    assert any("epoch_030_final" in note for note in frames[0].notes)
    taken = read(folder / "epochs", step_from=r"(?i)epoch_(\d+)")
    assert [frame.step for frame in taken] == [0, 10, 20, 30]


def test_16_steps_in_names(cases: Path) -> None:
    """As Lightning, Hugging Face and scripts name them."""
    folder = cases / "files/16-step-in-file-name"
    steps = {path.name: one(path).step for path in folder.glob("*.npz")}
    assert steps == {"epoch=9-step=1000.npz": 1000, "checkpoint-2000.npz": 2000, "mask_003000.npz": 3000}
    assert [frame.step for frame in read(folder)] == [1000, 2000, 3000]


def test_19_grouped_convolutions(cases: Path) -> None:
    """A group shows in the shapes, unless it is the first layer's: then it is said."""
    frame = one(cases / "files/19-grouped-conv/groups2_first.safetensors")
    assert any("reads 2 channels" in note and "--wiring" in note for note in frame.notes)
    topology = one(cases / "files/19-grouped-conv/depthwise_separable.safetensors").topology
    assert [(layer.source.size, layer.target.size, layer.groups) for layer in topology] == [
        (3, 8, 1), (8, 8, 8), (8, 16, 1),
    ]  # fmt: skip
    assert topology["1"].source == topology["1"].target


def test_19_the_first_convolution_has_the_groups_that_a_wiring_says(cases: Path) -> None:
    """Four input channels in two groups: what the file cannot tell."""
    wiring = Wiring.from_toml(
        """
        wiring = 1
        axes.group = { size = 2, fixed = true }
        axes.channel = { size = 2, fixed = true }
        axes.filter = { size = 4, fixed = true }
        spaces.image = ["group", "channel"]
        spaces.c1 = ["group", "filter"]
        spaces.c2 = { size = 16, labelled = true }
        layers = [
            { name = "0", source = "image", target = "c1", taps = 9, groups = 2 },
            { name = "2", source = "c1", target = "c2", taps = 9 },
        ]
        """
    )
    frame = one(cases / "files/19-grouped-conv/groups2_first.safetensors", wiring=wiring)
    assert frame.topology["0"].source.size == 4
    assert frame.topology.nnz == one(cases / "files/19-grouped-conv/groups2_first.safetensors").topology.nnz


def test_21_masks_beside_weights(cases: Path) -> None:
    """NNI's mask_dict wins over the state_dict beside it."""
    topology = one(cases / "files/21-mask-dict-beside-weights/ckpt.safetensors").topology
    assert [(layer.name, layer.nnz) for layer in topology] == [("fc1", 22), ("fc2", 22), ("fc3", 17)]


def test_22_one_shard_is_read_with_the_others(cases: Path) -> None:
    """By the index; the directory is read too."""
    folder = cases / "files/22-one-shard"
    topology = one(folder / "model-00001-of-00002.safetensors").topology
    assert [layer.name for layer in topology] == [f"layers.{k}" for k in range(4)]
    assert one(folder).topology == topology


def test_23_one_matrix_gives_one_answer(cases: Path) -> None:
    """COO with an entry twice: file, SciPy and NumPy count the same."""
    path = cases / "files/23-coo-duplicates/coo.npz"
    matrix = sp.load_npz(path)
    topology = one(path, bias="none").topology
    assert topology.nnz == 2
    assert topology == Topology.from_masks([matrix]) == Topology.from_masks([matrix.toarray()])


@pytest.mark.parametrize("name", ["empty_dir", "truncated"])
def test_24_a_run_that_is_still_being_written(cases: Path, name: str) -> None:
    """What is whole is read, what is not is named; one epoch is read alone."""
    folder = cases / "files/24-run-still-being-written" / name
    (frame,) = read(folder)
    assert frame.step == 0
    assert any("epoch_010" in note for note in frame.notes)
    assert any("not whole" in note and "epoch_010" in note for note in inspect(folder).notes)
    assert read_one(PathRef(folder, 0)).topology == one(folder, steps=[0]).topology == frame.topology


def test_26_diagonals(cases: Path) -> None:
    """SciPy's DIA files are matrices of as many rows as their shape says."""
    topology = one(cases / "files/26-dia-format/dia.npz", bias="none").topology
    assert (widths(topology), topology.nnz) == ([6, 6], 11)


def test_uploads_are_refused_before_they_are_paid_for(cases: Path) -> None:
    """An indptr that promises 200 million entries, and shapes that NumPy cannot hold."""
    with pytest.raises(LimitError, match="at most 200,000,000 connections, found 209,715,200"):
        one(cases / "uploads/csr200.npz", bias="none")
    with pytest.raises(InvalidInputError, match=r"0\.indices.*shape"):
        one(cases / "uploads/overflow.safetensors")


def test_every_case_of_one_snapshot_has_the_connections_that_numpy_counts(cases: Path) -> None:
    """The totals of the npz cases, counted by NumPy itself."""
    for name in ("01-conv-oihw-npz/masks_b.npz", "16-step-in-file-name/mask_003000.npz"):
        with np.load(cases / "files" / name) as arrays:
            assert one(cases / "files" / name).topology.nnz == sum(np.count_nonzero(arrays[k]) for k in arrays)
