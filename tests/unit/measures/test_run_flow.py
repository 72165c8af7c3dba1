"""Gradient flow over runs: which moments are averaged, and Kendall's tau with its interval."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import pytest

from topostrata.errors import InvalidInputError
from topostrata.measures.run_flow import FEWEST, flow_correlation, flow_correlations, run_gradient_flow
from topostrata.runs import StepMetrics

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entries(steps: list[int], epochs: list[float | None] | None = None) -> list[StepMetrics]:
    """Measured at these steps, with EGF_2 the square of the step; and an accuracy at a step of its own."""
    times = epochs or [None] * len(steps)
    measured = [StepMetrics("w0", s, NOW, epoch, {"egf_2": s**2.0}) for s, epoch in zip(steps, times, strict=True)]
    return [*measured, StepMetrics("w0", 10**6, NOW, None, {"accuracy": 0.5})]


def test_eleven_moments_are_spread_over_the_training() -> None:
    """Of 101 steps every tenth; of eleven all."""
    flow = run_gradient_flow("w0", entries(list(range(101))))
    assert flow.steps == tuple(range(0, 101, 10))
    assert flow.egf_2 == pytest.approx(np.mean(np.arange(0, 101, 10) ** 2.0), rel=1e-15)
    assert (flow.egf_1, flow.gradient_norm_2) == (None, None)
    assert run_gradient_flow("w0", entries(list(range(3, 14)))).steps == tuple(range(3, 14))


def test_moments_are_by_epoch_where_all_have_one() -> None:
    """Steps that were taken at another pace say nothing of the training."""
    steps = [0, 1, 2, 3, 4, 1000, 2000]
    assert run_gradient_flow("w0", entries(steps, [0, 1, 2, 3, 4, 5, 6]), moments=3).steps == (0, 3, 2000)
    assert run_gradient_flow("w0", entries(steps), moments=3).steps == (0, 1000, 2000)
    assert run_gradient_flow("w0", entries(steps), moments=1).steps == (2000,)


def test_too_few_moments_are_refused() -> None:
    """Fewer than asked for, or none of their own near each point."""
    with pytest.raises(InvalidInputError, match="expected 11 or more steps at which it was measured, found 10"):
        run_gradient_flow("w0", entries(list(range(10))))
    with pytest.raises(InvalidInputError, match="expected steps that are spread over the whole training"):
        run_gradient_flow("w0", entries([*range(20), 1000]))


def tau_b(pairs: list[tuple[float, float]]) -> float:
    """Kendall's tau-b from its definition."""
    agree = ties_x = ties_y = 0
    every = list(combinations(pairs, 2))
    for (a, b), (c, d) in every:
        sign = (a > c) - (a < c), (b > d) - (b < d)
        agree += sign[0] * sign[1]
        ties_x += not sign[0]
        ties_y += not sign[1]
    return agree / math.sqrt((len(every) - ties_x) * (len(every) - ties_y))


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_that_of_the_definition_with_ties(seed: int) -> None:
    """Many ties on both sides; the interval is Fisher's around it."""
    random = np.random.default_rng(seed)
    pairs = {f"w{k}": (float(a), float(b)) for k, (a, b) in enumerate(random.integers(0, 5, (20, 2)))}
    result = flow_correlation("egf_2", "accuracy", pairs)
    assert result.tau == pytest.approx(tau_b(list(pairs.values())), rel=1e-12)
    assert (result.n, result.runs) == (20, tuple(pairs))
    assert result.low is not None
    assert result.high is not None
    assert math.atanh(result.high) - math.atanh(result.tau) == pytest.approx(1.96 * math.sqrt(0.437 / 16), rel=1e-4)
    assert math.atanh(result.tau) - math.atanh(result.low) == pytest.approx(1.96 * math.sqrt(0.437 / 16), rel=1e-4)


def test_the_interval_holds_the_true_tau_so_often() -> None:
    """Of correlated normal pairs, whose tau is known, in about 95 % of 600 samples of eight."""
    random = np.random.default_rng(1)
    truth, hits = 2 / math.pi * math.asin(0.6), 0
    for _ in range(600):
        x, z = random.standard_normal((2, FEWEST))
        y = 0.6 * x + 0.8 * z
        result = flow_correlation("egf_2", "accuracy", {f"{k}": pair for k, pair in enumerate(zip(x, y, strict=True))})
        hits += result.low is not None and result.high is not None and result.low <= truth <= result.high
    assert 0.92 < hits / 600 < 0.98


def test_all_pairs_that_agree_have_no_interval() -> None:
    """Its width would be 0, which is not what is known."""
    result = flow_correlation("egf_2", "accuracy", {f"w{k}": (float(k), k * 2.0) for k in range(8)})
    assert (result.tau, result.low, result.high) == (1, None, None)
    assert result.p_value == pytest.approx(2 / math.factorial(8))


def test_what_says_nothing_is_refused() -> None:
    """Too few runs, and a side that is the same in all."""
    few = {f"w{k}": (float(k), float(k)) for k in range(7)}
    with pytest.raises(InvalidInputError, match="expected 8 runs or more that have both, found 7"):
        flow_correlation("egf_2", "accuracy", few)
    with pytest.raises(InvalidInputError, match=r"expected runs that differ in accuracy, found 0\.5 in all 8"):
        flow_correlation("egf_2", "accuracy", {f"w{k}": (float(k), 0.5) for k in range(8)})


def test_runs_that_lack_either_do_not_count() -> None:
    """Each measure is given over the runs that have it."""
    flows = [run_gradient_flow(f"w{k}", entries([k]), moments=1) for k in range(9)]
    reached = {f"w{k}": float(-k) for k in range(12) if k != 4}
    (result,) = flow_correlations(flows, "accuracy", reached)
    assert (result.measure, result.n, result.tau) == ("egf_2", 8, -1)
    with pytest.raises(InvalidInputError, match="found 0"):
        flow_correlations([], "accuracy", reached)
