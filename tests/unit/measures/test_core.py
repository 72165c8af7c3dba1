"""Core, shell and pan-network, on the published networks and against plain counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.wirings import MODELS, random_permutations
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.measures.core import LayerCore, core
from topostrata.topology import Topology

# Connections in exactly 1 to 5 of w0 to w4, units in place: counted by another implementation (relatedness).
PUBLISHED = {
    "epoch_000": ((3424, 87, 76, 78, 2943), (2831, 78, 71, 71, 2957), (2137, 77, 72, 70, 2954)),
    "epoch_050": ((6237, 252, 186, 297, 2003), (4257, 149, 109, 134, 2353), (3674, 125, 93, 132, 2138)),
}


@pytest.mark.parametrize("epoch", PUBLISHED)
def test_published_networks_have_their_counts(epoch: str, reference_topologies: dict[str, Topology]) -> None:
    """Units in place; far more in all five than five of their degrees would have."""
    networks = [reference_topologies[f"e5_s0_w{k}/{epoch}"] for k in range(5)]
    result = core(networks, alignment="identity", layers="sparse", draws=2)
    assert tuple(layer.exactly for layer in result.layers) == PUBLISHED[epoch]
    for layer in result.layers:
        assert layer.chance is not None
        assert layer.core > 100 * layer.chance[-1]
        assert sum(k * n for k, n in enumerate(layer.exactly, 1)) == pytest.approx(
            sum(k * n for k, n in enumerate(layer.chance, 1))
        )  # copies have as many connections
        assert (layer.core, layer.pan) == (layer.exactly[-1], sum(layer.exactly))


@pytest.mark.parametrize("kind", ["mlp", "vgg11", "gpt2", "lstm"])
def test_counts_are_those_of_a_loop_and_the_masks_are_made_of_them(kind: str) -> None:
    """Connection by connection, tied layers once; `at_least` keeps layers that were not chosen as the first has them."""
    model = MODELS[kind]()
    networks = [model.topology(np.random.default_rng(seed)) for seed in range(3)]
    result = core(networks, alignment="identity", draws=0)
    own = [layer.name for layer in networks[0].layers if layer.name not in networks[0].wiring.shared_with]
    assert [layer.name for layer in result.layers] == own
    for layer in result.layers:
        times = Counter(cell for network in networks for cell in network[layer.name].mask.cells.tolist())
        assert layer.exactly == tuple(sum(n == k for n in times.values()) for k in (1, 2, 3))
        assert layer.chance is layer.chance_std is None
        for k in (1, 2, 3):
            assert result.at_least(k)[layer.name].mask.cells.tolist() == sorted(c for c, n in times.items() if n >= k)
    alone = core(networks, alignment="identity", draws=0, layers=own[0]).at_least(3)
    assert alone[own[-1]].mask == networks[0][own[-1]].mask


def test_renamed_copies_are_wholly_in_the_core(reference_topologies: dict[str, Topology]) -> None:
    """Units are matched with those of the first network; by index hardly anything is left."""
    first = reference_topologies["e5_s0_w0/epoch_050"]
    copies = [first.relabelled(random_permutations(np.random.default_rng(seed), first.wiring)) for seed in range(2)]
    matched = core([first, *copies], draws=0)
    assert all(layer.exactly[:2] == (0, 0) for layer in matched.layers)
    assert matched.at_least(3) == first
    in_place = core([first, *copies], draws=0, alignment="identity", layers="sparse")
    assert all(layer.core < 0.05 * layer.pan for layer in in_place.layers)
    assert (matched.alignment, matched.networks) == ("overlap", 3)


def test_chance_is_drawn_from_its_seed() -> None:
    """The same seed gives the same levels; a single draw has no deviation."""
    networks = [MODELS["mlp"]().topology(np.random.default_rng(seed)) for seed in range(3)]

    def levels(seed: int, draws: int = 2) -> tuple[LayerCore, ...]:
        return core(networks, draws=draws, seed=seed).layers

    assert levels(0) == levels(0) != levels(1)
    assert all(layer.chance_std is None for layer in levels(0, draws=1))


def test_what_has_nothing_in_common_is_refused() -> None:
    """One network, other layers, other widths, counts that are none."""
    networks = [MODELS["mlp"]().topology(np.random.default_rng(seed)) for seed in range(2)]
    with pytest.raises(InvalidInputError, match="expected two networks or more, found 1"):
        core(networks[:1])
    with pytest.raises(NotComparableError):
        core([networks[0], MODELS["vgg11"]().topology(np.random.default_rng(0))])
    small, large = (Topology.from_masks([np.ones((2, n)), np.ones((n, 2))]) for n in (3, 4))
    with pytest.raises(NotComparableError, match="expected networks of the same widths, found 2 3 2 and 2 4 2 units"):
        core([small, large])
    with pytest.raises(InvalidInputError, match="expected 0 to 1000, found -1"):
        core(networks, draws=-1)
    for k in (0, 3):
        with pytest.raises(InvalidInputError, match=f"expected 1 to 2 networks, found {k}"):
            core(networks, draws=0).at_least(k)
