"""Distances, evolution, lineage: what is computed from the snapshots."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from typing_extensions import TypedDict

from topostrata.archive import Archive
from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.errors import LimitError
from topostrata.evolution.between import Status
from topostrata.refs import MAX_STEP, Ref
from topostrata.service.answers.distance import DistanceAnswer, DistancesAnswer, distance_answer, distances_answer
from topostrata.service.answers.evolution import (
    ConnectionAnswer,
    EvolutionAnswer,
    HistoryAnswer,
    StructureAnswer,
    SurvivalAnswer,
    connections_answer,
    evolution_answer,
    history_answer,
    structure_answer,
    survival_answer,
)
from topostrata.service.answers.lineage import (
    InferenceAnswer,
    KinshipAnswer,
    LineageAnswer,
    TimelineAnswer,
    inference_answer,
    kinship_answer,
    lineage_answer,
    timeline_answer,
)
from topostrata.service.api.representation import PAGE, ArchiveOf, Cursor, Limit, page, read_number, represent
from topostrata.service.api.routes.runs import RunId, StepPath

router = APIRouter(tags=["answers"])

MOST_COMPARED = 64  # a request computes n^2 / 2 distances while somebody waits
MOST_POINTS = 500  # likewise, one distance each

RefQuery = Annotated[str, Query(description="A snapshot: run@STEP, run@first, run@last, or run (its last).")]
RunQuery = Annotated[str, Query(description="A run.", max_length=128)]
FromQuery = Annotated[int | None, Query(alias="from", ge=0, le=MAX_STEP, description="Default: the first.")]
ToQuery = Annotated[int | None, Query(ge=0, le=MAX_STEP, description="Default: the last.")]
ThroughParents = Annotated[bool, Query(description="Begin in the runs that this one resumed or was forked from.")]


class ConnectionsPage(TypedDict):
    """A page of connections in the order of their targets."""

    connections: list[ConnectionAnswer]
    next: str | None


@router.get("/distances", response_model=DistanceAnswer)
def get_distance(
    request: Request,
    archive: ArchiveOf,
    a: RefQuery,
    b: RefQuery,
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    chance: Annotated[bool, Query(description="Add the level that independent layers would have.")] = False,
) -> Response:
    """NNSTD of two snapshots."""
    one, other = archive.snapshot(a), archive.snapshot(b)
    found = distance_answer(
        one.id, other.id, archive.nnstd(one.id, other.id, alignment=alignment, chance=chance, keep=False)
    )
    return represent(request, found)


@router.get("/distances/matrix", response_model=DistancesAnswer)
def get_distances(
    request: Request,
    archive: ArchiveOf,
    refs: Annotated[list[str], Query(max_length=MOST_COMPARED, description="Refs or globs such as `w*@last`.")],
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    nearest: Annotated[int | None, Query(ge=1, description="Add the nearest of each, so many.")] = None,
) -> Response:
    """The distances of all pairs of some snapshots, their clusters, and an order in which like ones stand together."""
    _check_count(archive, refs)
    return represent(
        request, distances_answer(archive.distances(refs, alignment=alignment, keep=False), nearest=nearest)
    )


@router.get("/runs/{run}/evolution", response_model=EvolutionAnswer)
def get_evolution(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    from_: FromQuery = None,
    to: ToQuery = None,
    through_parents: ThroughParents = False,
) -> Response:
    """What survived, was regrown, died and was born between two steps."""
    return represent(request, evolution_answer(archive.evolution(run, from_, to, through_parents=through_parents)))


@router.get("/runs/{run}/history", response_model=HistoryAnswer)
def get_history(request: Request, archive: ArchiveOf, run: RunId, through_parents: ThroughParents = False) -> Response:
    """Births, deaths, regrowth and exploration at every snapshot of a run."""
    return represent(request, history_answer(archive.history(run, through_parents=through_parents)))


@router.get("/runs/{run}/survival", response_model=SurvivalAnswer)
def get_survival(
    request: Request, archive: ArchiveOf, run: RunId, from_: FromQuery = None, through_parents: ThroughParents = False
) -> Response:
    """What is left of the connections alive at a step, and how long connections live."""
    return represent(request, survival_answer(archive.history(run, through_parents=through_parents), from_))


@router.get("/runs/{run}/snapshots/{step}/structure", response_model=StructureAnswer)
def get_structure(request: Request, archive: ArchiveOf, run: RunId, step: StepPath) -> Response:
    """Fan-in, fan-out, hubs, dead units and effective density of one snapshot."""
    ref = Ref(run, step)
    return represent(request, structure_answer(str(ref), archive.structure(ref)))


@router.get("/runs/{run}/connections", response_model=ConnectionsPage)
def list_connections(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    layer: Annotated[str, Query(description="The layer's name.")],
    status: Annotated[Status, Query(description="What became of them between the two steps.")],
    from_: FromQuery = None,
    to: ToQuery = None,
    through_parents: ThroughParents = False,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    """The connections of a layer that survived, died, were born or regrown between two steps."""
    after = read_number(cursor)
    fates = archive.fates(run, layer, from_, to, through_parents=through_parents)
    cells = fates.of(status)
    cells = cells if after is None else cells[cells > after]
    found = connections_answer(fates.first, cells[: limit + 1])
    return page(request, "connections", found, limit, str(cells[:limit][-1]) if cells.size else "")


@router.get("/runs/{run}/lineage", response_model=LineageAnswer)
def get_lineage(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    depth: Annotated[int | None, Query(ge=0, description="So many generations up and down.")] = None,
) -> Response:
    """The declared ancestors and descendants of a run."""
    return represent(request, lineage_answer(archive.lineage(run, depth=depth)))


@router.get("/lineage/common", response_model=KinshipAnswer)
def get_kinship(request: Request, archive: ArchiveOf, a: RunQuery, b: RunQuery) -> Response:
    """The nearest common ancestors of two runs, and the ways from there to each of them."""
    return represent(request, kinship_answer(archive.kinship(a, b)))


@router.get("/lineage", response_model=LineageAnswer)
def get_all_lineage(request: Request, archive: ArchiveOf) -> Response:
    """The declared descent of all runs."""
    return represent(request, lineage_answer(archive.lineage()))


@router.get("/lineage/inferred", response_model=InferenceAnswer)
def get_inferred(
    request: Request,
    archive: ArchiveOf,
    refs: Annotated[list[str], Query(max_length=MOST_COMPARED, description="Refs or globs, one snapshot of each run.")],
    root: Annotated[str | None, Query(description="The ancestor of all, where it is known.")] = None,
    alignment: Annotated[Alignment | None, Query(description="Default: what fits the networks.")] = None,
) -> Response:
    """Who probably descends from whom, inferred from distances."""
    _check_count(archive, refs)
    return represent(request, inference_answer(archive.infer(refs, root=root, alignment=alignment, name=None)))


@router.get("/runs/{run}/timeline", response_model=TimelineAnswer)
def get_timeline(
    request: Request,
    archive: ArchiveOf,
    run: RunId,
    other: Annotated[str | None, Query(alias="with", description="Another run; default: its own past.")] = None,
    alignment: Annotated[Alignment | None, Query(description="Default: canonical, identity with itself.")] = None,
    lag: Annotated[int | None, Query(ge=1, description="Compare with so many snapshots before.")] = None,
    chance: Annotated[bool, Query(description="Add the level that independent networks have.")] = False,
) -> Response:
    """How far two runs are apart at each step that both have, or a run from its own past."""
    points = archive.run(run).snapshots
    if points > MOST_POINTS:
        raise LimitError(f"timeline: expected a run of at most {MOST_POINTS} snapshots in a request, found {points}")
    return represent(
        request, timeline_answer(archive.timeline(run, other, alignment=alignment, lag=lag, chance=chance))
    )


def _check_count(archive: Archive, refs: list[str]) -> None:
    count = len(archive.expand(refs))
    if count > MOST_COMPARED:
        raise LimitError(f"refs: expected at most {MOST_COMPARED} snapshots in one request, found {count}")
