"""Which neuron of one snapshot is which of another."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.match import Match
from topostrata.service.answers.matching import match_answer
from topostrata.service.answers.shape import answer_fields, shape
from topostrata.service.api.lanes import Route, slow
from topostrata.service.api.representation import ArchiveOf, represent
from topostrata.service.api.routes.distance import RefQuery

router = APIRouter(tags=["matching"], route_class=Route)

MatchAnswer = shape("MatchAnswer", Match.__doc__, {"a": str, "b": str} | answer_fields(Match))


@router.get("/match", response_model=MatchAnswer)
@slow
def get_match(
    request: Request,
    archive: ArchiveOf,
    a: RefQuery,
    b: RefQuery,
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    space: Annotated[str | None, Query(description="One space, such as `hidden1`. Default: all.")] = None,
) -> Response:
    """The counterpart of each unit of a snapshot in another one, what both have in common, and if it is established."""
    ours, theirs = archive.recorded(a, b)
    match = archive.match(ours, theirs, alignment=alignment)
    chosen = None if space is None else match[space].name
    return represent(request, match_answer(ours.snapshot.id, theirs.snapshot.id, match, space=chosen))
