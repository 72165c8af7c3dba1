"""The contract, docs/openapi.json: what the routes say of themselves, and what holds for all of them.

Each error is a problem document; each read carries an entity tag and may be answered 304; what makes something links to
what reads it.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from topostrata.service.answers import values
from topostrata.service.api.problems import MEDIA_TYPE

_PROBLEM = {
    "title": "Problem",
    "description": "What went wrong, as RFC 9457 has it. `code` is stable, `detail` says what was expected and found.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "hint": {"type": "string", "description": "What to do."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "problem"],
                "properties": {"where": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}
_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `topostrata token create`, or that of TOPOSTRATA_API_TOKEN. On loopback a server "
    "without any answers everybody.",
}
_TEXT = {"type": "string"}
_ETAG = {"ETag": {"description": "The entity tag of this state.", "schema": _TEXT}}
_AS_OF = {"As-Of": {"description": "The moment, where `as_of` names one.", "schema": {"type": "integer"}}}
_HEADERS: dict[int, dict[str, Any]] = {
    304: _ETAG,
    401: {"WWW-Authenticate": {"description": "The scheme: Bearer.", "schema": _TEXT}},
    405: {"Allow": {"description": "The methods that the path has.", "schema": _TEXT}},
    503: {
        "Retry-After": {"description": "After so many seconds it is worth another try.", "schema": {"type": "integer"}}
    },
}
_JSON = "application/json"
_OTHERS = {"/v1/cypher", "/v1/runs/{run}/snapshots/{step}/topology"}  # which offer kinds of their own
_ALWAYS = (400, 405, 500, 503)
_OF_V1 = (401, 403, 404, 422)
_OF_BODIES = (408, 413, 415)
_NONE_MATCH = {"name": "If-None-Match", "in": "header", "schema": _TEXT, "description": "Entity tags that are known."}
_MATCH = {"name": "If-Match", "in": "header", "schema": _TEXT, "description": "The entity tag of the state seen."}
_CHANGED = {values.CHANGED: {"description": "Whether it was changed: true or false.", "schema": _TEXT}}
_METHODS = ("get", "put", "post", "patch", "delete")

# From what makes a run, snapshot or job to what reads it: operation, method, status of the source.
_RUN, _STEP = "$request.path.run", "$request.path.step"
_JOB = {"job": "$response.body#/id"}
_LINKS: list[tuple[str, str, tuple[str, ...], str, dict[str, str]]] = [
    ("/v1/jobs", "post", ("200", "202"), "get_job", _JOB),
    ("/v1/jobs", "post", ("200", "202"), "get_job_result", _JOB),
    ("/v1/jobs", "post", ("200", "202"), "delete_job", _JOB),
    ("/v1/runs/{run}", "put", ("200", "201"), "get_run", {"run": _RUN}),
    ("/v1/runs/{run}", "put", ("200", "201"), "patch_run", {"run": _RUN}),
    ("/v1/runs/{run}", "put", ("200", "201"), "list_snapshots", {"run": _RUN}),
    ("/v1/runs/{run}", "put", ("200", "201"), "get_lineage", {"run": _RUN}),
    ("/v1/runs/{run}", "put", ("200", "201"), "put_metrics", {"run": _RUN}),
    ("/v1/runs/{run}/snapshots/{step}", "put", ("200", "201"), "get_snapshot", {"run": _RUN, "step": _STEP}),
    ("/v1/runs/{run}/snapshots/{step}", "put", ("200", "201"), "get_history", {"run": _RUN}),
    ("/v1/runs/{run}/metrics/{step}", "put", ("200", "201"), "list_metrics", {"run": _RUN}),
]


def contract_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an app."""
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    document["components"]["securitySchemes"] = {"token": _TOKEN}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                _complete(path, method, methods[method])
                if path.startswith("/v1/") or path == "/metrics":
                    methods[method]["security"] = [{"token": []}]  # ``AccessCheck`` asks for it before the routing
    operations = {
        re.sub(r"_v1_.*", "", operation["operationId"]): operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    for path, method, statuses, target, parameters in _LINKS:
        for status in statuses:
            answer = document["paths"][path][method]["responses"][status]
            link = {"operationId": operations[target], "parameters": parameters}
            answer.setdefault("links", {})[target] = link
    return document


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    body = "requestBody" in operation
    responses = operation["responses"]
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        _without_null(parameter["schema"])
    statuses = [*_ALWAYS, *(_OF_V1 if path.startswith("/v1/") else ()), *(_OF_BODIES if body else ())]
    if method == "get" and path.startswith("/v1/"):
        parameters.append(_NONE_MATCH)
        ok = responses["200"]
        ok.setdefault("headers", {}).update(_ETAG)
        if any(parameter["name"] == "as_of" for parameter in parameters):
            ok["headers"] |= _AS_OF
        if any(parameter["name"] == "cursor" for parameter in parameters):
            ok["headers"]["Link"] = {"description": "The next page, with rel=next.", "schema": _TEXT}
        responses["304"] = {"description": "Not Modified", "headers": _HEADERS[304]}
    if method == "patch":
        parameters.append(_MATCH)
        responses["200"]["headers"] = _CHANGED
    for status in ("200", "201"):
        content = responses.get(status, {}).get("content", {})
        if _JSON in content and path.startswith("/v1/") and path not in _OTHERS:
            content[values.MEDIA_TYPE] = values.SCHEMA
    for status in sorted({*statuses, *(int(status) for status in responses if status >= "400")}):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
    if path == "/readyz":  # which says in its own words what is not ready
        responses["503"]["content"] = responses["200"]["content"]
    operation["responses"] = dict(sorted(responses.items()))


def _without_null(schema: dict[str, Any]) -> None:
    """A parameter that is not there is left out: there is no way to write null into a URL."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])
