"""A service as the store of a training job: its token, and everything that a server and a network can do wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from tests.training_job import expected, left, masks, turnover
from topostrata.archive import open_archive
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.hook.run import init
from topostrata.service.sync import Sender, spools
from topostrata.settings import Settings
from topostrata.store.embedded import stop

TOKEN = "0123456789abcdef0123456789abcdef"


class Service(ThreadingHTTPServer):
    """Keeps snapshots as a service does, after doing wrong what it is told to, a request each."""

    def __init__(self, wrongs: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wrongs = wrongs
        self.kept: dict[str, bytes] = {}
        self.puts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers as it is told."""

    server: Service

    def do_PUT(self) -> None:
        wrong = self.server.wrongs.pop(0) if self.server.wrongs else ""
        if wrong == "reset":  # in the midst of the body
            self.rfile.read(10)
            self.connection.shutdown(2)
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.puts += 1
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"code": "unauthorized", "detail": "expected another token"})
        elif wrong == "lost answer":  # it has it, and cannot say so
            self.server.kept[self.path] = body
            self.close_connection = True
        elif wrong == "login page":  # what stands before the service answers in its place
            self._answer(200, {})
        elif wrong:
            self._answer(int(wrong), {"detail": "not now"})
        else:
            fresh = self.path not in self.server.kept
            self.server.kept[self.path] = body
            topology = snapshot_file.read(BytesIO(body)).topology
            self._answer(201 if fresh else 200, {"digest": topology.digest})

    def _answer(self, status: int, body: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(*wrongs: str) -> Iterator[Service]:
    with Service(list(wrongs)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def record(directory: Path, store: str, steps: int = 3) -> Path:
    with init("w0", store=store, spool=directory, mode="offline") as run:
        for step in range(steps):
            run.log(masks("w0", step), step=step, after_removal=left("w0", step) if step else None)
    (file,) = spools(directory)
    return file


@pytest.mark.parametrize("wrong", ["500", "503", "429", "502", "404", "reset", "lost answer", "login page"])
def test_what_a_service_does_wrong_costs_nothing_but_time(wrong: str, tmp_path: Path) -> None:
    """The next try goes on where the last one ended; every snapshot is there in the end, whole, and was sent once."""
    settings = Settings(api_token=TOKEN)
    with serving("", wrong) as service:
        file = record(tmp_path, service.url)
        told: list[str] = []
        with Sender(settings, tell=lambda kind, message: told.append(kind)) as sender:
            (state,) = sender.send(file)
            assert (state.code, state.added, state.waiting) == ("store-unavailable", 1, 2)
            (state,) = sender.send(file)
        assert state.is_sent
        assert told == ["store-unavailable"]
        assert sorted(service.kept) == [f"/v1/runs/w0/snapshots/{step}" for step in range(3)]
        for step in range(3):
            body = snapshot_file.read(BytesIO(service.kept[f"/v1/runs/w0/snapshots/{step}"]))
            assert body.topology == expected("w0", step)
            assert body.layer_metrics == (turnover("w0", step) if step else {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("token", [None, "f" * 8 + "0123456789abcdef01234567"])
def test_a_wrong_token_is_named_and_nothing_is_lost(token: str | None, tmp_path: Path) -> None:
    """The spool waits for the right one."""
    with serving() as service:
        file = record(tmp_path, service.url)
        with Sender(Settings(api_token=token), tell=lambda _kind, _message: None) as sender:
            (state,) = sender.send(file)
        assert (state.code, state.waiting) == ("settings", 3)
        assert "refuses the token" in str(state.error)
        assert token is None or token not in str(state.error)
        with Sender(Settings(api_token=TOKEN), tell=lambda _kind, _message: None) as sender:
            (state,) = sender.send(file)
        assert (state.added, state.is_sent) == (3, True)


WITHOUT_SERVER = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"neo4j", "fastapi", "networkx", "numba", "arcadedb_embedded"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from topostrata.service.cli.main import app
app(["sync", *sys.argv[1:]], standalone_mode=False)
"""


def test_the_base_install_sends_to_a_service(tmp_path: Path) -> None:
    """Without the server's packages; for an archive of its own it names the extra, and the spool stays."""
    with serving() as service:
        file = record(tmp_path, service.url)
        command = [sys.executable, "-c", WITHOUT_SERVER, str(file)]
        environment = {**os.environ, "TOPOSTRATA_API_TOKEN": TOKEN}
        refused = subprocess.run(
            [*command, "--store", str(tmp_path)], capture_output=True, text=True, check=False, env=environment
        )
        assert "needs the extra [server]" in refused.stderr
        assert file.exists()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        assert len(service.kept) == 3


def test_what_a_service_cannot_be_told_stays_in_the_spool(tmp_path: Path) -> None:
    """Config, tags and parents are said to be left, and the spool with them."""
    with serving() as service:
        with init("w0", store=service.url, spool=tmp_path, mode="offline", tags=["set"]) as run:
            run.log(masks("w0", 0), step=0)
        told: list[str] = []
        with Sender(Settings(api_token=TOKEN), tell=lambda kind, _message: told.append(kind)) as sender:
            (state,) = sender.send(tmp_path)
        assert state.is_sent
        assert told == ["not-taken"]
        assert len(spools(tmp_path)) == 1


def test_a_job_sends_to_a_real_service(tmp_path: Path) -> None:
    """Online, with a token, by ``topostrata serve``: its snapshots stand in the archive behind it when it ends."""
    store = tmp_path / "archive"
    command = [sys.executable, "-m", "topostrata.service.cli.main", "serve", "--port", "0", "--store", str(store)]
    environment = {**os.environ, "TOPOSTRATA_API_TOKEN": TOKEN}
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
            assert server.stderr is not None
            url = server.stderr.readline().split()[1].removesuffix("/v1/runs")
            with init("w0", store=url, token=TOKEN, spool=tmp_path / "spool") as run:
                for step in (0, 1, 2, 1, 5):
                    removal = left("w0", step) if step == 2 else None
                    run.log(masks("w0", step), step=step, after_removal=removal)
                run.log(masks("w0", 9), step=4)  # back once more: another fork
            assert dict(run.counts.troubles) == {"forked": 1}
            server.terminate()
            server.wait(30)
        with open_archive(store, create=False) as archive:
            steps = {run.id: [snapshot.step for snapshot in archive.snapshots(run.id)] for run in archive.runs()}
            assert archive.topology("w0@2") == expected("w0", 2)
            assert archive.snapshot("w0@2").layer_metrics == turnover("w0", 2)
    finally:
        stop(store, force=True)
    assert steps == {"w0": [0, 1, 2, 5], "w0-fork-4": [4]}
