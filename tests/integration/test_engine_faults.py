"""``kill -9`` at every moment: whatever dies, the next ``connect()`` works and what was committed is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import neo4j
import pytest

from topostrata.errors import EngineError
from topostrata.store import supervisor
from topostrata.store.embedded import status
from topostrata.store.engine_files import EngineFiles, end_engine

from .engine_helpers import (
    Client,
    commit,
    ended,
    kill,
    marks,
    open_engine,
    running,
    session,
    state,
    supervisor_pid,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

VICTIMS = ("client", "supervisor", "engine")


def _pid_of(victim: str, client: Client, directory: Path) -> int:
    match victim:
        case "client":
            return client.process.pid
        case "supervisor":
            pid = supervisor_pid(directory)
        case _:
            pid = EngineFiles(directory).read_engine_pid()
    assert pid is not None
    return pid


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "existing"])
def test_a_death_during_the_start_does_not_hinder_the_next_client(
    engine_directory: Path, victim: str, fresh: bool
) -> None:
    """Client, supervisor or engine dies before the engine answers; a client that comes then gets an engine."""
    committed = [] if fresh else [1]
    if not fresh:
        with open_engine(engine_directory, idle_seconds=0.1) as engine:
            commit(engine.connect(), 1)
        wait_until(lambda: not running(engine_directory))
    client = Client(engine_directory)
    client.ask("connect")
    files = EngineFiles(engine_directory)
    wait_until(lambda: state(engine_directory) == "starting" and files.read_engine_pid())
    kill(_pid_of(victim, client, engine_directory))
    with open_engine(engine_directory) as engine:
        assert marks(engine.connect()) == committed
    client.kill()


@pytest.mark.parametrize("victim", ["supervisor", "engine"])
def test_a_client_that_asks_again_gets_an_engine_after_a_failed_start(engine_directory: Path, victim: str) -> None:
    """The client whose start failed hears why, and its next call works."""
    client = Client(engine_directory)
    client.ask("connect")
    files = EngineFiles(engine_directory)
    wait_until(lambda: state(engine_directory) == "starting" and files.read_engine_pid())
    kill(_pid_of(victim, client, engine_directory))
    answer = client.answer()
    assert answer["error"] == "EngineError", answer
    assert marks(client.connect()) == []
    client.kill()


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_death_while_serving_costs_nothing_that_was_committed(engine_directory: Path, victim: str) -> None:
    """Clients go on after ``connect()``: the same port, the same accounts, all data."""
    client = Client(engine_directory)
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        assert client.connect() == end
        commit(end, 1)
        pid = _pid_of(victim, client, engine_directory)
        kill(pid)
        wait_until(lambda: ended(pid))
        again = engine.connect()
        assert marks(again) == [1]
        commit(again, 2)
        assert (again.port, again.user, again.password) == (end.port, end.user, end.password)
        if victim != "client":
            assert client.connect() == again
        assert (again.engine_pid == end.engine_pid) == (victim == "client")
        assert (again.supervisor_pid == end.supervisor_pid) == (victim != "supervisor")
        assert marks(again) == [1, 2]
    client.kill()


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_death_while_stopping_does_not_hinder_the_next_client(engine_directory: Path, victim: str) -> None:
    """The engine is on its way down when one of them dies; who comes then gets a new one, with the data."""
    with open_engine(engine_directory, idle_seconds=0.1) as engine:
        commit(engine.connect(), 1)
        files = EngineFiles(engine_directory)
        # A stopped engine takes no notice of being asked to end: so the test is sure to find it ending.
        engine_pid = files.read_engine_pid()
        assert engine_pid is not None
        os.kill(engine_pid, signal.SIGSTOP)
    wait_until(lambda: state(engine_directory) == "stopping")
    client = Client(engine_directory)
    client.ask("connect")
    kill(_pid_of(victim, client, engine_directory))
    if victim == "client":
        os.kill(engine_pid, signal.SIGCONT)
    # The engine of a dead supervisor is left stopped: the next one has to end it the hard way.
    with open_engine(engine_directory) as engine:
        again = engine.connect()
        assert marks(again) == [1]
        assert again.engine_pid != engine_pid
    client.kill()


def test_a_driver_connects_again_by_itself_after_the_engine_died(engine_directory: Path) -> None:
    """The supervisor replaces a dead engine at once, under the same address; no client has to do anything."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        commit(end, 1)
        with neo4j.GraphDatabase.driver(f"bolt://{end.host}:{end.port}", auth=(end.user, end.password)) as driver:
            assert (
                driver.execute_query("MATCH (m:Mark) RETURN count(m) AS n", database_=end.database).records[0]["n"] == 1
            )
            kill(end.engine_pid)
            wait_until(lambda: state(engine_directory) == "starting")
            wait_until(lambda: state(engine_directory) == "serving")
            assert (
                driver.execute_query("MATCH (m:Mark) RETURN count(m) AS n", database_=end.database).records[0]["n"] == 1
            )


def test_an_engine_killed_in_the_middle_of_writing_keeps_every_acknowledged_commit(engine_directory: Path) -> None:
    """Twenty commits, each followed at once by the next; the kill comes in between."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        acknowledged: list[int] = []
        with session(end) as writer:
            try:
                for mark in range(1000):
                    if mark == 20:
                        kill(end.engine_pid)
                    writer.run("CREATE (:Mark {id: $mark})", mark=mark).consume()
                    acknowledged.append(mark)
            except neo4j.exceptions.DriverError:
                pass
        assert len(acknowledged) >= 20
        stored = marks(engine.connect())
        assert stored[: len(acknowledged)] == acknowledged
        assert len(stored) <= len(acknowledged) + 1


def test_the_engine_of_a_dead_supervisor_does_not_stay_behind(engine_directory: Path) -> None:
    """The kernel ends it, though no client ever comes again."""
    client = Client(engine_directory)
    end = client.connect()
    client.kill()
    kill(end.supervisor_pid)
    wait_until(lambda: not running(engine_directory))
    assert ended(end.engine_pid)


def test_an_engine_that_keeps_dying_is_given_up_and_tried_again_by_the_next_client(engine_directory: Path) -> None:
    """After several quick deaths the supervisor ends and says why in its log; a new client starts a new one."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        killed: set[int] = set()
        while len(killed) < supervisor.DEATHS:
            wait_until(lambda: EngineFiles(engine_directory).read_engine_pid() not in {None, *killed})
            pid = EngineFiles(engine_directory).read_engine_pid()
            assert pid is not None
            kill(pid)
            killed.add(pid)
        wait_until(lambda: ended(end.supervisor_pid))
        assert "giving up" in (engine_directory / "supervisor.log").read_text("utf-8")
        assert engine.connect().supervisor_pid != end.supervisor_pid


def test_an_innocent_process_with_the_pid_on_file_is_not_killed(engine_directory: Path) -> None:
    """The pid of a dead engine may belong to somebody else by now: it is believed only of who has the lock open."""
    files = EngineFiles(engine_directory)
    files.create()
    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = files.lock("engine")
    assert holder.try_exclusive()
    try:
        files.engine_pid.write_text(f"{innocent.pid}\n", "ascii")
        with pytest.raises(EngineError, match="not visible from here"):
            end_engine(files, files.lock("engine"))
        assert innocent.poll() is None
    finally:
        holder.release()
        innocent.communicate(timeout=30)


def test_a_removed_directory_takes_its_engine_with_it(engine_directory: Path) -> None:
    """Nothing goes on writing into a directory that is gone; made anew, it has a new engine."""
    client = Client(engine_directory)
    end = client.connect()
    shutil.rmtree(engine_directory, ignore_errors=True)
    shutil.rmtree(engine_directory, ignore_errors=True)
    wait_until(lambda: ended(end.supervisor_pid) and ended(end.engine_pid))
    client.kill()
    with open_engine(engine_directory) as engine:
        assert marks(engine.connect()) == []


def test_a_sleeping_engine_is_reported_and_not_waited_for_without_end(engine_directory: Path) -> None:
    """An engine that accepts connections and answers none is not mistaken for a working one."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        os.kill(end.engine_pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(ConnectionError, match="did not answer within"):
                open_engine(engine_directory, start_timeout_s=1).connect()
            assert time.monotonic() > started
            report = status(engine_directory)
            assert report is not None
            assert report["running"]
        finally:
            os.kill(end.engine_pid, signal.SIGCONT)
        assert engine.connect() == end
