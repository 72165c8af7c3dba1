"""The service as those who run it see it: counts, logs, pages, TLS, a path behind a proxy."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.reference_runs import Shell


@contextmanager
def serving(store: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`topostrata serve` with these options: its URL, and the process."""
    command = [sys.executable, "-m", "topostrata.service.cli.main", "serve", "--port", "0", "--store", str(store)]
    with subprocess.Popen([*command, "--json", *options], stdout=-1, stderr=-1, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"], server
        finally:
            server.terminate()
            server.wait(30)


def answering(server: subprocess.Popen[str]) -> list[int]:
    """The ids of the processes that answer for a service."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii").split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_logs_are_lines_of_json_under_the_id_of_the_request(shell: Shell) -> None:
    """The id that a client brings, or a new one, in the answer and in each line; no path that was asked, no token."""
    with serving(shell.store, "--json-log", "--root-path", "/archive") as (url, server):
        with httpx.Client(base_url=url) as client:
            brought = client.get("/v1/runs/w0", headers={"X-Request-ID": "mine-1"})
            assert brought.headers["x-request-id"] == "mine-1"
            other = client.get("/v1/runs/w0", headers={"X-Request-ID": "two words"}).headers["x-request-id"]
            assert re.fullmatch("[0-9a-f]{16}", other)
            assert client.get("/v1/runs?limit=1").json()["next"].startswith("/archive/v1/runs?")
            assert client.get("/healthz").status_code == 200
        server.terminate()
        assert server.stderr is not None
        lines = [json.loads(line) for line in server.stderr.read().splitlines()]
    ours = [line for line in lines if line["logger"] == "topostrata.access"]
    assert [line["message"] for line in ours] == [
        "GET /v1/runs/{run} 200",
        "GET /v1/runs/{run} 200",
        "GET /v1/runs 200",
        "GET /healthz 200",
    ]
    assert [line["request"] for line in ours[:2]] == ["mine-1", other]
    assert all(line["seconds"] >= 0 for line in ours)


@pytest.mark.skipif(find_spec("prometheus_client") is None, reason="expected prometheus_client of [server], found none")
def test_answers_are_counted_by_the_templates_of_their_routes(rest: httpx.Client) -> None:
    """Whatever was asked, the labels are few."""
    for path in ("/v1/runs/w0", "/v1/runs/w1", "/v1/runs/nobody", "/v1/nowhere/1", "/v1/nowhere/2"):
        rest.get(path)
    answer = rest.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    counts = dict(re.findall(r"^(topostrata_requests_total{.*}) (.*)$", answer.text, re.MULTILINE))
    assert float(counts['topostrata_requests_total{method="GET",route="/v1/runs/{run}",status="200"}']) >= 2
    assert float(counts['topostrata_requests_total{method="GET",route="/v1/runs/{run}",status="404"}']) >= 1
    assert "nobody" not in answer.text
    assert "nowhere" not in answer.text
    assert 'topostrata_waiting{lane="slow"} 0.0' in answer.text


def test_the_reference_needs_no_script_and_no_network(rest: httpx.Client) -> None:
    """Every operation of the contract stands in it; it loads nothing."""
    answer = rest.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Page(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Page().feed(answer.text)
    assert not [tag for tag, attributes in tags if tag in {"script", "link", "img", "iframe"} or "src" in attributes]
    contract = rest.get("/openapi.json").json()
    for path, methods in contract["paths"].items():
        for method in methods:
            assert f"<h3>{method.upper()} {path}</h3>" in answer.text


def counted(url: str, answers: int) -> str:
    """The metrics of a service, once they count so many answers about one run: one is counted after it was sent."""
    deadline = time.monotonic() + 60
    line = f'topostrata_requests_total{{method="GET",route="/v1/runs/{{run}}",status="200"}} {answers}.0\n'
    while line not in (metrics := httpx.get(f"{url}/metrics", timeout=60).text):
        assert time.monotonic() < deadline, metrics
        time.sleep(0.05)
    return metrics


@pytest.mark.skipif(find_spec("prometheus_client") is None, reason="expected prometheus_client of [server], found none")
def test_several_processes_are_one_service(shell: Shell) -> None:
    """They count together; one that is killed is replaced; a job that any of them takes is worked on; all end together."""
    with serving(shell.store, "--workers", "2") as (url, server):
        processes = answering(server)
        assert len(processes) == 2
        for _ in range(8):
            assert httpx.get(f"{url}/v1/runs/w0", timeout=60).json()["run"] == "w0"
        counted(url, 8)  # else the last of them might be killed before it counts its answer
        os.kill(processes[0], signal.SIGKILL)
        assert server.stderr is not None
        assert "ended with status -9; another takes its place" in server.stderr.readline()
        for _ in range(8):
            assert httpx.get(f"{url}/v1/runs/w0", timeout=60).json()["run"] == "w0"
        assert 'topostrata_waiting{lane="quick"} 0.0' in counted(url, 16)
        about = {"kind": "inference", "refs": ["w0@0", "w1@0"], "alignment": "identity"}
        job = httpx.post(f"{url}/v1/jobs", json=about, timeout=60).headers["location"].rpartition("/")[2]
        assert shell.json("jobs", "wait", job)["status"] == "finished"
        last = answering(server)
        assert processes[1] in last
        server.terminate()
        assert server.wait(60) == 0
        assert not [pid for pid in last if Path(f"/proc/{pid}").exists()]


def test_the_service_speaks_tls(shell: Shell, tmp_path: Path) -> None:
    """With a certificate and its key, of which others cannot read the key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("expected openssl to make a certificate with, found none")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    made_by = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *named]
    subprocess.run(made_by, check=True, capture_output=True)
    with serving(shell.store, "--tls-cert", str(cert), "--tls-key", str(key)) as (url, _):
        assert url.startswith("https://")
        answer = httpx.get(f"{url}/v1/runs/w0", verify=ssl.create_default_context(cafile=str(cert)))
        assert answer.json()["run"] == "w0"
    assert "without the other" in shell.fails("serve", "--tls-cert", str(cert), code=2)
    assert "expected a path" in shell.fails("serve", "--root-path", "archive/", code=2)
