"""`topostrata engine connect`: any Bolt client reads an embedded archive, writes nothing, and is put out at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import neo4j
import numpy as np
import pandas as pd
import py2neo
import pytest
from neo4j.exceptions import AuthError, DriverError, Neo4jError
from py2neo.errors import Neo4jError as Py2neoError

from tests.stores import contents
from topostrata.archive import Archive, open_archive
from topostrata.settings import Settings
from topostrata.store.embedded import stop
from topostrata.topology import Topology


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive of one run."""
    directory = tmp_path_factory.mktemp("connect") / "archive"
    try:
        with open_archive(directory, settings=Settings(engine_idle_seconds=20)) as opened:
            opened.push("w0", 5, Topology.from_masks([np.eye(3), np.ones((3, 2))]))
            yield opened
    finally:
        stop(directory, force=True)


@contextmanager
def connecting(archive: Archive) -> Iterator[dict[str, list[str]]]:
    """What the command shows while it runs, by its headings; it is ended as by Ctrl-C."""
    command = [sys.executable, "-m", "topostrata.service.cli.main", "engine", "connect", "--store", archive.location]
    with subprocess.Popen(
        command, env=os.environ | {"COLUMNS": "80"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        try:
            assert running.stderr.readline() == "until Ctrl-C\n"
            shown: dict[str, list[str]] = {"": running.stdout.readline().split()}
            while "notebook, with pandas" not in shown or len(shown["notebook, with pandas"]) < 2:
                line = running.stdout.readline()
                if line.startswith("  "):
                    shown[list(shown)[-1]].append(line.strip())
                elif line.strip():
                    shown[line.strip()] = []
            yield shown
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(60)
        assert (running.returncode, running.stderr.read()) == (0, "")


def last(lines: list[str]) -> tuple[Any, dict[str, Any]]:
    """The value of the last of some lines of Python, and the names that the others gave."""
    names: dict[str, Any] = {"neo4j": neo4j, "py2neo": py2neo}
    exec("\n".join(lines[:-1]), names)  # what is shown is to work as it stands
    return eval(lines[-1], names), names


def test_what_is_shown_works_and_only_reads(archive: Archive) -> None:
    """The lines for the driver, py2neo and a notebook answer; nobody writes; at the end nobody is let in or stays."""
    before = contents(archive)
    with connecting(archive) as shown:
        uri, _, user, _, password, _, database = shown[""]
        rows, names = last(shown["neo4j driver"])
        driver: neo4j.Driver = names["driver"]
        assert [row.data() for row in rows] == [{"r.id": "w0", "r.last_step": 5}]
        table, names = last(shown["notebook, with pandas"])
        names["driver"].close()
        pd.testing.assert_frame_equal(table, pd.DataFrame({"r.id": ["w0"], "r.last_step": [5]}))
        table, names = last(shown["py2neo"])
        graph = names["graph"]
        assert [list(row) for row in table] == [["w0", 5]]
        for text in (
            "CREATE (:Run {id: 'forged'})",
            "MATCH (r:Run) DETACH DELETE r",
            "CREATE USER u SET PASSWORD 'abcdefgh'",
        ):
            with pytest.raises(Neo4jError, match=r"(?i)forbidden|not allowed|security"):
                driver.execute_query(text, database_=database)
            with pytest.raises(Py2neoError, match=r"(?i)forbidden|not allowed|security"):
                graph.run(text)
        with connecting(archive) as other:
            assert (other[""][0], other[""][4]) != (uri, password)
            for at, account in ((other[""][0], password), (uri, password[:-1] + "!"), (uri, "")):
                with neo4j.GraphDatabase.driver(at, auth=(user, account)) as refused, pytest.raises(AuthError):
                    refused.verify_connectivity()
        graph.service.connector.close()
        session = driver.session(database=database)
        assert session.run("RETURN 1 AS one").single(strict=True)["one"] == 1
        transaction = session.begin_transaction()
    with pytest.raises((DriverError, Neo4jError, OSError)):
        transaction.run("RETURN 1").consume()
    with pytest.raises((DriverError, OSError)):
        driver.verify_connectivity()
    with suppress(DriverError, OSError):
        session.close()
    driver.close()
    assert contents(archive) == before


def test_from_python_it_lasts_as_long_as_its_context(archive: Archive) -> None:
    """Large messages pass in both directions; the repr of an access shows no password"""
    with archive.bolt() as access:
        assert access.password not in repr(access)
        with neo4j.GraphDatabase.driver(access.uri, auth=(access.user, access.password)) as driver:
            data = bytes(range(256)) * 2**13
            answer = driver.execute_query("RETURN $data AS data", data=data, database_=access.database)
            assert bytes(answer.records[0]["data"]) == data
    with pytest.raises((DriverError, OSError)), neo4j.GraphDatabase.driver(access.uri) as driver:
        driver.verify_connectivity()
