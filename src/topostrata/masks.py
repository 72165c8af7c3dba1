"""Which connections exist between two spaces: a set of numbered cells, without weights.

Orientation, once and for all: a mask's rows are *source* units and its columns *target* units, as in the NNSTD paper
(Liu et al. 2020, section 3). ``torch.nn.Linear.weight`` is the transpose.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from topostrata import format_1, matrices
from topostrata.errors import InvalidTopologyError
from topostrata.matrices import Orientation
from topostrata.words import Zeros

Cells = NDArray[np.int64]

MAX_CELLS = 2**62


@dataclass(frozen=True, eq=False)
class Mask:
    """Which connections exist between two spaces, as the sorted numbers of the occupied cells.

    A target unit's input is ``(source unit, tap)``, its key ``source * taps + tap``; a cell is
    ``target * (n_source * taps) + key``. So sorted cells are the sorted keys of target 0, then of target 1, ...
    ``taps`` is 1 for a linear layer, the number of kernel positions for a convolution. In a layer of g groups a target
    unit can only be reached from its own group, so ``n_source`` counts the sources of one group
    (``LayerShape.units_of`` names the units).

    >>> Mask(n_source=3, n_target=2, cells=np.array([0, 2, 4])).keys_of(0)
    array([0, 2])
    """

    n_source: int
    n_target: int
    cells: Cells
    taps: int = 1

    def __post_init__(self) -> None:
        for name in ("n_source", "n_target", "taps"):
            if getattr(self, name) < 1:
                raise InvalidTopologyError(f"mask: expected {name} >= 1, found {getattr(self, name)}")
        if self.size > MAX_CELLS:
            raise InvalidTopologyError(f"mask: {self.size} possible connections are more than {MAX_CELLS}")
        numbers = np.asarray(self.cells)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise InvalidTopologyError(f"mask: expected whole numbers as cells, found dtype {numbers.dtype}")
        cells = np.array(numbers, dtype=np.int64, ndmin=1)  # a copy: the caller's array may change, ours may not
        if cells.ndim != 1:
            raise InvalidTopologyError(f"mask: expected a flat array of cells, found shape {cells.shape}")
        if cells.size and (cells[0] < 0 or cells[-1] >= self.size or not bool(np.all(cells[1:] > cells[:-1]))):
            fault = _first_disorder(cells, self.size)
            raise InvalidTopologyError(f"mask: expected strictly increasing cells in [0, {self.size}), found {fault}")
        cells.flags.writeable = False
        object.__setattr__(self, "cells", cells)

    @property
    def stride(self) -> int:
        """Possible inputs of one target unit: ``n_source * taps``."""
        return self.n_source * self.taps

    @property
    def size(self) -> int:
        """Possible connections: ``n_source * taps * n_target``."""
        return self.n_source * self.taps * self.n_target

    @property
    def nnz(self) -> int:
        """Connections that exist."""
        return int(self.cells.size)

    @property
    def density(self) -> float:
        """Share of the possible connections that exist, 0 to 1."""
        return self.nnz / self.size

    @cached_property
    def indptr(self) -> NDArray[np.int64]:
        """Where each target's keys begin in ``keys``: shape (n_target + 1,)."""
        return np.searchsorted(self.cells, np.arange(self.n_target + 1, dtype=np.int64) * self.stride).astype(np.int64)

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """Per target unit its sorted keys ``source * taps + tap``, one target after the other: shape (nnz,)."""
        return self.cells % self.stride

    def keys_of(self, target: int) -> NDArray[np.int64]:
        """The fan-in set of one target unit, as sorted keys."""
        return self.keys[self.indptr[target] : self.indptr[target + 1]]

    @property
    def targets(self) -> NDArray[np.int64]:
        """The target unit of each connection: shape (nnz,)."""
        return self.cells // self.stride

    @property
    def sources(self) -> NDArray[np.int64]:
        """The source unit of each connection: shape (nnz,)."""
        return self.keys // self.taps

    @property
    def tap_indices(self) -> NDArray[np.int64]:
        """The tap of each connection: shape (nnz,)."""
        return self.keys % self.taps

    @property
    def fan_in(self) -> NDArray[np.int64]:
        """Connections into each target unit: shape (n_target,)."""
        return np.diff(self.indptr)

    @property
    def fan_out(self) -> NDArray[np.int64]:
        """Connections out of each source unit, over all taps: shape (n_source,)."""
        return np.bincount(self.sources, minlength=self.n_source)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape, taps and cells, in hex: equal exactly for equal masks, however they were packed."""
        head = struct.pack("<QQQ", self.n_source, self.taps, self.n_target)
        sha = hashlib.sha256(format_1.MASK_DIGEST + head)
        sha.update(self.cells.astype("<i8", copy=False).data)
        return sha.hexdigest()

    def to_csc(self) -> sp.csc_array:
        """The mask as a boolean SciPy matrix of shape (n_source * taps, n_target)."""
        data = np.ones(self.nnz, dtype=bool)
        return sp.csc_array((data, self.keys, self.indptr), shape=(self.stride, self.n_target))

    @staticmethod
    def from_csc(n_source: int, n_target: int, indptr: ArrayLike, keys: ArrayLike, *, taps: int = 1) -> Mask:
        """A mask from keys per target unit: ``keys[indptr[j]:indptr[j + 1]]`` are the sorted keys of target j."""
        ptr, flat = np.asarray(indptr, dtype=np.int64), np.asarray(keys, dtype=np.int64)
        stride = n_source * taps
        if ptr.shape != (n_target + 1,) or ptr[0] != 0 or bool(np.any(np.diff(ptr) < 0)):
            raise InvalidTopologyError(
                f"indptr: expected {n_target + 1} increasing offsets from 0, found {_describe(ptr)}"
            )
        if flat.shape != (int(ptr[-1]),):
            raise InvalidTopologyError(
                f"indices: expected {ptr[-1]} keys (the last of indptr), found {_describe(flat)}"
            )
        if flat.size and (flat.min() < 0 or flat.max() >= stride):
            bad = int(np.flatnonzero((flat < 0) | (flat >= stride))[0])
            raise InvalidTopologyError(f"indices[{bad}]: expected a key in [0, {stride}), found {flat[bad]}")
        cells = np.repeat(np.arange(n_target, dtype=np.int64) * stride, np.diff(ptr)) + flat
        if not bool(np.all(cells[1:] > cells[:-1])):
            bad = int(np.flatnonzero(cells[1:] <= cells[:-1])[0]) + 1
            raise InvalidTopologyError(
                f"indices[{bad}] of target {cells[bad] // stride}: expected sorted keys without repeats, "
                f"found {flat[bad]} after {flat[bad - 1]}"
            )
        return Mask(n_source, n_target, cells, taps)

    @staticmethod
    def from_matrix(
        matrix: Any, *, taps: int = 1, zeros: Zeros | None = None, orientation: Orientation = "in-out"
    ) -> Mask:
        """A mask from a SciPy sparse, NumPy or torch matrix of shape (n_source * taps, n_target).

        ``orientation="out-in"``: of shape (n_target, n_source * taps). A connection is an entry that is not 0;
        ``zeros`` says what a stored zero of a sparse matrix is (``matrices.entries``). NaN and infinite values are
        refused.
        """
        matrices.check_words(orientation=orientation, zeros=zeros)
        indices, shape = matrices.entries(matrix, zeros=zeros)
        if len(shape) != 2:
            raise InvalidTopologyError(f"mask: expected a matrix (sources x targets), found shape {shape}")
        (sources, targets), (rows, columns) = indices, shape
        if orientation == "out-in":
            sources, targets, rows, columns = targets, sources, columns, rows
        if rows % taps or not rows or not columns:
            raise InvalidTopologyError(f"mask: expected (n_source * {taps}) x n_target entries, found shape {shape}")
        return Mask(rows // taps, columns, np.sort(targets * rows + sources), taps)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The mask as a dense boolean array of shape (n_source * taps, n_target); what ``np.asarray(mask)`` gives."""
        if copy is False:
            raise ValueError("a mask holds no dense array: expected copy=None or True")
        dense = np.zeros((self.n_target, self.stride), dtype=bool)
        dense.reshape(-1)[self.cells] = True
        return dense.T.astype(dtype or bool)


def _first_disorder(cells: Cells, size: int) -> str:
    outside = np.flatnonzero((cells < 0) | (cells >= size))
    if outside.size:
        return f"{cells[outside[0]]} at position {outside[0]}"
    at = int(np.flatnonzero(cells[1:] <= cells[:-1])[0])
    return f"{cells[at + 1]} after {cells[at]} at position {at + 1}"


def _describe(array: NDArray[np.int64]) -> str:
    return f"shape {array.shape} from {array.flat[0] if array.size else '-'} to {array.flat[-1] if array.size else '-'}"
