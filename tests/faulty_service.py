"""A Topostrata service behind something that does wrong what it is told to, as networks and proxies do."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# What can go wrong with a request; "" is nothing.
WRONGS = ("500", "502", "503", "429", "404", "reset", "reset answer", "lost answer", "login page", "slow", "absent")
_SLOW_S = 0.2


class FaultyService(ThreadingHTTPServer):
    """Passes requests on to the service at a URL, but for those that ``wrong`` has a fault for.

    ``wrong`` is called with the method and path of each. ``retry_after`` is what 429 and 503 ask for.
    """

    daemon_threads = True

    def __init__(self, upstream: str, wrong: Callable[[str, str], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.wrong = upstream, wrong
        self.retry_after: str | None = None
        self.requests: list[tuple[str, str, int]] = []  # method, path and status of what the service answered

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyService

    def _handle(self) -> None:
        wrong = self.server.wrong(self.command, self.path)
        if wrong in {"reset", "absent"}:  # in the midst of the body, or before any of it
            self.rfile.read(10 if wrong == "reset" and self.headers["Content-Length"] else 0)
            self.connection.shutdown(2)
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if wrong == "slow":
            threading.Event().wait(_SLOW_S)
        if wrong == "login page":  # what stands before the service answers in its place
            self._answer(200, b"<html>who are you?</html>")
        elif wrong.isdigit():
            self._answer(int(wrong), json.dumps({"detail": "not now"}).encode())
        else:
            status, kind, answer = self._pass_on(body)
            if wrong == "lost answer":
                self.close_connection = True
            else:
                self._answer(status, answer, kind, whole=wrong != "reset answer")

    do_GET = do_PUT = do_PATCH = do_POST = _handle  # noqa: N815 - names of http.server

    def _pass_on(self, body: bytes) -> tuple[int, str, bytes]:
        parts = urlsplit(self.server.upstream)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        self.server.requests.append((self.command, self.path, response.status))
        return response.status, response.headers.get("Content-Type", ""), answer

    def _answer(self, status: int, data: bytes, kind: str = "text/html", *, whole: bool = True) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", kind)
        if status in {429, 503} and self.server.retry_after is not None:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(data if whole else data[: len(data) // 2])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def faulty(upstream: str, wrong: Callable[[str, str], str]) -> Iterator[FaultyService]:
    """It, while it runs."""
    with FaultyService(upstream, wrong) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def one_after_the_other(*wrongs: str) -> Callable[[str, str], str]:
    """A fault for each of the first snapshots that are sent; other requests pass."""
    left = list(wrongs)
    return lambda method, path: left.pop(0) if left and method == "PUT" and "/snapshots/" in path else ""
