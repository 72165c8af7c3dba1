"""The canonical alignment against the slow one, written from the definition alone, and against published networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import slow_canonical
from tests.unit.distance.kinds import pairs_of
from tests.unit.distance.networks import pairs, random_network, rewired
from tests.wirings import MODELS, gpt2, llama
from topostrata.distance.nnstd import nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.prepared import prepare
from topostrata.topology import Topology


def test_canonical_agrees_with_the_prototypes(
    reference_topologies: dict[str, Topology], expected: dict[str, np.ndarray]
) -> None:
    """All pairs of the 15 networks, every layer, both directions; symmetric to the bit; free of relabelling."""
    names = [str(name) for name in expected["names"]]
    answer = distances([reference_topologies[n] for n in names], labels=names, alignment="canonical")
    assert answer.layers == pytest.approx(expected["canonical"], abs=1e-12)
    assert (answer.nnstd == answer.nnstd.T).all()
    assert (np.diag(answer.nnstd) == 0).all()


@given(pairs(largest=7), st.booleans())
@settings(max_examples=150)
def test_canonical_agrees_with_the_slow_version(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Where the value is unique; the units with several optimal partners agree everywhere in the first layer."""
    a, b = pair if pair[0].digest <= pair[1].digest else pair[::-1]
    answer = nnstd(a, b, alignment="canonical", fix_output=fix_output)
    values, ambiguous, _ = slow_canonical.canonical(a, b, fix_output=fix_output)
    if answer.canonical:
        assert [row.distance for row in answer.layers] == pytest.approx(values, abs=1e-12)
        assert [row.ambiguous for row in answer.layers] == ambiguous


@pytest.mark.parametrize("kind", [{}, {"taps": 4}, {"residual": True}])
def test_canonical_agrees_with_the_slow_version_on_larger_networks(kind: dict[str, int]) -> None:
    """Values and ambiguous units are equal on networks that are wide enough to be canonical."""
    rng = np.random.default_rng(2)
    a = random_network(rng, [40, 40, 36, 40, 5], 0.08, **kind)  # type: ignore[arg-type]
    for b in (rewired(rng, a, 0.3), random_network(rng, [40, 33, 40, 40, 5], 0.08, **kind)):  # type: ignore[arg-type]
        answer = nnstd(a, b, alignment="canonical")
        values, ambiguous, _ = slow_canonical.canonical(a, b)
        assert answer.canonical
        assert [row.distance for row in answer.layers] == pytest.approx(values, abs=1e-12)
        assert [row.ambiguous for row in answer.layers] == ambiguous


@given(pairs_of(), st.booleans())
@settings(max_examples=200)
def test_canonical_agrees_with_the_slow_version_on_every_kind_of_wiring(
    pair: tuple[Topology, Topology], fix_output: bool
) -> None:
    """To the bit where the value is unique: residual streams, self-loops, groups, heads, shared axes, tied layers."""
    a, b = pair if pair[0].digest <= pair[1].digest else pair[::-1]
    answer = nnstd(a, b, alignment="canonical", fix_output=fix_output)
    values, ambiguous, _ = slow_canonical.canonical(a, b, fix_output=fix_output)
    if answer.canonical and a.digest != b.digest:
        assert [row.distance for row in answer.layers] == values
        assert [row.ambiguous for row in answer.layers] == ambiguous


@pytest.mark.parametrize("name", ["mobilenet_v2", "lstm", "shared_linear", "lora", "unet", "gpt2", "llama"])
@pytest.mark.parametrize("density", [0.25, 0.6])
def test_canonical_agrees_with_the_slow_version_on_architectures(name: str, density: float) -> None:
    """Whole models, with sparse and with dense layers; a network with some connections moved, not another one."""
    smaller = {"gpt2": lambda: gpt2(2, 3, 4, 12), "llama": lambda: llama(1, 2, 2, 3, 9, 12)}
    rng = np.random.default_rng(5)
    first = smaller.get(name, MODELS[name])().topology(rng, density)
    a, b = sorted([first, rewired(rng, first, 0.2)], key=lambda topology: topology.digest)
    answer = nnstd(a, b, alignment="canonical")
    values, ambiguous, _ = slow_canonical.canonical(a, b)
    assert answer.canonical
    assert [row.distance for row in answer.layers] == values
    assert [row.ambiguous for row in answer.layers] == ambiguous


@given(pairs(largest=6))
@settings(max_examples=60)
def test_colours_agree_with_the_slow_version(pair: tuple[Topology, Topology]) -> None:
    """Up to the choices that mending leaves free, which only a network that is not settled may show."""
    prepared = prepare(pair[0])
    slow = slow_canonical.colours(slow_canonical.net_of(pair[0], fix_output=True))
    if prepared.settled:
        assert [sorted(part.tolist()) for part in prepared.colours] == [sorted(part) for part in slow]


def test_mix_is_the_splitmix64_step() -> None:
    """The first outputs of splitmix64 seeded with 0 and 1, as its author publishes them."""
    assert slow_canonical.mix(0) == 0xE220A8397B1DCDAF
    assert slow_canonical.mix(1) == 0x910A2DEC89025CC1


@pytest.mark.parametrize(("pairs_alone", "layers"), [(14, 1), (12, 2)])
def test_colours_of_many_equal_components_are_those_of_the_definition(pairs_alone: int, layers: int) -> None:
    """Beyond what can be proven only the components that show a choice are refined; every colour that counts is the same."""
    n = pairs_alone + 8
    rng = np.random.default_rng(layers)
    first, last = np.zeros((2, n, n), dtype=bool)
    first[:6, -7:], last[-7:, :6] = rng.random((6, 7)) < 0.4, rng.random((7, 6)) < 0.4
    # Two hidden spaces joined by single connections (by two layers: of equal units too) that nothing else touches.
    middle = np.zeros((n, n), dtype=bool)
    middle[range(pairs_alone), range(pairs_alone)] = True
    topology = Topology.from_masks([first, *[middle] * layers, last])
    network = prepare(topology)
    assert not network.settled
    slow = slow_canonical.net_of(topology, fix_output=True)
    for space, colours in enumerate(slow_canonical.colours(slow)):
        counts = (not network.fixed[space]) | (network.inputs[space].sizes + network.outputs[space].sizes > 0)
        assert network.colours[space][counts].tolist() == np.array(colours, dtype=np.uint64)[counts].tolist()
