"""What is new in the archive, as it comes: server-sent events, read by ``fetch`` with the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from topostrata.errors import TopostrataError
from topostrata.service.answers.shape import as_json
from topostrata.service.api.lanes import busy, routes_of
from topostrata.service.api.representation import ArchiveOf

if TYPE_CHECKING:
    from topostrata.archive import Archive
    from topostrata.runs import RunState
    from topostrata.store.jobs import JobState

router = routes_of("service")

LOOK_S = 2.0  # between two looks at the archive, while somebody listens
STILL_HERE = 15.0 / LOOK_S  # looks without news, after which a comment shows that the line holds
MOST_LISTENERS = 64


class Watch:
    """Looks at the archive every two seconds while somebody listens, once for all of them, and says what is new."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._states: dict[tuple[str, str], RunState | JobState] = {}  # by kind and id
        self._looks = 0
        self._looking: asyncio.Task[None] | None = None
        self._listeners = 0
        self._over = False

    async def close(self) -> None:
        """End all streams: the server stops."""
        self._over = True
        if self._looking is not None:
            self._looking.cancel()
        async with self._changed:
            self._changed.notify_all()

    async def events(self, archive: Archive) -> AsyncIterator[str]:
        """The events from now on, as lines of text."""
        self._listeners += 1
        try:
            known = self._states = await run_in_threadpool(_states, archive)
            if not self._over and (self._looking is None or self._looking.done()):
                self._looking = asyncio.create_task(self._look(archive))
            yield _event("ready", {"runs": sum(kind == "run" for kind, _ in known)})
            quiet = 0
            while not self._over:
                seen = self._looks
                async with self._changed:
                    await self._changed.wait_for(lambda: self._looks != seen or self._over)  # noqa: B023 - at once
                news = [(place, state) for place, state in self._states.items() if known.get(place) != state]
                gone = known.keys() - self._states.keys()
                known = self._states
                for (kind, name), state in news:
                    yield _event(kind, {kind: name, **as_json(state)})
                for kind, name in sorted(gone):
                    yield _event("gone", {kind: name})
                quiet = 0 if news or gone else quiet + 1
                if quiet >= STILL_HERE:
                    quiet = 0
                    yield ": still here\n\n"
        finally:
            self._listeners -= 1

    @property
    def full(self) -> bool:
        """Whether no more may listen."""
        return self._listeners >= MOST_LISTENERS

    async def _look(self, archive: Archive) -> None:
        while self._listeners:
            await asyncio.sleep(LOOK_S)
            try:
                self._states = await run_in_threadpool(_states, archive)
            except TopostrataError:  # the archive is away: nothing is new, and the next look may see it again
                continue
            finally:
                self._looks += 1
                async with self._changed:
                    self._changed.notify_all()


def _states(archive: Archive) -> dict[tuple[str, str], RunState | JobState]:
    runs = {("run", name): state for name, state in archive.states().items()}
    return runs | {("job", name): state for name, state in archive.jobs.states().items()}


def _event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def get_events(request: Request, archive: ArchiveOf) -> StreamingResponse:
    """What is new, as server-sent events until the client goes: ``ready``, then ``run``, ``job`` and ``gone``.

    ``run`` has the id, last step and status of a run that is new, has a new snapshot or another status; ``job`` the id,
    status and progress of a job; ``gone`` the id of one that is no more, as ``run`` or ``job``.
    """
    watch: Watch = request.app.state.watch
    if watch.full:
        raise busy(f"expected at most {MOST_LISTENERS} listeners, found that many")
    return StreamingResponse(
        watch.events(archive), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )
