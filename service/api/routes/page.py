"""The page at ``/``: files of the package, which hold no data and need no token, and the few answers made for it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import TypedDict

from topostrata.service.answers.cypher import RecipeAnswer, cookbook_answer
from topostrata.service.api.lanes import routes_of
from topostrata.service.api.representation import ReadOf, RunId, represent

router = routes_of("page")

# Nothing from elsewhere, no script or style in the markup, in no frame. Scripts may set colours of what they draw.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
_MOST_POINTS = 60  # of a small line in a table


class OverviewAnswer(TypedDict):
    """How a run stands at its last snapshot, and how one of its metrics went: what a list of runs shows of each.

    ``metrics`` are the names of the last snapshot's; ``steps`` and ``values`` are those of the metric that was asked
    for, at most 60 of them, evenly chosen, the last among them.
    """

    run: str
    step: int | None
    connections: int | None
    density: float | None
    metrics: list[str]
    steps: list[int]
    values: list[float]


@router.get("/runs/{run}/overview", response_model=OverviewAnswer)
def get_overview(
    request: Request,
    archive: ReadOf,
    run: RunId,
    metric: Annotated[str, Query(description="The metric whose course is shown.")] = "accuracy",
) -> Response:
    """How a run stands: its last snapshot's connections and density, and the course of a metric."""
    if archive.run(run).last_step is None:
        nothing = OverviewAnswer(run=run, step=None, connections=None, density=None, metrics=[], steps=[], values=[])
        return represent(request, nothing)
    snapshot = archive.snapshot(run)
    possible = sum(layer.shape.possible for layer in archive.layers(run) if layer.shared_with is None)
    course = [(entry.step, entry.metrics[metric]) for entry in archive.metrics(run, metric=metric) if entry.metrics]
    if len(course) > _MOST_POINTS:
        course = [course[round(k * (len(course) - 1) / (_MOST_POINTS - 1))] for k in range(_MOST_POINTS)]
    overview = OverviewAnswer(
        run=run,
        step=snapshot.step,
        connections=snapshot.nnz,
        density=snapshot.nnz / possible,
        metrics=sorted(snapshot.metrics),
        steps=[step for step, _ in course],
        values=[value for _, value in course],
    )
    return represent(request, overview)


@router.get("/cypher/cookbook", response_model=list[RecipeAnswer])
def get_cookbook(request: Request) -> Response:
    """The questions of docs/cypher.md, ready to be asked."""
    return represent(request, cookbook_answer())


def is_open(path: str) -> bool:
    """Whether the path is one of the page's own files."""
    return path == "/" or path.startswith("/page/")


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Serve the page's files."""
    folder = _Files(directory=Path(str(files("topostrata.service") / "page")))

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await folder.get_response("index.html", request.scope)

    app.mount("/page", folder)
