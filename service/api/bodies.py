"""Bodies that are JSON: read with a limit, checked strictly, and described in the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.safe_tensors import parse_json
from topostrata.service.api.representation import JSON, read_body

_MOST_TEXT = 2**20  # bytes


class Body(BaseModel):
    """A document that has no more members than it says, each of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


B = TypeVar("B", bound=Body)
K = TypeVar("K", bound=str)


def body_of(kind: type[Body]) -> dict[str, Any]:
    """The request body for the schema: the route reads it itself, with a limit."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    for member in schema["properties"].values():  # a list of documents has theirs in it
        if (model := member.get("items", {}).get("$ref", "").rpartition("/")[2]) in inner:
            member["items"] = inner[model]
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def whole(number: Any) -> Any:
    """``5.0`` is the number 5 in JSON, which knows but one kind."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def body_of_kinds(kinds: Mapping[str, type[Body]]) -> dict[str, Any]:
    """The request body of a route that takes one of several documents, which its member ``kind`` tells apart."""
    schemas = [body_of(kind)["requestBody"]["content"][JSON]["schema"] for kind in kinds.values()]
    return {"requestBody": {"required": True, "content": {JSON: {"schema": {"oneOf": schemas}}}}}


async def document(request: Request, kind: type[B]) -> B:
    """The JSON body of a request."""
    return _validated(await _text_of(request), kind)


async def document_of_kinds(request: Request, kinds: Mapping[K, type[Body]]) -> tuple[K, dict[str, Any]]:
    """The JSON body of a request that may be one of several documents: its member ``kind``, and the others."""
    text = await _text_of(request)
    parsed = parse_json(text, where="body")
    name = parsed.get("kind") if isinstance(parsed, dict) else None
    for kind, model in kinds.items():
        if kind == name:
            return kind, _validated(text, model).model_dump(exclude={"kind"})
    told = "none" if name is None else f"{str(name)[:60]!r}"
    raise InvalidInputError(f"body: expected the member kind, one of {', '.join(kinds)}, found {told}")


async def _text_of(request: Request) -> bytes:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != JSON:
        raise HTTPException(415, f"expected a body of {JSON}, found {media[:80] or 'none that says what it is'}")
    async with read_body(request, _MOST_TEXT) as body:
        return body.getvalue()


def _validated(text: bytes, kind: type[B]) -> B:
    parsed = parse_json(text, where="body")
    if isinstance(parsed, dict) and not parsed.keys() <= kind.model_fields.keys():  # however many there are
        others = ", ".join(sorted(parsed.keys() - kind.model_fields.keys())[:5])[:200]
        raise InvalidInputError(f"body: expected some of {', '.join(kind.model_fields)}, found {others}")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise RequestValidationError([{**entry, "loc": ("body", *entry["loc"])} for entry in errors]) from None
