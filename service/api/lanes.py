"""Who waits for whom: quick answers, long computations, users' queries and uploads each have places of their own.

A request takes a place of its route's lane before it is worked on, and gives it back when its answer is ready. Each
lane has so many places, and so many requests may wait for one; beyond that the answer is 503 with ``Retry-After``, at
once. So computations that take all their places keep nobody from reading a run. Of equal requests that compute for
long, one is computed, and the others get its answer, unless that is read while it is sent. What answers without a
place, ``/healthz``, needs no thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from topostrata.service.api.texts import check_texts, texts_of

T = TypeVar("T")
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])

RETRY_S = "2"  # after which a place is worth another try


class Lane(StrEnum):
    """What a route does most of the time."""

    QUICK = "quick"  # reads little and computes little
    SLOW = "slow"  # computes on the cores, or reads whole runs
    QUERY = "query"  # waits for a user's Cypher
    UPLOAD = "upload"  # decodes and stores a body


class Places(NamedTuple):
    """How many requests of a lane are worked on at once, and how many may wait for a place, for how long."""

    at_once: int
    waiting: int
    seconds: float


PLACES = {
    Lane.QUICK: Places(8, 256, 10.0),
    Lane.SLOW: Places(max(2, os.cpu_count() or 1), 64, 60.0),
    Lane.QUERY: Places(2, 8, 10.0),
    Lane.UPLOAD: Places(4, 64, 30.0),
}
_SPARE_THREADS = 8  # for what takes no place: opening and closing, and whether the archive answers


class _First(NamedTuple):
    """The request that is computed while equal ones wait for its answer."""

    response: asyncio.Future[Response]
    scope: MutableMapping[str, Any]


class Lanes:
    """The places of one service, and how many bytes of bodies it holds."""

    def __init__(self, *, body_bytes: int, places: dict[Lane, Places] = PLACES) -> None:
        """``body_bytes``: most bytes of bodies that are in memory together."""
        self._places = places
        self._slots = {lane: asyncio.Semaphore(places[lane].at_once) for lane in Lane}
        self._waiting = dict.fromkeys(Lane, 0)
        self._computing: dict[tuple[str, ...], _First] = {}
        self._free_bytes = body_bytes

    def size_threads(self) -> None:
        """Give every place a thread, so that no lane takes another's. To be called in the event loop that serves."""
        threads = sum(place.at_once for place in self._places.values()) + _SPARE_THREADS
        to_thread.current_default_thread_limiter().total_tokens = threads

    def waiting(self, lane: Lane) -> int:
        """How many requests wait for a place."""
        return self._waiting[lane]

    @asynccontextmanager
    async def place(self, lane: Lane, request: Request | None = None) -> AsyncIterator[None]:
        """A place in a lane; 503 where too many wait already. Who went away while waiting is not worked for."""
        slots, (_, most, seconds) = self._slots[lane], self._places[lane]
        if self._waiting[lane] >= most:
            raise busy(f"expected a place among those that wait for {lane} answers, found all {most} taken")
        self._waiting[lane] += 1
        waits = slots.locked()
        try:
            async with asyncio.timeout(seconds if waits else None):
                await slots.acquire()
        except TimeoutError:
            raise busy(f"expected a place for a {lane} answer within {seconds:g} s, found none") from None
        finally:
            self._waiting[lane] -= 1
        try:
            if waits and request is not None and await request.is_disconnected():
                raise ClientDisconnect
            yield
        finally:
            slots.release()

    async def work(self, lane: Lane, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function in a thread, in a place of this lane."""
        async with self.place(lane):
            return await run_in_threadpool(function, *arguments)

    async def answer(self, lane: Lane, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        """The answer of a route in a place of its lane; of equal long ones at the same time it is computed once."""
        if lane is not Lane.SLOW or request.method != "GET":
            return await self._computed(lane, request, handler)
        headers = (str(request.headers.get(name)) for name in ("accept", "if-none-match"))
        key = (request.url.path, str(sorted(request.query_params.multi_items())), *headers)
        while (first := self._computing.get(key)) is not None:
            try:
                response = await asyncio.shield(first.response)
            except ClientDisconnect:  # who asked first went away before it was begun
                continue
            finally:  # what its dependencies said of the answer, the moment of it, is said of this one too
                request.scope.update({name: first.scope[name] for name in ("as_of",) if name in first.scope})
            if isinstance(response, StreamingResponse):  # what is sent as it is read can be sent to one alone
                return await self._computed(lane, request, handler)
            return response
        future = asyncio.get_running_loop().create_future()
        self._computing[key] = _First(future, request.scope)
        try:
            response = await self._computed(lane, request, handler)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else ClientDisconnect())
            future.exception()  # nobody need be waiting for it
            raise
        else:
            future.set_result(response)
            return response
        finally:
            del self._computing[key]

    async def _computed(
        self, lane: Lane, request: Request, handler: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        async with self.place(lane, request):
            return await handler(request)

    @asynccontextmanager
    async def bytes_of_bodies(self) -> AsyncIterator[Callable[[int], None]]:
        """Room for a body: the function that it gives takes so many bytes of it, or says 503. All is given back."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._free_bytes:
                raise busy("expected room for another body, found as many in the service as it has memory for")
            self._free_bytes -= count
            taken += count

        try:
            yield take
        finally:
            self._free_bytes += taken


def busy(detail: str) -> HTTPException:
    """The answer where all places are taken."""
    return HTTPException(503, detail, headers={"Retry-After": RETRY_S})


def lanes_of(request: Request) -> Lanes:
    """The lanes of the app that the request goes to."""
    lanes: Lanes = request.app.state.lanes
    return lanes


def slow(endpoint: _Endpoint) -> _Endpoint:
    """Mark a route that computes for long, or reads whole runs."""
    endpoint.lane = Lane.SLOW  # type: ignore[attr-defined]
    return endpoint


class Route(APIRoute):
    """A route whose answers take a place in a lane; one with ``async def`` reads a body first, then takes it itself."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap what answers a request."""
        handler = super().get_route_handler()
        lane = None if asyncio.iscoroutinefunction(self.endpoint) else getattr(self.endpoint, "lane", Lane.QUICK)
        texts = texts_of(self.dependant)

        async def answer(request: Request) -> Response:
            check_texts(request, texts)
            if lane is None:
                return await handler(request)
            return await lanes_of(request).answer(lane, request, handler)

        return answer


def routes_of(subject: str) -> APIRouter:
    """Where the routes of a subject are gathered. Each knows its whole path, so the app takes them as its own.

    Routers that are included in another are matched twice for each request, which took a quarter of an answer's time.
    """
    return APIRouter(prefix="/v1", tags=[subject], route_class=Route, responses={401: {}})
