"""Matrices of many networks: how many are in memory, what the answer takes, and the same on a Dask cluster.

``python bench/many.py [--networks 2000] [--answer 4000]``. The networks are loaded by functions, as from an archive,
and counted while they live. The answer alone is n * n * (layers + 1) * 8 bytes; a cache that knows everything shows
what is needed beside it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import resource
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.pairwise import distances
from topostrata.topology import Mask, Topology

CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    workers = int(sys.argv[1])
    with LocalCluster(n_workers=workers, threads_per_worker=1, scheduler_port=0, dashboard_address=":0") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


class Alive:
    """Counts the topologies that are in memory at once, and how often one was loaded."""

    def __init__(self) -> None:
        self.now = self.most = self.loads = 0
        self.lock = threading.Lock()

    def load(self, widths: Sequence[int], density: float, seed: int) -> Topology:
        """A network of a family: four fifths of its connections are those of the others."""
        family, own = np.random.default_rng(0), np.random.default_rng(seed)
        topology = Topology.from_masks([related_mask(family, own, a, b, density) for a, b in pairwise(widths)])
        with self.lock:
            self.loads += 1
            self.now += 1
            self.most = max(self.most, self.now)
        weakref.finalize(topology, self.gone)
        return topology

    def gone(self) -> None:
        """One less."""
        with self.lock:
            self.now -= 1


def related_mask(
    family: np.random.Generator, own: np.random.Generator, n_source: int, n_target: int, density: float
) -> Mask:
    size = n_source * n_target
    count = round(size * density)
    old, new = family.integers(0, size, count), own.integers(0, size, count)
    return Mask(n_source, n_target, np.unique(np.where(own.random(count) < 0.8, old, new)))


class Everything:
    """A cache that knows every distance."""

    def get_tile(self, rows: Sequence[str], columns: Sequence[str]) -> NDArray[np.float64]:
        """The same for all."""
        return np.full((len(rows), len(columns), 4), 0.25)

    def put_tile(self, *_: object) -> None:
        """Never called."""
        raise AssertionError


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], DistanceMatrix]) -> tuple[DistanceMatrix, float]:
    begin = time.perf_counter()
    matrix = work()
    return matrix, time.perf_counter() - begin


def in_memory(count: int) -> None:
    alive = Alive()
    loaders = [partial(alive.load, (32, 32, 10), 0.1, seed) for seed in range(count)]
    before = peak_mb()
    _, spent = timed(lambda: distances(loaders, alignment="identity"))
    answer = count * count * 3 * 8 / 2**20
    print(
        f"- {count} networks, {count * (count + 1) // 2} pairs, identity: at most {alive.most} topologies alive, "
        f"each loaded {alive.loads / count:.1f} times; {spent:.0f} s; memory grew by {peak_mb() - before:.0f} MB, "
        f"of which {answer:.0f} MB are the answer"
    )


def the_answer(count: int) -> None:
    masks = [np.eye(3), np.eye(3), np.eye(3), np.eye(3)]
    topology = Topology.from_masks(masks)
    before = peak_mb()
    _, spent = timed(
        lambda: distances(
            [lambda: topology] * count, alignment="identity", digests=[str(k) for k in range(count)], cache=Everything()
        )
    )
    answer = count * count * 5 * 8 / 2**20
    print(
        f"- {count} networks of 4 layers, all pairs known: {spent:.0f} s; memory grew by {peak_mb() - before:.0f} MB, "
        f"of which {answer:.0f} MB are the answer"
    )


def on_a_cluster(count: int, workers: int) -> None:
    alive = Alive()
    loaders = [partial(alive.load, (784, 784, 784, 784, 10), 0.006, seed) for seed in range(count)]
    here, local = timed(lambda: distances(loaders, workers=workers))
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(workers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            distances(loaders[:4], scheduler=address)  # the workers import and read their kernels
            alive.most = 0
            there, remote = timed(lambda: distances(loaders, scheduler=address))
        finally:
            process.communicate()
    assert here.layers.tobytes() == there.layers.tobytes()
    print(
        f"- {count} networks of 784-784-784-784-10 at 0.6 %, {count * (count + 1) // 2} pairs, canonical: "
        f"{local:.1f} s on {workers} threads, {remote:.1f} s on {workers} Dask workers, equal to the bit; at most "
        f"{alive.most} topologies alive in the client"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=2000)
    parser.add_argument("--answer", type=int, default=4000)
    parser.add_argument("--cluster", type=int, default=96)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n"
    )
    # By what they need: the peak of memory is that of all that came before.
    in_memory(options.networks)
    the_answer(options.answer)
    on_a_cluster(options.cluster, options.workers)


if __name__ == "__main__":
    main()
