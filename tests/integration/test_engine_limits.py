"""What the embedded engine says where the machine gives it too little: real limits, real processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import neo4j
import numpy as np
import pytest
from neo4j.exceptions import DriverError, Neo4jError

from tests.disks import mounted, resize
from topostrata import queries
from topostrata.archive import Archive, open_archive
from topostrata.errors import EngineError, InvalidQueryError, LimitError, StoreUnavailableError
from topostrata.settings import Settings
from topostrata.store.embedded import status, stop
from topostrata.store.engine_files import EngineFiles
from topostrata.store.supervisor import LOOK_S
from topostrata.topology import Topology

from .engine_helpers import SOURCES, kill

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")

MB = 2**20
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")  # of version 1 and of version 2


def in_python(program: str, *arguments: object, group: Path | None = None) -> str:
    """What a program prints, run in a control group."""
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n" if group else ""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(SOURCES)!r})\n{enter}{program}",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group below another one that may have 1,000 MB of memory."""
    for root in MEMORY_GROUPS:
        limit = root / f"topostrata-{os.getpid()}"
        inner = limit / "inner"
        with contextlib.suppress(OSError):
            inner.mkdir(parents=True)
        file = next((limit / n for n in ("memory.limit_in_bytes", "memory.max") if (limit / n).exists()), None)
        try:
            if file is not None:
                file.write_text(str(1000 * MB))
                yield inner
                return
        except PermissionError:
            continue
        finally:
            for path in (inner, limit):
                with contextlib.suppress(OSError):
                    path.rmdir()
    pytest.skip("no control group for memory can be made here")


def test_the_heap_is_a_quarter_of_what_the_control_group_leaves(group: Path) -> None:
    """The limit of a group above counts too; a heap that was chosen by hand stays."""
    program = """
from pathlib import Path
from topostrata.memory import of_machine
from topostrata.store.embedded import EmbeddedEngine
print(of_machine(), EmbeddedEngine(Path("x"))._memory, EmbeddedEngine(Path("x"), memory="700m")._memory)
"""
    assert in_python(program, group=group).split() == [str(1000 * MB), "250m", "700m"]


def test_too_little_memory_is_said_when_an_engine_starts(group: Path, engine_directory: Path) -> None:
    """Of a group that has less than an engine and a client take; where there is enough, nothing is said."""
    program = """
import logging
from topostrata.archive import open_archive
from topostrata.settings import Settings
logging.basicConfig(stream=sys.stdout, format="%(message)s")
with open_archive(sys.argv[1], settings=Settings(engine_idle_seconds=0)) as archive:
    print(archive.counts().runs)
"""
    assert in_python(program, engine_directory, group=group) == "0\n"
    file = next(n for n in ("memory.limit_in_bytes", "memory.max") if (group.parent / n).exists())
    stop(engine_directory, force=True)
    (group.parent / file).write_text(str(420 * MB))
    warning, count = in_python(program, engine_directory, group=group).splitlines()
    stop(engine_directory, force=True)
    assert "has 420 MB of memory, an engine with a heap of 128m and one client take 498 MB" in warning
    assert count == "0"


@pytest.mark.slow
def test_an_engine_that_runs_out_of_memory_says_so(engine_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A heap too small, and a kill as the system does it: a running client hears which setting mends it."""
    with open_archive(engine_directory, settings=Settings(engine_memory="128m", engine_idle_seconds=20)) as archive:
        connection = archive._store.connection
        with (
            neo4j.GraphDatabase.driver(connection.uri, auth=(connection.user, connection.password)) as driver,
            driver.session(database=connection.database) as session,
        ):
            with contextlib.suppress(DriverError, Neo4jError):  # one string of 1 GB
                session.run("RETURN reduce(s = '0123456789abcdef', j IN range(1, 26) | s + s)").consume()
            archive.create_run("w")
            too_small = "its heap of 128m was too small: raise TOPOSTRATA_ENGINE_MEMORY, now 128m"
            assert f"the engine died and was started again: {too_small}" in caplog.messages

            class Killing(threading.Event):
                """Ends the engine once it works on the query."""

                def is_set(self) -> bool:
                    asked = queries.load("ending/running_statements").text
                    pid = EngineFiles(engine_directory).read_engine_pid()
                    if pid is not None and list(session.run(asked, token="UNWIND range(1, 99999) AS a")):
                        kill(pid)
                    return False

            endless = "UNWIND range(1, 99999) AS a UNWIND range(1, 99999) AS b RETURN count(*)"
            with pytest.raises(LimitError, match=r"which died: it was killed \(signal 9\).*now 128m \(at least 128m\)"):
                archive.cypher(endless, cancel=Killing())
        assert "signal 9" in (status(engine_directory) or {})["last_death"]
        assert [run.name for run in archive.runs()] == ["w"]


AS_ANOTHER = 54_321  # a user who has no processes, and whom limits bind, as they do not root


def as_another(*command: object) -> list[str]:
    """The command as that user, who may read what root may, the interpreter's home among it, and write nothing of it."""
    capability = "+dac_read_search"
    options = ("--clear-groups", f"--inh-caps={capability}", f"--ambient-caps={capability}")
    words = ["setpriv", f"--reuid={AS_ANOTHER}", f"--regid={AS_ANOTHER}", *options, *map(str, command)]
    if os.geteuid() or subprocess.run([*words[: -len(command)], "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may become another user here")
    return words


@pytest.fixture
def of_another() -> Iterator[Path]:
    """A directory of that user's, in one that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        directory = Path(folder) / "archive"
        directory.mkdir()
        as_another("true")
        os.chown(directory, AS_ANOTHER, AS_ANOTHER)
        yield directory
        stop(directory, force=True)


def refused_push(directory: Path, limit: str, *, as_: Callable[..., list[str]]) -> dict[str, str]:
    """What the command line says under a limit."""
    file = directory.parent / "w.npz"
    np.savez(file, hidden=np.eye(4, dtype=bool))
    arguments = ("push", file, "--run", "w", "--bias", "none", "--json")
    done = subprocess.run(
        as_("prlimit", limit, sys.executable, "-m", "topostrata.service.cli.main", *arguments),
        env=os.environ | {"PYTHONPATH": str(SOURCES), "TOPOSTRATA_STORE": str(directory), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done
    return dict(json.loads(done.stderr.splitlines()[-1])["error"])


def test_a_limit_of_files_is_told_as_what_it_is(tmp_path: Path) -> None:
    """An engine needs more files than this (``ulimit -n``): with fewer it fails in words of classes and statements."""
    directory = tmp_path / "archive"
    error = refused_push(directory, "--nofile=168", as_=lambda *words: [str(word) for word in words])
    assert error["message"] == f"{directory}: expected an engine that may open at least 256 files, found a limit of 168"
    assert error["hint"] == "raise the limit of open files (ulimit -Hn), now 168"


@pytest.mark.parametrize("processes", [3, 6])
def test_a_limit_of_threads_is_told_as_what_it_is(of_another: Path, processes: int) -> None:
    """Neither the supervisor nor Java may start what it needs (``ulimit -u``, which does not bind root)."""
    error = refused_push(of_another, f"--nproc={processes}", as_=as_another)
    assert error["message"].startswith(f"{of_another}: ")
    assert "ulimit -u" in error["hint"]


@pytest.mark.slow
def test_root_leaves_nothing_that_the_owner_cannot_write(of_another: Path) -> None:
    """All that root's engine made is the owner's, who goes on; where it is not, what is at fault is named.

    Then the owner's engine may start no more threads: who asks next finds it started again, and hears why.
    """
    directory = of_another
    settings = Settings(engine_memory="256m", engine_idle_seconds=20)
    program = """
import logging, subprocess, sys
from topostrata.archive import open_archive
from topostrata.errors import EngineError
from topostrata.settings import Settings
from topostrata.store.embedded import status, stop
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("topostrata").setLevel(logging.WARNING)
try:
    with open_archive(sys.argv[1], settings=Settings(engine_memory="256m", engine_idle_seconds=20)) as archive:
        archive.create_run("of-owner")
        pid = str(status(sys.argv[1])["engine_pid"])
        subprocess.run(["prlimit", "--pid", pid, "--nproc=1"], check=True)
        print([run.name for run in archive.runs()], archive.cypher("RETURN 1").rows)
    stop(sys.argv[1], force=True)
except EngineError as error:
    print(error)
"""
    owner = as_another(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SOURCES)!r})\n{program}", directory)

    def of_owner() -> str:
        done = subprocess.run(owner, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done
        return done.stdout

    outside = directory.parent / "outside"
    outside.write_text("of root")
    (directory / "link.lock").symlink_to(outside)
    (directory / "other.log").hardlink_to(outside)
    (directory / "lost+found").mkdir(mode=0o700)  # as at the root of a volume
    with open_archive(directory, settings=settings) as archive:
        archive.create_run("of-root")
    stop(directory, force=True)
    assert {path.name for path in of_root(directory)} == {"link.lock", "other.log", "lost+found"}
    assert not outside.stat().st_uid
    for name in ("link.lock", "other.log"):
        (directory / name).unlink()
    log = directory / "engine.log"
    os.chown(log, 0, 0)
    assert f"{log}: expected files that user {AS_ANOTHER} may write" in of_owner()
    os.chown(log, AS_ANOTHER, AS_ANOTHER)
    told = of_owner()
    assert "the engine died and was started again: it may start no more threads" in told
    assert "['of-owner', 'of-root'] [[1]]" in told


def test_the_words_of_a_query_end_no_engine(tmp_path: Path) -> None:
    """The engine's log repeats them, also those that a dying thread would say; the engine is asked before it is ended."""
    with open_archive(tmp_path / "archive") as archive:
        for words in ('Exception in thread "main"', 'Exception in thread "ArcadeDB_0 BOLT listening"'):
            with pytest.raises(InvalidQueryError):
                archive.cypher(f"RETURN duration('\\n{words}\\n')")
        assert words in EngineFiles(tmp_path / "archive").engine_log.read_text("utf-8")
        looks = time.monotonic() + 3 * LOOK_S  # of the supervisor
        while time.monotonic() < looks:
            assert archive.runs() == []
        record = EngineFiles(tmp_path / "archive").read_endpoint()
        assert record is not None
        assert record["died"] == 0
    stop(tmp_path / "archive", force=True)


def of_root(directory: Path) -> list[Path]:
    """What lies there that is root's."""
    return [path for path in directory.rglob("*") if not path.lstat().st_uid]


@pytest.mark.parametrize("megabytes", [1000, 2000, 3000])
def test_a_limit_of_addresses_is_told_as_what_it_is(tmp_path: Path, megabytes: int) -> None:
    """Java needs more than its heap (``ulimit -v``), and each size fails in other words of its own."""
    program = """
import resource
from pathlib import Path
from topostrata.errors import EngineError
from topostrata.store.embedded import EmbeddedEngine
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]) * 2**20,) * 2)
try:
    EmbeddedEngine(Path(sys.argv[1]), memory="1g").connect()
except EngineError as error:
    print(error.hint)
"""
    assert "ulimit -v" in in_python(program, tmp_path / "archive", megabytes)


def test_a_full_disk_is_told_as_what_it_is(tmp_path: Path) -> None:
    """Whoever pushes is told, and so is who starts the engine there; with room again all goes on, and nothing is lost."""
    disk = tmp_path / "disk"
    with mounted(disk, f"size={24 * MB}"):
        directory = disk / "archive"
        try:
            with open_archive(directory) as archive:
                pushed = until_it_fails(archive)
                assert pushed
                with pytest.raises(EngineError, match="the disk is full") as full:
                    archive.push("w0", pushed, network(pushed), projection="none")
                assert full.value.hint == "free some space and try again: nothing that was acknowledged is lost"
                with pytest.raises(StoreUnavailableError, match="database refused"):
                    archive._store.read_with(lambda tx: tx._inner.run("RETURN nonsense"))  # a fault of its own
                resize(disk, 200 * MB)
                archive.push("w0", pushed, network(pushed), projection="none")
            stop(directory, force=True)
            resize(disk, shutil.disk_usage(disk).used)
            with pytest.raises(EngineError, match=f"^{directory}: No space left on device") as full:
                open_archive(directory)
            assert str(full.value.hint).startswith("the disk is full")
            resize(disk, 200 * MB)
            with open_archive(directory) as archive:
                assert [snapshot.step for snapshot in archive.snapshots("w0")] == [*range(pushed + 1)]
                assert list(archive.verify()) == []
                for step in range(pushed + 1):
                    assert archive.topology(f"w0@{step}").digest == network(step).digest
        finally:
            stop(directory, force=True)


def until_it_fails(archive: Archive) -> int:
    """How many snapshots were acknowledged before one was not, which says why."""
    for step in range(500):
        try:
            archive.push("w0", step, network(step), projection="none")
        except EngineError as error:
            assert "the disk is full" in str(error)  # noqa: PT017 - which one it is nobody knows
            return step
    raise AssertionError("the disk was never full")


def network(seed: int) -> Topology:
    """One that takes some 300 kB."""
    rng = np.random.default_rng(seed)
    return Topology.from_masks([rng.random((2000, 1500)) < 0.2])


@pytest.mark.slow
def test_memory_that_a_question_left_reserved_comes_back_by_itself(engine_directory: Path) -> None:
    """Groups of a CALL subquery stay reserved until garbage is collected, which an engine does even where it is idle."""
    leaves = (
        "UNWIND range(1, 100) AS a CALL { WITH a UNWIND range(1, 2000) AS b WITH a, b, count(*) AS n "
        "RETURN count(n) AS k } RETURN sum(k) AS k"
    )
    with open_archive(engine_directory, settings=Settings(engine_memory="128m", engine_idle_seconds=20)) as archive:
        with contextlib.suppress(LimitError):
            for _ in range(20):
                archive.cypher(leaves)
        until = time.monotonic() + 60
        while True:
            try:
                rows = archive.cypher("UNWIND range(1, 30000) AS a WITH a, count(*) AS n RETURN count(n) AS k").rows
            except LimitError as error:
                assert "the memory for queries is taken" in error.message  # noqa: PT017 - it may be so for a while
                assert time.monotonic() < until
                time.sleep(0.5)
            else:
                break
    assert rows == [[30000]]
