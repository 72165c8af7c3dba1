"""The projection of masks into the graph: neurons, and connections with the steps at which they were born and died.

Every birth and death follows from acknowledged masks, so a half-written step is never wrong, only early: who reads at
a step up to a layer's ``projected_step`` is not disturbed by it. A projector that was killed leaves such a beginning
behind; the next one looks it up and writes only what is missing.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import numpy as np

from topostrata.errors import CorruptError
from topostrata.ingest import transform
from topostrata.store.graph import GraphStore, Row, Transaction
from topostrata.store.masks import MaskStore
from topostrata.topology import Mask

logger = logging.getLogger(__name__)

_BATCH = 15_000  # relationships a transaction: measured best between 10 and 20 thousand
_NEURONS = 5_000  # neurons a transaction
_NONE = np.empty(0, dtype=np.int64)


Kind = Literal["born", "died", "done", "limit"]


class SupersededError(Exception):
    """Another projector has taken over the run: it completes the work."""


@dataclass(slots=True)
class _Layer:
    id: str
    name: str
    shape: transform.Shape
    projected_step: int
    lifetimes: int
    mask: Mask


@dataclass(slots=True)
class _Work:
    """One piece of a batch: some births or deaths of a layer at a step, the end of that step, or of the whole layer."""

    layer: _Layer
    step: int
    kind: Kind
    cells: transform.Cells = field(default_factory=lambda: _NONE)
    lifetimes: int = 0  # of the layer, at the end of the step


class Projector:
    """One pass over one run, from the projected step of each layer to the run's last snapshot."""

    def __init__(self, store: GraphStore, masks: MaskStore, run: str, epoch: int) -> None:
        self._store = store
        self._masks = masks
        self._run = run
        self._epoch = epoch
        self._batch = 0

    def bring_up(self, rows: list[Row], last: int, *, look: bool) -> None:
        """Project what is missing up to the step ``last``; ``look`` first for what an earlier projector began.

        ``rows`` are the run's layers as ``runs/layers`` gives them.
        """
        behind = [
            r
            for r in rows
            if r["projection"] == "follow" and (r["projected_step"] is None or r["projected_step"] < last)
        ]
        if not behind:
            return
        self._make_neurons([r for r in behind if r["projected_step"] is None])
        layers = {r["name"]: self._layer(r) for r in behind}
        room = self._store.relationship_limit - sum(r["lifetimes"] or 0 for r in rows)
        done = {name: self._already(layer) for name, layer in layers.items()} if look else {}
        batch: list[_Work] = []
        size = 0
        for work in self._work(layers, done, last, room):
            if batch and size + work.cells.size > _BATCH:
                self._write(batch)
                batch, size = [], 0
            batch.append(work)
            size += work.cells.size
        if batch:
            self._write(batch)

    def _layer(self, row: Row) -> _Layer:
        shape = transform.Shape(row["source"], row["target"], row["n_source"], row["n_target"], row["taps"])
        step = row["projected_step"]
        mask = shape.empty()
        if step is not None:
            at = self._store.read("masks/run_masks", run=self._run, layers=[row["name"]], first=step, last=step)
            mask = self._masks.get([at[0]["digest"]])[at[0]["digest"]]
        return _Layer(row["id"], row["name"], shape, -1 if step is None else step, row["lifetimes"] or 0, mask)

    def _make_neurons(self, rows: list[Row]) -> None:
        spaces = {r["source"]: r["n_source"] for r in rows} | {r["target"]: r["n_target"] for r in rows}
        for space, size in spaces.items():
            for first in range(0, size, _NEURONS):
                final = min(first + _NEURONS, size) - 1
                self._store.write(
                    lambda tx, s=space, a=first, b=final: tx.run(  # type: ignore[misc]
                        "projection/create_neurons", run=self._run, space=s, first=a, last=b
                    )
                )

    def _already(self, layer: _Layer) -> dict[tuple[str, int], transform.Cells]:
        """What stands in the graph beyond the projected step: cells by kind and step."""
        found: dict[tuple[str, int], list[int]] = {}
        shape = layer.shape
        rows = self._store.read(
            "projection/projected_beyond",
            run=self._run,
            layer=layer.name,
            space=shape.source,
            step=layer.projected_step,
            taps=shape.taps,
        )
        for row in rows:
            for kind in ("born", "died"):
                for step, code in row[kind]:
                    cell = shape.cell_of(row["source"], code)
                    found.setdefault((kind, step), []).append(cell)
        return {key: np.sort(np.array(cells)) for key, cells in found.items()}

    def _work(
        self,
        layers: dict[str, _Layer],
        done: Mapping[str, dict[tuple[str, int], transform.Cells]],
        last: int,
        room: int,
    ) -> Iterator[_Work]:
        """All that is to be written, in the order of the steps; a layer that would go over the limit stops there."""
        first = min(layer.projected_step for layer in layers.values()) + 1
        rows = self._store.read("masks/run_masks", run=self._run, layers=list(layers), first=first, last=last)
        for row in rows:
            layer = layers.get(row["layer"])
            if layer is None or row["step"] <= layer.projected_step:
                continue
            step = row["step"]
            mask = self._masks.get([row["digest"]])[row["digest"]]
            died, born = transform.changes(layer.mask, mask)
            if born.size > room:
                logger.warning(
                    "run %s, layer %s: its connections are projected up to step %s only; the next snapshot would take "
                    "the run over %s relationships",
                    self._run, layer.name, layer.projected_step, self._store.relationship_limit,
                )  # fmt: skip
                yield _Work(layer, step, "limit")
                del layers[layer.name]
                continue
            room -= born.size
            stand = done.get(layer.name, {})
            for cells in transform.chunks(
                transform.without(died, stand.get(("died", step), _NONE)), layer.shape, _BATCH
            ):
                yield _Work(layer, step, "died", cells)
            for cells in transform.chunks(
                transform.without(born, stand.get(("born", step), _NONE)), layer.shape, _BATCH
            ):
                yield _Work(layer, step, "born", cells)
            layer.mask = mask
            layer.projected_step = step
            layer.lifetimes += int(born.size)
            yield _Work(layer, step, "done", lifetimes=layer.lifetimes)

    def _write(self, batch: list[_Work]) -> None:
        number = self._batch + 1

        def work(tx: Transaction) -> None:
            held = tx.one(
                "projection/guard_projection", run=self._run, token=uuid.uuid4().hex, epoch=self._epoch, batch=number
            )
            if held is None or held["epoch"] != self._epoch:
                raise SupersededError
            if held["batch"] >= number:  # an earlier try was committed after all
                return
            # All layers at once; a connection may die and be born again within a batch, so step by step.
            cells = sorted((p for p in batch if p.cells.size), key=lambda p: (p.step, p.kind == "born"))
            for (step, kind), pieces in groupby(cells, key=lambda p: (p.step, p.kind)):
                self._write_cells(tx, step, kind, list(pieces))
            ends = {p.layer.id: [p.layer.id, p.step, p.lifetimes] for p in batch if p.kind == "done"}
            if ends:
                tx.run("projection/move_projected", rows=list(ends.values()))
            for piece in batch:
                if piece.kind == "limit":
                    tx.run("projection/set_projection", id=piece.layer.id, projection="limit")

        self._store.write(work)
        self._batch = number

    def _write_cells(self, tx: Transaction, step: int, kind: Kind, pieces: list[_Work]) -> None:
        groups: transform.Groups = []
        if kind == "born":
            targets: list[str] = []
            for p in pieces:
                theirs, more = transform.birth_groups(self._run, p.layer.name, p.layer.shape, p.cells, len(targets))
                targets += theirs
                groups += more
            rows = tx.run("projection/create_births", run=self._run, step=step, targets=targets, groups=groups)
        else:
            for p in pieces:
                groups += transform.death_groups(self._run, p.layer.name, p.layer.shape, p.cells)
            rows = tx.run("projection/set_deaths", step=step, groups=groups)
        written = {row["layer"]: row[kind] for row in rows}
        expected: dict[str, int] = {}
        for p in pieces:
            expected[p.layer.name] = expected.get(p.layer.name, 0) + p.cells.size
        for layer, count in expected.items():
            if written.get(layer, 0) != count:
                raise CorruptError(
                    f"run {self._run!r}, layer {layer!r}, step {step}: expected {count} connections to be {kind}, "
                    f"found {written.get(layer, 0)}",
                    hint="the projection does not match the masks: `topostrata verify`",
                )
