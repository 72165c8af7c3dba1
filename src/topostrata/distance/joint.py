"""The match of spaces with several axes, or that share an axis: heads over the units inside them.

All pairs of units are priced at once. Where a single axis is new, its indices are matched by the sum of the costs of
the units that they have. Where there is an outer axis and inner ones, every pair of outer indices is priced by the best
matching of what is inside them, and then the outer indices are matched at these prices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import dense, kernels
from topostrata.distance.partners import Partners, coordinates
from topostrata.distance.plan import Context, Problem
from topostrata.distance.prepared import Prepared
from topostrata.distance.sets import Sets
from topostrata.distance.ties import Ties, dense_minimum, dense_ties, listed

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class JointMatch:
    """The match of each new axis, how many units of each space were ambiguous, and whether nothing was left tied."""

    axes: Mapping[int, Ints]
    ambiguous: Mapping[int, int]
    unique: bool


def match(a: Prepared, b: Prepared, problem: Problem, partner: Partners, costs: Mapping[int, Costs]) -> JointMatch:
    """The match of what a problem is about, at the costs of its spaces' units, given the axes matched before."""
    return _Joint(a, b, problem, partner, costs).solve()


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """The costs of all pairs of units of a space, and of a unit of each network without a partner."""

    pairs: Ints
    lone_a: Ints
    lone_b: Ints


def fan_in_costs(sets_a: Sets, sets_b: Sets, names: Ints) -> Costs:
    """The integer Jaccard costs of the fan-in sets, A's elements called in B by ``names``; alone a unit costs S."""
    shared = dense.shared_counts(sets_a, sets_b, names).astype(np.int64)  # type: ignore[no-untyped-call]
    lone = (np.full(len(sets.sizes), kernels.S, dtype=np.int64) for sets in (sets_a, sets_b))
    return Costs(jaccard_costs(shared, sets_a.sizes, sets_b.sizes), *lone)


def jaccard_costs(shared: Ints, sizes_a: Ints, sizes_b: Ints) -> Ints:
    """The integer Jaccard costs of all pairs of sets, from how many elements they share and their sizes."""
    total = np.add.outer(sizes_a, sizes_b)
    num, den = total - 2 * shared, total - shared
    costs: Ints = np.where(den > 0, (2 * kernels.S * num + den) // np.maximum(2 * den, 1), 0)
    return costs


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The units of a space in one network: shape (indices of the axes around, outer, inner, rest)."""

    units: Ints
    rest: Context

    @staticmethod
    def of(context: Context, problem: Problem) -> _Side:
        """The units of a context, by their places in the problem."""
        new = [] if problem.outer is None else [problem.outer]
        inside = [axis for axis, _ in context if axis in problem.inner]
        places = [axis for axis, _ in context]
        front = [places.index(axis) for axis in (*problem.around, *new, *inside)]
        back = [k for k in range(len(context)) if k not in front]
        sizes = [size for _, size in context]
        around = [sizes[k] for k in front[: len(problem.around)]]
        rest = tuple(context[k] for k in back)
        shape = (
            math.prod(around),
            sizes[places.index(problem.outer)] if problem.outer is not None else 1,
            sizes[places.index(inside[0])] if inside else 1,
            math.prod(size for _, size in rest),
        )
        units = np.arange(math.prod(sizes), dtype=np.int64).reshape(sizes)
        return _Side(units.transpose((*front, *back)).reshape(shape), rest)


@dataclass(frozen=True, slots=True, eq=False)
class _Prices:
    """The costs of all pairs of places (outer, inner) of some spaces together.

    Shape (outer of A, inner of A, outer of B, inner of B); ``lone_a`` and ``lone_b`` are what a place costs that only
    one network has.
    """

    costs: Ints
    lone_a: Ints
    lone_b: Ints

    def pair(self, y: int, z: int) -> Ints:
        """The square matrix of the inner places of two outer ones."""
        n_a, n_b = self.costs.shape[1], self.costs.shape[3]
        n = max(n_a, n_b)
        square = np.zeros((n, n), dtype=np.int64)
        square[:n_a, :n_b] = self.costs[y, :, z, :]
        square[:n_a, n_b:] = self.lone_a[y, :, None]
        square[n_a:, :n_b] = self.lone_b[z, None, :]
        return square


class _Joint:
    def __init__(
        self, a: Prepared, b: Prepared, problem: Problem, partner: Partners, costs: Mapping[int, Costs]
    ) -> None:
        self.a, self.b, self.problem, self.partner = a, b, problem, partner
        self.sides = {
            s: (_Side.of(a.plan.contexts[s], problem), _Side.of(b.plan.contexts[s], problem)) for s in problem.spaces
        }
        self.costs = costs
        # Spaces by the inner axis that they have; those that have none, whose units are one outer index each, by -1.
        self.inside: dict[int, list[int]] = {}
        for s in problem.spaces:
            axes = [axis for axis, _ in a.plan.contexts[s] if axis in problem.inner]
            self.inside.setdefault(axes[0] if axes else -1, []).append(s)

    def solve(self) -> JointMatch:
        plan_a, problem = self.a.plan, self.problem
        sizes = dict(pair for s in problem.spaces for pair in plan_a.contexts[s])
        around = [(axis, sizes[axis]) for axis in problem.around]
        n_around = math.prod(size for _, size in around)
        new = [*problem.inner, *(() if problem.outer is None else (problem.outer,))]
        matches: dict[int, list[Ints]] = {axis: [] for axis in new}
        ambiguous = dict.fromkeys(problem.spaces, 0)
        unique = True
        others = self._images(around)
        for w in range(n_around):
            z = int(others[w])
            if z < 0:
                for axis in problem.inner:
                    shape = (sizes[axis],) if problem.outer is None else (sizes[problem.outer], sizes[axis])
                    matches[axis].append(np.full(shape, -1, dtype=np.int64))
                if problem.outer is not None:
                    matches[problem.outer].append(np.full(sizes[problem.outer], -1, dtype=np.int64))
                continue
            unique &= self._solve_at(w, z, matches, ambiguous)
        axes = {axis: self._shaped(axis, np.stack(rows), around) for axis, rows in matches.items()}
        return JointMatch(axes, ambiguous, unique)

    def _solve_at(self, w: int, z: int, matches: dict[int, list[Ints]], ambiguous: dict[int, int]) -> bool:
        """Match everything at one index of the axes around; False where ties are left."""
        prices = {x: self._prices(spaces, w, z, self._cost_of) for x, spaces in self.inside.items()}
        shades: dict[int, _Prices] = {}

        def shade(x: int) -> _Prices:
            if x not in shades:
                shades[x] = self._prices(self.inside[x], w, z, self._colour_cost_of)
            return shades[x]

        first = next(iter(prices.values())).costs
        n_a, n_b = first.shape[0], first.shape[2]
        columns, unique, tied = self._outer(prices, shade, n_a, n_b)
        for s in self.problem.spaces:
            units = max(side.units.shape[2] * side.units.shape[3] for side in self.sides[s])
            ambiguous[s] += units * len(tied)
        if self.problem.outer is not None:
            matches[self.problem.outer].append(np.where(columns < n_b, columns, -1)[:n_a])
        for x in self.problem.inner:
            size_a, size_b = prices[x].costs.shape[1], prices[x].costs.shape[3]
            inner = np.full((n_a, size_a), -1, dtype=np.int64)
            for y, v in enumerate(columns[:n_a].tolist()):
                if v >= n_b:
                    continue
                ties = dense_ties(prices[x].pair(y, v))
                if y not in tied:
                    for s in self.inside[x]:
                        ambiguous[s] += len(ties.rows) * max(side.units.shape[3] for side in self.sides[s])
                unique &= self._break(ties, x, shade, (w, y), (z, v))
                inner[y] = ties.partner(size_a, size_b)
            matches[x].append(inner if self.problem.outer is not None else inner[0])
        return unique

    def _break(
        self, ties: Ties, x: int, shade: Callable[[int], _Prices], at_a: tuple[int, int], at_b: tuple[int, int]
    ) -> bool:
        """Break the ties of an inner axis by colour; False where what is left is more than an exchange of equals."""
        if not len(ties.rows):
            return True
        s = self.inside[x][0]
        if self.a.plan.exchangeable[s]:
            mine, other = (side.units[at][:, 0] for side, at in zip(self.sides[s], (at_a, at_b), strict=True))
            return ties.by_colour(self.a.colours[s][mine], self.b.colours[s][other])
        ties.narrow(listed(ties, shade(x).pair(at_a[1], at_b[1])))
        return not len(ties.rows)

    def _outer(
        self, prices: Mapping[int, _Prices], shade: Callable[[int], _Prices], n_a: int, n_b: int
    ) -> tuple[Ints, bool, set[int]]:
        """The column of each outer index, whether that is the only choice, and which were tied by fan-in alone."""
        n = max(n_a, n_b)
        if n == 1:
            return np.zeros(1, dtype=np.int64), True, set()
        costs = np.zeros((n, n), dtype=np.int64)
        for price in prices.values():
            for y in range(n):
                for z in range(n):
                    if y < n_a and z < n_b:
                        costs[y, z] += dense_minimum(price.pair(y, z))
                    else:
                        costs[y, z] += int(price.lone_a[y].sum() if y < n_a else price.lone_b[z].sum())
        ties = dense_ties(costs)
        tied = {*ties.rows.tolist()}
        if tied:
            ties.narrow(self._outer_colours(ties, prices, shade, n_a, n_b))
        return ties.column_of, not len(ties.rows), tied

    def _outer_colours(
        self, ties: Ties, prices: Mapping[int, _Prices], shade: Callable[[int], _Prices], n_a: int, n_b: int
    ) -> Ints:
        """For each tied pair of outer indices the least colour cost of an inner matching that is best by fan-in."""
        rows = np.repeat(ties.rows, np.diff(ties.offsets))
        costs = np.zeros(len(rows), dtype=np.int64)
        for k, (y, z) in enumerate(zip(rows.tolist(), ties.columns.tolist(), strict=True)):
            for x, price in prices.items():
                colours = shade(x)
                if y >= n_a or z >= n_b:
                    costs[k] += int(colours.lone_a[y].sum() if y < n_a else colours.lone_b[z].sum())
                    continue
                inner, square = dense_ties(price.pair(y, z)), colours.pair(y, z)
                if len(inner.rows):
                    inner.narrow(listed(inner, square))
                costs[k] += int(square[np.arange(len(square)), inner.column_of].sum())
        return costs

    def _prices(self, spaces: list[int], w: int, z: int, cost_of: Callable[[int], Costs]) -> _Prices:
        """The costs of all pairs of places of these spaces, summed over what else their units are numbered by."""
        total: _Prices | None = None
        for s in spaces:
            mine, other = self.sides[s]
            units_a, units_b = mine.units[w], other.units[z]
            (n_a, m_a, _), (n_b, m_b, rest_b) = units_a.shape, units_b.shape
            cost = cost_of(s)
            rest = self._rest(s, w)
            costs = np.zeros((n_a * m_a, n_b * m_b), dtype=np.int64)
            for r, q in enumerate(rest.tolist()):
                if q < 0:
                    costs += cost.lone_a[units_a[:, :, r].ravel()][:, None]
                else:
                    costs += cost.pairs[np.ix_(units_a[:, :, r].ravel(), units_b[:, :, q].ravel())]
            for q in set(range(rest_b)) - {*rest.tolist()}:
                costs += cost.lone_b[units_b[:, :, q].ravel()][None, :]
            prices = _Prices(
                costs.reshape(n_a, m_a, n_b, m_b), cost.lone_a[units_a].sum(axis=2), cost.lone_b[units_b].sum(axis=2)
            )
            total = (
                prices
                if total is None
                else _Prices(total.costs + prices.costs, total.lone_a + prices.lone_a, total.lone_b + prices.lone_b)
            )
        assert total is not None  # noqa: S101 - every kind has a space
        return total

    def _rest(self, s: int, w: int) -> Ints:
        """For each index of a space's further axes in A that in B, -1 where there is none."""
        mine, other = self.sides[s]
        if not mine.rest:
            return np.zeros(1, dtype=np.int64)
        context = self.a.plan.contexts[s]
        units = mine.units[w, 0, 0]
        at = {axis: index for (axis, _), index in zip(context, coordinates(context, units), strict=True)}
        indices = coordinates(mine.rest, np.arange(len(units)))
        there = np.zeros(len(units), dtype=np.int64)
        alone = np.zeros(len(units), dtype=np.bool_)
        for (axis, _), (_, size), index in zip(mine.rest, other.rest, indices, strict=True):
            image = self.partner.image(axis, index, at)
            alone |= image < 0
            there = there * size + image
        return np.where(alone, -1, there)

    def _images(self, around: list[tuple[int, int]]) -> Ints:
        """For each index of the axes around, in A, that in B."""
        context = self.b.plan.contexts[self.problem.spaces[0]]
        sizes = dict(context)
        other = tuple((axis, sizes[axis]) for axis, _ in around)
        return self.partner.images(tuple(around), other, np.arange(math.prod(n for _, n in around), dtype=np.int64))

    def _shaped(self, axis: int, rows: Ints, around: list[tuple[int, int]]) -> Ints:
        """The match of an axis with the axes in front that ``Plan.within`` names, in its order."""
        names = [name for name, _ in around]
        shape = [size for _, size in around]
        if axis in self.problem.inner and self.problem.outer is not None:
            names.append(self.problem.outer)
            shape.append(rows.shape[1])
        array = rows.reshape((*shape, rows.shape[-1]))
        return array.transpose((*(names.index(outer) for outer in self.a.plan.within[axis]), len(names)))

    def _cost_of(self, s: int) -> Costs:
        return self.costs[s]

    def _colour_cost_of(self, s: int) -> Costs:
        x, y = self.a.colours[s], self.b.colours[s]
        absent = np.zeros(1, dtype=np.uint64)
        return Costs(_colour_costs(x, y), _colour_costs(x, absent)[:, 0], _colour_costs(absent, y)[0])


def _colour_costs(x: NDArray[np.uint64], y: NDArray[np.uint64]) -> Ints:
    n, m = len(x), len(y)
    columns = np.tile(np.arange(m, dtype=np.uint32), n)
    offsets = np.arange(0, n * m + 1, m, dtype=np.int64)
    costs: Ints = kernels.listed_colour_costs(np.arange(n, dtype=np.int64), offsets, columns, x, y)
    return costs.reshape(n, m)
