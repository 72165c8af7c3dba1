"""Runs that are taken away: removed, brought back, gone for good."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from topostrata.errors import ChangedError, NotFoundError
from topostrata.ingest.lifecycle import Purged, RemovedRun
from topostrata.runs import Run
from topostrata.service.answers.shape import answer_type, shape
from topostrata.service.api.lanes import routes_of, slow
from topostrata.service.api.representation import RUN_PATTERN, ArchiveOf, ReadOf, RunId, is_stale, represent
from topostrata.store.runs import MAX_PAGE

router = routes_of("runs")

AlsoQuery = Annotated[
    list[Annotated[str, Field(pattern=RUN_PATTERN)]] | None,
    Query(max_length=MAX_PAGE, description="Runs with which the same happens, all or none."),
]
DryRunQuery = Annotated[bool, Query(description="Say what would be; nothing is changed.")]

RemovedRunsAnswer = shape(
    "RemovedRunsAnswer",
    "The runs that can be brought back.",
    {"runs": list[answer_type(RemovedRun)]},  # type: ignore[misc]
)


@router.delete("/runs/{run}", status_code=204, response_class=Response, responses={409: {}, 412: {}})
def delete_run(
    request: Request, archive: ArchiveOf, run: RunId, also: AlsoQuery = None, dry_run: DryRunQuery = False
) -> Response:
    """Remove a run: it is hidden, and can be brought back. ``If-Match`` gives the entity tag of the state seen."""
    if is_stale(request, archive.run(run)):
        raise ChangedError(
            f"run {run!r}: expected the state whose entity tag If-Match gives, found another",
            hint="get the run again and decide anew",
        )
    archive.remove_runs([run, *(also or ())], dry_run=dry_run)
    return Response(status_code=204)


@router.get("/removed", response_model=RemovedRunsAnswer)
def list_removed(request: Request, archive: ReadOf) -> Response:
    """The runs that were removed and can be brought back."""
    return represent(request, {"runs": archive.removed_runs()})


@router.post(
    "/removed/{run}", response_model=answer_type(Run), responses={204: {"description": "It would be back."}, 409: {}}
)
def bring_back(
    request: Request, archive: ArchiveOf, run: RunId, also: AlsoQuery = None, dry_run: DryRunQuery = False
) -> Response:
    """Bring a removed run back, as it was."""
    archive.bring_back([run, *(also or ())], dry_run=dry_run)
    return Response(status_code=204) if dry_run else represent(request, archive.run(run))


@router.delete("/removed/{run}", response_model=answer_type(Purged), responses={409: {}})
@slow
def purge(
    request: Request, archive: ArchiveOf, run: RunId, also: AlsoQuery = None, dry_run: DryRunQuery = False
) -> Response:
    """Take a removed run away for good, with its connections, distances, and masks that no other run has.

    Needs the scope ``admin``. A run that was not removed is not taken: remove it first.
    """
    runs = [run, *(also or ())]
    shown = set(runs) - {removed.run for removed in archive.removed_runs()}
    if shown and not dry_run:
        raise NotFoundError(
            f"run {min(shown)!r}: expected one that was removed, found none",
            hint="DELETE /v1/runs/{run} removes a run; GET /v1/removed lists those that were",
        )
    return represent(request, archive.purge_runs(runs, dry_run=dry_run))
