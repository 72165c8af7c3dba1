"""``archive.py2neo()``: a connected py2neo Graph on every store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.stores import Target, contents
from topostrata.archive import Archive
from topostrata.runs import Parent
from topostrata.topology import Topology

A = Topology.from_masks([np.eye(3), np.ones((3, 2))])
B = Topology.from_masks([np.ones((3, 3)), np.eye(3, 2)])


@pytest.fixture
def graph(archive: Archive) -> Iterator[Any]:
    """Connected to an archive of two runs, one the child of the other."""
    archive.push("w0", 0, A, metrics={"loss": 0.5})
    archive.push("w0", 5, B)
    archive.push("w1", 0, A)
    archive.update_run("w1", parents=[Parent("w0", 5, "fork")])
    connected = archive.py2neo()
    yield connected
    connected.service.connector.close()


def test_queries_answer_as_the_archive_does(archive: Archive, graph: Any) -> None:
    """``run`` with parameters: the same columns and rows."""
    text = (
        "MATCH (a:Neuron {run: $run})-[c:CONNECTS]->(b:Neuron) WHERE c.died_step IS NULL "
        "RETURN a.id AS source, b.id AS target ORDER BY source, target"
    )
    cursor = graph.run(text, {"run": "w0"})
    expected = archive.cypher(text, {"run": "w0"})
    assert tuple(cursor.keys()) == expected.columns
    assert [list(row) for row in cursor] == expected.rows
    assert len(expected.rows) == B.nnz


def test_nodes_and_relationships_are_found(graph: Any) -> None:
    """What py2neo scripts do: match nodes by label and property, relationships by type, walk their ends."""
    snapshots = graph.nodes.match("Snapshot", run="w0").order_by("_.step").all()
    assert [(node["id"], node["nnz"], node.get("metric_loss")) for node in snapshots] == [
        ("w0@0", 9, 0.5),
        ("w0@5", 11, None),
    ]
    assert graph.nodes.match("Run").count() == 2
    descent = graph.run("MATCH (:Run)-[d:DESCENDS_FROM]->(:Snapshot) RETURN d").evaluate()
    assert (descent.start_node["id"], type(descent).__name__, descent["how"], descent.end_node["id"]) == (
        "w1",
        "DESCENDS_FROM",
        "fork",
        "w0@5",
    )


def test_the_embedded_engine_lets_it_read_only(archive: Archive, target: Target, graph: Any) -> None:
    """There it has the account of readers; a server knows one account, and the document says so."""
    if target.name != "embedded":
        return
    from py2neo.errors import Neo4jError

    before = contents(archive)
    with pytest.raises(Neo4jError, match=r"(?i)forbidden|security|not allowed"):
        graph.run("CREATE (:Run {id: 'forged'})")
    assert contents(archive) == before


def test_without_the_extra_the_error_says_how_to_get_it(archive: Archive, target: Target) -> None:
    """Where py2neo is not installed."""
    code = (
        "import sys; sys.modules['py2neo'] = None\n"
        "from topostrata.archive import open_archive\n"
        "from topostrata.errors import MissingExtraError\n"
        "with open_archive(sys.argv[1]) as archive:\n"
        "    try:\n        archive.py2neo()\n"
        "    except MissingExtraError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, target.uri], env=os.environ | target.environment, capture_output=True, text=True,
        check=True, timeout=300,
    )  # fmt: skip
    assert (
        done.stdout
        == "archive.py2neo() needs the extra [py2neo], which is not installed (pip install '.[py2neo]' in a checkout of Topostrata)\n"
    )
