"""What a matrix of distances is cut into, tiles and shares, and the networks of a job in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.alignments import Alignment, CompareMany, definition_of
from topostrata.distance.comparable import check_comparable, plans
from topostrata.distance.comparison import Ready
from topostrata.distance.nnstd import check_topology, compare
from topostrata.errors import Cancelled, NotComparableError, TopostrataError
from topostrata.topology import Topology

Loader = Callable[[], Topology]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TILE = 32
# Networks that stay in memory at once, whatever their number: at most so many, and while they are large, fewer.
MOST_READY = 8 * TILE
MOST_CONNECTIONS = 50_000_000  # about 2 GB, prepared


class Ways(NamedTuple):
    """How two networks are compared."""

    alignment: Alignment
    fix_output: bool

    @property
    def symmetric(self) -> bool:
        """Whether a pair is computed in one direction only."""
        return definition_of(self.alignment).symmetric


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


class PairError(Exception):
    """Two networks, by their places in the job, have no distance."""

    def __init__(self, i: int, j: int, error: TopostrataError) -> None:
        super().__init__(i, j, error)
        self.i, self.j, self.error = i, j, error


def distances_of(
    pairs: Ints, get: Callable[[int], Ready], ways: Ways, stopped: Callable[[], bool] = lambda: False
) -> Floats:
    """The distances of each pair's layers, shape (pairs, layers). ``PairError`` says which pair has none."""
    definition = definition_of(ways.alignment)
    rows: list[list[float] | None] = [None] * len(pairs)
    if definition.compare_many is not None and len(pairs) > 1:
        if stopped():
            raise Cancelled
        rows = _together(pairs, get, definition.compare_many)
    for p, (i, j) in enumerate(pairs.tolist()):
        if stopped():
            raise Cancelled
        if rows[p] is not None:
            continue
        a, b = get(i), get(j)
        try:
            distance = compare(a, b, alignment=ways.alignment)
        except TopostrataError as error:
            raise PairError(i, j, error) from error
        rows[p] = [layer.distance for layer in distance.layers]
    return np.array(rows)


def _together(pairs: Ints, get: Callable[[int], Ready], compare_many: CompareMany) -> list[list[float] | None]:
    """The rows of pairs that are compared in one call; None for all where their layers do not stand in one order."""
    members, places = np.unique(pairs, return_inverse=True)
    networks = [get(k) for k in members.tolist()]
    try:
        orders = [plans(networks[0], network, fix_output=network.plan.fix_output) for network in networks]
    except NotComparableError:  # the pair that it is about will say so
        return [None] * len(pairs)
    first = networks[0].plan.order  # either of two may have to stand in the other's order
    if not all(
        network.plan.plain and (both[0].order, both[1].order) == (first, network.plan.order)
        for network, both in zip(networks, orders, strict=True)
    ):
        return [None] * len(pairs)
    return compare_many(networks, places.reshape(pairs.shape))


class Networks:
    """The networks of a job, loaded when they are needed; safe to use from several threads."""

    def __init__(
        self, topologies: Sequence[Topology | Loader], labels: tuple[str, ...], digests: Sequence[str] | None
    ) -> None:
        for label, source in zip(labels, topologies, strict=True):
            if not callable(source):
                check_topology(source, f"network {label}")
        self.labels = labels
        self._sources = topologies
        self._digests: list[str | None] = list(digests) if digests is not None else [None] * len(topologies)
        self._first: tuple[int, Topology] | None = None
        self._lock = threading.Lock()

    def topology(self, at: int) -> Topology:
        """One of them; an error where it cannot be compared with the one that was loaded first."""
        source = self._sources[at]
        topology = source if isinstance(source, Topology) else source()
        check_topology(topology, f"network {self.labels[at]}")
        with self._lock:
            self._first = self._first or (at, topology)
        try:
            check_comparable(self._first[1], topology)
        except NotComparableError as error:
            raise self.named(PairError(self._first[0], at, error)) from error
        return topology

    def digest(self, at: int) -> str:
        """The digest of one of them, which is loaded where its digest was not handed in."""
        known = self._digests[at]
        if known is None:
            known = self._digests[at] = self.topology(at).digest
        return known

    def named(self, failed: PairError) -> TopostrataError:
        """What is wrong with a pair, with its labels."""
        error = failed.error
        return type(error)(f"{self.labels[failed.i]} and {self.labels[failed.j]}: {error.message}", hint=error.hint)


class ReadyNetworks:
    """Networks made ready for many comparisons, by a key, the latest ones; safe to use from several threads."""

    def __init__(self) -> None:
        self._networks: OrderedDict[Hashable, tuple[Ready, int]] = OrderedDict()
        self._connections = 0
        self._loading: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Loader, ways: Ways) -> Ready:
        """The network of that key, loaded and made ready for ``ways`` where it is not in memory."""
        with self._lock:
            if (network := self._find(key)) is not None:
                return network
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:  # a second thread waits for the first one, instead of loading it too
            with self._lock:
                if (network := self._find(key)) is not None:
                    return network
            try:
                topology = load()
                network = definition_of(ways.alignment).ready(topology, fix_output=ways.fix_output)
                with self._lock:
                    self._add(key, network, topology.nnz)
            finally:
                with self._lock:
                    self._loading.pop(key, None)
        return network

    def _find(self, key: Hashable) -> Ready | None:
        if key not in self._networks:
            return None
        self._networks.move_to_end(key)
        return self._networks[key][0]

    def _add(self, key: Hashable, network: Ready, connections: int) -> None:
        self._networks[key] = network, connections
        self._connections += connections
        while len(self._networks) > MOST_READY or (self._connections > MOST_CONNECTIONS and len(self._networks) > 2):
            self._connections -= self._networks.popitem(last=False)[1][1]
