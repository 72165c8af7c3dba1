"""Masks that are stored eight entries to a byte: compressed-tensors, MaskLLM, and whoever calls packbits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

import topostrata as ts
from topostrata.errors import InvalidInputError
from topostrata.ingest.inspection import inspect

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "compressed-tensors"
RNG = np.random.default_rng(0)
MASKS = {"model.fc1.weight": RNG.random((5, 11)) < 0.4, "model.fc2.weight": RNG.random((3, 5)) < 0.4}


def cells(topology: ts.Topology) -> list[list[int]]:
    return [layer.mask.cells.tolist() for layer in topology]


EXPECTED = cells(ts.Topology.from_masks([mask.T for mask in MASKS.values()]))


def only(path: Path, **options: Any) -> ts.Topology:
    (frame,) = ts.read(path, **options)
    return frame.topology


def bitmask(name: str, mask: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A tensor in the four parts of compressed-tensors 0.9."""
    counts = mask.sum(axis=1)
    return {
        f"{name}.shape": np.array(mask.shape),
        f"{name}.compressed": np.arange(1, mask.sum() + 1, dtype="f4"),
        f"{name}.bitmask": np.packbits(mask, axis=-1, bitorder="little"),
        f"{name}.row_offsets": np.cumsum(counts) - counts,
    }


def fill(shape: tuple[int, int], k: int) -> NDArray[Any]:
    """The weights of the golden files, as tests/torch/golden_bitmasks.py fills them."""
    at = np.arange(shape[0] * shape[1]).reshape(shape)
    return np.where((at * 7 + k) % 3 == 0, at % 5 + 1, 0)


def test_what_compressed_tensors_wrote_is_what_it_was() -> None:
    """Version 0.9.4 itself; 2:4 keeps the two largest of four, stored zeros among them."""
    plain = only(GOLDEN / "bitmask.safetensors")
    assert cells(plain) == cells(ts.Topology.from_masks([fill((5, 11), 0).T != 0, fill((3, 5), 1).T != 0]))
    halves = [fill((4, 16), 0), fill((8, 4), 1)]
    largest = [np.argsort(-matrix.reshape(-1, 4), axis=1, kind="stable")[:, :2] for matrix in halves]
    kept_values = []
    for matrix, chosen in zip(halves, largest, strict=True):
        four = np.zeros((matrix.size // 4, 4), bool)
        np.put_along_axis(four, chosen, values=True, axis=1)
        kept_values.append((matrix != 0) & four.reshape(matrix.shape))
    path = GOLDEN / "sparse-24-bitmask.safetensors"
    assert cells(only(path)) == cells(ts.Topology.from_masks([matrix.T for matrix in kept_values]))
    assert [layer.density for layer in only(path, zeros="present")] == [0.5, 0.5]
    assert [one.name for one in inspect(path).arrays] == ["fc1.weight", "fc2.weight"]


def parts() -> dict[str, NDArray[Any]]:
    return {key: part for name, mask in MASKS.items() for key, part in bitmask(name, mask).items()}


@pytest.mark.parametrize("offsets", [True, False])
def test_a_bitmask_is_the_tensor_that_it_was(offsets: bool, tmp_path: Path) -> None:
    """Its four parts (2:4 files have no row_offsets) are one array, whose values stand where bits are set."""
    content = {name: part for name, part in parts().items() if offsets or not name.endswith("row_offsets")}
    save_file(content, tmp_path / "model.safetensors")
    assert cells(only(tmp_path / "model.safetensors")) == EXPECTED
    arrays = {one.name: one for one in inspect(tmp_path / "model.safetensors").arrays}
    assert set(arrays) == set(MASKS)
    assert arrays["model.fc1.weight"].layout == "bitmask"
    assert arrays["model.fc1.weight"].density == MASKS["model.fc1.weight"].mean()


def test_a_stored_zero_is_no_connection_unless_it_is_said(tmp_path: Path) -> None:
    """2:4 keeps two of four, zeros too: the one rule of sparse floats holds."""
    content = parts()
    content["model.fc1.weight.compressed"][0] = 0
    save_file(content, tmp_path / "model.safetensors")
    assert cells(only(tmp_path / "model.safetensors", zeros="present")) == EXPECTED
    assert only(tmp_path / "model.safetensors").nnz == sum(map(len, EXPECTED)) - 1
    assert inspect(tmp_path / "model.safetensors").arrays[0].stored_zeros == 1


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("shape", np.array([5, 99]), "expected a bitmask of a byte for 8 entries"),
        ("shape", np.array([-5, -11]), "expected a shape"),
        ("shape", np.array([2**40, 2**40]), "expected a"),
        ("shape", np.array([5.0, 11.0]), "expected a shape of 1 to 8 whole numbers"),
        ("compressed", np.ones(3, "f4"), "expected as many values as bits"),
        ("compressed", np.ones(60, "f4"), "expected at most 55 values"),
        ("row_offsets", np.zeros(5, "i8"), "expected row_offsets that count the bits"),
        ("bitmask", np.full((5, 2), 255, "u1"), "expected zeros after the last entry"),
    ],
)
def test_parts_that_disagree_are_refused(part: str, value: NDArray[Any], said: str, tmp_path: Path) -> None:
    """Shape, bits, values and offsets say the same, or nothing is read."""
    content = parts()
    content[f"model.fc1.weight.{part}"] = value
    save_file(content, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInputError, match=said):
        list(ts.read(tmp_path / "model.safetensors"))


def maskllm(path: Path) -> Path:
    """``mask_compressed.npz``: the names of parameters with ``.mask``, packed flat, without shapes."""
    packed: dict[str, Any] = {f"{name}.mask": np.packbits(mask) for name, mask in MASKS.items()}
    np.savez_compressed(path, **packed)
    return path


def wiring(orientation: Any) -> ts.Wiring:
    first, hidden, last = (
        ts.Space("input", 11, labelled=True),
        ts.Space("hidden", 5),
        ts.Space("output", 3, labelled=True),
    )
    return ts.Wiring((
        ts.LayerShape("fc1", first, hidden, part=ts.Part("model.fc1.weight.mask", orientation=orientation)),
        ts.LayerShape("fc2", hidden, last, part=ts.Part("model.fc2.weight.mask", orientation=orientation)),
    ))  # fmt: skip


def test_masks_without_a_shape_are_refused_by_name(tmp_path: Path) -> None:
    """The error says what they are and the two ways out; inspect shows it as the question."""
    path = maskllm(tmp_path / "mask_compressed.npz")
    with pytest.raises(
        InvalidInputError, match=r"expected masks with a shape, found 'model\.fc1\.weight\.mask', "
    ) as caught:
        only(path)
    assert "packed, eight entries to a byte" in caught.value.message
    assert "--wiring net.toml" in (caught.value.hint or "")
    assert "np.unpackbits" in (caught.value.hint or "")
    assert "packed, eight entries to a byte" in (inspect(path).question or "")


def test_a_wiring_states_the_shape(tmp_path: Path) -> None:
    """With the order of axes in the wiring or said; without either nothing is guessed."""
    path = maskllm(tmp_path / "mask_compressed.npz")
    assert cells(only(path, wiring=wiring("out-in"))) == EXPECTED
    assert cells(only(path, wiring=wiring(None), orientation="out-in")) == EXPECTED
    assert inspect(path, wiring=wiring("out-in")).question is None
    with pytest.raises(InvalidInputError, match="expected to know the order of axes of a packed mask"):
        only(path, wiring=wiring(None))
    other: dict[str, Any] = {f"{name}.mask": np.zeros(3, np.uint8) for name in MASKS}
    np.savez(tmp_path / "other.npz", **other)
    with pytest.raises(InvalidInputError, match="expected 7 bytes, eight entries of 5 x 11 in each, found 3"):
        only(tmp_path / "other.npz", wiring=wiring("out-in"))


def test_a_packed_mask_takes_the_shape_of_its_weights(tmp_path: Path) -> None:
    """Where the file holds both, and the sizes agree."""
    content: dict[str, Any] = {}
    for name, mask in MASKS.items():
        content[name] = np.ones(mask.shape, "f4")
        content[name.replace("weight", "weight_mask")] = np.packbits(mask)
        content[name.replace("weight", "bias_mask")] = np.full(len(mask), 1, "u1")
    save_file(content, tmp_path / "net.safetensors")
    assert cells(only(tmp_path / "net.safetensors")) == EXPECTED
    content["model.fc1.weight_mask"] = content["model.fc1.weight_mask"][:-1]
    save_file(content, tmp_path / "net.safetensors")
    with pytest.raises(InvalidInputError, match=r"expected masks with a shape, found 'model\.fc1\.weight_mask' packed"):
        only(tmp_path / "net.safetensors")


def test_bits_after_the_end_are_refused(tmp_path: Path) -> None:
    """A mask packed lowest bit first would be read as another mask; its padding tells."""
    content = {
        "fc1.weight": np.ones((5, 11), "f4"),
        "fc1.weight_mask": np.packbits(np.ones((5, 11), bool), bitorder="little"),
    }
    save_file(content, tmp_path / "net.safetensors")
    with pytest.raises(InvalidInputError, match="expected zeros after the last entry of a packed mask"):
        only(tmp_path / "net.safetensors")
