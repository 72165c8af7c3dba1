"""What an archive computes from its snapshots: evolution, structure, gradient flow, lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from topostrata.comparing import Comparing
from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.errors import NotFoundError
from topostrata.refs import Ref, check_run_pattern
from topostrata.runs import EVERY_RUN, Snapshot, StepMetrics
from topostrata.store.runs import RecordedSnapshot

if TYPE_CHECKING:
    from topostrata.distance.chosen import Layers
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
    from topostrata.store.graph import GraphStore


class Analysis(Comparing):
    """The part of ``Archive`` that computes; the other part stores and reads."""

    def __init__(self, store: GraphStore) -> None:
        super().__init__(store)
        self._built_evolution: StoredEvolution | None = None

    @property
    def _evolution(self) -> StoredEvolution:
        from topostrata.evolution.stored import StoredEvolution

        with self._building:
            self._built_evolution = self._built_evolution or StoredEvolution(self._store, self._masks)
            return self._built_evolution

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

    def openlineage(
        self, run: str | None = None, *, depth: int | None = None, namespace: str = "topostrata"
    ) -> list[dict[str, Any]]:
        """The runs of ``lineage`` as events of OpenLineage 2-0-2, for a catalog of data: ``ts.to_openlineage``.

        Raises ``NotFoundError`` where there is no such run.

        >>> [event["outputs"][0]["name"] for event in archive.openlineage("w1") if event["outputs"]][:2]
        ['w0@0', 'w0@5']
        """
        from topostrata.lineage.exports import to_openlineage

        family = self.lineage(run, depth=depth).nodes
        runs = [self.run(member) for member in family]
        beyond = {parent.run for member in runs for parent in member.parents} - {*family}  # where depth has cut
        snapshots = {member: self.snapshots(member) for member in (*family, *beyond)}
        return to_openlineage(runs, snapshots, namespace=namespace)

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
        keep: bool | None = None,
    ) -> StoredInference:
        """Which run probably descends from which, inferred from the distances of one snapshot of each.

        The answer is stored under ``name`` and replaces an earlier one of that name; ``None`` stores none. Where it is
        stored, or as ``keep`` says, the distances and matches that it is computed of are kept for the next. What is
        known already is read. ``root`` is the ancestor of all runs, if it is known. ``by_time`` says that no run
        descends from a younger one. Hidden units are ``"in-place"`` (unit i is the same unit in all runs: they are
        compared by index) or ``"renamed"`` (they are matched by ``overlap``); without ``units`` the connections tell,
        and the answer says what they told.
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
            keep=name is not None if keep is None else keep,
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
        keep: bool = True,
    ) -> Timeline:
        """The distance of two runs at each step that both have, or of a run from its own past.

        Its past is its first snapshot, or the one ``lag`` snapshots before. Two runs are compared by ``overlap``, a
        run with itself by ``identity``, unless an alignment is named. ``chance`` adds the level of independent networks
        of the same ``"degrees"`` (with z) or ``"density"`` at each step, which costs a dozen distances more.
        Distances that the archive has are read; with ``keep`` the others are kept for the next who asks.

        Raises ``NotFoundError`` where there is no such run, ``InvalidInputError`` for a lag together with another run.

        >>> [(point.step, round(point.distance, 3)) for point in archive.timeline("w0").points]
        [(5, 0.167), (10, 0.25)]
        """
        from topostrata.lineage.stored import read_timeline

        return read_timeline(
            self._store, self._masks, run, other, alignment=alignment, lag=lag, chance=chance, keep=keep
        )
