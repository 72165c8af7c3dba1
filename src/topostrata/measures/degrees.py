"""How a layer's connections are spread over its units: variation, assortativity, and a power law fitted to the tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import zeta

from topostrata.topology import Layer

Counts = NDArray[np.int64]

# Fewer units have no tail to speak of: any curve fits them.
FEWEST = 10
_STEP = 1e-3  # of the derivative's five points: truncation and rounding are both near 1e-12 there
_SMALLEST = 690.0  # the logarithm of what is still a normal float: x_min ** -exponent must not fall below


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A discrete power law fitted to the tail of degrees: p(k) = k ** -exponent / zeta(exponent, x_min) for k >= x_min.

    ``units`` have such a degree, and ``distance`` is the Kolmogorov-Smirnov distance of their degrees to the law.
    """

    exponent: float
    x_min: int
    units: int
    distance: float


def variation(degree: Counts) -> float | None:
    """The coefficient of variation: the population's standard deviation over the mean; ``None`` without connections.

    >>> variation(np.array([1, 3]))
    0.5
    """
    mean = float(degree.mean())
    return float(degree.std() / mean) if mean else None


def assortativity(layer: Layer) -> float | None:
    """The Pearson correlation of (fan-out of the source, fan-in of the target) over a layer's connections, -1 to 1.

    ``None`` where either is the same at all connections. Source: Newman, "Assortative mixing in networks" (2002).

    >>> from topostrata.topology import Topology
    >>> round(assortativity(Topology.from_masks([[[1, 1], [1, 0]]])["l0"]), 9)
    -0.5
    """
    return correlation(layer.fan_out[layer.sources], layer.fan_in[layer.targets])


def correlation(fan_out: Counts, fan_in: Counts) -> float | None:
    """The Pearson correlation of the degrees at the ends of connections; ``None`` where either is the same at all.

    >>> round(correlation(np.array([1, 2, 2]), np.array([2, 1, 2])), 9)
    -0.5
    """
    if not fan_out.size or np.ptp(fan_out) == 0 or np.ptp(fan_in) == 0:
        return None
    out, into = fan_out - fan_out.mean(), fan_in - fan_in.mean()
    return float((out @ into) / np.sqrt((out @ out) * (into @ into)))


def power_law(degree: Counts) -> PowerLaw | None:
    """Clauset's fit to the degrees above 0: each x_min has its likeliest exponent, the closest of these laws is taken.

    Closest by the Kolmogorov-Smirnov distance. A tail has at least ``FEWEST`` units and two different degrees; ``None``
    where there is none. The fit says nothing about whether the degrees follow a power law. Source: Clauset, Shalizi and
    Newman, "Power-law distributions in empirical data" (2009), sections 3.1 to 3.3 and appendix B.

    >>> law = power_law(np.repeat([1, 2, 3, 4, 6], [64, 16, 7, 4, 2]))
    >>> law.x_min, round(law.exponent, 3)
    (1, 2.468)
    """
    values, units = np.unique(degree[degree > 0], return_counts=True)
    in_tail = np.cumsum(units[::-1])[::-1]
    tails = np.flatnonzero((in_tail >= FEWEST) & (np.arange(values.size) < values.size - 1))
    logarithms = np.cumsum((units * np.log(values))[::-1])[::-1]
    x_min = values[tails].astype(float)
    exponent = _exponents(x_min, logarithms[tails] / in_tail[tails])
    best: PowerLaw | None = None
    for tail, alpha in zip(tails.tolist(), exponent.tolist(), strict=True):
        if np.isfinite(alpha):
            distance = _distance(values[tail:], units[tail:], alpha)
            if best is None or distance < best.distance:
                best = PowerLaw(alpha, int(values[tail]), int(in_tail[tail]), distance)
    return best


def _exponents(x_min: NDArray[np.float64], mean_logarithm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per tail where the derivative of its likelihood is 0; NaN for one so steep that floats do not hold its law.

    The derivative of log zeta rises with the exponent, so halving an interval finds the place.
    """
    with np.errstate(divide="ignore"):
        steepest = np.minimum(1000.0, _SMALLEST / np.log(x_min))
    low, high = np.full(x_min.size, 1.0 + 4 * _STEP), steepest.copy()
    for _ in range(60):
        middle = (low + high) / 2
        rising = _slope(middle, x_min) + mean_logarithm > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return np.where(high < steepest, (low + high) / 2, np.nan)


def _slope(exponent: NDArray[np.float64], x_min: NDArray[np.float64]) -> NDArray[np.float64]:
    """The derivative of log zeta(exponent, x_min) by the exponent, by central differences of the fourth order."""
    before2, before, after, after2 = (np.log(zeta(exponent + k * _STEP, x_min)) for k in (-2, -1, 1, 2))
    slope: NDArray[np.float64] = (before2 - 8 * before + 8 * after - after2) / (12 * _STEP)
    return slope


def _distance(values: Counts, units: Counts, exponent: float) -> float:
    """The largest gap between the shares of units up to a degree and the law's.

    Between two degrees that occur only the law grows, so the gap is largest at one or just before the next.
    """
    shares = np.cumsum(units) / units.sum()
    law = 1 - zeta(exponent, np.append(values + 1, values[1:])) / zeta(exponent, values[0])
    return float(np.abs(np.append(shares, shares[:-1]) - law).max())
