"""Others read an embedded archive: any Bolt client, by `topostrata engine connect`, and who has a copy of it.

Of a copy that nobody may write: a snapshot of the file system, a mount, a colleague's directory.
"""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import neo4j
import numpy as np
import pandas as pd
import py2neo
import pytest
from neo4j.exceptions import AuthError, DriverError, Neo4jError
from py2neo.errors import Neo4jError as Py2neoError

from tests import neo4j_server
from tests.stores import contents
from topostrata.archive import Archive, open_archive
from topostrata.settings import Settings
from topostrata.store.embedded import status, stop
from topostrata.topology import Topology

_READER = """
import json, sys
import topostrata as ts

store, folder = sys.argv[1:]
told = {}
with ts.open(store) as archive:
    told["runs"] = [run.id for run in archive.runs()]
    told["rows"] = archive.cypher("MATCH (:Neuron)-[c:CONNECTS]->() RETURN count(c)").rows
    told["nnstd"] = [archive.nnstd("w0@0", "w0@5").nnstd for _ in range(2)]
    told["exported"] = archive.export(f"{folder}/runs.zip").snapshots
    told["backed_up"] = archive.backup(f"{folder}/all.zip").snapshots
    told["sound"] = list(archive.verify()) == []
    try:
        archive.push("w0", 7, archive.topology("w0@0"))
    except ts.errors.EngineError as error:
        told["refused"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive of one run with two snapshots."""
    directory = tmp_path_factory.mktemp("connect") / "archive"
    try:
        with open_archive(directory, settings=Settings(engine_idle_seconds=20)) as opened:
            opened.push("w0", 0, Topology.from_masks([np.ones((3, 3)), np.ones((3, 2))]))
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


def asked(lines: list[str], folder: Path) -> list[str]:
    """What a shell answers to these lines, where cypher-shell is installed."""
    try:
        command = shlex.join(neo4j_server.cypher_shell())
    except neo4j_server.UnavailableError as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))
    (folder / "cypher-shell").write_text(f'#!/bin/sh\nexec {command} "$@"\n', "ascii")
    (folder / "cypher-shell").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", "\n".join(lines)], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def test_what_is_shown_works_and_only_reads(archive: Archive, tmp_path: Path) -> None:
    """The lines for the driver, py2neo, cypher-shell and a notebook answer; nobody writes; at the end nobody is let in or stays."""
    before = contents(archive)
    with connecting(archive) as shown:
        uri, _, user, _, password, _, database = shown[""]
        rows, names = last(shown["neo4j driver"])
        driver: neo4j.Driver = names["driver"]
        assert [row.data() for row in rows] == [{"run": "w0", "last_step": 5, "status": "open"}]
        table, names = last(shown["notebook, with pandas"])
        names["driver"].close()
        pd.testing.assert_frame_equal(table, pd.DataFrame({"run": ["w0"], "last_step": [5], "status": ["open"]}))
        table, names = last(shown["py2neo"])
        graph = names["graph"]
        assert [list(row) for row in table] == [["w0", 5, "open"]]
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
        assert asked(shown["cypher-shell"], tmp_path) == ["run, last_step, status", '"w0", 5, "open"']
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


def test_an_open_archive_stays_in_its_process(archive: Archive) -> None:
    """It is neither pickled nor copied, and a process forked from its own is told to open it anew; here all goes on."""
    for send in (pickle.dumps, deepcopy):
        with pytest.raises(TypeError, match="send its location, and open it there"):
            send(archive)
    listen, speak = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            archive.runs()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test is to see it
            os.write(speak, f"{type(error).__name__}: {error}".encode())
        finally:
            archive.close()
            os._exit(0)
    os.close(speak)
    os.waitpid(child, 0)
    with open(listen, encoding="utf-8") as told:  # noqa: PTH123 - a pipe
        text = told.read()
    assert text.startswith("StoreUnavailableError: ")
    assert "forked from it (open it again here" in text
    assert [run.id for run in archive.runs()] == ["w0"]


@pytest.mark.skipif(sys.platform != "linux", reason="networks of Linux")
@pytest.mark.parametrize(
    ("prepare", "message"),
    [("true", "expected a loopback network"), ("ip link set lo up", "found it in another one")],
)
def test_an_engine_in_another_network_is_told_at_once(archive: Archive, prepare: str, message: str) -> None:
    """Not after a minute of waiting for an answer, with and without a loopback there."""
    command = [sys.executable, "-m", "topostrata.service.cli.main", "ls", "--store", archive.location]
    script = f"{prepare} && exec {shlex.join(command)}"
    if subprocess.run(["unshare", "--net", "sh", "-c", prepare], check=False, capture_output=True).returncode:
        pytest.skip("expected to be allowed a network of its own, and to raise its loopback")
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "did not answer" not in done.stderr


def sealed(directory: Path, *command: str) -> list[str]:
    """A command line that runs a command where nobody can write to the directory, root neither."""
    if os.geteuid() != 0:
        for path in (directory, *directory.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        return list(command)
    place = shlex.quote(str(directory))
    mounted = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", mounted], check=False, capture_output=True)
    if shutil.which("unshare") is None or tried.returncode != 0:
        pytest.skip("expected to be allowed a mount namespace")
    return ["unshare", "--mount", "sh", "-c", f"{mounted} && exec {shlex.join(command)}"]


def test_a_copy_that_cannot_be_written_is_read(archive: Archive, tmp_path: Path) -> None:
    """That of an engine that was killed, too: listed, asked, compared, exported; a push is refused; nothing stays."""
    lifetimes = sum(layer.lifetimes for layer in archive.layers("w0"))
    nnstd = archive.nnstd("w0@0", "w0@5", keep=False).nnstd
    running = status(Path(archive.location))
    assert running is not None
    for name in ("supervisor_pid", "engine_pid"):
        os.kill(running[name], signal.SIGKILL)
    directory, temporary = tmp_path / "copy", tmp_path / "temporary"
    shutil.copytree(archive.location, directory)
    temporary.mkdir()
    assert any(directory.rglob("*.wal"))  # what it did last stands in its log only
    done = subprocess.run(
        sealed(directory, sys.executable, "-c", _READER, str(directory), str(tmp_path)),
        env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "expected an archive that can be written, found one that can only be read" in told.pop("refused")
    assert told == {
        "runs": ["w0"], "rows": [[lifetimes]], "nnstd": [nnstd] * 2, "exported": 2, "backed_up": 2, "sound": True,
    }  # fmt: skip
    assert list(temporary.glob("topostrata-*")) == []
