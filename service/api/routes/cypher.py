"""Users' own queries, which only read."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from time import monotonic
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import BeforeValidator, Field
from starlette.concurrency import run_in_threadpool

from topostrata.archive import Archive
from topostrata.errors import TopostrataError
from topostrata.service.answers import arrow, values
from topostrata.service.answers.cypher import CypherAnswer, ask, cypher_answer, in_parts
from topostrata.service.api.bodies import Body, body_of, document, whole
from topostrata.service.api.lanes import Lane, lanes_of, routes_of
from topostrata.service.api.representation import BINARY, JSON, ReadOf, negotiated
from topostrata.store.read_only import MAX_CHARACTERS

router = routes_of("cypher")
audit = logging.getLogger("topostrata.audit")

_MOST_ROWS = 100_000
_MOST_UNPROJECTED = 100
_UNPROJECTED: dict[str, Any] = {
    values.UNPROJECTED: {
        "description": "Layers whose connections are not in the graph at all steps of their run.",
        "schema": {"type": "integer"},
    }
}
_LOOK_S = 0.5  # how often somebody looks whether the client is still there


class CypherBody(Body):
    """A query that only reads, with values as parameters (``$name``); docs/cypher.md says what stands in the graph."""

    query: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    parameters: dict[str, Any] = Field(default={})
    limit: Annotated[
        int | None,
        Field(ge=1, le=_MOST_ROWS, description="Most rows; default: that of the server."),
        BeforeValidator(whole),
    ] = None
    timeout_s: Annotated[
        float | None, Field(gt=0, le=600, strict=False, description="Seconds; at most, and by default, the server's.")
    ] = None


@router.post(
    "/cypher",
    response_model=CypherAnswer,
    responses={200: {"content": {arrow.MEDIA_TYPE: BINARY}, "headers": _UNPROJECTED}, 406: {}},
    openapi_extra=body_of(CypherBody),
)
async def post_cypher(request: Request, archive: ReadOf) -> Response:
    """Ask the graph in Cypher, read-only. Whoever goes away before the answer ends the query.

    As an Arrow stream the columns are typed; values of several kinds and objects are texts of JSON in it. The header
    ``Topostrata-Unprojected`` counts the layers whose connections it could not see at all steps of their run.
    """
    kind = negotiated(request, (JSON, arrow.MEDIA_TYPE))
    body = await document(request, CypherBody)
    cancel = threading.Event()
    async with lanes_of(request).place(Lane.QUERY, request):
        asking = asyncio.create_task(run_in_threadpool(_ask, archive, body, kind, cancel, _who(request)))
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=_LOOK_S)
                if not asking.done() and await request.is_disconnected():
                    cancel.set()
        except asyncio.CancelledError:  # the service is stopped
            cancel.set()
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody waits for it any more
            raise
        answer, unseen = await asking
        headers = {"Cache-Control": "no-store", "Vary": "Accept", values.UNPROJECTED: str(unseen)}
        return Response(answer, media_type=kind, headers=headers)


def _who(request: Request) -> str:
    return str(request.scope.get("principal", "anybody"))


def _ask(archive: Archive, body: CypherBody, kind: str, cancel: threading.Event, who: str) -> tuple[bytes, int]:
    """The answer, and how many layers the query could not see at all steps."""
    most_s = archive.settings.query_timeout_s
    begin = monotonic()
    outcome = "failed"
    try:
        table, unprojected = ask(
            archive,
            body.query,
            body.parameters,
            limit=body.limit,
            timeout_s=min(body.timeout_s or most_s, most_s),
            cancel=cancel,
        )
        outcome = f"{len(table.rows)} rows"
        if kind == arrow.MEDIA_TYPE:
            return arrow.table_stream(table), len(unprojected)
        answer = cypher_answer(table, unprojected[:_MOST_UNPROJECTED])
        return "".join(in_parts(answer)).encode(), len(unprojected)
    except TopostrataError as error:
        outcome = str(error.code)
        raise
    finally:
        digest = hashlib.sha256(body.query.encode()).hexdigest()[:16]
        audit.info("cypher of %s: query %s: %s in %.2f s", who, digest, outcome, monotonic() - begin)
