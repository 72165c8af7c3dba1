"""From matrices in files to a topology: which rows are biases, which layer follows which, what counts as a connection.

A ``FileLayer`` is one layer as a file holds it, its shape known and its entries not yet read; so a whole directory can
be checked by its shapes alone. Entries are ``Mask`` cells: ``target * (n_source * taps) + source * taps + tap``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, InvalidTopologyError, LimitError
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.safe_npz import SafeNpz
from topostrata.topology import Mask, Topology, Zeros, chain_layers

Bias = Literal["auto", "last-row", "none"]
Orientation = Literal["in-out", "out-in"]

SCIPY_MEMBERS = frozenset({"format", "shape", "data", "indices", "indptr", "row", "col", "_is_array"})
_MAX_CELLS = 2**62


@dataclass(frozen=True, slots=True)
class FileLayer:
    """One layer of a file: shape known, cells read by ``load``. ``kernel``: a convolution, whose units are channels."""

    name: str
    n_source: int
    n_target: int
    load: Callable[[], NDArray[np.int64]]
    taps: int = 1
    kernel: bool = False

    @property
    def shape(self) -> str:
        """The shape for messages: ``784 x 10``, with the taps of a convolution."""
        return f"{self.n_source} x {self.n_target}" + (f" ({self.taps} taps)" if self.kernel else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the parts of a network fit: whether each carries a bias row, and per layer its sources and taps."""

    last_row: bool
    shapes: tuple[tuple[int, int, int], ...]  # n_source, n_target, taps


def plan(parts: Sequence[FileLayer], *, bias: Bias, where: str, limits: Limits) -> Plan:
    """Fit the parts together by their shapes alone, or say why they do not."""
    if not parts:
        raise InvalidInputError(f"{where}: expected at least one layer, found none")
    limits.check(where, layers=len(parts))
    for part in parts:
        at = f"{where}: layer {part.name!r}"
        limits.check(at, units=max(part.n_source, part.n_target), taps=part.taps)
        if min(part.n_source, part.n_target, part.taps) < 1:
            raise InvalidInputError(f"{at}: expected at least 1 source and 1 target, found {part.shape}")
        if part.n_source * part.n_target * part.taps > _MAX_CELLS:
            raise LimitError(f"{at}: expected at most 2**62 possible connections, found {part.shape}")
    last_row = _has_bias_row(parts, bias, where)
    return Plan(last_row, tuple(_shape(k, parts, where, last_row=last_row) for k in range(len(parts))))


def assemble(parts: Sequence[FileLayer], fit: Plan, *, where: str, limits: Limits) -> Topology:
    """Read every part as the plan says and chain them. A bias row is dropped: a bias is no connection."""
    masks: list[Mask] = []
    found = 0
    for part, (n_source, n_target, taps) in zip(parts, fit.shapes, strict=True):
        cells = part.load()
        if fit.last_row:
            source, target = cells % (n_source + 1), cells // (n_source + 1)
            cells = (target * n_source + source)[source < n_source]
        found += cells.size
        limits.check(where, connections=found)
        masks.append(Mask(n_source, n_target, cells, taps))
    try:
        return Topology(chain_layers([part.name for part in parts], masks))
    except InvalidTopologyError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from error


def _has_bias_row(parts: Sequence[FileLayer], bias: Bias, where: str) -> bool:
    """Whether the last row of each matrix is a bias, by how the layers chain.

    A matrix has one row per unit of the layer before it, and one more where its last row is the bias. Of a single
    matrix nothing can be told, so nothing is guessed: a wrong guess would lose an input unit in silence.
    """
    if any(part.kernel for part in parts):
        if bias == "last-row":
            raise InvalidInputError(f"{where}: expected plain matrices with --bias last-row, found {_shapes(parts)}")
        return False
    beyond = {after.n_source - before.n_target for before, after in pairwise(parts)}
    if beyond - {0} and beyond - {1}:
        raise InvalidInputError(
            f"{where}: expected each layer to have as many sources as the one before it has targets (or each one more, "
            f"for a bias row), found {_shapes(parts)}",
            hint="layers are taken in the natural order of their names; targets x sources needs orientation 'out-in'",
        )
    if not beyond and bias == "auto":
        raise InvalidInputError(
            f"{where}: expected several layers, to tell from whether the last row is a bias, found {_shapes(parts)}",
            hint="say which with --bias none or --bias last-row (in Python bias='none' or bias='last-row')",
        )
    last_row = beyond == {1} if beyond else bias == "last-row"
    if bias != "auto" and last_row != (bias == "last-row"):
        raise InvalidInputError(
            f"{where}: expected shapes that fit --bias {bias}, found {_shapes(parts)}",
            hint=f"they fit --bias {'last-row' if last_row else 'none'}",
        )
    if last_row and any(part.n_source < 2 for part in parts):
        raise InvalidInputError(f"{where}: expected at least one row besides the bias, found {_shapes(parts)}")
    return last_row


def _shape(k: int, parts: Sequence[FileLayer], where: str, *, last_row: bool) -> tuple[int, int, int]:
    part, before = parts[k], parts[k - 1] if k else None
    n_source, taps = part.n_source - last_row, part.taps
    if before is not None and before.kernel and not part.kernel and n_source % before.n_target == 0:
        # A flattened convolution: rows are (channel, position), channel-major, which is just what cells of taps are.
        n_source, taps = before.n_target, n_source // before.n_target
    if before is not None and n_source != before.n_target:
        raise InvalidInputError(
            f"{where}: layer {part.name!r}: expected {before.n_target} sources (the targets of {before.name!r}), "
            f"found {n_source}; all layers: {_shapes(parts)}",
            hint="layers are taken in the natural order of their names",
        )
    return n_source, part.n_target, taps


def _shapes(parts: Sequence[FileLayer]) -> str:
    shown = ", ".join(f"{part.name} {part.shape}" for part in parts[:20])
    return shown + (f" and {len(parts) - 20} more" if len(parts) > 20 else "")


def dense_cells(array: NDArray[Any], *, orientation: Orientation, where: str) -> NDArray[np.int64]:
    """The cells of a dense matrix or kernel: every entry that is not 0. NaN and infinite entries are refused."""
    check_finite(array, lambda at: str([int(i) for i in np.unravel_index(at, array.shape)]), where=where)
    occupied = array != 0
    if orientation == "in-out":
        # Channels stand last in in-out kernels (height, width, in, out); both become (out, in, taps...).
        kernel = range(occupied.ndim - 2)
        occupied = occupied.transpose(occupied.ndim - 1, occupied.ndim - 2, *kernel)
    return np.flatnonzero(occupied).astype(np.int64)


def dense_shape(shape: tuple[int, ...], orientation: Orientation) -> tuple[int, int, int]:
    """``n_source, n_target, taps`` of a dense matrix (2 axes) or kernel (3 or more)."""
    product = 1
    for length in shape[2:] if orientation == "out-in" else shape[:-2]:
        product *= length
    return (shape[1], shape[0], product) if orientation == "out-in" else (shape[-2], shape[-1], product)


def scipy_shape(npz: SafeNpz, prefix: str = "") -> tuple[int, int]:
    """Rows and columns of a SciPy matrix, as ``scipy.sparse.save_npz`` writes them, if it is in a format we read."""
    form = _scipy_format(npz, prefix)
    if form not in {"csr", "csc", "coo"}:
        raise InvalidInputError(
            f"{npz.where}: expected a SciPy matrix in format csr, csc or coo, found {form[:20]!r}",
            hint="save matrix.tocsr() instead",
        )
    shape = npz.array(f"{prefix}shape", kinds="iu").astype(np.int64)
    if shape.shape != (2,) or bool(np.any(shape < 0)):
        raise InvalidInputError(f"{npz.where}: member '{prefix}shape': expected 2 axes, found {shape.tolist()}")
    return int(shape[0]), int(shape[1])


def scipy_part(
    npz: SafeNpz, name: str, *, zeros: Zeros | None, orientation: Orientation, prefix: str = ""
) -> FileLayer:
    """A SciPy matrix as a layer, its entries not yet read."""
    rows, cols = scipy_shape(npz, prefix)
    where = f"{npz.where}: layer {name!r}"
    load = partial(scipy_cells, npz, zeros=zeros, orientation=orientation, where=where, prefix=prefix)
    return FileLayer(name, rows, cols, load) if orientation == "in-out" else FileLayer(name, cols, rows, load)


def scipy_cells(
    npz: SafeNpz, *, zeros: Zeros | None, orientation: Orientation, where: str, prefix: str = ""
) -> NDArray[np.int64]:
    """The cells of a SciPy matrix in parts: CSR, CSC or COO.

    What a stored zero means depends on what the file is: no connection among weights (float), a connection in a mask
    (bool, integer); ``zeros`` overrules.
    """
    shape = scipy_shape(npz, prefix)
    form = _scipy_format(npz, prefix)
    data = npz.array(f"{prefix}data", ndim=1)
    if form == "coo":
        rows, cols = (_indices(npz, f"{prefix}{axis}") for axis in ("row", "col"))
    else:
        major, minor = _compressed(npz, prefix, shape[0] if form == "csr" else shape[1])
        data = data[: major.size]
        rows, cols = (major, minor) if form == "csr" else (minor, major)
    if not data.size == rows.size == cols.size:
        raise InvalidInputError(
            f"{where}: expected as many values as indices ({rows.size}, {cols.size}), found {data.size}"
        )
    for axis, index, length in (("row", rows, shape[0]), ("column", cols, shape[1])):
        outside = np.flatnonzero((index < 0) | (index >= length))
        if outside.size:
            raise InvalidInputError(
                f"{where}: entry {outside[0]}: expected a {axis} in [0, {length}), found {index[outside[0]]}"
            )
    check_finite(data, lambda k: str([int(rows[k]), int(cols[k])]), where=where)
    sources, targets, stride = (rows, cols, shape[0]) if orientation == "in-out" else (cols, rows, shape[1])
    cells = targets * stride + sources
    ordered = np.argsort(cells, kind="stable")
    cells = cells[ordered]
    twice = np.flatnonzero(cells[1:] == cells[:-1])
    if twice.size:
        k = ordered[twice[0] + 1]
        raise InvalidInputError(f"{where}: expected every entry once, found [{rows[k]}, {cols[k]}] twice")
    absent = zeros == "absent" or (zeros is None and data.dtype.kind == "f")
    return cells[data[ordered] != 0] if absent else cells


def check_finite(values: NDArray[Any], position: Callable[[int], str], *, where: str) -> None:
    """Refuse NaN and infinite values: they are neither a connection nor none."""
    if values.dtype.kind != "f":
        return
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InvalidInputError(
            f"{where}: expected finite values, found {values.reshape(-1)[bad[0]]} at {position(int(bad[0]))}",
            hint="did the training diverge?",
        )


def _scipy_format(npz: SafeNpz, prefix: str) -> str:
    return npz.text(f"{prefix}format") if f"{prefix}format" in npz else "csr"


def _indices(npz: SafeNpz, name: str) -> NDArray[np.int64]:
    return npz.array(name, kinds="iu", ndim=1).astype(np.int64)


def _compressed(npz: SafeNpz, prefix: str, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    indptr, minor = _indices(npz, f"{prefix}indptr"), _indices(npz, f"{prefix}indices")
    if indptr.shape != (length + 1,):
        raise InvalidInputError(
            f"{npz.where}: member '{prefix}indptr': expected {length + 1} offsets, found {indptr.size}"
        )
    falls = np.flatnonzero(np.diff(indptr) < 0)
    if indptr[0] != 0 or falls.size:
        at = int(falls[0]) + 1 if falls.size else 0
        raise InvalidInputError(
            f"{npz.where}: member '{prefix}indptr': expected offsets that rise from 0, "
            f"found {indptr[at]} at position {at}"
        )
    nnz = int(indptr[-1])
    if minor.size < nnz:
        raise InvalidInputError(
            f"{npz.where}: member '{prefix}indices': expected {nnz} (the last of indptr), found {minor.size}"
        )
    # SciPy itself may leave room behind the last entry, and saves it.
    return np.repeat(np.arange(length, dtype=np.int64), np.diff(indptr)), minor[:nnz]
