"""Runs that are taken away: removed, brought back, gone for good."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from topostrata.errors import ChangedError, NotFoundError
from topostrata.ingest.lifecycle import Purged, RemovedRun
from topostrata.runs import Run
from topostrata.service.answers.shape import answer_type, shape
from topostrata.service.api.lanes import Route, slow
from topostrata.service.api.representation import ArchiveOf, RunId, is_stale, represent

router = APIRouter(tags=["runs"], route_class=Route)

RemovedRunsAnswer = shape(
    "RemovedRunsAnswer",
    "The runs that can be brought back.",
    {"runs": list[answer_type(RemovedRun)]},  # type: ignore[misc]
)


@router.delete("/runs/{run}", status_code=204, response_class=Response, responses={409: {}, 412: {}})
def delete_run(request: Request, archive: ArchiveOf, run: RunId) -> Response:
    """Remove a run: it is hidden, and can be brought back. ``If-Match`` gives the entity tag of the state seen."""
    if is_stale(request, archive.run(run)):
        raise ChangedError(
            f"run {run!r}: expected the state whose entity tag If-Match gives, found another",
            hint="get the run again and decide anew",
        )
    archive.remove_runs([run])
    return Response(status_code=204)


@router.get("/removed", response_model=RemovedRunsAnswer)
def list_removed(request: Request, archive: ArchiveOf) -> Response:
    """The runs that were removed and can be brought back."""
    return represent(request, {"runs": archive.removed_runs()})


@router.post("/removed/{run}", response_model=answer_type(Run), responses={409: {}})
def bring_back(request: Request, archive: ArchiveOf, run: RunId) -> Response:
    """Bring a removed run back, as it was."""
    archive.bring_back([run])
    return represent(request, archive.run(run))


@router.delete("/removed/{run}", response_model=answer_type(Purged), responses={409: {}})
@slow
def purge(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    dry_run: Annotated[bool, Query(description="Say what would go; nothing does.")] = False,
) -> Response:
    """Take a removed run away for good, with its connections, distances, and masks that no other run has.

    Needs the scope ``admin``. A run that was not removed is not taken: remove it first.
    """
    if not dry_run and all(removed.run != run for removed in archive.removed_runs()):
        raise NotFoundError(
            f"run {run!r}: expected one that was removed, found none",
            hint="DELETE /v1/runs/{run} removes a run; GET /v1/removed lists those that were",
        )
    return represent(request, archive.purge_runs([run], dry_run=dry_run))
