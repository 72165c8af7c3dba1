"""The chance level against published measurements, and what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.unit.distance.networks import random_network, rewired
from topostrata.distance import null_model
from topostrata.distance.nnstd import nnstd
from topostrata.distance.null_model import chance
from topostrata.errors import InvalidInputError


@pytest.mark.parametrize(
    ("n", "density", "level"),
    [
        (784, 0.006, 0.82),
        (784, 0.013, 0.88),
        (784, 0.05, 0.90),
        (784, 0.1, 0.885),
        (784, 0.2, 0.83),
        (784, 0.5, 0.62),
        (100, 0.05, 0.77),
        (100, 0.2, 0.75),
        (100, 0.5, 0.56),
    ],
)
def test_the_levels_measured_before_are_reproduced(n: int, density: float, level: float) -> None:
    """Two independent measurements of square layers agreed within 0.004 on these (docs/design/010-nnstd.md)."""
    simulated = chance(n, (n, n), (density, density))
    assert simulated.level == pytest.approx(level, abs=0.01)
    assert simulated.error < 0.003


def test_the_level_is_the_same_whenever_and_in_whichever_order_it_is_asked() -> None:
    """The simulation is seeded by its arguments, and swapping the two networks changes nothing."""
    level = chance(40, (30, 50), (0.1, 0.3))
    null_model._simulated.cache_clear()
    assert chance(40, (50, 30), (0.3, 0.1)) == level


def test_empty_and_full_layers_have_no_spread() -> None:
    """Where chance leaves no choice, the level is exact and any other distance is infinitely far from it."""
    assert chance(10, (5, 5), (0.0, 0.0)).level == 0.0
    assert chance(10, (5, 5), (1.0, 1.0)).level == 0.0
    assert chance(10, (5, 5), (0.0, 1.0)).level == 1.0
    assert chance(10, (5, 5), (0.0, 0.0)).z(0.0) == 0.0
    assert chance(10, (5, 5), (0.0, 0.0)).z(0.5) == math.inf


def test_unit_by_unit_independent_layers_are_further_apart_than_matched() -> None:
    """Matching the units lowers the distance that chance gives."""
    assert chance(100, (100, 100), (0.1, 0.1), matched=False).level > chance(100, (100, 100), (0.1, 0.1)).level + 0.05


def test_wide_layers_are_extrapolated_within_a_hundredth(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a fifth of the real limit, where the exact level is quick to simulate."""
    monkeypatch.setattr(null_model, "WIDEST", 400)
    for density in (0.01, 0.1):
        guess = chance(1000, (1200, 1200), (density, density))
        exact = chance(1000, (1200, 1200), (density, density), exact=True)
        assert guess.extrapolated
        assert not exact.extrapolated
        assert guess.level == pytest.approx(exact.level, abs=0.01)


def test_a_distance_carries_its_chance_level() -> None:
    """A rewired network is far below chance, an independent one near it, and equal networks have no level."""
    rng = np.random.default_rng(0)
    a = random_network(rng, [60, 60, 60, 5], 0.1)
    near, far = (
        nnstd(a, rewired(rng, a, 0.2), chance=True),
        nnstd(a, random_network(rng, [60, 60, 60, 5], 0.1), chance=True),
    )
    assert nnstd(a, a).layers[0].chance is None
    assert nnstd(a, a).layers[0].z is None
    for row, other in zip(near.layers, far.layers, strict=True):
        assert row.z is not None
        assert other.z is not None
        assert row.z < -5
        assert abs(other.z) < 5


def test_nonsense_is_refused() -> None:
    """A density outside [0, 1] is an error."""
    with pytest.raises(InvalidInputError, match="densities of 0 to 1"):
        chance(10, (5, 5), (0.1, 1.5))
