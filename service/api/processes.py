"""Several processes that answer on one socket, and the one beside them that keeps them there.

Each is a service of its own on the same archive: its limits are its own, and equal requests are computed once in each.
The system hands a new connection to any of them. Where the one that keeps them ends, however it ends, so do they.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from topostrata.errors import EngineError
from topostrata.service.api.telemetry import SHARED

logger = logging.getLogger(__name__)

_AGAIN_S = 1.0  # before another try, where one ended before it answered


# Answers until SIGTERM, in a process of its own; calls what it gets once it does.
Answering = Callable[[Callable[[], None]], None]


class _Process:
    """One that answers, or is about to."""

    def __init__(self, answering: Answering) -> None:
        context = get_context("spawn")
        self.hears, says = context.Pipe(duplex=False)
        self.process: SpawnProcess = context.Process(target=_answer, args=(answering, says))
        self.process.start()
        says.close()
        self.is_up = False

    def has_ended(self) -> bool:
        """Whether it is gone; notes whether it answers by now."""
        with suppress(EOFError, OSError):
            self.is_up = self.is_up or (self.hears.poll() and bool(self.hears.recv_bytes()))
        return not self.process.is_alive()


def keep_answering(count: int, answering: Answering, ready: Callable[[], None], *, end_s: float) -> None:
    """Run so many processes until SIGINT or SIGTERM; ``ready`` is called once all answer.

    One that ends is replaced; at the end they have ``end_s`` seconds for what they still answer. Raises ``EngineError``
    where one ends before all have answered once.
    """
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="topostrata-metrics-") as shared:
        os.environ[SHARED] = shared  # where they count together
        processes: list[_Process] = []
        told = False
        try:
            for _ in range(count):
                processes.append(_Process(answering))  # noqa: PERF401 - where one fails, those before it are ended
            while True:
                waiting = [p.hears for p in processes if not p.is_up]
                wait([*waiting, *(p.process.sentinel for p in processes)])
                for at, member in enumerate(processes):
                    if member.has_ended():
                        if not (told or member.is_up):
                            raise EngineError(
                                "the service: expected a process that answers, found that it ended with status "
                                f"{member.process.exitcode}",
                                hint="its error stands above",
                            )
                        processes[at] = _replaced(member, answering)
                if not told and all(member.is_up for member in processes):
                    told = True
                    ready()
        finally:
            _end(processes, end_s)
            del os.environ[SHARED]


def _replaced(member: _Process, answering: Answering) -> _Process:
    status = member.process.exitcode
    if member.is_up:
        logger.warning("a process that answered ended with status %s; another takes its place", status)
    else:
        logger.warning("a process that was to answer ended with status %s; another is tried soon", status)
        time.sleep(_AGAIN_S)
    with suppress(ImportError):
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - behind an extra

        mark_process_dead(member.process.pid)  # type: ignore[no-untyped-call]
    return _Process(answering)


def _end(processes: list[_Process], seconds: float) -> None:
    for member in processes:
        member.process.terminate()
    deadline = time.monotonic() + seconds
    for member in processes:
        member.process.join(max(0.0, deadline - time.monotonic()))
        if member.process.is_alive():
            member.process.kill()
            member.process.join()


def _answer(answering: Answering, says: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that keeps this one, which ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answering(lambda: says.send_bytes(b"up"))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
