"""Metrics of runs over their steps."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from topostrata.archive import Archive
from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.safe_tensors import parse_json
from topostrata.measures.run_flow import MOMENTS, FlowCorrelation, RunGradientFlow
from topostrata.refs import check_run_id
from topostrata.runs import StepMetrics, check_epoch
from topostrata.service.answers.shape import answer_type, shape
from topostrata.service.api.lanes import Lane, lanes_of, routes_of, slow
from topostrata.service.api.representation import (
    GLOB_PATTERN,
    PAGE,
    ArchiveOf,
    Limit,
    NumberCursor,
    ReadOf,
    RunId,
    StepPath,
    page,
    page_type,
    read_body,
    represent,
)

router = routes_of("metrics")

StepMetricsAnswer = answer_type(StepMetrics)
RunFlowAnswer: Any = answer_type(RunGradientFlow)
CorrelationAnswer: Any = answer_type(FlowCorrelation)

MetricQuery = Annotated[str | None, Query(description="Only the metric of this name.")]
LayerQuery = Annotated[str | None, Query(description="Only those of the layer or parameter of this name.")]

FlowAnswer = shape(
    "GradientFlowsAnswer",
    "The gradient flow of runs over their training, and how it goes with a metric.",
    {"runs": list[RunFlowAnswer], "correlations": list[CorrelationAnswer]},
)

_RUNS = GLOB_PATTERN.partition("(")[0] + "$"
RunsQuery = Annotated[
    list[Annotated[str, Field(pattern=_RUNS)]], Query(alias="run", max_length=64, description="Runs and globs of runs.")
]
CorrelateQuery = Annotated[str | None, Query(description="Kendall's tau with this metric at the end of the runs.")]
MomentsQuery = Annotated[int, Query(ge=1, le=1000, description="The steps over which it is averaged.")]

_MOST_TEXT = 4 * 2**20  # bytes; parsing holds up everybody else meanwhile
_KEYS = {"epoch", "recorded_at", "metrics", "layer_metrics"}
_NUMBERS = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
    "additionalProperties": {"type": "number"},
    "maxProperties": 64,
}
_SOME = {"type": "object", "minProperties": 1}
_OF_LAYERS = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z0-9._-]{1,256}$"},
    "additionalProperties": _NUMBERS | _SOME,
}
_BODY = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "epoch": {"type": ["number", "null"]},
        "recorded_at": {"type": ["string", "null"], "format": "date-time"},
        "metrics": {**_NUMBERS, "type": ["object", "null"]},
        "layer_metrics": {**_OF_LAYERS, "type": ["object", "null"]},
    },
    "anyOf": [
        {"required": ["metrics"], "properties": {"metrics": _SOME}},
        {"required": ["layer_metrics"], "properties": {"layer_metrics": _SOME}},
    ],
}


@router.get("/runs/{run}/metrics", response_model=page_type("metrics", StepMetricsAnswer, "the order of their steps"))
def list_metrics(
    request: Request,
    archive: ReadOf,
    run: RunId,
    metric: MetricQuery = None,
    layer: LayerQuery = None,
    of_snapshots: Annotated[bool, Query(description="With those of its snapshots.")] = True,
    limit: Limit = PAGE,
    cursor: NumberCursor = None,
) -> Response:
    """The metrics of a run over its steps, of its snapshots and beside them, also those of layers and parameters."""
    after = -1 if cursor is None else cursor
    if of_snapshots:
        entries = archive.metrics_page(run, metric=metric, layer=layer, limit=limit + 1, after=after)
    else:
        archive.run(run)
        beside = (entry for entry in archive.step_metrics(run) if entry.step > after)
        entries = list(islice((y for entry in beside if (y := entry.only(metric, layer))), limit + 1))
    return page(request, "metrics", entries, limit, str(entries[:limit][-1].step) if entries else "")


@router.get("/gradient-flow", response_model=FlowAnswer)
@slow
def get_gradient_flow(
    request: Request,
    archive: ReadOf,
    runs: RunsQuery,
    correlate: CorrelateQuery = None,
    moments: MomentsQuery = MOMENTS,
) -> Response:
    """The gradient flow of runs, averaged over their training; with ``correlate`` how it goes with a metric."""
    flows = archive.gradient_flows(runs, moments=moments)
    correlations = archive.flow_correlations(correlate, runs, moments=moments) if correlate else []
    return represent(request, {"runs": flows, "correlations": correlations})


@router.put(
    "/runs/{run}/metrics/{step}",
    response_model=StepMetricsAnswer,
    responses={201: {"model": StepMetricsAnswer}, 409: {}, 413: {}, 415: {}},
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
)
async def put_metrics(request: Request, archive: ArchiveOf, run: RunId, step: StepPath) -> Response:
    """Store numbers of a run at a step where it may have a snapshot or none. The same again changes nothing."""
    check_run_id(run)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"expected a body of application/json, found {kind}")
    async with read_body(request, min(_MOST_TEXT, archive.settings.max_body_bytes)) as body:
        return await lanes_of(request).work(Lane.QUICK, _store, request, archive, run, step, body.getvalue())


def _store(request: Request, archive: Archive, run: str, step: int, text: bytes) -> Response:
    body = parse_json(text, where="body")
    if not isinstance(body, dict) or not body.keys() <= _KEYS:
        names = ", ".join(sorted(map(str, body)))[:200] if isinstance(body, dict) else str(body)[:80]
        raise InvalidInputError(f"body: expected an object of {', '.join(sorted(_KEYS))}, found {names}")
    of_layers = body.get("layer_metrics")
    empty = [name for name, numbers in of_layers.items() if not numbers] if isinstance(of_layers, dict) else []
    if empty:
        raise InvalidInputError(f"layer_metrics: expected layers with metrics, found {empty[0][:80]!r} without any")
    outcome = archive.push_metrics(
        run,
        step,
        body.get("metrics"),
        layer_metrics=body.get("layer_metrics"),
        epoch=check_epoch(body.get("epoch")),
        recorded_at=_time(body.get("recorded_at")),
    )
    (entry,) = archive.metrics_page(run, limit=1, after=step - 1)
    return represent(request, entry, status=201 if outcome == "added" else 200)


def _time(text: Any) -> datetime | None:
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except (TypeError, ValueError):
        moment = datetime.min  # noqa: DTZ901 - has no zone, so that it is refused below
    if moment is not None and moment.tzinfo is None:
        raise InvalidInputError(f"recorded_at: expected a time with its zone in ISO 8601, found {str(text)[:80]!r}")
    return moment
