"""Distances that were computed before, kept in the graph: in tiles by topology, and as relationships for Cypher.

Every topology that was ever compared has a number, given once (``(:Topology {digest, family, number})``); topologies of
a family have the same depth, so that they may have a distance. A tile (``(:DistanceBlock)``) holds the distances of 32
numbers to 32 others, NaN where they are not known. So the tile of a pair follows from its two numbers, whatever set it
is asked in; a new snapshot touches one row of tiles; and n networks make n^2 / 2048 nodes, not n^2 / 2 relationships.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.alignments import Alignment, definition_of, options
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import Distance
from topostrata.distance.pairwise import distances
from topostrata.errors import CorruptError
from topostrata.topology import Topology

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Transaction

SIDE = 32
NEAREST = 10

Floats = NDArray[np.float64]
_KEPT = 64  # tiles in memory
_PAGE = 1000
_NOWHERE = 2**40
# What stands beside the distances of a pair: ambiguous units by layer, then flags.
_UNKNOWN, _UNCOUNTED = -1, -2
_CANONICAL, _INFORMED, _UNASKED = 1, 2, 4


class Known(NamedTuple):
    """What is kept of the distance of two topologies: that of each layer, and what tells how it was found."""

    values: list[float]
    ambiguous: list[int] | None
    canonical: bool
    informed: bool | None


def number(store: GraphStore, digests: Sequence[str], *, layers: int) -> dict[str, int]:
    """The numbers of the topologies, new ones given where they have none; a pair has ``layers`` distances."""
    wanted = list(dict.fromkeys(digests))
    known = store.read_with(lambda tx: _numbers(tx, wanted))
    if len(known) == len(wanted):
        return known
    return store.write(lambda tx: numbers_in(tx, wanted, layers=layers))


def numbers_in(tx: Transaction, digests: list[str], *, layers: int) -> dict[str, int]:
    """The numbers of the topologies, as ``number`` gives them, in a transaction that goes on to use them."""
    family = str(layers)
    numbers = _numbers(tx, digests)
    if len(numbers) == len(set(digests)):
        return numbers
    tx.run("archive/lock_archive", token=uuid.uuid4().hex)
    numbers = _numbers(tx, digests)
    first = tx.run("distance/next_topology_number", family=family)[0]["number"]
    new = {digest: first + k for k, digest in enumerate(d for d in digests if d not in numbers)}
    rows = list(new.items())
    for at in range(0, len(rows), _PAGE):
        tx.run("distance/number_topologies", family=family, rows=[list(row) for row in rows[at : at + _PAGE]])
    return numbers | new


def numbers_to_read(tx: Transaction, digests: Iterable[str]) -> dict[str, int]:
    """The numbers of the topologies that have one; others get one that no tile knows, and that is kept nowhere."""
    wanted = list(dict.fromkeys(digests))
    return {digest: _NOWHERE + k for k, digest in enumerate(wanted)} | _numbers(tx, wanted)


def _numbers(tx: Transaction, digests: list[str]) -> dict[str, int]:
    return {row["digest"]: row["number"] for row in tx.run("distance/topology_numbers", digests=digests)}


class StoredTiles:
    """The tiles of one alignment, as ``pairwise.distances`` asks for them and, with ``keep``, fills them."""

    def __init__(
        self,
        store: GraphStore,
        numbers: Mapping[str, int],
        *,
        alignment: Alignment,
        layers: int,
        fix_output: bool = True,
        keep: bool = True,
    ) -> None:
        self._store = store
        self._numbers = numbers
        self._definition = definition_of(alignment)
        self._layers = layers
        self._fix_output = fix_output
        self._keeps = keep
        self._tiles: OrderedDict[str, Floats] = OrderedDict()

    def get_tile(self, rows: Sequence[str], columns: Sequence[str]) -> Floats | None:
        """The known distances, shape (rows, columns, layers), NaN where one is not known; ``None`` where none is."""
        values = np.full((len(rows), len(columns), self._layers), np.nan)
        pieces = list(self._pieces(rows, columns))
        tiles = self._read({self._id(*place) for place, _ in pieces})
        for place, (mine, theirs) in pieces:
            if (tile := tiles.get(self._id(*place))) is not None:
                values[mine] = tile[theirs]
        return None if np.isnan(values).all() else values

    def put_tile(self, rows: Sequence[str], columns: Sequence[str], layers: Floats) -> None:
        """Keep distances, shape (rows, columns, layers); each tile is changed in a transaction of its own."""
        if not self._keeps:
            return
        touched: dict[tuple[int, int], list[tuple[tuple[_Index, ...], tuple[_Index, ...]]]] = {}
        for place, pair in self._pieces(rows, columns):
            touched.setdefault(place, []).append(pair)
        for place, pairs in touched.items():
            self._merge(place, [(theirs, layers[mine]) for mine, theirs in pairs])

    def find(self, tx: Transaction, a: str, b: str) -> Known | None:
        """The distance of two topologies with all that is told of it; None where not all of it is known."""
        place, where = self._place(a, b)
        row = next(iter(tx.run("distance/distance_blocks", ids=[self._id(*place)])), None)
        if row is None or row["details"] is None:
            return None
        values = self._decode(self._id(*place), row["data"])[where]
        *ambiguous, flags = self._decode_details(row["details"])[where].tolist()
        if flags == _UNKNOWN or np.isnan(values).any():
            return None
        return Known(
            values.tolist(),
            None if _UNCOUNTED in ambiguous else ambiguous,
            bool(flags & _CANONICAL),
            None if flags & _UNASKED else bool(flags & _INFORMED),
        )

    def put(self, tx: Transaction, a: str, b: str, known: Known) -> None:
        """Keep the distance of two topologies with all that is told of it."""
        place, where = self._place(a, b)
        asked = _UNASKED if known.informed is None else _INFORMED * known.informed
        counts = [_UNCOUNTED] * self._layers if known.ambiguous is None else known.ambiguous
        details = np.array([*counts, _CANONICAL * known.canonical + asked], dtype="<i4")
        both = self._entries(place, where)
        self._change(tx, place, [(at, np.array(known.values)) for at in both], [(at, details) for at in both])

    def find_pairs(self, tx: Transaction, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[float]]:
        """The distances of those of these pairs that are known."""
        places: dict[tuple[int, int], list[tuple[tuple[str, str], tuple[int, int]]]] = {}
        for pair in dict.fromkeys(pairs):
            place, where = self._place(*pair)
            places.setdefault(place, []).append((pair, where))
        of_ids = {self._id(*place): members for place, members in places.items()}
        ids, known = list(of_ids), {}
        for at in range(0, len(ids), _KEPT):
            for row in tx.run("distance/distance_blocks", ids=ids[at : at + _KEPT]):
                tile = self._decode(row["id"], row["data"])
                for pair, where in of_ids[row["id"]]:
                    if not np.isnan(tile[where]).any():
                        known[pair] = tile[where].tolist()
        return known

    def put_pairs(self, tx: Transaction, distances: Mapping[tuple[str, str], Sequence[float]]) -> None:
        """Keep the distances of some pairs."""
        changes: dict[tuple[int, int], list[tuple[Any, Floats]]] = {}
        for pair, values in distances.items():
            place, where = self._place(*pair)
            changes.setdefault(place, []).extend((at, np.array(values)) for at in self._entries(place, where))
        for place in sorted(changes):  # so that no two clients wait for each other's tiles
            self._change(tx, place, changes[place])

    def _place(self, a: str, b: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """The tile of a pair, and where it stands there."""
        (g, i), (h, j) = (divmod(self._numbers[digest], SIDE) for digest in (a, b))
        return ((h, g), (j, i)) if self._definition.symmetric and g > h else ((g, h), (i, j))

    def _entries(self, place: tuple[int, int], where: tuple[int, int]) -> list[tuple[int, int]]:
        """Where a pair stands in its tile: twice in a tile on the diagonal, if the alignment is symmetric."""
        return [where, where[::-1]] if self._definition.symmetric and place[0] == place[1] else [where]

    def _merge(self, place: tuple[int, int], changes: list[tuple[Any, Floats]]) -> None:
        tile = self._store.write(lambda tx: self._change(tx, place, changes))
        self._keep(self._id(*place), tile)

    def _change(
        self,
        tx: Transaction,
        place: tuple[int, int],
        changes: list[tuple[Any, Floats]],
        details: Sequence[tuple[Any, NDArray[np.int32]]] = (),
    ) -> Floats:
        """Change a tile under its lock; what it holds then."""
        tile_id = self._id(*place)
        row = tx.run(
            "distance/lock_distance_block",
            id=tile_id,
            alignment=self._definition.name,
            options=options(fix_output=self._fix_output),
            version=self._definition.version,
            family=str(self._layers),
            row=place[0],
            column=place[1],
            token=uuid.uuid4().hex,
        )[0]
        tile = self._decode(tile_id, row["data"])
        for theirs, values in changes:
            tile[theirs] = values
        told = row["details"]
        if details:
            every = self._decode_details(told)
            for theirs, counts in details:
                every[theirs] = counts
            told = every.tobytes()
        tx.run("distance/put_distance_block", id=tile_id, data=tile.astype("<f8").tobytes(), details=told)
        return tile

    def _decode_details(self, data: bytes | None) -> NDArray[np.int32]:
        shape = (SIDE, SIDE, self._layers + 1)
        if data is None:
            return np.full(shape, _UNKNOWN, dtype="<i4")
        return np.frombuffer(data, dtype="<i4").reshape(shape).copy()

    def _pieces(
        self, rows: Sequence[str], columns: Sequence[str]
    ) -> Iterator[tuple[tuple[int, int], tuple[tuple[_Index, ...], tuple[_Index, ...]]]]:
        """Which part of the asked-for rectangle lies where in which tile; with symmetry each pair has one place."""
        mine = [np.array([self._numbers[digest] for digest in side], dtype=np.int64) for side in (rows, columns)]
        groups = [side // SIDE for side in mine]
        for g in np.unique(groups[0]).tolist():
            i = np.flatnonzero(groups[0] == g)
            for h in np.unique(groups[1]).tolist():
                j = np.flatnonzero(groups[1] == h)
                inside_i, inside_j = mine[0][i] % SIDE, mine[1][j] % SIDE
                if self._definition.symmetric and g > h:
                    yield (h, g), ((i[:, None], j[None, :]), (inside_j[None, :], inside_i[:, None]))
                else:
                    yield (g, h), ((i[:, None], j[None, :]), (inside_i[:, None], inside_j[None, :]))
                if self._definition.symmetric and g == h:
                    yield (g, h), ((i[:, None], j[None, :]), (inside_j[None, :], inside_i[:, None]))

    def _read(self, ids: set[str]) -> dict[str, Floats]:
        tiles = {tile_id: self._tiles[tile_id] for tile_id in ids if tile_id in self._tiles}
        missing = sorted(ids - tiles.keys())
        if missing:
            for row in self._store.read("distance/distance_blocks", ids=missing):
                tiles[row["id"]] = self._decode(row["id"], row["data"])
                self._keep(row["id"], tiles[row["id"]])
        return tiles

    def _keep(self, tile_id: str, tile: Floats) -> None:
        self._tiles[tile_id] = tile
        self._tiles.move_to_end(tile_id)
        while len(self._tiles) > _KEPT:
            self._tiles.popitem(last=False)

    def _decode(self, tile_id: str, data: bytes | None) -> Floats:
        shape = (SIDE, SIDE, self._layers)
        if data is None:
            return np.full(shape, np.nan)
        if len(data) != 8 * SIDE * SIDE * self._layers:
            raise CorruptError(
                f"distances {tile_id}: expected {8 * SIDE * SIDE * self._layers} bytes, found {len(data)}"
            )
        return np.frombuffer(data, dtype="<f8").reshape(shape).astype(np.float64)

    def _id(self, row: int, column: int) -> str:
        return f"{self._definition.key(fix_output=self._fix_output)}/{self._layers}/{row}-{column}"


_Index = NDArray[np.int64]


def stored_distances(
    store: GraphStore,
    networks: Sequence[tuple[str, str, Callable[[], Topology]]],
    *,
    layers: int,
    alignment: Alignment,
    fix_output: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
    scheduler: str | None = None,
    keep: bool = True,
) -> DistanceMatrix:
    """The distances of all pairs of (label, digest, loader), taking from the graph what was computed before.

    What is computed is kept, tile by tile, so that an interrupted job goes on where it stopped; without ``keep``
    nothing is written.
    """
    definition_of(alignment)
    digests = [digest for _, digest, _ in networks]
    numbers = (
        number(store, digests, layers=layers) if keep else store.read_with(lambda tx: numbers_to_read(tx, digests))
    )
    return distances(
        [loader for _, _, loader in networks],
        labels=[label for label, _, _ in networks],
        digests=digests,
        alignment=alignment,
        fix_output=fix_output,
        progress=progress,
        cancel=cancel,
        scheduler=scheduler,
        cache=StoredTiles(store, numbers, alignment=alignment, layers=layers, fix_output=fix_output, keep=keep),
        # That of their numbers, so that a tile of the job is a tile of the graph.
        order=sorted(range(len(networks)), key=lambda k: numbers[digests[k]]),
    )


def find_pair(
    tx: Transaction, store: GraphStore, digests: tuple[str, str], *, layers: int, alignment: Alignment
) -> Known | None:
    """The distance of two topologies that was computed before, by the present definition of the alignment."""
    numbers = _numbers(tx, list(dict.fromkeys(digests)))
    if len(numbers) < len(set(digests)):
        return None
    return StoredTiles(store, numbers, alignment=alignment, layers=layers).find(tx, *digests)


def is_walked(tx: Transaction, a: str, b: str, alignment: Alignment, nnstd: float) -> bool:
    """Whether this distance stands between two snapshots, given by their refs, for Cypher to walk."""
    definition = definition_of(alignment)
    a, b = _ordered(a, b, alignment)
    row = tx.one(
        "distance/distance_between",
        alignment=alignment,
        options=options(fix_output=True),
        snapshot=a,
        other_snapshot=b,
    )
    return row is not None and (row["nnstd"], row["version"]) == (nnstd, definition.version)


def put_distance(
    store: GraphStore, a: str, b: str, distance: Distance, *, digests: tuple[str, str] | None = None
) -> None:
    """Write one distance, in one transaction, as a relationship between two snapshots, given by their refs.

    Where the ``digests`` of their topologies are handed in, it goes into the tile of these, too.
    """
    alignment = definition_of(distance.alignment).name
    layers = len(distance.layers)
    counts = [row.ambiguous for row in distance.layers]
    values = [row.distance for row in distance.layers]
    ambiguous = [count for count in counts if count is not None] if None not in counts else None
    row = [*_ordered(a, b, alignment), distance.nnstd, values, ambiguous]

    def work(tx: Transaction) -> None:
        if digests is not None:
            numbers = numbers_in(tx, list(dict.fromkeys(digests)), layers=layers)
            known = Known(values, ambiguous, distance.canonical, distance.informed)
            StoredTiles(store, numbers, alignment=alignment, layers=layers).put(tx, *digests, known)
        if a != b:
            tx.run(
                "distance/put_distances",
                alignment=alignment,
                options=options(fix_output=True),
                version=distance.version,
                rows=[row],
            )

    store.write(work)


def _ordered(a: str, b: str, alignment: Alignment) -> tuple[str, str]:
    return (min(a, b), max(a, b)) if definition_of(alignment).symmetric else (a, b)


def put_nearest(store: GraphStore, matrix: DistanceMatrix, *, fix_output: bool = True) -> int:
    """Let Cypher walk from each snapshot of a matrix to its ten nearest; gives how many relationships were written.

    One relationship a pair where the alignment is symmetric, from the smaller ref to the larger.
    """
    symmetric = not matrix.directed
    at = {label: k for k, label in enumerate(matrix.labels)}
    pairs: set[tuple[str, str]] = set()
    for label, near in zip(matrix.labels, matrix.nearest(NEAREST), strict=True):
        for other, _ in near:
            if other != label:
                pairs.add((min(label, other), max(label, other)) if symmetric else (label, other))
    rows = [
        [a, b, float(matrix.nnstd[at[a], at[b]]), matrix.layers[at[a], at[b]].tolist(), None] for a, b in sorted(pairs)
    ]
    return _put(store, rows, matrix.alignment, fix_output=fix_output)


def _put(store: GraphStore, rows: list[list[object]], alignment: Alignment, *, fix_output: bool) -> int:
    written = 0
    for at in range(0, len(rows), _PAGE):
        page = rows[at : at + _PAGE]
        answer = store.write(
            lambda tx, page=page: tx.run(  # type: ignore[misc]
                "distance/put_distances",
                alignment=alignment,
                options=options(fix_output=fix_output),
                version=definition_of(alignment).version,
                rows=page,
            )
        )
        written += int(answer[0]["written"]) if answer else 0
    return written
