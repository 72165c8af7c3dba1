"""Checks before the framework sees a request: its host and its token. HEAD is handled as GET."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from topostrata.service.api.auth import Guard, is_open, path_of
from topostrata.service.api.problems import problem

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class AccessCheck:
    """Refuses hosts that are not this machine's names, so that no web page reaches the API by DNS rebinding.

    With a guard it also refuses requests without the token, before it reads their bodies.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = (), guard: Guard | None = None) -> None:
        self._app = app
        self._hosts = LOOPBACK | set(hosts)
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route uses websockets, so none can bypass the guard
            await send({"type": "websocket.close", "code": 1008})
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if name not in self._hosts:
            refused = problem(400, "unknown-host", "expected a name of this machine as the host, found another")
            await refused(scope, receive, send)
            return
        refusal = _from_elsewhere(scope, host) or (self._guard.refusal(scope) if self._guard else None)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        # The server itself drops the body of an answer to HEAD.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self._app(inner, receive, send)


def _from_elsewhere(scope: Scope, host: str) -> JSONResponse | None:
    """The refusal of what a page elsewhere asks of a browser that reaches this service; a link to our page is fine."""
    headers = dict(scope["headers"])
    site = headers.get(b"sec-fetch-site", b"none").decode("latin-1").lower()
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    elsewhere = site not in {"none", "same-origin"} or (origin and origin.partition("://")[2] != host)
    if not elsewhere or (is_open(path_of(scope)) and headers.get(b"sec-fetch-mode") == b"navigate"):
        return None
    return problem(403, "cross-site", "expected a request that no page of another site makes, found such a one")
