"""The distances of all pairs of a set of networks: what can be asked of them, and the files they go out as."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TextIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from topostrata.distance.alignments import Alignment, definition_of
from topostrata.distance.null_model import MatrixChance
from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.files import whole
from topostrata.frames import frame
from topostrata.shown import Shown, Table

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Path = str | os.PathLike[str]
Method = Literal["single", "complete", "average", "weighted", "centroid", "median", "ward"]

# Beyond, the best order of the leaves takes seconds, then minutes; any order that follows the tree is given.
_MOST_ORDERED = 500
_MOST_SHOWN = 20  # networks, in a notebook
_ROWS = 2**18  # of a table, in memory at once


@dataclass(frozen=True, eq=False)
class DistanceMatrix(Shown):
    """Pairwise distances of n networks with L layers: ``nnstd[i, j]`` is that of ``labels[i]`` and ``labels[j]``.

    ``nnstd`` has shape (n, n), ``layers`` (n, n, L), both 0 to 1; symmetric except for the alignment ``"reference"``,
    where row i stands for the first argument. ``held`` names the spaces with interchangeable units that were compared
    by index (``Distance.held``), ``version`` is that of the alignment that computed it, ``left_out`` the layers that do
    not count where layers were chosen. ``chance`` is the level of some of the pairs; None where it was not asked, or
    where there is but one network. ``np.asarray(matrix)`` is ``nnstd``. Files are written whole or not at all.
    """

    labels: tuple[str, ...]
    alignment: Alignment
    nnstd: Floats
    layers: Floats
    layer_names: tuple[str, ...]
    held: tuple[str, ...] = ()
    version: int = 1
    left_out: tuple[str, ...] = ()
    chance: MatrixChance | None = None

    def __post_init__(self) -> None:
        definition_of(self.alignment)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.nnstd, dtype=dtype, copy=copy)

    @property
    def directed(self) -> bool:
        """Whether the distance of a and b may be another than that of b and a."""
        return not definition_of(self.alignment).symmetric

    def to_csv(self, path: Path) -> None:
        """The matrix with labels in the first row and column; values in full precision."""
        with whole(path) as draft, draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            self.write_csv(file)

    def write_csv(self, file: TextIO) -> None:
        """What ``to_csv`` writes, into a stream that leaves line ends alone."""
        writer = csv.writer(file)
        writer.writerow(["", *self.labels])
        for label, row in zip(self.labels, self.nnstd, strict=True):
            writer.writerow([label, *map(repr, row.tolist())])

    def to_parquet(self, path: Path) -> None:
        """A table with a row for each pair: ``a``, ``b``, ``nnstd``, and ``layer_<name>`` for each layer.

        Each two networks stand there once, both ways where they may differ (``reference``); none with itself. The
        alignment and the level of chance are in the metadata of the file, as ``topostrata``. Needs pyarrow, the extra
        ``parquet``.
        """
        need_parquet()
        import pyarrow as pa  # noqa: PLC0415 - behind an extra
        import pyarrow.parquet as pq  # noqa: PLC0415

        columns = ["nnstd", *(f"layer_{name}" for name in self.layer_names)]
        about: dict[str, Any] = {"alignment": self.alignment, "version": self.version, "layers": list(self.layer_names)}
        if self.chance is not None:
            about["chance"] = self._chance()
        schema = pa.schema(
            [pa.field(name, pa.string(), nullable=False) for name in ("a", "b")]
            + [pa.field(name, pa.float64(), nullable=False) for name in columns],
            metadata={"topostrata": json.dumps(about)},
        )
        labels = pa.array(self.labels, pa.string())
        with whole(path) as draft, pq.ParquetWriter(draft, schema) as writer:
            for i, j in self._pairs():
                values = [self.nnstd[i, j], *self.layers[i, j].T]
                writer.write_table(
                    pa.Table.from_arrays([labels.take(pa.array(i)), labels.take(pa.array(j)), *values], schema=schema)
                )

    def to_pandas(self) -> pd.DataFrame:
        """A row and a column for each network, by its label."""
        table = frame(dict(zip(self.labels, row, strict=True)) for row in self.nnstd.tolist())
        return table.set_index(table.columns)

    def to_networkx(self) -> nx.Graph[str]:
        """A complete graph: an edge for each pair with its ``distance`` and ``layers``; directed for ``reference``."""
        graph = self._nodes()
        for i, j in self._pairs():
            for a, b in zip(i.tolist(), j.tolist(), strict=True):
                layers = self.layers[a, b].tolist()
                graph.add_edge(self.labels[a], self.labels[b], distance=float(self.nnstd[a, b]), layers=layers)
        return graph

    def to_graphml(self, path: Path) -> None:
        """The graph of ``to_networkx`` for Gephi, yEd or igraph: ``distance`` and ``layer_<name>`` of each edge."""
        graph = self.to_networkx()
        import networkx as nx  # noqa: PLC0415 - behind an extra

        graph.graph |= {"alignment": self.alignment, "version": self.version}
        if self.chance is not None:
            graph.graph |= {"chance": self.chance.level, "chance_kept": self.chance.kept}
        for *_, attributes in graph.edges(data=True):
            attributes.update(
                zip((f"layer_{name}" for name in self.layer_names), attributes.pop("layers"), strict=True)
            )
        with whole(path) as draft, draft.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in nx.generate_graphml(graph))

    def to_npz(self, path: Path) -> None:
        """Everything, as NumPy arrays that have the names of the fields; ``chance`` as a text of JSON."""
        with whole(path) as draft, draft.open("wb") as file:
            self.write_npz(file)

    def write_npz(self, file: BinaryIO) -> None:
        """What ``to_npz`` writes, into a stream."""
        np.savez_compressed(
            file,
            labels=np.array(self.labels),
            alignment=np.array(self.alignment),
            nnstd=self.nnstd,
            layers=self.layers,
            layer_names=np.array(self.layer_names),
            held=np.array(self.held, dtype=np.str_),
            version=np.array(self.version),
            left_out=np.array(self.left_out, dtype=np.str_),
            chance=np.array(json.dumps(self._chance())),
        )

    @staticmethod
    def from_npz(path: Path | BinaryIO) -> DistanceMatrix:
        """What ``to_npz`` or ``write_npz`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            alignment = definition_of(str(file["alignment"])).name
            labels, layer_names = (tuple(file[key].tolist()) for key in ("labels", "layer_names"))
            in_place = tuple(file["held"].tolist()) if "held" in file else ()  # files of before have none
            version = int(file["version"]) if "version" in file else 1
            out = tuple(file["left_out"].tolist()) if "left_out" in file else ()
            told = json.loads(str(file["chance"])) if "chance" in file else None
            level = None if told is None else MatrixChance.of_json(told)
            return DistanceMatrix(
                labels, alignment, file["nnstd"], file["layers"], layer_names, in_place, version, out, level
            )

    def of_layers(self, rows: Sequence[int]) -> DistanceMatrix:
        """The matrix of some of the layers, by their places: its ``nnstd`` is the mean of these, without chance."""
        layers = self.layers[:, :, list(rows)]
        nnstd = np.array([[math.fsum(pair) / len(rows) for pair in row] for row in layers.tolist()])
        names = tuple(self.layer_names[k] for k in rows)
        out = tuple(name for name in self.layer_names if name not in names)
        return replace(
            self, nnstd=nnstd, layers=layers, layer_names=names, left_out=(*self.left_out, *out), chance=None
        )

    def _shown(self) -> Table:
        some = slice(_MOST_SHOWN)
        rows = [[label, *row] for label, row in zip(self.labels[some], self.nnstd[some, some].tolist(), strict=True)]
        n = len(self.labels)
        part = "" if n <= _MOST_SHOWN else f", the first {_MOST_SHOWN}"
        level = "" if self.chance is None else f"; {self.chance}"
        title = f"NNSTD of {n} networks{part}, alignment {self.alignment}{level}"
        return Table(title, ["", *self.labels[some]], rows)

    def linkage(self, method: Method = "average") -> Floats:
        """Hierarchical clustering as ``scipy.cluster.hierarchy.linkage`` gives it, shape (n - 1, 4).

        The two sides of each branch stand so that neighbouring leaves are alike (up to 500 networks), in
        ``dendrogram_order``. Where the two directions differ (``reference``) their mean is taken. Needs at least two
        networks.
        """
        from scipy.cluster.hierarchy import linkage, optimal_leaf_ordering  # noqa: PLC0415 - slow to import
        from scipy.spatial.distance import squareform  # noqa: PLC0415

        if len(self.labels) < 2:
            raise InvalidInputError(f"linkage: expected at least 2 networks, found {len(self.labels)}")
        even = (self.nnstd + self.nnstd.T) / 2
        np.fill_diagonal(even, 0.0)
        flat = squareform(even, checks=False)
        tree: Floats = linkage(flat, method=method)
        return optimal_leaf_ordering(tree, flat) if len(self.labels) <= _MOST_ORDERED else tree

    def dendrogram_order(self, method: Method = "average") -> list[int]:
        """The networks in an order in which similar ones stand together: the leaves of the linkage, left to right."""
        return leaves(self.linkage(method)) if len(self.labels) > 1 else [0]

    def nearest(self, count: int = 10) -> list[list[tuple[str, float]]]:
        """For every network the nearest others, nearest first, equally near ones in the order of the labels."""
        neighbours = []
        for i, row in enumerate(self.nnstd):
            order = np.argsort(row, kind="stable")
            near = order[order != i][:count].tolist()
            neighbours.append([(self.labels[j], float(row[j])) for j in near])
        return neighbours

    def _chance(self) -> dict[str, Any] | None:
        return None if self.chance is None else asdict(self.chance)

    def _pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """The pairs of different networks as indices, some at a time: i < j, or both ways where they may differ."""
        n = len(self.labels)
        step = max(1, _ROWS // n)
        for begin in range(0, n, step):
            rows = np.arange(begin, min(begin + step, n))
            chosen = rows[:, None] != np.arange(n) if self.directed else rows[:, None] < np.arange(n)
            i, j = np.nonzero(chosen)
            yield i + begin, j

    def _nodes(self) -> nx.Graph[str]:
        need_networkx()
        import networkx as nx  # noqa: PLC0415 - behind an extra

        graph: nx.Graph[str] = nx.DiGraph() if self.directed else nx.Graph()
        graph.add_nodes_from(self.labels)
        return graph


def leaves(tree: Floats) -> list[int]:
    """The leaves of a linkage from left to right."""
    from scipy.cluster.hierarchy import leaves_list  # noqa: PLC0415 - slow to import, seldom needed

    order: list[int] = leaves_list(tree).tolist()
    return order


def need_networkx() -> None:
    """Refuse a graph where networkx is not installed."""
    if find_spec("networkx") is None:
        raise MissingExtraError("a graph of the distances", "distance")


def need_parquet() -> None:
    """Refuse a Parquet file where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError("a Parquet file", "parquet") from error


def short(labels: Sequence[str]) -> list[str]:
    """Labels without the folders that all of them begin with."""
    parts = [label.split("/") for label in labels]
    common = 0
    while all(len(folders) > common + 1 and folders[common] == parts[0][common] for folders in parts):
        common += 1
    return ["/".join(folders[common:]) for folders in parts]
