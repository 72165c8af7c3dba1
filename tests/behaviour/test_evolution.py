"""Evolution and declared lineage, against plain Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.histories import Connection, History, random_history
from tests.pushed import push
from tests.stores import Target
from topostrata.archive import Archive
from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.runs import Descent, Parent
from topostrata.topology import Topology


def jaccard(a: set[Connection], b: set[Connection]) -> Fraction:
    """Share of the union that is not common; 0 where both are empty."""
    return Fraction(len(a ^ b), len(a | b)) if a | b else Fraction(0)


def oracle(history: History, layer: str, first: int, last: int) -> dict[str, object]:
    """What ``evolution`` must say of one layer, from sets alone."""
    a, b = history.alive(layer, first), history.alive(layer, last)
    survived = history.survivors(layer, first, last)
    width = history.at(first)[layer].target.size
    fed = [{c[2] for c in alive} for alive in (a, b)]
    units = [jaccard({c for c in a if c[2] == j}, {c for c in b if c[2] == j}) for j in range(width)]
    return {
        "name": layer,
        "alive_from": len(a),
        "alive_to": len(b),
        "survived": len(survived),
        "regrown": len((a & b) - survived),
        "died": len(a - b),
        "born": len(b - a),
        "jaccard_distance": pytest.approx(float(jaccard(a, b)), abs=1e-12),
        "unit_distance": pytest.approx(float(sum(units) / width), abs=1e-12),
        "dead_from": width - len(fed[0]),
        "dead_to": width - len(fed[1]),
        "revived": len(fed[1] - fed[0]),
        **dict.fromkeys(("dropped", "grown", "regrown_at_once")),  # not known of snapshots alone
    }


@pytest.mark.parametrize("seed", range(8))
def test_evolution_is_what_sets_say(archive: Archive, target: Target, seed: int) -> None:
    """Between any two steps: survived, regrown, died, born and both distances, in every layer."""
    history = random_history(seed, snapshots=6)
    push(archive, "w0", history)
    with target.open() as fresh:
        for first in history.steps[::2]:
            for last in [step for step in history.steps if step >= first]:
                evolution = fresh.evolution("w0", first, last)
                assert (evolution.run, evolution.from_step, evolution.to_step) == ("w0", first, last)
                assert [y.name for y in evolution.layers] == [y.name for y in history.layers]
                for layer in evolution.layers:
                    counts = {name: getattr(layer, name) for name in layer.__slots__}
                    assert counts == oracle(history, layer.name, first, last)
                    assert layer.survived + layer.regrown + layer.died == layer.alive_from
                    assert layer.survived + layer.regrown + layer.born == layer.alive_to
        whole = fresh.evolution("w0")
        assert (whole.from_step, whole.to_step) == (history.steps[0], history.steps[-1])


def test_turnover_is_the_sum_of_what_every_update_was_said_to_do(archive: Archive) -> None:
    """Over the snapshots after the first step; not known where one of them does not say it, and never 0 for that."""
    history = random_history(3, snapshots=4)
    name = history.layers[0].name
    for k, (step, topology) in enumerate(history.snapshots):
        counts = {"dropped": 3 + k, "grown": 5, "regrown_at_once": k}
        archive.push("w0", step, topology, layer_metrics={name: counts} if k > 1 else {})
    first, *others = archive.evolution("w0", history.steps[1]).layers
    assert (first.dropped, first.grown, first.regrown_at_once) == (5 + 6, 10, 2 + 3)
    unknown = [archive.evolution("w0").layers[0], archive.evolution("w0", history.steps[0], history.steps[1]).layers[0]]
    for layer in (*others, *unknown):
        assert (layer.dropped, layer.grown, layer.regrown_at_once) == (None, None, None)


def test_a_connection_that_came_back_is_regrown_and_not_survived(archive: Archive) -> None:
    """Alive at 0, dead at 1, alive at 2: regrown; from 0 to 0 everything survived."""
    for step, rows in enumerate([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[1, 1], [1, 0]]]):
        archive.push("w0", step, Topology.from_masks([rows]))
    layer = archive.evolution("w0").layers[0]
    assert (layer.alive_from, layer.alive_to, layer.survived, layer.regrown, layer.died, layer.born) == (
        2,
        3,
        1,
        1,
        0,
        1,
    )
    same = archive.evolution("w0", 0, 0).layers[0]
    assert (same.survived, same.jaccard_distance, same.unit_distance) == (2, 0.0, 0.0)


def test_evolution_runs_forward_between_recorded_steps(archive: Archive) -> None:
    """``from`` after ``to`` and steps that were not recorded are errors."""
    for step in (0, 5):
        archive.push("w0", step, Topology.from_masks([np.eye(2)]))
    with pytest.raises(InvalidInputError, match="from <= to"):
        archive.evolution("w0", 5, 0)
    with pytest.raises(NotFoundError, match="w0@3"):
        archive.evolution("w0", 0, 3)


def test_lineage_is_ancestors_and_descendants_as_declared(archive: Archive) -> None:
    """A family tree with a run of two parents: of one run its ancestors and descendants, of all runs everything."""
    for run in ("a", "b", "c", "d", "e", "lone"):
        archive.push(run, 0, Topology.from_masks([np.eye(2)]))
        archive.push(run, 5, Topology.from_masks([np.eye(2)]))
    edges = [Descent("a", 5, "b", "fork"), Descent("a", 0, "c", "perturbation"), Descent("b", 5, "d", "pruned"),
             Descent("c", 0, "d", "declared"), Descent("b", 0, "e", "resume")]  # fmt: skip
    for edge in edges:
        archive.update_run(edge.child, parents=[Parent(edge.parent, edge.step, edge.how)])
    whole = archive.lineage()
    assert set(whole.nodes) == {"a", "b", "c", "d", "e", "lone"}
    assert set(whole.edges) == set(edges)
    for order in (whole, archive.lineage("d")):
        for edge in order.edges:
            assert order.nodes.index(edge.parent) < order.nodes.index(edge.child), "parents before their children"
    of_d = archive.lineage("d")
    assert set(of_d.nodes) == {"a", "b", "c", "d"}
    assert set(of_d.edges) == {edge for edge in edges if edge.child != "e"}
    assert set(archive.lineage("b").nodes) == {"a", "b", "d", "e"}
    assert archive.lineage("lone").nodes == ("lone",)
    assert set(archive.run("d").parents) == {Parent("b", 5, "pruned"), Parent("c", 0, "declared")}
