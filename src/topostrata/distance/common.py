"""The connections that two networks have in common, once it is known which unit of one is which of the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.partners import Partners, coordinates
from topostrata.distance.plan import Plan
from topostrata.topology import Layer, Topology

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def counterparts(a: Layer, b: Layer, elements: Ints, mine: Ints, *, joint: bool) -> Ints:
    """For each connection of A's layer the place of the same one among those of B's layer, -1 where B has it not.

    ``elements`` are the partners of A's source units (``joint``: of sources with their taps), ``mine`` those of its
    target units, -1 where there is none.
    """
    sources, targets, taps = a.shape.units_of(a.mask.cells)
    if joint:
        there = elements[sources * a.taps + taps]
        there, taps = np.where(there < 0, -1, there // b.taps), there % b.taps
    else:
        there = elements[sources]
    known = (there >= 0) & (mine[targets] >= 0)
    cells = b.shape.cells_of(there[known], mine[targets[known]], taps[known])
    place = np.searchsorted(b.mask.cells, cells)
    is_there = np.zeros(len(cells), dtype=np.bool_)
    inside = place < b.nnz
    is_there[inside] = b.mask.cells[place[inside]] == cells[inside]
    places = np.full(a.nnz, -1, dtype=np.int64)
    places[np.flatnonzero(known)[is_there]] = place[is_there]
    return places


@dataclass(frozen=True, slots=True, eq=False)
class CommonLayer:
    """Two layers that correspond: ``places[c]`` is the connection of B's that connection c of A's is, -1 where none."""

    a: Layer
    b: Layer
    places: Ints

    @property
    def of_a(self) -> Bools:
        """Which connections of A's layer B has too."""
        return self.places >= 0

    @property
    def of_b(self) -> Bools:
        """Which connections of B's layer A has too."""
        there = np.zeros(self.b.nnz, dtype=np.bool_)
        there[self.places[self.of_a]] = True
        return there


@dataclass(frozen=True, slots=True, eq=False)
class CommonNetwork:
    """Two networks under a match: their plans, layer by layer what is common, and the partners of A's units.

    ``partners`` has, for each context of the plan (spaces first), the unit of B for each unit of A, -1 where none.
    """

    a: Plan
    b: Plan
    layers: tuple[CommonLayer, ...]
    partners: Mapping[int, Ints]


def common_network(a: Topology, b: Topology, plans: tuple[Plan, Plan], matching: Mapping[str, Ints]) -> CommonNetwork:
    """What two comparable networks have in common under a match, for each of A's spaces the partners of its units."""
    plan_a, plan_b = plans
    partners = units(plan_a, plan_b, matching)
    layers = []
    for k, (source, (_, target)) in enumerate(zip(plan_a.sources, plan_a.layers, strict=True)):
        first, second = a.layers[plan_a.order[k]], b.layers[plan_b.order[k]]
        joint = source >= len(plan_a.spaces)
        places = counterparts(first, second, partners[source], partners[target], joint=joint)
        layers.append(CommonLayer(first, second, places))
    return CommonNetwork(plan_a, plan_b, tuple(layers), partners)


def units(a: Plan, b: Plan, matching: Mapping[str, Ints]) -> dict[int, Ints]:
    """The partners of all contexts of A's plan: spaces as they are matched, sources with taps by their axes."""
    known = {s: np.asarray(matching[space.name], dtype=np.int64) for s, space in enumerate(a.spaces)}
    if len(a.contexts) > len(a.spaces):
        by_axes = Partners(a, b)
        by_axes.put(axes(a, b, known))
        known |= {c: by_axes[c] for c in range(len(a.spaces), len(a.contexts))}
    return known


def axes(a: Plan, b: Plan, partners: Mapping[int, Ints]) -> dict[int, Ints]:
    """The match of each free axis, as ``Partners.axes`` has it, read off the partners of the units of some spaces.

    Axes that none of these has, or that are compared by index, are not in it.
    """
    matched: dict[int, Ints] = {}
    for s, partner in sorted(partners.items()):
        context = a.contexts[s]
        names = [axis for axis, _ in context]
        for place, (axis, size) in enumerate(context):
            if a.stays(axis) or axis in matched or not set(a.within[axis]) <= set(names):
                continue
            here = coordinates(context, np.arange(len(partner)))
            there = coordinates(b.contexts[s], np.maximum(partner, 0))
            outer = [names.index(other) for other in a.within[axis]]
            images = np.full((*(context[at][1] for at in outer), size), -1, dtype=np.int64)
            alive = partner >= 0
            images[(*(here[at][alive] for at in outer), here[place][alive])] = there[place][alive]
            matched[axis] = images
    return matched


def row_values(common: CommonNetwork) -> list[float]:
    """The distance of each row: the mean Jaccard distance of matched units' inputs, 1 for units without a partner."""
    return [math.fsum(distances) / len(distances) for distances in unit_distances(common)]


def unit_distances(common: CommonNetwork) -> list[list[float]]:
    """Row by row of the distance the Jaccard distance of each unit of A and its partner, then 1 for each unit alone."""
    rows = []
    for row in common.a.rows:
        mine, other = common.partners[row.space], common.b.spaces[row.space].size
        shared, total = np.zeros(len(mine), np.int64), np.zeros(len(mine), np.int64)
        matched = np.flatnonzero(mine >= 0)
        for k in row.layers:
            layer = common.layers[k]
            shared += np.bincount(layer.a.targets[layer.of_a], minlength=len(mine))
            total += layer.a.fan_in
            total[matched] += layer.b.fan_in[mine[matched]]
        union = (total - shared)[matched]
        distances = (union - shared[matched]) / np.maximum(union, 1)
        rows.append([*distances.tolist(), *[1.0] * (len(mine) + other - 2 * len(matched))])
    return rows
