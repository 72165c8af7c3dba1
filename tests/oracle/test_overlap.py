"""Overlap and refined against the slow version, written from the definition alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.slow_overlap import Slow
from tests.unit.distance.kinds import pairs_of
from tests.unit.distance.networks import pairs, random_network, rewired
from topostrata.distance.nnstd import nnstd
from topostrata.topology import Topology

ONE_AXIS = ("residual", "recurrent", "tied")


def check(pair: tuple[Topology, Topology], *, fix_output: bool) -> int:
    """Compare what is unique; how many alignments were."""
    a, b = sorted(pair, key=lambda topology: topology.digest)
    expected = Slow(a, b, fix_output=fix_output).values()
    unique = 0
    for alignment, values in zip(("overlap", "refined"), expected, strict=True):
        answer = nnstd(a, b, alignment=alignment, fix_output=fix_output)  # type: ignore[arg-type]
        if answer.canonical and a.digest != b.digest:
            assert [row.distance for row in answer.layers] == values
            unique += 1
    return unique


@given(pairs(largest=6), st.booleans())
@settings(max_examples=60)
def test_both_agree_with_the_slow_version_on_chains_sums_and_taps(
    pair: tuple[Topology, Topology], fix_output: bool
) -> None:
    """To the bit where the value is unique."""
    check(pair, fix_output=fix_output)


@given(pairs_of(ONE_AXIS), st.booleans())
@settings(max_examples=60)
def test_both_agree_with_the_slow_version_on_streams_loops_and_tied_layers(
    pair: tuple[Topology, Topology], fix_output: bool
) -> None:
    """To the bit where the value is unique: spaces entered again, layers from a space to itself, shared parameters."""
    check(pair, fix_output=fix_output)


@pytest.mark.parametrize("kind", [{}, {"taps": 3}, {"residual": True}])
@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
def test_both_agree_with_the_slow_version_on_larger_networks(kind: dict[str, int], share: float) -> None:
    """To the bit, on networks wide enough for beliefs to differ; all of these are unique."""
    rng = np.random.default_rng(7)
    a = random_network(rng, [10, 12, 11, 12, 4], 0.2, **kind)  # type: ignore[arg-type]
    assert check((a, rewired(rng, a, share)), fix_output=True) == 2
