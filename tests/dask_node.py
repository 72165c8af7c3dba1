"""A Dask scheduler or worker in a process of its own, which can be killed: says its address, then what happens to it.

The scheduler has no topostrata. Workers come in kinds: ``good``; ``victim``, which says ``computing`` when it has begun its first
share, and never ends it; ``failing``, which raises ``TimeoutError`` at every share; ``old``, ``bare`` and ``empty``, which
have another version of topostrata, no numba, no topostrata; ``strict``, for which every fan-in set is too large.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Node:
    """The parent's side of one process."""

    def __init__(self, folder: Path, *orders: str) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        # What it logs is for people, and nobody would read the pipe.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.dask_node", str(folder), *orders],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        self.address = self.line()

    def line(self) -> str:
        """The next thing it says; an error where it says no more."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, f"the node ended with {self.process.wait()}"
        return line

    def kill(self) -> None:
        """End it at once, without a word."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Cluster:
    """A scheduler and its workers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.scheduler = self._start("scheduler")
        self.address = self.scheduler.address

    def worker(self, kind: str = "good") -> Node:
        """One more worker, which is known to the scheduler."""
        return self._start("worker", self.address, kind)

    def _start(self, *orders: str) -> Node:
        node = Node(self._folder, *orders)
        self._stack.callback(node.kill)
        return node


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A scheduler without workers; all is killed afterwards."""
    with ExitStack() as stack:
        yield Cluster(folder, stack)


# From here on: the process itself.


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def become(kind: str) -> None:
    if kind == "empty":
        sys.modules["topostrata"] = None  # type: ignore[assignment]
        return
    from topostrata.distance import cluster as ours
    from topostrata.distance import kernels

    if kind == "victim":

        def hang(*_: Any) -> None:
            say("computing")
            threading.Event().wait()

        vars(ours)["distances_of"] = hang
    elif kind == "failing":

        def fail(*_: Any) -> None:
            raise TimeoutError("its disk does not answer")

        vars(ours)["distances_of"] = fail
    elif kind == "old":
        vars(ours)["__version__"] = "0.0.1"
    elif kind == "bare":
        vars(ours)["has_numba"] = lambda: False
    elif kind == "strict":
        kernels.LARGEST_UNION = 1


async def serve(folder: str, role: str, *rest: str) -> None:
    from distributed import Scheduler, Worker

    if role == "scheduler":
        become("empty")
        node: Any = Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0")
    else:
        address, kind = rest
        become(kind)
        node = Worker(
            address, host="127.0.0.1", nthreads=1, dashboard_address="127.0.0.1:0", local_directory=folder, nanny=None
        )
    async with node:
        say(node.address)
        await node.finished()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
