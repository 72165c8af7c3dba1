"""What happens to the connections of a run."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from topostrata.evolution.between import Evolution
from topostrata.evolution.neuron import Neuron
from topostrata.evolution.stored import RunHistory
from topostrata.evolution.survival import RunSurvival
from topostrata.refs import MAX_STEP
from topostrata.service.answers import arrow, values
from topostrata.service.answers.evolution import ConnectionAnswer, connections_answer, packed_changes
from topostrata.service.answers.shape import answer_type
from topostrata.service.api.lanes import routes_of, slow
from topostrata.service.api.representation import (
    BINARY,
    BYTES,
    JSON,
    PAGE,
    Limit,
    NumberCursor,
    ReadOf,
    RunId,
    negotiated,
    page,
    page_type,
    represent,
    represent_bytes,
)
from topostrata.words import ConnectionStatus

router = routes_of("evolution")

FromQuery = Annotated[int | None, Query(alias="from", ge=0, le=MAX_STEP, description="Default: the first.")]
ToQuery = Annotated[int | None, Query(ge=0, le=MAX_STEP, description="Default: the last.")]
ThroughParents = Annotated[bool, Query(description="Begin in the runs that this one resumed or was forked from.")]


@router.get("/runs/{run}/evolution", response_model=answer_type(Evolution))
@slow
def get_evolution(
    request: Request,
    archive: ReadOf,
    run: RunId,
    from_: FromQuery = None,
    to: ToQuery = None,
    through_parents: ThroughParents = False,
) -> Response:
    """The connections that survived, were regrown, died and were born between two steps."""
    return represent(request, archive.evolution(run, from_, to, through_parents=through_parents))


@router.get("/runs/{run}/history", response_model=answer_type(RunHistory, "HistoryAnswer"))
@slow
def get_history(request: Request, archive: ReadOf, run: RunId, through_parents: ThroughParents = False) -> Response:
    """Births, deaths, regrowth and exploration at every snapshot of a run."""
    return represent(request, archive.history(run, through_parents=through_parents))


@router.get("/runs/{run}/survival", response_model=answer_type(RunSurvival, "SurvivalAnswer"))
@slow
def get_survival(
    request: Request, archive: ReadOf, run: RunId, from_: FromQuery = None, through_parents: ThroughParents = False
) -> Response:
    """What is left of the connections alive at a step, and how long connections live."""
    return represent(request, archive.history(run, through_parents=through_parents).survival(from_))


@router.get(
    "/runs/{run}/connections",
    response_model=page_type("connections", ConnectionAnswer, "the order of their targets"),
    responses={200: {"content": {arrow.MEDIA_TYPE: BINARY}}, 406: {}},
)
@slow
def list_connections(
    request: Request,
    archive: ReadOf,
    run: RunId,
    layer: Annotated[str, Query(description="The layer's name.")],
    status: Annotated[ConnectionStatus, Query(description="What became of them between the two steps.")],
    from_: FromQuery = None,
    to: ToQuery = None,
    through_parents: ThroughParents = False,
    limit: Limit = PAGE,
    cursor: NumberCursor = None,
) -> Response:
    """The connections of a layer that survived, died, were born or regrown between two steps.

    As an Arrow stream: all of them at once, without pages; columns `source`, `tap`, `target`.
    """
    kind = negotiated(request, (JSON, arrow.MEDIA_TYPE))
    changes = archive.connections(run, layer, from_, to, through_parents=through_parents)
    cells = changes.of(status)
    cells = cells if cursor is None else cells[cells > cursor]
    if kind == arrow.MEDIA_TYPE:
        return represent_bytes(request, arrow.connections_stream(changes, cells), kind, headers={"Vary": "Accept"})
    connections = connections_answer(changes, cells[: limit + 1])
    return page(request, "connections", connections, limit, str(cells[:limit][-1]) if cells.size else "")


@router.get(
    "/runs/{run}/changes",
    response_class=Response,
    responses={200: {"content": {BYTES: BINARY, values.MEDIA_TYPE: values.SCHEMA}}, 406: {}},
)
@slow
def get_changes(
    request: Request,
    archive: ReadOf,
    run: RunId,
    layer: Annotated[str, Query(description="The layer's name.")],
    from_: FromQuery = None,
    to: ToQuery = None,
    through_parents: ThroughParents = False,
) -> Response:
    """All connections of a layer by what became of them between two steps, packed for a picture.

    Numbers of 32 bits, little-endian: the sizes of the source and the target space; then for the connections that
    survived, were regrown, died and were born, in this order, their number, their source units, their target units.
    """
    kind = negotiated(request, (BYTES, values.MEDIA_TYPE))
    changes = archive.connections(run, layer, from_, to, through_parents=through_parents)
    if kind == values.MEDIA_TYPE:
        return represent(request, changes)
    return represent_bytes(request, packed_changes(changes), kind, headers={"Vary": "Accept"})


@router.get("/runs/{run}/neuron", response_model=answer_type(Neuron))
@slow
def get_neuron(
    request: Request,
    archive: ReadOf,
    run: RunId,
    space: Annotated[str, Query(description="The space's name.")],
    unit: Annotated[int, Query(ge=0, le=MAX_STEP, description="The index of the unit in its space.")],
) -> Response:
    """One neuron over all snapshots of a run: its inputs and outputs, and from when to when each connection lived."""
    return represent(request, archive.neuron(run, space, unit))
