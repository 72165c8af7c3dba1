"""The FastAPI application over one archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from topostrata import __version__
from topostrata.archive import Archive, open_archive
from topostrata.errors import TopostrataError
from topostrata.service.api import auth, problems
from topostrata.service.api.access import AccessCheck
from topostrata.service.api.representation import ArchiveOf
from topostrata.service.api.routes import distance, evolution, lineage, matching, measures, metrics, page, runs


def create_app(
    store: str | None = None,
    *,
    archive: Archive | None = None,
    guard: auth.Guard | None = None,
    hosts: Iterable[str] = (),
) -> FastAPI:
    """The API of an archive: an open one, or the one at ``store``, which is open while the app runs.

    With a ``guard`` every path needs the token, except those of ``auth.OPEN``. ``hosts`` are the host names that the
    API answers to, besides those of loopback.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = await run_in_threadpool(open_archive, store) if archive is None else archive
        app.state.archive = opened
        yield
        if archive is None:
            await run_in_threadpool(opened.close)

    # FastAPI's interactive pages are off, because they load scripts from the internet.
    app = FastAPI(
        title="Topostrata",
        version=__version__,
        summary="How far apart are two sparse topologies, what survived, and which run descends from which?",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(AccessCheck, hosts=hosts, guard=guard)
    app.middleware("http")(_harden)  # outermost, so that refusals of the access check have its headers too
    problems.install(app)
    for routes in (runs, metrics, distance, matching, evolution, lineage, measures, page):
        app.include_router(routes.router, prefix="/v1", dependencies=[Depends(auth.documented)], responses={401: {}})

    page.install(app)

    @app.get("/healthz", tags=["service"])
    def healthz() -> dict[str, str]:
        """Whether the service runs; this checks nothing that it depends on."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"])
    def readyz(archive: ArchiveOf) -> JSONResponse:
        """Whether everything that answers need is available."""
        try:
            archive.counts()
        except TopostrataError as error:
            return JSONResponse({"status": "unavailable", "archive": str(error.code)}, status_code=503)
        return JSONResponse({"status": "ok", "archive": "ok"})

    return app


async def _harden(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    return response
