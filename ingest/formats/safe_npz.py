"""Reading ``.npz`` archives from strangers: what an archive claims is checked before a byte is unpacked.

``numpy.load`` trusts names, sizes and headers; a server cannot. Here an archive is a list of claims (names, sizes,
dtypes, shapes) which must agree with each other and with ``Limits``; then exactly the claimed bytes are read, and their
CRC must hold. Pickle is never involved: object arrays are refused by their dtype.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError, TopostrataError
from topostrata.ingest.formats.limits import DEFAULT, MIB, Limits
from topostrata.ingest.formats.opened_file import DAMAGED_ZIP, OpenedFile, Source

_MAX_HEADER = 10_000
_MAX_TEXT = 4 * MIB
_MAX_DIRECTORY = 4 * MIB
_MAX_NAME = 200
_END = struct.Struct("<4s4H2LH")
_END_64_LOCATOR = b"PK\x06\x07"
_ENCRYPTED = 0x1 | 0x40

# Only what numpy.save writes for plain arrays reaches NumPy's own parser, which evaluates Python literals.
_ENTRY = (
    r"(?:'descr'\s*:\s*'[<>|=]?[A-Za-z?]\d{0,9}'"
    r"|'fortran_order'\s*:\s*(?:True|False)"
    r"|'shape'\s*:\s*\((?:\s*\d{1,18}\s*,)*(?:\s*\d{1,18})?\s*\))"
)
_HEADER = re.compile(rf"\{{\s*(?:{_ENTRY}\s*(?:,\s*)?){{3}}\}}\s*")


class NoNumbersError(InvalidInputError):
    """An array of objects, of records, or of numbers that are no entries of a matrix: it is never read."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of an ``.npy`` member says about the bytes that follow it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    length: int

    @property
    def size(self) -> int:
        """Entries of the array, as an integer that cannot overflow."""
        return math.prod(self.shape)


class SafeNpz(OpenedFile):
    """An open archive whose claims have been checked; arrays are unpacked one at a time, when asked for.

    ``names`` are the members in the archive's order, without ``.npy``. ``where`` begins every error message.
    """

    def __init__(self, source: Source, *, where: str, limits: Limits = DEFAULT) -> None:
        self.where = where
        self._limits = limits
        with _as_invalid_input(where):
            stream = self._open_source(source)
            try:
                size, count = _check_end(stream, where, limits)
                self._zip = zipfile.ZipFile(stream)
                self._members = _check_members(self._zip.infolist(), count, size, where, limits)
            except BaseException:
                self.close()
                raise

    @property
    def names(self) -> tuple[str, ...]:
        """The members in the archive's order, without ``.npy``."""
        return tuple(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def header(self, name: str) -> Header:
        """Dtype and shape of a member, checked against its size, without unpacking it."""
        with _as_invalid_input(self.where, name), self._open(name) as stream:
            return self._header(name, stream)

    def array(self, name: str, *, kinds: str = "biuf", ndim: int | None = None) -> NDArray[Any]:
        """The array of a member; ``kinds`` are the NumPy dtype kinds that make sense there."""
        with _as_invalid_input(self.where, name), self._open(name) as stream:
            header = self._header(name, stream)
            if header.dtype.kind not in kinds:
                raise InvalidInputError(
                    f"{self.where}: member {name!r}: expected {_kinds(kinds)}, found dtype {header.dtype}"
                )
            if ndim is not None and len(header.shape) != ndim:
                raise InvalidInputError(
                    f"{self.where}: member {name!r}: expected {ndim} dimensions, found shape {header.shape}"
                )
            self._limits.check_memory(f"{self.where}: member {name!r}", 2 * header.size * header.dtype.itemsize)
            data = _read_exactly(stream, header.size * header.dtype.itemsize, name)
        array = np.frombuffer(data, dtype=header.dtype)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")

    def text(self, name: str) -> str:
        """A short text: a raw member, or an array that holds one string (or its UTF-8 bytes)."""
        info = self._member(name)
        if info.file_size > _MAX_TEXT:
            raise LimitError(
                f"{self.where}: member {name!r}: expected at most {_MAX_TEXT:,} bytes of text, found {info.file_size:,}"
            )
        if not info.filename.endswith(".npy"):
            with _as_invalid_input(self.where, name), self._open(name) as stream:
                data = _read_exactly(stream, info.file_size, name)
            return _decode(data, "utf-8", self.where, name)
        array = self.array(name, kinds="SUu")
        if array.dtype.kind == "U" and array.ndim == 0:
            return _decode(array.astype(array.dtype.newbyteorder("<")).tobytes(), "utf-32-le", self.where, name).rstrip(
                "\0"
            )
        if (array.dtype.kind == "S" and array.ndim == 0) or (array.dtype == np.uint8 and array.ndim == 1):
            return _decode(array.tobytes(), "utf-8", self.where, name).rstrip("\0")
        raise InvalidInputError(
            f"{self.where}: member {name!r}: expected one string or its UTF-8 bytes, "
            f"found dtype {array.dtype} of shape {array.shape}"
        )

    def _member(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._members[name]
        except KeyError:
            raise InvalidInputError(
                f"{self.where}: expected a member {name!r}, found {', '.join(self.names[:8]) or 'none'}"
            ) from None

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        with self._zip.open(self._member(name)) as stream:
            yield stream  # type: ignore[misc]  # typeshed: IO[bytes], which it is

    def _header(self, name: str, stream: BinaryIO) -> Header:
        return read_npy_header(stream, self._member(name).file_size, where=f"{self.where}: member {name!r}")


def read_npy_header(stream: BinaryIO, size: int, *, where: str, objects: bool = False) -> Header:
    """The head of an ``.npy`` file of ``size`` bytes, checked against that size.

    ``objects``: whether an array of Python objects is let through (what follows its head is a pickle); then nothing
    can be said about its size.
    """
    head = stream.read(12)
    if len(head) < 12 or head[:6] != b"\x93NUMPY" or head[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise InvalidInputError(f"{where}: expected the head of an .npy array (version 1 or 2), found {head[:8]!r}")
    start, length = (
        (10, int.from_bytes(head[8:10], "little")) if head[6] == 1 else (12, int.from_bytes(head[8:], "little"))
    )
    if not 2 <= length <= _MAX_HEADER:
        raise InvalidInputError(f"{where}: expected a header of 2 to {_MAX_HEADER} bytes, found {length}")
    rest = stream.read(start + length - len(head))
    head += rest
    if len(head) != start + length:
        raise InvalidInputError(f"{where}: expected a header of {length} bytes, found the end of the file")
    if not _HEADER.fullmatch(head[start:].decode("latin-1")):
        raise NoNumbersError(
            f"{where}: expected a plain array of bool, integer or float, found header "
            f"{head[start : start + 120].rstrip()!r}",
            hint="object and structured arrays are never read, they could hold code",
        )
    read = npy.read_array_header_1_0 if head[6] == 1 else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(BytesIO(head[8:]), max_header_size=_MAX_HEADER)
    if dtype.hasobject and objects:
        return Header(dtype, shape, fortran_order, len(head))
    if (
        dtype.hasobject
        or dtype.kind not in "biufSU"
        or dtype.itemsize == 0
        or (dtype.kind == "f" and dtype.itemsize > 8)
    ):
        raise NoNumbersError(
            f"{where}: expected dtype bool, int*, uint*, float16, float32 or float64, found {dtype}",
            hint="object arrays are never read, they could hold code" if dtype.hasobject else None,
        )
    header = Header(dtype, shape, fortran_order, len(head))
    claimed = header.size * dtype.itemsize
    if len(head) + claimed != size:
        raise InvalidInputError(
            f"{where}: expected {len(head) + claimed:,} bytes for {dtype} of shape {shape}, found a member of {size:,}"
        )
    return header


def _check_end(stream: BinaryIO, where: str, limits: Limits) -> tuple[int, int]:
    """The archive's size and number of members; refuse a table of contents too long for ``zipfile`` to load whole."""
    size = stream.seek(0, 2)
    if size == 0:
        raise InvalidInputError(f"{where}: expected an .npz archive, found an empty file")
    tail_at = max(0, size - 65_557)
    stream.seek(tail_at)
    tail = stream.read(65_557)
    at = len(tail) - _END.size if tail[-_END.size :].startswith(b"PK\x05\x06") else tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        stream.seek(0)
        if stream.read(2) != b"PK":
            raise InvalidInputError(f"{where}: expected an .npz archive, found another file")
        raise InvalidInputError(
            f"{where}: expected an .npz archive, found no end of a zip archive", hint="is the file cut off?"
        )
    _, _, _, _, members, directory, _, _ = _END.unpack_from(tail, at)
    if tail[max(0, at - 20) : at].startswith(_END_64_LOCATOR):
        raise LimitError(
            f"{where}: expected an archive under 4 GiB with fewer than 65,535 members, found a zip64 archive"
        )
    limits.check(where, members=members)
    if directory > _MAX_DIRECTORY:
        raise LimitError(
            f"{where}: expected a table of contents of at most {_MAX_DIRECTORY:,} bytes, found {directory:,}"
        )
    stream.seek(0)
    return size, members


def _check_members(
    infos: list[zipfile.ZipInfo], count: int, size: int, where: str, limits: Limits
) -> dict[str, zipfile.ZipInfo]:
    if len(infos) != count:
        # A damaged entry can swallow the one behind it, and zipfile would not notice.
        raise InvalidInputError(f"{where}: expected {count} members, as the archive's end says, found {len(infos)}")
    limits.check(where, total_bytes=sum(info.file_size for info in infos))
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        # orig_filename: ZipFile cuts names at a NUL byte and turns some separators around.
        if not _is_name(info.orig_filename):
            raise InvalidInputError(
                f"{where}: expected printable member names of at most {_MAX_NAME} characters that lead out of no "
                f"directory, found {info.orig_filename[:80]!a}"
            )
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise InvalidInputError(f"{where}: expected every member once, found {name!r} twice")
        if info.flag_bits & _ENCRYPTED:
            raise InvalidInputError(f"{where}: member {name!r}: expected no encryption, found an encrypted member")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidInputError(
                f"{where}: member {name!r}: expected it stored or deflated, "
                f"found compression method {info.compress_type}"
            )
        if info.file_size > MIB:
            limits.check(f"{where}: member {name!r}", ratio=round(info.file_size / max(1, info.compress_size), 1))
        members[name] = info
    _check_overlaps(infos, size, where)
    return members


def _is_name(name: str) -> bool:
    """Whether a member's name can be a name of an array; nothing is ever written under it."""
    steps = name.removesuffix(".npy").split("/")
    return name.isprintable() and 0 < len(name) <= _MAX_NAME and "\\" not in name and not {"", ".", ".."} & set(steps)


def _check_overlaps(infos: list[zipfile.ZipInfo], size: int, where: str) -> None:
    """Members that share bytes unpack to more than any ratio of theirs says."""
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end or info.header_offset + 30 + info.compress_size > size:
            raise InvalidInputError(
                f"{where}: member {info.filename!r}: expected bytes of its own, found others' in its place"
            )
        end = info.header_offset + 30 + info.compress_size


def _read_exactly(stream: BinaryIO, count: int, name: str) -> bytes:
    data = stream.read(count) if count else b""
    if len(data) != count:
        raise InvalidInputError(f"member {name!r}: expected {count:,} more bytes, found {len(data):,}")
    return data


def _decode(data: bytes, encoding: str, where: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{where}: member {name!r}: expected text in {encoding}, found {error.reason}"
        ) from error


def _kinds(kinds: str) -> str:
    words = {"b": "bool", "i": "int", "u": "uint", "f": "float", "S": "bytes", "U": "text"}
    return " or ".join(words[kind] for kind in kinds)


@contextmanager
def _as_invalid_input(where: str, member: str | None = None) -> Iterator[None]:
    """All that ``zipfile`` and ``zlib`` raise about a damaged archive, as one error that names the file."""
    try:
        yield
    except TopostrataError as error:
        if not error.message.startswith(where):
            raise type(error)(f"{where}: {error.message}", hint=error.hint) from error
        raise
    except FileNotFoundError as error:
        raise InvalidInputError(f"{where}: expected a file, found none") from error
    except DAMAGED_ZIP as error:
        raise InvalidInputError(
            f"{where}: {'' if member is None else f'member {member!r}: '}expected an intact .npz archive, found: "
            f"{error or type(error).__name__}"
        ) from error
