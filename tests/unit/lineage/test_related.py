"""Relatedness: exact p-values for networks whose units are named differently."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kstest

from topostrata.copies import degree_kept
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.lineage import related as room
from topostrata.lineage.related import related
from topostrata.topology import Layer, LayerShape, Mask, Part, Space, Topology, Wiring

WIDTHS = (40, 60, 60, 60, 5)


def network(rng: np.random.Generator, widths: tuple[int, ...] = WIDTHS, density: float = 0.1) -> Topology:
    return Topology.from_masks([rng.random(shape) < density for shape in pairwise(widths)])


def renamed(rng: np.random.Generator, topology: Topology) -> Topology:
    return topology.relabelled(
        {space.name: rng.permutation(space.size) for space in topology.spaces if not space.labelled}
    )


@pytest.mark.parametrize("epoch", ["000", "050"])
def test_renamed_networks_of_the_published_family_are_related(
    reference_topologies: dict[str, Topology], epoch: str
) -> None:
    """At the smallest possible p in each layer that can tell; the dense last layer tells nothing."""
    rng = np.random.default_rng(1)
    a, b = (renamed(rng, reference_topologies[f"e5_s0_{run}/epoch_{epoch}"]) for run in ("w0", "w4"))
    answer = related(a, b, tests=99)
    assert [layer.p for layer in answer.layers] == [0.01, 0.01, None]
    assert answer.p == 0.02
    assert answer.related() == ("l1", "l2")
    assert answer.layers[0].z is not None
    assert answer.layers[0].z > 50
    assert [layer.matched_by for layer in answer.layers] == [("l0",), ("l0", "l1"), ("l0", "l1", "l2")]


def test_it_does_not_matter_which_network_is_named_first_or_who_asks_again() -> None:
    """The same seed gives the same answer, in either order."""
    rng = np.random.default_rng(2)
    a, b = network(rng), network(rng)
    assert related(a, b, tests=50) == related(b, a, tests=50) == related(a, b, tests=50)
    assert related(a, b, tests=50, seed=1) != related(a, b, tests=50)


def test_independent_networks_have_p_values_of_any_size() -> None:
    """Uniform from 0 to 1, for copies whose hubs are those of related networks (bench/related.py has 2,000 pairs)."""
    rng = np.random.default_rng(3)
    hubs = np.outer(rng.lognormal(0, 0.8, 60), rng.lognormal(0, 0.8, 60))
    masks = [rng.random((40, 60)) < 0.1, rng.random((60, 60)) < hubs / hubs.mean() * 0.08, np.ones((60, 5))]
    parent = Topology.from_masks(masks)
    values = [
        related(degree_kept(parent, [k, 0]), degree_kept(parent, [k, 1]), tests=39, seed=k).layers[0].p
        for k in range(80)
    ]
    assert kstest(np.array(values, dtype=float), "uniform").pvalue > 0.01
    assert np.mean(np.array(values, dtype=float) < 0.05) < 0.11


def test_the_answer_says_which_part_is_related() -> None:
    """A network that shares its first two layers with another one is related there, and not beyond."""
    rng = np.random.default_rng(4)
    a, other = network(rng), network(rng)
    masks = a.to_masks() | {name: other.to_masks()[name] for name in ("l2", "l3")}
    answer = related(a, renamed(rng, a.wiring.place(masks)), tests=199)
    assert answer.related() == ("l1",)
    assert answer.layers[0].p == 1 / 200
    assert min(layer.p or 0 for layer in answer.layers[1:]) > 0.02


def test_a_layer_into_labelled_outputs_is_tested_too() -> None:
    """So networks of one hidden layer have an answer, if the layer out of it is sparse."""
    rng = np.random.default_rng(5)
    a = network(rng, (40, 80, 10), 0.15)
    assert related(a, renamed(rng, a), tests=99).layers[0].p == 0.01
    assert related(a, network(rng, (40, 80, 10), 0.15), tests=99).p > 0.01


def test_networks_of_unequal_widths_and_with_taps_are_compared() -> None:
    """Units without a counterpart share nothing; inputs are the same at the same tap only."""
    rng = np.random.default_rng(6)
    a = network(rng)
    narrow = Topology.from_masks(
        [
            np.asarray(a["l0"].mask)[:, :50],
            np.asarray(a["l1"].mask)[:50, :55],
            *(np.asarray(a[name].mask)[rows] for name, rows in (("l2", slice(55)), ("l3", slice(None)))),
        ]
    )
    for pair in ((a, renamed(rng, narrow)), (renamed(rng, narrow), a)):
        assert related(*pair, tests=99).layers[0].p == 0.01
    hidden = Space("h1", 30), Space("h2", 30)
    wiring = Wiring(
        (
            LayerShape("c0", Space("in", 5, labelled=True), hidden[0], taps=9),
            LayerShape("c1", hidden[0], hidden[1], taps=9),
            LayerShape("fc", hidden[1], Space("out", 4, labelled=True)),
        )
    )
    masks = {
        layer.name: Mask.from_matrix(
            rng.random((layer.local_sources * layer.taps, layer.target.size)) < 0.15, taps=layer.taps
        )
        for layer in wiring.layers
    }
    kernels = wiring.place(masks)
    assert related(kernels, renamed(rng, kernels), tests=99).layers[0].p == 0.01


@pytest.mark.parametrize("taps", [1, 3])
def test_the_agreement_is_that_of_the_definition(taps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum over pairs of target units of (common inputs)^2, counted in a table or looked up in a list."""
    rng = np.random.default_rng(7)
    source, target = Space("s", 12), Space("t", 9)
    a, b = (
        Topology((Layer("l", source, target, Mask.from_matrix(rng.random((12 * taps, 9)) < 0.3, taps=taps)),))
        for _ in range(2)
    )
    for _ in range(5):
        places = rng.permutation(12)
        places[rng.random(12) < 0.2] = -1
        moved = np.zeros((12, taps, 9), dtype=int)
        moved[places[places >= 0]] = np.asarray(b["l"].mask).reshape(12, taps, 9)[places >= 0]
        common = np.asarray(a["l"].mask).astype(int).T @ moved.reshape(12 * taps, 9)
        assert room._of_hidden(a["l"], b["l"])(places) == (common**2).sum()
        assert room._of_labelled(a["l"], b["l"])(places) == (np.diag(common) ** 2).sum()
        with monkeypatch.context() as patch:
            patch.setattr(room, "_TABLE", 0)
            assert room._of_hidden(a["l"], b["l"])(places) == (common**2).sum()


def test_what_the_test_cannot_say_is_refused_by_name() -> None:
    """Kinds of networks, networks with nothing left to test, numbers of tests."""
    rng = np.random.default_rng(8)
    dense = Topology.from_masks([rng.random((10, 20)) < 0.3, np.ones((20, 5))])
    with pytest.raises(NotComparableError, match="a layer that reads hidden units and is not full, found none"):
        related(dense, renamed(rng, dense))
    with pytest.raises(NotComparableError, match="found none"):
        related(Topology.from_masks([np.eye(3)]), Topology.from_masks([np.eye(3)]))
    inputs, hidden, outputs = Space("in", 4, labelled=True), Space("h", 4), Space("out", 4, labelled=True)
    first, last = LayerShape("a", inputs, hidden), LayerShape("b", hidden, outputs)
    kinds = {
        "a self-loop": (first, LayerShape("r", hidden, hidden, groups=4), last),
        "a residual stream": (
            first,
            LayerShape("w", hidden, Space("wide", 4)),
            LayerShape("n", Space("wide", 4), hidden),
            last,
        ),
        "tied layers": (
            LayerShape("a", inputs, hidden, part=Part("w", orientation="in-out")),
            LayerShape("b", hidden, outputs, part=Part("w", orientation="out-in")),
        ),
    }
    for kind, layers in kinds.items():
        arrays = {y.part.parameter if y.part else y.name: np.ones((y.local_sources, y.target.size)) for y in layers}
        full = Wiring(layers).place(arrays)
        with pytest.raises(NotComparableError, match=f"related: expected a network of plain layers, found {kind}"):
            related(full, full)
    a = network(rng)
    with pytest.raises(NotComparableError):
        related(a, network(rng, (40, 60, 60, 5)))
    with pytest.raises(InvalidInputError, match="expected 1 to 1000000 tests, found 0"):
        related(a, a, tests=0)
    with pytest.raises(InvalidInputError, match="seed of 0 or more, found -1"):
        related(a, a, seed=-1)
