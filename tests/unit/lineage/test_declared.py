"""Declared descent: families, depths, nearest common ancestors, against plain walks."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from topostrata.lineage.declared import family, kinship
from topostrata.runs import Descent

# Runs 0..9; a parent has a smaller number, so that there is no cycle.
graphs = st.sets(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1]), max_size=15
).map(lambda pairs: [Descent(str(a), 0, str(b), "fork") for a, b in sorted(pairs)])
runs = st.integers(0, 9).map(str)
ALL = [str(k) for k in range(10)]


def above(edges: list[Descent], run: str) -> set[str]:
    """The run and its ancestors."""
    family_so_far = {run}
    for _ in ALL:
        family_so_far |= {edge.parent for edge in edges if edge.child in family_so_far}
    return family_so_far


@given(graphs, runs)
def test_a_family_is_ancestors_and_descendants(edges: list[Descent], run: str) -> None:
    """Parents stand before their children, and every edge between members is there."""
    lineage = family(edges, ALL, of=run)
    expected = above(edges, run) | {other for other in ALL if run in above(edges, other)}
    assert set(lineage.nodes) == expected
    assert lineage.cut == 0
    assert all(lineage.nodes.index(e.parent) < lineage.nodes.index(e.child) for e in lineage.edges)
    assert set(lineage.edges) == {e for e in edges if {e.parent, e.child} <= expected}


@given(graphs, runs, st.integers(0, 4))
def test_a_depth_cuts_and_counts(edges: list[Descent], run: str, depth: int) -> None:
    """What is shown and what is cut are the whole family."""
    whole, near = family(edges, ALL, of=run), family(edges, ALL, of=run, depth=depth)
    assert set(near.nodes) <= set(whole.nodes)
    assert len(near.nodes) + near.cut == len(whole.nodes)
    assert run in near.nodes


@given(graphs, runs, runs)
def test_nearest_common_ancestors(edges: list[Descent], a: str, b: str) -> None:
    """Common ancestors of which no descendant is one too; the ways go down along edges."""
    kin = kinship(edges, a, b)
    common = above(edges, a) & above(edges, b)
    assert set(kin.ancestors) == {c for c in common if not any(c in above(edges, d) for d in common - {c})}
    pairs = {(edge.parent, edge.child) for edge in edges}
    for way, end in ((kin.to_a, a), (kin.to_b, b)):
        if common:
            assert (way[0], way[-1]) == (kin.ancestors[0], end)
            assert set(pairwise(way)) <= pairs
