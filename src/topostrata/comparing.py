"""What an archive says of two snapshots and of many: how far apart they are, and which unit is which."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.errors import InvalidInputError
from topostrata.once import Once
from topostrata.reading import Reading
from topostrata.refs import Ref
from topostrata.runs import RunLayer, Snapshot
from topostrata.store.runs import RecordedSnapshot, expanded, recorded, recorded_of, resolve, wiring_of

if TYPE_CHECKING:
    from topostrata.distance.chosen import Layers
    from topostrata.distance.edits import Edits
    from topostrata.distance.match import Match
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance
    from topostrata.distance.null_model import Kept
    from topostrata.store.graph import GraphStore, Transaction
    from topostrata.topology import Topology


_REMEMBERED = 4_000_000  # connections of the topologies that were compared last: some 150 MB with what is prepared
_ANSWERS = 16_384  # layers of the stored distances that were read last: some 2 kB each


class _Stored(NamedTuple):
    """The distance that is kept of two snapshots, if any, and whether Cypher can walk it."""

    distance: Distance | None
    walked: bool


class Comparing(Reading):
    """The part of ``Archive`` that compares snapshots."""

    def __init__(self, store: GraphStore) -> None:
        super().__init__(store)
        self._once = Once()
        self._topologies: OrderedDict[tuple[str, tuple[RunLayer, ...]], Topology] = OrderedDict()
        self._answers: OrderedDict[Hashable, tuple[list[RecordedSnapshot], Distance]] = OrderedDict()
        self._remembered = 0  # their layers

    # Distance

    def nnstd(
        self,
        a: Ref | Snapshot | RecordedSnapshot | str,
        b: Ref | Snapshot | RecordedSnapshot | str,
        *,
        alignment: Alignment = DEFAULT,
        chance: Kept | None = None,
        partners: Mapping[str, Any] | None = None,
        layers: Layers = None,
        keep: bool = True,
    ) -> Distance:
        """The distance of two snapshots' topologies, 0 (the same wiring) to 1 (nothing in common).

        ``alignment`` says which unit is compared with which, ``chance`` adds the level that independent layers of the
        same ``"degrees"`` (with z) or ``"density"`` would have, ``partners`` is a match from elsewhere,
        ``layers`` chooses what it is of; see ``topostrata.nnstd``, whose errors it raises too. With ``keep`` it is also
        written as ``(:Snapshot)-[:DISTANCE]->(:Snapshot)``, so that Cypher can walk it, unless the match came from
        elsewhere or layers were chosen.

        Raises ``NotFoundError`` where there is no such snapshot, ``NotComparableError`` where they are wired
        differently.

        >>> archive.nnstd("w0@0", "w0@5", alignment="identity").nnstd
        0.16666666666666666
        """
        from topostrata.distance.nnstd import nnstd, with_chance
        from topostrata.distance.stored import put_distance
        from topostrata.distance.stored_chance import StoredLevels

        keep = keep and not self._store.read_only
        memory = StoredLevels(self._store, definition_of(alignment).name, keep=keep)
        if partners is not None or layers is not None:  # kept nowhere
            entries, stored = self._runs.recorded([a, b]), None
        else:
            entries, stored = self._stored(a, b, alignment)
        if stored is None:
            return nnstd(
                *self._masks.topologies(entries),
                alignment=alignment,
                chance=chance,
                partners=partners,
                layers=layers,
                memory=memory,
            )

        def computed() -> Distance:
            distance = stored.distance
            if distance is None:
                distance = nnstd(*self._prepared(entries), alignment=alignment)
            if keep and not stored.walked:
                ours, theirs = (entry.snapshot for entry in entries)
                put_distance(self._store, ours.id, theirs.id, distance, digests=(ours.digest, theirs.digest))
            if chance is None:
                return distance
            return with_chance(distance, *self._prepared(entries), kept=chance, memory=memory)

        about = tuple((entry.snapshot.id, entry.snapshot.digest) for entry in entries)
        return self._once.get(("nnstd", about, alignment, chance, keep), computed)

    def stored_nnstd(
        self,
        a: Ref | Snapshot | RecordedSnapshot | str,
        b: Ref | Snapshot | RecordedSnapshot | str,
        *,
        alignment: Alignment = DEFAULT,
    ) -> Distance | None:
        """The distance that ``nnstd`` kept of two snapshots, which takes milliseconds; None where it is to compute.

        Raises ``NotFoundError`` where there is no such snapshot, ``NotComparableError`` where they are wired
        differently.

        >>> archive.stored_nnstd("w0@5", "w1@10", alignment="refined") is None
        True
        >>> computed = archive.nnstd("w0@5", "w1@10", alignment="refined").nnstd
        >>> archive.stored_nnstd("w0@5", "w1@10", alignment="refined").nnstd == computed
        True
        """
        _, stored = self._stored(a, b, alignment)
        return stored.distance if stored is not None and stored.walked else None

    def _stored(
        self,
        a: Ref | Snapshot | RecordedSnapshot | str,
        b: Ref | Snapshot | RecordedSnapshot | str,
        alignment: Alignment,
    ) -> tuple[list[RecordedSnapshot], _Stored | None]:
        """Two snapshots, and what is kept of their distance; None where one is not whole, which its masks tell best."""
        from topostrata.distance.nnstd import matched_later, nnstd
        from topostrata.distance.recorded import told, wired
        from topostrata.distance.stored import find_pair, is_walked

        definition, refs = definition_of(alignment), (a, b)

        def work(tx: Transaction) -> tuple[list[RecordedSnapshot], _Stored | None]:
            snapshots = resolve(tx, [ref.snapshot if isinstance(ref, RecordedSnapshot) else ref for ref in refs])
            # A snapshot that was pushed anew has the same topology, or another digest; its layers may have other names.
            about = (
                definition.name,
                definition.version,
                *((snapshot.id, snapshot.digest, snapshot.recorded_at) for snapshot in snapshots),
            )
            with self._building:
                remembered = self._answers.get(about)
                if remembered is not None:
                    self._answers.move_to_end(about)
            if remembered is not None:  # a snapshot in hand may have been removed since
                resolve(tx, [s.id for ref, s in zip(refs, snapshots, strict=True) if not isinstance(ref, Ref | str)])
            else:
                known_refs = zip(refs, snapshots, strict=True)
                entries = recorded_of(tx, [ref if isinstance(ref, RecordedSnapshot) else s for ref, s in known_refs])
                both = wired(entries)
                if both is None:
                    return entries, None
                digests = (entries[0].snapshot.digest, entries[1].snapshot.digest)
                known = find_pair(tx, self._store, digests, layers=len(both[0].plan.rows), alignment=alignment)
                if known is None:
                    return entries, _Stored(None, walked=False)
                remembered = entries, told(*both, alignment, known)
                with self._building:
                    if about not in self._answers:
                        self._answers[about] = remembered
                        self._remembered += len(remembered[1].layers)
                    while self._remembered > _ANSWERS:
                        self._remembered -= len(self._answers.popitem(last=False)[1][1].layers)
            entries, distance = remembered
            ours, theirs = (snapshot.id for snapshot in snapshots)
            walked = ours == theirs or is_walked(tx, ours, theirs, alignment, distance.nnstd)
            matched = matched_later(distance, lambda: nnstd(*self._prepared(entries), alignment=alignment).matching)
            return entries, _Stored(matched, walked)

        return self._store.read_with(work)

    def _prepared(self, entries: Sequence[RecordedSnapshot]) -> list[Topology]:
        """The topologies of snapshots; the latest are remembered, with what distances prepared of them."""
        with self._building:
            known = [self._topologies.get((entry.snapshot.digest, entry.layers)) for entry in entries]
        lost = [entry for entry, topology in zip(entries, known, strict=True) if topology is None]
        read = iter(self._masks.topologies(lost))
        topologies = [next(read) if topology is None else topology for topology in known]
        with self._building:
            for entry, topology in zip(entries, topologies, strict=True):
                key = entry.snapshot.digest, entry.layers
                self._topologies[key] = topology
                self._topologies.move_to_end(key)
            while len(self._topologies) > 2 and sum(t.nnz for t in self._topologies.values()) > _REMEMBERED:
                self._topologies.popitem(last=False)
        return topologies

    def distances(
        self,
        patterns: Iterable[Ref | Snapshot | str] | Ref | Snapshot | str,
        *,
        alignment: Alignment = DEFAULT,
        progress: Callable[[int, int], None] | None = None,
        cancel: threading.Event | None = None,
        scheduler: str | None = None,
        layers: Layers = None,
        chance: Kept | None = None,
        keep: bool = True,
    ) -> DistanceMatrix:
        """The distances of all pairs of the snapshots that the refs and globs name.

        What was computed before is read from the graph, and what is computed is kept there; the ten nearest of each
        snapshot become relationships. Without ``keep`` nothing is written. ``progress`` is called with (done, total);
        ``scheduler`` is the address of a Dask scheduler whose workers compute. ``layers`` chooses what the distances
        are of, as in ``topostrata.nnstd``; then there are no relationships. ``chance`` adds the level of independent
        networks of at most ten of the pairs, as ``topostrata.distances`` does.

        Raises ``Cancelled`` once ``cancel`` is set (finished tiles are kept), ``InvalidRefError`` for a pattern that
        names nothing, ``NotComparableError`` where two are wired differently, ``ClusterError`` for the cluster.

        >>> matrix = archive.distances(["w*@last"], alignment="identity")
        >>> matrix.labels, matrix.nnstd.shape
        (('w0@10', 'w1@20'), (2, 2))
        """
        from topostrata.distance.chosen import Choice
        from topostrata.distance.null_model import check_kept
        from topostrata.distance.pairwise import chosen_rows, common_networks
        from topostrata.distance.plan import plan_of
        from topostrata.distance.sampled import with_matrix_chance
        from topostrata.distance.stored import put_nearest, stored_distances
        from topostrata.distance.stored_chance import StoredLevels

        keep = keep and not self._store.read_only

        def work(tx: Transaction) -> list[RecordedSnapshot]:
            return recorded(tx, resolve(tx, expanded(tx, patterns)))

        entries = self._store.read_with(work)
        if not entries:
            raise InvalidInputError("distances: expected at least one ref, found none")
        choice = Choice.of(layers)
        check_kept(chance)
        loaders: list[Callable[[], Topology]] = [partial(self._masks.topology, entry) for entry in entries]
        digests = [entry.snapshot.digest for entry in entries]
        lost: tuple[str, ...] = ()
        wiring = wiring_of(entries[0].layers)
        if choice.common:
            loaders, lost = common_networks(loaders)
            digests, wiring = [load().digest for load in loaders], loaders[0]().wiring
        matrix = self._once.get(
            ("distances", tuple(entry.snapshot.id for entry in entries), tuple(digests), alignment, keep),
            lambda: stored_distances(
                self._store,
                list(zip([entry.snapshot.id for entry in entries], digests, loaders, strict=True)),
                layers=len(plan_of(wiring).rows),
                alignment=alignment,
                progress=progress,
                cancel=cancel,
                scheduler=scheduler,
                keep=keep,
            ),
            cancel,
        )
        if keep and layers is None:
            put_nearest(self._store, matrix)
        matrix = chosen_rows(replace(matrix, left_out=lost), choice, loaders)
        memory = StoredLevels(self._store, matrix.alignment, keep=keep)
        return with_matrix_chance(matrix, loaders, chance, progress=progress, cancel=cancel, memory=memory)

    # Which unit is which

    def match(
        self,
        a: Ref | Snapshot | RecordedSnapshot | str,
        b: Ref | Snapshot | RecordedSnapshot | str,
        *,
        alignment: Alignment = DEFAULT,
        partners: Mapping[str, Any] | None = None,
        keep: bool = False,
    ) -> Match:
        """Which neuron of one snapshot is which of another, with what speaks for it; see ``topostrata.match``.

        With ``keep`` the established units are written as ``(:Neuron)-[:MATCHES]->(:Neuron)``, so that Cypher walks
        from run to run; an earlier match of the two by the same alignment is replaced.

        Raises what ``topostrata.match`` raises, and ``NotFoundError`` where there is no such snapshot or, with
        ``keep``, where neurons of a run are not in the graph.

        >>> archive.match("w0@0", "w1@20")["hidden1"].partner.tolist()
        [0, 1, 2]
        """
        from topostrata.distance.match import match
        from topostrata.distance.stored_matches import put_match

        if keep:
            self._store.check_writable()
        entries = self._runs.recorded([a, b])
        answer = match(*self._masks.topologies(entries), alignment=alignment, partners=partners)
        if keep:
            put_match(self._store, entries[0].snapshot, entries[1].snapshot, answer)
        return answer

    def edits(
        self,
        a: Ref | Snapshot | RecordedSnapshot | str,
        b: Ref | Snapshot | RecordedSnapshot | str,
        *,
        alignment: Alignment = DEFAULT,
        partners: Mapping[str, Any] | None = None,
    ) -> Edits:
        """The inputs to delete and to insert that make one snapshot the other; see ``topostrata.edits``.

        Raises what ``topostrata.edits`` raises, and ``NotFoundError`` where there is no such snapshot.

        >>> changed = archive.edits("w0@0", "w0@5", alignment="identity")
        >>> [(layer.name, layer.deleted, layer.inserted) for layer in changed.layers]
        [('l0', 1, 1), ('l1', 0, 0)]
        """
        from topostrata.distance.edits import edits

        return edits(*self._masks.topologies(self._runs.recorded([a, b])), alignment=alignment, partners=partners)
