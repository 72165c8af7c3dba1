"""What an archive computes from its snapshots: distances, evolution, lineage, structure.

Each method imports what it needs, so that a question about runs waits for no arrays, graphs or kernels.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.once import Once
from topostrata.refs import Ref, check_run_pattern
from topostrata.runs import EVERY_RUN, RunLayer, Snapshot, StepMetrics
from topostrata.store.runs import RecordedSnapshot, RunStore, expanded, recorded, recorded_of, resolve, wiring_of

if TYPE_CHECKING:
    from topostrata.distance.chosen import Layers
    from topostrata.distance.edits import Edits
    from topostrata.distance.match import Match
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance
    from topostrata.distance.null_model import Kept
    from topostrata.evolution.between import ConnectionChanges, Evolution
    from topostrata.evolution.neuron import Neuron
    from topostrata.evolution.stored import RunHistory, StoredEvolution
    from topostrata.evolution.survival import RunSurvival
    from topostrata.lineage.declared import Kinship, Lineage
    from topostrata.lineage.related import Relatedness
    from topostrata.lineage.stored import StoredInference
    from topostrata.lineage.timelines import Timeline
    from topostrata.lineage.unit_terms import Units
    from topostrata.measures.core import Core
    from topostrata.measures.panel import Measures
    from topostrata.measures.run_flow import FlowCorrelation, RunGradientFlow
    from topostrata.measures.structure import Structure
    from topostrata.store.graph import GraphStore, Transaction
    from topostrata.store.masks import MaskStore
    from topostrata.topology import Topology


_REMEMBERED = 4_000_000  # connections of the topologies that were compared last: some 150 MB with what is prepared


class _Stored(NamedTuple):
    """The distance that is kept of two snapshots, if any, and whether Cypher can walk it."""

    distance: Distance | None
    walked: bool


class Analysis:
    """The part of ``Archive`` that computes; the other part stores and reads."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store
        self._runs = RunStore(store)
        self._building = threading.RLock()  # threads share the parts that are built when they are first used
        self._built_masks: MaskStore | None = None
        self._built_evolution: StoredEvolution | None = None
        self._once = Once()
        self._topologies: OrderedDict[tuple[str, tuple[RunLayer, ...]], Topology] = OrderedDict()

    @property
    def _masks(self) -> MaskStore:
        from topostrata.store.masks import MaskStore

        with self._building:
            self._built_masks = self._built_masks or MaskStore(self._store)
            return self._built_masks

    @property
    def _evolution(self) -> StoredEvolution:
        from topostrata.evolution.stored import StoredEvolution

        with self._building:
            self._built_evolution = self._built_evolution or StoredEvolution(self._store, self._masks)
            return self._built_evolution

    def recorded(self, *refs: Ref | Snapshot | RecordedSnapshot | str) -> list[RecordedSnapshot]:
        """Snapshots with what their topologies are made of, all read at once, in the order of the refs.

        What takes a ref takes one of these too, and asks the database for nothing of it but masks: so a program
        knows which snapshots ``last`` were, and gets answers about just these.

        Raises ``NotFoundError`` for the first that is not there, ``InvalidRefError`` for text that is no ref.

        >>> ours, theirs = archive.recorded("w0@last", "w1@first")
        >>> ours.snapshot.id, theirs.snapshot.id, archive.nnstd(ours, theirs, alignment="identity").nnstd
        ('w0@10', 'w1@10', 0.25)
        """
        return self._runs.recorded(refs)

    def _topology(self, ref: Ref | Snapshot | RecordedSnapshot | str) -> Topology:
        return self._masks.topology(self._runs.recorded([ref])[0])

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

        name = definition_of(alignment).name

        def work(tx: Transaction) -> tuple[list[RecordedSnapshot], _Stored | None]:
            entries = recorded_of(tx, [a, b])
            both = wired(entries)
            if both is None:
                return entries, None
            digests = (entries[0].snapshot.digest, entries[1].snapshot.digest)
            known = find_pair(tx, self._store, digests, layers=len(both[0].plan.rows), alignment=name)
            if known is None:
                return entries, _Stored(None, walked=False)
            distance = told(*both, alignment, known)
            ours, theirs = (entry.snapshot.id for entry in entries)
            walked = ours == theirs or is_walked(tx, ours, theirs, alignment, distance.nnstd)
            matched = matched_later(distance, lambda: nnstd(*self._prepared(entries), alignment=alignment))
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

    # Evolution

    def evolution(
        self, run: str, from_step: int | None = None, to_step: int | None = None, *, through_parents: bool = False
    ) -> Evolution:
        """What became of the connections of a run between two of its steps (its first and last by default).

        Survived: alive at both and at every recorded step between. Regrown: alive at both, dead in between. Died and
        born: alive at the one step only. ``through_parents`` also looks into the runs that this one resumed or was
        forked from.

        Raises ``NotFoundError`` where there is no such run or step, ``InvalidInputError`` where from is after to,
        ``ConflictError`` where it is not clear which parent is continued.

        >>> [(y.name, y.survived, y.regrown, y.died, y.born) for y in archive.evolution("w0", 0, 10).layers]
        [('l0', 2, 1, 1, 1), ('l1', 3, 0, 0, 0)]
        """
        return self._evolution.evolution(run, from_step, to_step, through_parents=through_parents)

    def history(self, run: str, *, through_parents: bool = False) -> RunHistory:
        """Births, deaths, regrowth, exploration and lifetimes over all snapshots of a run.

        Raises ``NotFoundError`` where there is no such run, ``ConflictError`` as ``evolution`` does.

        >>> archive.history("w0").total.born.tolist(), archive.history("w0").total.died.tolist()
        ([7, 1, 1], [0, 1, 1])
        """
        return self._evolution.history(run, through_parents=through_parents)

    def survival(self, run: str, from_step: int | None = None, *, through_parents: bool = False) -> RunSurvival:
        """How long the connections of a run live: what is left of those alive at a step (the first by default).

        Also how old those alive at the end are, the histogram of lifetimes and the Kaplan-Meier estimate. Raises
        ``NotFoundError`` where there is no such run or step.

        >>> archive.survival("w0").total.survived.tolist()
        [7, 6, 5]
        """
        return self._evolution.history(run, through_parents=through_parents).survival(from_step)

    def connections(
        self,
        run: str,
        layer: str,
        from_step: int | None = None,
        to_step: int | None = None,
        *,
        through_parents: bool = False,
    ) -> ConnectionChanges:
        """The connections of one layer by what became of them between two steps: survived, regrown, died, born.

        They are given as sorted cells of the layer's mask. Raises what ``evolution`` raises, and ``NotFoundError`` for
        a layer that the run does not have.

        >>> archive.connections("w0", "l0", 0, 5).born.tolist()
        [1]
        """
        return self._evolution.connections(run, layer, from_step, to_step, through_parents=through_parents)

    def neuron(self, run: str, space: str, unit: int) -> Neuron:
        """One unit over all snapshots of a run: every connection into it and out of it, and when each lived.

        Raises ``NotFoundError`` where there is no such run, space or unit.

        >>> inputs = archive.neuron("w0", "hidden1", 0).inputs
        >>> [(entry.unit, entry.lives[0].born, entry.lives[0].died) for entry in inputs]
        [(0, 0, None), (1, 5, None)]
        """
        return self._evolution.neuron(run, space, unit)

    # One snapshot

    def structure(self, ref: Ref | Snapshot | RecordedSnapshot | str) -> Structure:
        """Fan-in, fan-out, hubs, dead units and effective density of one snapshot.

        Raises ``NotFoundError`` where there is no such snapshot.

        >>> [(layer.name, layer.density) for layer in archive.structure("w0@0").layers]
        [('l0', 0.4444444444444444), ('l1', 0.5)]
        """
        from topostrata.measures.structure import structure

        return structure(self._topology(ref))

    def measures(
        self,
        ref: Ref | Snapshot | RecordedSnapshot | str,
        *,
        null: int = 0,
        seed: int = 0,
        spectra: bool = True,
    ) -> Measures:
        """The structure panel of one snapshot: the measures that papers print, per layer and for the whole network.

        ``null``, ``seed`` and ``spectra`` are those of ``topostrata.measure``, whose errors it raises too.
        ``explored``, the in-time over-parameterisation, looks at all snapshots of the run up to this one.
        docs/measures.md has each measure with its formula. Raises ``NotFoundError`` where there is no such snapshot.

        >>> measured = archive.measures("w0@10")
        >>> measured.effective_paths, [layer.explored for layer in measured.layers]
        (4, [0.5555555555555556, 0.5])
        """
        from topostrata.measures.panel import measure, over_run

        entry = self._runs.recorded([ref])[0]
        measured = measure(self._masks.topology(entry), null=null, seed=seed, spectra=spectra)
        history = self._evolution.history(entry.snapshot.run)
        at = history.place(entry.snapshot.step)
        explored = {layer.name: float(layer.exploration[at]) for layer in history.layers}
        return over_run(measured, explored, float(history.total.exploration[at]))

    def core(
        self,
        *refs: Ref | Snapshot | str,
        alignment: Alignment = DEFAULT,
        layers: Layers = None,
        draws: int = 3,
        seed: int = 0,
    ) -> Core:
        """How many connections are in exactly k of some snapshots, by layer, beside chance; see ``topostrata.core``.

        ``refs`` may be globs. The units are in the order of the first. Raises ``InvalidRefError`` for a glob that names
        nothing, ``NotFoundError`` where there is no such snapshot, and what ``topostrata.core`` raises.

        >>> archive.core("w0@*", alignment="identity", draws=0).layers[0].exactly
        (0, 3, 2)
        """
        from topostrata.measures.core import core

        networks = self._masks.topologies(self._runs.recorded(self._runs.expand(refs)))
        return core(networks, alignment=alignment, layers=layers, draws=draws, seed=seed)

    # Gradient flow

    def gradient_flows(self, patterns: Iterable[str] | str = "*", *, moments: int = 11) -> list[RunGradientFlow]:
        """The gradient flow of runs, each the mean over so many moments spread evenly over its training.

        ``patterns`` are runs and globs of runs. The numbers are those that ``run.log_gradient_flow`` recorded; of the
        runs that a glob names, those that have none are left out.

        Raises ``NotFoundError`` where a pattern names no run, ``InvalidInputError`` where a run has fewer moments or
        they are not spread over its training.

        >>> for step in range(4):
        ...     _ = archive.push_metrics("x9", step, {"egf_2": step / 4})
        >>> flow = archive.gradient_flows("x9", moments=2)[0]
        >>> flow.steps, flow.egf_2
        ((0, 3), 0.375)
        """
        return self._flows(patterns, moments)[0]

    def flow_correlations(
        self, metric: str, patterns: Iterable[str] | str = "*", *, moments: int = 11
    ) -> list[FlowCorrelation]:
        """How gradient flow goes with a metric over runs: Kendall's tau of each measure, with its 95 % interval.

        Of the metric the last value of a run counts, such as its accuracy at the end. Runs that have either alone are
        left out; ``runs`` of the answer are those that count.

        Raises what ``gradient_flows`` raises, and ``InvalidInputError`` for fewer than 8 such runs or where all have
        the same value.

        >>> for k in range(8):
        ...     for step in (0, 1):
        ...         _ = archive.push_metrics(f"y{k}", step, {"egf_2": k + step, "accuracy": k / 10 + step / 100})
        >>> [(c.measure, c.n, c.tau) for c in archive.flow_correlations("accuracy", "y*", moments=2)]
        [('egf_2', 8, 1.0)]
        """
        from topostrata.measures.run_flow import flow_correlations

        flows, entries = self._flows(patterns, moments)
        reached = {run: [y.metrics[metric] for y in entries[run] if metric in y.metrics] for run in entries}
        return flow_correlations(flows, metric, {run: values[-1] for run, values in reached.items() if values})

    def _flows(
        self, patterns: Iterable[str] | str, moments: int
    ) -> tuple[list[RunGradientFlow], dict[str, list[StepMetrics]]]:
        from fnmatch import fnmatchcase

        from topostrata.measures.run_flow import MEASURES, run_gradient_flow

        known = [run.id for run in self._runs.runs(EVERY_RUN)]
        flows, entries = {}, {}
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            runs = [run for run in known if fnmatchcase(run, check_run_pattern(pattern))]
            if not runs:
                raise NotFoundError(f"run {pattern!r}: expected one or more in the archive, found none")
            for run in runs:
                entries[run] = self._runs.metrics(run, metric=None, layer=None)
                if run == pattern or any(name in entry.metrics for entry in entries[run] for name in MEASURES):
                    flows[run] = run_gradient_flow(run, entries[run], moments=moments)
        return list(flows.values()), entries

    # Lineage

    def lineage(self, run: str | None = None, *, depth: int | None = None) -> Lineage:
        """The declared ancestors and descendants of a run; of all runs if none is named.

        ``depth`` is the greatest number of generations up and down; None takes all.

        Raises ``NotFoundError`` where there is no such run.

        >>> archive.lineage("w1").edges
        (Descent(parent='w0', step=5, child='w1', how='fork'),)
        """
        from topostrata.lineage.stored import read_lineage

        return read_lineage(self._store, run, depth=depth)

    def kinship(self, a: str, b: str) -> Kinship:
        """The nearest common ancestors of two runs, and the ways from there to each of them.

        Raises ``NotFoundError`` where there is no such run.

        >>> archive.kinship("w0", "w1").ancestors
        ('w0',)
        """
        from topostrata.lineage.stored import read_kinship

        return read_kinship(self._store, a, b)

    def infer(
        self,
        patterns: Iterable[Ref | Snapshot | str] | Ref | Snapshot | str,
        *,
        name: str | None = "inferred",
        alignment: Alignment | None = None,
        units: Units | None = None,
        depth: int | None = None,
        root: str | None = None,
        by_time: bool = False,
        samples: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> StoredInference:
        """Which run probably descends from which, inferred from the distances of one snapshot of each.

        The answer is stored under ``name`` and replaces an earlier one of that name; ``None`` stores nothing. ``root``
        is the ancestor of all runs, if it is known. ``by_time`` says that no run descends from a younger one. Hidden
        units are ``"in-place"`` (unit i is the same unit in all runs: they are compared by index) or ``"renamed"``
        (they are matched by ``overlap``); without ``units`` the connections tell, and the answer says what they told.
        An ``alignment`` may be named instead. ``depth`` is the number of layers that are compared.
        ``samples`` is the number of resamples; the support of an edge is its share among them.

        Raises ``InvalidInputError`` for fewer than two runs, several snapshots of one, and units beside an alignment,
        and what ``distances`` raises.

        >>> edge = archive.infer(["w*@last"], root="w0", name=None).inference.edges[0]
        >>> edge.parent, edge.child
        ('w0', 'w1')
        """
        from topostrata.lineage.inferred import SAMPLES
        from topostrata.lineage.stored import get, infer_stored, put

        if name is not None:
            self._store.check_writable()
        stored = infer_stored(
            self._store,
            self._masks,
            patterns,
            alignment=alignment,
            units=units,
            depth=depth,
            root=root,
            by_time=by_time,
            samples=SAMPLES if samples is None else samples,
            progress=progress,
        )
        if name is None:
            return stored
        put(self._store, name, stored.inference, stored.steps)
        return get(self._store, name)

    def inference(self, name: str = "inferred") -> StoredInference:
        """An ancestry that was inferred and stored before.

        Raises ``NotFoundError`` where there is no such one.

        >>> stored = archive.infer(["w*@last"], root="w0", name="example")
        >>> archive.inference("example") == stored
        True
        """
        from topostrata.lineage.stored import get

        return get(self._store, name)

    def related(
        self,
        a: Ref | Snapshot | RecordedSnapshot | str,
        b: Ref | Snapshot | RecordedSnapshot | str,
        *,
        tests: int = 999,
        seed: int = 0,
    ) -> Relatedness:
        """Whether two snapshots are related at all, with an exact p-value for each layer; see ``topostrata.related``.

        Raises ``NotFoundError`` where there is no such snapshot, and what ``topostrata.related`` raises.

        >>> import numpy as np, topostrata as ts
        >>> rng = np.random.default_rng(0)
        >>> masks = [rng.random(shape) < 0.2 for shape in ((30, 40), (40, 40), (40, 5))]
        >>> for run, turned in (("y0", masks), ("y1", [masks[0][:, ::-1], masks[1][::-1], masks[2]])):
        ...     _ = archive.push(run, 0, ts.Topology.from_masks(turned))
        >>> archive.related("y0", "y1", tests=99).related()
        ('l1', 'l2')
        """
        from topostrata.lineage.related import related

        return related(*self._masks.topologies(self._runs.recorded([a, b])), tests=tests, seed=seed)

    def timeline(
        self,
        run: str,
        other: str | None = None,
        *,
        alignment: Alignment | None = None,
        lag: int | None = None,
        chance: Kept | None = None,
    ) -> Timeline:
        """The distance of two runs at each step that both have, or of a run from its own past.

        Its past is its first snapshot, or the one ``lag`` snapshots before. Two runs are compared by ``overlap``, a
        run with itself by ``identity``, unless an alignment is named. ``chance`` adds the level of independent networks
        of the same ``"degrees"`` (with z) or ``"density"`` at each step, which costs a dozen distances more.

        Raises ``NotFoundError`` where there is no such run, ``InvalidInputError`` for a lag together with another run.

        >>> [(point.step, round(point.distance, 3)) for point in archive.timeline("w0").points]
        [(5, 0.167), (10, 0.25)]
        """
        from topostrata.lineage.stored import read_timeline

        return read_timeline(self._store, self._masks, run, other, alignment=alignment, lag=lag, chance=chance)
