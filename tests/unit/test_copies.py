"""Degree-kept copies: what they keep on every kind of network, that they are drawn alike, and that they have mixed."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, islice, pairwise

import numpy as np
import pytest
import scipy.stats

from tests.wirings import MODELS, random_network
from topostrata.copies import degree_kept, degree_kept_chain, from_degrees
from topostrata.distance.nnstd import nnstd
from topostrata.measures.panel import measure
from topostrata.topology import Axis, Layer, LayerShape, Mask, Space, Topology, Wiring


def overlap(a: Mask, b: Mask) -> int:
    return np.intersect1d(a.cells, b.cells).size


@pytest.mark.parametrize("name", [*MODELS, *range(40)])
def test_both_degree_sequences_stay(name: str | int) -> None:
    """Every target unit has its fan-in and every source its fan-out at each tap; groups and ties stay as they were."""
    random = np.random.default_rng(2)
    if isinstance(name, int):
        random = np.random.default_rng(name)
        network = random_network(random)
    else:
        network = MODELS[name]()
    topology = network.topology(random, 0.3)
    copy = degree_kept(topology, 5)
    assert copy.wiring == topology.wiring
    for layer, other in zip(topology.layers, copy.layers, strict=True):
        assert (other.fan_in == layer.fan_in).all()
        for tap in range(layer.taps):
            sources = [y.sources[y.mask.tap_indices == tap] for y in (layer, other)]
            assert Counter(sources[0].tolist()) == Counter(sources[1].tolist())
    if not isinstance(name, int):
        movable = [y for y in topology.layers if y.target.size > y.groups and y.source.size * y.taps > 1]
        assert any(overlap(y.mask, copy[y.name].mask) < y.nnz for y in movable)


@pytest.mark.parametrize("name", [*MODELS, *range(40)])
def test_one_network_stands_for_all_with_its_degrees(name: str | int) -> None:
    """What copies begin from has the same degrees and wiring, and is the same whichever of them it is made of."""
    random = np.random.default_rng(name if isinstance(name, int) else 2)
    network = random_network(random) if isinstance(name, int) else MODELS[name]()
    topology = network.topology(random, 0.3)
    first = from_degrees(topology)
    assert first.wiring == topology.wiring
    for layer, other in zip(topology.layers, first.layers, strict=True):
        assert (other.fan_in == layer.fan_in).all()
        assert (other.fan_out == layer.fan_out).all()
    assert from_degrees(degree_kept(topology, 3)) == first


def test_a_seed_gives_one_copy() -> None:
    """The same seed gives the same network, another seed another."""
    topology = MODELS["resnet18"]().topology(np.random.default_rng(0), 0.2)
    assert degree_kept(topology, 7) == degree_kept(topology, 7)
    assert degree_kept(topology, 7) != degree_kept(topology, 8)


def test_what_cannot_change_stays() -> None:
    """Full, empty and depthwise layers have no other mask with their degrees."""
    wide = Space("wide", 6)
    layers = (
        LayerShape("full", Space("input", 3), wide),
        LayerShape("depthwise", wide, wide, taps=9, groups=6),
        LayerShape("empty", wide, Space("output", 2)),
    )
    random = np.random.default_rng(0)
    masks = {"full": np.ones((3, 6)), "depthwise": random.random((9, 6)) < 0.5, "empty": np.zeros((6, 2))}
    topology = Wiring(layers).place(masks)
    assert degree_kept(topology, 0) == topology


@pytest.mark.parametrize("groups", [1, 2])
def test_all_masks_with_the_degrees_are_drawn_alike(groups: int) -> None:
    """Every mask with the two degree sequences comes up, as often as each other (chi-squared over all that there are)."""
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)
    a, b = Space("a", [Axis("group", groups), Axis("n", 3)]), Space("b", [Axis("group", groups), Axis("m", 4)])
    stored = np.hstack([mask] * groups)
    topology = Wiring((LayerShape("l", a, b, groups=groups),)).place({"l": stored})
    choices = [list(combinations(range(3), int(k))) for k in mask.sum(axis=0)]
    alike = 0
    for first in choices[0]:
        for second in choices[1]:
            for third in choices[2]:
                for fourth in choices[3]:
                    fan_out = Counter([*first, *second, *third, *fourth])
                    alike += [fan_out[s] for s in range(3)] == mask.sum(axis=1).tolist()
    draws = 12 * alike**groups
    seeds = range(draws if groups == 1 else 0)  # 40 rounds each
    chain = islice(degree_kept_chain(topology, 0), draws)
    for copies in filter(None, ([degree_kept(topology, seed) for seed in seeds], list(chain))):
        counts = Counter(copy["l"].mask.digest for copy in copies)
        assert len(counts) == alike**groups
        assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.001


def test_a_chain_forgets_its_last_copy() -> None:
    """Neighbours in one chain share as many connections as copies of different seeds; the first is that of its seed."""
    topology = Topology.from_masks([np.random.default_rng(1).random((60, 50)) < 0.1])
    chain = list(islice(degree_kept_chain(topology, 0), 200))
    assert chain[0] == degree_kept(topology, 0)
    apart = [overlap(degree_kept(topology, seed)["l0"].mask, chain[seed]["l0"].mask) for seed in range(1, 100)]
    neighbours = [overlap(a["l0"].mask, b["l0"].mask) for a, b in pairwise(chain)]
    error = np.hypot(np.std(apart) / 10, np.std(neighbours) / 14)
    assert abs(np.mean(apart) - np.mean(neighbours)) < 4 * error


def test_copies_have_forgotten_where_they_came_from(reference_topologies: dict[str, Topology]) -> None:
    """A copy shares as many connections with its start as with another copy: the chain has mixed."""
    for epoch in ("000", "050"):
        topology = reference_topologies[f"e5_s0_w0/epoch_{epoch}"]
        copies = [degree_kept(topology, seed) for seed in range(6)]
        for name in ("l0", "l1", "l2"):
            masks = [copy[name].mask for copy in copies]
            between = [overlap(a, b) for a, b in combinations(masks, 2)]
            with_start = [overlap(topology[name].mask, mask) for mask in masks]
            # Nearly Poisson, so a mean of six has an error of the root of its sixth part.
            assert abs(np.mean(with_start) - np.mean(between)) < 5 * np.sqrt(np.mean(between) / 6)


def test_the_level_of_published_networks(reference_topologies: dict[str, Topology]) -> None:
    """Copies of two networks' first layers are as far apart after matching as double-edge swaps of another program made them."""
    for epoch, level in (("000", 0.804), ("050", 0.783)):
        first = [reference_topologies[f"e5_s0_{run}/epoch_{epoch}"]["l0"] for run in ("w0", "w4")]
        targets = Space("targets", first[0].target.size)
        a, b = (Topology((Layer("l0", layer.source, targets, layer.mask),)) for layer in first)
        distances = [nnstd(degree_kept(a, seed), degree_kept(b, seed + 1)).nnstd for seed in (0, 2)]
        assert np.mean(distances) == pytest.approx(level, abs=0.003)


def test_the_panel_has_the_level_of_every_number_beside_it() -> None:
    """Mean and deviation over the copies, copy k from seed + k; what degrees decide does not vary."""
    topology = MODELS["lenet"]().topology(np.random.default_rng(3), 0.1)
    panel = measure(topology, null=3, seed=4)
    copies = [measure(degree_kept(topology, seed)) for seed in (4, 5, 6)]
    assert (panel.copies, panel.seed) == (3, 4)
    assert panel.null is not None
    paths = [copy.effective_paths or 0 for copy in copies]
    assert panel.null["effective_paths"].mean == pytest.approx(np.mean(paths))
    assert panel.null["effective_paths"].std == pytest.approx(np.std(paths, ddof=1))
    for k, layer in enumerate(panel.layers):
        assert layer.null is not None
        gaps = [copy.layers[k].ramanujan.gap for copy in copies]  # type: ignore[union-attr]
        assert layer.null["ramanujan.gap"].mean == pytest.approx(np.mean(gaps))
        assert layer.null["fan_in_cv"].mean == pytest.approx(layer.fan_in_cv)
        assert layer.null["fan_in_cv"].std == pytest.approx(0, abs=1e-12)
    single = measure(topology, null=1, seed=4).null
    assert single is not None
    assert (single["effective_paths"].mean, single["effective_paths"].std) == (paths[0], None)


def test_levels_beyond_a_float_are_none() -> None:
    """More paths than a float holds have no mean; their logarithms have."""
    panel = measure(Topology.from_masks([np.ones((100, 100))] * 155), null=2, spectra=False)
    assert panel.null is not None
    assert panel.null["effective_paths"].mean is None
    assert panel.null["effective_paths_log10"].mean == pytest.approx(312)
