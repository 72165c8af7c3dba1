"""Who works beside the service: a process for jobs and one for connections that wait, there while there are any.

They are two, so that neither a job of hours nor an endless stream of snapshots keeps the other waiting.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Literal, TypeVar

from starlette.concurrency import run_in_threadpool

from topostrata.archive import Archive
from topostrata.errors import TopostrataError

logger = logging.getLogger(__name__)

T = TypeVar("T")

Work = Literal["jobs", "connections"]

_SWEEP_S = 3600.0  # between two looks for results that are kept no longer
_LOOK_S = 10.0  # between two looks for work whose worker is gone
_END_S = 8.0  # that a worker has to give its work back


class Workers:
    """Starts a worker when there is something to do, one at a time: a job takes all cores. Forgets old results."""

    def __init__(self, archive: Archive, store: str, work: Work) -> None:
        """``store`` is what the worker is to open: the archive by its name."""
        self._archive, self._store, self._kind = archive, store, work
        self._asked = asyncio.Event()
        self._worker: asyncio.subprocess.Process | None = None
        self._task = asyncio.create_task(self._work())

    def call(self) -> None:
        """Say that there may be something to do; a worker that is there already looks again."""
        self._asked.set()
        if self._worker is not None and self._worker.returncode is None and self._worker.stdin is not None:
            self._worker.stdin.write(b"\n")

    async def close(self) -> None:
        """Let the worker give its job back and end."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._worker is None or self._worker.returncode is not None:
            return
        if self._worker.stdin is not None:
            self._worker.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._worker.wait()
        except TimeoutError:
            self._worker.kill()
            await self._worker.wait()

    async def _work(self) -> None:
        swept = -_SWEEP_S
        while True:
            self._asked.clear()
            if monotonic() - swept >= _SWEEP_S:
                if self._kind == "jobs":
                    await self._told(self._archive.jobs.forget_old)
                swept = monotonic()
            if await self._told(self._waiting):
                try:
                    status = await self._run()
                except OSError as error:  # no process, no memory for one, no open file left: a later try may find some
                    logger.warning("nobody can work on %s now: %s; it is tried again soon", self._kind, error)
                else:
                    if status == 0:
                        continue
                    logger.warning("who worked on %s ended with status %d; the next begins soon", self._kind, status)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._asked.wait()

    def _waiting(self) -> bool:
        return self._archive.jobs.waiting() if self._kind == "jobs" else bool(self._archive.drawer.waiting())

    async def _told(self, ask: Callable[[], T]) -> T | None:
        """What the archive says; None where it is away: it is asked again later."""
        try:
            return await run_in_threadpool(ask)
        except TopostrataError:
            return None

    async def _run(self) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOPOSTRATA_API_")}
        self._worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "topostrata.service.worker",
            self._store,
            self._kind,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the service, which ends it
        )
        return await self._worker.wait()
