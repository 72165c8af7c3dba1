"""What several snapshots have in common."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.measures.core import DRAWS, Core
from topostrata.service.answers.measures import core_answer
from topostrata.service.answers.shape import answer_fields, shape
from topostrata.service.api.lanes import routes_of, slow
from topostrata.service.api.representation import ReadOf, represent
from topostrata.service.api.routes.distance import LayersQuery, Pattern
from topostrata.service.api.routes.limits import MOST_COMPARED, check_count

router = routes_of("distances")

MOST_DRAWS = 20  # each costs as much as the answer, while the client waits

CoreAnswer = shape("CoreAnswer", Core.__doc__, {"refs": list[str]} | answer_fields(Core))


@router.get("/core", response_model=CoreAnswer)
@slow
def get_core(
    request: Request,
    archive: ReadOf,
    refs: Annotated[list[Pattern], Query(max_length=MOST_COMPARED, description="Refs or globs such as `w*@last`.")],
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    layers: LayersQuery = None,
    draws: Annotated[int, Query(ge=0, le=MOST_DRAWS, description="Degree-kept copies that give chance.")] = DRAWS,
    seed: Annotated[int, Query(ge=0, le=2**53 - 1, description="Which copies.")] = 0,
) -> Response:
    """How many connections are in exactly k of n snapshots, for each layer and each k, beside what chance gives."""
    check_count(archive, refs)
    snapshots = archive.expand(refs)
    result = archive.core(*snapshots, alignment=alignment, layers=layers, draws=draws, seed=seed)
    return represent(request, result, core_answer([str(ref) for ref in snapshots], result))
