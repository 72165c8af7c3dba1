"""Masks in the graph: packed once per content, each against the one before it, and read back through a cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from topostrata import codec
from topostrata.errors import CorruptError, NotFoundError
from topostrata.store.rows import VERIFY
from topostrata.store.runs import RecordedSnapshot, wiring_of
from topostrata.topology import Mask, Topology

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Transaction

MAX_DEPTH = 24
PART_BYTES = 4 * 2**20  # larger Bolt messages hang or are refused
_CACHE_BYTES = 256 * 2**20
_FETCH = 64  # masks asked for at once


@dataclass(frozen=True, slots=True)
class Stored:
    """A mask that stands in the graph, and how many deltas lie between it and a full one."""

    mask: Mask
    depth: int


class MaskStore:
    """Writes and reads masks by digest. Safe to use from several threads."""

    def __init__(self, store: GraphStore, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._store = store
        self._cache: OrderedDict[str, Mask] = OrderedDict()
        self._cached_bytes = 0
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()

    def forgetful(self) -> MaskStore:
        """The same masks without what was remembered of them: every one is read, and checked, again."""
        return MaskStore(self._store, cache_bytes=self._cache_bytes)

    def put(self, tx: Transaction, masks: Iterable[Mask], bases: Mapping[str, Stored]) -> dict[str, int]:
        """Store the masks that are not there yet; gives the depth of each by digest.

        ``bases`` holds, by the digest of a mask to store, a stored mask that it may be packed against.
        """
        rows: list[list[object]] = []
        large: list[tuple[str, int, int, bytes]] = []
        for mask in {m.digest: m for m in masks}.values():
            base = bases.get(mask.digest)
            usable = base if base is not None and base.depth < MAX_DEPTH else None
            packed = codec.encode(mask, usable.mask if usable else None)
            against = usable if packed.kind == "delta" else None
            parts = [packed.data[at : at + PART_BYTES] for at in range(0, len(packed.data), PART_BYTES)]
            rows.append(
                [
                    mask.digest,
                    mask.nnz,
                    packed.kind,
                    against.mask.digest if against else None,
                    against.depth + 1 if against else 0,
                    codec.CODEC,
                    len(packed.data),
                    len(parts),
                    parts[0],
                ]
            )
            large.extend((mask.digest, len(packed.data), k, part) for k, part in enumerate(parts[1:], start=1))
        put = [row for page in _pages(rows) for row in tx.run("masks/put_masks", rows=page)]
        lost = sum(not row["whole"] for row in put)
        if lost:
            raise NotFoundError(f"{lost} masks lost the mask they were packed against")
        for digest, size, k, part in large:
            tx.run("masks/put_mask_part", digest=digest, bytes=size, part=k, data=part)
        return {row["digest"]: row["depth"] for row in put}

    def replace(self, tx: Transaction, masks: Iterable[Mask]) -> None:
        """Store masks whole, in the place of what stands there under their digests and is damaged."""
        for mask in masks:
            packed = codec.encode(mask, None)
            parts = [packed.data[at : at + PART_BYTES] for at in range(0, len(packed.data), PART_BYTES)]
            tx.run("upkeep/drop_packing", digest=mask.digest)
            row = [mask.digest, mask.nnz, codec.CODEC, len(packed.data), len(parts), parts[0]]
            tx.run("upkeep/put_packing", rows=[row])
            for k, part in enumerate(parts[1:], start=1):
                tx.run("masks/put_mask_part", digest=mask.digest, bytes=len(packed.data), part=k, data=part)

    def stored(self, tx: Transaction, snapshot: str) -> dict[str, Stored]:
        """The masks of a snapshot, given by its id, by layer."""
        rows = tx.run("masks/snapshot_masks", ids=[snapshot])
        masks = self.get(row["digest"] for row in rows)
        return {row["layer"]: Stored(masks[row["digest"]], row["depth"]) for row in rows}

    def topology(self, recorded: RecordedSnapshot) -> Topology:
        """The wiring of a snapshot, checked against its digest."""
        return self.topologies([recorded])[0]

    def topologies(self, recorded: Sequence[RecordedSnapshot]) -> list[Topology]:
        """The wirings of some snapshots, each checked against its digest. All of them are in memory at once."""
        for entry in recorded:
            if not entry.layers:
                raise NotFoundError(f"{entry.snapshot.id}: expected this snapshot, found none: it has been deleted")
            names = sorted(mask.layer for mask in entry.masks)
            if names != sorted(layer.name for layer in entry.layers if layer.shared_with is None):
                raise CorruptError(
                    f"{entry.snapshot.id}: expected a mask for each layer of its run, found {names}", hint=VERIFY
                )
        masks = self.get(mask.digest for entry in recorded for mask in entry.masks)
        return [_checked(entry, masks) for entry in recorded]

    def get(self, digests: Iterable[str]) -> dict[str, Mask]:
        """The masks of these digests. A missing mask, or one whose bytes do not add up, is a ``CorruptError``."""
        wanted = list(dict.fromkeys(digests))
        masks = {d: mask for d in wanted if (mask := self._recall(d)) is not None}
        missing = [d for d in wanted if d not in masks]
        for at in range(0, len(missing), _FETCH):
            masks.update(self._fetch(missing[at : at + _FETCH]))
        return masks

    def remember(self, mask: Mask) -> None:
        """Keep a mask at hand; the least recently used go when the cache is full."""
        with self._lock:
            old = self._cache.pop(mask.digest, None)
            self._cached_bytes += mask.cells.nbytes - (old.cells.nbytes if old is not None else 0)
            self._cache[mask.digest] = mask
            while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].cells.nbytes

    def _recall(self, digest: str) -> Mask | None:
        with self._lock:
            if digest in self._cache:
                self._cache.move_to_end(digest)
            return self._cache.get(digest)

    def _fetch(self, digests: list[str]) -> dict[str, Mask]:
        chains = {r["digest"]: r["chain"] for r in self._store.read("masks/mask_chains", digests=digests)}
        lost = [d for d in digests if d not in chains]
        if lost:
            raise CorruptError(f"mask {lost[0][:12]}: expected it in the archive, found none", hint=VERIFY)
        known: dict[str, Mask] = {}
        needed: dict[str, None] = {}
        for chain in chains.values():
            for digest in chain:
                if digest in needed or digest in known:
                    break
                if (mask := self._recall(digest)) is not None:
                    known[digest] = mask
                    break
                needed[digest] = None
        data = self._packed(list(needed))
        return {digest: self._unpack(chains[digest], data, known) for digest in digests}

    def _unpack(self, chain: list[str], data: dict[str, bytes], known: dict[str, Mask]) -> Mask:
        at = next((k for k, digest in enumerate(chain) if digest in known), len(chain))
        mask = known[chain[at]] if at < len(chain) else None
        for digest in reversed(chain[:at]):
            if digest not in data:
                raise CorruptError(f"mask {digest[:12]}: expected packed bytes, found none", hint=VERIFY)
            try:
                mask = codec.decode(data[digest], mask)
            except CorruptError as error:
                raise CorruptError(f"mask {digest[:12]}: {error.message}", hint=VERIFY) from error
            if mask.digest != digest:
                raise CorruptError(f"mask {digest[:12]}: expected this digest, found {mask.digest[:12]}", hint=VERIFY)
            known[digest] = mask
            self.remember(mask)
        if mask is None:
            raise CorruptError(f"mask {chain[0][:12]}: expected packed bytes, found none", hint=VERIFY)
        return mask

    def _packed(self, digests: list[str]) -> dict[str, bytes]:
        data: dict[str, bytes] = {}
        for at in range(0, len(digests), _FETCH):
            for row in self._store.read("masks/mask_data", digests=digests[at : at + _FETCH]):
                if row["data"] is None or not row["parts"]:
                    raise CorruptError(f"mask {row['digest'][:12]}: expected packed bytes, found none", hint=VERIFY)
                parts = [bytes(row["data"])]
                for k in range(1, row["parts"]):
                    part = self._store.read("masks/mask_part", id=f"{row['digest']}/{k}")
                    if not part or part[0]["data"] is None:
                        raise CorruptError(
                            f"mask {row['digest'][:12]}: expected {row['parts']} parts, found no part {k}", hint=VERIFY
                        )
                    parts.append(bytes(part[0]["data"]))
                data[row["digest"]] = b"".join(parts)
        return data


def topology_of(recorded: RecordedSnapshot, masks: Mapping[str, Mask]) -> Topology:
    """The wiring of a snapshot from its masks, which ``masks`` holds by digest."""
    return wiring_of(recorded.layers).place({mask.layer: masks[mask.digest] for mask in recorded.masks})


def _checked(recorded: RecordedSnapshot, masks: Mapping[str, Mask]) -> Topology:
    topology, snapshot = topology_of(recorded, masks), recorded.snapshot
    if topology.digest != snapshot.digest:
        raise CorruptError(
            f"{snapshot.id}: expected digest {snapshot.digest[:12]}, found {topology.digest[:12]}", hint=VERIFY
        )
    return topology


def _pages(rows: list[list[object]]) -> Iterator[list[list[object]]]:
    """The rows in pages whose bytes fit into one message."""
    page: list[list[object]] = []
    size = 0
    for row in rows:
        data = row[-1]
        assert isinstance(data, bytes)  # noqa: S101 - tells the type checker what stands last in a row
        if page and size + len(data) > PART_BYTES:
            yield page
            page, size = [], 0
        page.append(row)
        size += len(data)
    if page:
        yield page
