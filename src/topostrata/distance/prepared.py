"""A topology made ready for many comparisons: fan-in and fan-out sets as flat arrays, and the colours of its units.

Everything that a pair needs and that does not depend on the other network is computed here, once per topology, and kept
with it (docs/design/016-prepared-and-fused.md).
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import colours
from topostrata.distance.addresses import places
from topostrata.distance.plan import Plan, plan_of
from topostrata.distance.sets import Part, Sets, Units, ends, fan_in_of, sets_of, with_taps
from topostrata.topology import Layer, Topology, Wiring

Ints = NDArray[np.int64]

SIDE_SLOTS = 9  # of each space in ``Prepared.sides_in_memory``
_COLOURED = "coloured"  # where a network keeps its colours
MOST_BYTES = 512 * 2**20  # of all that is kept; masks, which it holds on to, not counted


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network with its sets and colours, for all alignments but ``identity``.

    Per space in matching order: the ``fan_in`` sets by which ``canonical`` matches it, the ``fan_out`` sets of its
    look-ahead, and ``colours`` (uint64); ``inputs`` and ``outputs``, the sets by all layers into and out of it, also
    self-loops and later entries, which ``overlap`` counts; and its ``places``, the indices of its units on the axes
    that are compared by index (of no length where all or none are). Per row of the distance: ``rows``, the fan-in sets
    that are compared. ``settled`` is False where colours had to be told apart by a choice that storage order may have
    influenced. Colours are computed when something is tied, or otherwise asks for them.
    """

    wiring: Wiring
    digest: str
    sets: _AllSets
    plan: Plan
    sizes: tuple[int, ...]
    fan_in: tuple[Sets, ...]
    fan_out: tuple[Sets, ...]
    inputs: tuple[Sets, ...]
    outputs: tuple[Sets, ...]
    places: tuple[Ints, ...]
    rows: tuple[Sets, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the plan's order."""
        return self.sets.layers

    @cached_property
    def connections(self) -> tuple[int, ...]:
        """Those of each layer."""
        return tuple(layer.nnz for layer in self.layers)

    @property
    def fixed(self) -> tuple[bool, ...]:
        """Which spaces are compared by index."""
        return self.plan.fixed

    @property
    def colours(self) -> tuple[NDArray[np.uint64], ...]:
        """The colours of every space's units."""
        return self._coloured[0]

    @cached_property
    def sorted_colours(self) -> bytes:
        """The colours of all spaces, those of each in order: the same in every copy, however units are stored."""
        return b"".join(np.sort(colours_of).tobytes() for colours_of in self.colours)

    @property
    def settled(self) -> bool:
        """Whether the colours are free of any choice."""
        return self._coloured[1]

    def ordered(self, plan: Plan) -> Prepared:
        """The same with its layers in another order."""
        layers = dict(zip(self.plan.order, self.layers, strict=True))
        return _prepared(self.wiring, self.digest, plan, tuple(layers[k] for k in plan.order))

    @cached_property
    def nbytes(self) -> int:
        """The bytes of the arrays, once all lists are kept, without those of the masks."""
        every = self.sets.known.values()
        lists = {id(sets.lists): 8 * int(sets.ptr[-1]) for sets in every}
        return sum(lists.values()) + sum(sets.nbytes for sets in every) + 16 * sum(self.sizes)

    @cached_property
    def dense(self) -> bool:
        """Whether the units of some space that is matched share so much that they are matched by counts."""
        return any(self.fan_in[problem.spaces[0]].dense for problem in self.plan.problems)

    @cached_property
    def largest(self) -> int:
        """The most elements of a fan-in set."""
        return max(sets.largest for sets in self.fan_in)

    @cached_property
    def most_elements(self) -> int:
        """How many elements any set could have."""
        return max(sets.elements for sets in self.sets.known.values())

    @property
    def places_in_memory(self) -> Ints:
        """Where the arrays lie, for ``fused.compare_pairs``: address and length of each; colours if they are known."""
        return self._with_colours if _COLOURED in vars(self) else self._without_colours

    @cached_property
    def _with_colours(self) -> Ints:
        return self._places(self.colours)

    @cached_property
    def _without_colours(self) -> Ints:
        return self._places([np.zeros(0, dtype=np.uint64)] * len(self.sizes))

    def _places(self, colour: Sequence[NDArray[np.uint64]]) -> Ints:
        table = []
        for sets, out, colours_of in zip(self.fan_in, self.fan_out, colour, strict=True):
            here = sets.keep()
            arrays = here.ptr, here.keys, here.back, here.holders, here.smallest, here.sizes, here.empty
            table += [*places((*arrays, out.ptr, out.keep().keys, colours_of)), (out.elements, 0)]
        for sets in self.rows:
            table += [*places((sets.ptr, sets.keep().keys)), (sets.elements, 0)]
        return np.array(table, dtype=np.int64)

    @cached_property
    def sides_in_memory(self) -> Ints:
        """Where the arrays lie, for ``beliefs``: of each space ``SIDE_SLOTS``, its inputs, its outputs, its places."""
        table = []
        for ins, outs, index in zip(self.inputs, self.outputs, self.places, strict=True):
            for sets in (ins, outs):
                sets.keep()
                table += places((sets.ptr, sets.keys, sets.back, sets.holders))
            table += places((index,))
        return np.array(table, dtype=np.int64)

    @cached_property
    def context_sizes(self) -> Ints:
        """The units of each context of the plan: spaces first."""
        return np.array([math.prod(size for _, size in context) for context in self.plan.contexts], dtype=np.int64)

    @property
    def _coloured(self) -> tuple[tuple[NDArray[np.uint64], ...], bool]:
        # Where two threads compute them, those that were first stay: compiled code may have their addresses already. A
        # cached property keeps the last, from Python 3.12 on.
        known = vars(self)
        if _COLOURED not in known:
            known.setdefault(_COLOURED, colours.colour(_structure(self.sets)))
        coloured: tuple[tuple[NDArray[np.uint64], ...], bool] = known[_COLOURED]
        return coloured


def prepare(topology: Topology, *, fix_output: bool = True, order: tuple[int, ...] | None = None) -> Prepared:
    """The sets of a topology, its layers taken in ``order`` (the standard one where none is handed in).

    They are computed once and kept as long as the topology is there, and among the ``MOST_BYTES`` used last.
    """
    plan = plan_of(topology.wiring, order, fix_output=fix_output)
    return _KEPT.get(topology, plan)


def _prepared(wiring: Wiring, digest: str, plan: Plan, layers: tuple[Layer, ...]) -> Prepared:
    sets = _AllSets(plan, layers)
    return Prepared(
        wiring,
        digest,
        sets,
        plan,
        tuple(space.size for space in plan.spaces),
        tuple(sets.into(s, entering) for s, entering in enumerate(plan.entering)),
        tuple(sets.out_of(s, ahead) for s, ahead in enumerate(plan.ahead)),
        tuple(sets.into(s, incoming) for s, incoming in enumerate(plan.incoming)),
        tuple(sets.out_of(s, seen) for s, seen in enumerate(plan.seen)),
        tuple(_places(plan, s) for s in range(len(plan.spaces))),
        tuple(sets.into(row.space, row.layers) for row in plan.rows),
    )


class _Kept:
    """What was prepared of topologies that are still there: the latest used ones, up to so many bytes.

    A topology is an immutable value, so what follows from it belongs to it; it is kept beside it, not in it, so that
    it can be dropped before it. Safe to use from several threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._of: OrderedDict[tuple[int, int], tuple[weakref.ref[Topology], Plan, Prepared]] = OrderedDict()
        self._lock = threading.RLock()  # a topology may go while one is looked up

    def get(self, topology: Topology, plan: Plan) -> Prepared:
        key = id(topology), id(plan)
        with self._lock:
            if key in self._of:
                self._of.move_to_end(key)
                return self._of[key][2]
        layers = tuple(topology.layers[k] for k in plan.order)
        prepared = _prepared(topology.wiring, topology.digest, plan, layers)
        with self._lock:
            if key not in self._of:
                self._of[key] = weakref.ref(topology, lambda _: self._drop(key)), plan, prepared
                self._bytes += prepared.nbytes
            while self._bytes > self._most and len(self._of) > 2:  # the two that are compared
                self._drop(next(iter(self._of)))
        return prepared

    def _drop(self, key: tuple[int, int]) -> None:
        with self._lock:
            entry = self._of.pop(key, None)
            if entry is not None:
                self._bytes -= entry[2].nbytes


_KEPT = _Kept(MOST_BYTES)


class _AllSets:
    """The sets of a network, each made once."""

    def __init__(self, plan: Plan, layers: tuple[Layer, ...]) -> None:
        self.plan, self.layers = plan, layers
        self.known: dict[tuple[bool, int, tuple[int, ...]], Sets] = {}

    def ends(self, layer: int) -> tuple[Units, Units, Units]:
        """Source, target and tap of a layer's connections."""
        return ends(self.layers[layer])

    def triples(self, layer: int) -> tuple[Ints, Ints, Ints]:
        """The same as numbers that can be calculated with."""
        found = self.layers[layer]
        return found.shape.units_of(found.mask.cells)

    def into(self, space: int, layers: tuple[int, ...]) -> Sets:
        """The fan-in sets of a space by these layers."""
        key = (True, space, layers)
        if key not in self.known:
            plan = self.plan
            contexts = [plan.sources[k] for k in layers]
            taps = tuple(plan.taps[k] for k in layers)
            if len(layers) == 1:
                ((k,), (context,), (tap,)) = layers, contexts, taps
                self.known[key] = fan_in_of(self.layers[k], context, self._size(context) * tap, tap)
                return self.known[key]
            parts = []
            for k, context, tap in zip(layers, contexts, taps, strict=True):
                sources, targets, at_tap = self.ends(k)
                parts.append(Part(targets, with_taps(sources, self.layers[k].taps, at_tap), self._size(context) * tap))
            self.known[key] = sets_of(plan.spaces[space].size, parts, taps, tuple(contexts))
        return self.known[key]

    def out_of(self, space: int, layers: tuple[int, ...]) -> Sets:
        """The fan-out sets of a space by these layers."""
        key = (False, space, layers)
        if key not in self.known:
            plan = self.plan
            targets = tuple(plan.layers[k][1] for k in layers)
            taps = tuple(self.layers[k].taps for k in layers)
            if taps == (1,) and plan.sources[layers[0]] == space:
                self.known[key] = self.into(targets[0], layers).turned(targets)
                return self.known[key]
            parts = []
            for k, target, tap in zip(layers, targets, taps, strict=True):
                units, others, at_tap = self.ends(k)
                parts.append(Part(units, with_taps(others, tap, at_tap), plan.spaces[target].size * tap))
            self.known[key] = sets_of(plan.spaces[space].size, parts, taps, targets)
        return self.known[key]

    def _size(self, context: int) -> int:
        return math.prod(size for _, size in self.plan.contexts[context])


def _structure(sets: _AllSets) -> colours.Structure:
    """All that colours depend on: where the units of each space begin, and the connections of all layers."""
    plan = sets.plan
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
                    [sets.into(s, layers).keep() for layers in (*stages, rest) if layers]
                    + [sets.out_of(s, layers).keep() for layers in (plan.ahead[s], further) if layers]
                ),
                tuple(sets.triples(k) for k in looping),
                plan.exchangeable[s],
            )
        )
    connections = []
    for k, (f, t) in enumerate(plan.layers):
        sources, targets, taps = sets.ends(k)
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


def _tap_code(plan: Plan, layer: int, taps: Units) -> Ints:
    """The number of each tap as far as it is kept in place; of no length where there is one."""
    axes = plan.shapes[layer].tap_axes
    if plan.sources[layer] < len(plan.spaces):
        return taps.astype(np.int64)
    code = np.zeros(len(taps), dtype=np.int64)
    below = plan.shapes[layer].taps
    for axis in axes:
        below //= axis.size
        if axis.fixed:
            code = code * axis.size + taps // below % axis.size
    return code
