"""Matches that are kept: which neuron of one run is which of another, for Cypher to walk, on every store."""

from __future__ import annotations

import numpy as np
import pytest

from tests.stores import contents, tell
from topostrata import queries
from topostrata.archive import Archive
from topostrata.errors import NotFoundError
from topostrata.topology import Topology

ALL = "MATCH (a:Neuron)-[m:MATCHES]->(b:Neuron) RETURN a.id AS a, b.id AS b, properties(m) AS kept ORDER BY a, b"


def push_two(archive: Archive) -> np.ndarray:
    """A run, and another one whose hidden units are those of the first in other places; gives these places."""
    rng = np.random.default_rng(0)
    a = Topology.from_masks([rng.random((60, 90)) < 0.05, rng.random((90, 60)) < 0.05])
    places = rng.permutation(90)
    archive.push("w0", 0, a)
    archive.push("w1", 5, a.relabelled({"hidden1": places}))
    return places


def test_cypher_walks_from_run_to_run(archive: Archive) -> None:
    """One relationship for each established unit, with all that says which match it is; the cookbook finds it."""
    places = push_two(archive)
    match = archive.match("w0@0", "w1@5", keep=True)
    known = np.flatnonzero(match["hidden1"].established)
    assert 80 < len(known) == match.established
    rows = tell(archive, ALL)
    assert {row["a"]: row["b"] for row in rows} == {f"w0/hidden1/{i}": f"w1/hidden1/{places[i]}" for i in known}
    a, b = (archive.topology(run).digest for run in ("w0", "w1"))
    said = {"alignment": "overlap", "version": 1, "snapshot": "w0@0", "other_snapshot": "w1@5"}
    said |= {"digest": a, "other_digest": b, "pair": "w0@0 w1@5 overlap", "score": 1.0}
    counts = match["hidden1"].common
    assert [row["kept"] for row in rows] == [
        said | {"common": int(counts[int(row["a"].split("/")[2])])} for row in rows
    ]
    query, unit = queries.load("cookbook/counterparts"), int(known[0])
    for id_, other in (
        (f"w0/hidden1/{unit}", f"w1/hidden1/{places[unit]}"),
        (f"w1/hidden1/{places[unit]}", f"w0/hidden1/{unit}"),
    ):
        assert archive.cypher(query.text, {"id": id_}).rows == [
            [other, "w0@0", "w1@5", "overlap", 1.0, int(counts[unit])]
        ]


def test_a_match_is_kept_once(archive: Archive) -> None:
    """Kept again, from either side, it replaces itself; of another alignment it stands beside; a question keeps none."""
    push_two(archive)
    count = archive.match("w0", "w1", keep=True).established
    before = contents(archive)
    archive.match("w0", "w1")
    archive.match("w0", "w1", keep=True)
    assert contents(archive) == before
    archive.match("w1", "w0", keep=True)
    rows = tell(archive, ALL)
    assert len(rows) == count
    assert {row["a"].split("/")[0] for row in rows} == {"w1"}
    archive.match("w0", "w1", alignment="canonical", keep=True)
    assert {row["kept"]["alignment"] for row in tell(archive, ALL)} == {"overlap", "canonical"}


def test_matches_are_in_nobodys_way(archive: Archive) -> None:
    """With them the archive verifies, takes further snapshots, and loses a run's neurons with what they match."""
    push_two(archive)
    archive.match("w0", "w1", keep=True)
    assert list(archive.verify()) == []
    rng = np.random.default_rng(1)
    archive.push("w0", 1, Topology.from_masks([rng.random((60, 90)) < 0.05, rng.random((90, 60)) < 0.05]))
    assert list(archive.verify()) == []
    assert archive.evolution("w0", 0, 1).layers[0].survived > 0
    tell(archive, "MATCH (n:Neuron {run: 'w1'}) DETACH DELETE n")
    assert tell(archive, ALL) == []
    assert {violation.where.split("/")[0] for violation in archive.verify()} == {"w1"}


def test_neurons_that_are_not_in_the_graph_are_missed(archive: Archive) -> None:
    """A run pushed without its connections has no neurons: nothing is kept, and what was kept before stays."""
    push_two(archive)
    archive.match("w0", "w1", keep=True)
    archive.push("w2", 0, archive.topology("w1"), projection="none")
    before = contents(archive)
    with pytest.raises(NotFoundError, match=r"expected 8. pairs of neurons in the graph, found 0"):
        archive.match("w0", "w2", keep=True)
    assert contents(archive) == before
    assert archive.match("w0", "w2").established > 80
