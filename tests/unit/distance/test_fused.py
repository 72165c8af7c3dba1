"""One compiled call for a comparison, or for many: what the rules give step by step, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.distance.kinds import anything, pairs_of
from tests.unit.distance.networks import pairs, random_network, relabelled, rewired
from topostrata.distance import canonical, fused, fused_overlap, overlap
from topostrata.distance.alignments import Alignment
from topostrata.distance.beliefs import find_sure, sure_pairs
from topostrata.distance.comparable import plans
from topostrata.distance.comparison import Comparison
from topostrata.distance.nnstd import nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.prepared import prepare
from topostrata.topology import Topology


def agrees(a: Topology, b: Topology, *, fix_output: bool) -> tuple[bool, bool]:
    """Compare both ways, by canonical and by overlap; whether the compiled calls answered."""
    a, b = sorted((a, b), key=lambda topology: topology.digest)
    both = plans(a, b, fix_output=fix_output)
    x, y = (prepare(t, fix_output=fix_output, order=plan.order) for t, plan in zip((a, b), both, strict=True))
    quick = fused.compare(x, y)
    if quick is not None:
        same(quick, canonical._stepwise(x, y))
    same(overlap._compare(x, y), overlap._stepwise(x, y, sure_pairs(x, y)))
    answer = fused_overlap.answer([x, y], np.array([[0, 1]]))
    return quick is not None, answer is not None and answer.values(0, x, y) is not None


def same(quick: Comparison, slow: Comparison) -> None:
    """Values, partners, counts and flags."""
    assert quick.values == slow.values
    assert (quick.ambiguous, quick.canonical, quick.informed) == (slow.ambiguous, slow.canonical, slow.informed)
    assert all((quick.partners[s] == slow.partners[s]).all() for s in slow.partners)


@given(pairs(), st.booleans())
@settings(max_examples=100)
def test_one_call_is_the_rule_on_chains_sums_and_taps(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Values, partners, counts and flags, with unequal widths, empty and full layers."""
    agrees(*pair, fix_output=fix_output)


@given(st.one_of(pairs_of(("residual", "recurrent", "tied", "depthwise")), anything()), st.booleans())
@settings(max_examples=100)
def test_one_call_is_the_rule_on_streams_and_loops(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Spaces that are entered again, self-loops, shared parameters and shared axes."""
    agrees(*pair, fix_output=fix_output)


def test_sparse_networks_are_answered_by_the_one_call() -> None:
    """Otherwise the two tests above would compare nothing."""
    rng = np.random.default_rng(0)
    a = random_network(rng, [30, 40, 40, 5], 0.05)
    assert agrees(a, rewired(rng, a, 0.2), fix_output=True) == (True, True)


def test_a_small_dense_network_is_answered_by_the_one_call_of_overlap() -> None:
    """Its pairs of units stand in the order in which they are counted step by step."""
    rng = np.random.default_rng(0)
    a = random_network(rng, [20, 20, 20, 5], 0.5)
    assert agrees(a, rewired(rng, a, 0.2), fix_output=True) == (False, True)


def test_a_wide_dense_network_is_left_to_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit sets count its pairs; the sure pairs are handed on."""
    rng = np.random.default_rng(0)
    a = random_network(rng, [30, 30, 30, 5], 0.5)
    monkeypatch.setattr(fused_overlap, "DONE", -1)
    b = rewired(rng, a, 0.2)
    assert agrees(a, b, fix_output=True) == (False, False)


def test_a_matrix_is_that_of_its_pairs() -> None:
    """Networks of other widths, equal ones, a copy and dense ones in one matrix: each value is that of the pair alone."""
    rng = np.random.default_rng(1)
    first = random_network(rng, [12, 14, 13, 4], 0.1)
    others = [random_network(rng, [12, w, 13, 4], d) for w, d in ((14, 0.1), (9, 0.1), (20, 0.15), (14, 0.9))]
    networks = [first, *others, rewired(rng, first, 0.2), Topology(first.layers)]
    networks.append(relabelled(rng, first))
    alignments: tuple[Alignment, ...] = ("canonical", "overlap")
    for alignment in alignments:
        matrix = distances(networks, alignment=alignment)
        for i, a in enumerate(networks):
            for j, b in enumerate(networks):
                assert matrix.layers[i, j].tolist() == [x.distance for x in nnstd(a, b, alignment=alignment).layers]


def test_a_matrix_is_compared_by_what_a_pair_compiled() -> None:
    """Each kernel is compiled for one layout of its arguments: another one would cost the first use once more."""
    rng = np.random.default_rng(0)
    networks = [random_network(rng, [30, 40, 40, 5], 0.05) for _ in range(4)]
    of_overlap: list[Any] = [fused_overlap.compare_pairs, find_sure]
    kernels_of: dict[Alignment, list[Any]] = {"canonical": [fused.compare_pairs], "overlap": of_overlap}
    for alignment, kernels in kernels_of.items():
        pair = nnstd(*networks[:2], alignment=alignment).nnstd
        matrix = distances([*networks, networks[0]], alignment=alignment)
        assert matrix.nnstd[0, 1] == matrix.nnstd[1, 4] == pair
        assert [len(kernel.signatures) for kernel in kernels] == [1] * len(kernels)
