"""Pairs that are compared one by one, with what an archive knows of them: how far apart, which unit is which.

Distances stand in the tiles (``stored``). A match stands in a ``(:DistanceBlock)`` of its own, by the two digests and
the version of the alignment: for each unit its partner's place less its own, as int32 and deflated, so that units that
keep their places cost nothing. By ``identity`` all do: it has none.
"""

from __future__ import annotations

import logging
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
from topostrata.errors import UnavailableError
from topostrata.topology import Topology

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Transaction

Pair = tuple[str, str]  # digests
Partners = NDArray[np.int64]

logger = logging.getLogger(__name__)

_PAGE = 64  # pairs that are kept at once
_READ = 256  # matches that are read at once
_MESSAGE = 4 * 2**20  # bytes of matches at once: the embedded engine takes messages of 16 MiB at most


class KnownPairs:
    """The distances of some pairs by one alignment; with ``keep`` those that are computed are kept, by pages.

    ``pairs`` are all that will be asked for, as digests, in that order; each has ``layers`` distances. ``matches``
    says whether somebody will ask which unit is which: only then are matches kept. What was computed last is kept by
    ``close``. An archive that cannot keep it is told of in the log: the answers are right all the same.
    """

    def __init__(
        self,
        store: GraphStore,
        pairs: Iterable[Pair],
        *,
        alignment: Alignment,
        layers: int,
        keep: bool,
        matches: bool,
    ) -> None:
        self._store = store
        self._definition = definition_of(alignment)
        self._layers = layers
        self._keeps = keep and not store.read_only
        self._has_matches = matches and self._definition.matched != "none"
        wanted = dict.fromkeys(map(self._key, pairs))
        self._order = list(wanted)
        self._places = {pair: at for at, pair in enumerate(wanted)}
        self._distances = store.read_with(lambda tx: self._find(tx, wanted))
        self._matches: dict[Pair, bytes | None] = {}  # those that were read last
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
            if rows:
                tx.run("distance/put_tiles", rows=rows)

        try:
            self._store.write(work)
        except UnavailableError as error:
            self._keeps = False
            logger.warning("%s: distances are computed and not kept: %s", self._store.location, error)

    def _computed(self, a: Topology, b: Topology) -> Distance:
        distance = nnstd(a, b, alignment=self._definition.name)
        pair = self._key((a.digest, b.digest))
        self._distances[pair] = [row.distance for row in distance.layers]
        if not self._keeps:
            return distance
        self._new_distances[pair] = self._distances[pair]
        self._matches.pop(pair, None)  # what was read of it was damaged, or none
        if self._has_matches and a.wiring.beyond_format_1 is None:  # of others nothing asks for the match
            spaces, turned = self._spaces(a, b)
            match = [inverse(distance.matching[n], size) if turned else distance.matching[n] for n, _, size in spaces]
            if len(packed := _packed(match)) <= _MESSAGE:
                self._new_matches[pair] = packed
        if len(self._new_distances) >= _PAGE or sum(map(len, self._new_matches.values())) >= _MESSAGE:
            self.close()
        return distance

    def _find(self, tx: Transaction, pairs: Iterable[Pair]) -> dict[Pair, Sequence[float]]:
        numbers = numbers_to_read(tx, [digest for pair in pairs for digest in pair])
        return {**self._tiles(numbers).find_pairs(tx, pairs)}

    def _tiles(self, numbers: Mapping[str, int]) -> StoredTiles:
        return StoredTiles(self._store, numbers, alignment=self._definition.name, layers=self._layers)

    def _key(self, pair: Pair) -> Pair:
        """The pair as it is kept: in the order of the digests, if the distance is the same both ways."""
        return (min(pair), max(pair)) if self._definition.symmetric else pair

    def _match(self, a: Topology, b: Topology) -> Mapping[str, Partners]:
        """The match of a pair whose distance is known, by A's names; computed where it is not kept, or damaged."""
        data = self._stored_match(a, b) if self._has_matches else None
        if data is None:
            return self._computed(a, b).matching
        spaces, turned = self._spaces(a, b)
        sizes = [(theirs, ours) if turned else (ours, theirs) for _, ours, theirs in spaces]
        match = _unpacked(data, sizes)
        if match is None:
            logger.warning("%s: damaged, and computed again", self._id(*self._key((a.digest, b.digest))))
            return self._computed(a, b).matching
        return {
            name: inverse(partner, size) if turned else partner
            for (name, size, _), partner in zip(spaces, match, strict=True)
        }

    def _stored_match(self, a: Topology, b: Topology) -> bytes | None:
        pair = self._key((a.digest, b.digest))
        if pair in self._new_matches:
            return self._new_matches[pair]
        if pair not in self._matches:  # whoever asks for it will ask for those that follow
            at, units = self._places[pair], sum(space.size for space in plans(a, b)[0].spaces)
            following = self._order[at : at + max(1, min(_READ, _MESSAGE // (4 * units)))]
            pairs = {self._id(*other): other for other in following}
            rows = self._store.read("distance/distance_blocks", ids=list(pairs))
            self._matches = dict.fromkeys(following) | {pairs[row["id"]]: row["data"] for row in rows}
        return self._matches[pair]

    def _spaces(self, a: Topology, b: Topology) -> tuple[list[tuple[str, int, int]], bool]:
        """A's name of each space with its size in both, and whether the match is kept from B to A."""
        both = plans(a, b)
        spaces = [(ours.name, ours.size, theirs.size) for ours, theirs in zip(*(p.spaces for p in both), strict=True)]
        return spaces, self._key((a.digest, b.digest)) != (a.digest, b.digest)

    def _id(self, a: str, b: str) -> str:
        return f"match/{self._definition.key(fix_output=True)}/{a}/{b}"


def _packed(match: Iterable[Partners]) -> bytes:
    """The partners of the units of each space, as they are kept."""
    return zlib.compress(np.concatenate([p - np.arange(len(p)) for p in match]).astype("<i4").tobytes(), 1)


def _unpacked(data: bytes, sizes: Sequence[tuple[int, int]]) -> list[Partners] | None:
    """The same again, of spaces with so many units here and there; None for bytes that are no match of such."""
    length = 4 * sum(ours for ours, _ in sizes)
    inflating = zlib.decompressobj()
    try:
        inflated = inflating.decompress(data, length + 1)
    except zlib.error:
        return None
    if not inflating.eof or len(inflated) != length:
        return None
    moves = np.frombuffer(inflated, dtype="<i4").astype(np.int64)
    starts = np.cumsum([ours for ours, _ in sizes])[:-1]
    match = [move + np.arange(len(move)) for move in np.split(moves, starts)]
    for partner, (_, theirs) in zip(match, sizes, strict=True):
        there = partner[partner >= 0]
        if (partner < -1).any() or (there >= theirs).any() or len(np.unique(there)) < len(there):
            return None
    return match
