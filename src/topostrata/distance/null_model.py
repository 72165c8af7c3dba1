"""The chance level: how far apart two independent random layers come out.

No distance means anything without it (docs/design/010-nnstd.md): two random layers of 784 units at 0.6 % density score
0.82 after matching, not 1, because the matching finds what agreement there is. What independent layers have in common
is a choice, and there are two of them. ``degree_levels`` keeps the degrees of every unit of both networks: training
makes hubs, and hubs alone bring two networks nearer. ``chance`` keeps the shape and the densities only; it is simulated
once per shape and density bucket, with a fixed seed; above 2,000 units it is carried on from two narrower layers, in
which a unit has the same fan-in and fewer candidates: the level falls with the logarithm of their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from topostrata.copies import degree_kept_chain, from_degrees
from topostrata.distance import simple
from topostrata.distance.alignments import has_numba
from topostrata.distance.comparison import Planned
from topostrata.distance.plan import plan_of
from topostrata.errors import InvalidInputError
from topostrata.topology import Layer, Mask, Space, Topology

SEED = 20200629
VERSION = 1  # of the levels by degrees, which archives keep: another number of draws or of rounds is another version
WIDEST = 2000
# Densities within 2 % of each other share a bucket: the level moves by less than 0.003 within one.
_STEP = math.log(1.02)


Kept = Literal["degrees", "density"]
DRAWS = 12
# Distances are means of exact quotients: what single draws differ by below this is the rounding of their sums.
NOISE = 1e-12


@dataclass(frozen=True, slots=True)
class Chance:
    """The mean distance of independent layers, 0 to 1, its standard error, and the spread of single draws.

    ``kept`` is what independent layers have in common with the two: ``"degrees"`` of every unit, or the ``"density"``.
    ``extrapolated`` says that the layer is wider than what was simulated.
    """

    level: float
    error: float
    spread: float
    draws: int
    extrapolated: bool = False
    kept: Kept = "density"

    def z(self, distance: float) -> float | None:
        """How many standard deviations a distance lies from the level: far below 0 = far more alike than chance.

        The deviation is that of a further draw from the mean of these: the spread and the error of the mean together.
        None where draws do not differ by more than rounding, as in full layers: no distance is a matter of chance
        there. None too where only the density was kept, since hubs alone would look like kinship.
        """
        if self.kept != "degrees" or self.spread <= NOISE:
            return None
        return (distance - self.level) / math.hypot(self.spread, self.error)


@dataclass(frozen=True, slots=True)
class PairChance:
    """The distance of the networks ``a`` and ``b`` of a matrix, and the level that independent ones have."""

    a: str
    b: str
    nnstd: float
    chance: Chance

    @property
    def z(self) -> float | None:
        """How many deviations the distance lies from chance, as ``Chance.z``."""
        return self.chance.z(self.nnstd)


@dataclass(frozen=True, slots=True)
class MatrixChance:
    """The chance level of a matrix of distances: that of some ``pairs`` of it, of the ``of`` that it has."""

    kept: Kept
    pairs: tuple[PairChance, ...]
    of: int

    @staticmethod
    def of_json(told: Mapping[str, Any]) -> MatrixChance:
        """What ``dataclasses.asdict`` made of one."""
        pairs = (PairChance(**{**pair, "chance": Chance(**pair["chance"])}) for pair in told["pairs"])
        return MatrixChance(told["kept"], tuple(pairs), told["of"])

    def __str__(self) -> str:
        """The level in words, and of which pairs it is."""
        span = f"chance {self.level:.4f} ({self.low:.4f} to {self.high:.4f}), {self.kept} kept"
        draws = min(pair.chance.draws for pair in self.pairs)
        z = [pair.z for pair in self.pairs if pair.z is not None]
        away = f"; z of these {min(z):.1f} to {max(z):.1f}" if z else ""
        return f"{span}: {len(self.pairs):,} of {self.of:,} pairs, {draws} draws each{away}"

    @property
    def level(self) -> float:
        """The mean level of these pairs, 0 to 1."""
        return math.fsum(pair.chance.level for pair in self.pairs) / len(self.pairs)

    @property
    def low(self) -> float:
        """The lowest level of a pair."""
        return min(pair.chance.level for pair in self.pairs)

    @property
    def high(self) -> float:
        """The highest level of a pair."""
        return max(pair.chance.level for pair in self.pairs)


def check_kept(kept: object) -> None:
    """Refuse what is no null model by name."""
    if kept is not None and kept not in get_args(Kept):
        raise InvalidInputError(f"chance: expected 'degrees', 'density' or None, found {kept!r}")


Levels: TypeAlias = "tuple[list[Chance], Chance]"


class Memory(Protocol):
    """Where levels that were drawn before may be found: the archive."""

    def get(self, key: str, rows: int) -> Levels | None:
        """What was kept under this key, of so many rows; None where nothing was."""

    def put(self, key: str, levels: Levels) -> None:
        """Keep levels under a key."""


def degree_levels(
    a: Topology,
    b: Topology,
    compared: Callable[[Topology, Topology], list[float]],
    key: str,
    names: Sequence[str],
    *,
    symmetric: bool,
    memory: Memory | None = None,
) -> Levels:
    """The chance level of each row of the distance of ``a`` and ``b``, and of their mean, all degrees of both kept.

    ``compared`` gives the distances of two networks, row by row, ``key`` says how, and ``names`` are those of the rows.
    ``DRAWS`` pairs of independent copies (``copies.degree_kept_chain``) are compared as the networks are, all layers
    together. The levels depend on nothing but the degrees, and are the same in whichever order two networks are named
    if their distance is ``symmetric``; those of the last 256 pairs of degrees are remembered, and those in ``memory``.
    """
    begins = [from_degrees(network) for network in (a, b)]
    digests = [network.digest for network in begins]
    remembered = "/".join([key, *(sorted(digests) if symmetric else digests), *names])
    levels = _levels.get(remembered)
    if levels is None and memory is not None:
        levels = memory.get(remembered, len(names))
    if levels is None:
        draws = islice(zip(*_chains(begins, digests), strict=True), DRAWS)
        values = np.array([compared(x, y) for x, y in draws])
        rows = [_chance(row, "degrees") for row in values.T.tolist()]
        levels = rows, _chance([math.fsum(draw) / len(draw) for draw in values.tolist()], "degrees")
        if memory is not None:
            memory.put(remembered, levels)
    while len(_levels) >= _REMEMBERED:
        _levels.pop(next(iter(_levels)), None)
    _levels[remembered] = levels
    return levels


_REMEMBERED = 256
_levels: dict[str, Levels] = {}


def independent(a: Topology, b: Topology, draws: int) -> Iterator[tuple[Topology, Topology]]:
    """So many pairs of independent networks with the degrees of ``a`` and of ``b``, the same whichever comes first."""
    begins = [from_degrees(network) for network in (a, b)]
    chains = _chains(begins, [network.digest for network in begins])
    for _ in range(draws):
        first, second = (next(chain) for chain in chains)
        yield first, second


def _chains(begins: Sequence[Topology], digests: Sequence[str]) -> list[Iterator[Topology]]:
    """A chain of copies of each: seeds differ by degrees, and by side where both have the same."""
    seeds = [[int(digest[:16], 16), int(k == 1 and digest == digests[0])] for k, digest in enumerate(digests)]
    return [degree_kept_chain(begin, seed) for begin, seed in zip(begins, seeds, strict=True)]


def _chance(values: Sequence[float], kept: Kept) -> Chance:
    spread = float(np.std(values, ddof=1))
    return Chance(math.fsum(values) / len(values), spread / math.sqrt(len(values)), spread, len(values), kept=kept)


def mean_of_independent(levels: Sequence[Chance]) -> Chance:
    """The chance level of the mean of layers that are drawn independently of each other."""
    n = len(levels)
    return Chance(
        math.fsum(level.level for level in levels) / n,
        math.hypot(*(level.error for level in levels)) / n,
        math.hypot(*(level.spread for level in levels)) / n,
        min(level.draws for level in levels),
        any(level.extrapolated for level in levels),
        levels[0].kept,
    )


def chance(
    elements: int,
    widths: tuple[int, int],
    densities: tuple[float, float],
    *,
    matched: bool = True,
    exact: bool = False,
) -> Chance:
    """The chance level of a layer with ``elements`` possible inputs per unit (source units times taps), densities kept.

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
    return _chance(values, "density")


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
    from topostrata.distance.prepared import prepare  # noqa: PLC0415

    return first_value(prepare(a), prepare(b))
