"""The reference alignment, compiled: the same numbers as ``simple.reference``, to the last bit and tie.

The published procedure's value depends on which optimum SciPy's ``linear_sum_assignment`` returns, so its order of
decisions is kept: rows in turn, shortest augmenting paths over the columns from the last to the first, among equally
near columns a free one before others (D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE
Transactions on Aerospace and Electronic Systems 52, 2016). Sums of floats are taken in the same order, too.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, ANN202, C901, FURB136, PLW3301
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc"

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from topostrata.distance import room
from topostrata.distance.canonical import keymap
from topostrata.distance.comparison import Comparison
from topostrata.distance.prepared import Prepared

Ints = NDArray[np.int64]

_PER_PAIR = 8  # bytes of a cost


@njit(cache=True, nogil=True)
def float_costs(ptr_a, keys_a, names, sizes_b, back_b, holders_b):
    """The float64 Jaccard distance of every unit of A and every unit of B, as the published procedure computes it."""
    n_a, n_b = len(ptr_a) - 1, len(sizes_b)
    costs = np.ones((n_a, n_b), dtype=np.float64)
    common = np.zeros(n_b, dtype=np.int64)
    for i in range(n_a):
        size = ptr_a[i + 1] - ptr_a[i]
        row = costs[i]
        if size == 0:
            for j in range(n_b):
                if sizes_b[j] == 0:
                    row[j] = 0.0
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = names[keys_a[e]]
            if other >= 0:
                for h in range(back_b[other], back_b[other + 1]):
                    common[holders_b[h]] += 1
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = names[keys_a[e]]
            if other >= 0:
                for h in range(back_b[other], back_b[other + 1]):
                    j = holders_b[h]
                    if common[j] > 0:
                        total = float(size + sizes_b[j])
                        row[j] = (total - 2.0 * common[j]) / (total - common[j])
                        common[j] = 0
    return costs


@njit(cache=True, nogil=True)
def _least(values):
    """The smallest value; four chains, because one would wait for each comparison."""
    a = b = c = d = np.inf
    whole = len(values) & ~3
    for j in range(0, whole, 4):
        a = values[j] if values[j] < a else a
        b = values[j + 1] if values[j + 1] < b else b
        c = values[j + 2] if values[j + 2] < c else c
        d = values[j + 3] if values[j + 3] < d else d
    for j in range(whole, len(values)):
        a = values[j] if values[j] < a else a
    return min(min(a, b), min(c, d))


@njit(cache=True, nogil=True)
def _nearest(distance, least, row_of):
    """The column at ``least``: of the free ones the first, else the last, as a scan from the end would choose."""
    last = -1
    for j in range(len(distance)):
        if distance[j] == least:
            if row_of[j] < 0:
                return j
            last = j
    return last


@njit(cache=True, nogil=True)
def _relax(row, v, price, least, i, closed, distance, before):
    """Reach the columns from row i; returns the smallest distance. Closed columns (infinite) stay as they are."""
    for j in range(len(row)):
        there = least + row[j] - price - v[j] + closed[j]
        better = there < distance[j]
        before[j] = i if better else before[j]
        distance[j] = there if better else distance[j]
    return _least(distance)


@njit(cache=True, nogil=True)
def _next(distance, least, row_of, position):
    """The column at ``least``: of the free ones the one listed last, else the one listed first."""
    column, free = -1, False
    for j in range(len(distance)):
        if distance[j] == least:
            if row_of[j] < 0:
                if not free or position[j] > position[column]:
                    column, free = j, True
            elif not free and (column < 0 or position[j] < position[column]):
                column = j
    return column


@njit(cache=True, nogil=True)
def assign_in_order(costs):
    """The column of each row of a square matrix of finite costs: minimum sum, ties as SciPy breaks them."""
    n = costs.shape[0]
    u, v, closed = np.zeros(n), np.zeros(n), np.zeros(n)
    column_of, row_of = np.full(n, -1, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    distance, final = np.empty(n), np.empty(n)
    before, scanned = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    # The columns not yet closed, listed from the last to the first; one that is closed is replaced by the last listed.
    listed, position = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for root in range(n):
        row = costs[root]
        for k in range(n):
            distance[k] = row[k] - v[k]
        least = _least(distance)
        j = _nearest(distance, least, row_of)
        if row_of[j] < 0:  # most rows end here, after one look at their columns
            u[root] += least
            row_of[j] = root
            column_of[root] = j
            continue
        for k in range(n):
            listed[k] = position[k] = n - 1 - k
            before[k] = root
        left, n_scanned = n, 0
        while True:
            final[j] = distance[j]
            distance[j] = closed[j] = np.inf
            left -= 1
            listed[position[j]] = listed[left]
            position[listed[left]] = position[j]
            scanned[n_scanned] = j
            n_scanned += 1
            i = row_of[j]
            if i < 0:
                break
            least = _relax(costs[i], v, u[i], least, i, closed, distance, before)
            j = _next(distance, least, row_of, position)
        u[root] += least
        for k in range(n_scanned):
            j = scanned[k]
            closed[j] = 0.0
            if row_of[j] >= 0:
                u[row_of[j]] += least - final[j]
            v[j] -= least - final[j]
        j = scanned[n_scanned - 1]
        while True:
            i = before[j]
            row_of[j] = i
            column_of[i], j = j, column_of[i]
            if i == root:
                break
    return column_of


def reference(a: Prepared, b: Prepared) -> Comparison:
    """The layers' distances and the matches, as ``simple.reference`` gives them."""
    partner: dict[int, Ints] = {}
    values = []
    for space, entering in enumerate(a.plan.entering):
        if not entering:
            partner[space] = np.arange(a.sizes[space], dtype=np.int64)
            continue
        sets_a, sets_b = a.fan_in[space], b.fan_in[space]
        names = keymap(sets_a, sets_b, partner)
        with room.of_layers(a.layers[k].name for k in entering):
            room.check_matrix(a.sizes[space], b.sizes[space], _PER_PAIR)
        costs = float_costs(sets_a.ptr, sets_a.keys, names, sets_b.sizes, sets_b.back, sets_b.holders)
        if costs.shape[0] == costs.shape[1]:
            rows, columns = np.arange(len(costs)), assign_in_order(costs)
        else:
            rows, columns = linear_sum_assignment(costs)
        width = max(costs.shape)
        values.append((float(costs[rows, columns].sum()) + width - len(rows)) / width)
        partner[space] = np.full(costs.shape[0], -1, dtype=np.int64)
        partner[space][rows] = columns
        del costs  # before the next layer's, which takes the same memory: two at once are paged in anew each time
    return Comparison(values, partner, informed=None)
