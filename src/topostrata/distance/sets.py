"""One set per unit as flat arrays: the fan-in or fan-out sets of a space's units, and who holds which element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.kernels import PAD

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """One set per unit, and the way back from an element to the units that hold it.

    ``keys[ptr[u]:ptr[u + 1]]`` are the sorted elements of unit u; ``holders[back[k]:back[k + 1]]`` the units that hold
    element k (some further entries mean nothing), ``smallest[k]`` the size of the smallest of them (2^31 where there is
    none). An element is a unit at the other end, a layer and a tap, numbered ``offset[q] + unit * taps[q] + tap`` for
    the q-th layer; ``spaces[q]`` is the space at the other end of that layer (the context, where its taps have axes).
    ``sizes`` are the sets', ``largest`` their maximum, ``empty`` says where they are 0.
    """

    ptr: Ints
    keys: NDArray[np.uint32]
    back: Ints
    holders: NDArray[np.uint32]
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


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The memberships that one layer contributes: unit ``units[e]`` holds element ``keys[e]`` of ``elements``."""

    units: Ints
    keys: Ints
    elements: int


def sets_of(size: int, parts: list[Part], taps: tuple[int, ...], spaces: tuple[int, ...]) -> Sets:
    """The sets of the ``size`` units of a space; per layer its part, its taps and the space at its other end."""
    offset = np.concatenate([[0], np.cumsum([part.elements for part in parts], dtype=np.int64)]).astype(np.int64)
    empty = np.zeros(0, dtype=np.int64)
    units = np.concatenate([empty, *(part.units for part in parts)])
    keys = np.concatenate([empty, *(part.keys + offset[q] for q, part in enumerate(parts))])
    elements = int(offset[-1])
    by_unit = np.argsort(units * max(elements, 1) + keys, kind="stable")
    by_key = np.argsort(keys * size + units, kind="stable")
    ptr = _pointers(units, size)
    sizes = np.diff(ptr)
    back, holders = _pointers(keys, elements), units[by_key]
    in_use = back[:-1] < back[1:]
    smallest = np.full(elements, 2**31, dtype=np.int64)
    if in_use.any():
        smallest[in_use] = np.minimum.reduceat(sizes[holders], back[:-1][in_use])
    return Sets(
        ptr=ptr,
        keys=keys[by_unit].astype(np.uint32),
        back=back,
        holders=np.append(holders, np.zeros(PAD, dtype=np.int64)).astype(np.uint32),
        smallest=smallest,
        sizes=sizes,
        empty=sizes == 0,
        largest=int(sizes.max()),
        offset=tuple(offset[:-1].tolist()),
        taps=taps,
        spaces=spaces,
    )


def _pointers(numbers: Ints, size: int) -> Ints:
    return np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=size))]).astype(np.int64)
