"""A topology made ready for many comparisons: fan-in and fan-out sets as flat arrays, and the colours of its units.

Everything that a pair needs and that does not depend on the other network is computed here, once per topology.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import colours
from topostrata.distance.sets import Part, Sets, sets_of
from topostrata.distance.wiring import Wiring, wiring_of
from topostrata.topology import Mask, Topology

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A topology with its sets and colours, for ``canonical`` and ``refined``.

    Per space in matching order: ``fixed`` (compared by index), ``fan_in`` and ``fan_out`` sets, ``colours`` (uint64).
    ``settled`` is False where colours had to be told apart by a choice that storage order may have influenced.
    """

    topology: Topology
    digest: str
    wiring: Wiring
    fix_output: bool
    sizes: tuple[int, ...]
    fixed: tuple[bool, ...]
    fan_in: tuple[Sets, ...]
    fan_out: tuple[Sets, ...]
    colours: tuple[NDArray[np.uint64], ...]
    settled: bool


def prepare(topology: Topology, *, fix_output: bool = True) -> Prepared:
    """The sets and colours of a topology."""
    bare = prepare_sets(topology, fix_output=fix_output)
    colour, settled = colours.colour(bare.sizes, bare.fixed, bare.fan_in, bare.fan_out)
    return replace(bare, colours=colour, settled=settled)


def prepare_sets(topology: Topology, *, fix_output: bool = True) -> Prepared:
    """The sets of a topology without the colours, which only ties need."""
    wiring = wiring_of(topology)
    sizes = tuple(space.size for space in wiring.spaces)
    fixed = tuple(wiring.keeps_place(s, fix_output=fix_output) for s in range(len(sizes)))
    masks = [layer.mask for layer in topology.layers]
    fan_in = tuple(
        sets_of(
            sizes[s],
            [Part(masks[k].targets, masks[k].keys, masks[k].stride) for k in layers],
            tuple(masks[k].taps for k in layers),
            tuple(wiring.layers[k][0] for k in layers),
        )
        for s, layers in enumerate(wiring.incoming)
    )
    fan_out = tuple(
        sets_of(
            sizes[s],
            [_outgoing(masks[k]) for k in layers],
            tuple(masks[k].taps for k in layers),
            tuple(wiring.layers[k][1] for k in layers),
        )
        for s, layers in enumerate(wiring.outgoing)
    )
    return Prepared(topology, topology.digest, wiring, fix_output, sizes, fixed, fan_in, fan_out, (), settled=True)


def _outgoing(mask: Mask) -> Part:
    return Part(mask.sources, mask.targets * mask.taps + mask.tap_indices, mask.n_target * mask.taps)
