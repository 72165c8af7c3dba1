"""Many networks at once: the matrix of their pairwise distances, computed in tiles."""

from __future__ import annotations

import csv
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stratigraph.errors import InvalidInputError, StratigraphError
from stratigraph.frames import frame
from stratigraph.service.distance.nnstd import (
    Alignment,
    Distance,
    check_alignment,
    compare,
    has_numba,
    need_numba,
    nnstd,
)
from stratigraph.service.distance.wiring import check_comparable
from stratigraph.topology import Topology

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

Loader = Callable[[], Topology]
Floats = NDArray[np.float64]
Method = Literal["single", "complete", "average", "weighted", "centroid", "median", "ward"]

TILE = 32
# Networks that stay in memory at once, whatever their number.
_KEPT = 8 * TILE


class TileCache(Protocol):
    """Where distances that were computed before may be found: the archive, by digests of topologies.

    Tiles have shape (rows, columns, layers); an entry that is not known is NaN.
    """

    def get_tile(self, rows: Sequence[str], columns: Sequence[str]) -> Floats | None:
        """The known distances of each row's topology to each column's, or None where none is known."""

    def put_tile(self, rows: Sequence[str], columns: Sequence[str], layers: Floats) -> None:
        """Keep a tile; every entry is known, except (symmetric alignments) those below the diagonal."""


class Cancelled(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The caller's ``cancel`` was set; finished tiles are in the cache."""


@dataclass(frozen=True, eq=False)
class DistanceMatrix:
    """Pairwise distances of n networks with L layers: ``nnstd[i, j]`` is that of ``labels[i]`` and ``labels[j]``.

    ``nnstd`` has shape (n, n), ``layers`` (n, n, L), both 0 to 1; symmetric except for the alignment ``"reference"``,
    where row i stands for the first argument.
    """

    labels: tuple[str, ...]
    alignment: Alignment
    nnstd: Floats
    layers: Floats
    layer_names: tuple[str, ...]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """The matrix with labels in the first row and column; values in full precision."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["", *self.labels])
            for label, row in zip(self.labels, self.nnstd.tolist(), strict=True):
                writer.writerow([label, *map(repr, row)])

    def to_pandas(self) -> pd.DataFrame:
        """A row and a column for each network, by its label."""
        made = frame(dict(zip(self.labels, row, strict=True)) for row in self.nnstd.tolist())
        return made.set_index(made.columns)

    def to_networkx(self) -> nx.Graph[str]:
        """A complete graph: an edge for each pair with its ``distance`` and ``layers``; directed for ``reference``."""
        import networkx as nx  # noqa: PLC0415 - seldom needed

        directed = self.alignment == "reference"
        made: nx.Graph[str] = nx.DiGraph() if directed else nx.Graph()
        made.add_nodes_from(self.labels)
        for i, one in enumerate(self.labels):
            for j, other in enumerate(self.labels):
                if i < j or (directed and i != j):
                    made.add_edge(one, other, distance=float(self.nnstd[i, j]), layers=self.layers[i, j].tolist())
        return made

    def to_npz(self, path: str | os.PathLike[str]) -> None:
        """Everything, as NumPy arrays ``labels``, ``alignment``, ``nnstd``, ``layers``, ``layer_names``."""
        np.savez_compressed(
            path,
            labels=np.array(self.labels),
            alignment=np.array(self.alignment),
            nnstd=self.nnstd,
            layers=self.layers,
            layer_names=np.array(self.layer_names),
        )

    @staticmethod
    def from_npz(path: str | os.PathLike[str]) -> DistanceMatrix:
        """What ``to_npz`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            alignment: Any = check_alignment(str(file["alignment"]))
            names = tuple(tuple(file[key].tolist()) for key in ("labels", "layer_names"))
            return DistanceMatrix(names[0], alignment, file["nnstd"], file["layers"], names[1])

    def linkage(self, method: Method = "average") -> Floats:
        """Hierarchical clustering as ``scipy.cluster.hierarchy.linkage`` gives it, shape (n - 1, 4).

        Where the two directions differ (``reference``) their mean is taken. Needs at least two networks.
        """
        from scipy.cluster.hierarchy import linkage  # noqa: PLC0415 - slow to import, seldom needed
        from scipy.spatial.distance import squareform  # noqa: PLC0415

        if len(self.labels) < 2:
            raise InvalidInputError(f"linkage: expected at least 2 networks, found {len(self.labels)}")
        even = (self.nnstd + self.nnstd.T) / 2
        np.fill_diagonal(even, 0.0)
        found: Floats = linkage(squareform(even, checks=False), method=method)
        return found

    def dendrogram_order(self, method: Method = "average") -> list[int]:
        """The networks in an order in which similar ones stand together: optimal leaf order of the linkage."""
        from scipy.cluster.hierarchy import leaves_list, optimal_leaf_ordering  # noqa: PLC0415
        from scipy.spatial.distance import squareform  # noqa: PLC0415

        even = (self.nnstd + self.nnstd.T) / 2
        np.fill_diagonal(even, 0.0)
        tree = optimal_leaf_ordering(self.linkage(method), squareform(even, checks=False))
        order: list[int] = leaves_list(tree).tolist()
        return order

    def nearest(self, count: int = 10) -> list[list[tuple[str, float]]]:
        """For every network the nearest others, nearest first, equally near ones in the order of the labels."""
        others = self.nnstd.copy()
        np.fill_diagonal(others, np.inf)
        order = np.argsort(others, axis=1, kind="stable")[:, : min(count, len(self.labels) - 1)]
        return [[(self.labels[j], float(self.nnstd[i, j])) for j in row] for i, row in enumerate(order.tolist())]


def distances(
    topologies: Sequence[Topology | Loader],
    *,
    labels: Sequence[str] | None = None,
    alignment: Alignment = "canonical",
    fix_output: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
    workers: int | None = None,
    digests: Sequence[str] | None = None,
    cache: TileCache | None = None,
) -> DistanceMatrix:
    """The distances of all pairs, on ``workers`` threads (default: one per core).

    A network may be given as a function that loads it: so there are never more than a few hundred in memory.
    ``labels`` are ``0``, ``1``, ... where none are given. ``progress(done, all)`` is told how many pairs are done;
    ``cancel``, once set, ends the work with ``Cancelled``. ``cache`` is asked for each tile before it is computed and
    told it afterwards, by ``digests`` (computed where they are not given).

    Raises as ``nnstd`` does; the error names the two labels.
    """
    check_alignment(alignment)
    if alignment in {"canonical", "refined"}:
        need_numba(alignment)
    n = len(topologies)
    names = tuple(str(i) for i in range(n)) if labels is None else tuple(labels)
    if not n:
        raise InvalidInputError("distances: expected at least one network, found none")
    for what, given in (("label", names), ("digest", digests)):
        if given is not None and len(given) != n:
            raise InvalidInputError(f"distances: expected {n} {what}s, one per network, found {len(given)}")
    job = _Job(_Networks(topologies, alignment, fix_output, digests), names, alignment, fix_output, cancel)
    total = n * (n + 1) // 2 if job.symmetric else n * n
    done = 0
    with ThreadPoolExecutor(workers or _cores()) as pool:
        for rows, columns in _tiles(n, symmetric=job.symmetric):
            known = job.cached(cache, rows, columns)
            todo = job.missing(known, rows, columns)
            try:
                for count in pool.map(job.compute, _shares(todo)):
                    done += count
                    if progress is not None:
                        progress(done, total)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            done += job.fill(known, rows, columns, todo)
            if progress is not None:
                progress(done, total)
            job.keep(cache, rows, columns, todo)
    return job.matrix()


def _cores() -> int:
    # Inside a container or under taskset fewer cores are ours than the machine has; not every system can say.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _tiles(n: int, *, symmetric: bool) -> Iterator[tuple[range, range]]:
    blocks = [range(begin, min(begin + TILE, n)) for begin in range(0, n, TILE)]
    for i, rows in enumerate(blocks):
        # To and fro, so that the block at the turn is still in memory.
        columns = blocks[i:] if symmetric else blocks
        for block in columns if i % 2 == 0 else reversed(columns):
            yield rows, block


def _shares(pairs: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    return [pairs[k : k + 16] for k in range(0, len(pairs), 16)]


class _Networks:
    """The networks as they are asked for, the latest ones kept; safe to use from several threads."""

    def __init__(
        self,
        topologies: Sequence[Topology | Loader],
        alignment: Alignment,
        fix_output: bool,
        digests: Sequence[str] | None,
    ) -> None:
        self.given = topologies
        # The reference needs no numba, but is several times as fast with it; for many pairs its import pays.
        self.prepares = alignment in {"canonical", "refined"} or (alignment == "reference" and has_numba())
        self.coloured = alignment != "reference"
        self.fix_output = fix_output
        self.digests: list[str | None] = list(digests) if digests is not None else [None] * len(topologies)
        self.kept: OrderedDict[int, Any] = OrderedDict()
        self.first: Topology | None = None
        self.lock = threading.Lock()

    def get(self, at: int) -> Any:
        """A ``Prepared`` where the alignment needs one, else the ``Topology``."""
        with self.lock:
            found = self.kept.get(at)
            if found is not None:
                self.kept.move_to_end(at)
                return found
        topology = self.topology(at)
        made: Any = topology
        if self.prepares:
            from stratigraph.service.distance.prepared import prepare, prepare_sets  # noqa: PLC0415 - needs numba

            made = (prepare if self.coloured else prepare_sets)(topology, fix_output=self.fix_output)
        with self.lock:
            self.kept[at] = made
            while len(self.kept) > _KEPT:
                self.kept.popitem(last=False)
        return made

    def topology(self, at: int) -> Topology:
        given = self.given[at]
        topology = given if isinstance(given, Topology) else given()
        if self.first is None:
            self.first = topology
        check_comparable(self.first, topology)
        return topology

    def digest(self, at: int) -> str:
        known = self.digests[at]
        if known is None:
            known = self.digests[at] = self.topology(at).digest
        return known


class _Job:
    """One matrix under way."""

    def __init__(
        self,
        networks: _Networks,
        labels: tuple[str, ...],
        alignment: Alignment,
        fix_output: bool,
        cancel: threading.Event | None,
    ) -> None:
        self.networks, self.labels, self.alignment = networks, labels, alignment
        self.fix_output, self.cancel = fix_output, cancel
        self.symmetric = alignment != "reference"
        self.layers: Floats | None = None
        self.layer_names: tuple[str, ...] = ()
        self.lock = threading.Lock()

    def cached(self, cache: TileCache | None, rows: range, columns: range) -> Floats | None:
        if cache is None:
            return None
        return cache.get_tile(*self.names(rows, columns))

    def names(self, rows: range, columns: range) -> tuple[list[str], list[str]]:
        return [self.networks.digest(i) for i in rows], [self.networks.digest(j) for j in columns]

    def missing(self, known: Floats | None, rows: range, columns: range) -> list[tuple[int, int]]:
        pairs = [(i, j) for i in rows for j in columns if i <= j or not self.symmetric]
        if known is None:
            return pairs
        return [(i, j) for i, j in pairs if np.isnan(known[i - rows.start, j - columns.start]).any()]

    def compute(self, pairs: list[tuple[int, int]]) -> int:
        for i, j in pairs:
            if self.cancel is not None and self.cancel.is_set():
                raise Cancelled
            try:
                found = self.distance(i, j)
            except StratigraphError as error:
                raise type(error)(f"{self.labels[i]} and {self.labels[j]}: {error.message}", hint=error.hint) from error
            self.store(i, j, [row.distance for row in found.layers], found)
        return len(pairs)

    def distance(self, i: int, j: int) -> Distance:
        a, b = self.networks.get(i), self.networks.get(j)
        if self.networks.prepares:
            return compare(a, b, alignment=self.alignment)
        return nnstd(a, b, alignment=self.alignment, fix_output=self.fix_output)

    def store(self, i: int, j: int, values: Sequence[float], found: Distance | None = None) -> None:
        with self.lock:
            if self.layers is None:
                self.layers = np.zeros((len(self.labels), len(self.labels), len(values)))
            if found is not None and not self.layer_names:
                self.layer_names = tuple(row.name for row in found.layers)
        self.layers[i, j] = values
        if self.symmetric:
            self.layers[j, i] = values

    def fill(self, known: Floats | None, rows: range, columns: range, todo: list[tuple[int, int]]) -> int:
        """Take over what the cache knew; how many pairs."""
        if known is None:
            return 0
        computed = set(todo)
        pairs = [(i, j) for i in rows for j in columns if (i <= j or not self.symmetric) and (i, j) not in computed]
        for i, j in pairs:
            self.store(i, j, known[i - rows.start, j - columns.start].tolist())
        return len(pairs)

    def keep(self, cache: TileCache | None, rows: range, columns: range, todo: list[tuple[int, int]]) -> None:
        if cache is not None and todo and self.layers is not None:
            cache.put_tile(
                *self.names(rows, columns), self.layers[rows.start : rows.stop, columns.start : columns.stop]
            )

    def matrix(self) -> DistanceMatrix:
        if self.layers is None:
            raise AssertionError
        if not self.layer_names:  # all came from the cache
            topology = self.networks.topology(0)
            found = nnstd(topology, topology, alignment="identity")
            self.layer_names = tuple(row.name for row in found.layers)
        n, count = len(self.labels), self.layers.shape[2]
        sums = [math.fsum(row) / count for row in self.layers.reshape(n * n, count).tolist()]
        return DistanceMatrix(self.labels, self.alignment, np.array(sums).reshape(n, n), self.layers, self.layer_names)
