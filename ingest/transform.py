"""Pure steps between topologies and the graph: which connections were born and died, grouped as it takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stratigraph import codec
from stratigraph.topology import Mask

Cells = NDArray[np.int64]
Births = list[list[object]]  # [source neuron's id, [[target neuron's id, tap], ...]]
Deaths = list[list[object]]  # [source neuron's id, [target index * taps + tap, ...]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the cells of a layer lie: enough to turn a cell into two neurons and a tap."""

    source: str
    target: str
    n_source: int
    n_target: int
    taps: int

    def empty(self) -> Mask:
        """The mask before the first snapshot: no connections."""
        return Mask(self.n_source, self.n_target, np.empty(0, dtype=np.int64), self.taps)

    def split(self, cells: Cells) -> tuple[Cells, Cells, Cells]:
        """``(sources, targets, taps)`` of the cells."""
        stride = self.n_source * self.taps
        keys = cells % stride
        return keys // self.taps, cells // stride, keys % self.taps

    def cell_of(self, source: int, code: int) -> int:
        """The cell of a source unit's connection, given its code ``target * taps + tap``."""
        return code // self.taps * (self.n_source * self.taps) + source * self.taps + code % self.taps


def changes(before: Mask, after: Mask) -> tuple[Cells, Cells]:
    """``(died, born)`` between two successive snapshots of a layer."""
    return codec.changes(before, after)


def without(cells: Cells, done: Cells) -> Cells:
    """The cells that are not done yet."""
    return cells[~np.isin(cells, done, assume_unique=True)] if done.size else cells


def chunks(cells: Cells, shape: Shape, size: int) -> Iterator[Cells]:
    """The cells ordered by source unit, so that a group is rarely cut, at most ``size`` at a time."""
    ordered = cells[np.argsort(shape.split(cells)[0], kind="stable")]
    for at in range(0, ordered.size, size):
        yield ordered[at : at + size]


def birth_groups(run: str, shape: Shape, cells: Cells) -> Births:
    """Cells (ordered by source) as groups by source neuron; each row a target neuron and a tap."""
    sources, targets, taps = shape.split(cells)
    prefix = f"{run}/{shape.target}/"
    rows = [[prefix + str(t), tap] for t, tap in zip(targets.tolist(), taps.tolist(), strict=True)]
    return _grouped(f"{run}/{shape.source}/", sources, rows)


def death_groups(run: str, shape: Shape, cells: Cells) -> Deaths:
    """Cells (ordered by source) as groups by source neuron; each row a code ``target * taps + tap``."""
    sources, targets, taps = shape.split(cells)
    return _grouped(f"{run}/{shape.source}/", sources, (targets * shape.taps + taps).tolist())


def _grouped(prefix: str, sources: Cells, rows: list[object] | list[list[object]] | list[int]) -> list[list[object]]:
    cuts = np.flatnonzero(np.diff(sources, prepend=-1)).tolist()
    ends = [*cuts[1:], len(rows)]
    return [[prefix + str(sources[a]), rows[a:b]] for a, b in zip(cuts, ends, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Lifetimes:
    """The lives of a layer's connections: cell, born step, died step (-1 while alive), sorted by cell, then birth."""

    cells: Cells
    born: Cells
    died: Cells


def lifetimes(shape: Shape, history: Iterable[tuple[int, Mask]]) -> Lifetimes:
    """All lifetimes in a layer's history of (step, mask), in the order of the steps."""
    alive = shape.empty()
    since = alive.cells
    ended: list[tuple[Cells, Cells, Cells]] = []
    for step, mask in history:
        stays = codec.in_sorted(alive.cells, mask.cells)
        gone = alive.cells[~stays]
        ended.append((gone, since[~stays], np.full(gone.size, step, dtype=np.int64)))
        kept = since[stays]
        since = np.full(mask.nnz, step, dtype=np.int64)
        since[codec.in_sorted(mask.cells, alive.cells)] = kept
        alive = mask
    ended.append((alive.cells, since, np.full(alive.nnz, -1, dtype=np.int64)))
    cells, born, died = (np.concatenate(column) for column in zip(*ended, strict=True))
    order = np.lexsort((born, cells))
    return Lifetimes(cells[order], born[order], died[order])
