"""Pure functions from topologies to the graph: which connections were born and died, in groups for its statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata import codec
from topostrata.runs import RunLayer
from topostrata.topology import Mask

Cells = NDArray[np.int64]
Groups = list[list[object]]  # a row for each source neuron: its id, the layer, and what happens to its connections


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the cells of a layer lie: enough to turn a cell into two neurons and a tap."""

    source: str
    target: str
    n_source: int
    n_target: int
    taps: int

    @staticmethod
    def of(layer: RunLayer) -> Shape:
        """The shape of a layer of a run."""
        return Shape(layer.source.name, layer.target.name, layer.source.size, layer.target.size, layer.taps)

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


def birth_groups(run: str, layer: str, shape: Shape, cells: Cells, first: int) -> tuple[list[str], Groups]:
    """Cells (ordered by source) as the ids of their targets and groups ``[source id, layer, [[place, tap], ...]]``.

    A place is the index of a target in a statement's list of targets, where the targets of these cells begin at
    ``first``.
    """
    sources, targets, taps = shape.split(cells)
    unique, places = np.unique(targets, return_inverse=True)
    rows = np.stack([places + first, taps], axis=1).tolist()
    prefix = f"{run}/{shape.source}/"
    groups: Groups = [[prefix + str(source), layer, rows[a:b]] for source, a, b in _runs(sources)]
    return [f"{run}/{shape.target}/{target}" for target in unique.tolist()], groups


def death_groups(run: str, layer: str, shape: Shape, cells: Cells) -> Groups:
    """Cells (ordered by source) as groups ``[source id, layer, taps, [target index * taps + tap, ...]]``."""
    sources, targets, taps = shape.split(cells)
    codes = (targets * shape.taps + taps).tolist()
    prefix = f"{run}/{shape.source}/"
    return [[prefix + str(source), layer, shape.taps, codes[a:b]] for source, a, b in _runs(sources)]


def _runs(sources: Cells) -> Iterator[tuple[int, int, int]]:
    """Each source unit of an ordered array, with where it begins and ends there."""
    cuts = np.flatnonzero(np.diff(sources, prepend=-1))
    return zip(sources[cuts].tolist(), cuts.tolist(), [*cuts[1:].tolist(), sources.size], strict=True)


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
        since_before = since[stays]
        since = np.full(mask.nnz, step, dtype=np.int64)
        since[codec.in_sorted(mask.cells, alive.cells)] = since_before
        alive = mask
    ended.append((alive.cells, since, np.full(alive.nnz, -1, dtype=np.int64)))
    cells, born, died = (np.concatenate(column) for column in zip(*ended, strict=True))
    order = np.lexsort((born, cells))
    return Lifetimes(cells[order], born[order], died[order])
