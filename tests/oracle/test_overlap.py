"""Overlap and refined against the slow version, written from the definition alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.slow_overlap import Slow
from tests.unit.distance.kinds import pairs_of
from tests.unit.distance.networks import pairs, random_network, rewired
from topostrata.distance.beliefs import sure_pairs
from topostrata.distance.comparable import plans
from topostrata.distance.nnstd import nnstd
from topostrata.distance.prepared import prepare
from topostrata.topology import Axis, Layer, Mask, Space, Topology

ONE_AXIS = ("residual", "recurrent", "tied")


def check(pair: tuple[Topology, Topology], *, fix_output: bool) -> int:
    """Compare the sure pairs, and what is unique; how many alignments were."""
    a, b = sorted(pair, key=lambda topology: topology.digest)
    slow = Slow(a, b, fix_output=fix_output)
    both = zip((a, b), plans(a, b, fix_output=fix_output), strict=True)
    sure = sure_pairs(*(prepare(t, fix_output=fix_output, order=plan.order) for t, plan in both))
    assert {s: partner.tolist() for s, partner in sure.items()} == slow.sure()
    expected = slow.values()
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


def test_inputs_without_a_partner_count_one_by_one() -> None:
    """Networks of unequal widths with skips, where two inputs of one unit have no partner and look the same."""
    ends = [("l0", 0, 1), ("l1", 1, 2), ("skip1", 0, 2), ("l2", 2, 3), ("l3", 3, 4), ("skip3", 2, 4)]

    def network(sizes: list[int], cells: list[list[int]]) -> Topology:
        spaces = [Space(f"s{k}", (Axis(f"s{k}", size, fixed=k in {0, 4}),)) for k, size in enumerate(sizes)]
        return Topology(
            tuple(
                Layer(name, spaces[i], spaces[j], Mask(sizes[i], sizes[j], np.array(numbers)))
                for (name, i, j), numbers in zip(ends, cells, strict=True)
            )
        )

    narrow = network(
        [2, 2, 3, 4, 5],
        [[0, 2], [2, 3, 5], [0, 1, 2, 3, 4], [0, 1, 3, 4, 5, 6, 7, 8, 10, 11],
         [0, 4, 6, 7, 11, 12, 14, 15, 18, 19], [0, 5, 6, 8, 10, 11, 12, 14]],
    )  # fmt: skip
    wide = network(
        [2, 3, 3, 6, 5],
        [[1, 2, 3], [1, 3, 4, 5, 6, 7, 8], [0, 1, 2], [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16],
         [1, 2, 3, 4, 5, 7, 9, 10, 11, 13, 14, 16, 17, 18, 19, 20, 22, 23, 24, 27, 29], [0, 1, 5, 8, 10, 11, 12, 14]],
    )  # fmt: skip
    for fix_output in (True, False):
        assert check((narrow, wide), fix_output=fix_output) == 2
