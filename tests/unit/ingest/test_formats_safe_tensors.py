"""A safetensors file whose header lies is refused before a tensor is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.safe_tensors import SafeTensors


def packed(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(begin: int = 0, end: int = 8, dtype: str = "F32", shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def read_all(data: bytes, limits: Limits | None = None) -> dict[str, Any]:
    with SafeTensors(data, where="upload", limits=limits or Limits()) as tensors:
        return {name: tensors.array(name) for name in tensors.tensors}


def test_tensors_come_back_as_the_library_saved_them(tmp_path: Path) -> None:
    """Every dtype that NumPy has, an empty tensor and the metadata are read to the same values."""
    rng = np.random.default_rng(1)
    dtypes = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
    arrays = {f"a{k}": (rng.random((3, 4)) * 100).astype(dtype) for k, dtype in enumerate(dtypes)}
    arrays |= {"empty": np.zeros((0, 3))}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors", metadata={"who": "me"})
    with SafeTensors(tmp_path / "a.safetensors", where="a") as tensors:
        assert tensors.metadata == {"who": "me"}
        assert tensors.tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            assert tensors.array(name).dtype == array.dtype
            np.testing.assert_array_equal(tensors.array(name), array)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected a safetensors file"),
        (bytes(7), "expected a safetensors file"),
        (bytes(8), "expected .*, found a header of 0 bytes"),
        (b"\xff" * 20, "expected a safetensors file"),
        (packed(b"{]"), "header: expected JSON"),
        (packed(b"\xff\xff"), "header: expected JSON"),
        (packed(b"[" * 100_000), "header: expected JSON"),
        (packed([]), "header: expected a JSON object, found list"),
        (packed(b'{"a": 1, "a": 2}'), "header: expected JSON, found: a name twice"),
        (packed(b'{"a": NaN}'), "header: expected JSON, found: NaN"),
        (packed({"__metadata__": {"a": 1}}), "__metadata__: expected an object of texts"),
        (packed({"a": 5}), "tensor 'a': expected dtype, shape and data_offsets"),
        (packed({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "tensor 'a': expected dtype, shape and data_offsets"),
        (packed({"a": tensor(shape=[-2])}, bytes(8)), "tensor 'a': expected a dtype, a shape"),
        (packed({"a": tensor(shape=[2.0])}, bytes(8)), "tensor 'a': expected a dtype, a shape"),
        (packed({"a": tensor(shape=[True, 2])}, bytes(8)), "tensor 'a': expected a dtype, a shape"),
        (packed({"a": tensor(shape=[1] * 33)}, bytes(8)), "tensor 'a': expected a dtype, a shape"),
        (packed({"a": tensor(shape=[3])}, bytes(8)), "tensor 'a': expected 12 bytes for F32 of shape .*, found 8"),
        (packed({"a": tensor(shape=[2**40, 2**40])}, bytes(8)), "tensor 'a': expected .* bytes for F32"),
        (packed({"a": tensor(4, 12)}, bytes(12)), "tensor 'a': expected it to begin at byte 0, found 4"),
        (packed({"a": tensor(), "b": tensor(4, 12)}, bytes(12)), "tensor 'b': expected it to begin at byte 8, found 4"),
        (packed({"a": tensor(8, 0, "F6_E2M3")}, bytes(8)), "tensor 'a': expected it to begin at byte 0, found 8"),
        (packed({"a": tensor()}, bytes(7)), "expected 8 bytes of tensors, found 7 .*cut off"),
        (packed({"a": tensor()}, bytes(9)), "expected 8 bytes of tensors, found 9"),
        (packed({"a\n": tensor()}, bytes(8)), r"tensor 'a\\n': expected a printable name"),
        (packed({"a": tensor(0, 2, "BOOL")}, b"\1\2"), "tensor 'a': expected bytes 0 and 1 for BOOL"),
        (packed({"a": tensor(0, 2, "F6_E2M3")}, b"\1\2"), "tensor 'a': expected dtype BOOL, .*, found F6_E2M3"),
    ],
)
def test_a_header_that_lies_is_refused(data: bytes, words: str) -> None:
    """Broken JSON, wrong shapes, gaps, overlaps and missing bytes are errors that name the tensor."""
    with pytest.raises(InvalidInputError, match=f"upload: {words}"):
        read_all(data)


@pytest.mark.parametrize(
    ("limits", "words"), [(Limits(total_bytes=20), "bytes unpacked"), (Limits(members=1), "at most 1 members, found 2")]
)
def test_a_file_beyond_the_limits_is_refused(limits: Limits, words: str) -> None:
    """The bytes and the number of tensors are limited."""
    with pytest.raises(LimitError, match=words):
        read_all(packed({"a": tensor(), "b": tensor(8, 16)}, bytes(16)), limits)


def test_a_header_without_end_is_refused() -> None:
    """The declared size of the header is limited."""
    with pytest.raises(LimitError, match="expected a header of at most"):
        read_all(packed(b" " * 17_000_000))


def test_a_tensor_that_is_not_there_names_those_that_are() -> None:
    """The error lists the tensors of the file."""
    with (
        SafeTensors(packed({"a": tensor()}, bytes(8)), where="upload") as tensors,
        pytest.raises(InvalidInputError, match="upload: expected a tensor 'b', found a"),
    ):
        tensors.array("b")


@pytest.mark.parametrize(
    ("dtype", "name", "bits", "values"),
    [
        ("F8_E4M3", "float8_e4m3fn", [0x00, 0x80, 0x38, 0xC0, 0x01, 0x7E], [0, 0, 1, -2, 2**-9, 448]),
        ("F8_E5M2", "float8_e5m2", [0x00, 0x80, 0x3C, 0xC0, 0x01, 0x7B], [0, 0, 1, -2, 2**-16, 57344]),
        ("F8_E4M3FNUZ", "float8_e4m3fnuz", [0x00, 0x40, 0xC8, 0x01, 0x7F], [0, 1, -2, 2**-10, 240]),
        ("F8_E5M2FNUZ", "float8_e5m2fnuz", [0x00, 0x40, 0xC4, 0x01, 0x7F], [0, 1, -2, 2**-17, 57344]),
        ("F8_E8M0", "float8_e8m0fnu", [0x00, 0x7F, 0x80, 0xFE], [2**-127, 1, 2, 2.0**127]),
    ],
)
def test_float8_comes_as_float32_of_the_same_value(dtype: str, name: str, bits: list[int], values: list[float]) -> None:
    """The corners of each format by its definition: zeros, one, the smallest, the largest."""
    data = packed({"w": tensor(0, len(bits), dtype, [len(bits)])}, bytes(bits))
    with SafeTensors(data, where="upload") as tensors:
        array = tensors.arrays["w"]
        assert (array.shape, array.dtype, array.layout) == ((len(bits),), name, "dense")
        numbers = array.read()
        assert isinstance(numbers, np.ndarray)
        assert numbers.dtype == np.float32
        assert numbers.tolist() == values


def test_arrays_are_listed_with_the_names_of_their_dtypes() -> None:
    """Shape, dtype and place come from the header; what cannot be read says so when it is read."""
    header = {
        "a/b [1]": tensor(0, 8),
        "m": tensor(8, 10, "BOOL"),
        "h": tensor(10, 14, "BF16"),
        "x": tensor(14, 16, "F4"),
    }
    with SafeTensors(packed(header, bytes(16)), where="upload") as tensors:
        assert [(array.name, array.dtype) for array in tensors.arrays.values()] == [
            ("a/b [1]", "float32"),
            ("m", "bool"),
            ("h", "bfloat16"),
            ("x", "F4"),
        ]
        with pytest.raises(InvalidInputError, match=r"tensor 'x': expected dtype BOOL, .*, found F4"):
            tensors.arrays["x"].read()


@pytest.mark.parametrize("shape", [[0, 2**61, 2**61], [1] * 33])
def test_a_shape_that_numpy_cannot_hold_is_refused(shape: list[int]) -> None:
    """Too large though empty, or of too many axes."""
    data = packed({"w": tensor(0, 0 if 0 in shape else 4, "F32", shape)}, b"" if 0 in shape else bytes(4))
    with pytest.raises(InvalidInputError, match=r"^upload: tensor 'w': expected"):
        read_all(data)
