"""The only writer of snapshots: acknowledges them (stores masks), then projects them (connections for Cypher).

A snapshot is acknowledged in one transaction. Its first statement takes the run's lock, and the run is read only after
that, so two writers can never both follow the same snapshot. The projection comes after, in batches. Every batch takes
the lock, checks that this projector still owns the run, and raises a counter. So a batch is written exactly once, even
after retries and crashes.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal, get_args

from topostrata import queries
from topostrata.errors import (
    ChangedError,
    ConflictError,
    InvalidInputError,
    LineageCycleError,
    NotFoundError,
    StepOrderError,
)
from topostrata.ingest.drawing import Drawer
from topostrata.ingest.run_layers import check_layer_names, check_wiring, create_layers
from topostrata.projections import Projection, last_of
from topostrata.refs import check_run_id, check_step
from topostrata.runs import (
    HOWS,
    MAX_METRICS,
    Connections,
    Descent,
    LayerMetrics,
    Parent,
    Run,
    Status,
    check_connections,
    check_epoch,
    check_layer_metrics,
    check_metrics,
    check_step_layer_metrics,
    check_tags,
)
from topostrata.store.graph import GraphStore, Row, Transaction
from topostrata.store.masks import MaskStore, Stored
from topostrata.store.runs import (
    descents,
    find_run,
    find_snapshots,
    find_step_metrics,
    layers_of,
    wiring_of,
)
from topostrata.topology import Topology

Outcome = Literal["added", "unchanged"]

_ATTEMPTS = 3  # how often the remembered state may be stale before that is an error


class _StaleError(Exception):
    """What this loader remembers of a run differs from the graph: forget it and try again."""


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The metrics of a snapshot, and those of its layers."""

    snapshot: dict[str, float]
    layers: dict[str, dict[str, float]]


@dataclass(slots=True)
class _Known:
    """What this loader remembers of a run, so that a push does not have to read it."""

    masks: dict[str, Stored] = field(default_factory=dict)  # layer -> its last stored mask
    wiring: object = None


class Loader:
    """Writes runs and snapshots into one store. Threads may share it: they write one after the other."""

    def __init__(self, store: GraphStore, masks: MaskStore) -> None:
        self._store = store
        self._masks = masks
        self.drawer = Drawer(store, masks)
        self._known: dict[str, _Known] = {}
        self._has_step_metrics = False
        self._acknowledging = threading.Lock()
        self._drawing = threading.Lock()  # takes much longer: nobody whose connections wait waits for it

    def create_run(
        self,
        run: str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        status: Status = "open",
        created_at: datetime | None = None,
    ) -> None:
        """Create a run; raises ``ConflictError`` if there is one of that id."""
        check_run_id(run)
        _check_status(run, status)
        fields = {
            "name": name or run,
            "config": "{}" if config is None else _json(config),
            "tags": check_tags(tags),
            "status": status,
            "created_at": _moment(created_at or datetime.now(UTC)),
            "token": _token(),  # the same for all tries, so that a retry recognises a run that an earlier try committed
        }
        descent = list(parents)
        tries = count()

        def work(tx: Transaction) -> None:
            if descent:
                tx.run("archive/lock_archive", token=_token())
            again = next(tries) > 0 and tx.run("moments/made_before", run=run)[0]["times"] > 0
            if not _lock(tx, run, told=again, **fields)["created"]:
                raise ConflictError(
                    f"run {run!r}: expected no run of this id, found one",
                    hint="update_run adds tags, parents and a status to it",
                )
            for parent in descent:
                _add_parent(tx, run, parent)

        self._store.write(work)

    def update_run(
        self,
        run: str,
        *,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        status: Status | None = None,
        name: str | None = None,
        without_tags: Iterable[str] = (),
        without_parents: Iterable[tuple[str, int | str]] = (),
        expected: Run | None = None,
        dry_run: bool = False,
    ) -> bool:
        """Add tags and parents to a run or take them away, set its status and name; returns whether that changed it.

        Raises ``ConflictError`` for a parent that the run has with another ``how``, ``ChangedError`` where the run is
        not the ``expected`` one; then nothing is written, nor is it with ``dry_run``.
        """
        check_run_id(run)
        if status is not None:
            _check_status(run, status)
        new_tags, old = check_tags(tags), set(check_tags(without_tags))
        descent, left = list(parents), [f"{run_}@{step}" for run_, step in without_parents]

        def work(tx: Transaction) -> bool:
            if descent:
                tx.run("archive/lock_archive", token=_token())
            before = find_run(tx, run)
            row = _lock(tx, run)
            if expected is not None and find_run(tx, run) != expected:
                raise ChangedError(f"run {run!r}: expected it as it was read, found it changed since")
            old_tags: list[str] = row["tags"] or []
            merged = [tag for tag in dict.fromkeys(old_tags + new_tags) if tag not in old]
            _check_parents(before, left)
            is_new_parent = any((p.run, p.step) not in {(q.run, q.step) for q in before.parents} for p in descent)
            is_renamed = name is not None and name != row["name"]
            changed = merged != old_tags or status not in {None, row["status"]} or is_new_parent or is_renamed
            if dry_run:
                return changed or bool(left)
            _rename_and_disown(tx, before, name if is_renamed else None, left)
            if is_renamed:
                tx.changes("name", run, before=row["name"])
            if merged != old_tags:
                tx.run("runs/set_tags", run=run, tags=merged)
                tx.changes("tags", run, before=old_tags)
            if status is not None and row["status"] != status:
                tx.run("runs/set_status", run=run, status=status)
                tx.changes("status", run, before=row["status"])
            for parent in descent:
                _add_parent(tx, run, parent)
            return changed or bool(left)

        return self._store.write(work)

    def push(
        self,
        run: str,
        step: int,
        topology: Topology,
        *,
        epoch: float | None = None,
        metrics: Mapping[str, float] | None = None,
        layer_metrics: LayerMetrics | None = None,
        recorded_at: datetime | None = None,
        projection: Projection = "all",
        connections: Connections = "now",
    ) -> Outcome:
        """Acknowledge one snapshot, then project it. Pushing the same again changes nothing.

        ``projection`` says which layers' connections the graph shall have; it counts for a run's first snapshot only.
        With ``connections="later"`` they wait for a ``Drawer``.
        Raises ``ConflictError`` for another topology or metric at a recorded step and for layers that differ from the
        run's, and ``StepOrderError`` for a step before the last one.
        """
        later = check_connections(connections)
        with self._acknowledging:
            outcome = self.acknowledge(
                run,
                step,
                topology,
                epoch=epoch,
                metrics=metrics,
                layer_metrics=layer_metrics,
                recorded_at=recorded_at,
                projection=projection,
                later=later,
            )
        if not later:
            with self._drawing:
                # Of an unchanged snapshot they are there, or another client is at work and must not be disturbed.
                if outcome == "added" or self._is_unfinished(run):
                    self.drawer.project(run)
        return outcome

    def push_metrics(
        self,
        run: str,
        step: int,
        metrics: Mapping[str, float] | None = None,
        *,
        layer_metrics: LayerMetrics | None = None,
        epoch: float | None = None,
        recorded_at: datetime | None = None,
    ) -> Outcome:
        """Store numbers of a run at a step, where it may have a snapshot or none. The same again changes nothing."""
        ref = f"{check_run_id(run)}@{check_step(step)}"
        numbers = _Numbers(check_metrics(metrics), check_step_layer_metrics(layer_metrics))
        if not (numbers.snapshot or numbers.layers):
            raise InvalidInputError(f"{ref}: expected metrics, found none")
        moment, epoch = _moment(recorded_at or datetime.now(UTC)), check_epoch(epoch)
        if not self._has_step_metrics:  # an archive of before has no place for them
            self._store.schema(queries.statements("schema/002-step-metrics"))
            self._has_step_metrics = True

        def work(tx: Transaction) -> Outcome:
            _lock(tx, run)
            there = find_step_metrics(tx, ref)
            added = _new_metrics(ref, {} if there is None else there.metrics, numbers.snapshot)
            recorded = {} if there is None else there.layer_metrics
            of_layers = {
                layer: _new_metrics(f"{ref}, layer {layer!r}", recorded.get(layer, {}), metrics)
                for layer, metrics in numbers.layers.items()
            }
            properties = _metric_properties(added)
            if there is None:
                tx.run(
                    "runs/create_step_metrics", run=run, step=step, epoch=epoch, recorded_at=moment, metrics=properties
                )
            elif added:
                tx.run("runs/add_step_metrics", id=ref, metrics=properties)
            of_layers = {layer: metrics for layer, metrics in of_layers.items() if metrics}
            rows = [[layer, _metric_properties(metrics)] for layer, metrics in of_layers.items()]
            if rows:
                tx.run("runs/add_step_layer_metrics", id=ref, rows=rows)
            if there is None or added or rows:
                tx.changes("step-metrics", run, step, new=there is None, **_names(added, of_layers))
            return "unchanged" if there is not None and not (added or rows) else "added"

        return self._store.write(work)

    def acknowledge(
        self,
        run: str,
        step: int,
        topology: Topology,
        *,
        epoch: float | None = None,
        metrics: Mapping[str, float] | None = None,
        layer_metrics: LayerMetrics | None = None,
        recorded_at: datetime | None = None,
        projection: Projection = "all",
        later: bool = False,
    ) -> Outcome:
        """Store the snapshot's masks and its place in the run, flushed to disk when this returns.

        With ``later`` the run says in the same transaction that its connections wait.
        """
        check_run_id(run)
        step = check_step(step)
        if not isinstance(topology, Topology):
            raise InvalidInputError(
                f"{run}@{step}: expected a Topology, found {type(topology).__name__}",
                hint="Topology.from_masks makes one of matrices",
            )
        last_of(projection)
        numbers = _Numbers(check_metrics(metrics), check_layer_metrics(layer_metrics))
        check_layer_names(topology, numbers.layers)
        properties = {
            "epoch": check_epoch(epoch),
            "recorded_at": _moment(recorded_at or datetime.now(UTC)),
            "metrics": _metric_properties(numbers.snapshot),
        }
        for attempt in range(1, _ATTEMPTS + 1):
            known = self._known.setdefault(run, _Known())
            try:
                stored = self._store.write(
                    lambda tx, known=known: self._acknowledge(
                        tx, run, step, topology, known, numbers, properties, projection, later
                    )  # type: ignore[misc]
                )
            except _StaleError as error:
                if attempt == _ATTEMPTS:
                    raise ConflictError(f"run {run!r}: it keeps changing under this writer: {error}") from error
                self._known.pop(run, None)
                continue
            break
        if stored is None:
            return "unchanged"
        known.masks, known.wiring = stored, topology.wiring
        for layer in stored.values():
            self._masks.remember(layer.mask)
        return "added"

    def _acknowledge(
        self,
        tx: Transaction,
        run: str,
        step: int,
        topology: Topology,
        known: _Known,
        numbers: _Numbers,
        properties: dict[str, Any],
        projection: Projection,
        later: bool,
    ) -> dict[str, Stored] | None:
        row = _lock(tx, run)
        if row["created"] and known.wiring is not None:
            raise _StaleError("the run was deleted and created again")
        last = row["last_step"]
        if last is not None and step <= last:
            _settle(tx, run, step, last, topology, numbers)
            if later:
                tx.run("projection/let_wait", run=run)
            return None
        if last is None:
            create_layers(tx, run, topology.wiring, projection)
        elif known.wiring != topology.wiring:
            check_wiring(run, topology.wiring, wiring_of(layers_of(tx, [run])[run]))
        bases = known.masks
        if last is not None and not bases:
            bases = self._masks.stored(tx, f"{run}@{last}")
        new = topology.to_masks()
        changed = {n: m for n, m in new.items() if n not in bases or bases[n].mask.digest != m.digest}
        try:
            depths = self._masks.put(
                tx, changed.values(), {m.digest: bases[n] for n, m in changed.items() if n in bases}
            )
        except NotFoundError as error:  # a base was purged since we stored it
            raise _StaleError("a mask is gone") from error
        rows = [[n, m.digest] for n, m in new.items()]
        linked = tx.run(
            "runs/create_snapshot",
            run=run,
            step=step,
            before=None if last is None else f"{run}@{last}",
            digest=topology.digest,
            nnz=topology.nnz,
            masks=rows,
            **properties,
        )[0]["masks"]
        if linked != len(rows):
            raise _StaleError("a mask is gone")
        _add_layer_metrics(tx, f"{run}@{step}", numbers.layers)
        if later:
            tx.run("projection/let_wait", run=run)
        tx.changes("snapshot", run, step)
        return {n: Stored(m, depths[m.digest]) if n in changed else bases[n] for n, m in new.items()}

    def _is_unfinished(self, run: str) -> bool:
        """Whether connections of acknowledged snapshots are missing: their projector may have been killed."""
        last, layers = self._store.read_with(lambda tx: (find_run(tx, run).last_step, layers_of(tx, [run])[run]))
        return any(y.trimming or (y.projection == "follow" and y.projected_step != last) for y in layers)

    def forget(self) -> None:
        """Forget what this loader remembers of the runs: something else has written to them."""
        self._known.clear()


def _lock(tx: Transaction, run: str, *, told: bool = False, **fields: Any) -> Row:
    """Take the lock of a run, which is made where it is new; ``told``: that it was made is kept already."""
    row = tx.one(
        "runs/lock_run",
        run=run,
        **{
            "name": run,
            "status": "open",
            "config": "{}",
            "tags": [],
            "created_at": _moment(datetime.now(UTC)),
            "token": _token(),
        }
        | fields,
    )
    assert row is not None  # noqa: S101 - a MERGE always answers
    if row["removed"]:
        raise ConflictError(
            f"run {run!r}: expected a run that takes snapshots, found one that was removed; nothing was written",
            hint=f"`topostrata undelete {run}` brings it back, `topostrata purge {run}` makes room for another",
        )
    if row["created"] and not told:
        tx.changes("run", run)
    return row


def _rename_and_disown(tx: Transaction, run: Run, name: str | None, parents: Sequence[str]) -> None:
    if name is not None:
        tx.run("runs/set_name", run=run.id, name=name)
    for parent in run.parents:
        ref = f"{parent.run}@{parent.step}"
        if ref in parents:
            tx.run("lineage/drop_parent", run=run.id, parent=ref)
            tx.changes("parent", run.id, parent=parent.run, step=parent.step, before=parent.how)


def _check_parents(run: Run, refs: Iterable[str]) -> None:
    known = {f"{parent.run}@{parent.step}" for parent in run.parents}
    for ref in refs:
        if ref not in known:
            raise NotFoundError(
                f"run {run.id!r}: expected one of its parents {', '.join(sorted(known)) or '(none)'}, found {ref}"
            )


def _settle(tx: Transaction, run: str, step: int, last: int, topology: Topology, numbers: _Numbers) -> None:
    """Settle a step that is not after the last: the same snapshot again changes nothing, any other is an error."""
    ref = f"{run}@{step}"
    snapshot = find_snapshots(tx, [ref]).get(ref)
    if snapshot is None:
        raise StepOrderError(
            f"{ref}: expected a step after the last one, {last}",
            hint=f"to go back in time, fork: push to another run with --parent {run}@STEP --how fork",
        )
    if snapshot.digest != topology.digest:
        raise ConflictError(
            f"{ref}: expected the topology it was recorded with ({snapshot.digest[:12]}), found another "
            f"({topology.digest[:12]}); nothing was written"
        )
    added = _new_metrics(ref, snapshot.metrics, numbers.snapshot)
    added_to_layers = {
        layer: _new_metrics(f"{ref}, layer {layer!r}", snapshot.layer_metrics.get(layer, {}), metrics)
        for layer, metrics in numbers.layers.items()
    }
    if added:
        tx.run("runs/add_metrics", id=ref, metrics=_metric_properties(added))
    added_to_layers = {layer: metrics for layer, metrics in added_to_layers.items() if metrics}
    _add_layer_metrics(tx, ref, added_to_layers)
    if added or added_to_layers:
        tx.changes("metrics", run, step, **_names(added, added_to_layers))


def _names(metrics: Mapping[str, float], layers: LayerMetrics) -> dict[str, Any]:
    """Which metrics a change added, of the run and of its layers."""
    return {"names": sorted(metrics), "layers": {layer: sorted(numbers) for layer, numbers in layers.items()}}


def _new_metrics(at: str, recorded: Mapping[str, float], metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are not recorded yet; an error for another value of one that is, or where they are too many."""
    for name, value in metrics.items():
        if recorded.get(name, value) != value:
            raise ConflictError(
                f"{at}: expected metric {name!r} to be {recorded[name]} as recorded, found {value}; nothing was written"
            )
    added = {name: value for name, value in metrics.items() if name not in recorded}
    count = len(recorded) + len(added)
    if added and count > MAX_METRICS:
        raise InvalidInputError(f"{at}: expected at most {MAX_METRICS} metrics, found {count} with those recorded")
    return added


def _add_layer_metrics(tx: Transaction, ref: str, layer_metrics: Mapping[str, Mapping[str, float]]) -> None:
    if not layer_metrics:
        return
    rows = [[layer, _metric_properties(metrics)] for layer, metrics in layer_metrics.items()]
    if tx.run("runs/add_layer_metrics", id=ref, rows=rows)[0]["layers"] != len(rows):
        raise NotFoundError(f"{ref}: layer metrics: expected layers of the run, found {', '.join(layer_metrics)[:200]}")


def _add_parent(tx: Transaction, run: str, parent: Parent) -> None:
    ref = f"{parent.run}@{parent.step}"
    if parent.how not in HOWS:
        raise InvalidInputError(f"parent {ref}: expected one of {', '.join(HOWS)}, found {parent.how!r}")
    graph: dict[str, set[str]] = {}
    known = descents(tx)
    for descent in known:
        graph.setdefault(descent.child, set()).add(descent.parent)
    above, seen = [parent.run], set[str]()
    while above:
        ancestor = above.pop()
        if ancestor == run:
            raise LineageCycleError(f"run {run!r}: it cannot descend from {ref}, which descends from {run!r} itself")
        if ancestor not in seen:
            seen.add(ancestor)
            above.extend(graph.get(ancestor, ()))
    row = tx.one("lineage/add_parent", run=run, parent=ref, how=parent.how)
    if row is None:
        raise NotFoundError(f"parent {ref}: expected this snapshot in the archive, found none")
    if row["how"] != parent.how:
        raise ConflictError(f"run {run!r}: it descends from {ref} by {row['how']!r} already, not by {parent.how!r}")
    if Descent(parent.run, parent.step, run, parent.how) not in known:
        tx.changes("parent", run, parent=parent.run, step=parent.step, before=None)


def _metric_properties(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"metric_{name}": value for name, value in metrics.items()}


def _json(config: Mapping[str, Any]) -> str:
    if not isinstance(config, Mapping):
        raise InvalidInputError(f"config: expected names with values, found {type(config).__name__}")
    try:
        return json.dumps(config, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"config: expected values that JSON can hold: {error}") from error


def _check_status(run: str, status: Status) -> None:
    known = get_args(Status)
    if status not in known:
        raise InvalidInputError(f"status of {run!r}: expected one of {', '.join(known)}, found {status!r}")


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _token() -> str:
    return uuid.uuid4().hex
