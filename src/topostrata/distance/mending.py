"""Units that share a colour without being twins, told apart one choice after the other.

By definition each choice refines all colours anew. Very sparse layers fall into thousands of equal components, each of
which takes a choice: here only what shows a choice is refined after it, and all else once, when the last one is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from topostrata.distance.kernels import refine

Colours = NDArray[np.uint64]
Ints = NDArray[np.int64]
Units = NDArray[np.uint32]
Edges = tuple[Units, Units, Colours, Colours]  # as ``kernels.refine`` takes them

_NO_EDGES: Edges = (*(np.zeros(0, dtype=np.uint32),) * 2, *(np.zeros(0, dtype=np.uint64),) * 2)
CHOSEN = np.uint64(0xA5A5A5A5A5A5A5A5)


@dataclass(frozen=True, slots=True, eq=False)
class Mixed:
    """Units that share space, colour and block with units that are not their twins, in the order of choosing.

    ``twins`` is the first unit of each one's class of twins. Refining splits these groups and joins none, so after a
    choice no others need to be looked at.
    """

    spaces: Ints
    blocks: Ints
    twins: Ints
    units: Ints

    def narrowed(self, colours: Colours) -> Mixed:
        """Those that are still mixed."""
        n = len(self.units)
        if not n:
            return self
        colour = colours[self.units]
        order = np.lexsort((self.units, self.twins, self.blocks, colour, self.spaces))
        in_order = Mixed(self.spaces[order], self.blocks[order], self.twins[order], self.units[order])
        begins = np.concatenate([[0], in_order.ends(colour[order])])
        lengths = np.diff(begins)
        apart = in_order.twins[begins[:-1]] != in_order.twins[begins[1:] - 1]
        keep = np.repeat(apart, lengths)
        return Mixed(*(row[keep] for row in (in_order.spaces, in_order.blocks, in_order.twins, in_order.units)))

    def ends(self, colour: Colours) -> Ints:
        """Where each stretch of one space, colour and block ends."""
        last = np.ones(len(colour), dtype=np.bool_)
        last[:-1] = False
        for row in (self.spaces, self.blocks, colour):
            last[:-1] |= row[1:] != row[:-1]
        return np.flatnonzero(last) + 1

    def first(self, colours: Colours) -> list[Ints]:
        """The classes of twins in the lowest space's smallest colour."""
        end = int(self.ends(colours[self.units])[0])
        cuts = np.flatnonzero(np.diff(self.twins[:end])) + 1
        return np.split(self.units[:end], cuts)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some units that have connections, and all of these connections: ends are places among the units."""

    units: Ints
    edges: Edges

    def refine(self, colours: Colours, rounds: int) -> None:
        colours[self.units] = refine(colours[self.units], rounds, *self.edges)

    def only(self, wanted: NDArray[np.bool_]) -> _Part:
        """The part of these units; a connection lies within it or outside of it."""
        place = (np.cumsum(wanted) - 1).astype(np.uint32)
        sources, targets, *salts = self.edges
        here = wanted[sources]
        salts_in, salts_out = (salt[here] if len(salt) else salt for salt in salts)
        return _Part(self.units[wanted], (place[sources[here]], place[targets[here]], salts_in, salts_out))


def choose(colours: Colours, mixed: Mixed, rounds: int, edges: Edges, known: Sequence[slice]) -> tuple[Colours, int]:
    """The colours when nothing is mixed any more, and how many choices that took.

    In the spaces at ``known`` every unit has had a colour of its own from the start. Without connections it keeps that
    one: it is compared by index, and no other colour depends on it.
    """
    colours, n = colours.copy(), len(colours)
    sources, targets = edges[:2]
    ends = csr_array((np.ones(len(sources)), (sources, targets)), shape=(n, n))
    component = connected_components(ends, directed=False)[1]
    alone = np.ones(n, dtype=np.bool_)
    alone[sources] = alone[targets] = False
    part, chosen = _Part(np.arange(n), edges).only(~alone), 0
    late: list[tuple[_Part, int]] = []
    while len(mixed.units):
        wanted = np.zeros(n, dtype=np.bool_)
        wanted[component[mixed.units]] = True
        wanted = wanted[component[part.units]]
        if 2 * np.count_nonzero(wanted) <= len(wanted):
            late.append((part.only(~wanted), chosen))
            part = part.only(wanted)
        colours[mixed.first(colours)[0]] ^= CHOSEN
        part.refine(colours, rounds)
        chosen += 1
        mixed = mixed.narrowed(colours)
    for other, before in late:
        other.refine(colours, (chosen - before) * rounds)
    for space in known:
        alone[space] = False
    # Few colours remain: one for each space and each place on axes that are kept.
    values, which = np.unique(colours[alone], return_inverse=True)
    colours[alone] = refine(values, chosen * rounds, *_NO_EDGES)[which]
    return colours, chosen
