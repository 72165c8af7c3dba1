"""Runs and their snapshots."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from threading import BoundedSemaphore

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from topostrata.archive import Archive
from topostrata.errors import LimitError
from topostrata.ingest.formats.reading import DEFAULT, read_snapshot_bytes
from topostrata.memory import most_memory
from topostrata.refs import Ref, check_run_id
from topostrata.runs import Run, Snapshot
from topostrata.service.answers.shape import answer_type
from topostrata.service.api.representation import (
    PAGE,
    ArchiveOf,
    Cursor,
    Limit,
    RunId,
    StepPath,
    page,
    page_type,
    read_cursor,
    read_number,
    represent,
    represent_text,
)

router = APIRouter(tags=["runs"])

_UNPACKED = 4  # the largest unpacked body, as a multiple of the largest body
_PER_CONNECTION = 8  # of the largest body; a connection takes some 64 bytes of memory while it is decoded
_AT_ONCE = 2  # bodies that are unpacked at once; each takes several times its size in memory
_DECODING = BoundedSemaphore(_AT_ONCE)

_TOML = "application/toml"

_BODIES = {"application/octet-stream", "application/x-npz", "application/zip", "application/vnd.safetensors"}


RunAnswer, SnapshotAnswer = answer_type(Run), answer_type(Snapshot)


@router.get("/runs", response_model=page_type("runs", RunAnswer, "the order of their ids"))
def list_runs(request: Request, archive: ArchiveOf, limit: Limit = PAGE, cursor: Cursor = None) -> Response:
    """All runs."""
    runs = archive.runs_page(limit=limit + 1, after=read_cursor(cursor) or "")
    return page(request, "runs", runs, limit, runs[:limit][-1].id if runs else "")


@router.get("/runs/{run}", response_model=RunAnswer)
def get_run(request: Request, archive: ArchiveOf, run: RunId) -> Response:
    """One run."""
    return represent(request, archive.run(run))


@router.get(
    "/runs/{run}/wiring",
    response_class=Response,
    responses={200: {"content": {_TOML: {"schema": {"type": "string"}}}}},
)
def get_wiring(request: Request, archive: ArchiveOf, run: RunId) -> Response:
    """The wiring of a run, which layer feeds which, as the text file that docs/wiring.md describes."""
    return represent_text(request, archive.wiring(run).to_toml(), _TOML)


@router.get("/runs/{run}/snapshots", response_model=page_type("snapshots", SnapshotAnswer, "the order of their steps"))
def list_snapshots(
    request: Request, archive: ArchiveOf, run: RunId, limit: Limit = PAGE, cursor: Cursor = None
) -> Response:
    """The snapshots of a run."""
    after = read_number(cursor)
    snapshots = archive.snapshots_page(run, limit=limit + 1, after=-1 if after is None else after)
    return page(request, "snapshots", snapshots, limit, str(snapshots[:limit][-1].step) if snapshots else "")


@router.get("/runs/{run}/snapshots/{step}", response_model=SnapshotAnswer)
def get_snapshot(request: Request, archive: ArchiveOf, run: RunId, step: StepPath) -> Response:
    """One snapshot."""
    return represent(request, archive.snapshot(Ref(run, step)))


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
    """Store one snapshot. docs/snapshot-file.md describes the body. Sending the same snapshot again changes nothing."""
    check_run_id(run)
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind not in _BODIES:
        raise HTTPException(415, f"expected a body of {', '.join(sorted(_BODIES))}, found {kind}")
    body = await _body(request, archive.settings.max_body_bytes)
    return await run_in_threadpool(_store, request, archive, Ref(run, step), body)


def _store(request: Request, archive: Archive, ref: Ref, body: bytes) -> Response:
    most = archive.settings.max_body_bytes
    memory = most_memory() // _AT_ONCE
    limits = replace(DEFAULT, total_bytes=_UNPACKED * most, connections=most // _PER_CONNECTION, memory=memory)
    with _DECODING:
        frame = read_snapshot_bytes(BytesIO(body), limits=limits)
    assert isinstance(ref.step, int)  # noqa: S101 - made from a path parameter
    outcome = archive.push(
        ref.run,
        ref.step,
        frame.topology,
        epoch=frame.epoch,
        metrics=frame.metrics,
        layer_metrics=frame.layer_metrics,
        recorded_at=frame.recorded_at,
    )
    where = f"/v1/runs/{ref.run}/snapshots/{ref.step}"
    status = 201 if outcome == "added" else 200
    return represent(request, archive.snapshot(ref), status=status, headers={"Location": where})


async def _body(request: Request, most: int) -> bytes:
    """The body of a request; an error as soon as its declared or its counted length is over the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise LimitError(f"body: expected at most {most} bytes, found {declared} declared")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise LimitError(f"body: expected at most {most} bytes, found more")
    return bytes(body)
