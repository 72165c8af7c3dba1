"""The outermost layer: what every answer has, what is counted and logged of it, and errors that nobody expected."""

from __future__ import annotations

import logging
import re
import secrets
from asyncio import CancelledError
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from topostrata.service.api.logs import REQUEST
from topostrata.service.api.problems import problem
from topostrata.service.api.telemetry import Telemetry

logger = logging.getLogger(__name__)
access = logging.getLogger("topostrata.access")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Edge:
    """Sees each request first and each answer last."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, under the id that it brings or a new one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        brought = Headers(scope=scope).get("x-request-id", "")
        request_id = brought if _ID.fullmatch(brought) else secrets.token_hex(8)
        token = REQUEST.set(request_id)
        status = 500
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun, status
            if message["type"] == "http.response.start":
                begun, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if "as_of" in scope:
                    headers["As-Of"] = str(scope["as_of"])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        begin = perf_counter()
        try:
            await self._app(scope, receive, send_with_headers)
        except CancelledError:  # the service is stopped, and this took longer than it waits
            if begun:
                return  # the server closes the connection
            answer = problem(503, "busy", "the service was stopped before this was answered")
            await answer(scope, receive, send_with_headers)
        except Exception:
            logger.exception("unexpected error: %s %s", scope["method"], scope["path"][:200])
            if begun:
                raise  # the server closes the connection: nothing else can say that the answer is not whole
            answer = problem(500, "internal-error", "an unexpected error; the server's log says more")
            await answer(scope, receive, send_with_headers)
        finally:
            seconds = perf_counter() - begin
            route = _template(scope)
            self._telemetry.answered(scope["method"], route, status, seconds)
            who = scope.get("principal", "")
            access.info("%s %s %s", scope["method"], route, status, extra={"seconds": round(seconds, 6), "who": who})
            REQUEST.reset(token)


def _template(scope: Scope) -> str:
    """The path of a route with the names of its parameters: their values would be labels without end."""
    return str(getattr(scope.get("route"), "path", "none"))
