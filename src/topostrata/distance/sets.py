"""One set per unit as flat arrays: the fan-in or fan-out sets of a space's units, and who holds which element.

Cells are sorted, so nothing is sorted here: the cells of one layer are fan-in sets already, other sets are counted out,
and those of the other end are the same arrays with their roles exchanged wherever one layer without taps makes both.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance.kernels import PAD
from topostrata.layers import Layer

Ints = NDArray[np.int64]
Units = NDArray[np.uint32]
_NO_CELLS = np.zeros(0, dtype=np.int64)
_NO_CELLS.flags.writeable = False  # as those of masks: another type would be compiled again
# Shared elements per pair of units from which a matrix of counts is faster and smaller than lists (bench/distance.py).
SPARSE = 0.3
_MANY = 2**18  # connections of a layer that are listed anew
NO_HOLDER = 2**31  # the size of the smallest set that holds an element that none holds


@njit(cache=True, nogil=True)
def ends_of(cells, stride, taps, local, together):
    """Source, target and tap (of no length for one tap) of sorted cells, as ``LayerShape.units_of`` gives them.

    ``together`` targets in a row have the same ``local`` sources.
    """
    n = len(cells)
    sources, targets = np.empty(n, dtype=np.uint32), np.empty(n, dtype=np.uint32)
    at_tap = np.empty(n if taps > 1 else 0, dtype=np.uint32)
    target, begin, base = np.int64(0), np.int64(0), np.int64(0)
    for e in range(n):
        if cells[e] - begin >= stride:
            target = cells[e] // stride
            begin = target * stride
            base = target // together * local
        key = np.uint32(cells[e] - begin)
        targets[e] = target
        if taps > 1:
            source = key // np.uint32(taps)
            at_tap[e] = key - source * np.uint32(taps)
            key = source
        sources[e] = base + key
    return sources, targets, at_tap


@njit(cache=True, nogil=True)
def by_target(cells, stride, together, size, elements, listed):
    """The fan-in sets by one layer: ptr, keys, back as in ``Sets``; cells are such keys. No keys unless ``listed``.

    ``together`` targets in a row hold their own ``stride`` of the elements.
    """
    n = len(cells)
    ptr, back = np.zeros(size + 1, dtype=np.int64), np.zeros(elements + 1, dtype=np.int64)
    keys = np.zeros(n + PAD if listed else 0, dtype=np.uint32)
    target, shift = np.int64(0), np.int64(0)
    for e in range(n):
        if cells[e] >= (target + 1) * stride:
            following = cells[e] // stride
            while target < following:
                target += 1
                ptr[target] = e
            shift = (target - target // together) * stride
        k = cells[e] - shift
        if listed:
            keys[e] = k
        back[k + 1] += 1
    for i in range(target, size):
        ptr[i + 1] = n
    for k in range(elements):
        back[k + 1] += back[k]
    return ptr, keys, back


@njit(cache=True, nogil=True)
def holders_of(ptr, keys, back):
    """Who holds what: the holders as in ``Sets``."""
    holders = np.zeros(len(keys), dtype=np.uint32)
    position = back[:-1].copy()
    for i in range(len(ptr) - 1):
        for e in range(ptr[i], ptr[i + 1]):
            holders[position[keys[e]]] = i
            position[keys[e]] += 1
    return holders


@njit(cache=True, nogil=True)
def counted_out(size, elements, units, keys):
    """Sets of ``size`` units and who holds what, from pairs in any order: ptr, keys, back, holders as in ``Sets``."""
    n = len(units)
    ptr, back = np.zeros(size + 1, dtype=np.int64), np.zeros(elements + 1, dtype=np.int64)
    for e in range(n):
        ptr[units[e] + 1] += 1
        back[keys[e] + 1] += 1
    for i in range(size):
        ptr[i + 1] += ptr[i]
    for k in range(elements):
        back[k + 1] += back[k]
    holders, by_unit = np.zeros(n + PAD, dtype=np.uint32), np.zeros(n + PAD, dtype=np.uint32)
    position = back[:-1].copy()
    for e in range(n):
        k = keys[e]
        holders[position[k]] = units[e]
        position[k] += 1
    place = ptr[:-1].copy()
    for k in range(elements):
        for h in range(back[k], back[k + 1]):
            by_unit[place[holders[h]]] = k
            place[holders[h]] += 1
    position = back[:-1].copy()
    for i in range(size):
        for e in range(ptr[i], ptr[i + 1]):
            k = by_unit[e]
            holders[position[k]] = i
            position[k] += 1
    return ptr, by_unit, back, holders


@njit(cache=True, nogil=True)
def described(ptr):
    """Of sets: their sizes, which are empty, and the largest size."""
    sizes, empty = np.empty(len(ptr) - 1, dtype=np.int64), np.empty(len(ptr) - 1, dtype=np.bool_)
    largest = np.int64(0)
    for i in range(len(sizes)):
        sizes[i] = ptr[i + 1] - ptr[i]
        empty[i] = sizes[i] == 0
        largest = max(largest, sizes[i])
    return sizes, empty, largest


@njit(cache=True, nogil=True)
def smallest_of(sizes, back, holders):
    """The size of the smallest set that holds each element."""
    smallest = np.full(len(back) - 1, NO_HOLDER, dtype=np.int64)
    for k in range(len(smallest)):
        for h in range(back[k], back[k + 1]):
            smallest[k] = min(smallest[k], sizes[holders[h]])
    return smallest


class Lists:
    """The keys and the holders of ``Sets``: kept, or listed anew of cells (what ``by_target`` takes) until they are."""

    def __init__(self, kept: tuple[Units, Units] | None, *cells: Any) -> None:
        self.kept, self._cells = kept, cells
        self._lock = Lock()

    def keep(self) -> tuple[Units, Units]:
        """Both, and the same from now on: compiled code may have their addresses."""
        with self._lock:
            if self.kept is None:
                self.kept = self._listed()
            return self.kept

    def keys(self) -> Units:
        """The elements, by unit."""
        return self.kept[0] if self.kept is not None else self._of_cells()[1]

    def holders(self) -> Units:
        """The units, by element."""
        return self.kept[1] if self.kept is not None else self._listed()[1]

    def _listed(self) -> tuple[Units, Units]:
        ptr, keys, back = self._of_cells()
        return keys, holders_of(ptr, keys, back)

    def _of_cells(self) -> tuple[Ints, Units, Ints]:
        sets: tuple[Ints, Units, Ints] = by_target(*self._cells, True)  # type: ignore[call-arg]
        return sets


@dataclass(frozen=True, eq=False)
class Sets:
    """One set per unit, and the way back from an element to the units that hold it.

    ``keys[ptr[u]:ptr[u + 1]]`` are the sorted elements of unit u; ``holders[back[k]:back[k + 1]]`` the units that hold
    element k, ``smallest[k]`` the size of the smallest of them (``NO_HOLDER`` where there is none). Behind both lists
    ``PAD`` further entries mean nothing. An element is a unit at the other end, a layer and a tap, numbered
    ``offset[q] + unit * taps[q] + tap`` for the q-th layer; ``spaces[q]`` is the space at the other end of that layer
    (the context, where its taps have axes). ``sizes`` are the sets', ``largest`` their maximum, ``empty`` says where
    they are 0.

    Where sets are ``dense`` and many, keys and holders are listed when they are asked for, until something keeps them:
    a match by counts reads them once, and beside the counts they would be most of what it needs.
    """

    ptr: Ints
    back: Ints
    sizes: Ints
    empty: NDArray[np.bool_]
    largest: int
    offset: tuple[int, ...]
    taps: tuple[int, ...]
    spaces: tuple[int, ...]
    lists: Lists
    exchanged: bool  # the lists' holders are the keys

    @property
    def keys(self) -> Units:
        """The elements of all units."""
        return self.lists.holders() if self.exchanged else self.lists.keys()

    @property
    def holders(self) -> Units:
        """The units of all elements."""
        return self.lists.keys() if self.exchanged else self.lists.holders()

    @property
    def smallest(self) -> Ints:
        """The size of the smallest set that holds each element."""
        known = vars(self)  # where two threads compute it, the first stays: compiled code may have its address
        if "least" not in known:
            known.setdefault("least", smallest_of(self.sizes, self.back, self.holders))
        smallest: Ints = known["least"]
        return smallest

    @property
    def elements(self) -> int:
        """How many different elements there could be."""
        return len(self.back) - 1

    @property
    def dense(self) -> bool:
        """Whether two units share so much that a matrix of counts is better than lists."""
        return _dense(int(self.ptr[-1]), len(self.sizes), self.elements)

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays but the lists'."""
        return 16 * (len(self.ptr) + len(self.back))

    def keep(self) -> Sets:
        """The same, whose keys and holders stay where they are."""
        self.lists.keep()
        return self

    def turned(self, spaces: tuple[int, ...]) -> Sets:
        """The sets of the other end, where one layer without taps makes them: those of each element's holders."""
        return _sets(self.back, self.ptr, self.lists, (0,), (1,), spaces, exchanged=not self.exchanged)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The memberships that one layer contributes: unit ``units[e]`` holds element ``keys[e]`` of ``elements``."""

    units: Units
    keys: Units
    elements: int


def ends(layer: Layer) -> tuple[Units, Units, Units]:
    """Source, target and tap of the connections of a layer; no taps where it has one."""
    shape = layer.shape
    found: tuple[Units, Units, Units] = ends_of(
        layer.mask.cells, layer.mask.stride, shape.taps, shape.local_sources, shape.target.size // shape.groups
    )
    return found


def with_taps(units: Units, taps: int, at_tap: Units) -> Units:
    """The numbers of units with their taps, of which each unit has so many."""
    return units if not len(at_tap) else units * np.uint32(taps) + at_tap


def fan_in_of(layer: Layer, space: int, elements: int, taps: int) -> Sets:
    """The fan-in sets by one layer; the units of its source, a ``space`` or context, are ``taps`` elements each."""
    shape = layer.shape
    size = shape.target.size
    cells = layer.mask.cells, layer.mask.stride, size // shape.groups, size, elements
    anew = layer.nnz > _MANY and _dense(layer.nnz, size, elements)
    ptr, keys, back = by_target(*cells, not anew)
    lists = Lists(None, *cells) if anew else Lists((keys, holders_of(ptr, keys, back)))
    return _sets(ptr, back, lists, (0,), (taps,), (space,))


def sets_of(size: int, parts: list[Part], taps: tuple[int, ...], spaces: tuple[int, ...]) -> Sets:
    """The sets of the ``size`` units of a space; per layer its part, its taps and the space at its other end."""
    if not parts:
        ptr, keys, back = by_target(_NO_CELLS, 1, 1, size, 0, True)
        return _sets(ptr, back, Lists((keys, keys)), (), taps, spaces)
    offset = np.concatenate([[0], np.cumsum([part.elements for part in parts], dtype=np.int64)]).astype(np.int64)
    if len(parts) == 1:
        units, keys = parts[0].units, parts[0].keys
    else:
        units = np.concatenate([part.units for part in parts])
        keys = np.concatenate([part.keys + np.uint32(offset[q]) for q, part in enumerate(parts)])
    ptr, by_unit, back, holders = counted_out(size, int(offset[-1]), units, keys)
    return _sets(ptr, back, Lists((by_unit, holders)), tuple(offset[:-1].tolist()), taps, spaces)


def _sets(
    ptr: Ints,
    back: Ints,
    lists: Lists,
    offset: tuple[int, ...],
    taps: tuple[int, ...],
    spaces: tuple[int, ...],
    *,
    exchanged: bool = False,
) -> Sets:
    sizes, empty, largest = described(ptr)
    return Sets(ptr, back, sizes, empty, int(largest), offset, taps, spaces, lists, exchanged)


def shared_by_all(a: Sets, b: Sets, names: Ints) -> int:
    """How many (unit of A, unit of B, shared element) triples there are; ``names`` are those of A's elements in B."""
    known = names >= 0
    return int((a.back[1:] - a.back[:-1])[known] @ (b.back[1:] - b.back[:-1])[names[known]])


def _dense(connections: int, units: int, elements: int) -> bool:
    return connections**2 > SPARSE * units**2 * max(elements, 1)
