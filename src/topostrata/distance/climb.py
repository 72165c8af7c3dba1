"""From a first match of all spaces to a better one: one problem after the other is matched anew, what is better stays.

Points C and D of docs/design/013-overlap.md.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def,misc"

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance import room
from topostrata.distance.canonical import entering, keymap, row_value
from topostrata.distance.partners import Partners
from topostrata.distance.plan import Problem
from topostrata.distance.prepared import Prepared
from topostrata.distance.proposals import Kind, Known, Proposal, Proposer

_STEPS = 100

Ints = NDArray[np.int64]


@njit(cache=True, nogil=True)
def common_counts(ptr_a, keys_a, names, mine, ptr_b, keys_b, elements_b):
    """How many elements each unit of A shares with its partner."""
    counts = np.zeros(len(ptr_a) - 1, dtype=np.int64)
    stamp = np.full(elements_b, -1, dtype=np.int64)
    for i in range(len(counts)):
        j = mine[i]
        if j < 0:
            continue
        for e in range(ptr_b[j], ptr_b[j + 1]):
            stamp[keys_b[e]] = i
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = names[keys_a[e]]
            if other >= 0 and stamp[other] == i:
                counts[i] += 1
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A match of all spaces: the partners, and how many units of each space no structure decided.

    ``rows`` are what is climbed by, row by row of the distance: the common connections, or the distance.
    """

    partners: Partners
    undecided: Mapping[int, int]
    rows: Sequence[float] = ()


Better = Callable[[Match, Problem], Match | None]


class Climber:
    """The climbs between two networks; ``unique`` turns False where a tie was left that storage order may decide."""

    def __init__(self, a: Prepared, b: Prepared) -> None:
        self.a, self.b = a, b
        self.unique = True
        self._proposer = Proposer(a, b)
        self._touched = {problem: self._rows(problem) for problem in a.plan.problems}

    def complete(self, sure: Mapping[int, Ints]) -> Match:
        """The match of all problems, one after the other, by most overlap; ``sure`` stands for those still to come."""
        partners = Partners(self.a.plan, self.b.plan)
        undecided: dict[int, int] = {}
        for problem in self.a.plan.problems:
            proposal = self._propose(problem, Known({**sure, **partners}, partners, {}), "overlap")
            undecided |= proposal.undecided
            partners.put(proposal.axes)
        return Match(partners, undecided)

    def most_overlap(self, match: Match) -> Match:
        """The match with most common connections that single problems, matched anew, lead to."""
        return self._climb(replace(match, rows=self.overlaps(match.partners)), self._more_overlap)

    def least_distance(self, match: Match) -> Match:
        """The match of smallest distance that single problems, matched anew, lead to."""
        return self._climb(replace(match, rows=self.distances(match.partners)), self._less_distance)

    def overlaps(self, partners: Mapping[int, Ints]) -> list[int]:
        """The common connections of each row of the distance."""
        return [int(self._common(k, partners).sum()) for k in range(len(self.a.rows))]

    def distances(self, partners: Mapping[int, Ints]) -> list[float]:
        """The distance of each row."""
        return [row_value(self.a, self.b, k, partners) for k in range(len(self.a.rows))]

    def _climb(self, match: Match, better: Better) -> Match:
        """Forward and backward over the problems, until each in a row brought nothing."""
        problems = self.a.plan.problems
        there_and_back = (*problems, *problems[-2:0:-1])
        idle = step = 0
        while idle < len(problems) and step < _STEPS:
            improved = better(match, there_and_back[step % len(there_and_back)])
            step += 1
            idle = idle + 1 if improved is None else 1
            match = improved or match
        return match

    def _more_overlap(self, match: Match, problem: Problem) -> Match | None:
        proposal = self._propose(problem, Known(match.partners, match.partners, {}), "overlap")
        if (partners := _changed(match, proposal)) is None:
            return None
        rows = list(match.rows)
        for k in self._touched[problem]:
            rows[k] = int(self._common(k, partners).sum())
        return _taken(match, proposal, partners, rows) if sum(rows) > sum(match.rows) else None

    def _less_distance(self, match: Match, problem: Problem) -> Match | None:
        kinds: tuple[Kind, ...] = ("joint", "slope") if self.a.plan.plain else ("joint",)
        for kind in kinds:
            common = self._common_inputs(problem, match.partners) if kind == "slope" else {}
            proposal = self._propose(problem, Known(match.partners, match.partners, common), kind)
            if (partners := _changed(match, proposal)) is None:
                continue
            rows = list(match.rows)
            for k in self._touched[problem]:
                rows[k] = row_value(self.a, self.b, k, partners)
            if math.fsum(rows) < math.fsum(match.rows):
                return _taken(match, proposal, partners, rows)
        return None

    def _propose(self, problem: Problem, known: Known, kind: Kind) -> Proposal:
        with room.of_layers(entering(self.a, problem)):
            proposal = self._proposer.propose(problem, known, kind)
        self.unique &= proposal.unique
        return proposal

    def _rows(self, problem: Problem) -> list[int]:
        """The rows of the distance that a match of this problem changes."""
        plan = self.a.plan
        new = {*problem.inner, problem.outer}
        contexts = {c for c, context in enumerate(plan.contexts) if any(axis in new for axis, _ in context)}
        return [
            k
            for k, row in enumerate(plan.rows)
            if row.space in contexts or any(plan.sources[layer] in contexts for layer in row.layers)
        ]

    def _common(self, row: int, partners: Mapping[int, Ints]) -> Ints:
        """For each unit of the row's space how many connections of the row it shares with its partner."""
        mine, other = self.a.rows[row], self.b.rows[row]
        names = keymap(mine, other, partners)
        partner = partners[self.a.plan.rows[row].space]
        common: Ints = common_counts(mine.ptr, mine.keys, names, partner, other.ptr, other.keys, other.elements)
        return common

    def _common_inputs(self, problem: Problem, partners: Mapping[int, Ints]) -> dict[int, Ints]:
        """For the spaces that a problem's space feeds; in a plain network each has one row."""
        (space,) = problem.spaces
        fed = {self.a.plan.layers[k][1] for k in self.a.plan.outgoing[space]}
        return {row.space: self._common(k, partners) for k, row in enumerate(self.a.plan.rows) if row.space in fed}


def _changed(match: Match, proposal: Proposal) -> Partners | None:
    """The partners with those that are proposed; None where these are the same."""
    if all(np.array_equal(match.partners.axes[axis], columns) for axis, columns in proposal.axes.items()):
        return None
    return match.partners.replaced(proposal.axes)


def _taken(match: Match, proposal: Proposal, partners: Partners, rows: Sequence[float]) -> Match:
    return Match(partners, {**match.undecided, **proposal.undecided}, rows)
