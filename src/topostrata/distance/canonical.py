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
from topostrata.distance.comparison import Comparison, of_equals, symmetric
from topostrata.distance.prepared import Prepared
from topostrata.distance.sets import Sets
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


def compare(a: Prepared, b: Prepared) -> Comparison:
    """The comparison of two networks that were prepared with their colours."""
    check_limits(a, b)
    if a.digest == b.digest:
        return of_equals(a, [repeated(a, space) for space in a.wiring.targets], canonical=True)
    return symmetric(a, b, _compare)


def _compare(a: Prepared, b: Prepared) -> Comparison:
    matches = canonical(a, b)
    targets = [matches[space] for space in a.wiring.targets]
    return Comparison(
        [match.distance for match in targets],
        {space: match.partner for space, match in matches.items()},
        [match.ambiguous for match in targets],
        canonical=a.settled and b.settled and all(match.unique for match in matches.values()),
    )


def canonical(a: Prepared, b: Prepared) -> dict[int, Match]:
    """The match of every space, in matching order; of those that keep their place, with the identity."""
    partner: dict[int, Ints] = {}
    matches: dict[int, Match] = {}
    known: Costs = {}
    for space in range(len(a.sizes)):
        match = _identity(a, b, space, partner) if a.fixed[space] else _match(a, b, space, partner, known)
        partner[space] = match.partner
        matches[space] = match
    return matches


def first_value(a: Prepared, b: Prepared) -> float:
    """The distance of the first matched space of two networks; it depends on no ties, so no colours are needed."""
    space = next(s for s in a.wiring.targets if not a.fixed[s])
    partner = {s: np.arange(size, dtype=np.int64) for s, size in enumerate(a.sizes) if a.fixed[s]}
    partner[space] = _partner(a, b, space, _by_fan_in(a, b, space, partner, {}))
    return layer_value(a, b, space, partner[space], partner)


def repeated(network: Prepared, space: int) -> int:
    """The units whose fan-in set another unit of their space has too: those that are ambiguous against a copy."""
    sets = network.fan_in[space]
    if network.fixed[space]:
        return 0
    times: dict[bytes, int] = {}
    for begin, end in itertools.pairwise(sets.ptr.tolist()):
        elements = sets.keys[begin:end].tobytes()
        times[elements] = times.get(elements, 0) + 1
    return sum(count for count in times.values() if count > 1)


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
    columns = _partner(a, b, space, ties)
    return Match(columns, layer_value(a, b, space, columns, partner), ambiguous, unique)


def _partner(a: Prepared, b: Prepared, space: int, ties: _Ties) -> Ints:
    columns: Ints = ties.column_of[: a.sizes[space]]
    return columns if a.sizes[space] <= b.sizes[space] else np.where(columns < b.sizes[space], columns, -1)


def _by_fan_in(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], known: Costs) -> _Ties:
    """The optimum of the fan-in costs, and its ties.

    ``known`` holds the costs that each space had last: where few partners have changed, few are computed anew.
    """
    sets_a, sets_b = a.fan_in[space], b.fan_in[space]
    n = max(a.sizes[space], b.sizes[space])
    names = keymap(sets_a, sets_b, partner)
    total, most = kernels.increments(sets_a.ptr, sets_a.keys, names, sets_b.back)
    if total > _SPARSE * len(sets_a.sizes) * len(sets_b.sizes) and max(sets_a.largest, sets_b.largest) <= dense.LARGEST:
        return _Ties(*dense.solve(n, sets_a, sets_b, names, _empty(sets_a, n), _empty(sets_b, n)))
    single = _single(sets_a.largest + sets_b.largest)
    problem = kernels.sparse_costs(
        n,
        sets_a.ptr,
        sets_a.keys,
        names,
        sets_b.sizes,
        sets_b.back,
        sets_b.holders,
        sets_b.smallest,
        single,
        most,
        known.get(space, kernels.NOTHING_KNOWN),
    )
    known[space] = problem
    return _Ties(*matching.solve(problem, kernels.S, _empty(sets_a, n), _empty(sets_b, n)))


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
        (part, colour, colour_b)
        for (part, colour), k in first.items()
        for colour_b in y[ties.columns[ties.offsets[k] : ties.offsets[k + 1]]].tolist()
    }
    nodes = {(part, 0, colour) for part, colour, _ in edges} | {(part, 1, colour_b) for part, _, colour_b in edges}
    return len(nodes) - len(edges) == len({part for part, _, _ in edges})


def _look_ahead(
    a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], known: Costs, ties: _Ties
) -> dict[int, Ints]:
    """A provisional match of the spaces that ``space`` feeds, with its own ties broken by colour alone.

    Tied units that got a partner of another colour count as not matched.
    """
    trial = replace(ties, column_of=ties.column_of.copy(), row_of=ties.row_of.copy())
    _by_colour(a, b, space, trial)
    columns = _partner(a, b, space, trial).copy()
    rows = ties.rows[ties.rows < len(columns)]
    rows = rows[columns[rows] >= 0]
    columns[rows[a.colours[space][rows] != b.colours[space][columns[rows]]]] = -1
    partners = {**partner, space: columns}
    ahead = {}
    for target in sorted({a.wiring.layers[k][1] for k in a.wiring.outgoing[space]}):
        if a.fixed[target]:
            ahead[target] = np.arange(a.sizes[target], dtype=np.int64)
            continue
        next_ties = _by_fan_in(a, b, target, partners, known)
        _by_colour(a, b, target, next_ties)
        ahead[target] = _partner(a, b, target, next_ties)
    return ahead


def _fan_out_costs(a: Prepared, b: Prepared, space: int, ahead: Mapping[int, Ints], ties: _Ties) -> Ints:
    sets_a, sets_b = a.fan_out[space], b.fan_out[space]
    names = keymap(sets_a, sets_b, ahead)
    costs: Ints = kernels.listed_costs(
        ties.rows, ties.offsets, ties.columns, sets_a.ptr, sets_a.keys, names, sets_b.ptr, sets_b.keys, sets_b.elements
    )
    return costs


def layer_value(a: Prepared, b: Prepared, space: int, mine: Ints, partner: Mapping[int, Ints]) -> float:
    """The distance of the layers into a space whose units are matched as ``mine``, given the spaces that feed it.

    Every unit without a partner costs 1; 0 where no layer enters the space.
    """
    sets_a, sets_b = a.fan_in[space], b.fan_in[space]
    if not sets_a.spaces:
        return 0.0
    high, low = kernels.matched_sum(
        mine, sets_a.ptr, sets_a.keys, keymap(sets_a, sets_b, partner), sets_b.ptr, sets_b.keys, sets_b.elements
    )
    matched = int((mine >= 0).sum())
    # The units that only one network has count 1 each; all others differ by num / den.
    alone = len(mine) - matched + b.sizes[space] - matched
    exact = (int(high) << 37) + int(low) + alone * kernels.ONE
    # Rounded once, as math.fsum does.
    return exact / kernels.ONE / max(a.sizes[space], b.sizes[space])


def keymap(sets_a: Sets, sets_b: Sets, partner: Mapping[int, Ints]) -> Ints:
    """The names in B of A's elements: -1 for those whose unit has no known partner."""
    parts: list[Ints] = []
    for space, taps, offset in zip(sets_a.spaces, sets_a.taps, sets_b.offset, strict=True):
        units = partner.get(space)
        if units is None:
            q = len(parts)
            ends = (*sets_a.offset[1:], sets_a.elements)
            parts.append(np.full(ends[q] - sets_a.offset[q], -1, dtype=np.int64))
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
    for sets_a, sets_b in zip((*a.fan_in, *a.fan_out), (*b.fan_in, *b.fan_out), strict=True):
        largest = sets_a.elements + sets_b.elements
        if largest > kernels.LARGEST_UNION:
            most = int(np.diff(sets_a.ptr).max(initial=0) + np.diff(sets_b.ptr).max(initial=0))
            if most > kernels.LARGEST_UNION:
                raise LimitError(
                    f"expected fan-in sets whose union holds at most {kernels.LARGEST_UNION} elements, found {most}",
                    hint="use the identity alignment",
                )
