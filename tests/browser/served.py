"""``topostrata serve`` in a process of its own, which can go and come back at the same address, and what it shows."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.histories import sparse_history
from topostrata.archive import Archive
from topostrata.runs import Parent
from topostrata.topology import Topology

# No traffic but to the page: a browser looks for its makers' hosts otherwise.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MARKUP = "<img/src=x/onerror=document.title='owned'>"  # a tag has no white space
STEPS = (0, 10, 15, 40)


def chromium() -> str | None:
    """Where Chromium is, by the names that distributions give it."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def fill(archive: Archive) -> None:
    """Three runs of one family over uneven steps, with metrics, and one that has no snapshot yet."""
    for number in range(3):
        run = f"w{number}"
        parents = [Parent(f"w{number - 1}", 0, "perturbation")] if number else []
        archive.create_run(run, name=MARKUP, tags=[MARKUP, "set"], parents=parents)
        history = sparse_history(40 + number, snapshots=len(STEPS), widths=(30, 24, 24, 5), density=0.2, churn=0.3)
        for step, (_, topology) in zip(STEPS, history.snapshots, strict=True):
            archive.push(run, step, topology, metrics={"accuracy": 0.5 + step / 100})
    archive.create_run("awaited")
    first = sparse_history(50, snapshots=1, widths=(6, 5, 4), density=0.4, churn=0.0).snapshots[0][1]
    layers = [replace(layer, name=f"{MARKUP}{k}") for k, layer in enumerate(first.layers)]
    archive.push("odd", 0, Topology(tuple(layers)))


class Service:
    """The service on a store. ``stop`` and ``start`` keep its port."""

    def __init__(self, store: Path, *, token: str | None = None, root_path: str = "") -> None:
        self.store = store
        self._environment = os.environ | ({"TOPOSTRATA_API_TOKEN": token} if token else {})
        self._process: subprocess.Popen[str] | None = None
        self.token = token
        self._root_path = root_path
        self.port = "0"

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it and return when it answers."""
        command = [sys.executable, "-m", "topostrata.service.cli.main", "serve", "--store", str(self.store)]
        self._process = subprocess.Popen(
            [*command, "--port", self.port, "--root-path", self._root_path],
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert line.startswith("serving http://127.0.0.1:"), line
        self.port = line.split()[1].rpartition(":")[2].partition("/")[0].strip()

    def stop(self) -> None:
        """End it as Ctrl-C would."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=60)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Proxy(ThreadingHTTPServer):
    """Has a service under a path of its own, which it takes away before it passes a request on, with its host."""

    daemon_threads = True

    def __init__(self, service: Service, path: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.service, self.path = service, path

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}{self.path}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()


class _Passing(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        if not self.path.startswith(f"{self.server.path}/"):
            self.send_error(404, "not below the path of the service")
            return
        length = int(self.headers.get("Content-Length", 0))
        beyond = http.client.HTTPConnection("127.0.0.1", int(self.server.service.port))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        with closing(beyond), suppress(OSError, http.client.HTTPException):  # whoever went away, the page says so
            path = self.path.removeprefix(self.server.path)
            beyond.request(self.command, path, self.rfile.read(length) if length else None, headers)
            answer = beyond.getresponse()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.end_headers()
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def log_message(self, *args: object) -> None:
        pass
