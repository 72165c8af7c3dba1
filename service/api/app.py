"""The FastAPI application over one archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from topostrata import __version__
from topostrata.archive import Archive, open_archive
from topostrata.service.api import auth, problems
from topostrata.service.api.access import AccessCheck
from topostrata.service.api.contract import contract_of
from topostrata.service.api.edge import Edge
from topostrata.service.api.lanes import Lanes
from topostrata.service.api.readiness import Readiness
from topostrata.service.api.reference import POLICY, reference
from topostrata.service.api.representation import ArchiveOf
from topostrata.service.api.routes import (
    core,
    cypher,
    distance,
    events,
    evolution,
    jobs,
    lifecycle,
    lineage,
    matching,
    measures,
    metrics,
    moments,
    page,
    related,
    runs,
    tokens,
    topologies,
)
from topostrata.service.api.telemetry import MEDIA_TYPE, Telemetry
from topostrata.service.api.workers import Workers
from topostrata.settings import load_settings

_BODIES = 4  # of the largest size that may be in memory together


def create_app(
    store: str | None = None,
    *,
    archive: Archive | None = None,
    guard: auth.Guard | None = None,
    hosts: Iterable[str] = (),
    works_on: str | None = None,
) -> FastAPI:
    """The API of an archive: an open one, or the one at ``store``, which is open while the app runs.

    With a ``guard`` every path needs the token, except those of ``auth.OPEN``. ``hosts`` are the host names that the
    API answers to, besides those of loopback. ``works_on`` is the store that who works beside it opens, by default the
    one that the app opens itself; of an archive that is handed in alone, jobs and connections wait for another service.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = await run_in_threadpool(open_archive, store) if archive is None else archive
        app.state.archive = opened
        app.state.lanes.size_threads()
        place = works_on or (store or opened.settings.store if archive is None else None)
        if place is not None:
            app.state.workers = Workers(opened, place, "jobs")
            app.state.drawers = Workers(opened, place, "connections")
        yield
        await asyncio.gather(*(beside.close() for beside in (app.state.workers, app.state.drawers) if beside))
        if archive is None:
            await run_in_threadpool(opened.close)

    # FastAPI's own pages load scripts from the internet: `/docs` is ours.
    app = FastAPI(
        title="Topostrata",
        version=__version__,
        summary="How far apart are two sparse topologies, what survived, and which run descends from which?",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(AccessCheck, hosts=hosts, guard=guard)
    app.state.lanes = Lanes(body_bytes=_BODIES * (archive.settings if archive else load_settings()).max_body_bytes)
    telemetry = Telemetry(app.state.lanes)
    app.add_middleware(
        Edge, telemetry=telemetry
    )  # outermost, so that refusals of the access check have its headers too
    problems.install(app)
    app.state.watch = events.Watch()
    app.state.workers = app.state.drawers = None
    app.state.tokens = guard.kept if guard else None
    readiness = Readiness()
    for routes in (
        runs,
        lifecycle,
        topologies,
        metrics,
        moments,
        distance,
        matching,
        core,
        evolution,
        lineage,
        related,
        measures,
        jobs,
        cypher,
        events,
        tokens,
        page,
    ):
        app.router.routes.extend(routes.router.routes)

    page.install(app)

    @app.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str]:
        """Whether the service runs; this checks nothing that it depends on."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"])
    async def readyz(archive: ArchiveOf) -> JSONResponse:
        """Whether everything that answers need is available."""
        state = await readiness.of(archive)
        status = "ok" if state == "ok" else "unavailable"
        return JSONResponse({"status": status, "archive": state}, status_code=200 if state == "ok" else 503)

    @app.get(
        "/metrics",
        tags=["service"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, 401: {}},
    )
    async def metrics_of_service() -> Response:
        """What the service counted, for Prometheus."""
        return Response(telemetry.text(), media_type=MEDIA_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(reference(contract()), headers={"Content-Security-Policy": POLICY})

    def contract() -> dict[str, Any]:
        app.openapi_schema = app.openapi_schema or contract_of(app)
        return app.openapi_schema

    app.openapi = contract  # type: ignore[method-assign]
    return app
