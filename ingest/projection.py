"""The projection of masks into the graph: neurons, and connections with the steps at which they were born and died.

Every birth and death follows from acknowledged masks, so a half-written step is incomplete, but never wrong. It does
not disturb queries at steps up to a layer's ``projected_step``. A killed projector leaves such a step behind; the next
one reads what was written and adds what is missing.

Of a run that is kept in the graph by its last N snapshots, what ended before them is taken away, a quarter of N
snapshots at a time. Its layers say first from which step on they are whole (``projected_from``), so nobody who asks
them is told less than is there; a projector that is killed meanwhile leaves more there than that, and never less.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import numpy as np

from topostrata.errors import Cancelled, CorruptError
from topostrata.ingest import transform
from topostrata.runs import RunLayer
from topostrata.store.graph import GraphStore, Transaction
from topostrata.store.masks import MaskStore
from topostrata.store.rows import VERIFY
from topostrata.store.runs import LayerMask, layers_of, masks_after
from topostrata.topology import LayerShape, Mask

logger = logging.getLogger(__name__)

_BATCH = 15_000  # relationships per transaction; measured: 10 to 20 thousand are best
_DEATHS = 1_000  # keys per statement: the embedded engine compares each connection with half of them
_NEURONS = 5_000  # neurons per transaction
_WALKED = 100_000  # relationships that a statement which takes dead ones away may look at
_NONE = np.empty(0, dtype=np.int64)


Kind = Literal["born", "died", "done", "limit"]


class SupersededError(Exception):
    """Another projector has taken over the run: it completes the work."""


@dataclass(slots=True)
class _Layer:
    id: str
    shape: LayerShape
    projected_step: int
    lifetimes: int
    start: int | None = None  # the step at which it begins in the graph, where that is not the run's first
    mask: Mask | None = None  # at the projected step, as soon as it is read


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

    def __init__(
        self, store: GraphStore, masks: MaskStore, run: str, epoch: int, stop: threading.Event | None = None
    ) -> None:
        """``stop`` ends it with ``Cancelled`` before the next transaction."""
        self._stop = stop
        self._store = store
        self._masks = masks
        self._run = run
        self._epoch = epoch
        self._batch = 0

    def bring_up(self, layers: Sequence[RunLayer], first: int, last: int, *, look: bool) -> None:
        """Project what is missing up to the step ``last``; with ``look``, first read what an earlier projector began.

        ``layers`` are all those of the run, ``first`` is its first step. Then what ended before the snapshots to keep
        is taken away.
        """
        for end in self._ends(layers, last):
            stopped = self._add(layers, first, end, look=look)
            if layers and layers[0].projected_last is not None:
                self._trim([y for y in layers if y.projection == "follow" and y.name not in stopped], first, end)
            if end < last:
                layers, look = self._now(), False

    def _now(self) -> Sequence[RunLayer]:
        return self._store.read_with(lambda tx: layers_of(tx, [self._run])[self._run])

    def _ends(self, layers: Sequence[RunLayer], last: int) -> list[int]:
        """The steps up to which to draw before what is not to be kept is taken away: the graph never holds them all."""
        drawn = {y.name: y.projected_step for y in layers if y.projection == "follow"}
        keep = layers[0].projected_last if layers else None
        if keep is None or not drawn or None in drawn.values():  # what is not there yet begins at the window
            return [last]
        name = min(drawn, key=lambda name: drawn[name] or 0)
        begun = drawn[name] or 0
        if self._window(name, keep, begun, last) is None:
            return [last]
        steps = [mask.step for mask in self._history([name], begun, last)]
        return [*steps[keep:-1:keep], last]

    def _add(self, layers: Sequence[RunLayer], first: int, last: int, *, look: bool) -> set[str]:
        """Project what is missing; gives the layers that stopped at the limit."""
        missing = [
            layer
            for layer in layers
            if layer.projection == "follow" and (layer.projected_step is None or layer.projected_step < last)
        ]
        if not missing:
            return set()
        self._make_neurons([layer for layer in missing if layer.projected_step is None])
        progress = {
            y.name: _Layer(
                y.id, y.shape, -1 if y.projected_step is None else y.projected_step, y.lifetimes,
                y.projected_from if y.projected_step is None else None,
            )
            for y in missing
        }  # fmt: skip
        names = set(progress)
        room = self._store.relationship_limit - sum(layer.lifetimes for layer in layers)
        done = {name: self._already(layer) for name, layer in progress.items()} if look else {}
        self._start_late([y for y in missing if y.projected_step is None], progress, done, first, last)
        batch: list[_Work] = []
        size = 0
        for work in self._work(progress, done, (first, last), room):
            if batch and size + work.cells.size > _BATCH:
                self._write(batch)
                batch, size = [], 0
            batch.append(work)
            size += work.cells.size
        if batch:
            self._write(batch)
        return names - set(progress)

    def _start_late(
        self,
        layers: Sequence[RunLayer],
        progress: Mapping[str, _Layer],
        done: Mapping[str, dict[tuple[str, int], transform.Cells]],
        first: int,
        last: int,
    ) -> None:
        """Let layers of which the graph has nothing begin at the snapshots to keep, where that spares steps.

        The step is written before anything is drawn: who goes on after this projector was killed begins there, too.
        """
        fresh = [y for y in layers if y.projected_from is None]
        keep = fresh[0].projected_last if fresh else None
        if keep is None or any(done.get(y.name) for y in fresh):
            return
        start = self._window(fresh[0].name, keep, first, last)
        if start is None:
            return
        ids = [y.id for y in fresh]
        self._guarded(lambda tx: tx.run("projection/set_window", ids=ids, step=start, trimming=False), half=True)
        for y in fresh:
            progress[y.name].start = start

    def _window(self, layer: str, keep: int, first: int, last: int) -> int | None:
        """The step of the first of so many last snapshots, or None where there are too few more to be worth it."""
        row = self._store.read("projection/window", first=f"{self._run}@{first}", last=f"{self._run}@{last}")
        if not row or row[0]["snapshots"] - keep < max(1, keep // 4):
            return None
        return deque((mask.step for mask in self._history([layer], first, last)), maxlen=keep)[0]

    def _trim(self, layers: Sequence[RunLayer], first: int, last: int) -> None:
        """Take away what ended before the snapshots to keep, and what an earlier projector left of that."""
        keep = layers[0].projected_last if layers else None
        if keep is None:
            return
        begun = layers[0].projected_from
        start = self._window(layers[0].name, keep, first if begun is None else begun, last)
        if start is None and not any(y.trimming for y in layers):
            return
        now = {y.name: y for y in self._now()}
        layers = [now[y.name] for y in layers]
        if start is not None and start != layers[0].projected_from:
            ids = [y.id for y in layers]
            self._guarded(lambda tx: tx.run("projection/set_window", ids=ids, step=start, trimming=True), half=False)
            layers = [replace(y, projected_from=start, trimming=True) for y in layers]
        for y in layers:
            if y.trimming:
                self._drop_dead(y)

    def _drop_dead(self, layer: RunLayer) -> None:
        space, step = layer.source, layer.projected_from
        many = max(1, min(_NEURONS // 10, _WALKED * space.size // max(1, layer.lifetimes)))
        first = 0
        while first < space.size:
            final = min(first + many, space.size)
            neurons = [f"{self._run}/{space.name}/{unit}" for unit in range(first, final)]
            dropped = _BATCH  # where an earlier try was committed although it seemed to fail, the page is asked again

            def work(tx: Transaction, neurons: list[str] = neurons, final: int = final) -> None:
                nonlocal dropped
                rows = tx.run("projection/drop_dead", neurons=neurons, layer=layer.name, step=step, limit=_BATCH)
                dropped = rows[0]["dropped"]
                more = final < space.size or dropped == _BATCH
                tx.run("projection/count_dropped", id=layer.id, dropped=dropped, trimming=more)

            self._guarded(work, half=False)
            if dropped < _BATCH:
                first = final

    def _masks_after(self, layers: Sequence[str], step: int) -> list[LayerMask]:
        return self._store.read_with(lambda tx: masks_after(tx, self._run, layers, step))

    def _history(self, layers: Sequence[str], first: int, last: int) -> Iterator[LayerMask]:
        """Which mask each layer has from one step to another, as the snapshots follow each other, read as it is used.

        Nothing here looks at the whole run, so that a push costs the same at its tenth and at its ten thousandth step.
        """
        at = first
        page = self._masks_after(layers, at)
        while page:
            yield from (mask for mask in page if mask.step <= last)
            at, before = page[-1].step, at
            if at >= last:
                return
            page = [mask for mask in self._masks_after(layers, at) if mask.step > at] if at > before else []
        raise CorruptError(
            f"run {self._run!r}: expected snapshots that follow each other up to step {last}, found none after {at}",
            hint=VERIFY,
        )

    def _make_neurons(self, layers: Sequence[RunLayer]) -> None:
        for space in dict.fromkeys(space for layer in layers for space in (layer.source, layer.target)):
            for first in range(0, space.size, _NEURONS):
                final = min(first + _NEURONS, space.size) - 1
                units: dict[str, object] = {"first": first, "last": final}
                query = "projection/create_neurons"
                if not space.plain:
                    query = "projection/create_indexed_neurons"
                    units = {"rows": transform.neuron_rows(space, first, final)}
                self._guarded(
                    lambda tx, q=query, s=space.name, u=units: tx.run(q, run=self._run, space=s, **u),  # type: ignore[misc]
                    half=True,
                )

    def _already(self, layer: _Layer) -> dict[tuple[str, int], transform.Cells]:
        """What the graph has beyond the projected step: cells by kind and step."""
        cells: dict[tuple[str, int], list[int]] = {}
        shape = layer.shape
        rows = self._store.read(
            "projection/projected_beyond",
            run=self._run,
            layer=shape.name,
            space=shape.source.name,
            step=layer.projected_step,
            taps=shape.taps,
        )
        for row in rows:
            for kind in ("born", "died"):
                for step, code in row[kind]:
                    target, tap = divmod(code, shape.taps)
                    cells.setdefault((kind, step), []).append(int(shape.cells_of(row["source"], target, tap)))
        return {key: np.sort(np.array(numbers)) for key, numbers in cells.items()}

    def _work(
        self,
        layers: dict[str, _Layer],
        done: Mapping[str, dict[tuple[str, int], transform.Cells]],
        ends: tuple[int, int],
        room: int,
    ) -> Iterator[_Work]:
        """All pieces to write, in the order of the steps; a layer that would exceed the limit stops before."""
        room = yield from self._first_masks(layers, done, ends[0], room)
        if not layers:
            return
        begun = min(layer.projected_step for layer in layers.values())
        for step, name, digest in self._history(list(layers), max(begun, ends[0]), ends[1]):
            layer = layers.get(name)
            if layer is None or step < layer.projected_step:
                continue
            mask = self._masks.get([digest])[digest]
            if step == layer.projected_step:
                layer.mask = mask
                continue
            if layer.mask is None and layer.projected_step >= 0:
                raise CorruptError(
                    f"layer {layer.id!r}: expected the snapshot of its projected step {layer.projected_step}, "
                    "found none",
                    hint=VERIFY,
                )
            died, born = transform.changes(layer.mask or layer.shape.empty(), mask)
            if born.size > room:
                yield self._limit(layer, step)
                del layers[name]
                continue
            room -= born.size
            stand = done.get(name, {})
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

    def _look_up(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Cancelled

    def _first_masks(
        self,
        layers: dict[str, _Layer],
        done: Mapping[str, dict[tuple[str, int], transform.Cells]],
        first: int,
        room: int,
    ) -> Generator[_Work, None, int]:
        """Begin the layers that begin late in the graph; gives how much room is left."""
        for layer in [y for y in layers.values() if y.start is not None]:
            room -= yield from self._first_mask(layer, done.get(layer.shape.name, {}), first, room)
            if layer.mask is None:
                del layers[layer.shape.name]
        return room

    def _first_mask(
        self, layer: _Layer, done: Mapping[tuple[str, int], transform.Cells], first: int, room: int
    ) -> Generator[_Work, None, int]:
        """What lived at the step at which a layer begins in the graph, with its births; gives how many those are."""
        assert layer.start is not None  # noqa: S101 - only such layers come here
        history = self._history([layer.shape.name], first, layer.start)
        mask, since = transform.since_when(
            layer.shape, ((m.step, self._masks.get([m.digest])[m.digest]) for m in history)
        )
        if mask.nnz > room:
            yield self._limit(layer, layer.start)
            return 0
        order = np.argsort(since, kind="stable")
        steps, cuts = np.unique(since[order], return_index=True)
        for step, cells in zip(steps.tolist(), np.split(mask.cells[order], cuts[1:]), strict=True):
            for part in transform.chunks(
                transform.without(cells, done.get(("born", step), _NONE)), layer.shape, _BATCH
            ):
                yield _Work(layer, step, "born", part)
        layer.mask, layer.projected_step, layer.lifetimes = mask, layer.start, mask.nnz
        yield _Work(layer, layer.start, "done", lifetimes=mask.nnz)
        return mask.nnz

    def _limit(self, layer: _Layer, step: int) -> _Work:
        logger.warning(
            "run %s, layer %s: its connections are projected up to step %s only; the next snapshot would take "
            "the run over %s relationships",
            self._run, layer.shape.name, layer.projected_step, self._store.relationship_limit,
        )  # fmt: skip
        return _Work(layer, step, "limit")

    def _guarded(self, write: Callable[[Transaction], object], *, half: bool) -> None:
        """Write in a transaction in which this projector still holds the run; what is written once stays so."""
        self._look_up()
        number = self._batch + 1

        def work(tx: Transaction) -> None:
            guard = tx.one(
                "projection/guard_projection",
                run=self._run,
                token=uuid.uuid4().hex,
                epoch=self._epoch,
                batch=number,
                half=half,
            )
            if guard is None or guard["epoch"] != self._epoch:
                raise SupersededError
            if guard["batch"] < number:  # else an earlier try was committed, although it seemed to fail
                write(tx)

        self._store.write(work)
        self._batch = number

    def _write(self, batch: list[_Work]) -> None:
        def work(tx: Transaction) -> None:
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

        # The pieces of a layer at a step follow each other, its end comes last.
        self._guarded(work, half=bool(batch[-1].cells.size))

    def _write_cells(self, tx: Transaction, step: int, kind: Kind, pieces: list[_Work]) -> None:
        write = self._write_births if kind == "born" else self._write_deaths
        written = write(tx, step, pieces)
        expected: dict[str, int] = {}
        for p in pieces:
            expected[p.layer.shape.name] = expected.get(p.layer.shape.name, 0) + p.cells.size
        for layer, count in expected.items():
            if written.get(layer, 0) != count:
                raise CorruptError(
                    f"run {self._run!r}, layer {layer!r}, step {step}: expected {count} connections to be {kind}, "
                    f"found {written.get(layer, 0)}",
                    hint="the projection does not match the masks: `topostrata verify`",
                )

    def _write_births(self, tx: Transaction, step: int, pieces: list[_Work]) -> dict[str, int]:
        """How many connections were born, by layer; all layers in one statement."""
        groups: transform.Groups = []
        targets: list[str] = []
        for p in pieces:
            theirs, more = transform.groups(self._run, p.layer.shape, p.cells, len(targets))
            targets += theirs
            groups += more
        rows = tx.run("projection/create_births", run=self._run, step=step, targets=targets, groups=groups)
        return {row["layer"]: row["born"] for row in rows}

    def _write_deaths(self, tx: Transaction, step: int, pieces: list[_Work]) -> dict[str, int]:
        """How many connections died, by layer; in a statement a key stands for one connection of one layer."""
        written: dict[str, int] = {}
        for p in pieces:
            shape = p.layer.shape
            for turn, keys in transform.deaths(self._run, shape, p.cells, _DEATHS):
                rows = tx.run(
                    "projection/set_deaths",
                    run=self._run,
                    layer=shape.name,
                    step=step,
                    keys=keys,
                    turn=turn,
                    **_cell_parameters(p.layer.id, shape),
                )
                written[shape.name] = written.get(shape.name, 0) + rows[0]["died"]
        return written


def _cell_parameters(layer: str, shape: LayerShape) -> dict[str, int]:
    """What a statement needs to compute a connection's cell, and the key of that."""
    return {
        "begin": transform.first_key(layer),
        "sources": shape.local_sources,
        "taps": shape.taps,
        "stride": shape.local_sources * shape.taps,
        "modulus": transform.KEYS,
    }


def give_keys(store: GraphStore, layer: RunLayer) -> int:
    """Give the living connections of a layer of an older archive the keys that new ones are born with; how many."""
    shape = layer.shape
    given = 0
    for first in range(0, shape.source.size, _NEURONS // 10):
        units = range(first, min(first + _NEURONS // 10, shape.source.size))
        rows = store.write(
            lambda tx, units=units: tx.run(  # type: ignore[misc]
                "projection/give_keys",
                neurons=[f"{layer.run}/{shape.source.name}/{unit}" for unit in units],
                layer=shape.name,
                **_cell_parameters(layer.id, shape),
            )
        )
        given += rows[0]["connections"]
    return given
