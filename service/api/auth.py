"""Who may do what: the token that a request shows, and the scope that its method and path need.

Denied is what is not known: whatever is not open needs a token, and whatever does not only read needs ``write``, be it
a route or not. So no route can be outside of it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from datetime import UTC, datetime

from fastapi.responses import JSONResponse
from starlette.types import Scope

from topostrata.errors import SettingsError
from topostrata.service import tokens
from topostrata.service.api.problems import problem
from topostrata.service.api.routes import page

logger = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz", "/docs"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKENS = r"/v1/tokens(/.*)?"
# Beside these a POST writes. What computes an answer and keeps nothing reads, though its question is a body; what is
# gone for good is for those who may do everything, and so are the tokens.
_OWN: tuple[tuple[str, str, tokens.Scope], ...] = (
    ("POST", r"/v1/cypher", "query"),
    ("DELETE", r"/v1/removed/.*", "admin"),
    *((method, _TOKENS, "admin") for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")),
)


def path_of(scope: Scope) -> str:
    """The path of a request without that under which a proxy has the service."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def is_open(path: str) -> bool:
    """Whether everybody gets an answer: what says that the service runs, and the page's own files."""
    return path in OPEN or page.is_open(path)


def needed(method: str, path: str) -> tokens.Scope:
    """The scope that a request needs."""
    for verb, paths, scope in _OWN:
        if method == verb and re.fullmatch(paths, path, re.DOTALL):
            return scope
    return "read" if method in _READING else "write"


class Guard:
    """Checks tokens by their hashes: of the one of the settings, which may do everything, and of those in a file."""

    def __init__(self, token: str | None = None, kept: tokens.TokenFile | None = None) -> None:
        self._digest = None if token is None else hashlib.sha256(token.encode()).hexdigest()
        self.kept = kept
        self._closed = token is not None

    def is_closed(self) -> bool:
        """Whether there is a token without which nobody is answered; once there was one, it stays so.

        Raises ``SettingsError`` for a file of tokens that others can read, or that is damaged.
        """
        self._closed = self._closed or (self.kept is not None and bool(self.kept.tokens()))
        return self._closed

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer that refuses a request; None if it may be. ``principal`` in the scope is whose token it shows."""
        if is_open(path_of(scope)):
            return None
        try:
            if not self.is_closed():
                # Whoever is on this machine could make the first token, and shut everybody else out.
                return _first() if re.fullmatch(_TOKENS, path_of(scope), re.DOTALL) else None
            token = self._shown(scope)
        except SettingsError:
            logger.exception("the tokens cannot be read: nobody is answered")
            return problem(503, "settings", "the tokens of the service cannot be read; its log says why")
        return _refused(token, scope)

    def _shown(self, scope: Scope) -> tokens.Token | None:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(shown) != 1:
            return None
        scheme, _, token = shown[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = tokens.digest_of(token.strip(b" "))
        if self._digest is not None and hmac.compare_digest(digest, self._digest):
            return _ADMIN
        return self.kept.find(digest) if self.kept is not None else None


# Whoever shows the token of the settings.
_ADMIN = tokens.Token("admin", "", ("admin",), datetime.min.replace(tzinfo=UTC))


def _first() -> JSONResponse:
    return problem(
        403,
        "forbidden",
        "expected a service that has a token, found one that is open to all on this machine",
        hint="`topostrata token create OWNER --scope admin` makes the first",
    )


def _refused(token: tokens.Token | None, scope: Scope) -> JSONResponse | None:
    if token is None:
        presented = "another" if any(name == b"authorization" for name, _ in scope["headers"]) else "none"
        return problem(
            401,
            "unauthorized",
            f"expected the header `Authorization: Bearer TOKEN` with a token of this server, found {presented}",
            headers={"WWW-Authenticate": "Bearer"},
        )
    scope["principal"] = token.name
    if token.state != "valid":
        return problem(
            401,
            "unauthorized",
            f"expected a token that counts, found one that is {token.state}",
            hint="`topostrata token create` makes another",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    wanted = needed(scope["method"], path_of(scope))
    if token.may(wanted):
        return None
    return problem(
        403,
        "forbidden",
        f"expected a token with the scope {wanted}, found one with {', '.join(token.scopes)}",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{wanted}"'},
    )
