"""Many networks at once: the matrix of their pairwise distances, computed in tiles by threads or by a Dask cluster."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from topostrata.distance import jobs
from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.distance.chosen import Choice, Layers, common_layers, cut
from topostrata.distance.jobs import Compute, Floats, Ints, Loader, Networks, Share, Tile, Ways
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import check_topology, held_spaces, layer_names
from topostrata.distance.null_model import Kept, check_kept
from topostrata.distance.plan import plan_of
from topostrata.distance.sampled import with_matrix_chance
from topostrata.distance.threads import threads
from topostrata.errors import Cancelled, InvalidInputError
from topostrata.topology import Topology


class TileCache(Protocol):
    """Where distances that were computed before may be found: the archive, by digests of topologies.

    Tiles have shape (rows, columns, layers); an entry that is not known is NaN.
    """

    def get_tile(self, rows: Sequence[str], columns: Sequence[str]) -> Floats | None:
        """The known distances of each row's topology to each column's, or None where none is known."""

    def put_tile(self, rows: Sequence[str], columns: Sequence[str], layers: Floats) -> None:
        """Keep a tile whose every entry is known."""


def distances(
    topologies: Sequence[Topology | Loader],
    *,
    labels: Sequence[str] | None = None,
    alignment: Alignment = DEFAULT,
    fix_output: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    digests: Sequence[str] | None = None,
    cache: TileCache | None = None,
    order: Sequence[int] | None = None,
    layers: Layers = None,
    chance: Kept | None = None,
) -> DistanceMatrix:
    """The distances of all pairs, on ``workers`` threads (default: one per core) or on a Dask cluster.

    A network may also be a function that loads it: so there are never more than a few hundred in memory. ``labels``, no
    two alike, are ``0``, ``1``, ... where none are named. ``progress(done, all)`` is told how many pairs are done;
    ``cancel``, once set, ends the work with ``Cancelled``. ``scheduler`` is the address of a Dask scheduler,
    such as ``tcp://host:8786``: its workers compute the same values, to the bit (docs/dask.md). Distances that
    ``cache`` knows are not computed; the others are written to it. It knows networks by their ``digests`` (computed
    where none are handed in). ``order`` is the one in which the networks are cut into tiles. ``layers`` chooses what
    the distances are of, as in ``nnstd``: ``"common"`` are the layers that all of the networks have. ``chance`` adds
    the level that independent networks of the same ``"degrees"`` or ``"density"`` have, of at most ten pairs, each of
    which costs a dozen distances; then ``progress`` is told of these pairs too, from 1 on.

    Raises as ``nnstd`` does, and the error names the labels of the pair that was met first; ``ClusterError`` where the
    cluster cannot compute.

    >>> import numpy as np
    >>> networks = [Topology.from_masks([mask]) for mask in (np.eye(2), np.ones((2, 2)))]
    >>> distances(networks, labels=["diagonal", "full"], alignment="identity").nnstd
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    choice = Choice.of(layers)
    check_kept(chance)
    if choice.common and topologies:
        topologies, lost = common_networks(topologies)
        matrix = distances(
            topologies,
            labels=labels,
            alignment=alignment,
            fix_output=fix_output,
            progress=progress,
            cancel=cancel,
            workers=workers,
            scheduler=scheduler,
        )
        matrix = chosen_rows(replace(matrix, left_out=lost), choice, topologies)
        return with_matrix_chance(matrix, topologies, chance, fix_output=fix_output, progress=progress, cancel=cancel)
    definition = definition_of(alignment)
    if workers is not None and scheduler is not None:
        raise InvalidInputError("distances: expected threads of this machine or a Dask scheduler, found both")
    if scheduler is None:
        definition.check_installed()
    n = len(topologies)
    names = tuple(str(i) for i in range(n)) if labels is None else tuple(labels)
    if not n:
        raise InvalidInputError("distances: expected at least one network, found none")
    for what, values in (("label", names), ("digest", digests), ("place", order)):
        if values is not None and len(values) != n:
            raise InvalidInputError(f"distances: expected {n} {what}s, one per network, found {len(values)}")
    if len(set(names)) < n:
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise InvalidInputError(f"distances: expected a label of its own for each network, found {twice!r} twice")
    ways = Ways(alignment, fix_output)
    networks = Networks(topologies, names, digests)
    job = _Job(networks, ways, cache, progress, cancel)
    with _executor(networks, ways, cancel, workers, scheduler) as compute:
        for share, computed in compute(job.tiles(range(n) if order is None else order)):
            job.take(share, computed)
    matrix = chosen_rows(job.matrix(), choice, topologies)
    return with_matrix_chance(matrix, topologies, chance, fix_output=fix_output, progress=progress, cancel=cancel)


def common_networks(topologies: Sequence[Topology | Loader]) -> tuple[list[Loader], tuple[str, ...]]:
    """Loaders of the part that all networks have in common, and the names of the layers that are left out."""
    names, lost = common_layers([_loaded(network).wiring for network in topologies])
    return [partial(_part, network, names) for network in topologies], lost


def chosen_rows(matrix: DistanceMatrix, choice: Choice, topologies: Sequence[Topology | Loader]) -> DistanceMatrix:
    """The matrix of the rows that count."""
    if choice.all:
        return matrix
    full = np.ones(len(matrix.layer_names), dtype=bool)
    if choice.sparse:
        for network in map(_loaded, topologies):
            for k, name in enumerate(matrix.layer_names):
                full[k] &= all(network[layer].density == 1 for layer in name.split("+") if layer in network)
    return matrix.of_layers(choice.rows(matrix.layer_names, full.tolist()))


def _loaded(network: Topology | Loader) -> Topology:
    topology = network if isinstance(network, Topology) or not callable(network) else network()
    check_topology(topology, "distances")
    return topology


def _part(network: Topology | Loader, names: frozenset[str]) -> Topology:
    return cut(_loaded(network), names)


def _executor(
    networks: Networks, ways: Ways, cancel: threading.Event | None, workers: int | None, scheduler: str | None
) -> AbstractContextManager[Compute]:
    if scheduler is None:
        return threads(networks, ways, cancel, workers)
    from topostrata.distance.cluster import cluster  # noqa: PLC0415 - seldom needed

    return cluster(scheduler, networks, ways, cancel)


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
        wiring, alignment = self.networks.topology(0).wiring, self.ways.alignment
        in_place = held_spaces(plan_of(wiring, fix_output=self.ways.fix_output), alignment)
        return DistanceMatrix(
            self.networks.labels,
            alignment,
            nnstd,
            self.layers,
            layer_names(wiring),
            in_place,
            definition_of(alignment).version,
        )


def _rectangles(order: Sequence[int], *, symmetric: bool) -> Iterator[tuple[list[int], list[int]]]:
    """The networks in blocks, each pair of blocks once where the alignment is symmetric.

    Several blocks of rows go together along the columns, and back with the next ones: as many as stay in memory beside
    two blocks of columns, with room for threads that are ahead of others. So a network is loaded seldom.
    """
    blocks = [list(order[begin : begin + jobs.TILE]) for begin in range(0, len(order), jobs.TILE)]
    together = max(1, jobs.MOST_READY // jobs.TILE - 3)
    for turn, top in enumerate(range(0, len(blocks), together)):
        columns: Iterable[int] = range(top if symmetric else 0, len(blocks))
        for column in columns if turn % 2 == 0 else reversed(list(columns)):
            for row in range(top, min(top + together, len(blocks))):
                if row <= column or not symmetric:
                    yield blocks[row], blocks[column]
