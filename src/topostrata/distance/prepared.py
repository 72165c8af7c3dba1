"""A topology made ready for many comparisons: fan-in and fan-out sets as flat arrays, and the colours of its units.

Everything that a pair needs and that does not depend on the other network is computed here, once per topology.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import colours
from topostrata.distance.plan import Plan, plan_of
from topostrata.distance.sets import Part, Sets, sets_of
from topostrata.topology import Layer, Topology

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A topology with its sets and colours, for ``canonical``, ``overlap`` and ``refined``.

    Per space in matching order: the ``fan_in`` sets by which ``canonical`` matches it, the ``fan_out`` sets of its
    look-ahead, and ``colours`` (uint64); ``inputs`` and ``outputs``, the sets by all layers into and out of it, also
    self-loops and later entries, which ``overlap`` counts; and its ``places``, the indices of its units on the axes
    that are compared by index (of no length where all or none are). Per row of the distance: ``rows``, the fan-in sets
    that are compared. ``settled`` is False where colours had to be told apart by a choice that storage order may have
    influenced.
    """

    topology: Topology
    digest: str
    plan: Plan
    fix_output: bool
    sizes: tuple[int, ...]
    fan_in: tuple[Sets, ...]
    fan_out: tuple[Sets, ...]
    inputs: tuple[Sets, ...]
    outputs: tuple[Sets, ...]
    places: tuple[Ints, ...]
    rows: tuple[Sets, ...]
    colours: tuple[NDArray[np.uint64], ...]
    settled: bool

    @property
    def fixed(self) -> tuple[bool, ...]:
        """Which spaces are compared by index."""
        return self.plan.fixed


def prepare(topology: Topology, *, fix_output: bool = True, order: tuple[int, ...] | None = None) -> Prepared:
    """The sets and colours of a topology, its layers taken in ``order`` (the standard one where none is handed in)."""
    bare, sets = _bare(topology, fix_output=fix_output, order=order)
    colour, settled = colours.colour(_structure(bare.plan, sets))
    return replace(bare, colours=colour, settled=settled)


def prepare_sets(topology: Topology, *, fix_output: bool = True, order: tuple[int, ...] | None = None) -> Prepared:
    """The sets of a topology without the colours, which only ties need."""
    return _bare(topology, fix_output=fix_output, order=order)[0]


def _bare(topology: Topology, *, fix_output: bool, order: tuple[int, ...] | None) -> tuple[Prepared, _AllSets]:
    plan = plan_of(topology.wiring, order, fix_output=fix_output)
    sets = _AllSets(plan, [topology.layers[k] for k in plan.order])
    prepared = Prepared(
        topology,
        topology.digest,
        plan,
        fix_output,
        tuple(space.size for space in plan.spaces),
        tuple(sets.into(s, layers) for s, layers in enumerate(plan.entering)),
        tuple(sets.out_of(s, layers) for s, layers in enumerate(plan.ahead)),
        tuple(sets.into(s, layers) for s, layers in enumerate(plan.incoming)),
        tuple(sets.out_of(s, layers) for s, layers in enumerate(plan.seen)),
        tuple(_places(plan, s) for s in range(len(plan.spaces))),
        tuple(sets.into(row.space, row.layers) for row in plan.rows),
        (),
        settled=True,
    )
    return prepared, sets


class _AllSets:
    """The sets of a network, each made once."""

    def __init__(self, plan: Plan, layers: list[Layer]) -> None:
        self.plan = plan
        self.units = [layer.shape.units_of(layer.mask.cells) for layer in layers]
        self.taps = [layer.taps for layer in layers]
        self.known: dict[tuple[bool, int, tuple[int, ...]], Sets] = {}

    def into(self, space: int, layers: tuple[int, ...]) -> Sets:
        """The fan-in sets of a space by these layers."""
        key = (True, space, layers)
        if key not in self.known:
            plan = self.plan
            contexts = [plan.sources[k] for k in layers]
            taps = [plan.taps[k] for k in layers]
            parts = [
                Part(self.units[k][1], self.units[k][0] * self.taps[k] + self.units[k][2], self._size(context) * tap)
                for k, context, tap in zip(layers, contexts, taps, strict=True)
            ]
            self.known[key] = sets_of(plan.spaces[space].size, parts, tuple(taps), tuple(contexts))
        return self.known[key]

    def out_of(self, space: int, layers: tuple[int, ...]) -> Sets:
        """The fan-out sets of a space by these layers."""
        key = (False, space, layers)
        if key not in self.known:
            plan = self.plan
            targets = [plan.layers[k][1] for k in layers]
            taps = [self.taps[k] for k in layers]
            parts = [
                Part(self.units[k][0], self.units[k][1] * tap + self.units[k][2], plan.spaces[t].size * tap)
                for k, t, tap in zip(layers, targets, taps, strict=True)
            ]
            self.known[key] = sets_of(plan.spaces[space].size, parts, tuple(taps), tuple(targets))
        return self.known[key]

    def _size(self, context: int) -> int:
        return math.prod(size for _, size in self.plan.contexts[context])


def _structure(plan: Plan, sets: _AllSets) -> colours.Structure:
    """All that colours depend on: where the units of each space begin, and the connections of all layers."""
    starts = [_start(plan, s) for s in range(len(plan.spaces))]
    loops = [[k for k in layers if plan.layers[k][1] == s] for s, layers in enumerate(plan.outgoing)]
    wires: list[colours.Wires | None] = []
    for s, looping in enumerate(loops):
        if not plan.exchangeable[s]:
            wires.append(None)
            continue
        apart = tuple(k for k in plan.incoming[s] if k not in looping)
        # The rows hold most of it already.
        stages = [row.layers for row in plan.rows if row.space == s and not {*row.layers} & {*looping}]
        rest = tuple(k for k in apart if not any(k in stage for stage in stages))
        further = tuple(k for k in plan.outgoing[s] if k not in looping and k not in plan.ahead[s])
        wires.append(
            colours.Wires(
                tuple(
                    [sets.into(s, layers) for layers in (*stages, rest) if layers]
                    + [sets.out_of(s, layers) for layers in (plan.ahead[s], further) if layers]
                ),
                tuple(sets.units[k] for k in looping),
                plan.exchangeable[s],
            )
        )
    connections = []
    for k, (f, t) in enumerate(plan.layers):
        sources, targets, taps = sets.units[k]
        code = _tap_code(plan, k, taps)
        connections.append(
            colours.Connections(f, t, sources, targets, code, plan.outgoing[f].index(k), plan.incoming[t].index(k))
        )
    return colours.Structure(starts, connections, wires, plan.rounds, _simple(plan))


def _simple(plan: Plan) -> bool:
    return all(
        fixed or apart == space.size
        for fixed, apart, space in zip(plan.fixed, plan.exchangeable, plan.spaces, strict=True)
    )


def _start(plan: Plan, space: int) -> NDArray[np.uint64]:
    """The first colours of a space: its place, and the index by the axes that are kept in place."""
    staying = plan.fixed[space] or any(plan.stays(axis) for axis, _ in plan.contexts[space])
    return np.uint64((space + 1) << 32) + (_index(plan, space) + staying).astype(np.uint64)


def _places(plan: Plan, space: int) -> Ints:
    """The index of each unit by the axes that are kept in place, where some are and others are not."""
    some = not plan.fixed[space] and any(plan.stays(axis) for axis, _ in plan.contexts[space])
    return _index(plan, space) if some else np.zeros(0, dtype=np.int64)


def _index(plan: Plan, space: int) -> Ints:
    below = plan.spaces[space].size
    units = np.arange(below)
    index = np.zeros(below, dtype=np.int64)
    for axis, length in plan.contexts[space]:
        below //= length
        if plan.stays(axis):
            index = index * length + units // below % length
    return index


def _tap_code(plan: Plan, layer: int, taps: Ints) -> Ints:
    """The number of each tap as far as it is kept in place."""
    axes = plan.shapes[layer].tap_axes
    if plan.sources[layer] < len(plan.spaces):
        return taps
    code = np.zeros(len(taps), dtype=np.int64)
    below = plan.shapes[layer].taps
    for axis in axes:
        below //= axis.size
        if axis.fixed:
            code = code * axis.size + taps // below % axis.size
    return code
