"""The token that every request needs, except for the paths that say whether the service runs."""

from __future__ import annotations

import hashlib
import hmac

from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.types import Scope

from topostrata.service.api.problems import problem
from topostrata.service.api.routes import page

OPEN = frozenset({"/healthz", "/readyz"})

# For the schema only: AccessCheck has checked the token before the routing.
documented = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="The token of TOPOSTRATA_API_TOKEN. On loopback a server without one answers everybody.",
)


class Guard:
    """Checks tokens. It keeps only one hash of the right token: that is enough, as the token is random and long."""

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer that refuses a request without the token; None if the request has it."""
        if scope["path"] in OPEN or page.is_open(scope["path"]):
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
