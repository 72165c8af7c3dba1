"""The canonical alignment: each layer's match has minimum fan-in cost, its ties are broken by invariants of the networks.

The definition stands in docs/design/010-nnstd.md; ``VERSION`` is its number, stored with every cached distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stratigraph.errors import LimitError
from stratigraph.service.distance import kernels, matching
from stratigraph.service.distance.prepared import Prepared, Sets

VERSION = 1

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """How one space was matched. ``partner[i]`` is the unit of B for unit i of A, -1 where it has none.

    ``distance`` is 0 to 1; ``ambiguous`` counts the units with more than one optimal partner by fan-in cost alone;
    ``unique`` is False where ties were left between units that structure alone tells apart.
    """

    partner: Ints
    distance: float
    ambiguous: int
    unique: bool


@dataclass(slots=True, eq=False)
class _Ties:
    """A matching of N rows and columns, and the pairs that are still tied in it."""

    column_of: Ints
    row_of: Ints
    tied: Bools
    offsets: Ints
    columns: NDArray[np.int32]


def canonical(a: Prepared, b: Prepared) -> dict[int, Match]:
    """The match of every space, in matching order; of those that keep their place, with the identity."""
    partner: dict[int, Ints] = {}
    found: dict[int, Match] = {}
    for space in range(len(a.sizes)):
        match = _identity(a, b, space, partner) if a.kept[space] else _match(a, b, space, partner)
        partner[space] = match.partner
        found[space] = match
    return found


def _identity(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints]) -> Match:
    columns = np.arange(a.sizes[space], dtype=np.int64)
    return Match(columns, _value(a, b, space, columns, partner) if a.wiring.incoming[space] else 0.0, 0, unique=True)


def _match(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints]) -> Match:
    n = max(a.sizes[space], b.sizes[space])
    ties = _by_fan_in(a, b, space, partner)
    ambiguous = int(ties.tied.sum())
    unique = True
    if ambiguous:
        if a.wiring.outgoing[space]:
            ahead = _look_ahead(a, b, space, partner, ties)
            costs = _fan_out_costs(a, b, space, ahead, ties)
            _narrow(ties, costs)
        unique = _by_colour(a, b, space, ties)
    found = np.where(ties.column_of < b.sizes[space], ties.column_of, -1)[: a.sizes[space]]
    return Match(found, _value(a, b, space, ties.column_of, partner), ambiguous, unique)


def _by_fan_in(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints]) -> _Ties:
    """The optimum of the fan-in costs, and its ties."""
    one, two = a.fan_in[space], b.fan_in[space]
    n = max(a.sizes[space], b.sizes[space])
    keymap = _keymap(one, two, partner)
    room = int(kernels.increments(one.keys, keymap, two.back))
    offsets, columns, costs = kernels.sparse_costs(
        n, one.ptr, one.keys, keymap, two.ptr, two.back, two.holders, room
    )
    empty_a, empty_b = _empty(one, n), _empty(two, n)
    u, v = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    column_of, row_of = np.full(n, -1, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    matching.assign(offsets, columns, costs, kernels.S, u, v, column_of, row_of)
    matching.complete(kernels.S, empty_a, empty_b, u, v, column_of, row_of)
    component, sizes = matching.components(
        offsets, columns, costs, kernels.S, empty_a, empty_b, u, v, column_of, row_of
    )
    kept, found = matching.tied_pairs(
        offsets, columns, costs, kernels.S, empty_a, empty_b, u, v, row_of, component, sizes
    )
    return _Ties(column_of, row_of, sizes[component] > 1, kept, found)


def _narrow(ties: _Ties, costs: Ints) -> tuple[Ints, Ints]:
    component, sizes, ties.offsets, ties.columns = matching.rematch(
        ties.offsets, ties.columns, costs, ties.column_of, ties.row_of
    )
    return component, sizes


def _by_colour(a: Prepared, b: Prepared, space: int, ties: _Ties) -> bool:
    """Break the ties by colour; False where what is left tied is more than an exchange of equals."""
    colours_a, colours_b = a.colours[space], b.colours[space]
    costs = kernels.listed_colour_costs(ties.offsets, ties.columns, colours_a, colours_b)
    component, sizes = _narrow(ties, costs)
    return bool((sizes == 1).all()) or _only_equals(ties, component, colours_a, colours_b)


def _only_equals(ties: _Ties, component: Ints, colours_a: NDArray[np.uint64], colours_b: NDArray[np.uint64]) -> bool:
    """Whether every optimum left pairs the same colours equally often.

    All pairs listed are part of some optimum, so the number of pairs per two colours is settled exactly when the graph
    of colours (rows' on one side, columns' on the other) has no cycle.
    """
    n = len(component)
    x, y = np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.uint64)
    x[: len(colours_a)], y[: len(colours_b)] = colours_a, colours_b
    rows = np.repeat(np.arange(n), np.diff(ties.offsets))
    parts = component[rows]
    left = np.stack([parts.astype(np.uint64), x[rows]])
    right = np.stack([parts.astype(np.uint64), y[ties.columns]])
    nodes = np.unique(left, axis=1).shape[1] + np.unique(right, axis=1).shape[1]
    edges = np.unique(np.concatenate([left, right]), axis=1).shape[1]
    return bool(nodes - edges == len(np.unique(parts)))


def _look_ahead(
    a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], ties: _Ties
) -> dict[int, Ints]:
    """A provisional match of the spaces that ``space`` feeds, with its own ties broken by colour alone.

    Tied units that got a partner of another colour count as not matched.
    """
    trial = _Ties(ties.column_of.copy(), ties.row_of.copy(), ties.tied, ties.offsets, ties.columns)
    _by_colour(a, b, space, trial)
    n_a, n_b = a.sizes[space], b.sizes[space]
    found = np.where(trial.column_of < n_b, trial.column_of, -1)[:n_a]
    mine = np.flatnonzero(ties.tied[:n_a] & (found >= 0))
    found[mine[a.colours[space][mine] != b.colours[space][found[mine]]]] = -1
    known = {**partner, space: found}
    ahead = {}
    for target in sorted({a.wiring.layers[k][1] for k in a.wiring.outgoing[space]}):
        if a.kept[target]:
            ahead[target] = np.arange(a.sizes[target], dtype=np.int64)
            continue
        next_ties = _by_fan_in(a, b, target, known)
        if next_ties.tied.any():
            _by_colour(a, b, target, next_ties)
        ahead[target] = np.where(next_ties.column_of < b.sizes[target], next_ties.column_of, -1)[: a.sizes[target]]
    return ahead


def _fan_out_costs(a: Prepared, b: Prepared, space: int, ahead: Mapping[int, Ints], ties: _Ties) -> Ints:
    one, two = a.fan_out[space], b.fan_out[space]
    costs: Ints = kernels.listed_costs(
        ties.offsets, ties.columns, one.ptr, one.keys, _keymap(one, two, ahead), two.ptr, two.keys, two.elements
    )
    return costs


def _value(a: Prepared, b: Prepared, space: int, column_of: Ints, partner: Mapping[int, Ints]) -> float:
    one, two = a.fan_in[space], b.fan_in[space]
    num, den = kernels.matched_parts(
        column_of, one.ptr, one.keys, _keymap(one, two, partner), two.ptr, two.keys, two.elements
    )
    return math.fsum((num / np.maximum(den, 1)).tolist()) / len(column_of)


def _keymap(one: Sets, two: Sets, partner: Mapping[int, Ints]) -> Ints:
    """The names in B of A's elements: -1 for those whose unit has no known partner."""
    parts = []
    for space, taps, offset in zip(one.spaces, one.taps, two.offset, strict=True):
        units = partner.get(space)
        if units is None:
            q = len(parts)
            ends = (*one.offset[1:], one.elements)
            parts.append(np.full(ends[q] - one.offset[q], -1, dtype=np.int64))
            continue
        if taps == 1 and offset == 0:
            parts.append(units)
            continue
        keys = units[:, None] * taps + np.arange(taps) + offset
        parts.append(np.where(units[:, None] >= 0, keys, -1).ravel())
    if not parts:
        return np.zeros(0, dtype=np.int64)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _empty(sets: Sets, n: int) -> Bools:
    """The units that are there and hold nothing; absent ones are not among them."""
    empty = np.zeros(n, dtype=np.bool_)
    empty[: len(sets.ptr) - 1] = np.diff(sets.ptr) == 0
    return empty


def check_limits(a: Prepared, b: Prepared) -> None:
    """Refuse networks whose fan-in sets are so large that the integer costs would overflow."""
    for one, two in zip((*a.fan_in, *a.fan_out), (*b.fan_in, *b.fan_out), strict=True):
        largest = one.elements + two.elements
        if largest > kernels.LARGEST_UNION:
            most = int(np.diff(one.ptr).max(initial=0) + np.diff(two.ptr).max(initial=0))
            if most > kernels.LARGEST_UNION:
                raise LimitError(
                    f"expected fan-in sets whose union holds at most {kernels.LARGEST_UNION} elements, found {most}",
                    hint="use the identity alignment",
                )
