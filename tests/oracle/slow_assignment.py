"""Exact assignments and integer costs for the slow version of the canonical alignment, as matrices of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from scipy.sparse.csgraph import connected_components

S = 2329089562800


def hungarian(cost: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact minimum-cost perfect matching on the allowed pairs: column of each row, row duals, column duals."""
    n = len(cost)
    big = np.int64((int(cost.max()) + 1) * (n + 1))
    cost = np.where(allowed, cost, big).astype(np.int64)
    u, v = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    owner = np.full(n + 1, n)  # row of each column; column n is the virtual start
    for row in range(n):
        owner[n] = row
        column = n
        least = np.full(n, 2**62, dtype=np.int64)
        way = np.full(n, n)
        used = np.zeros(n + 1, dtype=bool)
        while True:
            used[column] = True
            i = owner[column]
            reduced = cost[i] - u[i] - v[:n]
            better = ~used[:n] & (reduced < least)
            least[better], way[better] = reduced[better], column
            free = np.flatnonzero(~used[:n])
            nxt = free[np.argmin(least[free])]
            delta = least[nxt]
            u[owner[used]] += delta
            v[used] -= delta
            least[free] -= delta
            column = nxt
            if owner[column] == n:
                break
        while column != n:
            owner[column] = owner[way[column]]
            column = way[column]
    columns = np.empty(n, dtype=int)
    columns[owner[:n]] = np.arange(n)
    assert not (cost[np.arange(n), columns] == big).any()
    return columns, u[:n], v[:n]


def lexicographic(criteria: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The matching that is optimal for each criterion among the optima of those before, and the components after each.

    Components are numbers per row; a row's column is in its component.
    """
    n = len(criteria[0])
    allowed = np.ones((n, n), dtype=bool)
    component = np.zeros(n, dtype=int)
    columns = np.arange(n)
    history = []
    for cost in criteria:
        refined_component = component.copy()
        total = 0
        for k in range(component.max() + 1):
            rows = np.flatnonzero(component == k)
            cols = columns[rows]
            sub, edges = cost[np.ix_(rows, cols)], allowed[np.ix_(rows, cols)]
            match, u, v = hungarian(sub, edges)
            tight = edges & (sub - u[:, None] - v[None, :] == 0)
            owner = np.empty(len(rows), dtype=int)
            owner[match] = np.arange(len(rows))
            graph = np.zeros_like(tight)
            graph[:, owner] = tight
            count, labels = connected_components(graph, connection="strong")
            columns[rows] = cols[match]
            keep = tight & (labels[:, None] == labels[owner][None, :])
            allowed[np.ix_(rows, cols)] = keep
            refined_component[rows] = total + labels
            total += count
        component = refined_component
        history.append(component.copy())
    return columns, history


def jaccard(
    a: Sequence[AbstractSet[object]], b: Sequence[AbstractSet[object]], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of xor and or of every two sets; absent units beyond the end have the empty set."""
    empty: AbstractSet[object] = frozenset()
    num, den = np.zeros((n, n), dtype=np.int64), np.zeros((n, n), dtype=np.int64)
    for i in range(n):
        set_a = a[i] if i < len(a) else empty
        for j in range(n):
            set_b = b[j] if j < len(b) else empty
            common = len(set_a & set_b)
            den[i, j] = len(set_a) + len(set_b) - common
            num[i, j] = den[i, j] - common
    return num, den


def integer(num: np.ndarray, den: np.ndarray) -> np.ndarray:
    return np.where(den > 0, (2 * S * num + den) // np.maximum(2 * den, 1), 0).astype(np.int64)
