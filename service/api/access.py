"""What every request passes first, below the framework: whose name it asks for, its token, and HEAD as GET."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from topostrata.service.api.auth import Guard
from topostrata.service.api.problems import problem

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class AccessCheck:
    """Refuses hosts that are not this machine's: a page elsewhere cannot reach the API by a name it points here.

    With a guard it refuses all that does not show the token, before anything of it is read.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = (), guard: Guard | None = None) -> None:
        self._app = app
        self._hosts = LOOPBACK | set(hosts)
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks anything else, so nothing comes past the guard by it
            await send({"type": "websocket.close", "code": 1008})
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if name not in self._hosts:
            refused = problem(400, "unknown-host", "expected a name of this machine as the host, found another")
            await refused(scope, receive, send)
            return
        refusal = self._guard.refusal(scope) if self._guard else None
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        # The server leaves the body of an answer to HEAD away by itself.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self._app(inner, receive, send)
