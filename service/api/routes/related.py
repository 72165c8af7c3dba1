"""Whether two snapshots are related at all."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from topostrata.lineage.related import TESTS, Relatedness
from topostrata.service.answers.lineage import related_answer
from topostrata.service.answers.shape import answer_fields, shape
from topostrata.service.api.lanes import routes_of, slow
from topostrata.service.api.representation import ReadOf, represent
from topostrata.service.api.routes.distance import RefQuery

router = routes_of("lineage")

MOST_TESTS = 9_999  # seconds, while the client waits

RelatednessAnswer = shape("RelatednessAnswer", Relatedness.__doc__, {"a": str, "b": str} | answer_fields(Relatedness))


@router.get("/related", response_model=RelatednessAnswer)
@slow
def get_related(
    request: Request,
    archive: ReadOf,
    a: RefQuery,
    b: RefQuery,
    tests: Annotated[int, Query(ge=1, le=MOST_TESTS, description="Exchanges a layer.")] = TESTS,
    seed: Annotated[int, Query(ge=0, le=2**53 - 1, description="Which exchanges.")] = 0,
) -> Response:
    """Whether two snapshots are related, with an exact p-value for each layer, however their units are named."""
    ours, theirs = archive.recorded(a, b)
    result = archive.related(ours, theirs, tests=tests, seed=seed)
    return represent(request, result, related_answer(ours.snapshot.id, theirs.snapshot.id, result))
