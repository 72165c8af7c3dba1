"""Brings the connections of runs up to their last snapshots: at once after a push, or later, for those that wait.

A run whose push was acknowledged with its masks alone says in that transaction that its connections wait, so no crash
forgets it. Whoever draws the connections of such a run says so with every batch; who looks for more to draw leaves it
alone for a minute after the last. What is asked for by name is drawn at once, and whoever was at it stops.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence

from topostrata.errors import Cancelled, NotFoundError
from topostrata.ingest.projection import Projector, SupersededError
from topostrata.runs import RunLayer
from topostrata.store.graph import GraphStore, Row, Transaction
from topostrata.store.masks import MaskStore
from topostrata.store.opening import index_keys, is_current
from topostrata.store.runs import layers_of

logger = logging.getLogger(__name__)


class _DrawnElsewhereError(Exception):
    """Somebody is at work on the connections of a run: it is left to them."""


class Drawer:
    """Writes connections of acknowledged snapshots. Several may work on one store: on a run, the last that took it."""

    def __init__(self, store: GraphStore, masks: MaskStore) -> None:
        self._store = store
        self._masks = masks
        self._current = self._told_of_format = False

    def project(self, run: str, *, stop: threading.Event | None = None) -> bool:
        """Write the connections of a run up to its last snapshot; this completes the work of a killed projector.

        Whoever is at it stops. False where it was not finished: another projector took over, or the archive's format
        is an earlier one. Raises ``Cancelled`` between two batches once ``stop`` is set.
        """
        return self._draw(run, *self._store.write(lambda tx: _take(tx, run)), stop)

    def draw_next(self, stop: threading.Event) -> str | None:
        """Write the connections of the run that waits longest and that nobody is at work on; None where there is none.

        Raises what ``project`` raises. A run that it failed on is free again after a minute.
        """
        for run in self.waiting():
            try:
                taken, layers = self._store.write(lambda tx, run=run: _take(tx, run, only_free=True))  # type: ignore[misc]
            except _DrawnElsewhereError:
                continue
            self._draw(run, taken, layers, stop)
            return run
        return None

    def waiting(self) -> list[str]:
        """The runs whose connections wait and that nobody is at work on, those first that wait longest."""
        runs = [row["run"] for row in self._store.read("projection/waiting")]
        return runs if runs and self._is_current() else []

    def _draw(self, run: str, taken: Row, layers: Sequence[RunLayer], stop: threading.Event | None) -> bool:
        last = taken["last_step"]
        if not self._is_current():
            return False
        if last is None:
            self._leave(run, taken, -1)
            return True
        if not layers:  # it was removed meanwhile, and waits until it is brought back
            return False
        projector = Projector(self._store, self._masks, run, taken["epoch"], stop)
        try:
            projector.bring_up(layers, taken["first_step"], last, look=taken["half"])
        except SupersededError:
            logger.info("run %s: another projector has taken over", run)
            return False
        except Cancelled:
            self._leave(run, taken, None)
            raise
        self._leave(run, taken, last)
        return True

    def _leave(self, run: str, taken: Row, step: int | None) -> None:
        """Say of a run that waited how far it was drawn; None where that was left unfinished."""
        if taken["waits"]:
            values = {"run": run, "token": uuid.uuid4().hex, "epoch": taken["epoch"], "step": step}
            self._store.write(lambda tx: tx.run("projection/leave_projection", **values))

    def _is_current(self) -> bool:
        """Whether connections can be written; what waits is told once."""
        if not self._current:
            self._current = is_current(self._store)
            if self._current and self._store.is_embedded:  # one of before has no such index
                index_keys(self._store)
            if not (self._current or self._told_of_format):
                self._told_of_format = True
                logger.warning(
                    "%s: this archive is of an earlier format: snapshots are stored, but their connections do not "
                    "enter the graph before `topostrata migrate`", self._store.location,
                )  # fmt: skip
        return self._current


def _take(tx: Transaction, run: str, *, only_free: bool = False) -> tuple[Row, Sequence[RunLayer]]:
    """Become the projector of a run; with ``only_free`` only where its connections wait and nobody is at work."""
    taken = tx.one("projection/take_projection", run=run)
    if taken is None:
        raise NotFoundError(f"run {run!r}: expected it in the archive, found none")
    if only_free and (taken["drawn"] or not taken["waits"]):
        raise _DrawnElsewhereError
    return taken, layers_of(tx, [run])[run]
