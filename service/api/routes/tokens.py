"""Tokens over REST, for those with the scope ``admin``: which there are, a new one, one that counts no longer."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from topostrata.errors import NotFoundError
from topostrata.service.answers.shape import answer_type, as_json, shape
from topostrata.service.api.bodies import Body, body_of, document
from topostrata.service.api.lanes import Lane, lanes_of, routes_of
from topostrata.service.api.representation import represent
from topostrata.service.tokens import AGE_PATTERN, NAME_PATTERN, Scope, Token, TokenFile, lifetime

router = routes_of("tokens")

Owner = Annotated[str, Path(description="Whose token it is.", json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})]

TokensAnswer = shape("TokensAnswer", "The tokens, by name.", {"tokens": list[answer_type(Token)]})  # type: ignore[misc]
NewTokenAnswer = shape(
    "NewTokenAnswer", "A new token, which is shown this once.", {"name": str, "token": str, "scopes": list[Scope]}
)


class NewToken(Body):
    """A token to be made: whose, what it lets do, how long it counts (``30d``; for ever where that is left out)."""

    # That they fit their patterns is checked where tokens are made, which says so in words.
    name: str = Field(json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})
    scopes: list[Scope] = Field(min_length=1, max_length=4)
    expires: str | None = Field(default=None, json_schema_extra={"pattern": f"^{AGE_PATTERN}$"})


@router.get("/tokens", response_model=TokensAnswer)
def list_tokens(request: Request) -> Response:
    """Whose tokens there are, what they let do, and whether they count. All of this needs the scope ``admin``."""
    return represent(request, {"tokens": as_json(_kept(request).tokens())})


@router.post(
    "/tokens",
    status_code=201,
    response_model=NewTokenAnswer,
    responses={409: {}, 413: {}, 415: {}},
    openapi_extra=body_of(NewToken),
)
async def create_token(request: Request) -> Response:
    """Make a token. The answer shows it this once: only its hash is kept."""
    return await lanes_of(request).work(Lane.QUICK, _create, request, await document(request, NewToken))


@router.get("/tokens/{owner}", response_model=answer_type(Token))
def get_token(request: Request, owner: Owner) -> Response:
    """One token, without its secret."""
    for token in _kept(request).tokens():
        if token.name == owner:
            return represent(request, token)
    raise NotFoundError(f"token {owner!r}: expected one of this name, found none", hint="GET /v1/tokens")


@router.delete("/tokens/{owner}", status_code=204, response_class=Response, responses={409: {}})
def revoke_token(request: Request, owner: Owner) -> Response:
    """Let a token count no longer, from the next request on."""
    _kept(request).revoke(owner)
    return Response(status_code=204)


def _create(request: Request, body: NewToken) -> Response:
    expires = None if body.expires is None else lifetime(body.expires)
    secret = _kept(request).create(body.name, body.scopes, expires=expires)
    location = f"{request.scope.get('root_path', '')}/v1/tokens/{body.name}"
    document = {"name": body.name, "token": secret, "scopes": body.scopes}
    return JSONResponse(document, 201, {"Location": location, "Cache-Control": "no-store"})


def _kept(request: Request) -> TokenFile:
    kept: TokenFile | None = request.app.state.tokens
    if kept is None:
        raise NotFoundError(
            "tokens: expected a file in which this service keeps them, found none, as its archive is on a server",
            hint="start it with TOPOSTRATA_API_TOKENS_FILE",
        )
    return kept
