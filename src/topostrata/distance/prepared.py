"""A topology made ready for many comparisons: fan-in and fan-out sets as flat arrays, and the colours of its units.

Everything that a pair needs and that does not depend on the other network is computed here, once per topology.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import colours
from topostrata.distance.kernels import PAD
from topostrata.distance.wiring import Wiring, wiring_of
from topostrata.topology import Mask, Topology

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """One set per unit, and the way back from an element to the units that hold it.

    ``keys[ptr[u]:ptr[u + 1]]`` are the sorted elements of unit u; ``holders[back[k]:back[k + 1]]`` the units that hold
    element k (some further entries mean nothing), ``smallest[k]`` the size of the smallest of them (2^31 where there is
    none). An element is a unit at the other end, a layer and a tap, numbered ``offset[q] + unit * taps[q] + tap`` for
    the q-th layer; ``spaces[q]`` is the space at the other end of that layer. ``sizes`` are the sets', ``largest``
    their maximum, ``empty`` says where they are 0.
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
class Prepared:
    """A topology with its sets and colours, for ``canonical`` and ``refined``.

    Per space in matching order: ``kept`` (compared by index), ``fan_in`` and ``fan_out`` sets, ``colours`` (uint64).
    ``settled`` is False where colours had to be told apart by a choice that storage order may have influenced.
    """

    topology: Topology
    digest: str
    wiring: Wiring
    fix_output: bool
    sizes: tuple[int, ...]
    kept: tuple[bool, ...]
    fan_in: tuple[Sets, ...]
    fan_out: tuple[Sets, ...]
    colours: tuple[NDArray[np.uint64], ...]
    settled: bool


def prepare(topology: Topology, *, fix_output: bool = True) -> Prepared:
    """The sets and colours of a topology."""
    bare = prepare_sets(topology, fix_output=fix_output)
    found, settled = colours.colour(bare.sizes, bare.kept, bare.fan_in, bare.fan_out)
    return replace(bare, colours=found, settled=settled)


def prepare_sets(topology: Topology, *, fix_output: bool = True) -> Prepared:
    """The sets of a topology without the colours, which only ties need."""
    wiring = wiring_of(topology)
    sizes = tuple(space.size for space in wiring.spaces)
    kept = tuple(wiring.keeps_place(s, fix_output=fix_output) for s in range(len(sizes)))
    masks = [layer.mask for layer in topology.layers]
    fan_in = tuple(
        _sets(
            sizes[s],
            [_Part(masks[k].targets, masks[k].keys, masks[k].stride) for k in layers],
            tuple(masks[k].taps for k in layers),
            tuple(wiring.layers[k][0] for k in layers),
        )
        for s, layers in enumerate(wiring.incoming)
    )
    fan_out = tuple(
        _sets(
            sizes[s],
            [_outgoing(masks[k]) for k in layers],
            tuple(masks[k].taps for k in layers),
            tuple(wiring.layers[k][1] for k in layers),
        )
        for s, layers in enumerate(wiring.outgoing)
    )
    return Prepared(topology, topology.digest, wiring, fix_output, sizes, kept, fan_in, fan_out, (), settled=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The memberships that one layer contributes: unit ``units[e]`` holds element ``keys[e]`` of ``elements``."""

    units: Ints
    keys: Ints
    elements: int


def _outgoing(mask: Mask) -> _Part:
    return _Part(mask.sources, mask.targets * mask.taps + mask.tap_indices, mask.n_target * mask.taps)


def _sets(size: int, parts: list[_Part], taps: tuple[int, ...], spaces: tuple[int, ...]) -> Sets:
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
    held = back[:-1] < back[1:]
    smallest = np.full(elements, 2**31, dtype=np.int64)
    if held.any():
        smallest[held] = np.minimum.reduceat(sizes[holders], back[:-1][held])
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
