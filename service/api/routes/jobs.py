"""Work that takes longer than a client waits: asked for, followed, fetched, cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from topostrata.archive import Archive
from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.null_model import Kept
from topostrata.errors import InvalidInputError, LimitError
from topostrata.lineage.inferred import SAMPLES
from topostrata.lineage.related import TESTS
from topostrata.lineage.unit_terms import Units
from topostrata.service import jobs
from topostrata.service.answers.shape import answer_type
from topostrata.service.api.bodies import Body, body_of_kinds, document_of_kinds
from topostrata.service.api.lanes import Lane, Route, busy, lanes_of, slow
from topostrata.service.api.representation import (
    BINARY,
    JSON,
    PAGE,
    REF_PATTERN,
    RUN_PATTERN,
    ArchiveOf,
    Limit,
    NumberCursor,
    negotiated,
    page,
    page_type,
    represent,
)
from topostrata.service.api.routes.distance import MATRICES, Pattern, PictureLayer, matrix_response
from topostrata.service.api.routes.limits import MOST_COMPARED
from topostrata.service.api.routes.lineage import MOST_SAMPLES
from topostrata.store.jobs import Job

router = APIRouter(tags=["jobs"], route_class=Route)

MOST_TESTS = 999_999
JobAnswer = answer_type(Job)
JobId = Annotated[str, Path(description="The job's id.", pattern="^[0-9a-f]{32}$")]
RunText = Annotated[str, Field(json_schema_extra={"pattern": RUN_PATTERN})]
RefText = Annotated[str, Field(pattern=REF_PATTERN)]


class DistancesJob(Body):
    """The matrix of up to 1,000 snapshots, as ``GET /v1/distances/matrix`` computes that of 64."""

    kind: Literal["distances"]
    refs: list[Pattern] = Field(min_length=1, max_length=jobs.MOST_COMPARED)
    alignment: Alignment = DEFAULT
    layers: list[str] | None = Field(default=None, max_length=jobs.MOST_COMPARED)
    chance: Kept | None = None


class InferenceJob(Body):
    """A probable ancestry, as ``GET /v1/lineage/inferred`` infers it."""

    kind: Literal["inference"]
    refs: list[Pattern] = Field(min_length=1, max_length=jobs.MOST_COMPARED)
    root: RunText | None = None
    alignment: Alignment | None = None
    units: Units | None = None
    by_time: bool = False
    depth: int | None = Field(default=None, ge=1, le=1000)
    samples: int = Field(default=SAMPLES, ge=0, le=MOST_SAMPLES)


class RelatednessJob(Body):
    """Whether two snapshots are related, as ``GET /v1/related`` tests it, with more exchanges."""

    kind: Literal["relatedness"]
    a: RefText
    b: RefText
    tests: int = Field(default=TESTS, ge=1, le=MOST_TESTS)
    seed: int = Field(default=0, ge=0, le=2**53 - 1)


class ExportJob(Body):
    """The file that ``topostrata export`` writes, of some runs with all that they descend from; of all by default."""

    kind: Literal["export"]
    runs: list[RunText] | None = Field(default=None, min_length=1, max_length=jobs.MOST_COMPARED)


_KINDS: dict[str, type[Body]] = {
    "distances": DistancesJob,
    "inference": InferenceJob,
    "relatedness": RelatednessJob,
    "export": ExportJob,
}


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobAnswer,
    responses={200: {"model": JobAnswer}},
    openapi_extra=body_of_kinds(_KINDS),
)
async def post_job(request: Request, archive: ArchiveOf) -> Response:
    """Ask for work that takes long. Whoever asks for the same gets the same job; 200 where it is finished.

    Globs mean the snapshots that they name now. A job that failed is tried anew; an export that is finished is made
    anew.
    """
    kind, asked = await document_of_kinds(request, _KINDS)
    response = await lanes_of(request).work(Lane.QUICK, _submit, request, archive, kind, asked)
    if (workers := request.app.state.workers) is not None:
        workers.call()
    return response


@router.get(
    "/jobs", response_model=page_type("jobs", JobAnswer, "the order in which they were asked for, newest first")
)
def list_jobs(request: Request, archive: ArchiveOf, limit: Limit = PAGE, cursor: NumberCursor = None) -> Response:
    """The jobs that wait, that run, and that were done in the last seven days."""
    entries = archive.jobs.page(limit=limit + 1, before=cursor)
    return page(request, "jobs", entries, limit, str(entries[:limit][-1].number) if entries else "")


@router.get("/jobs/{job}", response_model=JobAnswer)
def get_job(request: Request, archive: ArchiveOf, job: JobId) -> Response:
    """One job: how far it is."""
    return represent(request, archive.jobs.get(job))


@router.get(
    "/jobs/{job}/result",
    response_class=Response,
    responses={
        200: {"content": {JSON: {"schema": {}}, **dict.fromkeys([*MATRICES[1:], jobs.ZIP], BINARY)}},
        406: {},
        409: {},
        413: {},
    },
)
@slow
def get_job_result(
    request: Request,
    archive: ArchiveOf,
    job: JobId,
    nearest: Annotated[
        int | None,
        Query(ge=1, le=MOST_COMPARED, description="Of a matrix: how many nearest snapshots to add for each."),
    ] = None,
    layer: PictureLayer = None,
) -> Response:
    """What came of a job that is finished, in the form that is accepted; 409 before.

    A matrix has the forms of ``GET /v1/distances/matrix``, of which JSON takes a million numbers (413 beyond); an
    export is the file, all else is JSON as its GET route gives it.
    """
    entry = archive.jobs.get(job)
    parts = archive.jobs.result(entry)
    if entry.media_type == jobs.NPZ:
        kind = negotiated(request, MATRICES)
        matrix = DistanceMatrix.from_npz(BytesIO(b"".join(parts)))
        return matrix_response(request, matrix, kind, nearest=nearest, layer=layer)
    if nearest is not None or layer is not None:
        name = "layer" if nearest is None else "nearest"
        raise InvalidInputError(f"{name}: expected a job that computes a matrix, found one of kind {entry.kind}")
    kind = negotiated(request, (entry.media_type or JSON,))
    etag = f'"{entry.id}.{entry.finished_at:%Y%m%dT%H%M%S.%f}"'  # an export may be made anew under the same number
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": etag})
    headers = {"ETag": etag, "Content-Length": str(entry.bytes), "Cache-Control": "private, no-cache"}
    if kind == jobs.ZIP:
        headers["Content-Disposition"] = 'attachment; filename="runs.zip"'
    return StreamingResponse(_begun(parts), media_type=kind, headers=headers)


@router.delete("/jobs/{job}", status_code=204, response_class=Response)
def delete_job(archive: ArchiveOf, job: JobId) -> Response:
    """Cancel a job where it is not done, and forget it with its result."""
    archive.jobs.forget(job)
    return Response(status_code=204)


def _submit(request: Request, archive: Archive, kind: jobs.JobKind, asked: dict[str, Any]) -> Response:
    plan = jobs.plan(archive, kind, asked)
    try:
        job, _ = jobs.submit(archive, kind, plan)
    except LimitError as error:
        raise busy(error.message) from None
    location = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return represent(
        request,
        job,
        status=200 if job.status == "finished" else 202,
        headers={"Location": location, "Retry-After": "1"},
    )


def _begun(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The parts, of which the first is read now: what is wrong with them is told as a problem."""
    first = next(parts, b"")

    def rest() -> Iterator[bytes]:
        yield first
        yield from parts

    return rest()
