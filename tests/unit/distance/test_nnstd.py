"""What every alignment promises, on random networks of every kind."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.distance.networks import pairs, random_network, relabelled, rewired
from topostrata.distance.alignments import ALIGNMENTS, Alignment
from topostrata.distance.nnstd import nnstd
from topostrata.errors import InvalidInputError, MissingExtraError, NotComparableError
from topostrata.topology import Layer, Mask, Space, Topology

EVERY = tuple(ALIGNMENTS)
LABEL_FREE: tuple[Alignment, ...] = ("overlap", "canonical", "refined")
SYMMETRIC = tuple(name for name in EVERY if ALIGNMENTS[name].symmetric)


@given(pairs())
@settings(max_examples=150)
def test_the_distance_of_a_network_to_itself_is_zero(pair: tuple[Topology, Topology]) -> None:
    """Every symmetric alignment gives exactly 0 for a network and itself."""
    for alignment in SYMMETRIC:
        assert nnstd(pair[0], pair[0], alignment=alignment).nnstd == 0.0


@given(pairs(), st.booleans())
@settings(max_examples=150)
def test_swapping_the_networks_changes_no_bit(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Symmetric alignments give the same distances and ambiguous units in both directions."""
    a, b = pair
    for alignment in SYMMETRIC:
        forth = nnstd(a, b, alignment=alignment, fix_output=fix_output)
        back = nnstd(b, a, alignment=alignment, fix_output=fix_output)
        assert [row.distance for row in forth.layers] == [row.distance for row in back.layers]
        assert [row.ambiguous for row in forth.layers] == [row.ambiguous for row in back.layers]


@given(pairs(), st.integers(0, 2**32))
@settings(max_examples=250)
def test_relabelling_changes_nothing_where_the_result_says_canonical(
    pair: tuple[Topology, Topology], seed: int
) -> None:
    """A canonical distance does not depend on the order of the units within a layer."""
    rng = np.random.default_rng(seed)
    for alignment in LABEL_FREE:
        distance = nnstd(*pair, alignment=alignment)
        if distance.canonical:
            again = nnstd(*(relabelled(rng, topology) for topology in pair), alignment=alignment)
            assert [row.distance for row in again.layers] == [row.distance for row in distance.layers]
            assert [row.ambiguous for row in again.layers] == [row.ambiguous for row in distance.layers]


@given(pairs(), st.integers(0, 2**32))
@settings(max_examples=150)
def test_a_relabelled_copy_scores_zero_where_the_result_says_canonical(
    pair: tuple[Topology, Topology], seed: int
) -> None:
    """A network and its copy with permuted units are at distance 0 wherever the result is canonical."""
    copy = relabelled(np.random.default_rng(seed), pair[0])
    for alignment in LABEL_FREE:
        distance = nnstd(pair[0], copy, alignment=alignment)
        assert distance.nnstd == 0.0 or not distance.canonical


@given(pairs(), st.booleans())
@settings(max_examples=150)
def test_every_value_lies_between_zero_and_one(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Every layer's distance is in [0, 1], and NNSTD is their mean."""
    for alignment in EVERY:
        distance = nnstd(*pair, alignment=alignment, fix_output=fix_output)
        assert all(0.0 <= row.distance <= 1.0 for row in distance.layers)
        assert distance.nnstd == pytest.approx(np.mean([row.distance for row in distance.layers]))


@given(pairs(), st.booleans())
@settings(max_examples=150)
def test_refined_is_never_larger_than_canonical_or_overlap(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Refinement only lowers the distance of the matchings that it starts from."""
    refined, canonical, overlap = (
        nnstd(*pair, alignment=alignment, fix_output=fix_output).nnstd
        for alignment in ("refined", "canonical", "overlap")
    )
    assert refined <= canonical
    assert refined <= overlap


@given(pairs())
@settings(max_examples=100)
def test_the_matching_explains_the_value(pair: tuple[Topology, Topology]) -> None:
    """Recomputed from the matching with plain sets, for the alignments that compare labelled outputs by index."""
    for alignment in EVERY:
        distance = nnstd(*pair, alignment=alignment)
        values = recomputed(*pair, distance.matching)
        assert [row.distance for row in distance.layers] == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("kind", [{}, {"taps": 9}, {"residual": True}])
@pytest.mark.parametrize("fan_in", [1.5, 3.0])
def test_random_networks_of_mean_fan_in_1_5_or_more_are_canonical(kind: dict[str, Any], fan_in: float) -> None:
    """Random networks that are not extremely sparse have a unique canonical distance."""
    rng = np.random.default_rng(1)
    for width in (30, 100, 300):
        taps = kind.get("taps", 1)
        a = random_network(rng, [width] * 5, fan_in / width / taps, **kind)
        b = rewired(rng, a, 0.3)
        for alignment in LABEL_FREE:
            distance = nnstd(a, b, alignment=alignment)
            assert distance.canonical
            assert nnstd(a, relabelled(rng, a), alignment=alignment).nnstd == 0.0
            assert nnstd(relabelled(rng, a), b, alignment=alignment).nnstd == distance.nnstd


def test_the_first_layer_is_the_best_of_all_matchings() -> None:
    """In the first layer the matching is optimal: brute force over all permutations finds none better."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        a = random_network(rng, [5, 5, 2], 0.4)
        b = random_network(rng, [5, 5, 2], 0.4)
        sets = [[set(t.layers[0].mask.keys_of(j).tolist()) for j in range(5)] for t in (a, b)]
        best = min(
            math.fsum(jaccard(sets[0][i], sets[1][j]) for i, j in enumerate(order)) / 5
            for order in itertools.permutations(range(5))
        )
        for alignment in ("reference", "canonical"):
            assert nnstd(a, b, alignment=alignment).layers[0].distance == pytest.approx(best, abs=1e-12)


def test_a_unit_without_a_counterpart_costs_one() -> None:
    """Widths 1 and 3: the unit {0} finds its copy, the two others stand alone; 2 of 3."""
    a = Topology(chain([np.array([[1], [0]]), np.array([[1]])]))
    b = Topology(chain([np.array([[1, 0, 1], [0, 1, 1]]), np.array([[1], [0], [0]])]))
    for alignment in EVERY:
        distance = nnstd(a, b, alignment=alignment)
        assert [row.distance for row in distance.layers] == [2 / 3, 0.0]
        assert distance.layers[0].width == 3


def test_taps_are_part_of_an_input() -> None:
    """One unit reads tap 0 and tap 1 of its source, the other tap 1 and tap 2: 2 of 3 differ."""
    masks = [Mask(1, 1, np.array(cells), taps=3) for cells in ([0, 1], [1, 2])]
    space = Space("in", 1, labelled=True), Space("out", 1, labelled=False)
    a, b = (Topology((Layer("conv", *space, mask),)) for mask in masks)
    for alignment in EVERY:
        assert nnstd(a, b, alignment=alignment).nnstd == pytest.approx(2 / 3)


def test_several_layers_into_one_space_count_as_one_set() -> None:
    """Unit 0 reads {x0} by one layer and {x0, x1} by the other; in B only {x1} by the other: 2 of 3 differ."""
    left, right = Space("x", 2, labelled=True), Space("y", 2, labelled=True)
    out = Space("sum", 1, labelled=True)

    def network(first: list[int], second: list[int]) -> Topology:
        return Topology(
            (Layer("a", left, out, Mask(2, 1, np.array(first))), Layer("b", right, out, Mask(2, 1, np.array(second))))
        )

    for alignment in EVERY:
        distance = nnstd(network([0], [0, 1]), network([], [1]), alignment=alignment)
        assert [row.name for row in distance.layers] == ["a+b"]
        assert distance.layers[0].distance == pytest.approx(2 / 3)
        assert distance.layers[0].density_a == 3 / 4


def test_outputs_keep_their_place_unless_told_otherwise() -> None:
    """Output units are compared by index; ``fix_output=False`` and the published alignment match them."""
    a = Topology.from_masks([np.array([[1, 0], [0, 1]])])
    b = Topology.from_masks([np.array([[0, 1], [1, 0]])])
    assert nnstd(a, b).nnstd == 1.0
    assert nnstd(a, b, fix_output=False).nnstd == 0.0
    assert nnstd(a, b, alignment="reference").nnstd == 0.0


def test_ambiguous_counts_the_units_with_more_than_one_optimal_partner() -> None:
    """Two units without inputs and two with the same input can each be exchanged; the fifth cannot."""
    mask = np.array([[0, 0, 1, 1, 0], [0, 0, 0, 0, 1]])
    a = Topology.from_masks([mask, np.eye(5)])
    b = Topology.from_masks([mask[:, [4, 2, 0, 1, 3]], np.eye(5)[[4, 2, 0, 1, 3]]])
    distance = nnstd(a, b, alignment="canonical")
    assert distance.layers[0].ambiguous == 4
    assert distance.ambiguous == 4
    assert distance.nnstd == 0.0
    assert nnstd(a, a, alignment="canonical").layers[0].ambiguous == 4


def test_networks_that_are_wired_differently_are_refused_with_both_wirings() -> None:
    """The error shows both wirings; inputs of different widths are refused too."""
    a = Topology.from_masks([np.eye(3), np.eye(3)])
    with pytest.raises(NotComparableError, match=r"input\(3\) -> hidden1\(3\).*input\(3\) -> output\(3\)"):
        nnstd(a, Topology.from_masks([np.eye(3)]))
    with pytest.raises(NotComparableError, match="compared by index"):
        nnstd(a, Topology.from_masks([np.ones((4, 3)), np.eye(3)]))


def test_canonical_without_numba_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alignment ``identity`` works without numba; ``canonical`` names the extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    a = Topology.from_masks([np.eye(3)])
    assert nnstd(a, a, alignment="identity").nnstd == 0.0
    with pytest.raises(MissingExtraError, match=r"the canonical alignment needs the extra \[distance\]"):
        nnstd(a, a, alignment="canonical")


def test_a_distance_is_a_number() -> None:
    """`float` gives NNSTD, so that distances can be summed, sorted by `key=float` and formatted."""
    a, b = (Topology.from_masks([mask]) for mask in (np.eye(3), np.ones((3, 3))))
    distance = nnstd(a, b, alignment="identity")
    assert float(distance) == distance.nnstd == 2 / 3


@pytest.mark.parametrize("plain", [np.eye(3), [np.eye(3), np.ones((3, 2))], None])
def test_plain_matrices_are_told_how_to_become_a_topology(plain: Any) -> None:
    """In either place, and before anything is compared."""
    topology = Topology.from_masks([np.eye(3)])
    for pair in ((plain, topology), (topology, plain)):
        with pytest.raises(InvalidInputError, match=r"nnstd: expected a Topology, found \w+ \(Topology.from_masks\("):
            nnstd(*pair)


def test_a_ref_is_told_that_an_archive_takes_it() -> None:
    """`ts.nnstd` knows no archive, and does not look for one."""
    with pytest.raises(InvalidInputError, match=r"expected a Topology, found str \(an archive takes refs"):
        nnstd("w0@5", "w1@5")  # type: ignore[arg-type]


def chain(masks: list[np.ndarray]) -> tuple[Layer, ...]:
    return Topology.from_masks(masks).layers


def jaccard(set_a: set[Any], set_b: set[Any]) -> float:
    return len(set_a ^ set_b) / len(set_a | set_b) if set_a | set_b else 0.0


def recomputed(a: Topology, b: Topology, matching: Any) -> list[float]:
    """The layers' distances of one matching, with Python sets; spaces in the order in which their last layer enters."""
    values = []
    names = {x.name: y.name for x, y in zip(a.spaces, b.spaces, strict=True)}
    for last in {layer.target.name: k for k, layer in enumerate(a.layers)}.values():
        space = a.layers[last].target
        width = max(space.size, b.layers[last].target.size)
        terms = []
        for i, j in enumerate(matching[space.name].tolist()):
            inputs_a, inputs_b = set(), set()
            for x, y in zip(a.layers, b.layers, strict=True):
                if x.target.name != space.name or j < 0:
                    continue
                assert y.target.name == names[space.name]
                inputs_a |= {
                    (x.name, int(matching[x.source.name][k // x.taps]), k % x.taps, k // x.taps)
                    for k in x.mask.keys_of(i)
                }
                inputs_b |= {(x.name, k // y.taps, k % y.taps) for k in y.mask.keys_of(j).tolist()}
            # A unit of A without a partner has no name in B: its own stands for it.
            named = {(n, u, t) if u >= 0 else (n, -1 - own, t) for n, u, t, own in inputs_a}
            if j >= 0:
                terms.append(jaccard(named, inputs_b))
        values.append((math.fsum(terms) + width - len(terms)) / width)
    return values
