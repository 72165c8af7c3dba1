"""Flax's msgpack files (``flax.serialization.to_bytes``, ``flax_model.msgpack``): a tree of arrays. Needs msgpack.

Arrays are msgpack's extension 1 (``[shape, dtype, bytes]``), scalars of NumPy extension 3; what is larger than 1 GiB is
``{"__msgpack_chunked_array__": true, "shape", "chunks"}``. Kernels are ``(sources, targets)`` and ``(height, width,
sources, targets)``. The tree is walked leaf by leaf; an array is forgotten but for its shape until it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.jax_trees import named_file
from topostrata.ingest.formats.limits import MIB, Limits
from topostrata.ingest.formats.matrix_files import one_error
from topostrata.ingest.formats.small_floats import from_stored, stored_as
from topostrata.ingest.formats.stored import LeftOut, StoredArray, check_shape

_MAX_DEPTH = 64
_MAX_NODES = 2**18
_MAX_TEXT = 16 * MIB
_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What an array says of itself; ``data`` is there only while it is read."""

    shape: tuple[int, ...]
    dtype: str
    data: bytes = b""


@contextmanager
def read_flax(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A file of ``to_bytes``."""
    where = str(path)
    try:
        import msgpack  # noqa: F401, PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError(f"{where}: a Flax file", "flax") from error
    with one_error(where):
        stream = path.open("rb")
    with stream:
        with one_error(where):
            size = stream.seek(0, 2)
            limits.check(where, total_bytes=size)
            tree = _Tree(stream, size, where, limits)
            tree.walk()
        yield named_file(where, tree.arrays, tree.left_out, tree.numbers)


class _Tree:
    """The leaves of a file by their keys."""

    def __init__(self, stream: BinaryIO, size: int, where: str, limits: Limits) -> None:
        self.arrays: dict[tuple[str, ...], StoredArray] = {}
        self.numbers: dict[str, int | float] = {}
        self.left_out: list[LeftOut] = []
        self._stream = stream
        self._size = size
        self._where = where
        self._limits = limits
        self._nodes = 0

    def walk(self) -> None:
        """Read all but the numbers of arrays."""
        reader = self._reader(0)
        self._node(reader, ())
        if reader.tell() != self._size:
            raise InvalidInputError(
                f"{self._where}: expected one tree of {self._size:,} bytes, found its end after {reader.tell():,}"
            )

    def _reader(self, at: int, *, whole: bool = False) -> _Reader:
        return _Reader(self._stream, at, self._size, whole=whole)

    def _node(self, reader: _Reader, keys: tuple[str, ...]) -> None:
        self._nodes += 1
        if len(keys) > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise InvalidInputError(
                f"{self._where}: expected a tree of at most {_MAX_NODES:,} parts, nested at most {_MAX_DEPTH} deep, "
                f"found more at byte {reader.tell():,}"
            )
        begin, kind = reader.tell(), reader.kind()
        if kind == "array":
            for k in range(reader.array()):
                self._node(reader, (*keys, str(k)))
        elif kind == "map":
            self._map(reader, keys, begin)
        else:
            self._leaf(reader.value(), keys, [begin], None)

    def _map(self, reader: _Reader, keys: tuple[str, ...], begin: int) -> None:
        count = reader.map()
        names: set[str] = set()
        for k in range(count):
            at = reader.tell()
            key = reader.value()
            if not isinstance(key, str | int):
                raise InvalidInputError(f"{self._where}: byte {at:,}: expected a name, found another key")
            name = str(key)
            if not name.isprintable() or not 0 < len(name) <= 200 or name in names:
                raise InvalidInputError(
                    f"{self._where}: byte {at:,}: expected printable names once, found {name[:80]!a}"
                )
            names.add(name)
            if name == _CHUNKED and k == 0 and count == 3:
                reader.value()
                self._chunked(reader, keys, begin)
                return
            self._node(reader, (*keys, name))

    def _chunked(self, reader: _Reader, keys: tuple[str, ...], begin: int) -> None:
        """An array in pieces: its shape, then the pieces, both as numbered dictionaries."""
        lengths, places, leaves = [], [], []
        keys_of_both = [reader.value()]
        for _ in range(reader.map()):
            reader.value()
            lengths.append(reader.value())
        keys_of_both.append(reader.value())
        for _ in range(reader.map()):
            reader.value()
            places.append(reader.tell())
            leaves.append(reader.value())
        shape = tuple(lengths)
        pieces = [leaf for leaf in leaves if isinstance(leaf, _Leaf)]
        if keys_of_both != ["shape", "chunks"] or not leaves or len(pieces) < len(leaves) or not _naturals(shape):
            raise InvalidInputError(f"{self._where}: byte {begin:,}: expected an array in pieces, found another")
        whole = _Leaf(shape, leaves[0].dtype)
        if sum(math.prod(leaf.shape) for leaf in leaves) != math.prod(shape):
            raise InvalidInputError(f"{self._where}: byte {begin:,}: expected pieces of shape {shape}, found others")
        self._leaf(whole, keys, places, shape)

    def _leaf(self, value: Any, keys: tuple[str, ...], places: list[int], shape: tuple[int, ...] | None) -> None:
        name = ".".join(keys)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.numbers[name] = value
        elif not isinstance(value, _Leaf):
            if isinstance(value, str | bytes):
                self.left_out.append(LeftOut(name, "a text", "only arrays are read"))
        elif (stored := stored_as(value.dtype)) is None:
            self.left_out.append(LeftOut(name, f"an array of {value.dtype[:40]}", "it holds no numbers"))
        else:
            self._limits.check(self._where, members=len(self.arrays) + 1)
            where = f"{self._where}: array {name!r}"
            check_shape(value.shape, stored.itemsize, where=where)
            read = partial(self._read, places, value.shape, value.dtype, where)
            place = f"byte {places[0]:,}"
            self.arrays[keys] = StoredArray(name, shape or value.shape, value.dtype, "dense", place, read)

    def _read(self, places: list[int], shape: tuple[int, ...], dtype: str, where: str) -> NDArray[Any]:
        with one_error(where):
            parts = []
            for at in places:
                leaf = self._reader(at, whole=True).value()
                stored = stored_as(dtype)
                if not isinstance(leaf, _Leaf) or stored is None or leaf.dtype != dtype:
                    raise InvalidInputError(f"{where}: expected an array, found it changed", hint="read it again")
                parts.append(np.frombuffer(leaf.data, stored))
            return from_stored(parts[0] if len(parts) == 1 else np.concatenate(parts), dtype).reshape(shape)


class _Reader:
    """msgpack's own reader, and what kind of part comes next. ``whole``: arrays come with their bytes."""

    def __init__(self, stream: BinaryIO, at: int, size: int, *, whole: bool) -> None:
        import msgpack  # noqa: PLC0415 - behind an extra

        self._stream = stream
        self._begin = at
        self._whole = whole
        self._next = at
        most = max(size, 1)
        self._unpacker = msgpack.Unpacker(
            self, raw=False, strict_map_key=False, ext_hook=self._extension, max_buffer_size=most, max_ext_len=most,
            max_bin_len=min(most, _MAX_TEXT), max_str_len=min(most, _MAX_TEXT), max_array_len=_MAX_NODES,
            max_map_len=_MAX_NODES,
        )  # fmt: skip

    def read(self, size: int) -> bytes:
        """The next bytes, for the library."""
        self._stream.seek(self._next)
        data = self._stream.read(size)
        self._next += len(data)
        return data

    def tell(self) -> int:
        """The byte of the file that is next."""
        return self._begin + int(self._unpacker.tell())

    def kind(self) -> str:
        """``array``, ``map`` or ``value``."""
        self._stream.seek(self.tell())
        first = self._stream.read(1)
        if first and (first in b"\xde\xdf" or 0x80 <= first[0] <= 0x8F):
            return "map"
        return "array" if first and (first in b"\xdc\xdd" or 0x90 <= first[0] <= 0x9F) else "value"

    def map(self) -> int:
        """The number of pairs that follow."""
        return int(self._unpacker.read_map_header())

    def array(self) -> int:
        """The number of parts that follow."""
        return int(self._unpacker.read_array_header())

    def value(self) -> Any:
        """The next part, which holds no others: a map or an array here is refused."""
        if self.kind() != "value":
            raise ValueError("a part that holds others where a value is due")
        return self._unpacker.unpack()

    def _extension(self, code: int, data: bytes) -> Any:
        import msgpack  # noqa: PLC0415 - behind an extra

        if code not in {_ARRAY, _SCALAR}:
            return None
        head = msgpack.Unpacker(None, raw=False, max_buffer_size=len(data) + 1, max_array_len=64)
        head.feed(data)
        if head.read_array_header() != 3:
            raise ValueError("an array that is not shape, dtype and bytes")
        n_axes = head.read_array_header()
        shape = tuple(head.unpack() for _ in range(n_axes))
        dtype = head.unpack()
        dtype = dtype.decode("ascii") if isinstance(dtype, bytes) else dtype
        content = head.unpack()
        stored = stored_as(dtype) if isinstance(dtype, str) else None
        if not _naturals(shape) or not isinstance(dtype, str) or not isinstance(content, bytes):
            raise ValueError("an array that is not shape, dtype and bytes")
        if stored is not None and math.prod(shape) * stored.itemsize != len(content):
            raise ValueError(f"{len(content):,} bytes for {dtype} of shape {shape}")
        if code == _SCALAR and shape == () and stored is not None and stored.kind in "iuf" and not self._whole:
            return from_stored(np.frombuffer(content, stored), dtype)[0].item()
        return _Leaf(shape, dtype, content if self._whole else b"")


def _naturals(shape: tuple[Any, ...]) -> bool:
    return len(shape) <= 32 and all(type(length) is int and 0 <= length < 2**62 for length in shape)
