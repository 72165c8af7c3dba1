"""The canonical alignment: matches of minimum fan-in cost, whose ties are broken by invariants of the networks.

The definition, with its extensions to several layers into one space, taps and unequal widths, stands in
docs/design/010-nnstd.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import dense, kernels, matching
from topostrata.distance.prepared import Prepared, Sets
from topostrata.errors import LimitError

# Shared elements per pair of units from which a matrix of counts is faster and smaller than lists (bench/distance.py).
_SPARSE = 0.3

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Costs = dict[int, tuple[NDArray[Any], ...]]  # by space, as ``kernels.sparse_costs`` gives them


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
    """A matching of N rows and columns, and the pairs that are still tied in it: rows, offsets of each, columns."""

    column_of: Ints
    row_of: Ints
    rows: Ints
    offsets: Ints
    columns: NDArray[np.uint32]


def canonical(a: Prepared, b: Prepared) -> dict[int, Match]:
    """The match of every space, in matching order; of those that keep their place, with the identity."""
    partner: dict[int, Ints] = {}
    found: dict[int, Match] = {}
    known: Costs = {}
    for space in range(len(a.sizes)):
        match = _identity(a, b, space, partner) if a.kept[space] else _match(a, b, space, partner, known)
        partner[space] = match.partner
        found[space] = match
    return found


def first_value(a: Prepared, b: Prepared) -> float:
    """The distance of the first matched space of two networks; it depends on no ties, so no colours are needed."""
    space = next(s for s in a.wiring.targets if not a.kept[s])
    partner = {s: np.arange(size, dtype=np.int64) for s, size in enumerate(a.sizes) if a.kept[s]}
    found = _partner(a, b, space, _by_fan_in(a, b, space, partner, {}))
    return layer_value(a, b, space, found, partner)


def repeated(network: Prepared, space: int) -> int:
    """The units whose fan-in set another unit of their space has too: those that are ambiguous against a copy."""
    sets = network.fan_in[space]
    if network.kept[space]:
        return 0
    seen: dict[bytes, int] = {}
    for begin, end in itertools.pairwise(sets.ptr.tolist()):
        held = sets.keys[begin:end].tobytes()
        seen[held] = seen.get(held, 0) + 1
    return sum(times for times in seen.values() if times > 1)


def _identity(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints]) -> Match:
    columns = np.arange(a.sizes[space], dtype=np.int64)
    return Match(columns, layer_value(a, b, space, columns, partner), 0, unique=True)


def _match(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], known: Costs) -> Match:
    ties = _by_fan_in(a, b, space, partner, known)
    ambiguous = len(ties.rows)
    unique = True
    if ambiguous:
        if a.wiring.outgoing[space]:
            ahead = _look_ahead(a, b, space, partner, known, ties)
            costs = _fan_out_costs(a, b, space, ahead, ties)
            _narrow(ties, costs)
        unique = _by_colour(a, b, space, ties)
    found = _partner(a, b, space, ties)
    return Match(found, layer_value(a, b, space, found, partner), ambiguous, unique)


def _partner(a: Prepared, b: Prepared, space: int, ties: _Ties) -> Ints:
    found: Ints = ties.column_of[: a.sizes[space]]
    return found if a.sizes[space] <= b.sizes[space] else np.where(found < b.sizes[space], found, -1)


def _by_fan_in(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], known: Costs) -> _Ties:
    """The optimum of the fan-in costs, and its ties.

    ``known`` holds the costs that each space had last: where few partners have changed, few are computed anew.
    """
    one, two = a.fan_in[space], b.fan_in[space]
    n = max(a.sizes[space], b.sizes[space])
    names = keymap(one, two, partner)
    total, most = kernels.increments(one.ptr, one.keys, names, two.back)
    if total > _SPARSE * len(one.sizes) * len(two.sizes) and max(one.largest, two.largest) <= dense.LARGEST:
        return _Ties(*dense.solve(n, one, two, names, _empty(one, n), _empty(two, n)))
    single = _single(one.largest + two.largest)
    problem = kernels.sparse_costs(
        n,
        one.ptr,
        one.keys,
        names,
        two.sizes,
        two.back,
        two.holders,
        two.smallest,
        single,
        most,
        known.get(space, kernels.NOTHING_KNOWN),
    )
    known[space] = problem
    return _Ties(*matching.solve(problem, kernels.S, _empty(one, n), _empty(two, n)))


def _narrow(ties: _Ties, costs: Ints) -> Ints:
    """Match the tied rows by a further criterion; the component of each row that is still tied."""
    ties.rows, ties.offsets, ties.columns, component = matching.rematch(
        ties.rows, ties.offsets, ties.columns, costs, ties.column_of, ties.row_of
    )
    return component


def _by_colour(a: Prepared, b: Prepared, space: int, ties: _Ties) -> bool:
    """Break the ties by colour; False where what is left tied is more than an exchange of equals."""
    if not len(ties.rows):
        return True
    colours_a, colours_b = a.colours[space], b.colours[space]
    costs = kernels.listed_colour_costs(ties.rows, ties.offsets, ties.columns, colours_a, colours_b)
    component = _narrow(ties, costs)
    mixed = matching.mixed_components(component, ties.rows, ties.offsets, ties.columns, colours_a, colours_b)
    return not mixed.any() or _only_equals(ties, component, mixed, colours_a, colours_b)


def _only_equals(
    ties: _Ties, component: Ints, mixed: Bools, colours_a: NDArray[np.uint64], colours_b: NDArray[np.uint64]
) -> bool:
    """Whether every optimum left in the ``mixed`` components pairs the same colours equally often.

    All pairs listed are part of some optimum, so the number of pairs per two colours is settled exactly when the graph
    of colours (rows' on one side, columns' on the other) has no cycle. Where one side has one colour, it has none.
    """
    n = len(ties.column_of)
    x, y = np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.uint64)
    x[: len(colours_a)], y[: len(colours_b)] = colours_a, colours_b
    # Rows of one colour have the same pairs, up to columns of one colour: one row stands for them all.
    first: dict[tuple[int, int], int] = {}
    for k in np.flatnonzero(mixed[component]).tolist():
        first.setdefault((int(component[k]), int(x[ties.rows[k]])), k)
    edges = {
        (part, colour, two)
        for (part, colour), k in first.items()
        for two in y[ties.columns[ties.offsets[k] : ties.offsets[k + 1]]].tolist()
    }
    nodes = {(part, 0, one) for part, one, _ in edges} | {(part, 1, two) for part, _, two in edges}
    return len(nodes) - len(edges) == len({part for part, _, _ in edges})


def _look_ahead(
    a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], known: Costs, ties: _Ties
) -> dict[int, Ints]:
    """A provisional match of the spaces that ``space`` feeds, with its own ties broken by colour alone.

    Tied units that got a partner of another colour count as not matched.
    """
    trial = replace(ties, column_of=ties.column_of.copy(), row_of=ties.row_of.copy())
    _by_colour(a, b, space, trial)
    found = _partner(a, b, space, trial).copy()
    mine = ties.rows[ties.rows < len(found)]
    mine = mine[found[mine] >= 0]
    found[mine[a.colours[space][mine] != b.colours[space][found[mine]]]] = -1
    partners = {**partner, space: found}
    ahead = {}
    for target in sorted({a.wiring.layers[k][1] for k in a.wiring.outgoing[space]}):
        if a.kept[target]:
            ahead[target] = np.arange(a.sizes[target], dtype=np.int64)
            continue
        next_ties = _by_fan_in(a, b, target, partners, known)
        _by_colour(a, b, target, next_ties)
        ahead[target] = _partner(a, b, target, next_ties)
    return ahead


def _fan_out_costs(a: Prepared, b: Prepared, space: int, ahead: Mapping[int, Ints], ties: _Ties) -> Ints:
    one, two = a.fan_out[space], b.fan_out[space]
    names = keymap(one, two, ahead)
    costs: Ints = kernels.listed_costs(
        ties.rows, ties.offsets, ties.columns, one.ptr, one.keys, names, two.ptr, two.keys, two.elements
    )
    return costs


def layer_value(a: Prepared, b: Prepared, space: int, mine: Ints, partner: Mapping[int, Ints]) -> float:
    """The distance of the layers into a space whose units are matched as ``mine``, given the spaces that feed it.

    Every unit without a partner costs 1; 0 where no layer enters the space.
    """
    one, two = a.fan_in[space], b.fan_in[space]
    if not one.spaces:
        return 0.0
    high, low = kernels.matched_sum(mine, one.ptr, one.keys, keymap(one, two, partner), two.ptr, two.keys, two.elements)
    matched = int((mine >= 0).sum())
    # The units that only one network has count 1 each; all others differ by num / den.
    alone = len(mine) - matched + b.sizes[space] - matched
    exact = (int(high) << 37) + int(low) + alone * kernels.ONE
    # Rounded once, as math.fsum does.
    return exact / kernels.ONE / max(a.sizes[space], b.sizes[space])


def keymap(one: Sets, two: Sets, partner: Mapping[int, Ints]) -> Ints:
    """The names in B of A's elements: -1 for those whose unit has no known partner."""
    parts: list[Ints] = []
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
    if len(sets.empty) == n:
        return sets.empty
    empty = np.zeros(n, dtype=np.bool_)
    empty[: len(sets.empty)] = sets.empty
    return empty


@lru_cache(maxsize=64)
def _single(largest: int) -> Ints:
    table: Ints = kernels.single_costs(largest)
    return table


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
