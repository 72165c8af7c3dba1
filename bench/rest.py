"""What answers over REST take, on kept connections as programs have them: `topostrata serve` in its own process.

    python bench/rest.py

Two runs of 784-1000-1000-1000-10 at 1.3 %. Each path is asked 200 times on one connection, after 10 that do not count;
then by 32 clients at once for 10 s. The service's processor time is counted apart from the clients'. `/healthz` is also
asked while 45 clients ask for matrices, and a stored distance while a job computes one. Uploads are snapshots of 20,000
connections, each of a run of its own, also with `connections=later`: then it is said, too, when the last were drawn. At
last 200 clients read and write for a minute; a connection that breaks counts.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from surroundings import surroundings

from topostrata.archive import open_archive
from topostrata.ingest.formats import snapshot_file
from topostrata.store.embedded import stop
from topostrata.topology import Topology

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.reference_runs import service

WIDTHS = (784, 1000, 1000, 1000, 10)
TIMES = 200
MANY = 150  # snapshots of a matrix that takes a minute
CLIENTS = 32
CROWD, CROWD_SECONDS = 200, 60.0
FOLLOWING = 100  # snapshots whose connections follow
BROKEN = 0  # the status of a connection that broke
SECONDS = 10.0
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
DISTANCE = "/v1/distances?a=w0@0&b=w1@0&alignment=identity"
PATHS: dict[str, tuple[str, dict[str, str]]] = {
    "nothing: `/healthz`": ("/healthz", {}),
    "a run": ("/v1/runs/w0", {}),
    "a page of 100 runs": ("/v1/runs", {}),
    "a distance, identity": (DISTANCE, {}),
    "a distance, overlap": ("/v1/distances?a=w0@0&b=w1@0", {}),
    "a topology, npz": ("/v1/runs/w0/snapshots/0/topology", {}),
    "a topology, Arrow": ("/v1/runs/w0/snapshots/0/topology", ARROW),
    "a topology, JSON": ("/v1/runs/w0/snapshots/0/topology", {"Accept": "application/json"}),
}

Ask = Callable[[http.client.HTTPConnection], int]


def network(seed: int, widths: tuple[int, ...] = WIDTHS, density: float = 0.013) -> Topology:
    rng = np.random.default_rng(seed)
    return Topology.from_masks(
        [sp.random_array(shape, density=density, rng=rng, format="csr") for shape in pairwise(widths)]
    )


def getting(path: str, headers: dict[str, str] | None = None) -> Ask:
    def ask(connection: http.client.HTTPConnection) -> int:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    return ask


def milliseconds(connection: http.client.HTTPConnection, ask: Ask, times: int = TIMES) -> list[float]:
    taken = []
    for _ in range(times + 10):
        begin = time.perf_counter()
        status = ask(connection)
        taken.append((time.perf_counter() - begin) * 1000)
        if status not in {200, 201}:
            raise SystemExit(f"expected an answer, found {status}")
    return sorted(taken[10:])


def together(url: tuple[str, int], asks: list[Ask], seconds: float) -> tuple[int, dict[int, int]]:
    """How many answers clients get at once, and how many were none, by their status."""
    statuses: list[dict[int, int]] = [{} for _ in asks]
    deadline = time.perf_counter() + seconds

    def client(k: int) -> None:
        connection = http.client.HTTPConnection(*url, timeout=120)
        while time.perf_counter() < deadline:
            try:
                status = asks[k](connection)
            except (OSError, http.client.HTTPException):
                status = BROKEN
                connection.close()
            statuses[k][status] = statuses[k].get(status, 0) + 1
        connection.close()

    threads = [threading.Thread(target=client, args=(k,)) for k in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total: dict[int, int] = {}
    for counts in statuses:
        for status, number in counts.items():
            total[status] = total.get(status, 0) + number
    return total.pop(200, 0) + total.pop(201, 0), total


def many_ask(url: tuple[str, int], pid: int, processes: int) -> None:
    """How much many clients get together, of stored distances and runs, and who takes how much of the processors."""
    asks = [getting(DISTANCE if k % 2 else "/v1/runs/w0") for k in range(CLIENTS)]
    together(url, asks, 1.0)
    before, ours = processor_seconds(pid), time.process_time()
    done, others = together(url, asks, SECONDS)
    spent, ours = processor_seconds(pid) - before, time.process_time() - ours
    print(f"\n{CLIENTS} clients for {SECONDS:g} s, distances and runs, `--workers {processes}`:")
    print(f"{done / SECONDS:.0f} answers a second, {done / spent:.0f} for each second of the service's processor time,")
    print(f"of which it had {spent:.1f} s and the clients {ours:.1f} s; others: {others or 'none'}.", flush=True)


def processor_seconds(pid: int) -> float:
    """The time that a process and those of Python's that it started have had a processor."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    answering = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(processor_seconds, answering))


def uploads(first: int = 0, query: str = "") -> Ask:
    """Puts the same snapshot into one new run after another: ``u0`` or, for others beside it, ``u1000000`` first."""
    body = BytesIO()
    snapshot_file.write(body, network(5, (784, 1000, 1000, 10), 0.0112))
    data, numbers = body.getvalue(), count(first)

    def ask(connection: http.client.HTTPConnection) -> int:
        connection.request("PUT", f"/v1/runs/u{next(numbers)}/snapshots/0{query}", body=data)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    return ask


def follow(connection: http.client.HTTPConnection, times: int = FOLLOWING) -> None:
    """Uploads that are answered before their connections are drawn: beside a row, when the last of these were there."""
    ask = uploads(500_000, "?connections=later")
    begin = time.perf_counter()
    taken = milliseconds(connection, ask, times)
    acknowledged = time.perf_counter() - begin
    print("| a run's first snapshot of 20,000 connections put, `connections=later` ", end="")
    print(f"| {statistics.median(taken):.2f} | {taken[int(0.99 * times)]:.2f} |", flush=True)
    while waiting(connection):
        time.sleep(0.5)
    drawn, count = time.perf_counter() - begin, times + 10
    print(
        f"\nOf {count} put so one after another {count / acknowledged:.1f} a second were acknowledged; the connections"
    )
    print(f"of the last were drawn {drawn:.1f} s after the first was sent, {count / drawn:.1f} a second.", flush=True)


def waiting(connection: http.client.HTTPConnection) -> bool:
    """Whether connections that are to be drawn are not yet."""
    connection.request("GET", "/v1/unprojected")
    layers = json.loads(connection.getresponse().read())["layers"]
    return any(layer["projection"] == "follow" for layer in layers)


def beside_a_job(connection: http.client.HTTPConnection) -> None:
    """A stored distance alone, and while a job computes a matrix on all cores."""

    def job(method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection.request(method, path, body=body, headers={"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        told: dict[str, Any] = json.loads(answer.read() or "{}")
        return told

    alone = milliseconds(connection, getting(DISTANCE))
    asked = job("POST", "/v1/jobs", json.dumps({"kind": "distances", "refs": ["many@*"], "alignment": "refined"}))
    place = f"/v1/jobs/{asked['id']}"
    while job("GET", place)["done"] == 0:  # until it is compiled, too
        time.sleep(0.5)
    beside: list[float] = []
    while len(beside) < len(alone) and job("GET", place)["status"] == "running":
        beside += milliseconds(connection, getting(DISTANCE), 20)
    beside.sort()
    print(f"\nA stored distance alone takes {statistics.median(alone):.1f} ms in the median, 99 of 100 are within")
    print(f"{alone[int(0.99 * len(alone))]:.1f} ms; while a job computes a matrix on all cores ({len(beside)} tries)")
    print(f"{statistics.median(beside):.1f} ms and {beside[int(0.99 * len(beside))]:.1f} ms.")
    job("DELETE", place)
    time.sleep(3.0)  # what is computed ends with its process after two seconds; it would take a core from what follows


def crowd(url: tuple[str, int]) -> None:
    """Many clients at once: what they get, and what not."""
    kinds = [getting("/v1/runs/w0"), getting(DISTANCE), getting("/v1/runs?limit=20"), uploads(1_000_000)]
    done, others = together(url, [kinds[k % len(kinds)] for k in range(CROWD)], CROWD_SECONDS)
    busy = others.pop(503, 0)
    told = ", ".join(f"{number} of status {status or 'none: broken'}" for status, number in others.items())
    print(f"\n{CROWD} clients for {CROWD_SECONDS:g} s (runs, distances, lists and uploads, a quarter each): {done:,}")
    print(f"answers, {busy:,} times 503 with `Retry-After`; errors: {told or 'none'}.")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        with open_archive(store) as archive:
            for k in range(3):
                archive.push(f"w{k}", 0, network(k), projection="none")
            for k in range(100):
                archive.create_run(f"x{k}")
            for step in range(MANY):
                archive.push("many", step, network(step, (64, 64, 64, 10), 0.1), projection="none")
            archive.nnstd("w0@0", "w1@0", alignment="identity")
        print(f"`python bench/rest.py`, {surroundings('uvicorn', 'fastapi')}\n")
        with service(store) as (client, process):
            url = (client.base_url.host, client.base_url.port or 80)
            connection = http.client.HTTPConnection(*url, timeout=60)
            print("| asked on a kept connection | median, ms | 99 of 100 within, ms |\n| --- | ---: | ---: |")
            for name, (path, headers) in PATHS.items():
                taken = milliseconds(connection, getting(path, headers))
                print(f"| {name} | {statistics.median(taken):.2f} | {taken[int(0.99 * TIMES)]:.2f} |", flush=True)
            for number, (name, query) in enumerate({"projected": "", "masks alone": "?projection=none"}.items()):
                taken = milliseconds(connection, uploads(number * 1000, query), 40)
                print(f"| a run's first snapshot of 20,000 connections put, {name} ", end="")
                print(f"| {statistics.median(taken):.2f} | {taken[-1]:.2f} |", flush=True)

            follow(connection)
            beside_a_job(connection)
            many_ask(url, process.pid, 1)
            connection.close()  # it was silent for longer than the service keeps one; the next question opens it again
            refs = "&".join(f"refs=w{k}@0" for k in range(3))
            heavy = [f"/v1/distances/matrix?{refs}&alignment=canonical&nearest={n}" for n in range(1, 46)]
            stopping = threading.Event()

            def load() -> None:
                together(url, [getting(path) for path in heavy], 1.0)
                stopping.set()

            loading = threading.Thread(target=load)
            loading.start()
            time.sleep(1.0)
            health: list[float] = []
            runs: list[float] = []
            while not stopping.is_set() and len(health) < 500:
                health += milliseconds(connection, getting("/healthz"), 1)
                runs += milliseconds(connection, getting("/v1/runs/w0"), 1)
            print(f"\nWhile {len(heavy)} clients ask for matrices ({len(health)} tries): `/healthz` takes")
            print(f"{statistics.median(health):.1f} ms in the median, {max(health):.1f} ms at most;", end=" ")
            print(f"a run {statistics.median(runs):.1f} and {max(runs):.1f} ms.")
            loading.join()
            connection.close()
            crowd(url)
        with service(store, "--workers", "2") as (client, process):
            many_ask((client.base_url.host, client.base_url.port or 80), process.pid, 2)
        stop(store, force=True)


if __name__ == "__main__":
    main()
