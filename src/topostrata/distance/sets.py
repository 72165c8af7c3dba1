"""One set per unit as flat arrays: the fan-in or fan-out sets of a space's units, and who holds which element.

Cells are sorted, so nothing is sorted here: sets are counted out, and those of the other end are the same arrays with
their roles exchanged wherever one layer without taps makes both.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance.kernels import PAD, copy_into
from topostrata.layers import Layer

Ints = NDArray[np.int64]
Units = NDArray[np.uint32]
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
def counted_out(size, elements, units, keys):
    """Sets of ``size`` units and who holds what, from pairs in any order: ptr, keys, back, holders as in ``Sets``.

    Those that come sorted, as the cells of one layer do, are counted out once instead of three times.
    """
    n = len(units)
    ptr, back = np.zeros(size + 1, dtype=np.int64), np.zeros(elements + 1, dtype=np.int64)
    disorder = 0
    for e in range(n):
        ptr[units[e] + 1] += 1
        back[keys[e] + 1] += 1
        before = max(e - 1, 0)
        disorder += units[e] < units[before] or (units[e] == units[before] and keys[e] < keys[before])
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
    if disorder == 0:
        copy_into(keys, by_unit)
        return ptr, by_unit, back, holders
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
def described(ptr, back, holders):
    """Of sets: their sizes, which are empty, the largest size, and the least size of those that hold each element."""
    sizes, empty = np.empty(len(ptr) - 1, dtype=np.int64), np.empty(len(ptr) - 1, dtype=np.bool_)
    largest = np.int64(0)
    for i in range(len(sizes)):
        sizes[i] = ptr[i + 1] - ptr[i]
        empty[i] = sizes[i] == 0
        largest = max(largest, sizes[i])
    smallest = np.full(len(back) - 1, NO_HOLDER, dtype=np.int64)
    for k in range(len(smallest)):
        for h in range(back[k], back[k + 1]):
            smallest[k] = min(smallest[k], sizes[holders[h]])
    return sizes, empty, largest, smallest


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """One set per unit, and the way back from an element to the units that hold it.

    ``keys[ptr[u]:ptr[u + 1]]`` are the sorted elements of unit u; ``holders[back[k]:back[k + 1]]`` the units that hold
    element k, ``smallest[k]`` the size of the smallest of them (``NO_HOLDER`` where there is none). Behind both lists
    ``PAD`` further entries mean nothing. An element is a unit at the other end, a layer and a tap, numbered
    ``offset[q] + unit * taps[q] + tap`` for the q-th layer; ``spaces[q]`` is the space at the other end of that layer
    (the context, where its taps have axes). ``sizes`` are the sets', ``largest`` their maximum, ``empty`` says where
    they are 0.
    """

    ptr: Ints
    keys: Units
    back: Ints
    holders: Units
    smallest: Ints
    sizes: Ints
    empty: NDArray[np.bool_]
    largest: int
    offset: tuple[int, ...]
    taps: tuple[int, ...]
    spaces: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many different elements there could be."""
        return len(self.back) - 1

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """All arrays; two sets may share some."""
        return self.ptr, self.keys, self.back, self.holders, self.smallest, self.sizes, self.empty

    def turned(self, spaces: tuple[int, ...]) -> Sets:
        """The sets of the other end, where one layer without taps makes them: those of each element's holders."""
        return _sets(self.back, self.holders, self.ptr, self.keys, (0,), (1,), spaces)


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


def sets_of(size: int, parts: list[Part], taps: tuple[int, ...], spaces: tuple[int, ...]) -> Sets:
    """The sets of the ``size`` units of a space; per layer its part, its taps and the space at its other end."""
    offset = np.concatenate([[0], np.cumsum([part.elements for part in parts], dtype=np.int64)]).astype(np.int64)
    if len(parts) == 1:
        units, keys = parts[0].units, parts[0].keys
    else:
        none: Units = np.zeros(0, dtype=np.uint32)
        units = np.concatenate([none, *(part.units for part in parts)])
        keys = np.concatenate([none, *(part.keys + np.uint32(offset[q]) for q, part in enumerate(parts))])
    ptr, by_unit, back, holders = counted_out(size, int(offset[-1]), units, keys)
    return _sets(ptr, by_unit, back, holders, tuple(offset[:-1].tolist()), taps, spaces)


def _sets(
    ptr: Ints,
    keys: Units,
    back: Ints,
    holders: Units,
    offset: tuple[int, ...],
    taps: tuple[int, ...],
    spaces: tuple[int, ...],
) -> Sets:
    sizes, empty, largest, smallest = described(ptr, back, holders)
    return Sets(ptr, keys, back, holders, smallest, sizes, empty, int(largest), offset, taps, spaces)
