"""The token that every request needs, except for the paths that say whether the service runs."""

from __future__ import annotations

import hashlib
import hmac

from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.types import Scope

from topostrata.service.api.problems import problem

OPEN = frozenset({"/healthz", "/readyz"})

# For the contract alone: AccessCheck has checked the token before any route is looked for.
documented = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="The token of TOPOSTRATA_API_TOKEN. On loopback a server without one answers everybody.",
)


class Guard:
    """Knows the token when it sees it. It is random and long, so that one hash is all that has to be kept of it."""

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request without the token; None where it may go on."""
        if scope["path"] in OPEN:
            return None
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(shown) == 1 and self._admits(shown[0]):
            return None
        presented = "another" if shown else "none"
        return problem(
            401,
            "unauthorized",
            f"expected the header `Authorization: Bearer TOKEN` with the token of this server, found {presented}",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _admits(self, header: bytes) -> bool:
        scheme, _, token = header.partition(b" ")
        digest = hashlib.sha256(token.strip(b" ")).digest()
        return hmac.compare_digest(digest, self._digest) and scheme.lower() == b"bearer"
