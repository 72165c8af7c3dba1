"""Several snapshots in one file: stacks whose first axis is time, dictionaries of steps, and what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import topostrata as ts
from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.reading import read_one
from topostrata.ingest.inspection import inspect
from topostrata.ingest.pushing import check_files
from topostrata.refs import PathRef

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.random((4, 6, 5)) < 0.4, RNG.random((4, 5, 3)) < 0.4


def cells(topology: ts.Topology) -> list[list[int]]:
    return [layer.mask.cells.tolist() for layer in topology]


def expected(*masks: NDArray[Any]) -> list[list[list[int]]]:
    return [cells(ts.Topology.from_masks(list(at))) for at in zip(*masks, strict=True)]


def stacked(path: Path, **more: Any) -> Path:
    np.savez(path, l0=FIRST, l1=SECOND, **more)
    return path


def test_a_stack_is_asked_about(tmp_path: Path) -> None:
    """Four snapshots, or two convolutions of four taps: the error names both readings and the options."""
    path = stacked(tmp_path / "masks.npz")
    with pytest.raises(
        InvalidInputError, match=r"two readings: snapshots over time, or convolutions such as 'l0'"
    ) as caught:
        list(ts.read(path))
    assert "--over-time" in (caught.value.hint or "")
    assert "--orientation hwio" in (caught.value.hint or "")
    assert "over time" in (inspect(path).question or "")
    (frame,) = ts.read(path, orientation="hwio")
    assert [layer.taps for layer in frame.topology] == [4, 4]


def test_a_stack_is_read_as_snapshots_where_that_is_said(tmp_path: Path) -> None:
    """Without steps they are numbered by their places."""
    frames = list(ts.read(stacked(tmp_path / "masks.npz"), over_time=True))
    assert [frame.step for frame in frames] == [0, 1, 2, 3]
    assert [cells(frame.topology) for frame in frames] == expected(FIRST, SECOND)
    assert inspect(tmp_path / "masks.npz", over_time=True).steps == (0, 1, 2, 3)


@pytest.mark.parametrize("name", ["steps", "epoch", "iterations"])
def test_an_array_of_steps_says_them(name: str, tmp_path: Path) -> None:
    """And ``steps`` chooses among them."""
    path = stacked(tmp_path / "masks.npz", **{name: np.array([0, 100, 250, 900])})
    assert [frame.step for frame in ts.read(path, over_time=True)] == [0, 100, 250, 900]
    (frame,) = ts.read(path, over_time=True, steps=[250])
    assert cells(frame.topology) == expected(FIRST, SECOND)[2]
    with pytest.raises(InvalidInputError, match=r"expected steps \[7\]"):
        list(ts.read(path, over_time=True, steps=[7]))


def test_steps_may_be_said(tmp_path: Path) -> None:
    """As many as there are snapshots, in their order; so that a push reads them twice alike."""
    path = stacked(tmp_path / "masks.npz")
    files = check_files(path, steps=[0, 100, 250, 900], over_time=True)
    assert [frame.step for frame in files.frames()] == [0, 100, 250, 900]
    with pytest.raises(InvalidInputError, match="expected a step for each of the 4 snapshots, found 2"):
        list(ts.read(path, over_time=True, steps=[0, 100]))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"steps": np.array([0, 100, 100, 900])}, "expected steps that rise"),
        ({"steps": np.array([0.5, 1, 2, 3])}, "expected steps that rise"),
        ({"steps": np.array([-1, 1, 2, 3])}, "expected steps that rise"),
        ({"steps": np.arange(4), "epochs": np.arange(4)}, "expected one array of steps, found steps, epochs"),
        ({"l2": np.ones((5, 3, 2), bool)}, "expected layers with time as their first axis, as long in each"),
        ({"l2": np.ones((3, 2), bool)}, "expected layers with time as their first axis, as long in each"),
    ],
)
def test_what_does_not_fit_over_time_is_refused(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Steps that do not rise, two arrays of them, layers of other lengths or of none."""
    with pytest.raises(InvalidInputError, match=said):
        list(ts.read(stacked(tmp_path / "masks.npz", **more), over_time=True))


def test_one_of_several_snapshots_is_chosen_by_its_step(tmp_path: Path) -> None:
    """As in a directory; a step that is not there is answered with those that are."""
    path = stacked(tmp_path / "masks.npz", steps=np.array([0, 100, 250, 900]))
    chosen = [read_one(PathRef(path, step), over_time=True).step for step in (100, "first", "last")]
    assert chosen == [100, 0, 900]
    with pytest.raises(InvalidInputError, match="expected step 7, found steps 0, 100, 250, 900"):
        read_one(PathRef(path, 7), over_time=True)


def test_masks_over_time_stand_beside_weights(tmp_path: Path) -> None:
    """Masks win as ever; the weights of the end are left out."""
    path = tmp_path / "run.npz"
    content: dict[str, Any] = {"fc1.mask": FIRST, "fc2.mask": SECOND, "fc1": np.ones((6, 5)), "fc2": np.ones((5, 3))}
    np.savez(path, **content)
    assert [cells(frame.topology) for frame in ts.read(path, over_time=True)] == expected(FIRST, SECOND)


def test_a_stack_with_a_wiring(tmp_path: Path) -> None:
    """A wiring says the layers of each moment."""
    wiring = ts.Topology.from_masks([FIRST[0], SECOND[0]]).wiring
    frames = list(ts.read(stacked(tmp_path / "masks.npz"), over_time=True, wiring=wiring))
    assert [cells(frame.topology) for frame in frames] == expected(FIRST, SECOND)


def test_one_array_over_time(tmp_path: Path) -> None:
    """A lone array of three axes is asked about too; stacked kernels have five."""
    np.save(tmp_path / "mask.npy", FIRST)
    with pytest.raises(InvalidInputError, match="found two") as caught:
        list(ts.read(tmp_path / "mask.npy"))
    assert "if the first axis of each array is time, say --over-time" in (caught.value.hint or "")
    frames = list(ts.read(tmp_path / "mask.npy", over_time=True, bias="none"))
    assert [cells(frame.topology) for frame in frames] == expected(FIRST)
    kernels = RNG.random((4, 3, 3, 6, 5)) < 0.5
    np.savez(tmp_path / "kernels.npz", a=kernels, b=SECOND)
    frames = list(ts.read(tmp_path / "kernels.npz", over_time=True, orientation="in-out"))
    assert [frame.topology.layers[0].taps for frame in frames] == [9] * 4


@pytest.mark.parametrize("names", [("conv1.weight", "conv2.weight"), ("Conv_0/kernel", "Conv_1/kernel")])
def test_parameters_of_a_library_are_convolutions(names: tuple[str, str], tmp_path: Path) -> None:
    """Names that torch, Keras and Flax give say that it is a parameter: nothing is asked."""
    first, second = RNG.random((4, 4, 4)) < 0.5, RNG.random((4, 4, 4)) < 0.5
    content: dict[str, Any] = dict(zip(names, (first, second), strict=True))
    np.savez(tmp_path / "net.npz", **content)
    (frame,) = ts.read(tmp_path / "net.npz")
    assert [layer.taps for layer in frame.topology] == [4, 4]


def records(path: Path, content: Any) -> Path:
    np.save(path, content, allow_pickle=True)
    return path


def test_rigls_records_say_their_steps(tmp_path: Path) -> None:
    """A dictionary of iteration -> list of masks is no question."""
    content = {100 * k: [FIRST[k], SECOND[k]] for k in range(4)}
    path = records(tmp_path / "mask_records.npy", content)
    for over_time in (False, True):
        frames = list(ts.read(path, over_time=over_time))
        assert [frame.step for frame in frames] == [0, 100, 200, 300]
        assert [cells(frame.topology) for frame in frames] == expected(FIRST, SECOND)


def test_named_records_are_snapshots_where_that_is_said(tmp_path: Path) -> None:
    """A list of dictionaries, and names around it: the first number is the step."""
    content = {"history": [{"fc1": FIRST[k], "fc2": SECOND[k]} for k in range(4)]}
    path = records(tmp_path / "history.npy", content)
    frames = list(ts.read(path, over_time=True))
    assert [frame.step for frame in frames] == [0, 1, 2, 3]
    assert [layer.name for layer in frames[0].topology] == ["fc1", "fc2"]
    assert [cells(frame.topology) for frame in frames] == expected(FIRST, SECOND)


def test_a_sparse_stack_is_cut_by_its_first_axis(tmp_path: Path) -> None:
    """Entries of several axes, as torch's sparse tensors in a file have them, are those of their moment."""
    from topostrata.ingest.formats.array_file import ArrayFile
    from topostrata.ingest.formats.options import Options
    from topostrata.ingest.formats.stored import Entries, StoredArray
    from topostrata.ingest.over_time import moments

    positions = np.argwhere(FIRST)
    entries = Entries(positions, np.ones(len(positions)))
    array = StoredArray("l0", FIRST.shape, "float64", "coo", "", lambda: entries)
    parts = moments(ArrayFile("here", {"l0": array}, "in-out"), Options(over_time=True))
    for k, part in parts.items():
        cut = part.arrays["l0"].read()
        assert isinstance(cut, Entries)
        assert np.array_equal(cut.positions, np.argwhere(FIRST[k]))
