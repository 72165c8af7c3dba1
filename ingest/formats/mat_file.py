"""MATLAB's ``.mat`` files of versions 5 to 7.2: matrices of numbers by name, each read when it is wanted.

The layout is "MAT-File Format" (The MathWorks), chapter 1: 128 bytes of header, then an element per variable, packed by
zlib or plain. What is no matrix of numbers (structures, cells, text, functions) is left out by name. Version 7.3 is
HDF5. SciPy's reader is no choice here: SciPy 1.17 dies of a segmentation fault where one byte of a file is wrong.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.checkpoint.tensors import compressed
from topostrata.ingest.formats.limits import DEFAULT, MIB, Limits
from topostrata.ingest.formats.matrix_files import opened
from topostrata.ingest.formats.stored import Entries, LeftOut, StoredArray, check_shape, native

_HEADER, _COMPRESSED, _MATRIX, _SPARSE = 128, 15, 14, 5
_HEAD = 4096
# NumPy's code of an entry by the type of the element that stores it.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {
    6: "float64", 7: "float32", 8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32",
    14: "int64", 15: "uint64", _SPARSE: "float64",
}  # fmt: skip
_OTHERS = {1: "a cell array", 2: "a structure", 3: "an object", 4: "text", 16: "a function", 17: "an object"}
_LOGICAL, _COMPLEX = 0x0200, 0x0800


@dataclass(frozen=True, slots=True)
class _Variable:
    """What the head of a variable says: ``unpacked`` bytes that begin at ``at``, their numbers at ``numbers_at``."""

    name: str
    kind: int
    flags: int
    shape: tuple[int, ...]
    order: str
    at: int
    length: int
    packed: bool
    unpacked: int
    numbers_at: int
    numbers: tuple[int, int]  # type and length of the first element of numbers


class MatFile:
    """The matrices of a file by name, in its order, and what was left out."""

    def __init__(self, source: Path | bytes, *, where: str, limits: Limits = DEFAULT) -> None:
        self.arrays: dict[str, StoredArray] = {}
        left_out: list[LeftOut] = []
        with opened(source, where) as stream:
            for variable in _variables(stream, where, limits):
                if variable.kind in _CLASSES:
                    self.arrays[variable.name] = _stored(variable, source, where, limits)
                else:
                    what = _OTHERS.get(variable.kind, f"a value of class {variable.kind}")
                    left_out.append(LeftOut(variable.name, what, "only matrices of numbers are read"))
        self.left_out = tuple(left_out)


def _variables(stream: BinaryIO, where: str, limits: Limits) -> list[_Variable]:
    size = stream.seek(0, 2)
    stream.seek(0)
    header = stream.read(_HEADER)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    version = header[124:126] if order == ">" else header[125:123:-1]
    if order is None or version != b"\x01\x00":
        newer = order is not None and version == b"\x02\x00"
        raise InvalidInputError(
            f"{where}: expected a MATLAB file of version 5 to 7.2, "
            f"found {'one of version 7.3, which is HDF5' if newer else 'another file'}",
            hint="save it again: save('FILE', '-v7'), or scipy.io.savemat",
        )
    variables: dict[str, _Variable] = {}
    at, total = _HEADER, 0
    while at < size:
        limits.check(where, members=len(variables) + 1)
        variable, end = _variable(stream, at, size, order, where)
        total += variable.unpacked
        limits.check(where, total_bytes=total)
        if variable.name in variables:
            raise InvalidInputError(f"{where}: expected every variable once, found {variable.name!r} twice")
        variables[variable.name] = variable
        at = end
    return list(variables.values())


def _variable(stream: BinaryIO, at: int, size: int, order: str, where: str) -> tuple[_Variable, int]:
    stream.seek(at)
    kind, length = struct.unpack(f"{order}2I", stream.read(8))
    begin, packed = at + 8, kind == _COMPRESSED
    if begin + length > size or kind not in {_COMPRESSED, _MATRIX}:
        raise InvalidInputError(
            f"{where}: byte {at:,}: expected a variable of at most {size - begin:,} bytes, found type {kind} "
            f"of {length:,}",
            hint="is the file cut off or damaged?",
        )
    head, unpacked = stream.read(min(length, 2 * _HEAD)), length
    if packed:
        head = zlib.decompressobj().decompress(head, _HEAD)
        kind, unpacked = struct.unpack_from(f"{order}2I", head)
        if kind != _MATRIX or unpacked > 1100 * length + MIB:
            raise InvalidInputError(f"{where}: byte {at:,}: expected a packed matrix, found type {kind}")
        head = head[8:]
    _, _, flags, _, _, n_bytes = struct.unpack_from(f"{order}6I", head)
    if not 8 <= n_bytes <= 4 * 32 or n_bytes % 4:
        raise InvalidInputError(f"{where}: byte {at:,}: expected 2 to 32 axes, found {n_bytes} bytes of them")
    shape = struct.unpack_from(f"{order}{n_bytes // 4}i", head, 24)
    (_, name_at, name_length), numbers_at = _element(head, 24 + n_bytes + n_bytes % 8, order)
    name = head[name_at : name_at + name_length].decode("latin-1")
    if len(name) > 200 or not (name.isprintable() and min(shape) >= 0):
        raise InvalidInputError(f"{where}: byte {at:,}: expected a printable name and a shape, found {name[:80]!a}")
    numbers = (0, 0)
    if flags & 0xFF in _CLASSES:
        (numbers_type, _, numbers_length), _ = _element(head, numbers_at, order)
        numbers = (numbers_type, numbers_length)
    variable = _Variable(name, flags & 0xFF, flags, shape, order, begin, length, packed, unpacked, numbers_at, numbers)
    return variable, begin + length


def _element(data: bytes, at: int, order: str) -> tuple[tuple[int, int, int], int]:
    """Type, begin and length of an element, and where the next begins; short ones lie in their own tag."""
    kind, length = struct.unpack_from(f"{order}2I", data, at)
    if kind >> 16:
        return (kind & 0xFFFF, at + 4, kind >> 16), at + 8
    return (kind, at + 8, length), at + 8 + length + -length % 8


def _stored(variable: _Variable, source: Path | bytes, where: str, limits: Limits) -> StoredArray:
    at = f"{where}: variable {variable.name!r}"
    dtype = "bool" if variable.flags & _LOGICAL else _CLASSES[variable.kind]
    if variable.flags & _COMPLEX and dtype != "bool":
        dtype = "complex64" if dtype == "float32" else "complex128"
    kind, length = variable.numbers
    check_shape(variable.shape, 16, where=at)
    if variable.kind == _SPARSE:
        if len(variable.shape) != 2 or 4 * (variable.shape[1] + 1) > variable.unpacked:
            raise InvalidInputError(f"{at}: expected a sparse matrix with a pointer per column, found {variable.shape}")
        limits.check_entries(at, length // 4)
    else:
        count = math.prod(variable.shape)
        width = np.dtype(_TYPES[kind]).itemsize if kind in _TYPES else 0
        if count * width != length or length > variable.unpacked or (count and not width):
            raise InvalidInputError(f"{at}: expected bytes for shape {variable.shape}, found {length:,} of type {kind}")
        limits.check(at, total_bytes=count * np.dtype(dtype).itemsize)
    read = partial(_read, source, variable, dtype, at)
    layout = "csc" if variable.kind == _SPARSE else "dense"
    return StoredArray(variable.name, variable.shape, dtype, layout, f"byte {variable.at:,}", read)


def _read(source: Path | bytes, variable: _Variable, dtype: str, where: str) -> NDArray[Any] | Entries:
    with opened(source, where) as stream:
        stream.seek(variable.at)
        data = stream.read(variable.length)
        if variable.packed:
            data = _unpacked(data, variable.unpacked + 8, where)[8:]
        n_parts = (3 if variable.kind == _SPARSE else 1) + bool(variable.flags & _COMPLEX)
        parts, at = [], variable.numbers_at
        for _ in range(n_parts):
            (kind, begin, length), at = _element(data, at, variable.order)
            if begin + length > len(data) or kind not in _TYPES:
                raise InvalidInputError(f"{where}: expected numbers, found {length:,} bytes of type {kind}")
            code = np.dtype(variable.order + _TYPES[kind])
            parts.append(native(np.frombuffer(data, code, length // code.itemsize, begin)))
        values = parts[-2] + 1j * parts[-1] if variable.flags & _COMPLEX else parts[-1]
        values = values.astype(dtype)  # MATLAB stores doubles as bytes where they fit
        if variable.kind != _SPARSE:
            return values.reshape(variable.shape, order="F")
        rows, columns = variable.shape
        return compressed("csc", parts[1][: columns + 1], parts[0], values, (rows, columns), where=where)


def _unpacked(data: bytes, size: int, where: str) -> bytes:
    """Exactly the claimed bytes, whose checksum holds."""
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, size)
    beyond = unpacker.decompress(unpacker.unconsumed_tail, 1)
    if len(unpacked) != size or beyond or not unpacker.eof:
        raise InvalidInputError(f"{where}: expected {size:,} bytes unpacked, found others")
    return unpacked
