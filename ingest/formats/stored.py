"""Arrays as files hold them: shape and dtype known, the numbers read when somebody wants them.

Every format that holds named arrays gives a ``StoredArray`` per array. Dense arrays come as NumPy arrays, sparse ones
as ``Entries``, because the dense form of a sparse array can be larger than any memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError

_MAX_AXES = 32
_MAX_SIZE = 2**62


@dataclass(frozen=True, slots=True)
class Entries:
    """The stored entries of a sparse array: a position comes once, in row-major order.

    Stored zeros are among them, but not in the layouts of blocks and diagonals (BSR, BSC, DIA), which zeros fill up.
    ``positions`` has a row per entry and a column per axis (int64); ``values`` has one number per entry.
    """

    positions: NDArray[np.int64]
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of a file. ``place`` says where its numbers lie; ``read`` fetches them, and checks them first.

    ``layout`` is ``dense`` or one of ``coo``, ``csr``, ``csc``, ``bsr``, ``bsc`` and ``dia``. ``dtype`` is the name
    its writer uses (``float32``, ``bfloat16``, ``float8_e4m3fn``, ``qint8``). What NumPy has no dtype for arrives as
    float32 of the same value; a quantised array arrives with its scale applied. ``pattern``: the array is a sparse
    parameter of torch, whose stored zeros are connections.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    place: str
    read: Callable[[], NDArray[Any] | Entries] = field(repr=False, compare=False)
    pattern: bool = False

    @property
    def size(self) -> int:
        """Entries of the dense form, as an integer that cannot overflow."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in a file that is no array, or an array that is not read: its name, what it is, and why."""

    name: str
    what: str
    why: str


def check_shape(shape: Sequence[int], itemsize: int, *, where: str) -> None:
    """Refuse a shape that NumPy cannot hold, empty or not."""
    if len(shape) > _MAX_AXES:
        raise InvalidInputError(f"{where}: expected at most {_MAX_AXES} axes, found {len(shape)}")
    if math.prod(length for length in shape if length) * itemsize > _MAX_SIZE:
        raise InvalidInputError(f"{where}: expected a shape under 2**62 bytes, found {tuple(shape)}")


def native(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order."""
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def summed(positions: NDArray[np.int64], values: NDArray[Any], shape: Sequence[int], *, where: str) -> Entries:
    """Entries in row-major order; a position stored several times has the sum of its values, as every library does."""
    for axis, length in enumerate(shape):
        column = positions[:, axis]
        outside = np.flatnonzero((column < 0) | (column >= length))
        if outside.size:
            raise InvalidInputError(
                f"{where}: entry {outside[0]}: expected a position in [0, {length}) on axis {axis}, "
                f"found {column[outside[0]]}"
            )
    check_shape(shape, 1, where=where)
    keys = np.zeros(len(positions), np.int64)
    for axis, length in enumerate(shape):
        keys *= length
        keys += positions[:, axis]
    if np.all(keys[1:] > keys[:-1]):
        return Entries(positions, values)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return Entries(positions[order[starts]], np.add.reduceat(values[order], starts, dtype=values.dtype))


def compressed_positions(
    pointers: NDArray[Any], minor: NDArray[Any], n_major: int, *, where: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Major and minor index per entry of a compressed layout (CSR: row and column), checked."""
    if pointers.ndim != 1 or minor.ndim != 1 or pointers.dtype.kind not in "iu" or minor.dtype.kind not in "iu":
        raise InvalidInputError(f"{where}: expected pointers and indices of one axis and whole numbers, found others")
    if len(pointers) != n_major + 1:
        raise InvalidInputError(f"{where}: expected {n_major + 1:,} pointers, found {len(pointers):,}")
    falls = np.flatnonzero(pointers[1:] < pointers[:-1])
    if pointers[0] != 0 or falls.size or int(pointers[-1]) > len(minor):
        at = 0 if pointers[0] != 0 else int(falls[0]) + 1 if falls.size else len(pointers) - 1
        raise InvalidInputError(
            f"{where}: expected pointers that rise from 0 to at most {len(minor):,}, "
            f"found {pointers[at]} at position {at}"
        )
    offsets = pointers.astype(np.int64)
    lengths = offsets[1:] - offsets[:-1]
    return np.repeat(np.arange(n_major, dtype=np.int64), lengths), minor[: int(pointers[-1])].astype(np.int64)


def diagonals(offsets: NDArray[Any], values: NDArray[Any], shape: tuple[int, int], *, where: str) -> Entries:
    """The entries of a DIA matrix: column ``j`` of the diagonal at offset ``k`` is the entry ``(j - k, j)``.

    Zeros fill diagonals up, so they are left out.
    """
    if len(offsets) != len(values):
        raise InvalidInputError(f"{where}: expected {len(offsets):,} diagonals, found {len(values):,}")
    diagonal, column = np.nonzero(values)
    row = column - offsets.astype(np.int64)[diagonal]
    inside = (row >= 0) & (row < shape[0]) & (column < shape[1])
    positions = np.stack([row, column], axis=1)[inside]
    return summed(positions, values[diagonal, column][inside], shape, where=where)
