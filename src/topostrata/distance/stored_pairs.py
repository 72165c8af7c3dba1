"""Pairs that are compared one by one, with what an archive knows of them: how far apart, which unit is which.

Distances stand in the tiles (``stored``). A match stands in a ``(:DistanceBlock)`` of its own, by the two digests and
the version of the alignment: for each unit its partner's place less its own, as int32 and deflated, so that units that
are compared by index cost nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.alignments import Alignment, definition_of, options
from topostrata.distance.comparable import plans
from topostrata.distance.comparison import Comparison, Planned, inverse
from topostrata.distance.nnstd import Distance, describe, matched_later, nnstd
from topostrata.distance.stored import StoredTiles, numbers_in, numbers_to_read
from topostrata.errors import CorruptError
from topostrata.topology import Topology

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Transaction

Pair = tuple[str, str]  # digests
Partners = NDArray[np.int64]

_PAGE = 64  # pairs that are kept at once
_READ = 256  # matches that are read at once


class KnownPairs:
    """The distances of some pairs by one alignment; with ``keep`` those that are computed are kept, by pages.

    ``pairs`` are all that will be asked for, as digests, in that order; each has ``layers`` distances. What was
    computed last is kept by ``close``.
    """

    def __init__(
        self, store: GraphStore, pairs: Iterable[Pair], *, alignment: Alignment, layers: int, keep: bool
    ) -> None:
        self._store = store
        self._definition = definition_of(alignment)
        self._layers = layers
        self._keeps = keep and not store.read_only
        wanted = dict.fromkeys(map(self._key, pairs))
        self._order = list(wanted)
        self._places = {pair: at for at, pair in enumerate(wanted)}
        self._distances = store.read_with(lambda tx: self._find(tx, wanted))
        self._matches: dict[Pair, bytes | None] = {}  # those that were read last, and computed since
        self._new_distances: dict[Pair, Sequence[float]] = {}
        self._new_matches: dict[Pair, bytes] = {}

    def get(self, a: str, b: str) -> Sequence[float] | None:
        """The distances of the layers of two topologies, given by their digests; None where they are not known."""
        return self._distances.get(self._key((a, b)))

    def compare(self, a: Topology, b: Topology) -> Distance:
        """The distance of two networks, computed where it is not known.

        One that is known has the values of all layers, and its match is read when somebody looks at it; how many units
        were ambiguous, and what follows from that, it does not say.
        """
        values = self.get(a.digest, b.digest)
        if values is None:
            return self._computed(a, b)
        plan_a, plan_b = plans(a, b)
        comparison = Comparison([*values], {}, informed=None)
        distance = describe(Planned(a, plan_a), Planned(b, plan_b), self._definition.name, comparison)
        return matched_later(distance, lambda: self._match(a, b))

    def _computed(self, a: Topology, b: Topology) -> Distance:
        distance = nnstd(a, b, alignment=self._definition.name)
        pair = self._key((a.digest, b.digest))
        self._distances[pair] = self._new_distances[pair] = [row.distance for row in distance.layers]
        if a.wiring.beyond_format_1 is None:  # of others nothing asks for the match
            self._matches[pair] = self._new_matches[pair] = self._packed(a, b, distance.matching)
        if len(self._new_distances) >= _PAGE:
            self.close()
        return distance

    def close(self) -> None:
        """Keep what was computed and is not kept yet, in one transaction."""
        distances, matches = self._new_distances, self._new_matches
        self._new_distances, self._new_matches = {}, {}
        if not self._keeps or not distances:
            return
        common = {
            "alignment": self._definition.name,
            "options": options(fix_output=True),
            "version": self._definition.version,
            "family": "match",
        }

        def work(tx: Transaction) -> None:
            digests = list(dict.fromkeys(digest for pair in distances for digest in pair))
            numbers = numbers_in(tx, digests, layers=self._layers)
            self._tiles(numbers).put_pairs(tx, distances)
            rows = [[self._id(*pair), common | {"data": data}] for pair, data in matches.items()]
            tx.run("distance/put_tiles", rows=rows)

        self._store.write(work)

    def _find(self, tx: Transaction, pairs: Iterable[Pair]) -> dict[Pair, Sequence[float]]:
        numbers = numbers_to_read(tx, [digest for pair in pairs for digest in pair])
        return {**self._tiles(numbers).find_pairs(tx, pairs)}

    def _tiles(self, numbers: Mapping[str, int]) -> StoredTiles:
        return StoredTiles(self._store, numbers, alignment=self._definition.name, layers=self._layers)

    def _key(self, pair: Pair) -> Pair:
        """The pair as it is kept: in the order of the digests, if the distance is the same both ways."""
        return (min(pair), max(pair)) if self._definition.symmetric else pair

    def _match(self, a: Topology, b: Topology) -> Mapping[str, Partners]:
        """The match of a pair whose distance is known."""
        pair = self._key((a.digest, b.digest))
        if pair not in self._matches:  # whoever asks for it will ask for those that follow
            at = self._places[pair]
            pairs = {self._id(*other): other for other in self._order[at : at + _READ]}
            rows = self._store.read("distance/distance_blocks", ids=list(pairs))
            known = {pairs[row["id"]]: row["data"] for row in rows}
            self._matches = {**dict.fromkeys(pairs.values()), **known, **self._new_matches}
        data = self._matches[pair]
        return self._computed(a, b).matching if data is None else self._unpacked(a, b, data)

    def _packed(self, a: Topology, b: Topology, matching: Mapping[str, Partners]) -> bytes:
        spaces, turned = self._spaces(a, b)
        parts = []
        for name, size_a, size_b in spaces:
            partner = inverse(matching[name], size_b) if turned else matching[name]
            parts.append(partner - np.arange(size_b if turned else size_a))
        return zlib.compress(np.concatenate(parts).astype("<i4").tobytes(), 1)

    def _unpacked(self, a: Topology, b: Topology, data: bytes) -> Mapping[str, Partners]:
        spaces, turned = self._spaces(a, b)
        sizes = [size_b if turned else size_a for _, size_a, size_b in spaces]
        try:
            moves = np.frombuffer(zlib.decompress(data), dtype="<i4").astype(np.int64)
        except (zlib.error, ValueError):
            moves = np.zeros(0, dtype=np.int64)
        if len(moves) != sum(sizes):
            raise CorruptError(f"match {self._id(a.digest, b.digest)}: expected {sum(sizes)} units, found {len(moves)}")
        matching = {}
        for (name, size_a, _), move in zip(spaces, np.split(moves, np.cumsum(sizes)[:-1]), strict=True):
            partner = move + np.arange(len(move))
            matching[name] = inverse(partner, size_a) if turned else partner
        return matching

    def _spaces(self, a: Topology, b: Topology) -> tuple[list[tuple[str, int, int]], bool]:
        """A's name of each space with its size in both, and whether the match is kept from B to A."""
        both = plans(a, b)
        spaces = [(ours.name, ours.size, theirs.size) for ours, theirs in zip(*(p.spaces for p in both), strict=True)]
        return spaces, self._key((a.digest, b.digest)) != (a.digest, b.digest)

    def _id(self, a: str, b: str) -> str:
        return f"match/{self._definition.key(fix_output=True)}/{a}/{b}"
