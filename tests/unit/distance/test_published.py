"""The compiled reference alignment is the plain one, to the last bit and tie."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tests.unit.distance.networks import pairs
from topostrata.distance import published, simple
from topostrata.distance.prepared import prepare
from topostrata.topology import Topology


@given(pairs())
@settings(max_examples=150)
def test_values_and_matches_are_those_of_the_plain_version(pair: tuple[Topology, Topology]) -> None:
    """The compiled code gives the values and the matchings of the plain Python version."""
    a, b = (prepare(topology) for topology in pair)
    compiled, plain = published.reference(a, b), simple.reference(a, b)
    assert compiled.values == plain.values
    assert all((compiled.partners[space] == plain.partners[space]).all() for space in plain.partners)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_ties_are_broken_in_the_order_of_scipy(seed: int, n: int, values: int) -> None:
    """Among several optimal assignments it takes the one that SciPy takes."""
    costs = np.random.default_rng(seed).integers(0, values, (n, n)) / 7
    assert (published.assign_in_order(costs) == linear_sum_assignment(costs)[1]).all()


def test_no_two_matrices_of_costs_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer's costs are dropped before the next one's are made: two would cost pages that are asked for anew."""
    topology = Topology.from_masks([np.eye(6), np.eye(6), np.eye(6)])
    matrices: list[weakref.ref[np.ndarray]] = []

    def costs(*arrays: object, compute: object = published.float_costs) -> np.ndarray:
        assert all(matrix() is None for matrix in matrices)
        matrix: np.ndarray = compute(*arrays)  # type: ignore[operator]
        matrices.append(weakref.ref(matrix))
        return matrix

    monkeypatch.setattr(published, "float_costs", costs)
    published.reference(prepare(topology), prepare(topology))
    assert len(matrices) == 3
