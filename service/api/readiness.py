"""Whether the archive answers, asked in a bounded time by however many ask."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

from starlette.concurrency import run_in_threadpool

from topostrata.archive import Archive
from topostrata.errors import TopostrataError

PATIENCE_S = 2.0
_FORGET_S = 30.0  # after which a question that got no answer is asked anew, beside the one that hangs


class Readiness:
    """One question at a time to the database, whose answer all who ask meanwhile get."""

    def __init__(self) -> None:
        self._question: asyncio.Task[str] | None = None
        self._since = 0.0

    async def of(self, archive: Archive) -> str:
        """``ok``, the code of what is wrong, or ``timeout``."""
        if self._question is None or self._question.done() or monotonic() - self._since > _FORGET_S:
            self._question = asyncio.create_task(run_in_threadpool(_state, archive))
            self._since = monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(self._question)
        return "timeout"


def _state(archive: Archive) -> str:
    try:
        archive.has_run("0")  # connects again where the connection was lost
    except TopostrataError as error:
        return str(error.code)
    return "ok"
