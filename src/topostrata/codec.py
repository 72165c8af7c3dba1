"""Masks as bytes: sorted cells, gap-coded, against the previous mask where that is smaller, compressed, checksummed.

The gaps between sorted cells are small and nearly geometric. They are cut into byte planes (all lowest bytes, then all
second bytes, ...), each compressed on its own: the high planes are almost empty, the low plane is almost noise, and
zstd's entropy coder does well on both. A delta holds which of the base's connections died (gaps in the order of the
base's connections) and which cells were born.

Layout (little endian): magic ``SGM1``, kind (0 full, 1 delta), n_source, taps, n_target as u32; for a delta the base's
digest (32 bytes); one stream of gaps (full: cells; delta: died, then born); BLAKE2b-8 of all before it. A stream is its
count as u64, the number of planes as u8, and per plane its length as u32 and a zstd frame.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Literal, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from topostrata.errors import CorruptError, LimitError, TopostrataError
from topostrata.memory import check_memory
from topostrata.topology import Mask

Kind = Literal["full", "delta"]

CODEC = "sgm1-zstd"
_MAGIC = b"SGM1"
_HEAD = struct.Struct("<4sBIII")
_STREAM = struct.Struct("<QB")
_CHECKSUM_BYTES = 8
_MAX_UNITS = 2**32 - 1  # in a space, and taps: the head has 32 bits for each
_MAX_CONNECTIONS = 2**32
_MARKS = 64  # cells per connection up to which marking all cells is faster than sorting, in 8 times the masks' memory
# A zstd block of at most 128 KiB takes at least 4 bytes: a plane that claims to hold more than that is lying.
_MAX_RATIO = 2**17 // 4
_ZSTD_LEVEL = 1  # measured: level 3 saves under 1 % of the bytes of a plane and takes twice the time


class Packed(NamedTuple):
    """A mask as bytes, and whether they stand alone (``full``) or need the base mask (``delta``)."""

    data: bytes
    kind: Kind


def encode(mask: Mask, base: Mask | None = None) -> Packed:
    """The mask in few bytes: whole, or as its difference from ``base`` (of the same shape) if that is smaller."""
    if max(_shape(mask)) > _MAX_UNITS:
        raise LimitError(f"mask: expected at most {_MAX_UNITS} units and taps, found {max(_shape(mask))}")
    if base is None or _shape(base) != _shape(mask):
        return Packed(_encode_full(mask), "full")
    delta = _encode_delta(mask, base)
    # A full mask needs at least half a byte per connection at all densities in use, so a delta below that is smaller.
    if len(delta) * 2 < mask.nnz:
        return Packed(delta, "delta")
    full = _encode_full(mask)
    return Packed(delta, "delta") if len(delta) < len(full) else Packed(full, "full")


def decode(data: bytes, base: Mask | None = None) -> Mask:
    """The mask that was encoded. Damaged bytes or another base raise ``CorruptError``."""
    body, tail = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if len(data) < _HEAD.size + _CHECKSUM_BYTES or tail != _checksum(body):
        raise CorruptError(f"packed mask: its checksum does not match its {len(data)} bytes")
    try:
        return _decode_body(memoryview(body), base)
    except (struct.error, zstandard.ZstdError, ValueError, OverflowError) as error:
        if isinstance(error, CorruptError | LimitError):
            raise
        reason = error.message if isinstance(error, TopostrataError) else type(error).__name__
        raise CorruptError(f"packed mask: its parts do not fit together: {reason}") from error


def changes(old: Mask, new: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(died, born)``: the cells only in ``old`` and only in ``new``, sorted."""
    return (
        old.cells[~in_sorted(old.cells, new.cells)],
        new.cells[~in_sorted(new.cells, old.cells)],
    )


def _shape(mask: Mask) -> tuple[int, int, int]:
    return mask.n_source, mask.taps, mask.n_target


def _encode_full(mask: Mask) -> bytes:
    return _seal(_HEAD.pack(_MAGIC, 0, *_shape(mask)) + _pack_gaps(mask.cells))


def _encode_delta(mask: Mask, base: Mask) -> bytes:
    died = np.flatnonzero(~in_sorted(base.cells, mask.cells))
    born = mask.cells[~in_sorted(mask.cells, base.cells)]
    head = _HEAD.pack(_MAGIC, 1, *_shape(mask)) + bytes.fromhex(base.digest)
    return _seal(head + _pack_gaps(died) + _pack_gaps(born))


def _decode_body(body: memoryview, base: Mask | None) -> Mask:
    magic, kind, n_source, taps, n_target = _HEAD.unpack_from(body)
    if magic != _MAGIC or kind > 1:
        raise CorruptError(f"packed mask: expected {_MAGIC!r} and kind 0 or 1, found {magic!r} and {kind}")
    at = _HEAD.size
    size = n_source * taps * n_target
    if kind == 0:
        cells, at = _unpack_gaps(body, at, size)
    else:
        needed = bytes(body[at : at + 32]).hex()
        if base is None or base.digest != needed:
            other = "none" if base is None else base.digest[:12]
            raise CorruptError(f"packed mask: expected the base {needed[:12]}, found {other}")
        died, at = _unpack_gaps(body, at + 32, base.nnz)
        born, at = _unpack_gaps(body, at, size)
        alive = np.ones(base.nnz, dtype=bool)
        if died.size and not (died[0] >= 0 and died[-1] < base.nnz and bool(np.all(died[1:] > died[:-1]))):
            raise CorruptError(f"packed mask: expected increasing deaths among the {base.nnz} connections of its base")
        alive[died] = False
        cells = merge(base.cells[alive], born)
    if at != len(body):
        raise CorruptError(f"packed mask: expected {at} bytes, found {len(body)}")
    return Mask(n_source, n_target, cells, taps)


def _pack_gaps(positions: NDArray[np.int64]) -> bytes:
    gaps = np.diff(positions, prepend=np.int64(0)).astype("<u8")
    width = (int(gaps.max()).bit_length() + 7) // 8 if gaps.size else 0
    planes = gaps.view(np.uint8).reshape(-1, 8)
    out = [_STREAM.pack(gaps.size, width)]
    packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    for k in range(width):
        frame = packer.compress(np.ascontiguousarray(planes[:, k]).data)
        out += [struct.pack("<I", len(frame)), frame]
    return b"".join(out)


def _unpack_gaps(body: memoryview, at: int, most: int) -> tuple[NDArray[np.int64], int]:
    """Read a stream of at most ``most`` positions. Its claims are checked before memory is reserved for them."""
    count, width = _STREAM.unpack_from(body, at)
    at += _STREAM.size
    if width > 8 or count > min(most, _MAX_CONNECTIONS) or (width == 0 and count > 1):
        raise CorruptError(f"packed mask: a stream of {count} gaps in {width} planes, where {most} are possible")
    frames = []
    for _ in range(width):
        (length,) = struct.unpack_from("<I", body, at)
        at += 4
        frames.append(body[at : at + length])
        _check_plane(frames[-1], count)
        at += length
    check_memory("packed mask", count * (2 * width + 24))
    planes = [_unpack_plane(frame, count) for frame in frames]
    gaps = np.zeros((count, 8), dtype=np.uint8)
    for k, plane in enumerate(planes):
        gaps[:, k] = plane
    return np.cumsum(gaps.reshape(-1).view("<i8"), dtype=np.int64), at


def _check_plane(frame: memoryview, count: int) -> None:
    claimed = zstandard.get_frame_parameters(frame).content_size
    if claimed != count or count > (len(frame) + 1) * _MAX_RATIO:
        raise CorruptError(f"packed mask: expected a plane of {count} bytes, found {len(frame)} that claim {claimed}")


def _unpack_plane(frame: memoryview, count: int) -> NDArray[np.uint8]:
    plane = np.frombuffer(zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False), dtype=np.uint8)
    if plane.size != count:
        raise CorruptError(f"packed mask: expected a plane of {count} bytes, found {plane.size}")
    return plane


def merge(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Two sorted arrays as one: the smaller one is inserted into the larger one, which is faster than sorting both."""
    small, large = (a, b) if a.size < b.size else (b, a)
    return np.insert(large, np.searchsorted(large, small), small)


def in_sorted(values: NDArray[np.int64], table: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the values stand in the table; both sorted, without negative or repeated entries."""
    if not table.size or not values.size:
        return np.zeros(values.size, dtype=bool)
    span = max(int(values[-1]), int(table[-1])) + 1
    if span > _MARKS * (values.size + table.size):
        return np.isin(values, table, assume_unique=True)
    marks = np.zeros(span, dtype=bool)
    marks[table] = True
    return marks[values]


def _seal(body: bytes) -> bytes:
    return body + _checksum(body)


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest()
