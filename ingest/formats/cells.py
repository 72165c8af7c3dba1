"""From a stored array to the cells of a mask: which entries are connections, and where they stand.

One rule for every door says what a stored zero is (``topostrata.matrices``, docs/formats.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.array_file import AxisOrder
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.stored import Entries, StoredArray
from topostrata.matrices import default_zeros
from topostrata.words import Zeros

Cells = NDArray[np.int64]

_WIDENED = 4  # what NumPy has no type for is read as float32
_PER_CELL = 16  # bytes: where a connection stands, twice


def dims(shape: tuple[int, ...], axes: AxisOrder) -> tuple[int, int, int]:
    """``n_source, n_target, taps`` of a matrix (2 axes) or kernel (3 or more; in-out kernels have channels last)."""
    taps = 1
    for length in shape[2:] if axes == "out-in" else shape[:-2]:
        taps *= length
    return (shape[1], shape[0], taps) if axes == "out-in" else (shape[-2], shape[-1], taps)


def read_within(
    array: StoredArray, limits: Limits, *, where: str, per_connection: int = _PER_CELL
) -> NDArray[Any] | Entries:
    """The numbers of an array, where they and what is made of them, ``per_connection`` bytes each, fit into memory."""
    if array.layout != "dense":  # its reader knows how many entries it has
        return array.read()
    width = np.dtype(array.dtype).itemsize if array.dtype in np.sctypeDict else _WIDENED
    limits.check_memory(where, array.size * (2 * width + 2))  # as bytes and as an array, and two truth values each
    values = array.read()
    if isinstance(values, np.ndarray):
        limits.check_memory(where, values.nbytes + 2 * values.size + per_connection * int(np.count_nonzero(values)))
    return values


def cells_of(array: StoredArray, axes: AxisOrder, *, zeros: Zeros | None, limits: Limits, where: str) -> Cells:
    """The cells ``target * (n_source * taps) + source * taps + tap`` of an array's connections, in order."""
    values = read_within(array, limits, where=where)
    if isinstance(values, Entries):
        return _sparse_cells(values, array, axes, zeros, where)
    check_values(values.dtype, values, lambda at: [int(i) for i in np.unravel_index(at, values.shape)], where=where)
    occupied = values != 0
    if axes == "in-out":
        occupied = occupied.transpose(occupied.ndim - 1, occupied.ndim - 2, *range(occupied.ndim - 2))
    return np.flatnonzero(occupied).astype(np.int64)


def kept(entries: Entries, array: StoredArray, zeros: Zeros | None) -> NDArray[np.int64]:
    """The positions of the stored entries that are connections."""
    by_value = (zeros or default_zeros(entries.values.dtype, tensor=array.pattern)) == "absent"
    return entries.positions[entries.values != 0] if by_value else entries.positions


def check_values(dtype: np.dtype[Any], values: NDArray[Any], at: Callable[[int], list[int]], *, where: str) -> None:
    """Refuse what is neither a connection nor none: complex, NaN and infinite values."""
    if dtype.kind not in "biuf":
        raise InvalidInputError(f"{where}: expected boolean or real values, found dtype {dtype}")
    if dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            first = int(bad[0])
            raise InvalidInputError(
                f"{where}: expected finite values, found {values.reshape(-1)[first]} at {at(first)}",
                hint="did the training diverge?",
            )


def _sparse_cells(entries: Entries, array: StoredArray, axes: AxisOrder, zeros: Zeros | None, where: str) -> Cells:
    check_values(entries.values.dtype, entries.values, lambda at: entries.positions[at].tolist(), where=where)
    positions = kept(entries, array, zeros)
    n_source, _, taps = dims(array.shape, axes)
    if axes == "out-in":
        targets, sources, kernel = positions[:, 0], positions[:, 1], range(2, len(array.shape))
    else:
        targets, sources, kernel = positions[:, -1], positions[:, -2], range(len(array.shape) - 2)
    tap = np.zeros(len(positions), np.int64)
    for axis in kernel:
        tap = tap * array.shape[axis] + positions[:, axis]
    return np.sort((targets * n_source + sources) * taps + tap)
