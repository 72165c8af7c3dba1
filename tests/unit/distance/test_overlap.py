"""Overlap finds which unit is which; refined starts from it: on trained networks, and on those that differ by little."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.unit.distance.kinds import drawn, shuffled
from tests.unit.distance.networks import random_network, relabelled, rewired
from topostrata.distance.alignments import Alignment
from topostrata.distance.nnstd import nnstd
from topostrata.topology import Mask, Topology

FOUND = {"overlap": (0.99, 0.99, 0.89), "refined": (0.98, 0.98, 0.89)}
BOTH: tuple[Alignment, ...] = ("overlap", "refined")


def renamed(rng: np.random.Generator, topology: Topology) -> tuple[Topology, dict[str, np.ndarray]]:
    """The network with its hidden units in other places, and where each is."""
    places = {space.name: rng.permutation(space.size) for space in topology.spaces if not space.labelled}
    return topology.relabelled(places), places


def moved(rng: np.random.Generator, topology: Topology, layer: str, count: int) -> Topology:
    """The network with so many connections of one layer elsewhere."""
    masks = topology.to_masks()
    mask = masks[layer]
    free = np.setdiff1d(np.arange(mask.size), mask.cells)
    stay = rng.permutation(mask.cells)[count:]
    cells = np.sort(np.concatenate([stay, rng.choice(free, count, replace=False)]))
    masks[layer] = Mask(mask.n_source, mask.n_target, cells, mask.taps)
    return topology.wiring.place(masks)


@pytest.mark.parametrize(
    ("a", "b", "overlap", "refined"),
    [
        ("e5_s0_w0/epoch_050", "e5_s0_w4/epoch_050", 0.2933, 0.2929),
        ("e5_s0_w0/epoch_000", "e5_s0_w0/epoch_010", 0.2588, 0.2588),
        ("e5_s0_w0/epoch_000", "e5_s0_w4/epoch_050", 0.3285, 0.3282),
    ],
)
def test_renamed_units_of_trained_networks_are_found(
    reference_topologies: dict[str, Topology], a: str, b: str, overlap: float, refined: float
) -> None:
    """The distances of ../shared/matching.md; nearly all units; one value however both are stored; symmetric."""
    for alignment, most in zip(BOTH, (overlap, refined), strict=True):
        values, right, established = set(), [], []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            (first, at_a), (second, at_b) = renamed(rng, reference_topologies[a]), renamed(rng, reference_topologies[b])
            distance = nnstd(first, second, alignment=alignment)
            values |= {distance.nnstd, nnstd(second, first, alignment=alignment).nnstd}
            assert (distance.canonical, distance.informed) == (True, True)
            correct = {name: distance.matching[name][at_a[name]] == at_b[name] for name in at_a}
            right.append([mean.mean() for mean in correct.values()])
            shared = common(first, second, distance.matching)
            established += [correct[name][shared[name][at_a[name]] >= 2] for name in at_a]
        assert len(values) == 1
        assert most - 0.0015 < values.pop() <= most
        assert (np.mean(right, axis=0) >= FOUND[alignment]).all()
        assert np.concatenate(established).mean() >= 0.99


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("first_density", [0.3, 1.0])
def test_few_changes_are_small_behind_a_sparse_and_a_dense_first_layer(seed: int, first_density: float) -> None:
    """Moved connections cost what they cost with all units in place, whatever the units are called."""
    rng = np.random.default_rng(seed)
    masks = [rng.random((20, 64)) < first_density, *(rng.random((64, n)) < 0.2 for n in (64, 64, 10))]
    network = Topology.from_masks(masks)
    for count in (1, 5, 20, 60):
        other = moved(rng, network, "l1", count)
        in_place = nnstd(network, other, alignment="identity").nnstd
        for alignment in BOTH:
            assert nnstd(network, relabelled(rng, other), alignment=alignment).nnstd <= in_place + 1e-12
    if first_density == 1:
        other = moved(rng, network, "l1", 1)
        distance = nnstd(network, relabelled(rng, other), alignment="canonical")
        assert (distance.nnstd > 0.3, distance.informed) == (True, False)


@pytest.mark.parametrize("kind", ["residual", "depthwise", "recurrent", "grouped", "heads", "shared"])
def test_few_changes_are_small_on_every_kind_of_wiring(kind: str) -> None:
    """On average over small networks with sparse or dense stems, the distance is near that in place."""
    rng = np.random.default_rng(5)
    excess = []
    for density in (0.3, 0.5, 1.0):
        for _ in range(6):
            wiring = drawn(rng, kind)
            network = wiring.topology(rng, 0.4)
            if density == 1:
                masks = network.to_masks()
                name = network.layers[0].name
                masks[name] = Mask(
                    masks[name].n_source, masks[name].n_target, np.arange(masks[name].size), masks[name].taps
                )
                network = network.wiring.place(masks)
            name = max(network.layers, key=lambda layer: min(layer.nnz, layer.mask.size - layer.nnz)).name
            other = moved(rng, network, name, 1)
            in_place = nnstd(network, other, alignment="identity").nnstd
            excess.append(nnstd(network, shuffled(rng, other)).nnstd - in_place)
    assert np.mean(excess) <= 0.03


SHAPES: list[tuple[list[int], float]] = [
    ([8, 12, 12, 4], 0.25), ([10, 20, 20, 20, 5], 0.15), ([30, 40, 40, 10], 0.08), ([12, 30, 30, 6], 0.05)
]  # fmt: skip


def test_small_networks_have_one_value_where_the_answer_says_so() -> None:
    """200 pairs, three relabellings of both; refined is never above canonical, and swapped arguments are equal."""
    rng = np.random.default_rng(11)
    unique = 0
    for k in range(200):
        widths, density = SHAPES[k % 4]
        a = random_network(rng, widths, density)
        b = rewired(rng, a, (0.0, 0.1, 0.3, 0.6, 1.0)[k % 5])
        for alignment in BOTH:
            distance = nnstd(a, b, alignment=alignment)
            assert nnstd(b, a, alignment=alignment).nnstd == distance.nnstd
            if distance.canonical:
                unique += 1
                again = {nnstd(relabelled(rng, a), relabelled(rng, b), alignment=alignment).nnstd for _ in range(3)}
                assert again == {distance.nnstd}
        assert distance.nnstd <= nnstd(a, b, alignment="canonical").nnstd
        assert nnstd(a, relabelled(rng, a)).nnstd == 0
    assert unique > 300


def test_wide_dense_spaces_are_matched_by_the_canonical_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pairs are too many to list; the answer stays symmetric and free of labels."""
    monkeypatch.setattr("topostrata.distance.proposals._MOST_PAIRS", 100)
    rng = np.random.default_rng(3)
    a = random_network(rng, [30, 24, 24, 5], 0.4)
    b = rewired(rng, a, 0.2)
    distance = nnstd(a, b)
    assert distance.canonical
    assert nnstd(relabelled(rng, b), relabelled(rng, a)).nnstd == distance.nnstd
    assert nnstd(a, relabelled(rng, a)).nnstd == 0


def test_counting_by_bit_sets_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers whether common elements are listed or counted for all pairs at once."""
    rng = np.random.default_rng(4)
    a = random_network(rng, [30, 24, 20, 5], 0.3)
    b = rewired(rng, a, 0.3)
    answers = []
    for share in (0.0, 1e9):
        monkeypatch.setattr("topostrata.distance.proposals._SPARSE", share)
        answers.append([nnstd(a, b, alignment=alignment) for alignment in BOTH])
    assert answers[0] == answers[1]


def common(a: Topology, b: Topology, matching: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For each unit of A how many of its connections, in and out, its partner has too; but those that all units have."""
    counts = {space.name: np.zeros(space.size, dtype=np.int64) for space in a.spaces}
    for x, y in zip(a.layers, b.layers, strict=True):
        there = np.zeros((y.source.size, y.target.size), dtype=bool)
        there[y.sources, y.targets] = True
        shared = there[matching[x.source.name][x.sources], matching[x.target.name][x.targets]]
        if x.nnz < x.mask.size:
            np.add.at(counts[x.source.name], x.sources[shared], 1)
            np.add.at(counts[x.target.name], x.targets[shared], 1)
    return counts
