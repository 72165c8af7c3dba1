"""Runs, layers, snapshots and descent in the graph, asked for; ``rows`` makes values of what comes.

What takes a ``tx`` asks inside a transaction, so that a question that needs several answers asks for them in one visit,
and who writes asks under its locks. ``RunStore`` asks in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from topostrata.errors import InvalidInputError, InvalidRefError, NotFoundError
from topostrata.refs import Ref, expand, parse_ref
from topostrata.runs import (
    EVERY_RUN,
    ArchiveCounts,
    Change,
    Descent,
    How,
    Parent,
    ProjectionState,
    Run,
    RunFilter,
    RunLayer,
    RunState,
    Snapshot,
    StepMetrics,
    Unprojected,
)
from topostrata.store.disk import disk_bytes
from topostrata.store.past import clock_of, rows_of
from topostrata.store.rows import as_change, as_layers, as_metrics, as_run, as_snapshot, as_step_metrics

if TYPE_CHECKING:  # so that values which are read elsewhere need no driver
    from topostrata.store.graph import GraphStore, Row, Transaction
    from topostrata.topology import Wiring

MAX_PAGE = 1000
WIRING_FORMAT = 2  # of the document that a run holds where its layers' own properties do not say all of its wiring


class LayerMask(NamedTuple):
    """Which mask a layer has at a step of its run."""

    step: int
    layer: str
    digest: str


@dataclass(frozen=True, slots=True)
class RecordedSnapshot:
    """A snapshot with what its topology is made of: the layers of its run, and which mask each of them has.

    ``connections`` are those of each of ``masks``.
    """

    snapshot: Snapshot
    layers: tuple[RunLayer, ...]
    masks: tuple[LayerMask, ...]
    connections: tuple[int, ...]


class RunStore:
    """Reads runs, their layers and their snapshots. Safe to use from several threads.

    With ``removed`` what it is asked for one by one, and all runs together, may be removed runs, too.
    """

    def __init__(self, store: GraphStore, *, removed: bool = False) -> None:
        self._store = store
        self._removed = removed

    def run(self, run: str) -> Run:
        """One run, or ``NotFoundError``."""
        return self._store.read_with(lambda tx: find_run(tx, run))

    def has_run(self, run: str) -> bool:
        """Whether the archive holds a run of that id."""
        return self._store.read_with(lambda tx: bool(_rows_by_id(tx, [run])))

    def runs(self, only: RunFilter) -> list[Run]:
        """All such runs in the order of their ids."""
        return self._store.read_with(lambda tx: all_runs(tx, only, removed=self._removed))

    def runs_page(self, *, limit: int, after: str, only: RunFilter) -> list[Run]:
        """A page of such runs in the order of their ids, those after the id ``after``."""
        check_page(limit)
        return self._store.read_with(lambda tx: _as_runs(tx, list(islice(_rows(tx, after, limit, only), limit))))

    def snapshots(self, run: str) -> list[Snapshot]:
        """All snapshots of a run in the order of their steps."""
        return self._store.read_with(lambda tx: snapshots_of(tx, run, removed=self._removed))

    def snapshots_page(self, run: str, *, limit: int, after: int) -> list[Snapshot]:
        """A page of a run's snapshots in the order of their steps, those after the step ``after``."""
        check_page(limit)

        def work(tx: Transaction) -> list[Snapshot]:
            page = _snapshots_page(tx, run, limit=limit, after=after)
            if not page:
                find_run(tx, run)
            return page

        return self._store.read_with(work)

    def metrics(self, run: str, *, metric: str | None, layer: str | None) -> list[StepMetrics]:
        """The metrics of a run by their steps: those of its snapshots and those that it has beside them.

        Of that name, of that layer; None: all.
        """
        return list(self._metrics(run, metric, layer, page=MAX_PAGE, after=-1))

    def metrics_page(
        self, run: str, *, metric: str | None, layer: str | None, limit: int, after: int
    ) -> list[StepMetrics]:
        """A page of these, those after the step ``after``."""
        check_page(limit)
        return list(islice(self._metrics(run, metric, layer, page=limit, after=after), limit))

    def _metrics(
        self, run: str, metric: str | None, layer: str | None, *, page: int, after: int
    ) -> Iterator[StepMetrics]:
        def work(tx: Transaction) -> list[StepMetrics]:
            snapshots = _snapshots_page(tx, run, limit=page, after=after)
            beside = step_metrics_page(tx, run, limit=page, after=after)
            if not (snapshots or beside):
                find_run(tx, run)
            return _merged(snapshots, beside)[:page]

        while entries := self._store.read_with(work):
            yield from (chosen for entry in entries if (chosen := entry.only(metric, layer)))
            after = entries[-1].step

    def step_metrics(self, run: str) -> Iterator[StepMetrics]:
        """The metrics that a run has beside its snapshots, by their steps."""
        after = -1
        removed = self._removed
        while page := self._store.read_with(
            lambda tx, at=after: step_metrics_page(tx, run, limit=MAX_PAGE, after=at, removed=removed)  # type: ignore[misc]
        ):
            yield from page
            after = page[-1].step

    def snapshot(self, ref: Ref | str) -> Snapshot:
        """One snapshot, or ``NotFoundError``."""
        return self._store.read_with(lambda tx: resolve(tx, [ref])[0])

    def recorded(self, refs: Sequence[Ref | Snapshot | RecordedSnapshot | str]) -> list[RecordedSnapshot]:
        """These snapshots with what their topologies are made of, in their order; what is in hand is not asked for."""
        if all(isinstance(ref, RecordedSnapshot) for ref in refs):
            return [ref for ref in refs if isinstance(ref, RecordedSnapshot)]
        return self._store.read_with(lambda tx: recorded_of(tx, refs, removed=self._removed))

    def expand(self, patterns: Iterable[Ref | Snapshot | str] | Ref | Snapshot | str) -> list[Ref]:
        """The snapshots that refs and globs (``w*@last``) name, in their order, each once."""
        return self._store.read_with(lambda tx: expanded(tx, patterns))

    def wiring(self, run: str) -> Wiring:
        """The wiring of a run; ``NotFoundError`` where there is no such run, or none of its snapshots yet."""

        def work(tx: Transaction) -> tuple[RunLayer, ...]:
            layers = layers_of(tx, [run])[run]
            if not layers:
                find_run(tx, run)
                raise NotFoundError(
                    f"run {run!r}: expected a snapshot, which brings the wiring, found a run without any"
                )
            return layers

        return wiring_of(self._store.read_with(work))

    def layers(self, run: str) -> tuple[RunLayer, ...]:
        """The layers of a run in order; none before its first snapshot."""
        return self._store.read_with(lambda tx: layers_of(tx, [run], removed=self._removed)[run])

    def unprojected(self) -> list[Unprojected]:
        """The layers whose connections are not in the graph at all steps of their run."""
        rows = self._store.read("projection/projection")
        return [
            Unprojected(
                row["run"],
                row["layer"],
                row["projection"],
                row["projected_step"],
                row["last_step"],
                projected_from=row["projected_from"],
            )
            for row in rows
        ]

    def changes(self, since: int, limit: int | None) -> list[Change]:
        """What was changed after a moment, in their order: all, or so much and the rest of a moment."""
        if since < 0 or (limit is not None and limit < 1):
            raise InvalidInputError(
                f"changes: expected a moment from 0 and a limit from 1 on, found {since} and {limit}"
            )

        def work(tx: Transaction) -> list[Change]:
            past = tx.past()
            until = _moment(tx) if past is None else past.moment
            changes: list[Change] = []
            for row in rows_of(tx, since, until, without=[]):
                change = as_change(row)
                if limit is not None and len(changes) >= limit and change.moment != changes[-1].moment:
                    break
                changes.append(change)
            return changes

        return self._store.read_with(work)

    def moment(self) -> int:
        """The moment of the last change; of an earlier moment, that."""
        return self._store.read_with(_moment)

    def states(self) -> dict[str, RunState]:
        """How far each run has come."""
        return {row["run"]: RunState(row["last_step"], row["status"]) for row in self._store.read("runs/states")}

    def counts(self) -> ArchiveCounts:
        """How much the archive holds."""
        disk = disk_bytes(Path(self._store.location)) if self._store.is_embedded else {}
        return ArchiveCounts(**self._store.read("archive/counts")[0], disk=disk)


def all_runs(tx: Transaction, only: RunFilter = EVERY_RUN, *, removed: bool = False) -> list[Run]:
    """All such runs in the order of their ids."""
    return _as_runs(tx, list(_rows(tx, "", MAX_PAGE, only, removed=removed)))


def _rows(tx: Transaction, after: str, size: int, only: RunFilter, *, removed: bool = False) -> Iterator[Row]:
    """All such runs after an id, read so many at a time."""
    stated = {
        "removed": removed or tx.pinned,
        "status": only.status or "",
        "tags": list(only.tags),
        "step_from": -1 if only.step_from is None else only.step_from,
        "step_to": -1 if only.step_to is None else only.step_to,
    }
    if tx.pinned:  # what the filter asks about may have been otherwise then
        stated |= {"status": "", "tags": [], "step_from": -1, "step_to": -1}
    while page := tx.run("runs/runs", after=after, limit=size, **stated):
        rows = _then(tx, page)
        if tx.pinned:
            rows = [row for row in rows if only.covers(as_run(row, ()))]
        if only.metric is None:
            yield from rows
        else:
            ids = {row["id"]: f"{row['id']}@{row['last_step']}" for row in rows if row["snapshots"]}
            last = find_snapshots(tx, list(ids.values()))
            yield from (row for row in rows if row["id"] in ids and only.accepts(last[ids[row["id"]]].metrics))
        if len(page) < size:
            return
        after = page[-1]["id"]


def _rows_by_id(tx: Transaction, ids: Sequence[str]) -> list[Row]:
    return _then(tx, tx.run("runs/runs_by_id", ids=list(ids), removed=tx.pinned))


def _then(tx: Transaction, rows: list[Row]) -> list[Row]:
    """The rows of runs as they were at the moment that is asked about."""
    past = tx.past()
    if past is None:
        return rows
    rows = [past.row_of(row) for row in rows if past.has(row["id"])]
    continued = [row["id"] for row in rows if past.has_later(row["id"])]
    steps = steps_of(tx, continued) if continued else {}
    return [row | _extent(steps[row["id"]]) if row["id"] in steps else row for row in rows]


def _extent(steps: Sequence[int]) -> Row:
    return {"snapshots": len(steps), "first_step": min(steps, default=None), "last_step": max(steps, default=None)}


def find_run(tx: Transaction, run: str) -> Run:
    """One run, or ``NotFoundError`` that says what the archive holds."""
    runs = runs_of(tx, [run])
    if not runs:
        raise NotFoundError(f"run {run!r}: expected it in the archive, found none", hint=_holds(tx))
    return runs[run]


def runs_of(tx: Transaction, ids: Sequence[str]) -> dict[str, Run]:
    """Those of these runs that are there, by id."""
    return {run.id: run for run in _as_runs(tx, _rows_by_id(tx, ids))}


def snapshots_of(tx: Transaction, run: str, *, removed: bool = False) -> list[Snapshot]:
    """All snapshots of a run in the order of their steps; ``NotFoundError`` where there is no such run."""
    snapshots = page = _snapshots_page(tx, run, limit=MAX_PAGE, after=-1, removed=removed)
    while page:
        page = _snapshots_page(tx, run, limit=MAX_PAGE, after=page[-1].step, removed=removed)
        snapshots = snapshots + page
    if not snapshots:
        find_run(tx, run)
    return snapshots


def steps_of(tx: Transaction, runs: Sequence[str]) -> dict[str, list[int]]:
    """The steps of each of these runs, sorted."""
    rows = tx.run("runs/steps_by_run", runs=list(runs), removed=tx.pinned)
    steps: dict[str, list[int]] = {run: [] for run in runs}
    return steps | _steps_then(tx, rows)


def _every_step(tx: Transaction) -> dict[str, list[int]]:
    """The steps of each run that has snapshots, sorted."""
    return _steps_then(tx, tx.run("runs/steps", removed=tx.pinned))


def _steps_then(tx: Transaction, rows: list[Row]) -> dict[str, list[int]]:
    past = tx.past()
    if past is None:
        return {row["run"]: row["steps"] for row in rows}
    return {row["run"]: steps for row in rows if (steps := past.steps(row["run"], row["steps"]))}


def find_snapshots(tx: Transaction, ids: Sequence[str]) -> dict[str, Snapshot]:
    """Those of these snapshots that are there, by id."""
    pages = (tx.run("runs/snapshots_by_id", ids=page, removed=tx.pinned) for page in _pages(ids))
    return {snapshot.id: snapshot for page in pages for snapshot in _snapshots(tx, page)}


def step_metrics_page(tx: Transaction, run: str, *, limit: int, after: int, removed: bool = False) -> list[StepMetrics]:
    """A page of the metrics that a run has beside its snapshots, those after the step ``after``."""
    then: list[StepMetrics] = []
    size = limit
    while True:
        rows = tx.run("runs/step_metrics", run=run, after=after, limit=size, removed=removed or tx.pinned)
        entries = [as_step_metrics(row) for row in rows]
        past = tx.past()
        if past is None:
            return entries
        then += past.step_metrics(entries)
        if len(entries) < size or len(then) >= limit:
            return then[:limit]
        after, size = entries[-1].step, MAX_PAGE  # what came later may be many pages


def find_step_metrics(tx: Transaction, id_: str) -> StepMetrics | None:
    """The metrics of that id, ``run@step``, that a run has beside its snapshots."""
    row = tx.one("runs/step_metrics_by_id", id=id_)
    return None if row is None else as_step_metrics(row)


def resolve(tx: Transaction, refs: Sequence[Ref | Snapshot | str]) -> list[Snapshot]:
    """The snapshot of each ref, or ``NotFoundError`` for the first that names none."""
    parsed = [parse_ref(ref) if isinstance(ref, str) else ref for ref in map(check_ref, refs)]
    open_ended = sorted({ref.run for ref in parsed if not isinstance(ref.step, int)})
    runs = runs_of(tx, open_ended) if open_ended else {}
    ids: list[str] = []
    for ref in parsed:
        step: int | str | None = ref.step
        if not isinstance(step, int):
            run = runs.get(ref.run) or find_run(tx, ref.run)
            step = run.first_step if step == "first" else run.last_step
            if step is None:
                raise NotFoundError(f"{ref}: expected a snapshot, found a run without any")
        ids.append(f"{ref.run}@{step}")
    known = {ref.id: ref for ref in parsed if isinstance(ref, Snapshot)}
    missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in known]
    known |= find_snapshots(tx, missing) if missing else {}
    for ref, id_ in zip(parsed, ids, strict=True):
        if id_ not in known:
            run = find_run(tx, ref.run)
            raise NotFoundError(
                f"{ref}: expected this snapshot, found none",
                hint=f"run {ref.run!r} holds {run.snapshots}, from step {run.first_step} to {run.last_step}",
            )
    return [known[id_] for id_ in ids]


def expanded(tx: Transaction, patterns: Iterable[Ref | Snapshot | str] | Ref | Snapshot | str) -> list[Ref]:
    """The snapshots that refs and globs name, in their order, each once."""
    several = [patterns] if isinstance(patterns, Ref | Snapshot | str) else patterns
    checked = map(check_ref, several)
    texts = [pattern if isinstance(pattern, str) else f"{pattern.run}@{pattern.step}" for pattern in checked]
    return expand(texts, ((run, step) for run, steps in _every_step(tx).items() for step in steps))


def recorded(tx: Transaction, snapshots: Sequence[Snapshot], *, removed: bool = False) -> list[RecordedSnapshot]:
    """The snapshots with the layers of their runs and the digests of their masks."""
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    masks: dict[str, list[LayerMask]] = {id_: [] for id_ in by_id}
    connections: dict[str, list[int]] = {id_: [] for id_ in by_id}
    for page in _pages(list(by_id)):
        for row in tx.run("masks/snapshot_masks", ids=page):
            masks[row["id"]].append(LayerMask(by_id[row["id"]].step, row["layer"], row["digest"]))
            connections[row["id"]].append(row["nnz"])
    layers = layers_of(tx, list(dict.fromkeys(snapshot.run for snapshot in snapshots)), removed=removed)
    return [RecordedSnapshot(s, layers[s.run], tuple(masks[s.id]), tuple(connections[s.id])) for s in snapshots]


def recorded_of(
    tx: Transaction, refs: Sequence[Ref | Snapshot | RecordedSnapshot | str], *, removed: bool = False
) -> list[RecordedSnapshot]:
    """The snapshots of refs with what their topologies are made of, in order; what is in hand is not asked for."""
    entries = {at: ref for at, ref in enumerate(refs) if isinstance(ref, RecordedSnapshot)}
    others = {at: ref for at, ref in enumerate(refs) if not isinstance(ref, RecordedSnapshot)}
    if others:
        snapshots = resolve(tx, list(others.values()))
        entries |= dict(zip(others, recorded(tx, snapshots, removed=removed), strict=True))
    return [entries[at] for at in range(len(refs))]


def layers_of(tx: Transaction, runs: Sequence[str], *, removed: bool = False) -> dict[str, tuple[RunLayer, ...]]:
    """The layers of each of these runs in order; none before its first snapshot."""
    rows_by_run: dict[str, list[Row]] = {run: [] for run in runs}
    for row in tx.run("runs/layers", runs=list(runs), removed=removed or tx.pinned):
        rows_by_run[row["run"]].append(row)
    layers = {run: as_layers(run, rows) for run, rows in rows_by_run.items()}
    if not tx.pinned:
        return layers
    then = steps_of(tx, runs)
    return {run: tuple(map(_unseen, entries)) if then[run] else () for run, entries in layers.items()}


def _unseen(layer: RunLayer) -> RunLayer:
    """The layer without what the graph has of its connections, which is known of now only: what was chosen for it."""
    chosen: ProjectionState = "off" if layer.projection == "off" else "follow"
    return replace(layer, projection=chosen, projected_step=None, lifetimes=0, projected_from=None, trimming=False)


def wiring_of(layers: Iterable[RunLayer]) -> Wiring:
    """The wiring that the layers of a run make up."""
    from topostrata.topology import Wiring  # noqa: PLC0415 - see _shape

    return Wiring(tuple(layer.shape for layer in layers))


def masks_between(tx: Transaction, run: str, layers: Iterable[str], first: int, last: int) -> list[LayerMask]:
    """Which mask each of these layers has at every step from one to another, both included, step by step."""
    rows = tx.run("masks/run_masks", run=run, layers=list(layers), first=first, last=last)
    return [LayerMask(row["step"], row["layer"], row["digest"]) for row in rows]


def masks_after(tx: Transaction, run: str, layers: Iterable[str], step: int) -> list[LayerMask]:
    """Which mask each of these layers has at a step and at some that follow it, step by step; a page of 65 steps."""
    rows = tx.run("masks/masks_after", id=f"{run}@{step}", layers=list(layers))
    return [LayerMask(row["step"], row["layer"], row["digest"]) for row in rows]


def layer_metrics_of(tx: Transaction, ids: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The metrics of the layers of these snapshots: only of layers that have some."""
    layer_metrics: dict[str, dict[str, dict[str, float]]] = {id_: {} for id_ in ids}
    for page in _pages(ids):
        for row in tx.run("runs/layer_metrics", ids=list(page)):
            if metrics := as_metrics(row["mask"]):
                layer_metrics[row["id"]][row["layer"]] = metrics
    past = tx.past()
    return layer_metrics if past is None else past.layer_metrics(layer_metrics)


def parents_of(tx: Transaction, runs: Sequence[str]) -> dict[str, tuple[Parent, ...]]:
    """The declared parents of each of these runs, by their ids and steps."""
    hows: dict[str, dict[tuple[str, int], How]] = {run: {} for run in runs}
    for row in tx.run("lineage/parents", runs=list(runs)):
        hows[row["run"]][row["parent"], row["step"]] = row["how"]
    if (past := tx.past()) is not None:
        hows = {run: past.parents(run, now) for run, now in hows.items()}
    return {run: _in_order(of_run) for run, of_run in hows.items()}


def _in_order(hows: Mapping[tuple[str, int], How]) -> tuple[Parent, ...]:
    return tuple(Parent(*place, how) for place, how in sorted(hows.items()))


def descents(tx: Transaction) -> list[Descent]:
    """Every declared descent."""
    rows = tx.run("lineage/edges", removed=tx.pinned)
    past = tx.past()
    if past is None:
        return [Descent(row["parent"], row["step"], row["child"], row["how"]) for row in rows]
    hows: dict[str, dict[tuple[str, int], How]] = {run: {} for run in past.children()}
    for row in rows:
        hows.setdefault(row["child"], {})[row["parent"], row["step"]] = row["how"]
    return [
        Descent(parent, step, child, how)
        for child in sorted(hows)
        if past.has(child)
        for (parent, step), how in sorted(past.parents(child, hows[child]).items())
    ]


def _as_runs(tx: Transaction, rows: list[Row]) -> list[Run]:
    hows: dict[str, dict[tuple[str, int], How]] = {
        row["id"]: {(parent, step): how for parent, step, how in row["parents"]} for row in rows
    }
    if (past := tx.past()) is not None:
        hows = {run: past.parents(run, now) for run, now in hows.items()}
    return [as_run(row, _in_order(hows[row["id"]])) for row in rows]


def _snapshots_page(tx: Transaction, run: str, *, limit: int, after: int, removed: bool = False) -> list[Snapshot]:
    return _snapshots(tx, tx.run("runs/snapshots", run=run, after=after, limit=limit, removed=removed or tx.pinned))


def _snapshots(tx: Transaction, rows: Sequence[Row]) -> list[Snapshot]:
    nodes = [row["snapshot"] for row in rows]
    layer_metrics = layer_metrics_of(tx, [node["id"] for node in nodes if node.get("has_layer_metrics")])
    snapshots = [as_snapshot(node, layer_metrics.get(node["id"], {})) for node in nodes]
    past = tx.past()
    return snapshots if past is None else past.snapshots(snapshots)


def _merged(snapshots: Iterable[Snapshot], beside: Iterable[StepMetrics]) -> list[StepMetrics]:
    """All metrics by step; where both have one of a name, the snapshot's counts."""
    by_step = {metrics.step: metrics for metrics in beside}
    for snapshot in snapshots:
        other = by_step.get(snapshot.step)
        names = {*snapshot.layer_metrics, *(() if other is None else other.layer_metrics)}
        merged = StepMetrics(
            snapshot.run,
            snapshot.step,
            snapshot.recorded_at,
            epoch=snapshot.epoch if other is None or snapshot.epoch is not None else other.epoch,
            metrics={**({} if other is None else other.metrics), **snapshot.metrics},
            layer_metrics={
                name: {
                    **({} if other is None else other.layer_metrics.get(name, {})),
                    **snapshot.layer_metrics.get(name, {}),
                }
                for name in sorted(names)
            },
        )
        by_step[snapshot.step] = merged
    return [by_step[step] for step in sorted(by_step)]


def _moment(tx: Transaction) -> int:
    past = tx.past()
    return clock_of(tx)[0] if past is None else past.moment


def check_ref(ref: Ref | Snapshot | str) -> Ref | Snapshot | str:
    """What names a snapshot, or an error: a topology is none."""
    if not isinstance(ref, Ref | Snapshot | str):
        raise InvalidRefError(f"ref: expected text such as 'w0@5', a Ref or a Snapshot, found {type(ref).__name__}")
    return ref


def check_page(limit: int) -> None:
    """Refuse a size of a page that is none."""
    if not 1 <= limit <= MAX_PAGE + 1:  # one more tells who pages whether there is more
        raise InvalidInputError(f"limit: expected 1 to {MAX_PAGE}, found {limit}")


def _pages(ids: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(ids), MAX_PAGE):
        yield list(ids[at : at + MAX_PAGE])


def _holds(tx: Transaction) -> str:
    runs = list(_every_step(tx))
    if not runs:
        return "it is empty"
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"it holds {count}: {', '.join(runs[:5])}{', ...' if len(runs) > 5 else ''}"
