"""The chance level against published measurements, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.distance.networks import random_network, rewired
from topostrata.copies import degree_kept
from topostrata.distance import null_model
from topostrata.distance.nnstd import nnstd
from topostrata.distance.null_model import Chance, Kept, chance
from topostrata.errors import InvalidInputError
from topostrata.topology import Topology

KINDS: tuple[Kept, Kept] = ("degrees", "density")


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
    """Where chance leaves no choice the level is exact."""
    assert chance(10, (5, 5), (0.0, 0.0)).level == 0.0
    assert chance(10, (5, 5), (1.0, 1.0)).level == 0.0
    assert chance(10, (5, 5), (0.0, 1.0)).level == 1.0


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
        nnstd(a, rewired(rng, a, 0.2), chance="degrees"),
        nnstd(a, random_network(rng, [60, 60, 60, 5], 0.1), chance="degrees"),
    )
    assert nnstd(a, a).layers[0].chance is None
    assert nnstd(a, a).layers[0].z is None
    for row, other in zip(near.layers, far.layers, strict=True):
        assert row.z is not None
        assert other.z is not None
        assert row.z < (-5 if row.width == 60 else -3)  # five outputs are few to tell by
        assert abs(other.z) < 5


@pytest.mark.parametrize("kept", KINDS)
def test_the_whole_distance_has_its_level_too(kept: Kept) -> None:
    """Its level is the mean of the layers', with the spread of whole draws; z is that of NNSTD, for degrees alone."""
    rng = np.random.default_rng(5)
    a = random_network(rng, [40, 30, 20, 5], 0.2)
    distance = nnstd(a, rewired(rng, a, 0.1), chance=kept)
    rows = [row.chance for row in distance.layers if row.chance is not None]
    assert distance.chance is not None
    assert distance.chance.level == pytest.approx(np.mean([row.level for row in rows]))
    assert distance.chance.kept == kept
    assert distance.chance.spread < max(row.spread for row in rows)
    assert (distance.z is None) == (kept == "density")
    assert kept == "density" or distance.z == distance.chance.z(distance.nnstd)
    assert nnstd(a, a).z is None


def test_identical_full_layers_have_no_z() -> None:
    """Rounding is no spread: where all draws agree z is None, for a distance at the level and for any other."""
    full = Topology.from_masks([np.ones((7, 5), dtype=bool), np.ones((5, 3), dtype=bool)])
    for row in nnstd(full, full, chance="degrees").layers:
        assert row.chance is not None
        assert row.chance.level == 0.0
        assert row.z is None
    assert Chance(0.1, 1e-17, 1e-16, 12, kept="degrees").z(0.1013) is None


def test_z_counts_the_error_of_the_mean() -> None:
    """z is the gap over the deviation of a further draw from the mean of those before; densities alone give none."""
    assert Chance(0.8, 0.03, 0.04, 12, kept="degrees").z(0.7) == pytest.approx(-2.0)
    assert Chance(0.8, 0.03, 0.04, 12, kept="density").z(0.7) is None


def test_independent_hubs_are_far_from_the_density_level_and_near_the_level_of_their_degrees() -> None:
    """Networks that share nothing but hubs in the inputs lie well below equal densities, and within 3 of degrees."""
    rng = np.random.default_rng(3)
    odds = 0.6 * (np.arange(1, 61) / 60.0) ** 3
    base = Topology.from_masks([rng.random((60, 50)) < odds[:, None], rng.random((50, 8)) < 0.2])
    a, b = (degree_kept(base, seed) for seed in (1, 2))
    by_degrees, by_density = (nnstd(a, b, chance=kept).layers[0] for kept in KINDS)
    assert by_degrees.z is not None
    assert abs(by_degrees.z) < 3
    assert by_degrees.chance is not None
    assert by_density.chance is not None
    assert by_degrees.chance.level < by_density.chance.level - 5 * by_density.chance.spread


def test_the_level_of_degrees_depends_on_degrees_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other networks of the same degrees, named in either order, have the same level, computed anew to the bit."""
    rng = np.random.default_rng(4)
    a, b = (random_network(rng, [20, 15, 12, 4], 0.2) for _ in range(2))
    levels = []
    for x, y in ((a, b), (degree_kept(a, 8), degree_kept(b, 9)), (b, a)):
        monkeypatch.setattr(null_model, "_levels", {})
        levels.append([row.chance for row in nnstd(x, y, chance="degrees").layers])
    assert levels[0] == levels[1] == levels[2]


def test_an_unknown_null_model_is_refused() -> None:
    """A bool, as chance was before, is refused with the two names."""
    topology = Topology.from_masks([np.eye(3, dtype=bool)])
    with pytest.raises(InvalidInputError, match="'degrees', 'density' or None, found True"):
        nnstd(topology, topology, chance=True)  # type: ignore[arg-type]


def test_nonsense_is_refused() -> None:
    """A density outside [0, 1] is an error."""
    with pytest.raises(InvalidInputError, match="densities of 0 to 1"):
        chance(10, (5, 5), (0.1, 1.5))
