"""Distances, evolution, lineage: what is computed from the snapshots."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from stratigraph.refs import MAX_STEP
from stratigraph.service.answers import (
    DistanceAnswer,
    EvolutionAnswer,
    LineageAnswer,
    distance_answer,
    evolution_answer,
    lineage_answer,
)
from stratigraph.service.api.representation import ArchiveOf, represent
from stratigraph.service.api.routes.runs import RunId

router = APIRouter(tags=["answers"])

RefQuery = Annotated[str, Query(description="A snapshot: run@STEP, run@first, run@last, or run (its last).")]
StepQuery = Annotated[int | None, Query(ge=0, le=MAX_STEP)]


@router.get("/distances", response_model=DistanceAnswer)
def get_distance(
    request: Request,
    archive: ArchiveOf,
    a: RefQuery,
    b: RefQuery,
    alignment: Annotated[Literal["reference", "identity"], Query(description="Which unit is compared with which.")],
) -> Response:
    """NNSTD of two snapshots."""
    one, other = archive.snapshot(a), archive.snapshot(b)
    found = distance_answer(one.id, other.id, archive.nnstd(one.id, other.id, alignment=alignment))
    return represent(request, found)


@router.get("/runs/{run}/evolution", response_model=EvolutionAnswer)
def get_evolution(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    from_: Annotated[int | None, Query(alias="from", ge=0, le=MAX_STEP, description="Default: the first.")] = None,
    to: Annotated[int | None, Query(ge=0, le=MAX_STEP, description="Default: the last.")] = None,
) -> Response:
    """What survived, was regrown, died and was born between two steps."""
    return represent(request, evolution_answer(archive.evolution(run, from_, to)))


@router.get("/runs/{run}/lineage", response_model=LineageAnswer)
def get_lineage(request: Request, archive: ArchiveOf, run: RunId) -> Response:
    """The declared ancestors and descendants of a run."""
    return represent(request, lineage_answer(archive.lineage(run)))
