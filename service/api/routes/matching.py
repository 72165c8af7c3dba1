"""Which neuron of one snapshot is which of another, and what has to be edited."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.edits import Edits, UnitEdits, parse_unit
from topostrata.distance.match import Match
from topostrata.service.answers.matching import EditAnswer, edits_answer, match_answer, packed_edits
from topostrata.service.answers.shape import answer_fields, answer_type, shape
from topostrata.service.api.lanes import routes_of, slow
from topostrata.service.api.representation import Limit, ReadOf, represent, represent_bytes
from topostrata.service.api.routes.distance import RefQuery

router = routes_of("matching")

MatchAnswer = shape("MatchAnswer", Match.__doc__, {"a": str, "b": str} | answer_fields(Match))
EditsAnswer = shape(
    "EditsAnswer",
    """The connections to delete and to insert that make one network the other, counted by layer.

    ``unit`` has those of one unit, ``listed`` single ones of a layer, where they are asked for.
    """,
    {"a": str, "b": str}
    | answer_fields(Edits)
    | {"unit": answer_type(UnitEdits) | None, "listed": list[EditAnswer] | None},
)


@router.get("/match", response_model=MatchAnswer)
@slow
def get_match(
    request: Request,
    archive: ReadOf,
    a: RefQuery,
    b: RefQuery,
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    space: Annotated[str | None, Query(description="One space, such as `hidden1`. Default: all.")] = None,
) -> Response:
    """The counterpart of each unit of a snapshot in another one, what both have in common, and if it is established."""
    ours, theirs = archive.recorded(a, b)
    match = archive.match(ours, theirs, alignment=alignment)
    chosen = None if space is None else match[space].name
    return represent(request, match, match_answer(ours.snapshot.id, theirs.snapshot.id, match, space=chosen))


@router.get("/edits", response_model=EditsAnswer)
@slow
def get_edits(
    request: Request,
    archive: ReadOf,
    a: RefQuery,
    b: RefQuery,
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    unit: Annotated[
        str | None, Query(description="A unit of A whose inputs are told: `hidden1:3`.", pattern="^.+:[0-9]{1,18}$")
    ] = None,
    layer: Annotated[str | None, Query(description="A layer whose edits are listed.")] = None,
    limit: Limit = 1000,
) -> Response:
    """The inputs to delete and to insert that make one snapshot the other; their shares are the distance."""
    ours, theirs = archive.recorded(a, b)
    chosen = None if unit is None else parse_unit(unit)
    edits = archive.edits(ours, theirs, alignment=alignment)
    result = edits_answer(ours.snapshot.id, theirs.snapshot.id, edits, unit=chosen, layer=layer, limit=limit)
    return represent(request, edits, result)


@router.get(
    "/edits/packed",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
@slow
def get_packed_edits(
    request: Request,
    archive: ReadOf,
    a: RefQuery,
    b: RefQuery,
    layer: Annotated[str, Query(description="A layer's name.")],
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
) -> Response:
    """All connections of a layer of two matched networks, packed for a picture, in A's units.

    Numbers of 32 bits, little-endian: the sizes of A's source and target; then of the connections that both have, of
    none (a place kept for those regrown), of those to delete and of those to insert: their number, sources, targets.
    """
    ours, theirs = archive.recorded(a, b)
    edits = archive.edits(ours, theirs, alignment=alignment).layer(layer)
    shape = next(entry.shape for entry in archive.layers(ours.snapshot.run) if entry.name == layer)
    body = packed_edits(edits, (shape.source.size, shape.target.size))
    return represent_bytes(request, body, "application/octet-stream")
