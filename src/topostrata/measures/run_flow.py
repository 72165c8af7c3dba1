"""The gradient flow of whole runs: its mean over a training, and how it goes with what the runs reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from topostrata.errors import InvalidInputError
from topostrata.runs import StepMetrics

MOMENTS = 11  # over which the paper reports the mean
FEWEST = 8  # runs of which a correlation is given
MEASURES = ("egf_1", "egf_2", "egf_1_per_weight", "egf_2_per_weight", "gradient_norm_1", "gradient_norm_2")
_CONFIDENCE = 1.959963984540054  # standard deviations on each side of 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class RunGradientFlow:
    """The gradient flow of a run: the means over moments that are spread evenly over its training.

    ``steps`` are these moments. The means are named as in ``GradientFlow``; ``None`` where the run has no such metric.
    """

    run: str
    steps: tuple[int, ...]
    egf_1: float | None
    egf_2: float | None
    egf_1_per_weight: float | None
    egf_2_per_weight: float | None
    gradient_norm_1: float | None
    gradient_norm_2: float | None


@dataclass(frozen=True, slots=True)
class FlowCorrelation:
    """How a measure of gradient flow goes with a metric over ``n`` runs: Kendall's tau-b, which minds ties.

    ``low`` and ``high`` bound its 95 % interval (``None`` where all pairs of runs agree, or all disagree);
    ``p_value`` is that of no association, two-sided.
    """

    measure: str
    metric: str
    n: int
    tau: float
    low: float | None
    high: float | None
    p_value: float
    runs: tuple[str, ...]


def run_gradient_flow(run: str, entries: Sequence[StepMetrics], *, moments: int = MOMENTS) -> RunGradientFlow:
    """The means over so many moments of the metrics that ``gradient_flow`` names.

    The moments are the measured ones nearest to points that are spread evenly from the first to the last of them, by
    epoch where all have one, else by step. Raises ``InvalidInputError`` where there are fewer than ``moments``, or two
    points have the same nearest one.

    Source: the mean over 11 epochs of Tessera, Hooker and Rosman (arXiv 2102.01670).
    """
    measured = [entry for entry in entries if any(name in entry.metrics for name in MEASURES)]
    if moments < 1 or len(measured) < moments:
        raise InvalidInputError(
            f"gradient flow of {run!r}: expected {moments} or more steps at which it was measured, "
            f"found {len(measured)}",
            hint="run.log_gradient_flow records it; moments= is the number of steps over which it is averaged",
        )
    epochs = [entry.epoch for entry in measured]
    times = [float(entry.step) if None in epochs else float(entry.epoch or 0.0) for entry in measured]
    points = np.linspace(times[0], times[-1], moments) if moments > 1 else np.array([times[-1]])
    places = [int(np.argmin(np.abs(np.array(times) - point))) for point in points]
    if any(a >= b for a, b in pairwise(places)):
        raise InvalidInputError(
            f"gradient flow of {run!r}: expected steps that are spread over the whole training, found none of "
            f"their own near {moments} evenly spaced points from {times[0]:g} to {times[-1]:g}",
            hint="take fewer moments, or measure at even distances",
        )
    chosen = [measured[place] for place in places]
    means = {}
    for name in MEASURES:
        values = [entry.metrics[name] for entry in chosen if name in entry.metrics]
        means[name] = math.fsum(values) / moments if len(values) == moments else None
    return RunGradientFlow(run, tuple(entry.step for entry in chosen), **means)


def flow_correlation(measure: str, metric: str, values: Mapping[str, tuple[float, float]]) -> FlowCorrelation:
    """Kendall's tau-b of pairs, one for each run, with its interval.

    The interval is Fisher's: ``tanh(atanh(tau) +- 1.96 sqrt(0.437 / (n - 4)))``, with the variance that Fieller,
    Hartley and Pearson found for Kendall's tau (1957). It is an approximation for continuous values, and for few
    ties; nothing in it is drawn by chance. The p-value is exact for small n without ties, else of the normal
    approximation.

    Raises ``InvalidInputError`` for fewer than 8 runs, and where one side is the same in all.

    >>> values = {f"w{k}": (float(k), float(k if k < 6 else 13 - k)) for k in range(8)}
    >>> result = flow_correlation("egf_2", "accuracy", values)
    >>> result.n, round(result.tau, 3), result.low < result.tau < result.high
    (8, 0.929, True)
    """
    n = len(values)
    if n < FEWEST:
        raise InvalidInputError(
            f"correlation of {measure} with {metric}: expected {FEWEST} runs or more that have both, found {n}"
        )
    x, y = np.array(list(values.values())).T
    for name, side in ((measure, x), (metric, y)):
        if (side == side[0]).all():
            raise InvalidInputError(
                f"correlation of {measure} with {metric}: expected runs that differ in {name}, "
                f"found {side[0]} in all {n}"
            )
    from scipy.stats import kendalltau  # noqa: PLC0415 - slow to import

    result = kendalltau(x, y)
    tau, p_value = float(result.statistic), float(result.pvalue)
    if math.isclose(abs(tau), 1, rel_tol=1e-12):
        return FlowCorrelation(measure, metric, n, math.copysign(1, tau), None, None, p_value, tuple(values))
    half = _CONFIDENCE * math.sqrt(0.437 / (n - 4))
    centre = math.atanh(tau)
    return FlowCorrelation(
        measure, metric, n, tau, math.tanh(centre - half), math.tanh(centre + half), p_value, tuple(values)
    )


def flow_correlations(
    flows: Sequence[RunGradientFlow], metric: str, reached: Mapping[str, float]
) -> list[FlowCorrelation]:
    """The correlation of each measure with what the runs reached, by run; runs that lack either do not count."""
    correlations = []
    for measure in MEASURES:
        of_runs = {flow.run: getattr(flow, measure) for flow in flows if flow.run in reached}
        pairs = {run: (value, reached[run]) for run, value in of_runs.items() if value is not None}
        if pairs or measure == "egf_2":
            correlations.append(flow_correlation(measure, metric, pairs))
    return correlations
