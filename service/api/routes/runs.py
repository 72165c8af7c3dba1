"""Runs and their snapshots."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from threading import BoundedSemaphore
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from topostrata.archive import Archive
from topostrata.errors import LimitError
from topostrata.ingest.formats.reading import DEFAULT, read_snapshot_bytes
from topostrata.refs import MAX_STEP, Ref, check_run_id
from topostrata.service.answers.runs import RunAnswer, SnapshotAnswer, run_answer, snapshot_answer
from topostrata.service.api.representation import (
    PAGE,
    ArchiveOf,
    Cursor,
    Limit,
    page,
    read_cursor,
    read_number,
    represent,
)

router = APIRouter(tags=["runs"])

_UNPACKED = 4  # what a body may unpack to, as a multiple of the largest body
_DECODING = BoundedSemaphore(2)  # bodies that are unpacked at once, since each takes several times its size

RunId = Annotated[str, Path(description="The run's id.", max_length=128)]
StepPath = Annotated[int, Path(ge=0, le=MAX_STEP, description="The step of the snapshot.")]

_BODIES = {"application/octet-stream", "application/x-npz", "application/zip", "application/vnd.safetensors"}


class RunsPage(TypedDict):
    """A page of runs in the order of their ids; ``next`` is where the following page is."""

    runs: list[RunAnswer]
    next: str | None


class SnapshotsPage(TypedDict):
    """A page of a run's snapshots in the order of their steps."""

    snapshots: list[SnapshotAnswer]
    next: str | None


@router.get("/runs", response_model=RunsPage)
def list_runs(request: Request, archive: ArchiveOf, limit: Limit = PAGE, cursor: Cursor = None) -> Response:
    """All runs."""
    found = [run_answer(run) for run in archive.runs(limit=limit + 1, after=read_cursor(cursor) or "")]
    return page(request, "runs", found, limit, found[:limit][-1]["run"] if found else "")


@router.get("/runs/{run}", response_model=RunAnswer)
def get_run(request: Request, archive: ArchiveOf, run: RunId) -> Response:
    """One run."""
    return represent(request, run_answer(archive.run(run)))


@router.get("/runs/{run}/snapshots", response_model=SnapshotsPage)
def list_snapshots(
    request: Request, archive: ArchiveOf, run: RunId, limit: Limit = PAGE, cursor: Cursor = None
) -> Response:
    """The snapshots of a run."""
    after = read_number(cursor)
    snapshots = archive.snapshots(run, limit=limit + 1, after=-1 if after is None else after)
    found = [snapshot_answer(one) for one in snapshots]
    return page(request, "snapshots", found, limit, str(found[:limit][-1]["step"]) if found else "")


@router.get("/runs/{run}/snapshots/{step}", response_model=SnapshotAnswer)
def get_snapshot(request: Request, archive: ArchiveOf, run: RunId, step: StepPath) -> Response:
    """One snapshot."""
    return represent(request, snapshot_answer(archive.snapshot(Ref(run, step))))


@router.put(
    "/runs/{run}/snapshots/{step}",
    response_model=SnapshotAnswer,
    responses={201: {"model": SnapshotAnswer}, 409: {}, 413: {}, 415: {}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(_BODIES)},
        }
    },
)
async def put_snapshot(request: Request, archive: ArchiveOf, run: RunId, step: StepPath) -> Response:
    """Store one snapshot: a body as docs/snapshot-file.md describes. The same again changes nothing."""
    check_run_id(run)
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind not in _BODIES:
        raise HTTPException(415, f"expected a body of {', '.join(sorted(_BODIES))}, found {kind}")
    body = await _body(request, archive.settings.max_body_bytes)
    return await run_in_threadpool(_store, request, archive, Ref(run, step), body)


def _store(request: Request, archive: Archive, ref: Ref, body: bytes) -> Response:
    most = archive.settings.max_body_bytes
    limits = replace(DEFAULT, total_bytes=_UNPACKED * most, connections=_UNPACKED * most // 8)
    with _DECODING:
        found = read_snapshot_bytes(BytesIO(body), limits=limits)
    assert isinstance(ref.step, int)  # noqa: S101 - made from a path parameter
    outcome = archive.push(
        ref.run,
        ref.step,
        found.topology,
        epoch=found.epoch,
        metrics=found.metrics,
        recorded_at=found.recorded_at,
    )
    where = f"/v1/runs/{ref.run}/snapshots/{ref.step}"
    status = 201 if outcome == "added" else 200
    return represent(request, snapshot_answer(archive.snapshot(ref)), status=status, headers={"Location": where})


async def _body(request: Request, most: int) -> bytes:
    """The body, refused as soon as its declared or its counted length is over the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise LimitError(f"body: expected at most {most} bytes, found {declared} declared")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise LimitError(f"body: expected at most {most} bytes, found more")
    return bytes(body)
