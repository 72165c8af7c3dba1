"""Cypher of users: values go in as parameters, plain values come out, and the engine itself lets nothing be changed.

The clauses that are refused before a query is sent are tested in ``test_hostile_queries.py``; here it is what stands
behind them, should they ever let something through.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neo4j.exceptions import Neo4jError
from typer.testing import CliRunner, Result

from tests.behaviour.test_hostile_queries import RUNAWAYS, wait_until_ended
from tests.histories import sparse_history
from tests.stores import Target, contents, home, reading, wipe
from topostrata import queries
from topostrata.archive import Archive
from topostrata.errors import InvalidInputError, InvalidQueryError, LimitError, NotFoundError
from topostrata.service.cli.main import app
from topostrata.topology import Topology

WRITES = [
    "CREATE (:Run {id: 'x'})",
    "CREATE (:Other)",
    "MERGE (r:Run {id: 'w0'}) SET r.name = 'x'",
    "MERGE (:Run {id: 'new'})",
    "MATCH (r:Run) SET r.name = 'x'",
    "MATCH (r:Run) SET r += {name: 'x'}",
    "MATCH (r:Run) SET r:Other",
    "MATCH (r:Run) REMOVE r.name",
    "MATCH (r:Run) DETACH DELETE r",
    "MATCH ()-[c:CONNECTS]->() DELETE c",
    "MATCH ()-[c:CONNECTS]->() SET c.died_step = 0",
    "MATCH (a:Run), (b:Snapshot) CREATE (a)-[:DESCENDS_FROM {how: 'fork'}]->(b)",
    "FOREACH (i IN [1, 2] | CREATE (:Run {id: toString(i)}))",
    "CREATE INDEX users FOR (n:Run) ON (n.name)",
    "CREATE CONSTRAINT users FOR (n:Run) REQUIRE n.name IS UNIQUE",
    "DROP INDEX snapshot_run",
    "DROP CONSTRAINT run_id",
    "CREATE USER eve SET PASSWORD 'long-enough-1'",
]


@pytest.fixture(scope="module")
def small(target: Target) -> Iterator[Archive]:
    """An archive with one small run."""
    with target.open() as opened:
        wipe(opened)
        opened.push("w0", 0, Topology.from_masks([np.eye(3)]), metrics={"loss": 0.5})
        yield opened


def as_reader(archive: Archive, text: str) -> None:
    """Send a query as users' queries are sent, past the check of its clauses."""
    with reading(archive) as session, session.begin_transaction(timeout=5) as tx:
        tx.run(text).consume()
        tx.commit()


@pytest.mark.parametrize("text", WRITES)
def test_the_engine_itself_refuses_to_write(small: Archive, text: str) -> None:
    """Whatever would change data, schema or accounts fails, and the graph is afterwards what it was before."""
    before = contents(small)
    with pytest.raises(Neo4jError):
        as_reader(small, text)
    assert contents(small) == before


@pytest.mark.parametrize("text", ["http://{at}/x.csv", "https://{at}/x.csv", "ftp://{at}/x.csv", "file:///etc/passwd"])
def test_the_engine_itself_fetches_nothing(small: Archive, text: str) -> None:
    """LOAD CSV reaches neither files nor the network: a listener on loopback sees nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        source = text.format(at=f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(Neo4jError):
            as_reader(small, f"LOAD CSV FROM '{source}' AS line RETURN line")
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_values_are_parameters(small: Archive) -> None:
    """A value that looks like Cypher is a value, and every plain type comes back as it went in."""
    hostile = "w0'}) DETACH DELETE r //"
    table = small.cypher("MATCH (r:Run {id: $id}) RETURN r.id", {"id": hostile})
    assert (table.rows, table.truncated) == ([], False)
    values = [1, 2**53, 0.5, True, None, "\N{SNOWMAN}'\"`\\", [1, "a", [None]], {"a": {"b": [1]}}]
    assert small.cypher("RETURN $v AS v", {"v": values}).rows == [[values]]


def test_nodes_relationships_and_paths_come_as_plain_values(small: Archive) -> None:
    """With their labels, types and properties, so that they can be JSON."""
    table = small.cypher("MATCH p = (a:Neuron {id: 'w0/input/1'})-[c:CONNECTS]->(b) RETURN a, c, p")
    key = table.rows[0][1]["alive"]
    a = {"labels": ["Neuron"], "id": "w0/input/1", "run": "w0", "space": "input", "index": 1}
    c = {"type": "CONNECTS", "run": "w0", "layer": "l0", "tap": 0, "born_step": 0, "alive": key}
    b = {"labels": ["Neuron"], "id": "w0/output/1", "run": "w0", "space": "output", "index": 1}
    assert table.rows == [[a, c, {"nodes": [a, b], "relationships": [c]}]]


def test_rows_beyond_the_limit_are_cut_and_said_to_be(small: Archive) -> None:
    """Exactly as many rows as asked for are whole; one more is truncated."""
    for limit, truncated in ((2, True), (3, False), (4, False)):
        table = small.cypher("UNWIND [1, 2, 3] AS i RETURN i ORDER BY i", limit=limit)
        assert (table.rows, table.truncated) == ([[1], [2], [3]][:limit], truncated)


def test_a_query_with_a_parameter_too_few_is_the_users_error(small: Archive) -> None:
    """It is an InvalidQueryError that names the parameter."""
    with pytest.raises(InvalidQueryError, match="nobody"):
        small.cypher("MATCH (r:Run {id: $nobody}) RETURN r.id")


def test_a_query_that_takes_too_long_is_given_up_in_time(archive: Archive) -> None:
    """The client's own limit holds on every store, also where the engine would go on for its own."""
    history = sparse_history(900, snapshots=1, widths=(60, 60, 60), density=0.5, churn=0)
    archive.push("r", 0, history.snapshots[0][1])
    runaway = "MATCH (a:Neuron), (b:Neuron), (c:Neuron), (d:Neuron) "
    runaway += "WHERE a.index + b.index + c.index + d.index = -1 RETURN count(*)"
    with pytest.raises(LimitError, match=r"took longer than 0\.5 s"):
        archive.cypher(runaway, timeout_s=0.5)
    assert archive.cypher("RETURN 1 AS x").rows == [[1]]


def test_a_query_of_more_groups_than_the_engine_keeps_asks_for_too_much(archive: Archive) -> None:
    """What the embedded engine refuses to hold is named as a limit, not as a query that was not understood."""
    many = "UNWIND range(1, 100000) AS a UNWIND range(1, 6) AS b WITH a, b, count(*) AS n RETURN count(*) AS groups"
    if not home(archive)._store.is_embedded:
        assert archive.cypher(many).rows == [[600_000]]
        return
    with pytest.raises(LimitError, match="asks for too much"):
        archive.cypher(many)


def test_abandoned_queries_starve_nobody(archive: Archive) -> None:
    """After ten that took too long, from ten threads, nothing runs on; readers and writers were answered meanwhile."""
    archive.push("w0", 0, Topology.from_masks([np.ones((30, 30))]))
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            archive.cypher(RUNAWAYS[1], timeout_s=1)
        except LimitError as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    assert archive.push("w0", 1, Topology.from_masks([np.eye(30)])) == "added"
    assert archive.run("w0").id == "w0"
    for thread in threads:
        thread.join(60)
    assert len(failures) == 10
    assert wait_until_ended(archive)


def test_a_query_can_be_asked_from_within_an_event_loop(archive: Archive) -> None:
    """Notebooks run one."""

    async def ask() -> list[list[Any]]:
        return archive.cypher("RETURN 1 AS x").rows

    assert asyncio.run(ask()) == [[1]]


def run_cypher(target: Target, *arguments: str) -> Result:
    """``topostrata cypher`` on this store."""
    return CliRunner().invoke(app, ["cypher", "--store", target.uri, *arguments], env=target.environment)


def test_the_command_line_runs_a_cookbook_query(archive: Archive, target: Target) -> None:
    """By its name, with the values of -p; an empty answer has the columns of the file on every store."""
    archive.push("w0", 0, Topology.from_masks([np.eye(3)]))
    values = ["--cookbook", "inputs", "-p", "id=w0/output/1", "--json"]
    for step, rows in ((0, [["w0/input/1", "l0", 0, 0]]), (-1, [])):
        answer = json.loads(run_cypher(target, *values, "-p", f"step={step}").stdout)
        assert (answer["columns"], answer["rows"]) == (["input", "layer", "tap", "born"], rows)


def test_the_command_line_names_wrong_parameters_of_a_cookbook_query(target: Target) -> None:
    """Those that are missing and those that it does not have, before anything is sent."""
    error = run_cypher(target, "--cookbook", "inputs", "-p", "step=0", "-p", "run=w0").exception
    assert isinstance(error, InvalidQueryError)
    assert error.message == "cookbook query inputs: expected the parameters id, step, found id missing; run unknown"
    assert error.hint == "for example -p id=w0/hidden1/5 -p step=30"
    error = run_cypher(target, "--cookbook", "family_trees").exception
    assert isinstance(error, NotFoundError)
    assert error.hint == "did you mean family_tree?"


def test_the_command_line_runs_a_file(archive: Archive, target: Target, tmp_path: Path) -> None:
    """One with comments before and a semicolon behind, as files of Cypher are; a missing parameter is named."""
    archive.push("w0", 0, Topology.from_masks([np.eye(3)]))
    file = tmp_path / "mine.cypher"
    file.write_text("// mine: 1\nMATCH (r:Run {id: $run})\nRETURN r.id AS run;\n", encoding="utf-8")
    answer = json.loads(run_cypher(target, "--file", str(file), "-p", "run=w0", "--json").stdout)
    assert (answer["columns"], answer["rows"]) == (["run"], [["w0"]])
    error = run_cypher(target, "--file", str(file)).exception
    assert isinstance(error, InvalidQueryError)
    assert "run" in error.message
    file.write_bytes(b"RETURN '\xff' AS x")
    assert isinstance(run_cypher(target, "--file", str(file)).exception, InvalidInputError)


def test_the_command_line_lists_the_cookbook() -> None:
    """All names with title, purpose and parameters, without an archive: with --cookbook alone, or with `list`."""
    for arguments in (["--cookbook"], ["--cookbook", "list"]):
        recipes = json.loads(CliRunner().invoke(app, ["cypher", *arguments, "--json"]).stdout)
        assert [f"cookbook/{recipe['name']}" for recipe in recipes] == list(queries.names("cookbook"))
        assert all(recipe["title"] and recipe["purpose"] for recipe in recipes)
        assert next(recipe["parameters"] for recipe in recipes if recipe["name"] == "inputs") == ["id", "step"]
    assert "family_tree" in CliRunner().invoke(app, ["cypher", "--cookbook"]).stdout


@pytest.mark.parametrize("arguments", [[], ["RETURN 1 AS x", "--file", __file__], ["--cookbook", "--file", __file__]])
def test_the_command_line_takes_a_query_from_one_place(arguments: list[str]) -> None:
    """None and several are refused with exit code 2."""
    assert CliRunner().invoke(app, ["cypher", *arguments]).exit_code == 2
