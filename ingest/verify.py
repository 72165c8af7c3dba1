"""Does the graph hold what was pushed? Every invariant of the archive, checked against the masks, the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from stratigraph.errors import CorruptError
from stratigraph.ingest import transform
from stratigraph.store.graph import GraphStore, Row
from stratigraph.store.masks import MaskStore, layer_of
from stratigraph.topology import Mask, Topology

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not add up: what rule, where, what was expected and what stands there."""

    rule: str
    where: str
    expected: str
    found: str


def verify(
    store: GraphStore, masks: MaskStore, *, progress: Callable[[str], None] | None = None
) -> Iterator[Violation]:
    """Every violation in the archive, run by run. Memory holds one layer's history of lifetimes, not of masks."""
    for run in _runs(store):
        if progress is not None:
            progress(run["id"])
        yield from _verify_run(store, masks, run)
    yield from _verify_descent(store)


def _runs(store: GraphStore) -> Iterator[Row]:
    page = store.read("read/runs", after="", limit=_PAGE)
    while page:
        yield from page
        page = store.read("read/runs", after=page[-1]["id"], limit=_PAGE)


def _verify_run(store: GraphStore, masks: MaskStore, run: Row) -> Iterator[Violation]:
    name = run["id"]
    order = store.read("read/next_edges", run=name)
    steps = [row["step"] for row in order]
    yield from _differ("last step", name, steps[-1] if steps else None, run["last_step"])
    yield from _differ("first step", name, steps[0] if steps else None, run["first_step"])
    for row, following in zip(order, [*steps[1:], None], strict=True):
        expected = [] if following is None else [following]
        yield from _differ("order of snapshots", f"{name}@{row['step']}", expected, row["following"])
    layers = store.read("read/layers", run=name)
    for step in steps:
        yield from _verify_snapshot(store, masks, f"{name}@{step}", layers)
    for layer in layers:
        yield from _verify_layer(store, masks, name, layer, steps)


def _verify_snapshot(store: GraphStore, masks: MaskStore, ref: str, layers: list[Row]) -> Iterator[Violation]:
    node = store.read("read/snapshot", id=ref)[0]["snapshot"]
    digests = {row["layer"]: row["digest"] for row in store.read("read/snapshot_masks", ids=[ref])}
    expected = [row["name"] for row in layers]
    if set(digests) != set(expected):
        yield Violation("a mask for each layer", ref, _text(sorted(expected)), _text(sorted(digests)))
        return
    try:
        found = masks.get(digests.values())
        topology = Topology(tuple(layer_of(row, found[digests[row["name"]]]) for row in layers))
    except CorruptError as error:
        yield Violation("masks can be read", ref, "whole masks", error.message)
        return
    except ValueError as error:
        yield Violation("masks fit their layers", ref, "masks of the layers' shapes", str(error))
        return
    yield from _differ("digest", ref, node["digest"], topology.digest)
    yield from _differ("connections", ref, node["nnz"], topology.nnz)


def _verify_layer(store: GraphStore, masks: MaskStore, run: str, row: Row, steps: list[int]) -> Iterator[Violation]:
    upto = row["projected_step"]
    if upto is None:
        return
    where = f"{run}/{row['name']}"
    if upto not in steps:
        yield Violation("projected step", where, f"one of {len(steps)} recorded steps", str(upto))
        return
    shape = transform.Shape(row["source"], row["target"], row["n_source"], row["n_target"], row["taps"])
    try:
        expected = transform.lifetimes(shape, _history(store, masks, run, row["name"], upto))
    except CorruptError as error:
        yield Violation("masks can be read", where, "whole masks", error.message)
        return
    found = _projected(store, run, row, shape, upto)
    pairs = [np.stack([x.cells, x.born, x.died]) for x in (expected, found)]
    if np.array_equal(pairs[0], pairs[1]):
        return
    wanted, held = (set(map(tuple, p.T.tolist())) for p in pairs)
    missing, extra = sorted(wanted - held), sorted(held - wanted)
    repeated = found.cells.size - len(held)
    yield Violation(
        "the projection equals the masks",
        where,
        f"{len(wanted)} lifetimes up to step {upto}",
        f"{len(missing)} missing{_first(shape, missing)}, {len(extra)} too many{_first(shape, extra)}, "
        f"{repeated} written twice",
    )


def _history(store: GraphStore, masks: MaskStore, run: str, layer: str, last: int) -> Iterator[tuple[int, Mask]]:
    for row in store.read("read/run_masks", run=run, layers=[layer], first=0, last=last):
        yield row["step"], masks.get([row["digest"]])[row["digest"]]


def _projected(store: GraphStore, run: str, row: Row, shape: transform.Shape, upto: int) -> transform.Lifetimes:
    """What the graph says of a layer up to a step: what a projector began beyond it is early, not wrong."""
    lives: list[tuple[int, int, int]] = []
    for group in store.read("read/lifetimes", run=run, layer=row["name"], space=shape.source):
        for target, tap, born, died in group["lifetimes"]:
            if born <= upto:
                cell = shape.cell_of(group["source"], target * shape.taps + tap)
                lives.append((cell, born, -1 if died is None or died > upto else died))
    lives.sort()
    columns = np.array(lives, dtype=np.int64).reshape(-1, 3).T
    return transform.Lifetimes(columns[0], columns[1], columns[2])


def _verify_descent(store: GraphStore) -> Iterator[Violation]:
    parents: dict[str, set[str]] = {}
    for edge in store.read("lineage/edges"):
        parents.setdefault(edge["child"], set()).add(edge["parent"])
    # Take away whoever has no parents left, again and again: what remains stands on a cycle or below one.
    while leaves := [run for run, above in parents.items() if not above & set(parents)]:
        for run in leaves:
            del parents[run]
    if parents:
        yield Violation("no run is its own ancestor", ", ".join(sorted(parents)), "no cycle", "a cycle")


def _differ(rule: str, where: str, expected: object, found: object) -> Iterator[Violation]:
    if expected != found:
        yield Violation(rule, where, _text(expected), _text(found))


def _text(value: object) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _first(shape: transform.Shape, lives: list[tuple[int, ...]]) -> str:
    if not lives:
        return ""
    cell, born, died = lives[0]
    source, target, tap = (int(x[0]) for x in shape.split(np.array([cell])))
    return f" (such as {source} -> {target}, tap {tap}, born {born}, died {'never' if died < 0 else died})"
