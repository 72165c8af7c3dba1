"""`topostrata serve` ends when it is told to, whatever it computes."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from tests.histories import sparse_history
from tests.reference_runs import service
from topostrata.archive import open_archive

HISTORY = sparse_history(1, snapshots=2, widths=(1000, 1000, 1000, 10), density=0.05, churn=0.3)
NONE_WAITS = 'topostrata_waiting{lane="slow"} 0.0'


@pytest.mark.skipif(find_spec("prometheus_client") is None, reason="expected prometheus_client of [server], found none")
def test_what_computes_for_minutes_does_not_keep_the_service(engine_directory: Path) -> None:
    """After SIGTERM answers under way have their time; then whoever waits is told 503, and all processes end with 0."""
    with open_archive(engine_directory) as archive:
        for step, topology in HISTORY.snapshots:
            archive.push("w0", step, topology, projection="none")
    for processes in (1, 2):
        with service(engine_directory, "--workers", str(processes), stop_timeout_s=1) as (client, server):
            stop_while_it_computes(str(client.base_url), server, processes * max(2, os.cpu_count() or 1))


def stop_while_it_computes(url: str, server: subprocess.Popen[str], computed_at_once: int) -> None:
    a, b = (f"w0@{step}" for step in HISTORY.steps)

    def ask(seed: int) -> httpx.Response:
        query: dict[str, str | int] = {"a": a, "b": b, "tests": 9999, "seed": seed}  # minutes
        return httpx.get(f"{url}/v1/related", params=query, timeout=300)

    with ThreadPoolExecutor(computed_at_once + 1) as pool:
        answers = [pool.submit(ask, seed) for seed in range(computed_at_once + 1)]
        deadline = monotonic() + 120
        while NONE_WAITS in httpx.get(f"{url}/metrics", timeout=60).text:  # until one more is there than are computed
            assert monotonic() < deadline
            sleep(0.1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert {answer.result().status_code for answer in answers} == {503}
        assert {answer.result().json()["code"] for answer in answers} == {"busy"}
    assert server.stderr is not None
    assert "what was still computed when the service was stopped ends with it" in server.stderr.read()
