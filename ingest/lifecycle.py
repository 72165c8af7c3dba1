"""Nothing is for ever: runs are removed, brought back, and purged for good.

A removed run is hidden from every verb and takes no snapshots, but all of it stays until it is purged. What is purged
is gone everywhere: snapshots, layers, metrics, neurons with their connections and matches, masks that no other run has,
distances, and the inferences and jobs that it was in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from topostrata.errors import ConflictError, NotFoundError
from topostrata.ingest import loose
from topostrata.store import runs
from topostrata.store.jobs import JobQueue
from topostrata.store.past import clock_of

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Row, Transaction

_PAGE = 200


@dataclass(frozen=True, slots=True)
class RemovedRun:
    """A run that was removed and can be brought back: when it was, and how many snapshots it has."""

    run: str
    removed_at: datetime
    snapshots: int


@dataclass(frozen=True, slots=True)
class Purged:
    """What went for good with some runs; ``dry_run``: what would go.

    ``masks`` and ``mask_bytes`` are those that no other run has, ``inferences`` the names of those that were dropped.
    """

    runs: tuple[str, ...]
    snapshots: int
    neurons: int
    lifetimes: int
    masks: int
    mask_bytes: int
    inferences: tuple[str, ...]
    dry_run: bool


def removed(store: GraphStore) -> list[RemovedRun]:
    """The runs that were removed and can be brought back."""
    return [
        RemovedRun(row["id"], datetime.fromisoformat(row["at"]), row["snapshots"])
        for row in store.read("runs/removed_runs")
    ]


def remove(store: GraphStore, ids: Sequence[str], *, dry_run: bool = False) -> list[str]:
    """Hide runs; gives those that were not hidden yet. ``ConflictError`` where a run that stays descends from one."""
    now = datetime.now(UTC)

    def work(tx: Transaction) -> list[str]:
        hidden = {row["id"] for row in tx.run("runs/removed_runs")}
        new = [run for run in dict.fromkeys(ids) if run not in hidden]
        for run in new:
            runs.find_run(tx, run)
        _refuse_children(tx, new, hidden)
        for run in () if dry_run else new:
            _hide(tx, run, now)
            tx.changes("removed", run, before=False)
        return new

    return store.write(work)


def remove_again(store: GraphStore, times: Mapping[str, datetime]) -> None:
    """Hide the runs that were removed, at these times, where they come from; whatever descends from them."""

    def work(tx: Transaction) -> None:
        hidden = {row["id"] for row in tx.run("runs/removed_runs")}
        for run, at in times.items():
            _hide(tx, run, at)
            if run not in hidden:
                tx.changes("removed", run, before=False)

    if times:
        store.write(work)


def _hide(tx: Transaction, run: str, at: datetime) -> None:
    tx.run("runs/set_removed", run=run, at=at.astimezone(UTC).isoformat(timespec="milliseconds"))


def bring_back(store: GraphStore, ids: Sequence[str], *, dry_run: bool = False) -> None:
    """Show removed runs again, as they were.

    Raises ``NotFoundError`` for one that is not among the removed, ``ConflictError`` where one descends from a run that
    would stay removed.
    """

    def work(tx: Transaction) -> None:
        hidden = {row["id"] for row in tx.run("runs/removed_runs")}
        for run in ids:
            if run not in hidden:
                raise NotFoundError(
                    f"run {run!r}: expected one that was removed, found {', '.join(sorted(hidden)[:5]) or 'none'}"
                )
        for row in tx.run("lineage/parents", runs=list(ids)) if ids else ():
            if row["parent"] in hidden.difference(ids):
                raise ConflictError(
                    f"run {row['run']!r} descends from {row['parent']}, which is removed; nothing was written",
                    hint=f"bring {row['parent']} back too: topostrata undelete {row['parent']} {row['run']}",
                )
        for run in ids:
            if not dry_run:
                tx.run("runs/set_removed", run=run, at=None)
                tx.changes("removed", run, before=True)

    store.write(work)


def purge(store: GraphStore, ids: Sequence[str], *, dry_run: bool = False) -> Purged:
    """Take runs away for good. Interrupted, they are removed already, and purging them again goes on.

    Raises ``NotFoundError`` for a run that is not there, ``ConflictError`` where a run that stays descends from one.
    """
    ids = list(dict.fromkeys(ids))

    def read(tx: Transaction) -> tuple[list[Row], list[str]]:
        hidden = {row["id"] for row in tx.run("runs/removed_runs")}
        for run in ids:
            if run not in hidden:
                runs.find_run(tx, run)
        _refuse_children(tx, ids, set())
        contents = [row for run in ids for row in tx.run("upkeep/run_content", run=run)]
        inferences = [row["id"] for row in tx.run("upkeep/run_inferences", runs=ids)] if ids else []
        return contents, sorted(inferences)

    contents, inferences = store.read_with(read)
    neurons = [row for row in store.read("upkeep/neuron_places") if row["run"] in ids]
    masks = loose.masks_of_none_but(store, ids)
    purged = Purged(
        tuple(ids),
        sum(row["snapshots"] for row in contents),
        sum(row["neurons"] for row in neurons),
        sum(row["lifetimes"] for row in contents),
        len(masks),
        sum(masks),
        tuple(inferences),
        dry_run,
    )
    if not dry_run:
        remove(store, ids)
        store.write(partial(_tell, ids=ids))  # from here on earlier moments cannot be asked about
        _drop(store, ids, inferences, neurons)
        digests = [digest for row in contents for digest in row["digests"]]
        for at in range(0, len(digests), _PAGE):
            store.write(lambda tx, page=digests[at : at + _PAGE]: tx.run("upkeep/forget_topologies", digests=page))  # type: ignore[misc]
        JobQueue(store).forget_runs(ids)  # their results would tell of the runs
        loose.collect(store)
    return purged


def _drop(store: GraphStore, ids: Sequence[str], inferences: Sequence[str], places: Sequence[Row]) -> None:
    """Take away what hangs on some runs, and they themselves last. ``places`` are the spaces of their neurons."""
    for name in inferences:
        store.write(
            lambda tx, i=name: (tx.run("lineage/drop_inferred_edges", id=i), tx.run("lineage/drop_inference", id=i))  # type: ignore[misc]
        )
    for run in ids:  # who projects one of them stops
        store.write(lambda tx, r=run: tx.run("projection/take_projection", run=r))  # type: ignore[misc]
    for row in places:
        if row["space"] is not None:
            loose.drop_neurons(store, row["run"], row["space"])
    last = store.read_with(lambda tx: clock_of(tx)[1]) - 1
    for run in ids:
        while any(row["dropped"] for row in store.write(partial(_forget, run=run, until=last))):
            pass
        while nodes := [row["node"] for row in store.read("upkeep/run_nodes", run=run, limit=_PAGE)]:
            store.write(lambda tx, page=nodes: tx.run("upkeep/drop_nodes", nodes=page))  # type: ignore[misc]
        store.write(lambda tx, r=run: tx.run("upkeep/drop_run", run=r))  # type: ignore[misc]


def _tell(tx: Transaction, ids: Sequence[str]) -> None:
    for run in ids:
        tx.changes("purged", run)


def _forget(tx: Transaction, run: str, until: int) -> list[Row]:
    """Take a page of what is known of a run's changes away: no moment that it is known for can be asked of."""
    return tx.run("moments/drop_changes", run=run, until=until, limit=_PAGE)


def _refuse_children(tx: Transaction, ids: Sequence[str], gone: set[str]) -> None:
    if not ids:
        return
    for row in tx.run("lineage/children", runs=list(ids)):
        if row["child"] not in {*ids, *gone}:
            raise ConflictError(
                f"run {row['child']!r} descends from {row['parent']}, which would go; nothing was written",
                hint=f"name {row['child']} too, or `topostrata disown {row['child']} {row['parent']}` first",
            )
