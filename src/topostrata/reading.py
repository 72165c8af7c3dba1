"""What an archive knows of its runs and snapshots, as it was recorded.

Each method imports what it needs, so that a question about runs waits for no arrays, graphs or kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from topostrata.refs import Ref
from topostrata.runs import EVERY_RUN, Run, RunFilter, RunLayer, Snapshot, StepMetrics
from topostrata.store.runs import MAX_PAGE, RecordedSnapshot, RunStore

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore
    from topostrata.store.masks import MaskStore
    from topostrata.topology import Topology, Wiring


class Reading:
    """The part of ``Archive`` that reads runs and snapshots."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store
        self._runs = RunStore(store)
        self._building = threading.RLock()  # threads share the parts that are built when they are first used
        self._built_masks: MaskStore | None = None

    @property
    def _masks(self) -> MaskStore:
        from topostrata.store.masks import MaskStore

        with self._building:
            self._built_masks = self._built_masks or MaskStore(self._store)
            return self._built_masks

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

    def runs(self, only: RunFilter = EVERY_RUN) -> list[Run]:
        """All runs in the order of their ids, or those that ``only`` means.

        >>> [run.id for run in archive.runs()][:2]
        ['w0', 'w1']
        >>> [run.id for run in archive.runs(RunFilter(metric="accuracy", at_least=0.8))]
        ['w0']
        """
        return self._runs.runs(only)

    def runs_page(self, *, limit: int = MAX_PAGE, after: str = "", only: RunFilter = EVERY_RUN) -> list[Run]:
        """At most ``limit`` such runs in the order of their ids, those after the id ``after``; see ``runs`` for all.

        Raises ``InvalidInputError`` for a limit that is not 1 to 1000.

        >>> [run.id for run in archive.runs_page(limit=1, after="w0")]
        ['w1']
        """
        return self._runs.runs_page(limit=limit, after=after, only=only)

    def run(self, run: str) -> Run:
        """One run, or ``NotFoundError``.

        >>> run = archive.run("w1")
        >>> run.status, run.snapshots, run.last_step
        ('open', 2, 20)
        """
        return self._runs.run(run)

    def has_run(self, run: str) -> bool:
        """Whether the archive holds a run of that id.

        >>> archive.has_run("nowhere")
        False
        """
        return self._runs.has_run(run)

    def snapshots(self, run: str) -> list[Snapshot]:
        """All snapshots of a run in the order of their steps, or ``NotFoundError`` where there is no such run.

        >>> [(snapshot.step, snapshot.nnz) for snapshot in archive.snapshots("w0")]
        [(0, 7), (5, 7), (10, 7)]
        """
        return self._runs.snapshots(run)

    def snapshots_page(self, run: str, *, limit: int = MAX_PAGE, after: int = -1) -> list[Snapshot]:
        """At most ``limit`` snapshots of a run, those after the step ``after``; see ``snapshots`` for all.

        Raises ``NotFoundError`` where there is no such run, ``InvalidInputError`` for a limit that is not 1 to 1000.

        >>> [snapshot.id for snapshot in archive.snapshots_page("w0", limit=2, after=0)]
        ['w0@5', 'w0@10']
        """
        return self._runs.snapshots_page(run, limit=limit, after=after)

    def metrics(self, run: str, *, metric: str | None = None, layer: str | None = None) -> list[StepMetrics]:
        """The metrics of a run over its steps: those of its snapshots, and those that it has at other steps.

        ``metric`` and ``layer`` leave out all others; of the run's own numbers too, where a layer is named. Where a
        snapshot and ``push_metrics`` have one of a name at a step, the snapshot's counts. Raises ``NotFoundError``
        where there is no such run.

        >>> [(entry.step, entry.metrics) for entry in archive.metrics("w0", metric="accuracy")]
        [(0, {'accuracy': 0.5}), (5, {'accuracy': 0.75}), (10, {'accuracy': 0.875})]
        """
        return self._runs.metrics(run, metric=metric, layer=layer)

    def metrics_page(
        self, run: str, *, metric: str | None = None, layer: str | None = None, limit: int = MAX_PAGE, after: int = -1
    ) -> list[StepMetrics]:
        """At most ``limit`` steps of these, those after the step ``after``; see ``metrics`` for all.

        Raises ``NotFoundError`` where there is no such run, ``InvalidInputError`` for a limit that is not 1 to 1000.

        >>> [entry.step for entry in archive.metrics_page("w0", metric="accuracy", limit=1, after=0)]
        [5]
        """
        return self._runs.metrics_page(run, metric=metric, layer=layer, limit=limit, after=after)

    def step_metrics(self, run: str) -> Iterator[StepMetrics]:
        """Only what ``push_metrics`` stored, by steps, read as it is asked for: what moves with a run.

        >>> archive.push_metrics("x8", 3, {"loss": 0.5})
        'added'
        >>> [(entry.step, entry.metrics) for entry in archive.step_metrics("x8")]
        [(3, {'loss': 0.5})]
        """
        return self._runs.step_metrics(run)

    def snapshot(self, ref: Ref | str) -> Snapshot:
        """One snapshot, or ``NotFoundError``; ``InvalidRefError`` for text that is no ref.

        >>> archive.snapshot("w0@last").id, archive.snapshot("w0@0").metrics
        ('w0@10', {'accuracy': 0.5})
        """
        return self._runs.snapshot(ref)

    def expand(self, patterns: Iterable[Ref | Snapshot | str] | Ref | Snapshot | str) -> list[Ref]:
        """The snapshots that refs and globs name, in the order of the patterns, each once.

        A glob may stand for the run, the step, or both; runs come in natural order (``w2`` before ``w10``). Raises
        ``InvalidRefError`` for a pattern that names nothing: a set that is quietly smaller would give a wrong picture.

        >>> archive.expand(["w*@last", "w0@first"])
        [Ref(run='w0', step=10), Ref(run='w1', step=20), Ref(run='w0', step=0)]
        """
        return self._runs.expand(patterns)

    def layers(self, run: str) -> tuple[RunLayer, ...]:
        """The layers of a run, the same at all its steps: names, spaces, taps, and how far they are projected.

        None before its first snapshot, and for a run that is not there.

        >>> [(layer.name, layer.source.name, layer.target.size, layer.projected_step) for layer in archive.layers("w0")]
        [('l0', 'input', 3, 10), ('l1', 'hidden1', 2, 10)]
        """
        return self._runs.layers(run)

    def wiring(self, run: str) -> Wiring:
        """The wiring of a run, the same at all its steps: which layer feeds which (docs/wiring.md).

        Raises ``NotFoundError`` where there is no such run, and before its first snapshot, which brings it.

        >>> print(archive.wiring("w0").to_toml().splitlines()[1])
        spaces.input = { size = 3, labelled = true }
        """
        return self._runs.wiring(run)

    def topology(self, ref: Ref | Snapshot | RecordedSnapshot | str) -> Topology:
        """The wiring of one snapshot, read from its masks and checked against its digest.

        Raises ``NotFoundError`` where there is no such snapshot, ``CorruptError`` where what is stored is damaged.

        >>> archive.topology("w0@5").nnz, archive.topology(archive.snapshot("w0")).layers[0].mask.fan_in.tolist()
        (7, [2, 2, 0])
        """
        return self._topology(ref)
