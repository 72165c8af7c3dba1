"""The canonical alignment: matches of minimum fan-in cost, whose ties are broken by invariants of the networks.

The definition, with its extensions to every kind of wiring, stands in docs/design/010-nnstd.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import dense, fused, joint, kernels, matching, room
from topostrata.distance.comparison import Comparison, of_equals, symmetric
from topostrata.distance.partners import Partners
from topostrata.distance.plan import Problem
from topostrata.distance.prepared import Prepared
from topostrata.distance.sets import SPARSE, Sets, shared_by_all
from topostrata.distance.ties import Ties
from topostrata.errors import LimitError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Costs = dict[int, tuple[NDArray[Any], ...]]  # by space, as ``kernels.sparse_costs`` gives them


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """How two networks were matched: the partners, ambiguous units by space, and whether nothing else was possible.

    Ambiguous are the units with more than one optimal partner by fan-in cost alone; ``undecided`` those of them that
    have inputs. ``unique`` is False where ties were left between units that structure alone tells apart.
    """

    partner: Partners
    ambiguous: Mapping[int, int]
    undecided: Mapping[int, int]
    unique: bool


def compare(a: Prepared, b: Prepared) -> Comparison:
    """The comparison of two networks that were prepared with their colours."""
    if a.most_elements + b.most_elements > kernels.LARGEST_UNION:
        check_limits(a, b)
    if a.digest == b.digest and a.plan.form == b.plan.form:
        return _of_equals(a)
    return symmetric(a, b, _compare)


def compare_many(networks: Sequence[Prepared], pairs: Ints) -> list[list[float] | None]:
    """The distances of the rows of each of ``pairs``, places in ``networks``; None for a pair to be compared alone."""
    most = max(network.most_elements for network in networks)
    if 2 * most > kernels.LARGEST_UNION:
        return [None] * len(pairs)
    digests = np.array([network.digest for network in networks])
    turned = digests[pairs[:, 0]] > digests[pairs[:, 1]]
    apart = digests[pairs[:, 0]] != digests[pairs[:, 1]]
    ordered = np.where(turned[:, None], pairs[:, ::-1], pairs)[apart]
    values = iter(fused.values_of(networks, ordered) if len(ordered) else ())
    return [next(values) if other else [0.0] * len(networks[0].rows) for other in apart.tolist()]


def _compare(a: Prepared, b: Prepared) -> Comparison:
    return fused.compare(a, b) or _stepwise(a, b)


def _stepwise(a: Prepared, b: Prepared) -> Comparison:
    matches = canonical(a, b)
    rows = a.plan.rows
    return Comparison(
        [row_value(a, b, row, matches.partner) for row in range(len(rows))],
        {s: matches.partner[s] for s in range(len(a.sizes))},
        _row_counts(a, matches.ambiguous),
        canonical=_settled(a, b, matches) and matches.unique and not a.plan.staying,
        informed=informed(a, b, matches.undecided),
    )


def _settled(a: Prepared, b: Prepared, matches: Matches) -> bool:
    """Whether colours, where they decided anything, are free of any choice."""
    return not any(matches.ambiguous.values()) or (a.settled and b.settled)


def canonical(a: Prepared, b: Prepared) -> Matches:
    """The match of every space."""
    partner = Partners(a.plan, b.plan)
    known: Costs = {}
    ambiguous: dict[int, int] = {}
    undecided: dict[int, int] = {}
    unique = True
    for problem in a.plan.problems:
        with room.of_layers(entering(a, problem)):
            if problem.plain:
                (space,) = problem.spaces
                columns, ambiguous[space], undecided[space], alone = match_units(a, b, problem, partner, known)
                partner.put({problem.inner[0]: columns})
            else:
                costs = {s: _joint_costs(a, b, s, partner) for s in problem.spaces}
                match = joint.match(a, b, problem, partner, costs)
                ambiguous |= match.ambiguous
                undecided |= match.ambiguous
                alone = match.unique
                partner.put(match.axes)
        unique &= alone
    return Matches(partner, ambiguous, undecided, unique)


def entering(network: Prepared, problem: Problem) -> list[str]:
    """The names of the layers by which the units of a problem are matched."""
    return [network.layers[k].name for s in problem.spaces for k in network.plan.entering[s]]


def informed(a: Prepared, b: Prepared, undecided: Mapping[int, int]) -> bool:
    """Whether in every space connections decided the partners of half of the units or more."""
    return all(2 * count <= max(a.sizes[s], b.sizes[s]) for s, count in undecided.items())


def first_value(a: Prepared, b: Prepared) -> float:
    """The distance of two networks of one layer; it depends on no ties, so no colours are needed."""
    partner = Partners(a.plan, b.plan)
    (problem,) = a.plan.problems
    (space,) = problem.spaces
    with room.of_layers(entering(a, problem)):
        ties = _by_fan_in(a, b, space, partner, {})
    partner.put({problem.inner[0]: ties.partner(a.sizes[space], b.sizes[space])})
    return row_value(a, b, 0, partner)


def _of_equals(network: Prepared) -> Comparison:
    """The comparison of a network with itself; ambiguous are the units that are so against a copy."""
    plan = network.plan
    if plan.plain:
        # All sources are matched before, so these are the units whose fan-in set another one has too.
        ambiguous = {s: _repeats(network.fan_in[s]) for s in plan.problem_of}
        return of_equals(network, _row_counts(network, ambiguous), canonical=not plan.staying)
    matches = canonical(network, network)
    unique = network.settled and matches.unique and not plan.staying
    return of_equals(network, _row_counts(network, matches.ambiguous), canonical=unique)


def _row_counts(network: Prepared, ambiguous: Mapping[int, int]) -> list[int]:
    return [ambiguous.get(row.space, 0) if row.first else 0 for row in network.plan.rows]


def _repeats(sets: Sets) -> int:
    times: dict[bytes, int] = {}
    keys = sets.keys
    for begin, end in itertools.pairwise(sets.ptr.tolist()):
        elements = keys[begin:end].tobytes()
        times[elements] = times.get(elements, 0) + 1
    return sum(count for count in times.values() if count > 1)


def _joint_costs(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints]) -> joint.Costs:
    sets_a, sets_b = a.fan_in[space], b.fan_in[space]
    return joint.fan_in_costs(sets_a, sets_b, keymap(sets_a, sets_b, partner))


def match_units(
    a: Prepared, b: Prepared, problem: Problem, partner: Mapping[int, Ints], known: Costs
) -> tuple[Ints, int, int, bool]:
    """The partners of a space's units, how many were ambiguous, also with inputs, and whether only equals stayed tied.

    The problem is one of units that are matched one by one; ``partner`` are those of the other spaces as far as they
    are known, ``known`` costs that were computed before: ``_by_fan_in``.
    """
    (space,) = problem.spaces
    ties = _by_fan_in(a, b, space, partner, known)
    ambiguous = len(ties.rows)
    undecided = max(
        int((sets.sizes[units[units < len(sets.sizes)]] > 0).sum())
        for sets, units in ((a.fan_in[space], ties.rows), (b.fan_in[space], ties.column_of[ties.rows]))
    )
    unique = True
    if ambiguous:
        if a.plan.ahead[space]:
            ahead = _look_ahead(a, b, space, partner, known, ties)
            ties.narrow(_fan_out_costs(a, b, space, ahead, ties))
        unique = ties.by_colour(a.colours[space], b.colours[space])
        # Units that are more than this space's, such as heads, are not known to be equal.
        unique &= a.plan.exchangeable[space] > 0 or not len(ties.rows)
    return ties.partner(a.sizes[space], b.sizes[space]), ambiguous, undecided, unique


def _by_fan_in(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], known: Costs) -> Ties:
    """The optimum of the fan-in costs, and its ties.

    ``known`` holds the costs that each space had last: where few partners have changed, few are computed anew.
    """
    sets_a, sets_b = a.fan_in[space], b.fan_in[space]
    n = max(a.sizes[space], b.sizes[space])
    names = keymap(sets_a, sets_b, partner)
    shared = shared_by_all(sets_a, sets_b, names)
    if shared > SPARSE * len(sets_a.sizes) * len(sets_b.sizes) and max(sets_a.largest, sets_b.largest) <= dense.LARGEST:
        return Ties(*dense.solve(n, sets_a, sets_b, names, _empty(sets_a, n), _empty(sets_b, n)))
    _, most = kernels.increments(sets_a.ptr, sets_a.keys, names, sets_b.back)
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
    return Ties(*matching.solve(problem, kernels.S, _empty(sets_a, n), _empty(sets_b, n)))


def _look_ahead(
    a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints], known: Costs, ties: Ties
) -> dict[int, Ints]:
    """The match of the spaces that ``space`` feeds: a provisional one where they are matched by it, later.

    ``space`` has its own ties broken by colour alone; tied units that got a partner of another colour count as not
    matched.
    """
    trial = ties.copy()
    trial.by_colour(a.colours[space], b.colours[space])
    columns = trial.partner(a.sizes[space], b.sizes[space]).copy()
    rows = ties.rows[ties.rows < len(columns)]
    rows = rows[columns[rows] >= 0]
    columns[rows[a.colours[space][rows] != b.colours[space][columns[rows]]]] = -1
    partners = {**partner, space: columns}
    plan = a.plan
    ahead: dict[int, Ints] = {}
    for target in sorted({plan.layers[k][1] for k in plan.ahead[space]}):
        if target in partner:
            ahead[target] = partner[target]
        elif any(plan.layers[k][0] == space for k in plan.entering[target]):
            next_ties = _by_fan_in(a, b, target, partners, known)
            next_ties.by_colour(a.colours[target], b.colours[target])
            ahead[target] = next_ties.partner(a.sizes[target], b.sizes[target])
    return ahead


def _fan_out_costs(a: Prepared, b: Prepared, space: int, ahead: Mapping[int, Ints], ties: Ties) -> Ints:
    sets_a, sets_b = a.fan_out[space], b.fan_out[space]
    names = keymap(sets_a, sets_b, ahead)
    costs: Ints = kernels.listed_costs(
        ties.rows, ties.offsets, ties.columns, sets_a.ptr, sets_a.keys, names, sets_b.ptr, sets_b.keys, sets_b.elements
    )
    return costs


def row_value(a: Prepared, b: Prepared, row: int, partner: Mapping[int, Ints]) -> float:
    """The distance of a row: of the layers of one stage, given the partners of all units.

    Every unit without a partner costs 1.
    """
    sets_a, sets_b = a.rows[row], b.rows[row]
    space = a.plan.rows[row].space
    mine = partner[space]
    high, low = kernels.matched_sum(
        mine, sets_a.ptr, sets_a.keys, keymap(sets_a, sets_b, partner), sets_b.ptr, sets_b.keys, sets_b.elements
    )
    return kernels.row_distance(int(high), int(low), int((mine >= 0).sum()), len(mine), b.sizes[space])


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
    check_unions((*a.fan_in, *a.fan_out, *a.rows), (*b.fan_in, *b.fan_out, *b.rows))


def check_unions(all_a: Sequence[Sets], all_b: Sequence[Sets]) -> None:
    """Refuse sets whose unions are so large that the integer costs would overflow."""
    for sets_a, sets_b in zip(all_a, all_b, strict=True):
        largest = sets_a.elements + sets_b.elements
        if largest > kernels.LARGEST_UNION:
            most = int(np.diff(sets_a.ptr).max(initial=0) + np.diff(sets_b.ptr).max(initial=0))
            if most > kernels.LARGEST_UNION:
                raise LimitError(
                    f"expected fan-in sets whose union holds at most {kernels.LARGEST_UNION} elements, found {most}",
                    hint="use the identity alignment",
                )
