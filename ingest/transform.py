"""Pure functions from topologies to the graph: which connections were born and died, in groups for its statements."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata import codec
from topostrata.topology import LayerShape, Mask, Space

Cells = NDArray[np.int64]
_PROPERTY = re.compile(r"(?!axis_)[A-Za-z][A-Za-z0-9_]*")
KEYS = 2**31
_TAKEN = {"id", "run", "space", "index"}

Groups = list[list[object]]  # a row for each source neuron: its id, the layer, and what happens to its connections


def changes(before: Mask, after: Mask) -> tuple[Cells, Cells]:
    """``(died, born)`` between two successive snapshots of a layer."""
    return codec.changes(before, after)


def without(cells: Cells, done: Cells) -> Cells:
    """The cells that are not done yet."""
    return cells[~np.isin(cells, done, assume_unique=True)] if done.size else cells


def chunks(cells: Cells, shape: LayerShape, size: int) -> Iterator[Cells]:
    """The cells ordered by source unit, so that a group is rarely cut, at most ``size`` at a time."""
    ordered = cells[np.argsort(shape.units_of(cells)[0], kind="stable")]
    for at in range(0, ordered.size, size):
        yield ordered[at : at + size]


def groups(run: str, shape: LayerShape, cells: Cells, first: int) -> tuple[list[str], Groups]:
    """Cells (ordered by source) as ids of their targets and groups ``[source id, layer, [[place, tap, key], ...]]``.

    A place is the index of a target in a statement's list of targets, where the targets of these cells begin at
    ``first``; the key is the one of ``alive_keys``.
    """
    sources, targets, taps = shape.units_of(cells)
    unique, places = np.unique(targets, return_inverse=True)
    rows = np.stack([places + first, taps, alive_keys(f"{run}/{shape.name}", cells)], axis=1).tolist()
    prefix = f"{run}/{shape.source.name}/"
    grouped: Groups = [[prefix + str(source), shape.name, rows[a:b]] for source, a, b in _runs(sources)]
    return [f"{run}/{shape.target.name}/{target}" for target in unique.tolist()], grouped


def alive_keys(layer: str, cells: Cells) -> Cells:
    """The number that a connection has as ``alive`` until it dies: by it the connection is found in an index.

    The digest of the layer's id gives where its cells begin among 2**31 numbers, which all engines hold in few bytes.
    Connections may share one; who looks for one also names its run and layer, and where that has more cells than there
    are keys, its turn (``deaths``).
    """
    return (first_key(layer) + cells) % KEYS


def first_key(layer: str) -> int:
    """The key of a layer's cell 0."""
    return int.from_bytes(hashlib.sha256(layer.encode()).digest()[:4], "little") % KEYS


def deaths(run: str, shape: LayerShape, cells: Cells, size: int) -> Iterator[tuple[int | None, list[int]]]:
    """The keys of cells in parts of at most ``size``, in each of which no two connections of the layer share one.

    With each part its turn: how often the numbers before had gone through all keys; None where the layer has no more
    cells than keys, so that none can be shared.

    >>> from topostrata.topology import Space
    >>> plain = LayerShape("y", Space("x", 2), Space("h", 2))
    >>> [(turn, len(keys)) for turn, keys in deaths("w0", plain, np.array([0, 1, 3]), 2)]
    [(None, 2), (None, 1)]
    """
    layer = f"{run}/{shape.name}"
    keys = alive_keys(layer, cells)
    turns = (first_key(layer) + cells) // KEYS if shape.possible > KEYS else np.full(cells.size, -1)
    for turn in np.unique(turns).tolist():
        part = keys[turns == turn]
        for at in range(0, part.size, size):
            yield None if turn < 0 else turn, part[at : at + size].tolist()


def neuron_rows(space: Space, first: int, last: int) -> list[list[object]]:
    """The units of a space from one to another as rows: flat index, and the index along each axis by its property."""
    names = axis_properties(space)
    units = np.arange(first, last + 1)
    columns = np.unravel_index(units, [axis.size for axis in space.axes]) if space.axes else ()
    indices = np.stack(columns, axis=1).tolist() if space.axes else [[] for _ in units]
    return [[unit, dict(zip(names, index, strict=True))] for unit, index in zip(units.tolist(), indices, strict=True)]


def axis_properties(space: Space) -> list[str]:
    """The names under which the neurons of a space have their index along each axis.

    The last word of the axis's name (``heads`` of ``h.0.heads``), so that one question fits all blocks of a network;
    ``axis_0``, ``axis_1``, ... where that is no name of a property, stands for something else or is there twice.

    >>> from topostrata.topology import Axis
    >>> axis_properties(Space("q", [Axis("h.0.heads", 4), Axis("index", 12)]))
    ['heads', 'axis_1']
    """
    words = [axis.name.rpartition(".")[2] for axis in space.axes]
    return [
        word if _PROPERTY.fullmatch(word) and word not in _TAKEN and words.count(word) == 1 else f"axis_{k}"
        for k, word in enumerate(words)
    ]


def _runs(sources: Cells) -> Iterator[tuple[int, int, int]]:
    """Each source unit of an ordered array, with where it begins and ends there."""
    cuts = np.flatnonzero(np.diff(sources, prepend=-1))
    return zip(sources[cuts].tolist(), cuts.tolist(), [*cuts[1:].tolist(), sources.size], strict=True)


def since_when(shape: LayerShape, history: Iterable[tuple[int, Mask]]) -> tuple[Mask, Cells]:
    """The last mask of a layer's history of (step, mask), and since which step each of its connections lives.

    It holds one mask, where ``lifetimes`` holds all that ever lived.
    """
    alive = shape.empty()
    since = alive.cells
    for step, mask in history:
        since = _since(alive, since, step, mask)
        alive = mask
    return alive, since


def _since(before: Mask, since: Cells, step: int, mask: Mask) -> Cells:
    """Since when the connections of a mask live, given those of the one before it."""
    births = np.full(mask.nnz, step, dtype=np.int64)
    births[codec.in_sorted(mask.cells, before.cells)] = since[codec.in_sorted(before.cells, mask.cells)]
    return births


@dataclass(frozen=True, slots=True, eq=False)
class Lifetimes:
    """The lives of a layer's connections: cell, born step, died step (-1 while alive), sorted by cell, then birth."""

    cells: Cells
    born: Cells
    died: Cells

    def after(self, step: int | None) -> Lifetimes:
        """Those that did not end up to a step."""
        stays = np.full(self.cells.size, fill_value=True) if step is None else (self.died < 0) | (self.died > step)
        return Lifetimes(self.cells[stays], self.born[stays], self.died[stays])


def lifetimes(shape: LayerShape, history: Iterable[tuple[int, Mask]]) -> Lifetimes:
    """All lifetimes in a layer's history of (step, mask), in the order of the steps."""
    alive = shape.empty()
    since = alive.cells
    ended: list[tuple[Cells, Cells, Cells]] = []
    for step, mask in history:
        stays = codec.in_sorted(alive.cells, mask.cells)
        gone = alive.cells[~stays]
        ended.append((gone, since[~stays], np.full(gone.size, step, dtype=np.int64)))
        since = _since(alive, since, step, mask)
        alive = mask
    ended.append((alive.cells, since, np.full(alive.nnz, -1, dtype=np.int64)))
    cells, born, died = (np.concatenate(column) for column in zip(*ended, strict=True))
    order = np.lexsort((born, cells))
    return Lifetimes(cells[order], born[order], died[order])
