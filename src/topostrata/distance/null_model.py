"""The chance level: how far apart two independent random layers of the same shape and densities come out.

No distance means anything without it (docs/design/010-nnstd.md): two random layers of 784 units at 0.6 % density score
0.82 after matching, not 1, because the matching finds what agreement there is. The level is simulated, once per shape
and density bucket, with a fixed seed; above 2,000 units it is carried on from two narrower layers, in which a unit has
the same fan-in and fewer candidates: the level falls with the logarithm of their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import simple
from topostrata.distance.alignments import has_numba
from topostrata.distance.comparison import Planned
from topostrata.distance.plan import plan_of
from topostrata.errors import InvalidInputError
from topostrata.topology import Layer, Mask, Space, Topology

SEED = 20200629
WIDEST = 2000
# Densities within 2 % of each other share a bucket: the level moves by less than 0.003 within one.
_STEP = math.log(1.02)


@dataclass(frozen=True, slots=True)
class Chance:
    """The mean distance of independent layers, 0 to 1, its standard error, and the spread of single draws.

    ``extrapolated`` says that the layer is wider than what was simulated.
    """

    level: float
    error: float
    spread: float
    draws: int
    extrapolated: bool = False

    def z(self, distance: float) -> float:
        """How many spreads a distance lies from the level: far below 0 = far more alike than chance.

        A spread of 0 (empty or full layers) gives 0 where the distance is the level, else an infinite value.
        """
        gap = distance - self.level
        return gap / self.spread if self.spread > 0 else 0.0 if gap == 0 else math.copysign(math.inf, gap)


def chance(
    elements: int,
    widths: tuple[int, int],
    densities: tuple[float, float],
    *,
    matched: bool = True,
    exact: bool = False,
) -> Chance:
    """The chance level of a layer with ``elements`` possible inputs per unit (source units times taps).

    ``widths`` and ``densities`` are those of the two networks; ``matched=False`` compares unit i with unit i. With
    ``exact`` the widths and densities themselves are simulated, however wide; this may take minutes.
    """
    if elements < 1 or min(widths) < 1 or not all(0.0 <= d <= 1.0 for d in densities):
        raise InvalidInputError(
            f"chance: expected at least one input and unit and densities of 0 to 1, "
            f"found {elements}, {widths} and {densities}"
        )
    # Swapping the networks must not change the level.
    (width_a, density_a), (width_b, density_b) = sorted(zip(widths, densities, strict=True))
    if exact:
        return _simulated(elements, width_a, width_b, density_a, density_b, matched)
    density_a, density_b = _bucket(density_a), _bucket(density_b)
    if max(widths) <= WIDEST or not matched:
        scale = min(1.0, WIDEST / max(widths))  # unit by unit, more units only narrow the spread
        narrow = _simulated(elements, *_scaled(width_a, width_b, scale), density_a, density_b, matched)
        return Chance(narrow.level, narrow.error, narrow.spread * math.sqrt(scale), narrow.draws)
    top, half = (
        _simulated(elements, *_scaled(width_a, width_b, width / max(widths)), density_a, density_b, matched)
        for width in (WIDEST, WIDEST // 2)
    )
    steps = math.log2(max(widths) / WIDEST)
    level = min(1.0, max(0.0, top.level + steps * (top.level - half.level)))
    error = math.hypot((1 + steps) * top.error, steps * half.error)
    return Chance(level, error, top.spread * math.sqrt(WIDEST / max(widths)), top.draws, extrapolated=True)


def _scaled(width_a: int, width_b: int, scale: float) -> tuple[int, int]:
    return max(1, round(width_a * scale)), max(1, round(width_b * scale))


def _bucket(density: float) -> float:
    """The middle of the density's bucket; 0 and 1 stay what they are."""
    if density in {0.0, 1.0}:
        return density
    if density > 0.5:  # near 1 it is the missing connections that count
        return 1.0 - _bucket(1.0 - density)
    return math.exp(round(math.log(density) / _STEP) * _STEP)


@lru_cache(maxsize=4096)
def _simulated(elements: int, width_a: int, width_b: int, density_a: float, density_b: float, matched: bool) -> Chance:
    draws = max(4, min(200, 4000 // max(width_a, width_b)))
    rng = np.random.default_rng([SEED, elements, width_a, width_b, int(density_a * 1e9), int(density_b * 1e9)])
    values = []
    for _ in range(draws):
        cells_a, cells_b = _cells(rng, elements, width_a, density_a), _cells(rng, elements, width_b, density_b)
        values.append(_distance(cells_a, cells_b, elements, width_a, width_b, matched=matched))
    spread = float(np.std(values, ddof=1))
    return Chance(math.fsum(values) / draws, spread / math.sqrt(draws), spread, draws)


def _cells(rng: np.random.Generator, elements: int, width: int, density: float) -> NDArray[np.int64]:
    """The cells of an independent mask with exactly the connections that the density says."""
    size = elements * width
    count = round(density * size)
    few = min(count, size - count)
    drawn = np.unique(rng.integers(0, size, few + few // 8 + 16))
    while len(drawn) < few:
        drawn = np.unique(np.concatenate([drawn, rng.integers(0, size, few + 16)]))
    chosen: NDArray[np.int64] = np.sort(rng.permutation(drawn)[:few])
    if few == count:
        return chosen
    everything = np.ones(size, dtype=bool)
    everything[chosen] = False
    return np.flatnonzero(everything)


def _distance(
    cells_a: NDArray[np.int64], cells_b: NDArray[np.int64], elements: int, width_a: int, width_b: int, *, matched: bool
) -> float:
    source = Space("source", elements, labelled=True)
    a, b = (
        Topology((Layer("layer", source, Space("target", width), Mask(elements, width, cells)),))
        for cells, width in ((cells_a, width_a), (cells_b, width_b))
    )
    if not matched:
        return simple.identity(*(Planned(t, plan_of(t.wiring)) for t in (a, b))).values[0]
    # The optimum of one layer is the same number whoever finds it; the compiled kernels are faster.
    if not has_numba():
        return simple.reference(*(Planned(t, plan_of(t.wiring)) for t in (a, b))).values[0]
    from topostrata.distance.canonical import first_value  # noqa: PLC0415 - needs numba
    from topostrata.distance.prepared import prepare_sets  # noqa: PLC0415

    return first_value(prepare_sets(a), prepare_sets(b))
