"""Runs and their snapshots."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from threading import BoundedSemaphore
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator, Field
from starlette.exceptions import HTTPException

from topostrata.archive import Archive
from topostrata.errors import ChangedError, ConflictError, LimitError
from topostrata.ingest.formats.reading import DEFAULT, read_snapshot_bytes
from topostrata.memory import most_memory
from topostrata.projections import projection_of
from topostrata.refs import MAX_STEP, Ref, check_run_id
from topostrata.runs import Connections, How, Parent, Run, RunFilter, RunLayer, Snapshot, Status, Unprojected
from topostrata.service.answers import values
from topostrata.service.answers.runs import RunLayerAnswer, run_layer_answer
from topostrata.service.answers.shape import answer_type, as_json, shape
from topostrata.service.api.bodies import Body, body_of, document, whole
from topostrata.service.api.lanes import Lane, lanes_of, routes_of, slow
from topostrata.service.api.representation import (
    GLOB_PATTERN,
    PAGE,
    RUN_PATTERN,
    ArchiveOf,
    Limit,
    NumberCursor,
    ReadOf,
    RunCursor,
    RunId,
    StepPath,
    is_stale,
    page,
    page_type,
    read_body,
    represent,
    represent_text,
)
from topostrata.store.runs import MAX_PAGE

router = routes_of("runs")

_UNPACKED = 4  # the largest unpacked body, as a multiple of the largest body
_PER_CONNECTION = 8  # of the largest body; a connection takes some 64 bytes of memory while it is decoded
_AT_ONCE = 2  # bodies that are unpacked at once; each takes several times its size in memory
_DECODING = BoundedSemaphore(_AT_ONCE)

_TOML = "application/toml"
_MOST_LISTED = 1000  # tags, or parents

_BODIES = {
    "application/octet-stream",
    "application/x-npz",
    "application/zip",
    "application/vnd.safetensors",
    "application/vnd.topostrata.bits",
}


RunAnswer, SnapshotAnswer = answer_type(Run), answer_type(Snapshot)
SnapshotsAnswer = shape("SnapshotsAnswer", "Snapshots in the order of their refs.", {"snapshots": list[SnapshotAnswer]})  # type: ignore[valid-type]
LayersAnswer = shape("LayersAnswer", "The layers of a run, in its order.", {"layers": list[RunLayerAnswer]})
UnprojectedAnswer = shape(
    "UnprojectedAnswer",
    "Layers that Cypher does not see at all steps of their run.",
    {"layers": list[answer_type(Unprojected)]},  # type: ignore[misc]
)
Pattern = Annotated[str, Field(pattern=GLOB_PATTERN)]


Tag = Annotated[str, Field(json_schema_extra={"pattern": r"^[^\s,\x00-\x1f\x7f-\x9f\ufeff]{1,100}$"})]


StepBound = Annotated[int | None, Query(description="With a snapshot at this step, or beyond.", ge=0, le=MAX_STEP)]
MetricBound = Annotated[
    float | None, Query(description="With `metric`: of this value, or beyond.", allow_inf_nan=False)
]


ProjectionQuery = Annotated[
    list[str] | None,
    Query(
        max_length=_MOST_LISTED,
        description="Layers whose connections Cypher can see: names, `none`, `all`, the default, or `last N` for what "
        "lived in the newest N snapshots, of all layers. The first snapshot of a run decides for all. A single layer "
        "of such a name is to be named twice.",
    ),
]


_FOLLOW: dict[str, Any] = {
    "headers": {
        values.CONNECTIONS: {
            "description": "`follow`: connections of the snapshot are not in the graph yet.",
            "schema": {"type": "string"},
        }
    }
}
ConnectionsQuery = Annotated[
    Connections,
    Query(
        description="When connections are drawn for Cypher to see: `now`, before the answer, or `later`, after it; the "
        "masks are stored before it."
    ),
]


class ParentBody(Body):
    """The snapshot that a run started from, and how the run departed from it."""

    parent: Annotated[str, Field(json_schema_extra={"pattern": RUN_PATTERN})]  # check_run_id says more
    step: Annotated[int, Field(ge=0, le=MAX_STEP), BeforeValidator(whole)]
    how: How


class RunGain(Body):
    """What a run gains: tags and parents are added to those that it has, the status is set."""

    tags: list[Tag] = Field(default=[], max_length=_MOST_LISTED, fail_fast=True)
    parents: list[ParentBody] = Field(default=[], max_length=_MOST_LISTED, fail_fast=True)
    status: Status | None = None

    def descent(self) -> list[Parent]:
        """The parents as values."""
        return [Parent(check_run_id(before.parent), before.step, before.how) for before in self.parents]


class FormerParent(Body):
    """The snapshot that a run is no longer said to have started from."""

    parent: Annotated[str, Field(json_schema_extra={"pattern": RUN_PATTERN})]
    step: Annotated[int, Field(ge=0, le=MAX_STEP), BeforeValidator(whole)]


class RunChange(RunGain):
    """What a run gains, and what it loses: tags and parents; another name."""

    name: str | None = None
    without_tags: list[Tag] = Field(default=[], max_length=_MOST_LISTED, fail_fast=True)
    without_parents: list[FormerParent] = Field(default=[], max_length=_MOST_LISTED, fail_fast=True)


class NewRun(RunGain):
    """All that is known of a run before its first snapshot. The name is its id by default, the time now."""

    name: str | None = None
    config: dict[str, Any] | None = None
    created_at: AwareDatetime | None = None

    def conflict(self, run: Run) -> str | None:
        """What the body states of the run that is not so; None where there is nothing."""
        stated = {
            "name": self.name,
            "config": self.config,
            "created_at": self.created_at and _in_milliseconds(self.created_at),
            "status": self.status,
        }
        differ = [name for name, value in stated.items() if value is not None and value != getattr(run, name)]
        differ += ["tags"] if not set(self.tags) <= set(run.tags) else []
        differ += ["parents"] if not set(self.descent()) <= set(run.parents) else []
        return ", ".join(differ) or None


def _in_milliseconds(time: datetime) -> datetime:
    """As archives keep it."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


@router.get("/runs", response_model=page_type("runs", RunAnswer, "the order of their ids"))
def list_runs(
    request: Request,
    archive: ReadOf,
    limit: Limit = PAGE,
    cursor: RunCursor = None,
    tag: Annotated[list[Tag] | None, Query(max_length=_MOST_LISTED, description="With all of these tags.")] = None,
    status: Annotated[Status | None, Query(description="In this state.")] = None,
    step_from: StepBound = None,
    step_to: StepBound = None,
    metric: Annotated[str | None, Query(description="Whose last snapshot has this metric.")] = None,
    at_least: MetricBound = None,
    at_most: MetricBound = None,
) -> Response:
    """All runs, or those that meet all that is asked: tags, status, steps, a metric of the last snapshot."""
    only = RunFilter(tuple(tag or ()), status, step_from, step_to, metric, at_least, at_most)
    runs = archive.runs_page(limit=limit + 1, after=cursor or "", only=only)
    return page(request, "runs", runs, limit, runs[:limit][-1].id if runs else "")


@router.get("/runs/{run}", response_model=RunAnswer)
def get_run(request: Request, archive: ReadOf, run: RunId) -> Response:
    """One run."""
    return represent(request, archive.run(run))


@router.put(
    "/runs/{run}",
    response_model=RunAnswer,
    responses={201: {"model": RunAnswer}, 409: {}, 413: {}, 415: {}},
    openapi_extra=body_of(NewRun),
)
async def put_run(request: Request, archive: ArchiveOf, run: RunId) -> Response:
    """Make a run before its first snapshot. Where it is there with all that the body states, nothing changes."""
    check_run_id(run)
    return await lanes_of(request).work(Lane.QUICK, _create, request, archive, run, await document(request, NewRun))


@router.patch(
    "/runs/{run}",
    response_model=RunAnswer,
    responses={409: {}, 412: {}, 413: {}, 415: {}},
    openapi_extra=body_of(RunChange),
)
async def patch_run(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    dry_run: Annotated[bool, Query(description="Say in the header whether it would be changed; it is not.")] = False,
) -> Response:
    """Add tags and parents to a run or take them away, name it, set its status. ``If-Match`` gives the state seen.

    ``Topostrata-Changed`` of the answer says whether that changed it.
    """
    check_run_id(run)
    body = await document(request, RunChange)
    return await lanes_of(request).work(Lane.QUICK, _change, request, archive, run, body, dry_run)


@router.get(
    "/runs/{run}/wiring",
    response_class=Response,
    responses={200: {"content": {_TOML: {"schema": {"type": "string"}}}}},
)
def get_wiring(request: Request, archive: ReadOf, run: RunId) -> Response:
    """The wiring of a run, which layer feeds which, as the text file that docs/wiring.md describes."""
    return represent_text(request, archive.wiring(run).to_toml(), _TOML)


@router.get("/runs/{run}/layers", response_model=LayersAnswer)
def list_layers(request: Request, archive: ReadOf, run: RunId) -> Response:
    """The layers of a run, and how far their connections stand in the graph; none before its first snapshot."""
    archive.run(run)
    layers = archive.layers(run)
    return represent(request, layers, {"layers": [run_layer_answer(layer) for layer in layers]})


@router.get("/unprojected", response_model=UnprojectedAnswer)
def list_unprojected(request: Request, archive: ReadOf) -> Response:
    """The layers whose connections are not in the graph at all steps of their run: what Cypher does not see."""
    layers = archive.unprojected()
    return represent(request, layers, {"layers": as_json(layers)})


@router.get("/snapshots", response_model=SnapshotsAnswer)
@slow
def find_snapshots(
    request: Request,
    archive: ReadOf,
    refs: Annotated[list[Pattern], Query(max_length=MAX_PAGE, description="Refs or globs such as `w*@last`.")],
) -> Response:
    """The snapshots that refs and globs name, in their order, each once."""
    chosen = archive.expand(refs)
    if len(chosen) > MAX_PAGE:
        raise LimitError(f"refs: expected at most {MAX_PAGE} snapshots in one request, found {len(chosen)}")
    entries = archive.recorded(*chosen)
    return represent(request, entries, {"snapshots": as_json([entry.snapshot for entry in entries])})


@router.get("/runs/{run}/snapshots", response_model=page_type("snapshots", SnapshotAnswer, "the order of their steps"))
def list_snapshots(
    request: Request, archive: ReadOf, run: RunId, limit: Limit = PAGE, cursor: NumberCursor = None
) -> Response:
    """The snapshots of a run."""
    snapshots = archive.snapshots_page(run, limit=limit + 1, after=-1 if cursor is None else cursor)
    return page(request, "snapshots", snapshots, limit, str(snapshots[:limit][-1].step) if snapshots else "")


@router.get("/runs/{run}/snapshots/{step}", response_model=SnapshotAnswer)
def get_snapshot(request: Request, archive: ReadOf, run: RunId, step: StepPath) -> Response:
    """One snapshot."""
    return represent(request, archive.snapshot(Ref(run, step)))


@router.put(
    "/runs/{run}/snapshots/{step}",
    response_model=SnapshotAnswer,
    responses={200: _FOLLOW, 201: {"model": SnapshotAnswer, **_FOLLOW}, 409: {}, 413: {}, 415: {}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(_BODIES)},
        }
    },
)
async def put_snapshot(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    step: StepPath,
    projection: ProjectionQuery = None,
    connections: ConnectionsQuery = "now",
) -> Response:
    """Store one snapshot. docs/snapshot-file.md describes the body. Sending the same snapshot again changes nothing.

    With ``connections=later`` the answer comes when the masks are on the disk; ``Topostrata-Connections: follow`` says
    that connections of the snapshot are not in the graph yet: they are once ``projected_step`` of the layers (``GET
    /v1/runs/{run}/layers``) has come so far.
    """
    check_run_id(run)
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind not in _BODIES:
        raise HTTPException(415, f"expected a body of {', '.join(sorted(_BODIES))}, found {kind}")
    async with read_body(request, archive.settings.max_body_bytes) as body:
        answer = await lanes_of(request).work(
            Lane.UPLOAD, _store, request, archive, Ref(run, step), body, projection, connections
        )
    if connections == "later" and (drawers := request.app.state.drawers) is not None:
        drawers.call()
    return answer


def _create(request: Request, archive: Archive, run: str, body: NewRun) -> Response:
    status = 201
    try:
        archive.create_run(
            run,
            name=body.name,
            config=body.config,
            tags=body.tags,
            parents=body.descent(),
            status=body.status or "open",
            created_at=body.created_at,
        )
    except ConflictError:
        if not archive.has_run(run):
            raise
        status = 200
        differs = body.conflict(archive.run(run))
        if differs is not None:
            raise ConflictError(
                f"run {run!r}: expected no run of this id or one with all that is stated, found another {differs}",
                hint="PATCH changes tags, parents, name and status; the rest of a run never changes",
            ) from None
    return represent(request, archive.run(run), status=status, headers=_at(request, f"/v1/runs/{run}"))


def _change(request: Request, archive: Archive, run: str, body: RunChange, dry_run: bool) -> Response:
    before = archive.run(run)
    if is_stale(request, before):
        raise ChangedError(
            f"run {run!r}: expected the state whose entity tag If-Match gives, found another",
            hint="get the run again and decide anew",
        )
    expected = before if "if-match" in request.headers else None
    changed = archive.update_run(
        run,
        tags=body.tags,
        parents=body.descent(),
        status=body.status,
        name=body.name,
        without_tags=body.without_tags,
        without_parents=[Ref(check_run_id(former.parent), former.step) for former in body.without_parents],
        expected=expected,
        dry_run=dry_run,
    )
    return represent(request, archive.run(run), headers={values.CHANGED: "true" if changed else "false"})


def _store(
    request: Request,
    archive: Archive,
    ref: Ref,
    body: BytesIO,
    projection: list[str] | None = None,
    connections: Connections = "now",
) -> Response:
    most = archive.settings.max_body_bytes
    memory = most_memory() // _AT_ONCE
    limits = replace(DEFAULT, total_bytes=_UNPACKED * most, connections=most // _PER_CONNECTION, memory=memory)
    with _DECODING:
        frame = read_snapshot_bytes(body, limits=limits)
    assert isinstance(ref.step, int)  # noqa: S101 - made from a path parameter
    outcome = archive.push(
        ref.run,
        ref.step,
        frame.topology,
        epoch=frame.epoch,
        metrics=frame.metrics,
        layer_metrics=frame.layer_metrics,
        recorded_at=frame.recorded_at,
        projection=projection_of(projection or ()),
        connections=connections,
    )
    headers = _at(request, f"/v1/runs/{ref.run}/snapshots/{ref.step}")
    if connections == "later" and any(_follows(layer, ref.step) for layer in archive.layers(ref.run)):
        headers[values.CONNECTIONS] = "follow"
    return represent(request, archive.snapshot(ref), status=201 if outcome == "added" else 200, headers=headers)


def _follows(layer: RunLayer, step: int) -> bool:
    return layer.projection == "follow" and (layer.projected_step is None or layer.projected_step < step)


def _at(request: Request, path: str) -> dict[str, str]:
    return {"Location": f"{request.scope.get('root_path', '')}{path}"}
