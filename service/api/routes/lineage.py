"""Which run descends from which, and how far runs are apart over time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from topostrata.archive import Archive
from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.null_model import Kept
from topostrata.errors import LimitError
from topostrata.lineage.declared import Kinship, Lineage
from topostrata.lineage.exports import to_prov
from topostrata.lineage.inferred import SAMPLES, Inference
from topostrata.lineage.timelines import Timeline
from topostrata.lineage.unit_terms import Units
from topostrata.service.answers.lineage import inference_answer
from topostrata.service.answers.shape import answer_fields, answer_type, shape
from topostrata.service.api.lanes import Route, slow
from topostrata.service.api.representation import (
    GLOB_PATTERN,
    RUN_PATTERN,
    ArchiveOf,
    ReadOf,
    RunId,
    represent,
    represent_text,
)
from topostrata.service.api.routes.distance import KeepQuery
from topostrata.service.api.routes.limits import MOST_COMPARED, MOST_POINTS, check_count

router = APIRouter(tags=["lineage"], route_class=Route)

RunQuery = Annotated[str, Query(description="A run.", pattern=RUN_PATTERN)]
Pattern = Annotated[str, Field(pattern=GLOB_PATTERN)]

InferenceAnswer = shape(
    "InferenceAnswer",
    "A probable ancestry: a tree of runs; ``steps`` has the step at which each run was compared.",
    {"name": str} | answer_fields(Inference) | {"steps": dict[str, int]},
)


@router.get("/runs/{run}/lineage", response_model=answer_type(Lineage))
def get_lineage(
    request: Request,
    archive: ReadOf,
    run: RunId,
    depth: Annotated[
        int | None, Query(ge=0, le=1000, description="How many generations up and down. Default: all.")
    ] = None,
) -> Response:
    """The declared ancestors and descendants of a run."""
    return represent(request, archive.lineage(run, depth=depth))


@router.get("/lineage/common", response_model=answer_type(Kinship))
def get_kinship(request: Request, archive: ReadOf, a: RunQuery, b: RunQuery) -> Response:
    """The nearest common ancestors of two runs, and the ways from there to each of them."""
    return represent(request, archive.kinship(a, b))


@router.get("/lineage", response_model=answer_type(Lineage))
@slow
def get_all_lineage(request: Request, archive: ReadOf) -> Response:
    """The declared descent of all runs."""
    return represent(request, archive.lineage())


_EVENTS = "application/x-ndjson"
FamilyOf = Annotated[
    str | None,
    Query(alias="run", description="The run whose family it is. Default: all runs.", pattern=RUN_PATTERN),
]


@router.get(
    "/lineage/openlineage",
    response_class=Response,
    responses={200: {"content": {_EVENTS: {"schema": {"type": "string"}}}}, 404: {}},
)
@slow
def get_openlineage(request: Request, archive: ReadOf, run: FamilyOf = None) -> Response:
    """The declared descent as events of OpenLineage 2-0-2, a line each: runs, snapshots as their outputs, parents."""
    events = archive.openlineage(run)
    return represent_text(request, "".join(json.dumps(event) + "\n" for event in events), _EVENTS)


@router.get("/lineage/prov", response_model=dict[str, Any], responses={404: {}})
@slow
def get_prov(request: Request, archive: ReadOf, run: FamilyOf = None) -> Response:
    """The declared descent as PROV-JSON, the provenance model of the W3C."""
    return represent(request, to_prov(archive.lineage(run)))


MOST_SAMPLES = 1000  # each costs a tree, while the client waits

InferenceName = Annotated[str, Path(description="What it is stored under.", pattern=RUN_PATTERN)]


@dataclass
class Terms:
    """What is inferred of, and how."""

    refs: Annotated[
        list[Pattern], Query(max_length=MOST_COMPARED, description="Refs or globs, one snapshot of each run.")
    ]
    root: Annotated[
        str | None, Query(description="The run that is the ancestor of all, if it is known.", pattern=RUN_PATTERN)
    ] = None
    alignment: Annotated[
        Alignment | None, Query(description="Default: identity where units are in place, else overlap.")
    ] = None
    units: Annotated[
        Units | None, Query(description="Whether hidden unit i is the same unit in all runs. Default: detected.")
    ] = None
    by_time: Annotated[bool, Query(description="No run descends from a younger one.")] = False
    depth: Annotated[int | None, Query(ge=1, le=1000, description="How many layers are compared. Default: all.")] = None
    samples: Annotated[int, Query(ge=0, le=MOST_SAMPLES, description="Resamples that give support.")] = SAMPLES

    def answer(self, request: Request, archive: Archive, name: str | None) -> Response:
        """The ancestry, stored under a name where there is one."""
        check_count(archive, self.refs)
        stored = archive.infer(
            self.refs,
            name=name,
            root=self.root,
            alignment=self.alignment,
            units=self.units,
            by_time=self.by_time,
            depth=self.depth,
            samples=self.samples,
        )
        return represent(request, stored, inference_answer(stored))


TermsOf = Annotated[Terms, Depends()]


@router.get("/lineage/inferred", response_model=InferenceAnswer)
@slow
def get_inferred(request: Request, archive: ReadOf, terms: TermsOf) -> Response:
    """Which run probably descends from which, inferred from distances; nothing is stored."""
    return terms.answer(request, archive, None)


@router.put("/lineage/inferred/{name}", response_model=InferenceAnswer)
@slow
def put_inferred(request: Request, archive: ArchiveOf, name: InferenceName, terms: TermsOf) -> Response:
    """Infer which run descends from which, and store it under a name; it replaces an earlier one of that name."""
    return terms.answer(request, archive, name)


@router.get("/lineage/inferred/{name}", response_model=InferenceAnswer)
def get_stored_inference(request: Request, archive: ReadOf, name: InferenceName) -> Response:
    """An ancestry that was inferred and stored before."""
    stored = archive.inference(name)
    return represent(request, stored, inference_answer(stored))


@router.get("/runs/{run}/timeline", response_model=answer_type(Timeline))
@slow
def get_timeline(
    request: Request,
    archive: ReadOf,
    run: RunId,
    other: Annotated[
        str | None, Query(alias="with", description="Another run; default: its own past.", pattern=RUN_PATTERN)
    ] = None,
    alignment: Annotated[Alignment | None, Query(description=f"Default: {DEFAULT}; identity for one run.")] = None,
    lag: Annotated[
        int | None, Query(ge=1, le=MOST_POINTS, description="Compare with the snapshot this many before.")
    ] = None,
    chance: Annotated[
        Kept | None,
        Query(description="Add the level of independent networks of the same degrees (with z) or density."),
    ] = None,
    keep: KeepQuery = True,
) -> Response:
    """The distance of two runs at each step that both have, or of a run from its own past."""
    points = archive.run(run).snapshots
    if points > MOST_POINTS:
        raise LimitError(f"timeline: expected a run of at most {MOST_POINTS} snapshots in a request, found {points}")
    return represent(request, archive.timeline(run, other, alignment=alignment, lag=lag, chance=chance, keep=keep))
