"""A writer in a process of its own, which can be killed: pushes a history and says each step when it is acknowledged.

It is told by one line of JSON what to do (``Orders``), says ``ready`` when it has the archive open, begins when it hears
``go``, and says ``STEP OUTCOME`` after each push. It can be told to kill itself, with ``kill -9``, before or after the
n-th time that it sends a certain query.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.histories import random_history
from tests.stores import Target
from topostrata.archive import open_archive
from topostrata.ingest import projection
from topostrata.ingest.load import Loader
from topostrata.store.graph import Transaction

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Orders:
    """What a writer is to do: push this history as that run, with batches of that size."""

    run: str
    seed: int
    snapshots: int
    batch: int = 15_000
    acknowledge_only: bool = False
    projection: str = "all"
    fatal_query: str = ""
    fatal_when: str = "before"
    fatal_count: int = 1


class Writer:
    """The parent's side."""

    def __init__(self, target: Target, orders: Orders) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.writer", target.uri, json.dumps(asdict(orders))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | target.environment | {"PYTHONPATH": path},
        )
        assert self._line() == "ready"

    def begin(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end_within(self, seconds: float) -> bool:
        """Whether it ends by itself in that time; else it is killed."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False
        return True

    def said(self) -> list[tuple[int, str]]:
        """After its end: the steps that it called done, and how; a line that was cut short was not said."""
        assert self.process.stdout is not None
        text = self.process.stdout.read()
        self.process.wait()
        self.close()
        lines = [line.split() for line in text.split("\n")[:-1]]
        return [(int(step), outcome) for step, outcome in lines]

    def close(self) -> None:
        """Let nothing of it remain."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def die_at(query: str, when: str, count: int) -> None:
    """Arrange for this process to be killed before or after it sends a query for the n-th time."""
    calls: Counter[str] = Counter()
    run = Transaction.run

    def counted(self: Transaction, name: str, /, **parameters: Any) -> Any:
        calls[name] += 1
        fatal = name == query and calls[name] == count
        if fatal and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rows = run(self, name, **parameters)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    Transaction.run = counted  # type: ignore[method-assign]


def main(uri: str, orders: Orders) -> None:
    """The writer's own side."""
    projection._BATCH = orders.batch
    history = random_history(orders.seed, snapshots=orders.snapshots)
    with open_archive(uri) as archive:
        loader = Loader(archive._store, archive._masks)
        push = loader.acknowledge if orders.acknowledge_only else loader.push
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        if orders.fatal_query:
            die_at(orders.fatal_query, orders.fatal_when, orders.fatal_count)
        for step, topology in history.snapshots:
            outcome = push(orders.run, step, topology, projection=orders.projection)
            sys.stdout.write(f"{step} {outcome}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Orders(**json.loads(sys.argv[2])))
