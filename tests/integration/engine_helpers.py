"""What the tests of the embedded engine share: clients in processes of their own, and looks at what really runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import neo4j

from topostrata.settings import Settings
from topostrata.store.embedded import EmbeddedEngine, Endpoint
from topostrata.store.engine_files import EngineFiles

SOURCES = Path(__file__).resolve().parents[2] / "src"

# Reads commands, one a line, and answers each with a line of JSON: so a test knows when a client is where.
_CLIENT = """
import dataclasses, json, sys
from pathlib import Path
from topostrata.errors import TopostrataError
from topostrata.settings import Settings
from topostrata.store.embedded import EmbeddedEngine
engine = EmbeddedEngine(
    Path(sys.argv[1]), idle_seconds=float(sys.argv[2]), java_options=Settings().engine_java_options
)
print(json.dumps("started"), flush=True)
for line in sys.stdin:
    try:
        if line.strip() == "connect":
            answer = dataclasses.asdict(engine.connect())
        else:
            answer = engine.close()
    except TopostrataError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Client:
    """A client of an engine in a process of its own, which can be killed."""

    def __init__(self, directory: Path, *, idle_seconds: float = 30.0) -> None:
        self.process = run_python(_CLIENT, str(directory), str(idle_seconds))
        assert self.answer() == "started"

    def ask(self, word: str) -> None:
        """Send a command without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The answer to the command that was asked first."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"the client died: {self.process.stderr.read()}")
        return json.loads(line)

    def connect(self) -> Endpoint:
        """Ask for a connection and wait for it."""
        self.ask("connect")
        answer = self.answer()
        assert "error" not in answer, answer
        return Endpoint(**answer)

    def kill(self) -> None:
        """``kill -9``, in whatever it is doing."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Close the pipes and collect the process."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.wait(timeout=30)


def run_python(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python that can import the package under test, wherever that lies."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
    )


@contextmanager
def session(end: Endpoint, *, reader: bool = False) -> Iterator[neo4j.Session]:
    """A session of the driver on that endpoint."""
    auth = (end.reader, end.reader_password) if reader else (end.user, end.password)
    with (
        neo4j.GraphDatabase.driver(
            f"bolt://{end.host}:{end.port}", auth=auth, notifications_min_severity="OFF"
        ) as bolt,
        bolt.session(database=end.database) as opened,
    ):
        yield opened


def commit(end: Endpoint, mark: int) -> None:
    """Commit one node that ``marks`` will find again."""
    with session(end) as opened:
        opened.execute_write(lambda tx: tx.run("CREATE (:Mark {id: $mark})", mark=mark).consume())


def marks(end: Endpoint) -> list[int]:
    """What ``commit`` put there, in order."""
    with session(end) as opened:
        return opened.execute_read(
            lambda tx: [row["id"] for row in tx.run("MATCH (m:Mark) RETURN m.id AS id ORDER BY id")]
        )


def wait_until(fact: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Poll until the fact holds; fails if it never does."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def state(directory: Path) -> str | None:
    """What the supervisor last wrote of itself."""
    record = EngineFiles(directory).read_endpoint()
    return None if record is None else str(record.get("state"))


def supervisor_pid(directory: Path) -> int | None:
    """The supervisor's pid once it has written it."""
    pid = (EngineFiles(directory).read_endpoint() or {}).get("supervisor_pid")
    return pid if isinstance(pid, int) else None


def running(directory: Path) -> bool:
    """Whether a supervisor or an engine lives; told by their locks."""
    files = EngineFiles(directory)
    return files.lock("supervisor").taken_elsewhere() or files.lock("engine").taken_elsewhere()


def kill(pid: int) -> None:
    """``kill -9``."""
    os.kill(pid, signal.SIGKILL)


def ended(pid: int) -> bool:
    """Whether the process is gone, or only waits to be collected."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in {"Z", "X"}


def open_engine(directory: Path, **options: Any) -> EmbeddedEngine:
    """A client in this process, with a short idle time so that a failed test leaves nothing behind for long."""
    usual: dict[str, Any] = {"idle_seconds": 20.0, "java_options": Settings().engine_java_options}
    return EmbeddedEngine(directory, **(usual | options))
