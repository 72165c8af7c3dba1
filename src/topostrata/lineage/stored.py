"""Inferred ancestry in the graph: kept under a name, replaced as a whole, dropped without a trace.

``(:Inference)`` says how it was made; ``(child:Run)-[:INFERRED_FROM {inference, ...}]->(parent:Run)`` are its edges, so
that Cypher can walk them beside the declared descent. All of it can be computed again: nothing else depends on it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.lineage.inferred import Inference, InferredEdge
from topostrata.store.graph import GraphStore, Row, Transaction

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Summary:
    """A stored inference without its edges: ``steps`` are those at which the runs were compared, each once, sorted."""

    id: str
    method: str
    alignment: str
    root: str | None
    steps: tuple[int, ...]
    depth: int | None
    samples: int
    edges: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredInference:
    """An inference as it was stored; ``steps`` holds for each run the step at which it was compared."""

    id: str
    created_at: datetime
    steps: Mapping[str, int]
    inference: Inference


def put(
    store: GraphStore, id_: str, inference: Inference, steps: Mapping[str, int], *, created_at: datetime | None = None
) -> bool:
    """Store an inference whose labels are run ids, in one transaction; gives whether it took the place of another.

    ``steps`` holds for each run the step of the snapshot that stood for it. The id is built like a run's.

    Raises ``InvalidInputError`` for an id that is none and for a run without a step, ``NotFoundError`` for a snapshot
    that the archive does not hold: then nothing is written, and what had that id stays.
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
            samples=inference.samples,
            edges=len(rows),
            created_at=moment,
        )
        tx.run("lineage/put_inferred_edges", id=id_, rows=rows)
        return replaced

    return store.write(work)


def page(store: GraphStore, *, limit: int = MAX_PAGE, after: str = "") -> list[Summary]:
    """A page of the stored inferences in the order of their ids, those after the id ``after``."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInputError(f"limit: expected 1 to {MAX_PAGE}, found {limit}")
    return [_summary(row) for row in store.read("lineage/inferences", after=after, limit=limit)]


def get(store: GraphStore, id_: str) -> StoredInference:
    """A stored inference as it was.

    Raises ``NotFoundError`` where there is none, and where a run of it has been deleted since: a tree with a run
    missing is no answer.
    """

    def work(tx: Transaction) -> tuple[Row | None, list[Row]]:
        return tx.one("lineage/inference", id=id_), tx.run("lineage/inferred_edges", id=id_)

    head, rows = store.read_with(work)
    if head is None:
        held = [summary.id for summary in page(store, limit=5)]
        raise NotFoundError(
            f"inference {id_!r}: expected it in the archive, found none",
            hint=f"it holds {', '.join(held)}" if held else "it holds no inferences",
        )
    if len(rows) != head["edges"]:
        raise NotFoundError(
            f"inference {id_!r}: expected {head['edges']} edges, found {len(rows)}: a run of it has been deleted",
            hint="infer it again",
        )
    summary = _summary(head)
    edges = tuple(
        InferredEdge(r["parent"], r["child"], r["distance"], r["margin"], r["support"], r["direction"]) for r in rows
    )
    steps = {r["parent"]: r["parent_step"] for r in rows} | {r["child"]: r["child_step"] for r in rows}
    # The edges know their runs by whatever these are called now; the root's name was written down.
    children = {edge.child for edge in edges}
    root = None if head["method"] == "tree" else next(e.parent for e in edges if e.parent not in children)
    inference = Inference(head["method"], summary.alignment, root, edges, summary.samples, summary.depth)
    return StoredInference(id_, summary.created_at, steps, inference)


def drop(store: GraphStore, id_: str) -> bool:
    """Take an inference out of the graph; gives whether it was there."""

    def work(tx: Transaction) -> bool:
        tx.run("archive/lock_archive", token=uuid.uuid4().hex)
        return _drop(tx, id_)

    return store.write(work)


def _drop(tx: Transaction, id_: str) -> bool:
    there = tx.one("lineage/inference", id=id_) is not None
    if there:
        tx.run("lineage/drop_inferred_edges", id=id_)
        tx.run("lineage/drop_inference", id=id_)
    return there


def _check_snapshots(tx: Transaction, id_: str, ids: list[str]) -> None:
    known = {row["id"] for row in tx.run("lineage/known_snapshots", ids=ids)}
    missing = [one for one in ids if one not in known]
    if missing:
        raise NotFoundError(f"inference {id_!r}: expected these snapshots, found none: {', '.join(missing[:10])}")


def _summary(row: Row) -> Summary:
    return Summary(
        row["id"],
        row["method"],
        row["alignment"],
        row["root"],
        tuple(row["steps"]),
        row["depth"],
        row["samples"],
        row["edges"],
        datetime.fromisoformat(row["created_at"]),
    )
