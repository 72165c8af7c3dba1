"""HDF5 files: the arrays of numbers in them by path, each checked by what its header says before it is read.

Only bytes of the file itself are taken: links out of it, data in other files, virtual datasets and filters beyond those
of HDF5 itself are left out by name, so that no other file is opened and no plug-in is loaded. Needs h5py.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError, MissingExtraError
from topostrata.ingest.formats.checkpoint.windows import Window
from topostrata.ingest.formats.hdf5_texts import Texts
from topostrata.ingest.formats.limits import MIB, Limits
from topostrata.ingest.formats.matrix_files import one_error
from topostrata.ingest.formats.small_floats import from_stored, stored_as
from topostrata.ingest.formats.stored import LeftOut, StoredArray, check_shape, native

_MAX_DEPTH = 64
_MAGIC = b"\x89HDF\r\n\x1a\n"
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
_BITS = {1: "float8_e4m3fn", 2: "bfloat16"}  # what Keras stores as bytes that have no type, unless it says another


class Bytes(io.RawIOBase):
    """A part of a file as h5py takes it."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position within the part."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position within the part."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._window.size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there are bytes."""
        view = memoryview(buffer).cast("B")
        size = max(0, min(len(view), self._window.size - self._at))
        view[:size] = self._window.read(self._at, size)
        self._at += size
        return size


@dataclass(frozen=True, slots=True)
class Group:
    """One group: its path, and the texts among its attributes."""

    path: str
    texts: dict[str, list[str]]


class Hdf5:
    """The arrays of an open file by path (``layers/dense/vars/0``), its groups, and what was left out."""

    def __init__(self, file: Any, window: Window, *, limits: Limits) -> None:
        self.where = window.where
        self.arrays: dict[str, StoredArray] = {}
        self.groups: dict[str, Group] = {}
        self._size = window.size
        self._texts = Texts(window)
        self._limits = limits
        self._left_out: list[LeftOut] = []
        self._seen = self._unpacked = self._stored = 0
        self._names: dict[int, str] = {}  # of arrays, by address
        self._walk(file, "", 0, set())

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What is no array of numbers of this file."""
        return tuple(self._left_out)

    def text(self, attribute: str, path: str = "") -> str | None:
        """An attribute that is one text, such as a configuration in JSON; None where there is none."""
        texts = self.groups[path].texts.get(attribute, []) if path in self.groups else []
        return texts[0] if len(texts) == 1 else None

    def _walk(self, group: Any, path: str, depth: int, above: set[Any]) -> None:
        import h5py  # noqa: PLC0415 - behind an extra

        address = h5py.h5o.get_info(group.id).addr
        if depth > _MAX_DEPTH or address in above:
            raise InvalidInputError(
                f"{self.where}: {path[:80]!a}: expected groups that end, found them nested in a ring"
            )
        self.groups[path] = Group(path, self._texts.of(address))
        for name in group:
            self._seen += 1
            self._limits.check(self.where, members=self._seen)
            below = f"{path}/{name}" if path else name
            if not name.isprintable() or len(below) > 1000:
                raise InvalidInputError(f"{self.where}: expected printable names, found {name[:80]!a}")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                self._left_out.append(LeftOut(below, "a link", "only what lies in the file itself is read"))
                continue
            member = group[name]
            if isinstance(member, h5py.Group):
                self._walk(member, below, depth + 1, above | {address})
            elif isinstance(member, h5py.Dataset):
                self._add(member, below)
            else:
                self._left_out.append(LeftOut(below, "a type", "it holds no numbers"))

    def _add(self, dataset: Any, path: str) -> None:
        import h5py  # noqa: PLC0415 - behind an extra

        first = self._names.setdefault(h5py.h5o.get_info(dataset.id).addr, path)
        if first != path:
            self._left_out.append(LeftOut(path, "a link", f"it is the array {first!r} under another name"))
            return
        dtype = self._dtype(dataset)
        reason = "it holds no numbers" if dtype is None or dataset.shape is None else _not_plain(dataset)
        if dtype is None or reason is not None:
            self._left_out.append(LeftOut(path, f"an array of {dataset.dtype}"[:80], reason or ""))
            return
        shape, where = tuple(dataset.shape), f"{self.where}: array {path!r}"
        check_shape(shape, dataset.dtype.itemsize, where=where)
        size, stored = math.prod(shape) * dataset.dtype.itemsize, int(dataset.id.get_storage_size())
        self._unpacked += size
        self._stored += stored
        self._limits.check(f"{where} and those before it", total_bytes=self._unpacked)
        chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
        if self._stored > self._size or (dataset.chunks is None and stored != size) or chunk > max(2 * size, MIB):
            raise InvalidInputError(
                f"{where}: expected {size:,} bytes for shape {shape}, found {stored:,} stored"
                + (f" in chunks of {chunk:,}" if chunk else ""),
                hint="is the file cut off, or still being written?",
            )
        if size > self._limits.ratio * max(stored, 1) + MIB:
            raise LimitError(
                f"{where}: expected at most {self._limits.ratio:,.0f} times the stored size, found {size:,} bytes"
            )
        place = f"byte {offset:,}" if (offset := dataset.id.get_offset()) is not None else "in chunks"
        read = partial(self._read, dataset, dtype, where)
        self.arrays[path] = StoredArray(path, shape, dtype, "dense", place, read)

    def _dtype(self, dataset: Any) -> str | None:
        import h5py  # noqa: PLC0415 - behind an extra

        kind, itemsize = dataset.dtype.kind, dataset.dtype.itemsize
        if kind == "V" and dataset.dtype.names is None and dataset.dtype.subdtype is None:
            texts = self._texts.of(h5py.h5o.get_info(dataset.id).addr)
            name = texts.get("dtype", [_BITS.get(itemsize, "")])[0]
            stored = stored_as(name)
            return name if stored is not None and stored.itemsize == itemsize else None
        return str(dataset.dtype.newbyteorder("=").name) if kind in "biufc" else None

    def _read(self, dataset: Any, dtype: str, where: str) -> NDArray[Any]:
        with one_error(where):
            values = dataset[()]
            if values.dtype.kind == "V":
                return from_stored(values.view(stored_as(dtype)), dtype)
            return native(np.asarray(values))


@contextmanager
def hdf5(window: Window, *, limits: Limits) -> Iterator[Hdf5]:
    """An HDF5 file that lies in a part of another, or is one. Raises ``MissingExtraError`` without h5py."""
    try:
        import h5py  # noqa: PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError(f"{window.where}: an HDF5 file", "keras") from error
    limits.check(window.where, total_bytes=window.size)
    try:
        file = h5py.File(Bytes(window), "r")
    except OSError as error:
        whole = window.size >= len(_MAGIC) and window.read(0, len(_MAGIC)) == _MAGIC
        raise InvalidInputError(
            f"{window.where}: expected an HDF5 file, found "
            + (f"a damaged one: {str(error)[:200]}" if whole else f"one of {window.size:,} bytes that is none"),
            hint="is it cut off, or still being written?"
            if whole
            else "model.save_weights('net.weights.h5') writes one",
        ) from error
    with file:
        with one_error(window.where):
            content = Hdf5(file, window, limits=limits)
        yield content


def _not_plain(dataset: Any) -> str | None:
    """Why an array is not read: its numbers lie elsewhere, or behind code that is not HDF5's own."""
    import h5py  # noqa: PLC0415 - behind an extra

    created = dataset.id.get_create_plist()
    if created.get_external_count():
        return "its numbers lie in another file"
    if created.get_layout() == h5py.h5d.VIRTUAL:
        return "it is put together out of other arrays"
    others = [created.get_filter(k)[0] for k in range(created.get_nfilters())]
    others = [number for number in others if number not in _FILTERS]
    return f"it is packed by filter {others[0]}; read are {', '.join(_FILTERS.values())}" if others else None
