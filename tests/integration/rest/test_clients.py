"""Clients that are slow, go away or ask for much: they cost little, and nobody else notices."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.reference_runs import service
from topostrata.ingest.formats import snapshot_file
from topostrata.store.embedded import stop
from topostrata.topology import Topology

MIB = 2**20
BODY = 8 * MIB  # the largest that this service takes


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """A service of little patience, with one run."""
    store = tmp_path_factory.mktemp("clients") / "archive"
    with service(store, request_timeout_s=1, max_body_bytes=BODY) as (client, process):
        body = BytesIO()
        snapshot_file.write(body, Topology.from_masks([np.ones((100, 100))]))
        assert client.put("/v1/runs/w0/snapshots/0", content=body.getvalue()).status_code == 201
        yield client, process
    stop(store, force=True)


@pytest.fixture
def client(running: tuple[httpx.Client, subprocess.Popen[str]]) -> httpx.Client:
    """A client of it."""
    return running[0]


def connect(client: httpx.Client) -> socket.socket:
    """A connection of its own."""
    return socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=60)


def put(length: int, *, path: str = "/v1/runs/w1/snapshots/0", expect: bool = False) -> bytes:
    """The head of an upload."""
    more = "Expect: 100-continue\r\n" if expect else ""
    return f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def all_of(connection: socket.socket) -> bytes:
    """What the service says until it closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def resident(process: subprocess.Popen[str]) -> int:
    """How much memory a process has, in bytes."""
    pages = Path(f"/proc/{process.pid}/statm").read_text("utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("head", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for(client: httpx.Client, head: bytes) -> None:
    """The connection is closed, without a word, and others are answered meanwhile."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(client)) for _ in range(20)]
        for connection in connections:
            connection.sendall(head)
        assert client.get("/healthz").status_code == 200
        assert [all_of(connection) for connection in connections] == [b""] * 20


def test_a_second_head_that_does_not_come_is_not_waited_for_either(client: httpx.Client) -> None:
    """Nor does a body that nobody wanted keep a connection open by dripping in."""
    with connect(client) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.setblocking(False)
        closed = select.poll()
        closed.register(connection, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
        for _ in range(6000):
            try:
                connection.send(b"x")
            except OSError:
                return
            if closed.poll(10):
                return
        raise AssertionError("the connection is open after a minute")


def test_a_body_that_does_not_come_is_not_waited_for(client: httpx.Client) -> None:
    """408, as a problem, and the connection is closed."""
    with connect(client) as connection:
        connection.sendall(put(1000) + b"PK")
        head, _, body = all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["code"] == "request-timeout"
    assert client.get("/v1/runs/w1").status_code == 404


def test_an_answer_that_is_not_taken_is_given_up(client: httpx.Client) -> None:
    """Whoever asks and asks and reads nothing loses the connection."""
    asked = b"GET /v1/runs/w0/connections?layer=l0&status=survived&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect((client.base_url.host, client.base_url.port or 80))
        connection.sendall(asked * 200)
        closed = select.poll()
        closed.register(connection, select.POLLHUP | select.POLLERR)
        assert closed.poll(60_000), "the connection is open after a minute"
    assert client.get("/v1/runs/w0").status_code == 200


def test_uploads_that_break_off_leave_no_memory_and_no_noise(
    running: tuple[httpx.Client, subprocess.Popen[str]],
) -> None:
    """Twenty large ones, each cut at its end: the process is no larger than before, and its log has not a line."""
    client, process = running
    assert process.stderr is not None

    def break_off() -> bool:
        with connect(client) as connection:
            connection.sendall(put(BODY, expect=True))
            if connection.recv(100).startswith(b"HTTP/1.1 503 "):  # those before it are not all noticed yet
                return False
            connection.sendall(b"x" * (BODY - 1))
            return True

    while not break_off():
        pass
    assert client.get("/healthz").status_code == 200
    before = resident(process)
    count = 0
    while count < 20:
        count += break_off()
    assert client.get("/v1/runs/w1").status_code == 404
    assert resident(process) < before + 5 * BODY
    assert not select.select([process.stderr], [], [], 0)[0], process.stderr.readline()


def test_bodies_in_flight_are_bounded_in_sum(client: httpx.Client) -> None:
    """Four of the largest fit; the fifth is told to come again, before any of it is read, and finds room later."""
    while client.put("/v1/runs/w1/snapshots/0", content=b"x" * BODY).status_code == 503:
        pass  # of other tests
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(client)) for _ in range(4)]
        for connection in connections:
            connection.sendall(put(BODY, expect=True))
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        with connect(client) as fifth:
            fifth.sendall(put(BODY, expect=True))
            head, _, body = all_of(fifth).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in head.lower()
        assert json.loads(body)["code"] == "busy"
        assert client.get("/v1/runs/w0").status_code == 200
        for connection in connections:
            connection.close()
        while client.put("/v1/runs/w1/snapshots/0", content=b"x" * MIB).status_code == 503:
            pass


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/runs/w2", json.dumps({"x" * 1000 + str(k): 1 for k in range(900)})),
        ("PUT", "/v1/runs/w2", json.dumps({"status": "x" * 900_000})),
        ("PUT", "/v1/runs/w2", json.dumps({"tags": ["x y" * 300_000]})),
        ("PUT", "/v1/runs/w2", json.dumps({"tags": [1] * 300_000})),
        ("PUT", "/v1/runs/w0/metrics/1", json.dumps({"x" * MIB: 1})),
        ("PUT", "/v1/runs/w0/metrics/1", json.dumps({"metrics": {"X" * MIB: 1}})),
        ("PUT", "/v1/runs/w0/metrics/1", json.dumps({"metrics": {"x": "1" * MIB}})),
        ("GET", "/v1/distances/matrix?refs=w0@" + "*a" * 20_000, None),
        ("GET", "/v1/distances/matrix?refs=w0@" + "1" * 40_000, None),
        ("GET", "/v1/distances?b=w0&a=" + "w" * 40_000, None),
        ("GET", "/v1/gradient-flow?run=" + "*a" * 20_000, None),
        ("GET", "/v1/runs/" + "w" * 40_000, None),
        ("GET", "/v1/runs?cursor=" + "w" * 40_000, None),
        ("GET", "/v1/runs/w0/connections?status=born&layer=" + "w" * 40_000, None),
        ("GET", "/v1/runs?" + "x" * 40_000, None),
        ("GET", "/" + "x" * 40_000, None),
    ],
)
def test_no_answer_repeats_at_length_what_was_sent(
    client: httpx.Client, method: str, path: str, body: str | None
) -> None:
    """An error shows enough of what was found, never all of it."""
    json_ = {"Content-Type": "application/json"} if body else {}
    answer = client.request(method, path, content=body, headers=json_)
    assert answer.status_code in {404, 413, 422}, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 5000
    assert answer.json()["code"] in {"invalid-input", "invalid-ref", "limit", "not-found"}


@pytest.mark.parametrize("text", [b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"x" * 200_000])
def test_what_is_no_http_is_a_problem_too(client: httpx.Client, text: bytes) -> None:
    """With a stable code, and the connection is closed."""
    with connect(client) as connection:
        try:
            connection.sendall(text)
        except ConnectionError:  # it did not wait for all of it
            return
        head, _, body = all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") or not head
    assert not head or json.loads(body)["code"] == "invalid-http"


def test_a_hundred_connections_at_once_are_all_answered(client: httpx.Client) -> None:
    """Each keeps its own connection, all asked before the first answer is read."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(client)) for _ in range(100)]
        for connection in connections:
            connection.sendall(b"GET /v1/runs/w0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heads: list[Any] = [connection.recv(65536) for connection in connections]
    assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
