"""What was changed in the archive, in the order of acknowledgement."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from topostrata.refs import MAX_STEP
from topostrata.runs import Change
from topostrata.service.answers.shape import answer_type, shape
from topostrata.service.api.lanes import routes_of
from topostrata.service.api.representation import PAGE, Limit, ReadOf, represent

router = routes_of("moments")

ChangesAnswer = shape(
    "ChangesAnswer",
    """What was changed after the moment ``since``; ``moment`` is the last one of the archive.

    ``next`` is the URL of what follows where not all of it is here, else null.
    """,
    {"since": int, "moment": int, "changes": list[answer_type(Change)], "next": str | None},  # type: ignore[misc]
)


@router.get("/changes", response_model=ChangesAnswer)
def list_changes(
    request: Request,
    archive: ReadOf,
    since: Annotated[int, Query(ge=0, le=MAX_STEP, description="What came after this moment.")] = 0,
    limit: Limit = PAGE,
) -> Response:
    """What was changed, in the order of acknowledgement: at most so much, and the rest of what has the last moment.

    A moment is what ``as_of`` of other paths takes.
    """
    changes = archive.changes(since, limit=limit)
    last = changes[-1].moment if changes else since
    moment = archive.moment()  # asked last, so that it is no earlier than what is listed
    others = [(name, value) for name, value in request.query_params.multi_items() if name not in {"since", "limit"}]
    query = urlencode([*others, ("since", last), ("limit", limit)])
    following = f"{request.url.path}?{query}" if changes and last < moment else None
    return represent(request, {"since": since, "moment": moment, "changes": changes, "next": following})
