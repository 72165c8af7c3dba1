"""What an answer over REST takes, on one kept connection as a program has it: `topostrata serve` in its own process.

    python bench/rest.py

Two runs of 784-1000-1000-1000-10 at 1.3 %; each path is asked 200 times, after 10 that do not count.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from surroundings import surroundings

from topostrata.archive import open_archive
from topostrata.store.embedded import stop
from topostrata.topology import Topology

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.reference_runs import served

WIDTHS = (784, 1000, 1000, 1000, 10)
TIMES = 200
PATHS = {
    "nothing: `/healthz`": "/healthz",
    "a run": "/v1/runs/w0",
    "a distance, identity": "/v1/distances?a=w0&b=w1&alignment=identity",
    "a distance, canonical": "/v1/distances?a=w0&b=w1",
}


def network(seed: int) -> Topology:
    rng = np.random.default_rng(seed)
    return Topology.from_masks(
        [sp.random_array(shape, density=0.013, rng=rng, format="csr") for shape in pairwise(WIDTHS)]
    )


def milliseconds(connection: http.client.HTTPConnection, path: str) -> list[float]:
    taken = []
    for _ in range(TIMES + 10):
        begin = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - begin) * 1000)
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}")
    return sorted(taken[10:])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "archive"
        with open_archive(store) as archive:
            for k in range(2):
                archive.push(f"w{k}", 0, network(k), projection="none")
        print(f"`python bench/rest.py`, {surroundings('uvicorn', 'fastapi')}\n")
        print("| asked on a kept connection | median, ms | 95 of 100 within, ms |\n| --- | ---: | ---: |")
        with served(store) as client:
            url = client.base_url
            connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
            for name, path in PATHS.items():
                taken = milliseconds(connection, path)
                print(f"| {name} | {statistics.median(taken):.2f} | {taken[int(0.95 * TIMES)]:.2f} |")
            connection.close()
        stop(store, force=True)


if __name__ == "__main__":
    main()
