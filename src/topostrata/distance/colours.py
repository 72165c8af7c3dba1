"""Colours: a number per unit that depends on the network's structure alone, never on the order of its hidden units.

They break the ties that the fan-in costs leave (docs/design/010-nnstd.md, "Colours"). A colour is refined from its
neighbours' colours, both ways, as in the Weisfeiler-Leman method; relabelling hidden units permutes the colours and
changes nothing else. *Twins*, units with the same fan-in and fan-out sets, keep one colour: they are interchangeable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.kernels import mixed, refine

if TYPE_CHECKING:
    from topostrata.distance.sets import Sets

Colours = NDArray[np.uint64]
Ints = NDArray[np.int64]

_MEND = np.uint64(0xA5A5A5A5A5A5A5A5)
# Refinements spent on proving that the choices made while mending do not matter; beyond, the result is not `settled`.
_EFFORT = 400


def colour(
    sizes: tuple[int, ...], fixed: tuple[bool, ...], fan_in: tuple[Sets, ...], fan_out: tuple[Sets, ...]
) -> tuple[tuple[Colours, ...], bool]:
    """The colours of every space's units, and whether they are free of any arbitrary choice.

    ``fixed`` spaces are compared by index, so their units start with colours of their own.
    """
    network = _Network(sizes, fixed, fan_in, fan_out)
    base, decisions = network.mend(network.start())
    settled = network.choices_do_not_matter(base, decisions)
    return tuple(network.split(base)), settled


class _Network:
    """The edges of all layers in one list, units of all spaces numbered one after the other."""

    def __init__(
        self, sizes: tuple[int, ...], fixed: tuple[bool, ...], fan_in: tuple[Sets, ...], fan_out: tuple[Sets, ...]
    ) -> None:
        self.sizes, self.fixed, self.fan_in, self.fan_out = sizes, fixed, fan_in, fan_out
        self.first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.rounds = 2 * (len(sizes) - 1) + 2
        self.inputs = self._edges(fan_in)
        self.outputs = self._edges(fan_out)
        self.effort = 0

    def _edges(self, sets: tuple[Sets, ...]) -> tuple[Ints, Ints, Colours]:
        """Per edge the unit that collects, the unit at the other end, and the salt of its layer and tap."""
        collects, others, salts = [], [], []
        for s, space_sets in enumerate(sets):
            collects.append(self.first[s] + np.repeat(np.arange(self.sizes[s]), np.diff(space_sets.ptr)))
            layer = np.searchsorted(np.asarray(space_sets.offset, dtype=np.int64), space_sets.keys, side="right") - 1
            taps, offset, spaces = (
                np.asarray(per_layer, dtype=np.int64)[layer]
                for per_layer in (space_sets.taps, space_sets.offset, space_sets.spaces)
            )
            local = space_sets.keys.astype(np.int64) - offset
            others.append(self.first[spaces] + local // taps)
            ordinal = (layer.astype(np.int64) << 32) + local % taps
            salts.append(np.where(ordinal == 0, np.uint64(0), mixed(ordinal.astype(np.uint64))))
        return np.concatenate(collects), np.concatenate(others), np.concatenate(salts)

    def start(self) -> Colours:
        parts = [
            np.uint64((s + 1) << 32) + (np.arange(1, n + 1, dtype=np.uint64) if fixed else np.zeros(n, dtype=np.uint64))
            for s, (n, fixed) in enumerate(zip(self.sizes, self.fixed, strict=True))
        ]
        return self.refine(np.concatenate(parts))

    def refine(self, colours: Colours) -> Colours:
        self.effort += 1
        refined: Colours = refine(colours, self.rounds, *self.inputs, *self.outputs)
        return refined

    def split(self, colours: Colours) -> list[Colours]:
        return [colours[self.first[s] : self.first[s + 1]] for s in range(len(self.sizes))]

    def mend(self, colours: Colours) -> tuple[Colours, list[tuple[Colours, list[Ints]]]]:
        """Tell units apart that share a colour without being twins; with the choices that this took."""
        decisions = []
        while (classes := self.mixed_colour(colours)) is not None:
            decisions.append((colours, classes))
            colours = self.choose(colours, classes[0])
        return colours, decisions

    def choose(self, colours: Colours, units: Ints) -> Colours:
        changed = colours.copy()
        changed[units] ^= _MEND
        return self.refine(changed)

    def mixed_colour(self, colours: Colours) -> list[Ints] | None:
        """The twin classes of the lowest space's smallest colour that holds more than one, or None."""
        for s, part in enumerate(self.split(colours)):
            if self.fixed[s] or len(part) < 2:
                continue
            order = np.argsort(part, kind="stable")
            for group in _runs(part[order]):
                units = order[group]
                classes: dict[tuple[bytes, bytes], list[int]] = {}
                for unit in units.tolist():
                    classes.setdefault(self._wires(s, unit), []).append(unit)
                if len(classes) > 1:
                    return [np.asarray(members) + self.first[s] for members in classes.values()]
        return None

    def _wires(self, space: int, unit: int) -> tuple[bytes, bytes]:
        inputs, outputs = self.fan_in[space], self.fan_out[space]
        return (
            inputs.keys[inputs.ptr[unit] : inputs.ptr[unit + 1]].tobytes(),
            outputs.keys[outputs.ptr[unit] : outputs.ptr[unit + 1]].tobytes(),
        )

    def choices_do_not_matter(self, base: Colours, decisions: list[tuple[Colours, list[Ints]]]) -> bool:
        """Whether every other choice leads to the same coloured network, shown by an isomorphism between the two.

        One other outcome per alternative is enough: an isomorphism carries the outcomes below one choice onto those
        below the other.
        """
        if not decisions:
            return True
        if sum(len(classes) - 1 for _, classes in decisions) * (len(decisions) + 1) > _EFFORT:
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
        collects, others, salts = self.inputs
        edges = np.stack([rank[collects], rank[others], salts.view(np.int64)])
        return colours[order], edges[:, np.lexsort(edges)]


def _runs(values: Colours) -> Iterator[slice]:
    """The stretches of a sorted array that hold one value more than once."""
    cuts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(values)]])
    for k in np.flatnonzero(np.diff(cuts) > 1).tolist():
        yield slice(int(cuts[k]), int(cuts[k + 1]))


def _same(form: tuple[Colours, Ints], other: tuple[Colours, Ints]) -> bool:
    return bool(np.array_equal(form[0], other[0]) and np.array_equal(form[1], other[1]))
