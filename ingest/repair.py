"""Damage has a cure: what follows from the masks is made again from them, and a mask that is lost from its connections.

A topology is stored twice: packed in masks, and as connections with their lifetimes. Where one is damaged the other
tells what it was, and the snapshot's digest proves it. What neither proves stays as it is and is said. Nothing is taken
away here: what hangs on no run stays for ``gc``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from topostrata.errors import ConflictError, CorruptError, TopostrataError
from topostrata.ingest import transform
from topostrata.ingest.load import Loader
from topostrata.ingest.projected import projected_lifetimes
from topostrata.ingest.verify import Violation, missing_snapshots, verify
from topostrata.runs import RunLayer, Snapshot
from topostrata.store import runs
from topostrata.store.graph import GraphStore, Row, Transaction
from topostrata.store.masks import MaskStore
from topostrata.topology import Mask, Topology

_NEURONS = 100
_DROP = "upkeep/drop_connections"


def rebuild(store: GraphStore, loader: Loader, run: str) -> int:
    """Take the connections of a run away and draw them again from its masks; gives how many lifetimes it has then.

    Its history is then that of the snapshots that are there: one that is missing is given up. Meanwhile its layers say
    that nothing of them is projected. Interrupted, it is to be started again.

    Raises ``ConflictError`` where somebody else begins to draw the run meanwhile.
    """
    layers = store.read_with(lambda tx: (runs.find_run(tx, run), runs.layers_of(tx, [run])[run])[1])
    _mend_order(store, run, give_up=True)

    def reset(tx: Transaction) -> int:
        taken = tx.run("projection/take_projection", run=run)[0]  # who projects it now stops
        tx.run("upkeep/reset_projection", run=run)
        return int(taken["epoch"])

    epoch = store.write(reset)
    sizes = {space.name: space.size for layer in layers for space in (layer.source, layer.target)}
    page = 0
    for space, size in sizes.items():
        for first in range(0, size, _NEURONS):
            neurons = [f"{run}/{space}/{unit}" for unit in range(first, min(first + _NEURONS, size))]
            page += 1
            drop = partial(_drop, run, (epoch, page), lambda tx, neurons=neurons: tx.run(_DROP, neurons=neurons))  # type: ignore[misc]
            store.write(drop)
    store.write(partial(_drop, run, (epoch, page + 1), partial(_forget_places, run, [layer.id for layer in layers])))
    loader.drawer.project(run)
    return sum(layer.lifetimes for layer in store.read_with(lambda tx: runs.layers_of(tx, [run])[run]))


def _forget_places(run: str, layers: Sequence[str], tx: Transaction) -> None:
    """Take away neurons that are in no space and, now that no connection is left, from where on layers were whole."""
    tx.run("upkeep/drop_placeless_neurons", prefix=f"{run}/")
    tx.run("projection/set_window", ids=layers, step=None, trimming=False)


def _drop(run: str, turn: tuple[int, int], drop: Callable[[Transaction], object], tx: Transaction) -> None:
    """Take something of a run away, unless another projector has taken the run and draws it already."""
    epoch, page = turn
    guard = tx.one("projection/guard_projection", run=run, token=uuid.uuid4().hex, epoch=epoch, batch=page, half=True)
    if guard is None or guard["epoch"] != epoch:
        raise ConflictError(
            f"run {run!r}: expected nobody else to draw its connections, found somebody who began meanwhile",
            hint="start it again when nothing is pushed to this run",
        )
    if guard["batch"] < page:  # else an earlier try was committed, although it seemed to fail
        drop(tx)


def repair(store: GraphStore, masks: MaskStore, loader: Loader) -> list[Violation]:
    """Mend what can be mended, and give what is left. A sound archive is only read."""
    found = list(verify(store, masks))
    if not found:
        return []
    damaged = {violation.run for violation in found if violation.run is not None}
    for run in sorted(damaged):
        _mend_run(store, masks.forgetful(), run)
    loader.forget()
    left = list(verify(store, masks))
    lost = {violation.run for violation in left if violation.cure in {"restore", "repair"}}
    again = {violation.run for violation in left if violation.cure == "rebuild"} - lost
    for run in sorted(run for run in again if run is not None):
        rebuild(store, loader, run)
    return list(verify(store, masks)) if again else left


def _mend_run(store: GraphStore, masks: MaskStore, run: str) -> None:
    """Ids, masks and digests of a run's snapshots, then the order of those that are there."""
    store.write(lambda tx: [tx.run(name, run=run) for name in ("upkeep/attach_snapshots", "upkeep/attach_layers")])
    rows = store.read("upkeep/snapshot_nodes", run=run)
    for row in rows:
        if (row["id"], row["run"]) != (f"{run}@{row['step']}", run):
            store.write(lambda tx, step=row["step"]: tx.run("upkeep/name_snapshot", run=run, step=step))  # type: ignore[misc]
    try:
        layers = store.read_with(lambda tx: runs.layers_of(tx, [run])[run])
    except CorruptError:
        return
    drawn = _Drawn(store, layers)
    for row in rows:
        _mend_snapshot(store, masks, f"{run}@{row['step']}", layers, drawn)
    _mend_order(store, run)


class _Drawn:
    """The masks of a run's layers as its connections tell them."""

    def __init__(self, store: GraphStore, layers: Sequence[RunLayer]) -> None:
        self._store = store
        self._layers = {layer.name: layer for layer in layers if layer.shared_with is None}
        self._lives: dict[str, transform.Lifetimes] = {}

    def mask(self, name: str, step: int) -> Mask | None:
        """The mask of a layer at a step, or None where its connections do not reach so far or make no mask."""
        layer = self._layers[name]
        if layer.projected_step is None or not (layer.projected_from or 0) <= step <= layer.projected_step:
            return None
        if name not in self._lives:
            self._lives[name] = projected_lifetimes(self._store, layer)[0]
        lives = self._lives[name]
        alive = (lives.born <= step) & ((lives.died < 0) | (lives.died > step)) & (lives.cells >= 0)
        shape = layer.shape
        try:
            return Mask(shape.local_sources, shape.target.size, np.unique(lives.cells[alive]), shape.taps)
        except TopostrataError:
            return None


def _mend_snapshot(store: GraphStore, masks: MaskStore, ref: str, layers: tuple[RunLayer, ...], drawn: _Drawn) -> None:
    """Find the topology that has the snapshot's digest, among its masks and its connections, and store it whole."""

    def work(tx: Transaction) -> tuple[Snapshot | None, list[Row], dict[str, dict[str, object]]]:
        snapshot = runs.find_snapshots(tx, [ref]).get(ref)
        joined = tx.run("masks/snapshot_masks", ids=[ref])
        kept = {row["layer"]: dict(row["mask"]) for row in tx.run("runs/layer_metrics", ids=[ref])}
        return snapshot, joined, kept

    snapshot, joined, properties = store.read_with(work)
    if snapshot is None:
        return
    owners = [layer for layer in layers if layer.shared_with is None]
    readable: dict[str, Mask] = {}
    for row in joined:
        try:
            readable |= masks.get([row["digest"]])
        except CorruptError:
            continue
    ours: dict[str, list[Mask]] = {}
    for layer in owners:
        candidates = [
            readable[row["digest"]] for row in joined if row["layer"] == layer.name and row["digest"] in readable
        ]
        seen = drawn.mask(layer.name, snapshot.step)
        ours[layer.name] = [
            mask for mask in (*candidates, *([seen] if seen is not None else [])) if layer.shape.accepts(mask)
        ]
    if not all(ours.values()):
        return
    wiring = runs.wiring_of(layers)
    for chosen in _choices(ours):
        topology = wiring.place(chosen)
        if topology.digest == snapshot.digest or _agree(ours):
            _store(store, masks, snapshot, topology, joined, properties)
            return


def _choices(candidates: Mapping[str, list[Mask]]) -> Iterator[dict[str, Mask]]:
    """The first of all, the last of all, and each other one in place of the first, layer by layer."""
    yield {name: options[0] for name, options in candidates.items()}
    yield {name: options[-1] for name, options in candidates.items()}
    for name, options in candidates.items():
        for other in options[1:]:
            yield {n: other if n == name else o[0] for n, o in candidates.items()}


def _agree(candidates: Mapping[str, list[Mask]]) -> bool:
    """Whether masks and connections tell the same of every layer: then they are believed, and the digest is not."""
    return all(len(options) > 1 and len({mask.digest for mask in options}) == 1 for options in candidates.values())


def _store(
    store: GraphStore,
    masks: MaskStore,
    snapshot: Snapshot,
    topology: Topology,
    joined: Sequence[Row],
    properties: Mapping[str, dict[str, object]],
) -> None:
    chosen = topology.to_masks()
    lost = []
    for mask in chosen.values():
        try:
            masks.get([mask.digest])
        except CorruptError:
            lost.append(mask)
    before = sorted((row["layer"], row["digest"]) for row in joined)
    after = sorted((name, mask.digest) for name, mask in chosen.items())

    def work(tx: Transaction) -> None:
        masks.replace(tx, lost)
        if before != after:
            tx.run("upkeep/cut_masks", id=snapshot.id)
            rows = [[name, mask.digest, properties.get(name, {})] for name, mask in chosen.items()]
            tx.run("upkeep/join_masks", id=snapshot.id, rows=rows)
        if (snapshot.digest, snapshot.nnz) != (topology.digest, topology.nnz):
            tx.run("upkeep/snapshot_content", id=snapshot.id, digest=topology.digest, nnz=topology.nnz)

    if lost or before != after or (snapshot.digest, snapshot.nnz) != (topology.digest, topology.nnz):
        store.write(work)


def _mend_order(store: GraphStore, run: str, *, give_up: bool = False) -> None:
    """The ends of the run, and which snapshot follows which; with ``give_up`` also across those that are missing."""

    def work(tx: Transaction) -> None:
        snapshots = runs.snapshots_of(tx, run)
        order = tx.run("runs/next_edges", run=run)
        steps = [snapshot.step for snapshot in snapshots]
        last = steps[-1] if steps else None
        told = runs.find_run(tx, run).last_step
        is_missing = bool(missing_snapshots([row["position"] for row in order])) or (told or -1) > (last or -1)
        if is_missing and not give_up:
            return
        digest = snapshots[-1].digest if snapshots else None
        tx.run("upkeep/set_ends", run=run, first=steps[0] if steps else None, last=last, digest=digest)
        if [row["following"] for row in order] != [steps[at : at + 1] for at in range(1, len(steps) + 1)]:
            tx.run("upkeep/cut_order", run=run)
            rows = [[a.id, b.id] for a, b in pairwise(snapshots)]
            if rows:
                tx.run("upkeep/put_order", rows=rows)
        if is_missing:
            tx.run("upkeep/renumber", rows=[[snapshot.id, at] for at, snapshot in enumerate(snapshots)])

    store.write(work)
