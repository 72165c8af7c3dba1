"""Checkpoints of Orbax, laid out here by TensorStore as Orbax lays them out (tests/torch has Orbax itself)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray

import topostrata as ts
from topostrata.errors import InvalidInputError, LimitError, MissingExtraError, TopostrataError
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.inspection import inspect

SHAPES = {"Dense_0": (6, 5), "Dense_1": (5, 5), "Dense_2": (5, 3)}


def kernels(seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {name: (rng.random(shape) < 0.4).astype("f4") for name, shape in SHAPES.items()}


def tree(weights: dict[str, NDArray[Any]]) -> dict[tuple[str, ...], NDArray[Any]]:
    return {("params", name, "kernel"): weight for name, weight in weights.items()}


def leaf(keys: tuple[str, ...], kind: str = "jax.Array") -> dict[str, Any]:
    return {"key_metadata": [{"key": key, "key_type": 2} for key in keys], "value_metadata": {"value_type": kind}}


def saved(
    directory: Path, arrays: dict[tuple[str, ...], NDArray[Any]], *, driver: str = "zarr", packed: bool = True
) -> Path:
    """A directory with the tree and its arrays."""
    directory.mkdir(parents=True)
    for keys, values in arrays.items():
        name = ".".join(keys)
        files = {"driver": "file", "path": f"{directory}/"}
        kvstore = (
            {"driver": "ocdbt", "base": files, "path": f"{name}/"}
            if packed
            else {**files, "path": f"{directory}/{name}/"}
        )
        spec = {"driver": driver, "kvstore": kvstore, "dtype": values.dtype.name}
        store = tensorstore.open(spec, create=True, open=True, shape=values.shape).result()
        store.write(values).result()
    content = {
        "tree_metadata": {str(keys): leaf(keys) for keys in arrays},
        "use_ocdbt": packed,
        "use_zarr3": driver == "zarr3",
    }
    (directory / "_METADATA").write_text(json.dumps(content))
    return directory


def only(path: Path, **options: Any) -> ts.Topology:
    (frame,) = ts.read(path, **options)
    return frame.topology


def masks(topology: ts.Topology) -> list[Any]:
    return [layer.mask.cells.tolist() for layer in topology]


EXPECTED = masks(ts.Topology.from_masks([w != 0 for w in kernels().values()]))


@pytest.mark.parametrize(("driver", "packed"), [("zarr", True), ("zarr", False), ("zarr3", True)])
def test_a_directory_with_a_tree_is_a_network(driver: str, packed: bool, tmp_path: Path) -> None:
    """In OCDBT or in files, in either version of Zarr; the names tell the order, rows are sources."""
    path = saved(tmp_path / "net", tree(kernels()), driver=driver, packed=packed)
    assert masks(only(path)) == EXPECTED
    assert [one.name for one in inspect(path).arrays] == [f"params.{name}.kernel" for name in SHAPES]


def test_steps_of_a_manager_are_a_run(tmp_path: Path) -> None:
    """A step is called by its number alone and holds its tree under a name; what is being written is named."""
    for step in (0, 250, 1000):
        saved(tmp_path / "run" / str(step) / "default", tree(kernels(step)))
    (tmp_path / "run" / "2000.orbax-checkpoint-tmp-17").mkdir()
    frames = list(ts.read(tmp_path / "run"))
    assert [frame.step for frame in frames] == [0, 250, 1000]
    assert masks(frames[0].topology) == EXPECTED
    assert any("2000.orbax-checkpoint-tmp-17" in note for note in frames[0].notes)
    assert masks(only(tmp_path / "run" / "250")) == masks(frames[1].topology)
    assert next(ts.read(tmp_path / "run" / "250")).step == 250


def test_two_trees_in_one_step_are_asked(tmp_path: Path) -> None:
    """Which of them is the network, nobody guesses."""
    for item in ("teacher", "student"):
        saved(tmp_path / "1" / item, tree(kernels()))
    with pytest.raises(InvalidInputError, match="expected one tree of Orbax, found student, teacher"):
        only(tmp_path / "1")
    assert masks(only(tmp_path / "1" / "student")) == EXPECTED


def test_a_relabelled_copy_has_distance_0(tmp_path: Path) -> None:
    """Units in other places are other matrices and the same network."""
    rng = np.random.default_rng(1)
    first, second = rng.permutation(5), rng.permutation(5)
    weights = kernels()
    moved = {
        "Dense_0": weights["Dense_0"][:, first],
        "Dense_1": weights["Dense_1"][first][:, second],
        "Dense_2": weights["Dense_2"][second],
    }
    original, copy = (only(saved(tmp_path / name, tree(w))) for name, w in (("a", weights), ("b", moved)))
    assert original != copy
    assert ts.nnstd(original, copy).nnstd == 0


def test_bfloat16_is_read_by_its_bits(tmp_path: Path) -> None:
    """TensorStore brings the dtype; values arrive as float32."""
    weight = np.array([[1.0, 0.0], [0.0, -2.0]], "f4")
    brain = weight.astype(tensorstore.bfloat16.numpy_dtype)
    path = saved(tmp_path / "net", {("params", "Dense_0", "kernel"): brain})
    (one,) = inspect(path).arrays
    assert (one.dtype, one.density) == ("bfloat16", 0.5)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"shape": [2**30, 2**30], "chunks": [16, 16]}, "bytes unpacked"),
        ({"shape": [4, 4], "chunks": [2**20, 2**20]}, "expected chunks of at most"),
        ({"shape": [4, 4], "chunks": [4, 4], "dtype": "|O"}, "expected"),
        ({"shape": [-4, 4], "chunks": [4, 4]}, "expected"),
    ],
)
def test_what_a_header_claims_is_bounded(claims: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Chunks that are not there cost nothing to claim, and would cost all memory to read."""
    path = saved(tmp_path / "net", tree(kernels()), packed=False)
    header = path / "params.Dense_0.kernel" / ".zarray"
    header.write_text(json.dumps({**json.loads(header.read_text()), **claims}))
    with pytest.raises(TopostrataError, match=said) as caught:
        only(path)
    assert "\n" not in caught.value.message


def test_a_chunk_that_is_lost_is_not_read_as_zeros(tmp_path: Path) -> None:
    """Zarr takes missing chunks for zeros; Orbax writes all, so one that is missing was lost."""
    path = saved(tmp_path / "net", tree(kernels()), packed=False)
    (path / "params.Dense_1.kernel" / "0.0").unlink()
    with pytest.raises(InvalidInputError, match="Dense_1"):
        only(path)


@pytest.mark.parametrize("file", ["manifest.ocdbt", "d", "_METADATA"])
def test_damaged_files_give_one_clear_error(file: str, tmp_path: Path) -> None:
    """Each file of a checkpoint cut off, emptied and overwritten."""
    changes: list[Callable[[bytes], bytes]] = [
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda data: data[:9] + b"\xff" * 9,
    ]
    for k, change in enumerate(changes):
        path = saved(tmp_path / str(k), tree(kernels()))
        victims = [path / file] if (path / file).is_file() else sorted((path / file).iterdir())
        for victim in victims:
            victim.write_bytes(change(victim.read_bytes()))
        with pytest.raises(TopostrataError) as caught:
            only(path)
        assert caught.value.message.startswith(str(path))
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("keys", [("..", "etc"), ("a/b",), ("",), ()])
def test_a_name_cannot_leave_the_directory(keys: tuple[str, ...], tmp_path: Path) -> None:
    """A tree is a claim of the file's: what it names lies in it."""
    path = saved(tmp_path / "net", tree(kernels()), packed=False)
    content = {"tree_metadata": {"x": leaf(keys)}, "use_ocdbt": False}
    (path / "_METADATA").write_text(json.dumps(content))
    with pytest.raises(InvalidInputError, match="expected printable keys"):
        only(path)


def test_limits_hold(tmp_path: Path) -> None:
    """The number of arrays and the bytes of each."""
    path = saved(tmp_path / "net", tree(kernels()))
    for limits in (Limits(total_bytes=50), Limits(members=2)):
        with pytest.raises(LimitError):
            only(path, limits=limits)


def test_without_tensorstore_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install says what to install."""
    path = saved(tmp_path / "net", tree(kernels()))
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(MissingExtraError, match=r"an Orbax checkpoint needs the extra \[orbax\]"):
        only(path)


def test_an_array_that_was_not_copied_is_named(tmp_path: Path) -> None:
    """A checkpoint without the files of an array: which array, and that it was copied in part."""
    directory = saved(tmp_path / "step", tree(kernels()), packed=False)
    (directory / "params.Dense_1.kernel" / ".zarray").unlink()
    with pytest.raises(
        InvalidInputError, match=r"'params\.Dense_1\.kernel': expected all of its files, found"
    ) as caught:
        list(ts.read(directory))
    assert "copied in part? copy it again or write it again" in (caught.value.hint or "")
