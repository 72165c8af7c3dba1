"""Matchings with what is still tied in them, and the criteria that break ties one after the other."""

# ruff: noqa: ANN001, ANN201 - numba infers the types of what it compiles
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance import kernels, matching

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Colours = NDArray[np.uint64]


@dataclass(slots=True, eq=False)
class Ties:
    """A matching of N rows and columns, and the pairs that are still tied in it: rows, offsets of each, columns."""

    column_of: Ints
    row_of: Ints
    rows: Ints
    offsets: Ints
    columns: NDArray[np.uint32]

    def narrow(self, costs: Ints) -> Ints:
        """Match the tied rows by a further criterion; the component of each row that is still tied."""
        self.rows, self.offsets, self.columns, component = matching.rematch(
            self.rows, self.offsets, self.columns, costs, self.column_of, self.row_of
        )
        return component

    def by_colour(self, colours_a: Colours, colours_b: Colours) -> bool:
        """Break the ties by colour; False where what is left tied is more than an exchange of equals."""
        if not len(self.rows):
            return True
        costs = kernels.listed_colour_costs(self.rows, self.offsets, self.columns, colours_a, colours_b)
        component = self.narrow(costs)
        mixed = mixed_components(component, self.rows, self.offsets, self.columns, colours_a, colours_b)
        return not mixed.any() or self._only_equals(component, mixed, colours_a, colours_b)

    def partner(self, size_a: int, size_b: int) -> Ints:
        """The unit of B for each unit of A, -1 where it has none."""
        columns: Ints = self.column_of[:size_a]
        return columns if size_a <= size_b else np.where(columns < size_b, columns, -1)

    def copy(self) -> Ties:
        """The same, to be narrowed apart."""
        return Ties(self.column_of.copy(), self.row_of.copy(), self.rows, self.offsets, self.columns)

    def _only_equals(self, component: Ints, mixed: Bools, colours_a: Colours, colours_b: Colours) -> bool:
        """Whether every optimum left in the ``mixed`` components pairs the same colours equally often.

        All pairs listed are part of some optimum, so the number of pairs per two colours is settled exactly when the
        graph of colours (rows' on one side, columns' on the other) has no cycle. Where one side has one colour, it has
        none.
        """
        n = len(self.column_of)
        x, y = np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.uint64)
        x[: len(colours_a)], y[: len(colours_b)] = colours_a, colours_b
        # Rows of one colour have the same pairs, up to columns of one colour: one row stands for them all.
        first: dict[tuple[int, int], int] = {}
        for k in np.flatnonzero(mixed[component]).tolist():
            first.setdefault((int(component[k]), int(x[self.rows[k]])), k)
        edges = {
            (part, colour, colour_b)
            for (part, colour), k in first.items()
            for colour_b in y[self.columns[self.offsets[k] : self.offsets[k + 1]]].tolist()
        }
        nodes = {(part, 0, colour) for part, colour, _ in edges} | {(part, 1, colour_b) for part, _, colour_b in edges}
        return len(nodes) - len(edges) == len({part for part, _, _ in edges})


def dense_ties(costs: Ints) -> Ties:
    """A matching of minimum cost on a square matrix, and its ties."""
    none = np.zeros(len(costs), dtype=np.bool_)
    return Ties(*matching.solve(_problem(costs), matching.NONE, none, none))


def dense_minimum(costs: Ints) -> int:
    """The cost of the best matching on a square matrix."""
    column_of = matching.optimum(_problem(costs), matching.NONE)[2]
    return int(costs[np.arange(len(costs)), column_of].sum())


def listed(ties: Ties, costs: Ints) -> Ints:
    """The entries of a matrix for the pairs that are still tied."""
    return costs[np.repeat(ties.rows, np.diff(ties.offsets)), ties.columns]


def _problem(costs: Ints) -> tuple[NDArray[np.generic], ...]:
    n = len(costs)
    columns = np.tile(np.arange(n, dtype=np.uint32), n)
    return matching.listed(np.arange(0, n * n + 1, n, dtype=np.int64), columns, np.ascontiguousarray(costs).ravel())


@njit(cache=True, nogil=True)
def mixed_components(component, rows, offsets, columns, colours_a, colours_b):
    """The components of tied rows in which both sides hold more than one colour, as a flag per component."""
    count = 0
    for part in component:
        count = max(count, part + 1)
    x_of, y_of = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    seen = np.zeros(count, dtype=np.bool_)
    two_rows, two_cols = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    for k in range(len(rows)):
        part, i = component[k], rows[k]
        x = colours_a[i] if i < len(colours_a) else np.uint64(0)
        for e in range(offsets[k], offsets[k + 1]):
            j = columns[e]
            y = colours_b[j] if j < len(colours_b) else np.uint64(0)
            if not seen[part]:
                seen[part], x_of[part], y_of[part] = True, x, y
            two_rows[part] |= x != x_of[part]
            two_cols[part] |= y != y_of[part]
    return two_rows & two_cols
