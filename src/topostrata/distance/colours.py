"""Colours: a number per unit that depends on the network's structure alone, never on the order of its hidden units.

They break the ties that the fan-in costs leave (docs/design/010-nnstd.md, "Colours"). A colour is refined from its
neighbours' colours, both ways, as in the Weisfeiler-Leman method; relabelling hidden units permutes the colours and
changes nothing else. *Twins*, units with the same fan-in and fan-out sets, keep one colour: they are interchangeable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.kernels import differ, mixed, refine
from topostrata.distance.mending import CHOSEN, Mixed, choose

if TYPE_CHECKING:
    from topostrata.distance.sets import Sets

Colours = NDArray[np.uint64]
Ints = NDArray[np.int64]

# Refinements spent on proving that the choices made while mending do not matter; beyond, the result is not `settled`.
_EFFORT = 400


@dataclass(frozen=True, slots=True, eq=False)
class Connections:
    """The connections of one layer: the places of its two spaces, source and target units, taps as colours see them.

    ``taps`` are of no length where the layer has one. The layer is the ``nth_out`` of those that leave its source, and
    the ``nth_in`` of those that enter its target.
    """

    source: int
    target: int
    sources: NDArray[np.uint32]
    targets: NDArray[np.uint32]
    taps: Ints
    nth_out: int
    nth_in: int


@dataclass(frozen=True, slots=True, eq=False)
class Wires:
    """What tells the units of a space apart: sets that hold every connection but those of self-loops, and these.

    A self-loop is ``(sources, targets, taps)`` of its connections. Only units of one ``block`` (of so many neighbours)
    can change places.
    """

    sets: tuple[Sets, ...]
    loops: tuple[tuple[Ints, Ints, Ints], ...]
    block: int


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A network as its colours see it.

    ``starts`` are the first colours by space; ``wires`` those of the spaces with units that can change places alone,
    None for the others. ``simple``: in every space all units can, or none.
    """

    starts: Sequence[Colours]
    connections: Sequence[Connections]
    wires: Sequence[Wires | None]
    rounds: int
    simple: bool


def colour(structure: Structure) -> tuple[tuple[Colours, ...], bool]:
    """The colours of every space's units, and whether they are free of any arbitrary choice."""
    network = _Network(structure)
    base, decisions = network.mend(network.start())
    settled = network.choices_do_not_matter(base, decisions)
    return tuple(network.split(base)), settled


class _Network:
    """The edges of all layers in one list, units of all spaces numbered one after the other."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.sizes = [len(start) for start in structure.starts]
        self.first = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        none = np.zeros(0, dtype=np.uint32)
        first = self.first.astype(np.uint32)
        self.sources = np.concatenate([none, *(first[c.source] + c.sources for c in structure.connections)])
        self.targets = np.concatenate([none, *(first[c.target] + c.targets for c in structure.connections)])
        self.salts_in = _salts([(c.nth_in, c) for c in structure.connections])
        self.salts_out = _salts([(c.nth_out, c) for c in structure.connections])
        self.twins = np.full(self.first[-1], -1, dtype=np.int64)  # the first unit of each one's class, where known
        self.effort = 0

    def start(self) -> Colours:
        return self.refine(np.concatenate(list(self.structure.starts)))

    def refine(self, colours: Colours) -> Colours:
        self.effort += 1
        refined: Colours = refine(colours, self.structure.rounds, *self.edges)
        return refined

    def split(self, colours: Colours) -> list[Colours]:
        return [colours[self.first[s] : self.first[s + 1]] for s in range(len(self.sizes))]

    def mend(self, colours: Colours) -> tuple[Colours, list[tuple[Colours, list[Ints]]]]:
        """Tell units apart that share a colour without being twins; with the choices that this took.

        With the first of them alone, where they are too many to be proven.
        """
        decisions: list[tuple[Colours, list[Ints]]] = []
        while len((mixed := self.mixed(colours)).units):
            while len(mixed.units) and _provable(decisions):
                classes = mixed.first(colours)
                decisions.append((colours, classes))
                colours = self.choose(colours, classes[0])
                mixed = mixed.narrowed(colours)
            if len(mixed.units):
                colours, choices = choose(colours, mixed, self.structure.rounds, self.edges, self.known())
                self.effort += choices
        return colours, decisions

    @property
    def edges(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32], Colours, Colours]:
        return self.sources, self.targets, self.salts_in, self.salts_out

    def known(self) -> list[slice]:
        """The places of the spaces all of whose units have a first colour of their own."""
        return [
            slice(self.first[s], self.first[s + 1])
            for s, start in enumerate(self.structure.starts)
            if len(start) > 1 and len(np.unique(start)) == len(start)
        ]

    def choose(self, colours: Colours, units: Ints) -> Colours:
        changed = colours.copy()
        changed[units] ^= CHOSEN
        return self.refine(changed)

    def mixed(self, colours: Colours) -> Mixed:
        """The units that share their colour with units that are not their twins."""
        rows = [np.zeros((4, 0), dtype=np.int64)]
        for s, (part, wires) in enumerate(zip(self.split(colours), self.structure.wires, strict=True)):
            if wires is None or len(part) < 2:
                continue
            if not wires.loops and self._all_are_twins(part, wires):
                continue  # as nearly always
            order = np.argsort(part, kind="stable")
            for group in _runs(part[order]):
                units = order[group]
                blocks = units // wires.block
                for block in np.unique(blocks).tolist():
                    self.know_twins(s, wires, units[blocks == block])
                known = self.first[s] + units
                rows.append(np.stack([np.full(len(units), s), blocks, self.twins[known], known]))
        return Mixed(*np.concatenate(rows, axis=1)).narrowed(colours)

    @staticmethod
    def _all_are_twins(colours: Colours, wires: Wires) -> bool:
        """Whether all units of one colour are. Their order does not matter here: NumPy finds one in half the time."""
        order = np.argsort(colours)
        return not any(differ(colours, order, sets.ptr, sets.keys) for sets in wires.sets)

    def know_twins(self, space: int, wires: Wires, units: Ints) -> None:
        """Find the classes of twins of units of one colour, once: twins keep one colour whatever is chosen."""
        first = self.first[space]
        if (self.twins[first + units] < 0).any():
            for members in _twins(wires, units):
                self.twins[first + np.asarray(members)] = first + members[0]

    def choices_do_not_matter(self, base: Colours, decisions: list[tuple[Colours, list[Ints]]]) -> bool:
        """Whether every other choice leads to the same coloured network, shown by an isomorphism between the two.

        One other outcome per alternative is enough: an isomorphism carries the outcomes below one choice onto those
        below the other.
        """
        if not decisions:
            return True
        if not self.structure.simple:  # the isomorphism that is looked for below knows nothing of axes
            return False
        if not _provable(decisions):
            return False
        form = self.form(base)
        for before, classes in decisions:
            for other in classes[1:]:
                if self.effort > _EFFORT or not _same(form, self.form(self.mend(self.choose(before, other))[0])):
                    return False
        return True

    def form(self, colours: Colours) -> tuple[Colours, Ints]:
        """The colours in order, and the edges with their units renamed by that order."""
        rank = np.empty(len(colours), dtype=np.int64)
        orders = [self.first[s] + np.argsort(part, kind="stable") for s, part in enumerate(self.split(colours))]
        order = np.concatenate(orders)
        rank[order] = np.arange(len(order))
        salts = self.salts_in.view(np.int64) if len(self.salts_in) else np.zeros(len(self.sources), dtype=np.int64)
        edges = np.stack([rank[self.targets], rank[self.sources], salts])
        return colours[order], edges[:, np.lexsort(edges)]


def _provable(decisions: list[tuple[Colours, list[Ints]]]) -> bool:
    return sum(len(classes) - 1 for _, classes in decisions) * (len(decisions) + 1) <= _EFFORT


def _salts(layers: Sequence[tuple[int, Connections]]) -> Colours:
    """Per connection the salt of its layer, which is the nth, and tap; of no length where all are 0."""
    if not any(nth or len(layer.taps) for nth, layer in layers):
        return np.zeros(0, dtype=np.uint64)
    salts = []
    for nth, layer in layers:
        number = np.full(len(layer.sources), nth << 32, dtype=np.int64)
        if len(layer.taps):
            number += layer.taps
        salts.append(np.where(number == 0, np.uint64(0), mixed(number.astype(np.uint64))))
    return np.concatenate(salts)


def _twins(wires: Wires, units: Ints) -> list[list[int]]:
    """The units in classes of which any two can change places and the network stays the same."""
    alike: dict[tuple[bytes, ...], list[int]] = {}
    for unit in units.tolist():
        elements = tuple(sets.keys[sets.ptr[unit] : sets.ptr[unit + 1]].tobytes() for sets in wires.sets)
        alike.setdefault(elements, []).append(unit)
    if not wires.loops:
        return list(alike.values())
    loops = _Loops(wires.loops, units)
    classes: list[list[int]] = []
    for members in alike.values():
        own: list[list[int]] = []
        for unit in members:
            same = next((twins for twins in own if loops.exchange(twins[0], unit)), None)
            if same is None:
                own.append([unit])
            else:
                same.append(unit)
        classes += own
    return sorted(classes)


class _Loops:
    """The self-loops at some units of a space."""

    def __init__(self, loops: Sequence[tuple[Ints, Ints, Ints]], units: Ints) -> None:
        self.ends: dict[int, set[tuple[int, int, int, int]]] = {unit: set() for unit in units.tolist()}
        for q, (sources, targets, taps) in enumerate(loops):
            near = np.isin(sources, units) | np.isin(targets, units)
            for f, t, tap in zip(sources[near].tolist(), targets[near].tolist(), taps[near].tolist(), strict=True):
                for unit in {f, t} & self.ends.keys():
                    self.ends[unit].add((q, f, t, tap))

    def exchange(self, u: int, v: int) -> bool:
        """Whether the loops stay the same when two units change places."""
        if len(self.ends[u]) != len(self.ends[v]):
            return False
        turned = {u: v, v: u}
        moved = {(q, turned.get(f, f), turned.get(t, t), tap) for q, f, t, tap in self.ends[u]}
        return moved == self.ends[v]


def _runs(values: Colours) -> Iterator[slice]:
    """The stretches of a sorted array that hold one value more than once."""
    cuts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(values)]])
    for k in np.flatnonzero(np.diff(cuts) > 1).tolist():
        yield slice(int(cuts[k]), int(cuts[k + 1]))


def _same(form: tuple[Colours, Ints], other: tuple[Colours, Ints]) -> bool:
    return bool(np.array_equal(form[0], other[0]) and np.array_equal(form[1], other[1]))
