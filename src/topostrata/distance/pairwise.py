"""Many networks at once: the matrix of their pairwise distances, computed in tiles by threads or by a Dask cluster."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import (
    Alignment,
    Distance,
    check_alignment,
    compare,
    has_numba,
    layer_names,
    need_numba,
    nnstd,
)
from topostrata.distance.wiring import check_comparable
from topostrata.errors import InvalidInputError, NotComparableError, TopostrataError
from topostrata.topology import Topology

if TYPE_CHECKING:
    from topostrata.distance.prepared import Prepared

Loader = Callable[[], Topology]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ready: TypeAlias = "Prepared | Topology"  # a network as its alignment compares it

TILE = 32
# Networks that stay in memory at once, whatever their number: at most so many, and while they are large, fewer.
_KEPT = 8 * TILE
_KEPT_CONNECTIONS = 50_000_000  # about 2 GB, prepared
_SHARE = 4  # a thread computes squares of so many networks by as many, so that progress is seen


class TileCache(Protocol):
    """Where distances that were computed before may be found: the archive, by digests of topologies.

    Tiles have shape (rows, columns, layers); an entry that is not known is NaN.
    """

    def get_tile(self, rows: Sequence[str], columns: Sequence[str]) -> Floats | None:
        """The known distances of each row's topology to each column's, or None where none is known."""

    def put_tile(self, rows: Sequence[str], columns: Sequence[str], layers: Floats) -> None:
        """Keep a tile whose every entry is known."""


class Cancelled(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The caller's ``cancel`` was set; finished tiles are in the cache."""


class Ways(NamedTuple):
    """How two networks are compared."""

    alignment: Alignment
    fix_output: bool

    @property
    def symmetric(self) -> bool:
        """Whether a pair is computed in one direction only."""
        return self.alignment != "reference"


@dataclass(slots=True, eq=False)
class Tile:
    """A rectangle of the matrix: the networks of its rows and columns, and which of its pairs are still to compute."""

    rows: list[int]
    columns: list[int]
    todo: NDArray[np.bool_]
    left: int

    def shares(self, side: int) -> Iterator[Share]:
        """What is to compute, cut into squares: few networks, many pairs."""
        for top in range(0, len(self.rows), side):
            for left in range(0, len(self.columns), side):
                i, j = np.nonzero(self.todo[top : top + side, left : left + side])
                if len(i):
                    yield Share(self, np.stack([np.array(self.rows)[i + top], np.array(self.columns)[j + left]], 1))


@dataclass(slots=True, eq=False)
class Share:
    """A part of a tile that is computed in one go: pairs of networks, shape (pairs, 2)."""

    tile: Tile
    pairs: Ints


# Takes tiles as it needs them, and gives the distances of their shares, shape (pairs, layers), as they are done.
Compute = Callable[[Iterator[Tile]], Iterator[tuple[Share, Floats]]]


def distances(
    topologies: Sequence[Topology | Loader],
    *,
    labels: Sequence[str] | None = None,
    alignment: Alignment = "canonical",
    fix_output: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    digests: Sequence[str] | None = None,
    cache: TileCache | None = None,
    order: Sequence[int] | None = None,
) -> DistanceMatrix:
    """The distances of all pairs, on ``workers`` threads (default: one per core) or on a Dask cluster.

    A network may be given as a function that loads it: so there are never more than a few hundred in memory.
    ``labels``, no two alike, are ``0``, ``1``, ... where none are given. ``progress(done, all)`` is told how many pairs
    are done; ``cancel``, once set, ends the work with ``Cancelled``. ``scheduler`` is the address of a Dask scheduler,
    such as ``tcp://host:8786``: its workers compute the same values, to the bit (docs/dask.md). ``cache`` is asked for
    each tile before it is computed and told it afterwards, by ``digests`` (computed where they are not given);
    ``order`` is the one in which the networks are cut into tiles.

    Raises as ``nnstd`` does, and the error names the labels of the pair that was met first; ``ClusterError`` where the
    cluster cannot compute.
    """
    check_alignment(alignment)
    if workers is not None and scheduler is not None:
        raise InvalidInputError("distances: expected threads of this machine or a Dask scheduler, found both")
    if alignment in {"canonical", "refined"} and scheduler is None:
        need_numba(alignment)
    n = len(topologies)
    names = tuple(str(i) for i in range(n)) if labels is None else tuple(labels)
    if not n:
        raise InvalidInputError("distances: expected at least one network, found none")
    for what, given in (("label", names), ("digest", digests), ("place", order)):
        if given is not None and len(given) != n:
            raise InvalidInputError(f"distances: expected {n} {what}s, one per network, found {len(given)}")
    if len(set(names)) < n:
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise InvalidInputError(f"distances: expected a label of its own for each network, found {twice!r} twice")
    ways = Ways(alignment, fix_output)
    networks = Networks(topologies, names, digests)
    job = _Job(networks, ways, cache, progress, cancel)
    with _executor(networks, ways, cancel, workers, scheduler) as compute:
        for share, layers in compute(job.tiles(range(n) if order is None else order)):
            job.take(share, layers)
    return job.matrix()


def _executor(
    networks: Networks, ways: Ways, cancel: threading.Event | None, workers: int | None, scheduler: str | None
) -> AbstractContextManager[Compute]:
    if scheduler is None:
        return _threads(networks, ways, cancel, workers or _cores())
    from topostrata.distance.cluster import cluster  # noqa: PLC0415 - seldom needed

    return cluster(scheduler, networks, ways, cancel)


@contextmanager
def _threads(networks: Networks, ways: Ways, cancel: threading.Event | None, workers: int) -> Iterator[Compute]:
    kept = Kept()
    pool = ThreadPoolExecutor(workers)
    over = threading.Event()

    def stopped() -> bool:
        return over.is_set() or (cancel is not None and cancel.is_set())

    def get(at: int) -> Ready:
        return kept.get(at, lambda: networks.topology(at), ways)

    def work(share: Share) -> Floats:
        try:
            return distances_of(share.pairs, get, ways, stopped)
        except PairError as error:
            raise networks.named(error) from error.error

    def compute(tiles: Iterator[Tile]) -> Iterator[tuple[Share, Floats]]:
        flying: dict[Future[Floats], Share] = {}
        done: SimpleQueue[Future[Floats]] = SimpleQueue()
        for share in (share for tile in tiles for share in tile.shares(_SHARE)):
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


class PairError(Exception):
    """Two networks, by their places in the job, have no distance."""

    def __init__(self, i: int, j: int, error: TopostrataError) -> None:
        super().__init__(i, j, error)
        self.i, self.j, self.error = i, j, error


def distances_of(
    pairs: Ints, get: Callable[[int], Ready], ways: Ways, stopped: Callable[[], bool] = lambda: False
) -> Floats:
    """The distances of each pair's layers, shape (pairs, layers). ``PairError`` says which pair has none."""
    rows = []
    for i, j in pairs.tolist():
        if stopped():
            raise Cancelled
        a, b = get(i), get(j)
        try:
            found = distance_of(a, b, ways)
        except TopostrataError as error:
            raise PairError(i, j, error) from error
        rows.append([row.distance for row in found.layers])
    return np.array(rows)


def distance_of(a: Ready, b: Ready, ways: Ways) -> Distance:
    """``nnstd`` of two networks that were made ready."""
    if isinstance(a, Topology) or isinstance(b, Topology):
        assert isinstance(a, Topology)  # noqa: S101 - both were made ready in the same ways
        assert isinstance(b, Topology)  # noqa: S101
        return nnstd(a, b, alignment=ways.alignment, fix_output=ways.fix_output)
    return compare(a, b, alignment=ways.alignment)


class Networks:
    """The networks of a job, loaded as they are asked for; safe to use from several threads."""

    def __init__(
        self, topologies: Sequence[Topology | Loader], labels: tuple[str, ...], digests: Sequence[str] | None
    ) -> None:
        self.labels = labels
        self._given = topologies
        self._digests: list[str | None] = list(digests) if digests is not None else [None] * len(topologies)
        self._first: tuple[int, Topology] | None = None
        self._lock = threading.Lock()

    def topology(self, at: int) -> Topology:
        """One of them; an error where it cannot be compared with the one that was loaded first."""
        given = self._given[at]
        topology = given if isinstance(given, Topology) else given()
        with self._lock:
            self._first = self._first or (at, topology)
        try:
            check_comparable(self._first[1], topology)
        except NotComparableError as error:
            raise self.named(PairError(self._first[0], at, error)) from error
        return topology

    def digest(self, at: int) -> str:
        """The digest of one of them, which is loaded where it was not given."""
        known = self._digests[at]
        if known is None:
            known = self._digests[at] = self.topology(at).digest
        return known

    def named(self, error: PairError) -> TopostrataError:
        """What is wrong with a pair, with its labels."""
        found = error.error
        return type(found)(f"{self.labels[error.i]} and {self.labels[error.j]}: {found.message}", hint=found.hint)


class Kept:
    """Networks made ready for many comparisons, by a key, the latest ones kept; safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[Ready, int]] = OrderedDict()
        self._connections = 0
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Loader, ways: Ways) -> Ready:
        """The network of that key, loaded and made ready for ``ways`` where it is not kept."""
        with self._lock:
            if (found := self._find(key)) is not None:
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:  # who comes second waits for who came first, instead of loading it too
            with self._lock:
                if (found := self._find(key)) is not None:
                    return found
            try:
                topology = load()
                made = _ready(topology, ways)
                with self._lock:
                    self._keep(key, made, topology.nnz)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made

    def _find(self, key: Hashable) -> Ready | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _keep(self, key: Hashable, made: Ready, connections: int) -> None:
        self._kept[key] = made, connections
        self._connections += connections
        while len(self._kept) > _KEPT or (self._connections > _KEPT_CONNECTIONS and len(self._kept) > 2):
            self._connections -= self._kept.popitem(last=False)[1][1]


def _ready(topology: Topology, ways: Ways) -> Ready:
    # The reference needs no numba, but is several times as fast with it; for many pairs its import pays.
    if ways.alignment == "identity" or (ways.alignment == "reference" and not has_numba()):
        return topology
    from topostrata.distance.prepared import prepare, prepare_sets  # noqa: PLC0415 - needs numba

    return (prepare_sets if ways.alignment == "reference" else prepare)(topology, fix_output=ways.fix_output)


class _Job:
    """One matrix under way."""

    def __init__(
        self,
        networks: Networks,
        ways: Ways,
        cache: TileCache | None,
        progress: Callable[[int, int], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self.networks, self.ways, self.cache, self.progress, self.cancel = networks, ways, cache, progress, cancel
        self.n = len(networks.labels)
        self.layers: Floats | None = None
        self.done = 0

    def tiles(self, order: Sequence[int]) -> Iterator[Tile]:
        """The tiles in which something is to compute; what the cache knows is taken over on the way."""
        for rows, columns in _rectangles(order, symmetric=self.ways.symmetric):
            self.check_cancel()
            wanted = np.ones((len(rows), len(columns)), dtype=bool)
            if self.ways.symmetric and rows is columns:
                wanted = np.triu(wanted)
            todo = wanted
            known = None if self.cache is None else self.cache.get_tile(*self.digests(rows, columns))
            if known is not None:
                todo = wanted & np.isnan(known).any(axis=2)
                i, j = np.nonzero(wanted & ~todo)
                self.store(np.array(rows)[i], np.array(columns)[j], known[i, j])
            if todo.any():
                yield Tile(rows, columns, todo, int(todo.sum()))

    def take(self, share: Share, layers: Floats) -> None:
        """Take in the distances of a share; a tile that is whole goes to the cache."""
        self.store(share.pairs[:, 0], share.pairs[:, 1], layers)
        tile = share.tile
        tile.left -= len(share.pairs)
        if not tile.left and self.cache is not None and self.layers is not None:
            self.cache.put_tile(*self.digests(tile.rows, tile.columns), self.layers[np.ix_(tile.rows, tile.columns)])
        self.check_cancel()

    def store(self, i: Ints, j: Ints, layers: Floats) -> None:
        if not len(i):
            return
        if self.layers is None:
            self.layers = np.zeros((self.n, self.n, layers.shape[1]))
        self.layers[i, j] = layers
        if self.ways.symmetric:
            self.layers[j, i] = layers
        self.done += len(i)
        if self.progress is not None:
            self.progress(self.done, self.n * (self.n + 1) // 2 if self.ways.symmetric else self.n * self.n)

    def digests(self, rows: list[int], columns: list[int]) -> tuple[list[str], list[str]]:
        return [self.networks.digest(i) for i in rows], [self.networks.digest(j) for j in columns]

    def check_cancel(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled

    def matrix(self) -> DistanceMatrix:
        if self.layers is None:
            raise AssertionError
        nnstd = np.empty((self.n, self.n))
        count = self.layers.shape[2]
        for i, row in enumerate(self.layers):  # by rows: as Python's floats all at once would fill the memory
            begin = i if self.ways.symmetric else 0
            nnstd[i, begin:] = [math.fsum(values) / count for values in row[begin:].tolist()]
            if self.ways.symmetric:
                nnstd[begin:, i] = nnstd[i, begin:]
        names = layer_names(self.networks.topology(0))
        return DistanceMatrix(self.networks.labels, self.ways.alignment, nnstd, self.layers, names)


def _rectangles(order: Sequence[int], *, symmetric: bool) -> Iterator[tuple[list[int], list[int]]]:
    """The networks in blocks, each pair of blocks once where the alignment is symmetric.

    Several blocks of rows go together along the columns, and back with the next ones: as many as stay in memory beside
    two blocks of columns, with room for threads that are ahead of others. So a network is loaded seldom.
    """
    blocks = [list(order[begin : begin + TILE]) for begin in range(0, len(order), TILE)]
    together = max(1, _KEPT // TILE - 3)
    for turn, top in enumerate(range(0, len(blocks), together)):
        columns: Iterable[int] = range(top if symmetric else 0, len(blocks))
        for column in columns if turn % 2 == 0 else reversed(list(columns)):
            for row in range(top, min(top + together, len(blocks))):
                if row <= column or not symmetric:
                    yield blocks[row], blocks[column]
