"""What every request passes first, below the framework: whose name it asks for, and HEAD as GET without the body."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from stratigraph.service.api.problems import problem

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Door:
    """Refuses hosts that are not this machine's: a page elsewhere cannot reach the API by a name it points here."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str] = LOOPBACK) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = asked[: asked.index("]") + 1] if asked.startswith("[") and "]" in asked else asked.partition(":")[0]
        if name not in self._hosts:
            refused = problem(400, "unknown-host", "expected a name of this machine as the host, found another")
            await refused(scope, receive, send)
            return
        # The server leaves the body of an answer to HEAD away by itself.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self._app(inner, receive, send)
