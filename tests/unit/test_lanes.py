"""The places of the service: full lanes refuse, quick answers pass slow ones, and equal slow ones are computed once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from topostrata.service.api import problems
from topostrata.service.api.app import create_app
from topostrata.service.api.edge import Edge
from topostrata.service.api.lanes import PLACES, Lane, Lanes, Places, Route, slow
from topostrata.service.api.telemetry import Telemetry

FEW = {**PLACES, Lane.SLOW: Places(1, 1, 60.0)}


class Service:
    """An app with a quick route and a slow one, which computes until it is let go on."""

    def __init__(self, places: dict[Lane, Places] = FEW) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.computed: list[str] = []
        self.app = FastAPI()
        self.app.state.lanes = Lanes(body_bytes=100, places=places)
        problems.install(self.app)
        router = APIRouter(route_class=Route)

        @router.get("/quick")
        def quick() -> Response:
            return Response("quick")

        @router.get("/slow")
        @slow
        def compute(request: Request, what: str = "", how: int = 0) -> Response:
            self.begun.release()
            self.go_on.wait(60)
            self.computed.append(what)
            if what == "wrong":
                raise ClientDisconnect
            if what == "stream":
                return StreamingResponse(iter(("as ", "it is ", "read")))
            if what == "then":
                request.scope["as_of"] = how  # as ``archive_as_of`` does
            return Response(f"{what} {how}")

        self.app.include_router(router)
        self.app.add_middleware(Edge, telemetry=Telemetry(self.app.state.lanes))

    def run(self, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Let clients of the app do something."""

        async def tell() -> None:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                try:
                    await story(client)
                finally:
                    self.go_on.set()

        asyncio.run(tell())

    async def settle(self) -> None:
        """Let whoever can go on in the event loop do so."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def wait_until_begun(self) -> None:
        """Until one more computation has begun."""
        await asyncio.to_thread(self.begun.acquire)


def test_quick_answers_pass_slow_ones_and_a_full_lane_refuses() -> None:
    """One computes, one waits, the third is told at once to come again; a quick route answers meanwhile."""
    service = Service()

    async def story(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/slow?what=a"))
        await service.wait_until_begun()
        second = asyncio.create_task(client.get("/slow?what=b"))
        await service.settle()
        third = await client.get("/slow?what=c")
        assert (third.status_code, third.json()["code"]) == (503, "busy")
        assert int(third.headers["retry-after"]) > 0
        assert (await client.get("/quick")).text == "quick"
        service.go_on.set()
        assert [(await task).text for task in (first, second)] == ["a 0", "b 0"]

    service.run(story)
    assert service.computed == ["a", "b"]


def test_equal_slow_requests_are_computed_once() -> None:
    """Twenty that ask the same at once get the answer of one, however they order their parameters."""
    service = Service()

    async def story(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/slow?what=a&how=1"))
        await service.wait_until_begun()
        others = [asyncio.create_task(client.get("/slow?how=1&what=a")) for _ in range(19)]
        await service.settle()
        service.go_on.set()
        assert {(await task).text for task in (first, *others)} == {"a 1"}
        assert (await client.get("/slow?what=a&how=1")).text == "a 1"  # nothing is remembered

    service.run(story)
    assert service.computed == ["a", "a"]


@pytest.mark.parametrize(("what", "times"), [("stream", 3), ("then", 1)])
def test_whoever_shares_gets_a_whole_answer_with_its_moment(what: str, times: int) -> None:
    """What is read while it is sent is computed by each; the moment that one was answered as of is said to all."""
    service = Service()

    async def story(client: httpx.AsyncClient) -> None:
        path = f"/slow?what={what}&how=7"
        first = asyncio.create_task(client.get(path))
        await service.wait_until_begun()
        others = [asyncio.create_task(client.get(path)) for _ in range(2)]
        await service.settle()
        service.go_on.set()
        answers = [await task for task in (first, *others)]
        assert [answer.text for answer in answers] == 3 * ["as it is read" if what == "stream" else "then 7"]
        assert {answer.headers.get("as-of") for answer in answers} == {None if what == "stream" else "7"}

    service.run(story)
    assert service.computed == times * [what]


def test_when_the_first_of_equals_goes_away_the_next_one_computes() -> None:
    """Nobody loses an answer because a stranger who asked the same left."""
    service = Service()

    async def story(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/slow?what=wrong"))
        await service.wait_until_begun()
        second = asyncio.create_task(client.get("/slow?what=wrong"))
        await service.settle()
        service.go_on.set()
        assert [(await task).status_code for task in (first, second)] == [499, 499]

    service.run(story)
    assert service.computed == ["wrong", "wrong"]


def test_who_does_not_get_a_place_in_time_is_told_so() -> None:
    """Waiting for a place has an end."""
    service = Service({**PLACES, Lane.SLOW: Places(1, 5, 0.05)})

    async def story(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/slow?what=a"))
        await service.wait_until_begun()
        assert (await client.get("/slow?what=b")).status_code == 503
        service.go_on.set()
        assert (await first).status_code == 200

    service.run(story)
    assert service.computed == ["a"]


def test_who_goes_away_while_waiting_is_not_computed_for() -> None:
    """Its place goes to the next."""
    service = Service()

    async def story(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/slow?what=a"))
        await service.wait_until_begun()

        async def gone() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        lanes: Lanes = service.app.state.lanes
        request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}, gone)

        async def wait() -> None:
            async with lanes.place(Lane.SLOW, request):
                raise AssertionError("it was worked for")

        waiting = asyncio.create_task(wait())
        await service.settle()
        service.go_on.set()
        assert (await first).text == "a 0"
        with pytest.raises(ClientDisconnect):
            await waiting
        assert (await client.get("/slow?what=b")).text == "b 0"

    service.run(story)


def test_bodies_share_their_room_and_give_it_back() -> None:
    """What would not fit is refused, whatever became of those before it."""
    lanes = Lanes(body_bytes=100)

    async def story() -> None:
        async with lanes.bytes_of_bodies() as take:
            take(60)
            async with lanes.bytes_of_bodies() as take_more:
                with pytest.raises(Exception, match="room for another body"):
                    take_more(41)
                take_more(40)
        async with lanes.bytes_of_bodies() as take:
            take(100)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("query", "status"),
    [("how=5", 200), ("how=05", 422), ("how=%205", 422), ("how=5.0", 422), ("how=%2B5", 422), ("how=5&how=5", 422),
     ("how=99999999999999999999", 422), ("hwo=5", 422)],
)  # fmt: skip
def test_a_number_has_one_spelling_and_a_parameter_one_name(query: str, status: int) -> None:
    """What a framework would make something of is refused, and a mistyped name is not the default."""
    service = Service()
    service.go_on.set()

    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get(f"/slow?{query}")).status_code == status

    service.run(story)


def test_every_route_is_the_apps_own() -> None:
    """Each path of the contract is a route of the app itself: behind an included router it would be matched twice."""
    app = create_app()
    assert set(app.openapi()["paths"]) <= {getattr(route, "path", None) for route in app.router.routes}
