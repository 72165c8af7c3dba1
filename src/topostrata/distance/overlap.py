"""The overlap alignment: the match with most common connections that is found from what is compared by index.

Beliefs spread out of the labelled inputs and outputs until they tell which units are surely the same ones; all others
are matched so that most connections are common; then one space after the other is matched anew while that gains some.
The definition stands in docs/design/013-overlap.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import fused_overlap
from topostrata.distance.beliefs import sure_pairs
from topostrata.distance.canonical import check_unions, informed
from topostrata.distance.climb import Climber, Match
from topostrata.distance.comparison import Comparison, of_equals, symmetric
from topostrata.distance.kernels import LARGEST_UNION
from topostrata.distance.partners import Partners
from topostrata.distance.prepared import Prepared

Ints = NDArray[np.int64]


def compare(a: Prepared, b: Prepared) -> Comparison:
    """The comparison of two networks that were prepared with their colours."""
    check_limits(a, b)
    return compare_by(_compare, a, b)


def compare_many(networks: Sequence[Prepared], pairs: Ints) -> list[list[float] | None]:
    """The distances of the rows of each of ``pairs``, places in ``networks``; None for a pair to be compared alone."""
    if 2 * max(network.most_elements for network in networks) > LARGEST_UNION:
        return [None] * len(pairs)
    rows: list[list[float] | None] = [None] * len(pairs)
    apart: list[tuple[int, int]] = []
    places = []
    for p, (i, j) in enumerate(pairs.tolist()):
        a, b = networks[i], networks[j]
        if a.digest == b.digest:
            rows[p] = [0.0] * len(a.rows)
        elif not _same_colours(a, b):  # those may be copies
            places.append(p)
            apart.append((i, j) if a.digest < b.digest else (j, i))
    # In one piece, as for one pair: an array of another layout is another type, which would be compiled once more.
    answer = fused_overlap.answer(networks, np.array(apart)) if apart else None
    if answer is not None:
        for k, (p, (i, j)) in enumerate(zip(places, apart, strict=True)):
            rows[p] = answer.values(k, networks[i], networks[j])
    return rows


def _compare(a: Prepared, b: Prepared) -> Comparison:
    answer = fused_overlap.answer([a, b], np.array([[0, 1]]))
    if answer is None:
        return _stepwise(a, b, sure_pairs(a, b))
    values = answer.values(0, a, b)
    if values is None:
        return _stepwise(a, b, answer.by_space(answer.sure, a))
    spaces = a.plan.problem_of
    undecided = {s: count for s, count in enumerate(answer.undecided[0].tolist()) if s in spaces}
    partners = answer.by_space(answer.partners, a)
    return _described(a, b, partners, undecided, values, unique=bool(answer.unique[0]))


def _stepwise(a: Prepared, b: Prepared, sure: Mapping[int, Ints]) -> Comparison:
    climber = Climber(a, b)
    match = climber.most_overlap(climber.complete({s: sure[s] for s, fixed in enumerate(a.fixed) if not fixed}))
    return described(climber, match, climber.distances(match.partners))


def overlap(climber: Climber) -> Match:
    """The match of most overlap."""
    return climber.most_overlap(climber.complete(sure_pairs(climber.a, climber.b)))


def described(climber: Climber, match: Match, values: list[float]) -> Comparison:
    """A match as it is answered."""
    return _described(climber.a, climber.b, match.partners, match.undecided, values, unique=climber.unique)


def _described(
    a: Prepared,
    b: Prepared,
    partners: Mapping[int, Ints],
    undecided: Mapping[int, int],
    values: list[float],
    *,
    unique: bool,
) -> Comparison:
    unique &= a.settled and b.settled and not a.plan.staying
    # Of spaces of several axes it is claimed for copies alone: their ties can fall by the order in which units lie.
    unique &= _one_axis_each(a) or not any(values)
    # A copy with other colours' ties may be missed: its distance is not 0, as that of the network itself is.
    unique &= not (sum(values) > 0 and _same_colours(a, b))
    counts = [undecided.get(row.space, 0) if row.first else 0 for row in a.plan.rows]
    return Comparison(
        values,
        {s: partners[s] for s in range(len(a.sizes))},
        counts,
        canonical=unique,
        informed=informed(a, b, undecided),
    )


def compare_by(match: Callable[[Prepared, Prepared], Comparison], a: Prepared, b: Prepared) -> Comparison:
    """The comparison of two networks by ``match``, unless one is the other, or a copy stored in another order."""
    alone = _one_axis_each(a)
    if a.digest == b.digest and a.plan.form == b.plan.form:
        if alone:
            return of_equals(a, _twins(a), canonical=a.settled and not a.plan.staying)
        whole = match(a, b)  # says whether a copy that is stored in another order is at distance 0 as well
        return of_equals(a, whole.ambiguous, canonical=whole.canonical and not any(whole.values))
    return (_of_copies(a, b) if alone else None) or symmetric(a, b, match)


def _one_axis_each(network: Prepared) -> bool:
    """Whether every space that is matched is one axis, which is no other space's too, and all others are kept."""
    plan = network.plan
    return (
        all(len(problem.spaces) == len(problem.inner) == 1 for problem in plan.problems)
        and all(plan.exchangeable[s] == network.sizes[s] for s in plan.problem_of)
        and all(
            len(context) == 1 or all(plan.stays(axis) for axis, _ in context)
            for context in plan.contexts[: len(network.sizes)]
        )
    )


def _of_copies(a: Prepared, b: Prepared) -> Comparison | None:
    """The comparison of a network with a copy that is stored in another order, whose units are told by their colours.

    None where something differs.
    """
    if not _same_colours(a, b):
        return None
    partners = Partners(a.plan, b.plan)
    for problem in a.plan.problems:
        (space,) = problem.spaces
        partners.put({problem.inner[0]: _by_colour(a.colours[space], b.colours[space])})
    values = Climber(a, b).distances(partners)
    if any(values):
        return None
    canonical = a.settled and b.settled and not a.plan.staying
    return Comparison(values, {s: partners[s] for s in range(len(a.sizes))}, _twins(a), canonical=canonical)


def check_limits(a: Prepared, b: Prepared) -> None:
    """Refuse networks whose sets are so large that the integer costs would overflow."""
    if a.most_elements + b.most_elements > LARGEST_UNION:
        check_unions((*a.inputs, *a.outputs, *a.rows), (*b.inputs, *b.outputs, *b.rows))


def _same_colours(a: Prepared, b: Prepared) -> bool:
    # Copies have as many connections in every layer, which is soon seen.
    return a.connections == b.connections and a.sizes == b.sizes and a.sorted_colours == b.sorted_colours


def _by_colour(x: NDArray[np.uint64], y: NDArray[np.uint64]) -> Ints:
    partner = np.empty(len(x), dtype=np.int64)
    partner[np.argsort(x, kind="stable")] = np.argsort(y, kind="stable")
    return partner


def _twins(network: Prepared) -> list[int]:
    """For each row how many units of its space have another one's colour."""
    counts = []
    for row in network.plan.rows:
        times = np.unique(network.colours[row.space], return_counts=True)[1]
        counts.append(int(times[times > 1].sum()) if row.first and row.space in network.plan.problem_of else 0)
    return counts
