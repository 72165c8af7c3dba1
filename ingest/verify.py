"""Checks that the graph holds what was pushed: every invariant of the archive, compared with the masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from topostrata.errors import CorruptError
from topostrata.ingest import transform
from topostrata.ingest.loose import loose
from topostrata.ingest.projected import ALIVE, NO_KEY, projected_lifetimes
from topostrata.runs import Run, RunLayer
from topostrata.store import runs
from topostrata.store.graph import GraphStore, Transaction
from topostrata.store.masks import MaskStore, topology_of
from topostrata.store.opening import is_current
from topostrata.topology import LayerShape, Mask

_Life = tuple[int, int, int]  # cell, born step, died step


Cure = Literal["rebuild", "repair", "gc", "disown", "restore"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant: its rule, the place, what was expected and found, and what mends it.

    ``cure``: ``"repair"`` (``verify --repair``), ``"rebuild"`` (of the run, from its masks), ``"gc"``, ``"disown"`` (a
    parent that makes a cycle), or ``"restore"``, where what is lost can only come from elsewhere.
    """

    rule: str
    where: str
    expected: str
    found: str
    run: str | None
    cure: Cure

    @property
    def mend(self) -> str:
        """The command that mends it."""
        commands = {
            "rebuild": f"topostrata rebuild {self.run}",
            "repair": "topostrata verify --repair",
            "gc": "topostrata gc",
            "disown": "topostrata disown RUN REF, for one of these runs and its parent",
            "restore": "topostrata import of an export that has it; or, to go on without what is lost, "
            f"topostrata rebuild {self.run}",
        }
        return commands[self.cure]


def verify(
    store: GraphStore, masks: MaskStore, *, progress: Callable[[str], None] | None = None
) -> Iterator[Violation]:
    """Every violation in the archive, run by run. Memory holds the lifetimes of one layer, not its masks.

    Everything is read from the graph; what ``masks`` remembers is not used.
    """
    masks = masks.forgetful()
    keyed = is_current(store)
    for run in store.read_with(runs.all_runs):
        if progress is not None:
            progress(run.id)
        yield from _verify_run(store, masks, run, keyed=keyed)
    yield from _verify_descent(store)
    for nodes in loose(store):
        yield Violation(
            "everything hangs on a run", nodes.name, "none", f"{nodes.count} nodes {nodes.kind} that hang on none",
            None, "gc",
        )  # fmt: skip


def _verify_run(store: GraphStore, masks: MaskStore, run: Run, *, keyed: bool) -> Iterator[Violation]:
    order = store.read("runs/next_edges", run=run.id)
    steps = [row["step"] for row in order]
    last = steps[-1] if steps else None
    cut = run.last_step is not None and (last is None or run.last_step > last)
    yield from _differ("last step", run.id, last, run.last_step, "restore" if cut else "repair")
    yield from _differ("first step", run.id, steps[0] if steps else None, run.first_step, "repair")
    missing = missing_snapshots([row["position"] for row in order])
    if missing:
        where = f"{run.id}@{steps[missing[0]]}"
        yield Violation("no snapshot is missing", where, "its snapshot before it", "none", run.id, "restore")
    for at, row in enumerate(order, start=1):
        place = f"{run.id}@{row['step']}"
        cure: Cure = "restore" if cut or missing else "repair"
        yield from _differ("order of snapshots", place, steps[at : at + 1], row["following"], cure)
    try:
        layers = store.read_with(lambda tx: runs.layers_of(tx, [run.id])[run.id])
    except CorruptError as error:
        yield Violation("layers can be read", run.id, "spaces with names and sizes", error.message, run.id, "restore")
        return
    for name in store.read("runs/step_metrics_places", run=run.id):
        place = f"{run.id}@{name['step']}"
        yield from _differ("the id of metrics is run@step", place, (place, run.id), (name["id"], name["run"]), "repair")
    for step in steps:
        yield from _verify_snapshot(store, masks, f"{run.id}@{step}", layers)
    for layer in layers:
        yield from _verify_layer(store, masks, layer, steps, keyed=keyed)
    projected = [layer for layer in layers if layer.projected_step is not None]
    sizes = {space.name: space.size for layer in projected for space in (layer.source, layer.target)}
    for space, size in sizes.items():
        neurons = store.read("projection/neurons", run=run.id, space=space)[0]["neurons"]
        yield from _differ("neurons", f"{run.id}/{space}", size, neurons, "rebuild")


def _verify_snapshot(
    store: GraphStore, masks: MaskStore, ref: str, layers: tuple[RunLayer, ...]
) -> Iterator[Violation]:
    def work(tx: Transaction) -> runs.RecordedSnapshot | None:
        snapshots = list(runs.find_snapshots(tx, [ref]).values())
        return runs.recorded(tx, snapshots)[0] if snapshots else None

    run = ref.partition("@")[0]
    recorded = store.read_with(work)
    if recorded is None:
        yield Violation("a snapshot's id is run@step", ref, "a snapshot of this id", "none", run, "repair")
        return
    expected = sorted(layer.name for layer in layers if layer.shared_with is None)
    names = sorted(mask.layer for mask in recorded.masks)
    if names != expected:
        yield Violation("a mask for each layer", ref, _text(expected), _text(names), run, "repair")
        return
    try:
        topology = topology_of(recorded, masks.get(mask.digest for mask in recorded.masks))
    except CorruptError as error:
        yield Violation("masks can be read", ref, "whole masks", error.message, run, "repair")
        return
    except ValueError as error:
        yield Violation("masks fit their layers", ref, "masks of the layers' shapes", str(error), run, "repair")
        return
    yield from _differ("digest", ref, topology.digest, recorded.snapshot.digest or None, "repair")
    yield from _differ("connections", ref, topology.nnz, recorded.snapshot.nnz, "repair")


def _verify_layer(
    store: GraphStore, masks: MaskStore, layer: RunLayer, steps: list[int], *, keyed: bool
) -> Iterator[Violation]:
    upto = layer.projected_step
    where = layer.id
    if upto is not None and upto not in steps:
        yield Violation("projected step", where, f"one of {len(steps)} recorded steps", str(upto), layer.run, "rebuild")
        return
    start = layer.projected_from
    if start is not None and (start not in steps or (upto is not None and start > upto)):
        expected = f"one of {len(steps)} recorded steps, up to step {upto}"
        yield Violation("first projected step", where, expected, str(start), layer.run, "rebuild")
        return
    shape = layer.shape
    projected, keys = projected_lifetimes(store, layer)
    if keyed:
        living = np.where(projected.died == ALIVE, transform.alive_keys(layer.id, projected.cells), NO_KEY)
        yield from _differ(
            "the living have their keys, the dead have none", where, 0, int((living != keys).sum()), "rebuild"
        )
    if upto is None and not projected.cells.size:
        return
    try:
        all_facts = transform.lifetimes(shape, _history(store, masks, layer, steps[-1] if steps else -1))
    except CorruptError as error:
        yield Violation("masks can be read", where, "whole masks", error.message, layer.run, "repair")
        return
    facts = all_facts.after(layer.projected_from)
    pairs = [np.stack([x.cells, x.born, x.died]) for x in (facts, projected, all_facts if layer.trimming else facts)]
    if np.array_equal(pairs[0], pairs[1]):
        return
    true, told, known = ([(c, b, d) for c, b, d in pair.T.tolist()] for pair in pairs)
    missing, extra = _compare(true, told, known, -1 if upto is None else upto)
    repeated = len(told) - len(set(told))
    if missing or extra or repeated:
        yield Violation(
            "the projection equals the masks",
            where,
            f"{len(true)} lifetimes, those up to step {upto} all there",
            f"{len(missing)} missing{_first(shape, missing)}, {len(extra)} wrong{_first(shape, extra)}, "
            f"{repeated} written twice",
            layer.run,
            "rebuild",
        )


def _compare(true: list[_Life], told: list[_Life], known: list[_Life], upto: int) -> tuple[list[_Life], list[_Life]]:
    """``(missing, wrong)``. What a projector began beyond the projected step may be incomplete, but never untrue.

    ``true`` are those that shall be there, ``known`` those that may be there.
    """
    deaths = {(cell, born): died for cell, born, died in known}
    good: set[tuple[int, int]] = set()
    wrong: list[_Life] = []
    for cell, born, died in told:
        fact = deaths.get((cell, born))
        early = died == ALIVE and fact is not None and fact > upto  # the death is not written yet
        if fact is not None and (died == fact or early):
            good.add((cell, born))
        else:
            wrong.append((cell, born, died))
    return [life for life in true if life[1] <= upto and life[:2] not in good], wrong


def _history(store: GraphStore, masks: MaskStore, layer: RunLayer, last: int) -> Iterator[tuple[int, Mask]]:
    for step, _, digest in store.read_with(lambda tx: runs.masks_between(tx, layer.run, [layer.name], 0, last)):
        yield step, masks.get([digest])[digest]


def _verify_descent(store: GraphStore) -> Iterator[Violation]:
    parents: dict[str, set[str]] = {}
    for descent in store.read_with(runs.descents):
        parents.setdefault(descent.child, set()).add(descent.parent)
    # Take away each run that has no parents left, again and again: what remains is on a cycle or descends from one.
    while leaves := [run for run, above in parents.items() if not above & set(parents)]:
        for run in leaves:
            del parents[run]
    if parents:
        yield Violation("no run is its own ancestor", ", ".join(sorted(parents)), "no cycle", "a cycle", None, "disown")


def missing_snapshots(positions: Sequence[int | None]) -> list[int]:
    """The places in a run before which a snapshot is missing; what an earlier version stored does not say so."""
    return [
        at
        for at, (before, position) in enumerate(pairwise([-1, *positions]))
        if position is not None and before is not None and position != before + 1
    ]


def _differ(rule: str, where: str, expected: object, actual: object, cure: Cure) -> Iterator[Violation]:
    if expected != actual:
        run = where.partition("@")[0].partition("/")[0]
        yield Violation(rule, where, _text(expected), _text(actual), run, cure)


def _text(value: object) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _first(shape: LayerShape, lives: list[_Life]) -> str:
    if not lives:
        return ""
    cell, born, died = min(lives)
    if cell < 0:
        return " (such as one without its units, tap or birth)"
    source, target, tap = (int(x[0]) for x in shape.units_of(np.array([cell])))
    death = "never" if died == ALIVE else died
    return f" (such as {source} -> {target}, tap {tap}, born {born}, died {death})"
