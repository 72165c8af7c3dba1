"""Every solver proves its answer: feasible duals that fit the matching (complementary slackness)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from tests.unit.distance.networks import random_mask
from topostrata.distance import dense, kernels, matching
from topostrata.distance.prepared import prepare
from topostrata.distance.sets import Sets
from topostrata.topology import Topology


def fan_in(rng: np.random.Generator, n_source: int, n: int, density: float) -> Sets:
    return prepare(Topology.from_masks([random_mask(rng, n_source, n, density), np.ones((n, 1))])).fan_in[1]


def exact_costs(sets_a: Sets, sets_b: Sets, n: int) -> np.ndarray:
    """The integer cost of every pair, absent units beyond the end, by Python sets."""
    costs = np.full((n, n), kernels.S, dtype=np.int64)
    for i in range(len(sets_a.sizes)):
        a = set(sets_a.keys[sets_a.ptr[i] : sets_a.ptr[i + 1]].tolist())
        for j in range(len(sets_b.sizes)):
            b = set(sets_b.keys[sets_b.ptr[j] : sets_b.ptr[j + 1]].tolist())
            num, den = len(a ^ b), len(a | b)
            costs[i, j] = (2 * kernels.S * num + den) // (2 * den) if den else 0
    return costs


def padded(values: np.ndarray, n: int) -> np.ndarray:
    out = np.zeros(n, dtype=bool)
    out[: len(values)] = values
    return out


def sparse_problem(sets_a: Sets, sets_b: Sets, n: int) -> Any:
    names = np.arange(sets_b.elements)
    single = kernels.single_costs(sets_a.largest + sets_b.largest)
    most = kernels.increments(sets_a.ptr, sets_a.keys, names, sets_b.back)[1]
    return kernels.sparse_costs(
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
        kernels.NOTHING_KNOWN,
    )


shapes = st.tuples(
    st.integers(0, 2**32),
    st.integers(1, 25),
    st.integers(1, 25),
    st.integers(1, 25),
    st.sampled_from([0.02, 0.1, 0.3, 0.8]),
)


@given(shapes)
@settings(max_examples=150, deadline=None)
def test_the_sparse_solver_proves_its_optimum(shape: tuple[int, int, int, int, float]) -> None:
    """Its dual values are feasible and tight on the matching, which proves that the matching is optimal."""
    seed, n_source, n_a, n_b, density = shape
    rng = np.random.default_rng(seed)
    sets_a, sets_b = fan_in(rng, n_source, n_a, density), fan_in(rng, n_source, n_b, density)
    n = max(n_a, n_b)
    costs = exact_costs(sets_a, sets_b, n)
    u, v, column_of, row_of = matching.optimum(sparse_problem(sets_a, sets_b, n), kernels.S)
    matching.complete(kernels.S, padded(sets_a.empty, n), padded(sets_b.empty, n), u, v, column_of, row_of)
    assert (row_of[column_of] == np.arange(n)).all()
    assert (u[:, None] + v[None, :] <= costs).all()
    assert (u + v[column_of] == costs[np.arange(n), column_of]).all()


@given(shapes)
@settings(max_examples=150, deadline=None)
def test_both_solvers_find_the_same_optimum_and_the_same_ties(shape: tuple[int, int, int, int, float]) -> None:
    """And the tied pairs are those of some optimum: brute force by strongly connected components of all tight pairs."""
    seed, n_source, n_a, n_b, density = shape
    rng = np.random.default_rng(seed)
    sets_a, sets_b = fan_in(rng, n_source, n_a, density), fan_in(rng, n_source, n_b, density)
    n = max(n_a, n_b)
    costs = exact_costs(sets_a, sets_b, n)
    empties = padded(sets_a.empty, n), padded(sets_b.empty, n)
    u, v, column_of, row_of = matching.optimum(sparse_problem(sets_a, sets_b, n), kernels.S)
    matching.complete(kernels.S, *empties, u, v, column_of, row_of)
    tight = u[:, None] + v[None, :] == costs
    graph = np.zeros_like(tight)
    graph[:, row_of] = tight
    _, component = connected_components(graph, connection="strong")
    used = tight & (component[:, None] == component[row_of][None, :]) & (np.bincount(component)[component] > 1)[:, None]
    rows, columns = linear_sum_assignment(costs.astype(float))
    best = int(costs[rows, columns].sum())
    for solution in (
        matching.solve(sparse_problem(sets_a, sets_b, n), kernels.S, *empties),
        dense.solve(n, sets_a, sets_b, np.arange(sets_b.elements), *empties),
    ):
        partner, _, tied, offsets, listed = solution
        assert int(costs[np.arange(n), partner].sum()) == best
        assert tied.tolist() == np.flatnonzero(np.bincount(component)[component] > 1).tolist()
        pairs = set(zip(np.repeat(tied, np.diff(offsets)).tolist(), listed.tolist(), strict=True))
        assert len(pairs) == len(listed), "each once"
        assert pairs == set(zip(*(x.tolist() for x in np.nonzero(used)), strict=True))


@pytest.mark.parametrize(("n_source", "n", "density"), [(90, 300, 0.4), (700, 320, 0.1), (200, 250, 0.03)])
@pytest.mark.parametrize("related", [True, False])
def test_the_dense_solver_is_exact_on_wide_layers(n_source: int, n: int, density: float, related: bool) -> None:
    """Several rounds of the core, duals from one to the next; SciPy's solver is exact at this size."""
    rng = np.random.default_rng(n)
    sets_a = fan_in(rng, n_source, n, density)
    sets_b = sets_a if related else fan_in(rng, n_source, n, density)
    costs = exact_costs(sets_a, sets_b, n)
    partner = dense.solve(n, sets_a, sets_b, np.arange(sets_b.elements), sets_a.empty, sets_b.empty)[0]
    rows, columns = linear_sum_assignment(costs.astype(float))
    assert int(costs[np.arange(n), partner].sum()) == int(costs[rows, columns].sum())


def test_many_pairs_that_share_nothing_are_tied_once_each() -> None:
    """Half of the units of each network read what no unit of the other does: any of them goes with any, at cost 1."""
    rng = np.random.default_rng(0)
    half = 150

    def sets(first: int) -> Sets:
        mask = np.zeros((200, 2 * half), dtype=bool)
        mask[:100, :half] = rng.random((100, half)) < 0.5
        mask[rng.integers(first, first + 50, half), half + np.arange(half)] = True
        return prepare(Topology.from_masks([mask, np.ones((2 * half, 1))])).fan_in[1]

    sets_a, sets_b = sets(100), sets(150)
    empties = sets_a.empty, sets_b.empty
    for solution in (
        dense.solve(2 * half, sets_a, sets_b, np.arange(sets_b.elements), *empties),
        matching.solve(sparse_problem(sets_a, sets_b, 2 * half), kernels.S, *empties),
    ):
        _, _, tied, offsets, listed = solution
        pairs = set(zip(np.repeat(tied, np.diff(offsets)).tolist(), listed.tolist(), strict=True))
        assert len(pairs) == len(listed) == half * half


@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_a_perfect_match_on_listed_pairs_is_exact(seed: int, n: int, span: int, settled: int) -> None:
    """``rematch``, which breaks ties by the next criterion, against SciPy on the same pairs; other rows keep theirs."""
    rng = np.random.default_rng(seed)
    allowed = rng.random((n, n)) < 0.5
    order = rng.permutation(n)
    allowed[np.arange(n), order] = True
    costs = rng.integers(0, span, (n, n))
    offsets = np.concatenate([[0], np.cumsum(allowed.sum(axis=1))]).astype(np.int64)
    tied = np.sort(rng.choice(n + settled, n, replace=False))
    places = rng.permutation(n + settled)  # where the columns of these rows lie, then those of the others
    others = np.setdiff1d(np.arange(n + settled), tied)
    column_of = np.empty(n + settled, dtype=np.int64)
    column_of[tied], column_of[others] = places[order], places[n:]
    row_of = np.argsort(column_of)
    columns = places[np.nonzero(allowed)[1]].astype(np.uint32)
    matching.rematch(tied, offsets, columns, costs[allowed].astype(np.int64), column_of, row_of)
    assert (column_of[others] == places[n:]).all()
    assert (row_of[column_of] == np.arange(n + settled)).all()
    chosen = np.argsort(places)[column_of[tied]]
    assert allowed[np.arange(n), chosen].all()
    rows, best = linear_sum_assignment(np.where(allowed, costs, 10**6))
    assert costs[np.arange(n), chosen].sum() == costs[rows, best].sum()
