"""Connections that keep nobody waiting: a head that does not come, an answer that is not taken, too many at once.

The server itself knows only a limit on idle connections that were used before. Bodies have theirs where they are read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
import struct
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 1000
_SPARE_FILES = 64  # for the archive, logs and whatever else is open

logger = logging.getLogger(__name__)


def most_connections() -> int:
    """As many connections as the system lets the process have files open, within reason."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else max(8, min(MOST, files - _SPARE_FILES))


class PatientProtocol(H11Protocol):
    """HTTP/1.1 where the head of a request and the taking of an answer each have ``patience_s`` seconds."""

    patience_s = 20.0
    most = MOST

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._head: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "busy", "expected fewer connections, found as many as the service takes", retry=True)
            return
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what comes; once it makes up a head, its time is over."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._cancel()
        elif self._head is None and before is not None and before.response_complete:
            # The next head has begun, or a body that nobody wanted goes on. Who is silent is the server's own business.
            self._wait_for_head()

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it is sent."""
        super().pause_writing()
        self._taking = self.loop.call_later(self.patience_s, self._give_up)

    def resume_writing(self) -> None:
        """It takes it."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._cancel()
        super().connection_lost(exc)
        if self._taking is not None:
            self._taking.cancel()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, as a problem like all others."""
        self._refuse(400, "invalid-http", msg)

    def _refuse(self, status: int, code: str, detail: str, *, retry: bool = False) -> None:
        title = "Service Unavailable" if status == 503 else "Bad Request"
        problem = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *([(b"retry-after", b"2")] if retry else []),
        ]
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            for event in (
                h11.Response(status_code=status, headers=headers, reason=title.encode()),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._cancel()
        self._head = self.loop.call_later(self.patience_s, self.transport.close)

    def _cancel(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        logger.info("a client did not take its answer for %g s: closed", self.patience_s)
        connection = self.transport.get_extra_info("socket")
        if connection is not None:  # without this the system itself would go on keeping what it could not send
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
