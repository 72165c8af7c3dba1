"""Reading ``.safetensors`` files within limits: the header is checked as a whole before a tensor is touched.

The format is 8 bytes of header length, a JSON header (name -> dtype, shape, offsets), then the tensors' bytes end to
end. It has no checksum: Topostrata's own files carry the digest of their topology in the metadata.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.limits import DEFAULT, MIB, Limits
from topostrata.ingest.formats.opened_file import OpenedFile, Source
from topostrata.ingest.formats.small_floats import from_bfloat16, from_float8
from topostrata.ingest.formats.stored import StoredArray, check_shape

_MAX_HEADER = 16 * MIB
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_MAX_NAME = 200
_DTYPES = {
    "BOOL": "?",
    "U8": "<u1",
    "I8": "<i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "F8_E8M0": "u1",
    "F8_E4M3FNUZ": "u1",
    "F8_E5M2FNUZ": "u1",
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
}
_FLOAT8 = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """What the header says about one tensor; ``begin`` and ``end`` count from the first byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafeTensors(OpenedFile):
    """An open file whose header has been checked; tensors are read one at a time, when asked for."""

    def __init__(self, source: Source, *, where: str, limits: Limits = DEFAULT) -> None:
        self.where = where
        try:
            self._stream = self._open_source(source)
            size = self._stream.seek(0, 2)
            self._stream.seek(0)
            limits.check(where, total_bytes=size)
            self._start, header = _read_header(self._stream, size, where)
            self.metadata = _metadata(header.pop("__metadata__", {}), where)
            limits.check(where, members=len(header))
            self.tensors = {name: _tensor(name, claim, where) for name, claim in header.items()}
            _check_layout(self.tensors, size - self._start, where)
        except OSError as error:
            self.close()
            raise InvalidInputError(f"{where}: expected a readable file, found: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def array(self, name: str) -> NDArray[Any]:
        """One tensor; BF16 and F8, which NumPy does not know, come as float32 of the same value."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise InvalidInputError(f"{self.where}: expected a tensor {name!r}, found {_some(list(self.tensors))}")
        if tensor.dtype not in _DTYPES:
            raise InvalidInputError(
                f"{self.where}: tensor {name!r}: expected dtype {', '.join(_DTYPES)}, found {tensor.dtype}",
                hint="save it as F32 or BOOL",
            )
        self._stream.seek(self._start + tensor.begin)
        data = self._stream.read(tensor.end - tensor.begin)
        if len(data) != tensor.end - tensor.begin:
            raise InvalidInputError(
                f"{self.where}: tensor {name!r}: expected {tensor.end - tensor.begin:,} bytes, found {len(data):,}"
            )
        if tensor.dtype == "BOOL" and data.translate(None, b"\0\1"):
            raise InvalidInputError(f"{self.where}: tensor {name!r}: expected bytes 0 and 1 for BOOL, found others")
        check_shape(tensor.shape, np.dtype(_DTYPES[tensor.dtype]).itemsize, where=f"{self.where}: tensor {name!r}")
        array = np.frombuffer(data, dtype=_DTYPES[tensor.dtype])
        if tensor.dtype == "BF16":
            array = from_bfloat16(array)
        elif tensor.dtype in _FLOAT8:
            array = from_float8(array, _FLOAT8[tensor.dtype])
        return array.reshape(tensor.shape)

    @property
    def arrays(self) -> dict[str, StoredArray]:
        """Every tensor by name, in the header's order, to be read later."""
        return {name: self._stored(name, tensor) for name, tensor in self.tensors.items()}

    def _stored(self, name: str, tensor: Tensor) -> StoredArray:
        if tensor.dtype == "BF16":
            dtype = "bfloat16"
        elif tensor.dtype in _FLOAT8:
            dtype = _FLOAT8[tensor.dtype]
        else:
            dtype = np.dtype(_DTYPES[tensor.dtype]).name if tensor.dtype in _DTYPES else tensor.dtype
        place = f"byte {self._start + tensor.begin:,}"
        return StoredArray(name, tensor.shape, dtype, "dense", place, partial(self.array, name))


def _read_header(stream: BinaryIO, size: int, where: str) -> tuple[int, dict[str, Any]]:
    head = stream.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or not 2 <= length <= size - 8:
        raise InvalidInputError(
            f"{where}: expected a safetensors file, found a header of {length:,} bytes in a file of {size:,}",
            hint="is the file cut off?",
        )
    if length > _MAX_HEADER:
        raise LimitError(f"{where}: expected a header of at most {_MAX_HEADER:,} bytes, found {length:,}")
    header = parse_json(stream.read(length), where=f"{where}: header")
    if not isinstance(header, dict):
        raise InvalidInputError(f"{where}: header: expected a JSON object, found {type(header).__name__}")
    return 8 + length, header


def parse_json(text: str | bytes, *, where: str) -> Any:
    """JSON without its traps: no NaN, no name twice in an object, no nesting that breaks it, no half character."""
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
        if _SURROGATE.search(text if isinstance(text, str) else text.decode("latin-1")):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{where}: expected text, found half of a character (a lone surrogate)") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where}: expected JSON, found: {error}") from error
    return value


def _no_constant(constant: str) -> float:
    raise ValueError(f"{constant}, which is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name twice in one object")
    return unique


def _metadata(metadata: Any, where: str) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidInputError(f"{where}: __metadata__: expected an object of texts, found {str(metadata)[:80]}")
    return metadata


def _tensor(name: str, claim: Any, where: str) -> Tensor:
    at = f"{where}: tensor {name[:_MAX_NAME]!r}"
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise InvalidInputError(f"{at}: expected a printable name of 1 to {_MAX_NAME} characters")
    if not isinstance(claim, dict) or claim.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidInputError(f"{at}: expected dtype, shape and data_offsets, found {str(claim)[:80]}")
    dtype, shape, offsets = claim["dtype"], claim["shape"], claim["data_offsets"]
    if not isinstance(dtype, str) or not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise InvalidInputError(f"{at}: expected a dtype, a shape and two offsets, found {str(claim)[:80]}")
    begin, end = offsets
    if dtype in _DTYPES:
        expected = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        if end - begin != expected:
            raise InvalidInputError(
                f"{at}: expected {expected:,} bytes for {dtype} of shape {shape}, found {end - begin:,}"
            )
    return Tensor(dtype, tuple(shape), begin, end)


def _naturals(numbers: Any) -> bool:
    return (
        isinstance(numbers, list)
        and len(numbers) <= 32
        and all(type(number) is int and 0 <= number < 2**62 for number in numbers)
    )


def _check_layout(tensors: dict[str, Tensor], size: int, where: str) -> None:
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != at or tensor.end < at:
            raise InvalidInputError(
                f"{where}: tensor {name!r}: expected it to begin at byte {at:,}, found {tensor.begin:,}"
            )
        at = tensor.end
    if at != size:
        raise InvalidInputError(
            f"{where}: expected {at:,} bytes of tensors, found {size:,}",
            hint="is the file cut off?" if at > size else None,
        )


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"
