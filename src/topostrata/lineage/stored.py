"""Descent as the archive holds it: declared, inferred from the snapshots of some runs, and runs compared over time.

An inferred ancestry is stored under a name, and is replaced and removed as a whole. ``(:Inference)`` says how it was
made; ``(child:Run)-[:INFERRED_FROM {inference, ...}]->(parent:Run)`` are its edges, so that Cypher can walk them beside
the declared descent. All of it can be computed again: nothing else depends on it.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import permutations
from typing import TYPE_CHECKING, get_args

from topostrata.distance.alignments import DEFAULT, Alignment, definition_of
from topostrata.distance.comparable import check_comparable
from topostrata.distance.nnstd import with_chance
from topostrata.distance.null_model import Chance, Kept, check_kept
from topostrata.distance.plan import plan_of
from topostrata.distance.recorded import wired
from topostrata.distance.stored_chance import StoredLevels
from topostrata.distance.stored_pairs import KnownPairs
from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.lineage.declared import Kinship, Lineage, family, kinship
from topostrata.lineage.inferred import Inference, InferredEdge, infer
from topostrata.lineage.timelines import Point, Timeline, common_steps, past_steps, point
from topostrata.lineage.unit_terms import Placement, Units, placement_of
from topostrata.refs import Ref
from topostrata.runs import Descent, Run, Snapshot
from topostrata.store.masks import MaskStore
from topostrata.store.runs import (
    RecordedSnapshot,
    all_runs,
    descents,
    expanded,
    find_run,
    recorded,
    resolve,
    runs_of,
    snapshots_of,
)
from topostrata.topology import Topology

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Row, Transaction

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MOST_NAMES = 5  # in a hint
_PAGE = 32  # snapshots of a timeline whose masks are asked for at once


@dataclass(frozen=True, slots=True)
class StoredInference:
    """An inference as it was stored; ``steps`` holds for each run the step at which it was compared."""

    id: str
    created_at: datetime
    steps: Mapping[str, int]
    inference: Inference


def read_lineage(store: GraphStore, run: str | None, *, depth: int | None) -> Lineage:
    """The declared ancestors and descendants of a run; of all runs where none is named."""

    def work(tx: Transaction) -> tuple[list[str], list[Descent]]:
        runs = [run.id for run in all_runs(tx)] if run is None else [find_run(tx, run).id]
        return runs, descents(tx)

    runs, edges = store.read_with(work)
    return family(edges, runs, of=run, depth=depth)


def read_kinship(store: GraphStore, a: str, b: str) -> Kinship:
    """The nearest common ancestors of two runs, and the ways from there to each of them."""

    def work(tx: Transaction) -> list[Descent]:
        for run in (a, b):
            find_run(tx, run)
        return descents(tx)

    return kinship(store.read_with(work), a, b)


def infer_stored(
    store: GraphStore,
    masks: MaskStore,
    patterns: Iterable[Ref | Snapshot | str] | Ref | Snapshot | str,
    *,
    alignment: Alignment | None,
    units: Units | None,
    depth: int | None,
    root: str | None,
    by_time: bool,
    samples: int,
    progress: Callable[[int, int], None] | None,
    keep: bool,
) -> StoredInference:
    """Which run probably descends from which, by the distances of one snapshot of each; the answer is not stored.

    Without an alignment, units that are in place are compared by index, others by ``overlap``. Distances and matches
    that the archive has are read; with ``keep`` the others are kept.
    """
    if units is not None and units not in get_args(Units):
        raise InvalidInputError(f"units: expected {' or '.join(map(repr, get_args(Units)))}, found {units!r}")
    if units is not None and alignment is not None:
        raise InvalidInputError(
            f"infer: expected units or an alignment, found units {units!r} and alignment {alignment!r}",
            hint="an alignment says already which unit is compared with which; units choose one",
        )

    def work(tx: Transaction) -> tuple[list[RecordedSnapshot], dict[str, Run]]:
        snapshots = resolve(tx, expanded(tx, patterns))
        runs = [snapshot.run for snapshot in snapshots]
        if len(runs) < 2:
            raise InvalidInputError(f"infer: expected snapshots of two or more runs, found {len(runs)}")
        if twice := sorted({run for run in runs if runs.count(run) > 1}):
            raise InvalidInputError(f"infer: expected one snapshot of each run, found several of {', '.join(twice)}")
        return recorded(tx, snapshots), runs_of(tx, runs) if by_time else {}

    entries, runs = store.read_with(work)
    steps = {entry.snapshot.run: entry.snapshot.step for entry in entries}
    topologies = masks.topologies(entries)
    placement = placement_of(topologies) if units is None else Placement(units, "caller", None, ())
    fitting: Alignment = "identity" if placement.units == "in-place" else DEFAULT
    for topology in topologies[1:]:  # before any of them gets a number
        check_comparable(topologies[0], topology)
    known = KnownPairs(
        store,
        permutations([topology.digest for topology in topologies], 2),
        alignment=alignment or fitting,
        layers=len(plan_of(topologies[0].wiring).rows),
        keep=keep,
        matches=True,
    )
    with closing(known):  # which keeps what is computed by then, however this ends
        inference = infer(
            topologies,
            list(steps),
            known.compare,
            root=root,
            times=[runs[run].created_at.timestamp() for run in steps] if by_time else None,
            depth=depth,
            samples=samples,
            progress=progress,
        )
    return StoredInference("", datetime.now(UTC), steps, inference.placed(placement, list(steps)))


def read_timeline(
    store: GraphStore,
    masks: MaskStore,
    run: str,
    other: str | None,
    *,
    alignment: Alignment | None,
    lag: int | None,
    chance: Kept | None,
    keep: bool,
) -> Timeline:
    """The distance of two runs at each step that both have, or of a run from its own past.

    Distances that the archive has are read; with ``keep`` the others are kept.
    """
    if other is not None and lag is not None:
        raise InvalidInputError("timeline: expected a lag or another run, found both")
    check_kept(chance)
    chosen = definition_of(alignment or ("identity" if other is None else DEFAULT)).name
    memory = StoredLevels(store, chosen, keep=keep)

    def work(tx: Transaction) -> list[list[RecordedSnapshot]]:
        histories = [snapshots_of(tx, member) for member in ([run] if other is None else [run, other])]
        common = set.intersection(*({snapshot.step for snapshot in history} for history in histories))
        return [recorded(tx, [snapshot for snapshot in history if snapshot.step in common]) for history in histories]

    histories = [[(entry.snapshot.step, entry) for entry in entries] for entries in store.read_with(work)]
    if other is None:
        pairs = list(past_steps(lambda: histories[0], lag, run))
    else:
        pairs = list(common_steps(histories[0], histories[1], (run, other)))
    points = _points(store, masks, pairs, chosen, chance, memory, keep=keep) if pairs else []
    return Timeline(run, run if other is None else other, tuple(points))


def _points(
    store: GraphStore,
    masks: MaskStore,
    pairs: Sequence[tuple[tuple[int, RecordedSnapshot], tuple[int, RecordedSnapshot]]],
    alignment: Alignment,
    chance: Kept | None,
    memory: StoredLevels,
    *,
    keep: bool,
) -> list[Point]:
    """The points of a timeline: what the archive knows is read, and only what is to compute needs masks, by pages."""
    first = [entry for _, entry in pairs[0]]
    both = wired(first)
    if both is None:
        masks.topologies(first)  # says what is missing
        raise AssertionError
    known = KnownPairs(
        store,
        [(ours.snapshot.digest, theirs.snapshot.digest) for (_, ours), (_, theirs) in pairs],
        alignment=alignment,
        layers=len(both[0].plan.rows),
        keep=keep,
        matches=False,
    )
    topologies: dict[str, Topology] = {}

    def compare(ours: RecordedSnapshot, theirs: RecordedSnapshot) -> tuple[float, Chance | None]:
        values = known.get(ours.snapshot.digest, theirs.snapshot.digest)
        if values is not None and chance is None:
            return math.fsum(values) / len(values), None
        a, b = topologies[ours.snapshot.id], topologies[theirs.snapshot.id]
        distance = known.compare(a, b)
        if chance is not None:
            distance = with_chance(distance, a, b, kept=chance, memory=memory)
        return distance.nnstd, distance.chance

    points = []
    with closing(known):
        for at in range(0, len(pairs), _PAGE):
            page = pairs[at : at + _PAGE]
            wanted = {
                entry.snapshot.id: entry
                for (_, ours), (_, theirs) in page
                if chance is not None or known.get(ours.snapshot.digest, theirs.snapshot.digest) is None
                for entry in (ours, theirs)
            }
            topologies = dict(zip(wanted, masks.topologies(list(wanted.values())), strict=True))
            points += [point(now, then, compare) for now, then in page]
    return points


def put(
    store: GraphStore, id_: str, inference: Inference, steps: Mapping[str, int], *, created_at: datetime | None = None
) -> bool:
    """Store an inference whose labels are run ids, in one transaction; returns whether it replaced another.

    ``steps`` has for each run the step of the snapshot that was compared. The id has the form of a run's id.

    Raises ``InvalidInputError`` for a malformed id and for a run without a step, ``NotFoundError`` for a snapshot that
    the archive does not have: then nothing is written, and an earlier inference of that id stays.
    """
    if not _ID.fullmatch(id_):
        raise InvalidInputError(
            f"inference: expected an id of letters, digits, '.', '_' and '-', at most 128, found {id_!r}"
        )
    lost = [run for run in inference.nodes if run not in steps]
    if lost:
        raise InvalidInputError(
            f"inference {id_!r}: expected a step for each run, found none for {', '.join(lost[:10])}"
        )
    moment = (created_at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    rows = [
        [e.parent, steps[e.parent], e.child, steps[e.child], k, e.distance, e.margin, e.support, e.direction]
        for k, e in enumerate(inference.edges)
    ]

    def work(tx: Transaction) -> bool:
        tx.run("archive/lock_archive", token=uuid.uuid4().hex)
        _check_snapshots(tx, id_, [f"{run}@{steps[run]}" for run in inference.nodes])
        replaced = _drop(tx, id_)
        tx.run(
            "lineage/put_inference",
            id=id_,
            method=inference.method,
            alignment=inference.alignment,
            steps=sorted({steps[run] for run in inference.nodes}),
            root=inference.root,
            depth=inference.depth,
            version=inference.version,
            samples=inference.samples,
            edges=len(rows),
            created_at=moment,
            units=inference.units,
            units_by=inference.units_by,
            agreement=inference.agreement,
            out_of_place=list(inference.out_of_place),
        )
        tx.run("lineage/put_inferred_edges", id=id_, rows=rows)
        return replaced

    return store.write(work)


def get(store: GraphStore, id_: str) -> StoredInference:
    """A stored inference as it was.

    Raises ``NotFoundError`` if there is none, or if one of its runs has been deleted since: a tree without a run is no
    answer.
    """

    def work(tx: Transaction) -> tuple[Row, list[Row]]:
        head = tx.one("lineage/inference", id=id_)
        if head is None:
            names = [row["id"] for row in tx.run("lineage/inference_names", after="", limit=_MOST_NAMES)]
            raise NotFoundError(
                f"inference {id_!r}: expected it in the archive, found none",
                hint=f"it holds {', '.join(names)}" if names else "it holds no inferences",
            )
        return head, tx.run("lineage/inferred_edges", id=id_)

    head, rows = store.read_with(work)
    if len(rows) != head["edges"]:
        raise NotFoundError(
            f"inference {id_!r}: expected {head['edges']} edges, found {len(rows)}: a run of it has been deleted",
            hint="infer it again",
        )
    edges = tuple(
        InferredEdge(r["parent"], r["child"], r["distance"], r["margin"], r["support"], r["direction"]) for r in rows
    )
    steps = {r["parent"]: r["parent_step"] for r in rows} | {r["child"]: r["child_step"] for r in rows}
    # The edges name their runs as the graph has them now, so the root is taken from the edges as well.
    children = {edge.child for edge in edges}
    root = None if head["method"] == "tree" else next(e.parent for e in edges if e.parent not in children)
    version = head["version"] or 1  # before it was kept, there was no other
    inference = Inference(
        head["method"],
        head["alignment"],
        root,
        edges,
        head["samples"],
        head["depth"],
        version,
        head["units"],
        head["units_by"],
        head["agreement"],
        tuple(head["out_of_place"] or ()),
    )
    return StoredInference(id_, datetime.fromisoformat(head["created_at"]), steps, inference)


def _drop(tx: Transaction, id_: str) -> bool:
    there = tx.one("lineage/inference", id=id_) is not None
    if there:
        tx.run("lineage/drop_inferred_edges", id=id_)
        tx.run("lineage/drop_inference", id=id_)
    return there


def _check_snapshots(tx: Transaction, id_: str, ids: list[str]) -> None:
    known = {row["id"] for row in tx.run("lineage/known_snapshots", ids=ids)}
    missing = [ref for ref in ids if ref not in known]
    if missing:
        raise NotFoundError(f"inference {id_!r}: expected these snapshots, found none: {', '.join(missing[:10])}")
