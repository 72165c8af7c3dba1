"""The embedded engine as its clients meet it, with real processes."""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import neo4j
import pytest
from neo4j.exceptions import Neo4jError

from topostrata import format_1
from topostrata.errors import EngineError, MissingExtraError, SettingsError, StoreUnavailableError, install_command
from topostrata.settings import Settings
from topostrata.store.embedded import EmbeddedEngine, status, stop
from topostrata.store.engine_files import EngineFiles, FileLock, host_name

from .engine_helpers import (
    Client,
    commit,
    marks,
    open_engine,
    run_python,
    running,
    session,
    state,
    wait_until,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_a_first_connect_starts_an_engine_that_answers(engine_directory: Path) -> None:
    """One call leads from an empty directory to an answered query."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        commit(end, 1)
        assert marks(end) == [1]
        assert engine.connect() == end, "a second call finds the same engine"
        assert "ArcadeDB" in end.version


def test_two_processes_share_one_engine(engine_directory: Path) -> None:
    """A second client finds the first one's engine and its data."""
    first, second = Client(engine_directory), Client(engine_directory)
    try:
        end = first.connect()
        commit(end, 7)
        assert second.connect() == end
        assert marks(second.connect()) == [7]
    finally:
        first.kill()
        second.kill()


@pytest.mark.slow
def test_six_clients_that_start_at_once_get_one_engine(engine_directory: Path) -> None:
    """Starting is done by one client while the others wait for it."""
    clients = [Client(engine_directory) for _ in range(6)]
    try:
        for client in clients:
            client.ask("connect")
        answers = [client.answer() for client in clients]
        assert all(answer == answers[0] for answer in answers), answers
        assert answers[0]["port"]
    finally:
        for client in clients:
            client.kill()


@pytest.mark.slow
def test_the_engine_stops_when_nobody_is_left_and_keeps_its_data(engine_directory: Path) -> None:
    """After the idle time the engine is gone, with its endpoint; the next client finds what was committed."""
    with open_engine(engine_directory, idle_seconds=0.3) as engine:
        end = engine.connect()
        commit(end, 3)
    wait_until(lambda: not running(engine_directory))
    assert state(engine_directory) is None
    with open_engine(engine_directory) as engine:
        again = engine.connect()
        assert marks(again) == [3]
        assert (again.password, again.port) == (end.password, end.port)


@pytest.mark.slow
def test_the_engine_stays_while_one_client_is_left(engine_directory: Path) -> None:
    """The idle time begins only when the last client lets go."""
    with open_engine(engine_directory, idle_seconds=0.2) as engine:
        end = engine.connect()
        for _ in range(5):
            other = Client(engine_directory)
            assert other.connect() == end
            other.kill()
        assert marks(end) == []


def test_everything_in_the_directory_is_closed_to_other_users(engine_directory: Path) -> None:
    """Directories have mode 0700 and files 0600, also those that Java writes."""
    with open_engine(engine_directory) as engine:
        commit(engine.connect(), 1)
        for path in [engine_directory, *engine_directory.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o077 == 0, f"{path}: {mode:o}"


def test_no_password_shows_in_process_lists_or_logs(engine_directory: Path) -> None:
    """Neither a command line, nor an environment, nor a log, nor the endpoint's text form holds a password."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        commit(end, 1)
        secrets = [end.password.encode(), end.reader_password.encode()]
        places = [path for kind in ("cmdline", "environ") for path in Path("/proc").glob(f"[0-9]*/{kind}")]
        places += [path for path in engine_directory.rglob("*") if "log" in path.name and path.is_file()]
        for place in places:
            try:
                content = place.read_bytes()
            except (OSError, ProcessLookupError):
                continue
            assert not any(secret in content for secret in secrets), place
        assert end.password not in repr(end)
        assert end.reader_password not in repr(end)


def test_the_engine_listens_on_loopback_only(engine_directory: Path) -> None:
    """Every listening socket of the engine is bound to 127.0.0.1, Bolt's among them."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        sockets = set()
        for link in Path(f"/proc/{end.engine_pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                sockets.add(str(link.readlink()))
        listening = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{end.engine_pid}/net/{table}").read_text("ascii").splitlines()[1:]:
                cells = line.split()
                if cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets:
                    listening.append(cells[1].split(":"))
        assert end.port in {int(port, 16) for _, port in listening}
        loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
        assert {address for address, _ in listening} <= loopback


@pytest.mark.parametrize("account", ["root", "reader"])
def test_a_wrong_password_is_refused(engine_directory: Path, account: str) -> None:
    """Both accounts need their password."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        with (
            neo4j.GraphDatabase.driver(f"bolt://{end.host}:{end.port}", auth=(account, "wrong-password")) as driver,
            pytest.raises(Neo4jError),
        ):
            driver.verify_connectivity()


def test_the_reader_reads_and_is_refused_everything_else(engine_directory: Path) -> None:
    """Whatever would change data, schema, accounts or reach out of the database fails and changes nothing."""
    forbidden = [
        "CREATE (:Mark {id: 2})",
        "CREATE (:Other)",
        "MERGE (:Mark {id: 2})",
        "MATCH (m:Mark) SET m.id = 2",
        "MATCH (m:Mark) REMOVE m.id",
        "MATCH (m:Mark) DELETE m",
        "MATCH (m:Mark) DETACH DELETE m",
        "MATCH (m:Mark) CREATE (m)-[:TO]->(m)",
        "FOREACH (i IN [1] | CREATE (:Mark {id: i}))",
        "CALL { CREATE (:Mark {id: 2}) RETURN 1 AS x } RETURN x",
        "CREATE INDEX FOR (m:Mark) ON (m.id)",
        "CREATE CONSTRAINT FOR (m:Mark) REQUIRE m.id IS UNIQUE",
        "CREATE USER other SET PASSWORD 'long-enough-1'",
        "ALTER USER root SET PASSWORD 'long-enough-1'",
        "DROP USER root",
        "SHOW USERS",
        "CREATE DATABASE other",
        "DROP DATABASE topostrata",
        "LOAD CSV FROM 'http://127.0.0.1:1/' AS line RETURN line",
        "LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
        "CALL merge.node(['Mark'], {id: 2}, {}, {})",
    ]
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        commit(end, 1)
        with session(end, reader=True) as reader:
            for query in forbidden:
                with pytest.raises(Neo4jError):
                    reader.run(query).consume()
            assert [row["id"] for row in reader.run("MATCH (m:Mark) RETURN m.id AS id")] == [1]
        with session(end) as writer:
            counted = writer.run("MATCH (n) RETURN count(n) AS nodes").single(strict=True)["nodes"]
        assert counted == 1


def test_loading_files_or_pages_is_refused_to_the_writer_too(engine_directory: Path) -> None:
    """LOAD CSV reaches neither the disk nor the network."""
    with open_engine(engine_directory) as engine, session(engine.connect()) as writer:
        for source in ("file:///etc/passwd", "http://127.0.0.1:1/"):
            with pytest.raises(Neo4jError):
                writer.run("LOAD CSV FROM $source AS line RETURN line", source=source).consume()


@pytest.mark.slow
def test_a_statement_that_runs_away_ends_and_a_long_transaction_does_not(engine_directory: Path) -> None:
    """The time limit is one of statements: a transaction of many short ones may take longer than it."""
    with open_engine(engine_directory, command_timeout_ms=1500) as engine:
        end = engine.connect()
        with session(end) as writer:
            writer.run("UNWIND range(1, 300) AS i CREATE (:Mark {id: i})").consume()
        with session(end, reader=True) as reader, pytest.raises(Neo4jError, match=r"TimedOut"):
            reader.run(
                "MATCH (a:Mark), (b:Mark), (c:Mark), (d:Mark) WHERE a.id < 0 OR a.id + b.id + c.id + d.id < 0 RETURN count(*)"
            ).consume()
        with session(end) as writer:
            started = stopped = 0
            with writer.begin_transaction() as tx:
                while stopped - started < 3000:
                    row = tx.run(
                        "UNWIND range(1, 2000) AS i CREATE (:Long) RETURN timestamp() AS now, count(*) AS made"
                    ).single(strict=True)
                    started, stopped = started or row["now"], row["now"]
                tx.commit()
            assert writer.run("MATCH (n:Long) RETURN count(n) AS made").single(strict=True)["made"] >= 2000


def test_two_directories_have_two_engines(engine_directory: Path, tmp_path: Path) -> None:
    """Archives do not meet: other ports, other passwords, other data."""
    other_directory = tmp_path / "other archive \N{LATIN SMALL LETTER E WITH ACUTE}"
    try:
        with open_engine(engine_directory) as engine, open_engine(other_directory) as other:
            end, other_end = engine.connect(), other.connect()
            commit(end, 1)
            commit(other_end, 2)
            assert (marks(end), marks(other_end)) == ([1], [2])
            assert end.port != other_end.port
            assert end.password != other_end.password
            assert (other_directory / "engine" / "databases" / format_1.EMBEDDED_DATABASE).is_dir()
    finally:
        assert stop(other_directory, force=True)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["", "{", '{"state": "serving"}', "[]", '{"host": 3}', "\0" * 100])
def test_a_damaged_endpoint_file_is_mended(engine_directory: Path, damage: str) -> None:
    """The running supervisor writes the file anew; what stands there without one is not believed."""
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        (engine_directory / "endpoint.json").write_text(damage, "utf-8")
        assert engine.connect() == end
    assert stop(engine_directory)
    (engine_directory / "endpoint.json").write_text(damage, "utf-8")
    with open_engine(engine_directory) as engine:
        assert engine.connect().engine_pid != end.engine_pid


@pytest.mark.slow
def test_an_endpoint_file_of_a_dead_supervisor_is_not_believed(engine_directory: Path) -> None:
    """A file put back after the engine stopped leads nobody to its port."""
    with open_engine(engine_directory) as engine:
        old = engine.connect()
        endpoint = (engine_directory / "endpoint.json").read_text("utf-8")
    assert stop(engine_directory)
    (engine_directory / "endpoint.json").write_text(endpoint, "utf-8")
    with open_engine(engine_directory) as engine:
        assert engine.connect().engine_pid != old.engine_pid


def test_a_directory_in_use_on_another_machine_is_refused(engine_directory: Path) -> None:
    """The error names the machine, Neo4j as the way out, and the file to remove if that machine is gone."""
    files = EngineFiles(engine_directory)
    files.create()
    files.endpoint.write_text(json.dumps({"host": "elsewhere", "boot_id": "another", "state": "serving"}), "utf-8")
    with pytest.raises(EngineError, match=r"elsewhere.*Neo4j.*endpoint\.json"):
        open_engine(engine_directory).connect()


@pytest.mark.slow
def test_a_file_from_before_a_restart_of_this_machine_is_stale(engine_directory: Path) -> None:
    """Same host name, another boot, and no lock held: that engine died with the machine."""
    files = EngineFiles(engine_directory)
    files.create()
    record = {"host": host_name(), "boot_id": "another", "state": "serving", "port": 1}
    files.endpoint.write_text(json.dumps(record), "utf-8")
    with open_engine(engine_directory) as engine:
        assert marks(engine.connect()) == []


def test_another_machine_of_the_same_name_is_refused(engine_directory: Path) -> None:
    """Same host name, another boot id, but the lock is held: locks reach here, the engine does not."""
    files = EngineFiles(engine_directory)
    files.create()
    files.endpoint.write_text(json.dumps({"host": host_name(), "boot_id": "another"}), "utf-8")
    lock = FileLock(engine_directory / "supervisor.lock")
    assert lock.try_exclusive()
    try:
        with pytest.raises(EngineError, match="in use on"):
            open_engine(engine_directory).connect()
    finally:
        lock.release()


@pytest.mark.slow
def test_stopping_is_refused_while_clients_hold_the_engine(engine_directory: Path) -> None:
    """``stop`` says so and leaves it running; forced, it stops it, and a client that goes on finds a new one."""
    assert stop(engine_directory) is False
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        commit(end, 5)
        with pytest.raises(EngineError, match="clients that hold it"):
            stop(engine_directory)
        assert marks(end) == [5]
        assert stop(engine_directory, force=True) is True
        assert not running(engine_directory)
        assert marks(engine.connect()) == [5]
    assert stop(engine_directory) is True
    assert stop(engine_directory) is False


def test_status_tells_what_runs_and_starts_nothing(engine_directory: Path) -> None:
    """Before the first use None; then pids, port, memory and whether clients hold it; never a password."""
    assert status(engine_directory) is None
    with open_engine(engine_directory) as engine:
        end = engine.connect()
        report = status(engine_directory)
        assert report is not None
        assert (report["running"], report["clients"], report["port"]) == (True, True, end.port)
        assert (report["engine_pid"], report["supervisor_pid"]) == (end.engine_pid, end.supervisor_pid)
        assert report["resident_bytes"] > 50_000_000
        assert end.password not in str(report)
        assert end.reader_password not in str(report)
    assert stop(engine_directory)
    report = status(engine_directory)
    assert report is not None
    assert (report["running"], report["clients"], report["state"]) == (False, False, "stopped")
    assert not running(engine_directory)


def test_a_directory_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Neither a file in its place nor a place that cannot be made ends in an OSError."""
    (tmp_path / "file").write_text("", "ascii")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/topostrata")):
        with pytest.raises(EngineError) as caught:
            open_engine(place).connect()
        assert str(place) in str(caught.value)
        assert caught.value.hint


@pytest.mark.slow
def test_a_java_that_fails_shows_its_last_words(engine_directory: Path) -> None:
    """What Java said before it died stands in the error; the directory is free again."""
    engine = open_engine(engine_directory)
    engine._memory = "1p"
    with pytest.raises(EngineError, match=r"(?s)ended before it answered.*1p"):
        engine.connect()
    engine.close()
    assert not running(engine_directory)
    with open_engine(engine_directory) as mended:
        assert marks(mended.connect()) == []


@pytest.mark.parametrize("memory", ["", "1", "10m", "0g", "1t", "1g -XX:X"])
def test_a_memory_size_that_java_would_not_take_is_refused(tmp_path: Path, memory: str) -> None:
    """The setting is checked before anything starts."""
    with pytest.raises(SettingsError, match="engine memory"):
        EmbeddedEngine(tmp_path, memory=memory)


def test_java_takes_further_options_or_says_which_setting_has_a_wrong_one(engine_directory: Path) -> None:
    """Options of the setting reach the engine; one that Java does not know is an error that names the setting."""
    with (
        open_engine(engine_directory, java_options="-XX:NoSuchOption") as engine,
        pytest.raises(EngineError, match="its Java refuses an option") as raised,
    ):
        engine.connect()
    assert "TOPOSTRATA_ENGINE_JAVA_OPTIONS" in str(raised.value.hint)
    assert "NoSuchOption" in str(raised.value)
    with open_engine(engine_directory, java_options="-Dtopostrata.test=1 -XX:TieredStopAtLevel=1") as engine:
        pid = engine.connect().engine_pid
        assert b"\0-Dtopostrata.test=1\0-XX:TieredStopAtLevel=1\0" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("value", ["Xmx1g", "-Xss1m 4"])
def test_options_of_java_begin_with_a_dash(value: str) -> None:
    """Anything else is refused before an engine is started with it."""
    with pytest.raises(ValueError, match="each with - in front"):
        Settings(engine_java_options=value)


def test_a_missing_wheel_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    """Where the wheel exists for the platform, the error is about the extra."""
    program = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("arcadedb_embedded"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
from pathlib import Path
from topostrata.store.embedded import EmbeddedEngine
try:
    EmbeddedEngine(Path(sys.argv[1])).connect()
except Exception as error:
    print(type(error).__name__, error)
"""
    out, err = run_python(program, str(tmp_path / "archive")).communicate(timeout=60)
    assert out.startswith(MissingExtraError.__name__), err
    assert install_command("server") in out
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize(
    ("system", "machine", "glibc"),
    [("linux", "x86_64", "glibc 2.31"), ("linux", "x86_64", ""), ("darwin", "x86_64", ""), ("win32", "AMD64", "")],
)
def test_a_platform_without_an_engine_is_told_to_use_neo4j(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, glibc: str
) -> None:
    """Old glibc, musl, Macs with Intel processors and Windows need a Neo4j URI, and the error says so."""
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("os.confstr", lambda name: glibc)
    with pytest.raises(EngineError, match=r"does not exist for this platform.*Neo4j"):
        EmbeddedEngine(tmp_path / "archive").connect()


def test_a_client_that_waits_in_vain_says_what_it_waited_for(engine_directory: Path) -> None:
    """Somebody else holds the start lock for longer than the client's patience."""
    files = EngineFiles(engine_directory)
    files.create()
    lock = files.lock("start")
    assert lock.try_exclusive()
    try:
        with pytest.raises(StoreUnavailableError, match="another client is still starting"):
            open_engine(engine_directory, start_timeout_s=0.1).connect()
    finally:
        lock.release()


def test_children_of_a_client_do_not_inherit_its_hold(engine_directory: Path) -> None:
    """A program that a client starts, and that outlives it, does not keep the engine running."""
    with open_engine(engine_directory) as engine:
        engine.connect()
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        assert not EngineFiles(engine_directory).lock("clients").taken_elsewhere()
    finally:
        child.communicate(timeout=30)


def test_the_supervisor_is_no_child_of_its_client(engine_directory: Path) -> None:
    """Nothing is left for the client's process to wait for: no zombie, no surprise for os.wait()."""
    program = """
import os, sys
from pathlib import Path
from topostrata.store.embedded import EmbeddedEngine
engine = EmbeddedEngine(Path(sys.argv[1]), idle_seconds=5)
engine.connect()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no children")
import signal
print(signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD), len(sys._current_frames()))
"""
    out, err = run_python(program, str(engine_directory)).communicate(timeout=60)
    assert out.splitlines() == ["no children", "0 0 1"], err


def test_modules_beside_the_users_script_do_not_reach_the_supervisor(engine_directory: Path, tmp_path: Path) -> None:
    """A script's own argparse.py hides the standard library's from the script, and from nobody else."""
    (tmp_path / "argparse.py").write_text("raise RuntimeError('the wrong argparse')\n", "utf-8")
    program = """
import sys
from pathlib import Path
from topostrata.store.embedded import EmbeddedEngine
sys.path.insert(0, sys.argv[2])
print(EmbeddedEngine(Path(sys.argv[1]), idle_seconds=5).connect().version)
"""
    out, err = run_python(program, str(engine_directory), str(tmp_path)).communicate(timeout=60)
    assert "ArcadeDB" in out, err
