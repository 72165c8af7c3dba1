"""What the embedded engine says where the machine gives it too little: real limits, real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from neo4j.exceptions import DriverError, Neo4jError

from tests.disks import mounted, resize
from topostrata.archive import Archive, open_archive
from topostrata.errors import EngineError, StoreUnavailableError
from topostrata.store.embedded import status, stop
from topostrata.store.engine_files import EngineFiles
from topostrata.topology import Topology

from .engine_helpers import SOURCES, commit, kill, open_engine, session, wait_until

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


@pytest.mark.slow
def test_an_engine_that_runs_out_of_memory_says_so(engine_directory: Path) -> None:
    """A heap too small, and a kill as the system does it: `engine status` names the setting that mends it."""
    with open_engine(engine_directory, memory="128m") as engine:
        end = engine.connect()
        bomb = "RETURN reduce(s = '0123456789abcdef', j IN range(1, 26) | s + s)"  # one string of 1 GB
        with session(end) as asked, contextlib.suppress(DriverError, Neo4jError):
            asked.run(bomb).consume()
        wait_until(lambda: (status(engine_directory) or {})["last_death"] is not None)
        last_death = (status(engine_directory) or {})["last_death"]
        assert last_death == "its heap of 128m was too small: raise TOPOSTRATA_ENGINE_MEMORY, now 128m"
        pid = EngineFiles(engine_directory).read_engine_pid()
        assert pid is not None
        kill(pid)
        wait_until(lambda: "signal 9" in str((status(engine_directory) or {})["last_death"]))
        assert "TOPOSTRATA_ENGINE_MEMORY, now 128m" in (status(engine_directory) or {})["last_death"]
        commit(engine.connect(), 1)


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
