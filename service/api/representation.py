"""Bodies, entity tags and cursors, which all routes use for their answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from topostrata.archive import Archive
from topostrata.errors import LimitError
from topostrata.refs import MAX_STEP
from topostrata.service.answers import values
from topostrata.service.answers.shape import as_json, shape
from topostrata.service.api.lanes import lanes_of
from topostrata.store.runs import MAX_PAGE

JSON, BYTES = "application/json", "application/octet-stream"
BINARY = {"schema": {"type": "string", "format": "binary"}}  # for the contract
PAGE = 100
MOST = MAX_PAGE
_LEAST_RATE = 16 * 2**10  # bytes of a body a second, once the patience with it is over

# What schemas say of texts. Errors say it in words: ``problems``.
RUN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
REF_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(@(first|last|0|[1-9][0-9]{0,14}))?$"
GLOB_PATTERN = r"^[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,127}(@(first|last|[0-9*?]{1,15}))?$"

RunId = Annotated[str, Path(description="The run's id.", pattern=RUN_PATTERN)]
StepPath = Annotated[int, Path(ge=0, le=MAX_STEP, description="The step of the snapshot.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Most entries of a page.")]
_CURSOR = "Where the page begins: the cursor in `next` of the page before."
RunCursor = Annotated[str | None, Query(alias="cursor", description=_CURSOR, pattern=RUN_PATTERN)]
NumberCursor = Annotated[int | None, Query(alias="cursor", description=_CURSOR, ge=0, lt=10**18)]


async def archive_of(request: Request) -> Archive:
    """The archive that the app was opened with."""
    archive: Archive = request.app.state.archive
    return archive


ArchiveOf = Annotated[Archive, Depends(archive_of)]

AsOf = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_STEP,
        description="Answer as the archive was at this moment, whatever came later; `/v1/changes` lists moments.",
    ),
]


async def archive_as_of(request: Request, as_of: AsOf = None) -> Archive:
    """The archive as of the moment that the request names; the answer says it in the header ``As-Of``."""
    archive = await archive_of(request)
    if as_of is None:
        return archive
    request.scope["as_of"] = as_of
    return await run_in_threadpool(archive.at, as_of)


ReadOf = Annotated[Archive, Depends(archive_as_of)]


def represent(
    request: Request,
    value: Any,
    answer: Any = None,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """A result as JSON with an entity tag; 304 without a body where the client has it already.

    ``answer`` is what its JSON is made of, where that is another form of it. Who asks for values gets the result whole.
    """
    accepted = (entry.partition(";")[0].strip().lower() for entry in request.headers.get("accept", "").split(","))
    headers = {"Vary": "Accept", **(headers or {})}
    if values.MEDIA_TYPE in accepted:
        return represent_text(request, _whole(value), values.MEDIA_TYPE, status=status, headers=headers)
    text = _text(value if answer is None else answer)
    return represent_text(request, text, JSON, status=status, headers=headers)


def is_stale(request: Request, value: Any) -> bool:
    """Whether the request is for another state of this result than the one that there is (``If-Match``)."""
    wanted = request.headers.get("if-match")
    tags = [entry.strip() for entry in (wanted or "*").split(",")]
    return "*" not in tags and all(entity_tag(text.encode()) not in tags for text in (_text(value), _whole(value)))


def entity_tag(body: bytes) -> str:
    """A strong entity tag."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _text(value: Any) -> str:
    return json.dumps(as_json(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _whole(value: Any) -> str:
    return json.dumps(values.as_document(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def represent_text(
    request: Request, text: str, media_type: str, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A text of some kind with an entity tag; 304 without a body where the client has it already."""
    return represent_bytes(request, text.encode(), media_type, status=status, headers=headers)


def represent_bytes(
    request: Request, body: bytes, media_type: str, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Bytes of some kind, in the same way."""
    tag = entity_tag(body)
    sent = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    known = [entry.strip().removeprefix("W/") for entry in request.headers.get("if-none-match", "").split(",")]
    if request.method == "GET" and (tag in known or "*" in known):
        return Response(status_code=304, headers=sent)
    return Response(body, status_code=status, media_type=media_type, headers=sent)


def negotiated(request: Request, offers: Sequence[str]) -> str:
    """The kind of answer that a request accepts most, the first where it does not care; 406 where it wants another."""
    accepted = request.headers.get("accept", "*/*")
    best, weight = "", 0.0
    for entry in accepted.split(",")[:32]:
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((_quality(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        family = kind.removesuffix("*").removeprefix("*/") if kind.endswith("*") else None  # empty: of any kind
        offer = next((o for o in offers if (o == kind if family is None else o.startswith(family))), "")
        if offer and quality > weight:
            best, weight = offer, quality
    if not best:
        raise HTTPException(406, f"expected to be asked for {', '.join(offers)}, found {accepted[:80]}")
    return best


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def page_type(name: str, entry: Any, order: str) -> Any:
    """The type of a page of a list, for the schema."""
    doc = f"A page of {name} in {order}; ``next`` is the URL of the following page, null on the last page."
    return shape(f"{name.capitalize()}Page", doc, {name: list[entry], "next": str | None})


def page(request: Request, name: str, entries: list[Any], limit: int, last: str) -> Response:
    """One page of a list. ``entries`` has one more than ``limit`` if a page follows, which begins after ``last``."""
    more = len(entries) > limit
    following = None
    headers = {}
    if more:
        others = [(key, value) for key, value in request.query_params.multi_items() if key not in {"limit", "cursor"}]
        following = f"{request.url.path}?{urlencode([*others, ('limit', limit), ('cursor', last)])}"
        headers["Link"] = f'<{following}>; rel="next"'
    return represent(request, {name: entries[:limit], "next": following}, headers=headers)


@asynccontextmanager
async def read_body(request: Request, most: int) -> AsyncIterator[BytesIO]:
    """The body of a request, for as long as it is needed.

    413 as soon as its declared or counted length is over ``most``, 503 where bodies take all memory that they may, 408
    where it comes more slowly than ``_LEAST_RATE`` after a while.
    """
    declared = request.headers.get("content-length", "")
    length = int(declared) if declared.isdigit() else None
    if length is not None and length > most:
        raise LimitError(f"body: expected at most {most} bytes, found {declared[:32]} declared")
    body = BytesIO()
    async with lanes_of(request).bytes_of_bodies() as take:
        if length is not None:
            take(length)
        try:
            async with asyncio.timeout(None) as patience:
                begun = asyncio.get_running_loop().time()
                patience_s = request.app.state.archive.settings.request_timeout_s
                patience.reschedule(begun + patience_s)
                async for chunk in request.stream():
                    if length is None:
                        take(len(chunk))
                    body.write(chunk)
                    if body.tell() > most:
                        raise LimitError(f"body: expected at most {most} bytes, found more")
                    patience.reschedule(begun + patience_s + body.tell() / _LEAST_RATE)
            body.seek(0)
            yield body
        except TimeoutError:
            raise HTTPException(408, f"body: expected {_LEAST_RATE} bytes a second or more, found fewer") from None
        finally:
            body.close()  # who went away leaves nothing behind until the next garbage collection
