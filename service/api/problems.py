"""Errors as RFC 9457 problem documents, with our stable codes and nothing about the inside of the server."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from topostrata.errors import Code, TopostrataError

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
}
# The messages of these errors are about the server, not about the request: they are logged and not sent.
_OURS = {Code.STORE_UNAVAILABLE, Code.ENGINE, Code.CORRUPT, Code.SETTINGS, Code.MISSING_EXTRA}
_HTTP_CODES = {404: "not-found", 405: "method-not-allowed", 413: "limit", 415: "unsupported-media-type"}


def problem(
    status: int, code: str, detail: str, *, hint: str | None = None, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """One problem document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail}
    if hint:
        body["hint"] = hint
    return JSONResponse(body | more, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem document."""
    app.add_exception_handler(TopostrataError, _topostrata)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _topostrata(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TopostrataError)  # noqa: S101 - registered for it
    status = _STATUS.get(error.code, 500)
    if error.code in _OURS:
        logger.error("%s", error)
        detail = "the archive does not answer; try again later" if status == 503 else "the archive cannot answer this"
        return problem(status, error.code, detail)
    return problem(status, error.code, error.message, hint=error.hint)


def _validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [{"where": "/".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()]
    detail = "; ".join(f"{e['where']}: {e['problem']}" for e in errors)
    return problem(422, Code.INVALID_INPUT, detail, errors=errors)


def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = _HTTP_CODES.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "-"))
    answer = problem(error.status_code, code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def _unexpected(_request: Request, error: Exception) -> JSONResponse:
    logger.error("unexpected error", exc_info=error)
    return problem(500, "internal-error", "an unexpected error; the server's log says more")
