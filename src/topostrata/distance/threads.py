"""Shares of distances computed by threads of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

from topostrata.distance.comparison import Ready
from topostrata.distance.jobs import (
    Compute,
    Floats,
    Networks,
    PairError,
    ReadyNetworks,
    Share,
    Tile,
    Ways,
    distances_of,
)

# A thread computes squares of so many networks by as many, so that progress is seen; larger ones of small networks: of
# their pairs a call of a few takes longer to begin than to make (bench/distance.py).
SHARE = 4
SMALL_SHARE = 16
_SMALL = 5_000  # connections


@contextmanager
def threads(networks: Networks, ways: Ways, cancel: threading.Event | None, workers: int | None) -> Iterator[Compute]:
    """What computes shares on ``workers`` threads, one per core where no number is named."""
    workers = workers or _cores()
    ready = ReadyNetworks()
    pool = ThreadPoolExecutor(workers)
    over = threading.Event()

    def stopped() -> bool:
        return over.is_set() or (cancel is not None and cancel.is_set())

    def get(at: int) -> Ready:
        return ready.get(at, lambda: networks.topology(at), ways)

    def side(tile: Tile) -> int:
        ends = {tile.rows[0], tile.rows[-1], tile.columns[0], tile.columns[-1]}
        enough = len(tile.rows) * len(tile.columns) >= 2 * workers * SMALL_SHARE**2  # for every thread
        return SMALL_SHARE if enough and all(sum(get(at).connections) <= _SMALL for at in ends) else SHARE

    def work(share: Share) -> Floats:
        try:
            return distances_of(share.pairs, get, ways, stopped)
        except PairError as error:
            raise networks.named(error) from error.error

    def compute(tiles: Iterator[Tile]) -> Iterator[tuple[Share, Floats]]:
        flying: dict[Future[Floats], Share] = {}
        done: SimpleQueue[Future[Floats]] = SimpleQueue()
        for share in (share for tile in tiles for share in tile.shares(side(tile))):
            future = pool.submit(work, share)
            flying[future] = share
            future.add_done_callback(done.put)
            if len(flying) > workers:  # one more than there are threads waits, so that none does
                future = done.get()
                yield flying.pop(future), future.result()
        while flying:
            future = done.get()
            yield flying.pop(future), future.result()

    try:
        yield compute
    finally:
        over.set()  # after an error or Ctrl-C nobody waits for the pairs that are left of a share
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    # Inside a container or under taskset fewer cores are ours than the machine has; not every system can say.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
