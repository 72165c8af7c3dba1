"""One compiled call for a comparison, or for many: what the rule gives step by step, to the bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.distance.kinds import pairs_of
from tests.unit.distance.networks import pairs, random_network, rewired
from topostrata.distance import canonical, fused
from topostrata.distance.comparable import plans
from topostrata.distance.nnstd import nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.prepared import prepare
from topostrata.topology import Topology


def agrees(a: Topology, b: Topology, *, fix_output: bool) -> bool:
    """Compare both ways; whether the compiled call answered."""
    a, b = sorted((a, b), key=lambda topology: topology.digest)
    both = plans(a, b, fix_output=fix_output)
    x, y = (prepare(t, fix_output=fix_output, order=plan.order) for t, plan in zip((a, b), both, strict=True))
    quick, slow = fused.compare(x, y), canonical._stepwise(x, y)
    if quick is None:
        return False
    assert quick.values == slow.values
    assert (quick.ambiguous, quick.canonical, quick.informed) == (slow.ambiguous, slow.canonical, slow.informed)
    assert all((quick.partners[s] == slow.partners[s]).all() for s in slow.partners)
    return True


@given(pairs(), st.booleans())
@settings(max_examples=100)
def test_one_call_is_the_rule_on_chains_sums_and_taps(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Values, partners, counts and flags, with unequal widths, empty and full layers."""
    agrees(*pair, fix_output=fix_output)


@given(pairs_of(("residual", "recurrent", "tied", "depthwise")), st.booleans())
@settings(max_examples=60)
def test_one_call_is_the_rule_on_streams_and_loops(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Spaces that are entered again, self-loops and shared parameters."""
    agrees(*pair, fix_output=fix_output)


def test_sparse_networks_are_answered_by_the_one_call() -> None:
    """Otherwise the two tests above would compare nothing."""
    rng = np.random.default_rng(0)
    a = random_network(rng, [30, 40, 40, 5], 0.05)
    assert agrees(a, rewired(rng, a, 0.2), fix_output=True)


def test_a_matrix_is_that_of_its_pairs() -> None:
    """Networks of other widths, equal ones and dense ones in one matrix: each value is that of the pair alone."""
    rng = np.random.default_rng(1)
    first = random_network(rng, [12, 14, 13, 4], 0.1)
    others = [random_network(rng, [12, w, 13, 4], d) for w, d in ((14, 0.1), (9, 0.1), (20, 0.15), (14, 0.9))]
    networks = [first, *others, rewired(rng, first, 0.2), Topology(first.layers)]
    matrix = distances(networks, alignment="canonical")
    for i, a in enumerate(networks):
        for j, b in enumerate(networks):
            assert matrix.layers[i, j].tolist() == [row.distance for row in nnstd(a, b, alignment="canonical").layers]
