"""What the embedded engine says where the machine gives it too little: real limits, real processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from neo4j.exceptions import DriverError, Neo4jError

from topostrata.store.embedded import status
from topostrata.store.engine_files import EngineFiles

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
