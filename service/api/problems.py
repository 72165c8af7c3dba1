"""Errors as RFC 9457 problem documents, with our stable codes and nothing about the inside of the server."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from topostrata.errors import OF_THE_SERVER, Code, TopostrataError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_STATUS: dict[Code, int] = {
    Code.INVALID_TOPOLOGY: 422,
    Code.INVALID_REF: 422,
    Code.INVALID_INPUT: 422,
    Code.INVALID_QUERY: 422,
    Code.NOT_COMPARABLE: 422,
    Code.UNSUPPORTED_FORMAT: 422,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.STEP_ORDER: 409,
    Code.CHANGED: 412,
    Code.LINEAGE_CYCLE: 409,
    Code.QUERY_REFUSED: 403,
    Code.LIMIT: 413,
    Code.STORE_UNAVAILABLE: 503,
    Code.ENGINE: 503,
    Code.CANCELLED: 499,
    Code.MISSING_EXTRA: 501,
}
_HTTP_CODES = {
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "request-timeout",
    413: "limit",
    415: "unsupported-media-type",
    503: "busy",
}
_MOST_TEXT = 1000  # characters of a message, whatever was sent is in it
_MOST_ERRORS = 10
_GONE = 499  # nobody gets it; it is what logs of proxies call a client that went away
_RETRY_S = "5"


def problem(
    status: int, code: str, detail: str, *, hint: str | None = None, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """One problem document. Messages show what was found; what is long is cut."""
    title = "Client Closed Request" if status == _GONE else HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": shortened(detail)}
    if hint:
        body["hint"] = shortened(hint)
    if status == 503:
        headers = {"Retry-After": _RETRY_S, **(headers or {})}
    return JSONResponse(body | more, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def shortened(text: str, most: int = _MOST_TEXT) -> str:
    """A text of at most so many characters, its middle left out, in which nothing breaks JSON."""
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[len(text) + 5 - (most - most // 2) :]}"
    return text.encode("utf-8", "replace").decode()


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem document."""
    app.add_exception_handler(TopostrataError, _topostrata)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)


def _topostrata(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TopostrataError)  # noqa: S101 - registered for it
    status = _STATUS.get(error.code, 500)
    if error.code in OF_THE_SERVER:
        logger.error("%s", error)
        detail = "the archive does not answer; try again later" if status == 503 else "the archive cannot answer this"
        return problem(status, error.code, detail)
    return problem(status, error.code, error.message, hint=error.hint)


def _validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    every = error.errors()
    errors = [
        {
            "where": "/".join(shortened(str(part), 64) for part in entry["loc"][:8]),
            "problem": shortened(_in_words(entry), 200),
        }
        for entry in every[:_MOST_ERRORS]
    ]
    detail = "; ".join(f"{entry['where']}: {entry['problem']}" for entry in errors)
    if len(every) > len(errors):
        detail = f"{len(every)} errors, among them {detail}"
    return problem(422, Code.INVALID_INPUT, detail, errors=errors)


def _in_words(entry: dict[str, Any]) -> str:
    """What is wrong with a value; of a text that does not fit its pattern not the pattern, but what it stands for."""
    if entry["type"] != "string_pattern_mismatch":
        return str(entry["msg"])
    pattern = entry["ctx"]["pattern"]
    expected = "run, run@STEP, run@first or run@last" if "first|last" in pattern else "the id of a run"
    if "*?" in pattern:
        expected += ", with * and ? for what is left open"
    if pattern.startswith("^.+:"):
        expected = "a space and a unit, as hidden1:3"
    return f"expected {expected}, found {str(entry['input'])[:60]!r}"


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = _HTTP_CODES.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "-"))
    answer = problem(error.status_code, code, str(error.detail))
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """The methods of the path of a request: each route knows only its own."""
    methods: set[str] = set()
    for method in ("GET", "PUT", "POST", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
            methods.add(method)
    return methods | ({"HEAD"} if "GET" in methods else set())


def _gone(request: Request, _error: Exception) -> Response:
    logger.info("the client went away: %s %s", request.method, request.url.path[:200])
    return Response(status_code=_GONE)
