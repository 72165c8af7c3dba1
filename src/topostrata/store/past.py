"""What was changed after a moment, and answers without it.

A moment is a count of acknowledgements. Nearly all that is acknowledged is added, and stays: so an earlier moment is
what is there now, without what came later. The archive keeps of each change how it was before
(``Transaction.changes``), and the earliest change after the moment tells how it was then.

Whoever answers reads first, and asks for the changes after that: a change that comes in between is undone too, as it
was before it in both.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from topostrata.errors import InvalidInputError

if TYPE_CHECKING:
    from topostrata.runs import How, LayerMetrics, Snapshot, StepMetrics

CLOCK = "clock"  # the name of the one node that counts what is acknowledged

_PAGE = 1000
_BEYOND = 2**31  # after all places of a moment
_OF_RUN = ("name", "status", "tags")


Row = dict[str, Any]


class Asked(Protocol):
    """What answers named queries: a transaction."""

    def run(self, name: str, /, **parameters: Any) -> list[Row]:
        """All rows of the query."""


class Past:
    """The changes after a moment, as far as they were looked at. Threads may share it."""

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self._upto, self._looked = moment, -1
        self._looking = threading.Lock()
        self._removed: set[str] = set()  # those that are now
        self._made: set[str] = set()  # runs that were made later
        self._cut: dict[str, int] = {}  # run -> the first step of its later snapshots
        self._before: dict[tuple[str, str], Any] = {}  # (run, kind) -> how it was
        self._parents: dict[
            str, dict[tuple[str, int], How | None]
        ] = {}  # run -> (parent, step) -> how; None: not there
        self._added: dict[tuple[str, str, int], dict[str | None, set[str]]] = {}  # (kind, run, step) -> layer -> names
        self._new: set[tuple[str, int]] = set()  # (run, step) of later step metrics

    def look(self, tx: Asked) -> None:
        """Learn what was changed until now; ``InvalidInputError`` where the moment can no longer be asked about."""
        with self._looking:
            if clock_of(tx)[0] <= self._looked:  # less: another thread has seen more, which undoes as much
                return
            removed = {row["id"] for row in tx.run("runs/removed_runs")}
            last, earliest = clock_of(tx)
            self.check(last, earliest)
            later = {"since": self._upto, "until": last}
            for row in tx.run("moments/later_snapshots", **later) if last > self._upto else ():
                self._cut.setdefault(row["run"], row["step"])
            for row in rows_of(tx, self._upto, last, without=["snapshot"]):
                self._note(row)
            self._removed = removed  # not before it is known which of them were removed later: others read on
            self._upto = self._looked = last

    def check(self, last: int, earliest: int) -> None:
        """Raise ``InvalidInputError`` where the moment has not come yet, or something of it was purged since."""
        if earliest <= self.moment <= last:
            return
        why = "what was purged since was there before" if self.moment < earliest else "later ones have not come yet"
        raise InvalidInputError(
            f"moment: expected {earliest} to {last}, found {self.moment}: {why}",
            hint="`topostrata changes` lists what was changed at which moment",
        )

    def _note(self, row: Row) -> None:
        kind, run, step, details = row["kind"], row["run"], row["step"], json.loads(row["details"])
        if kind == "run":
            self._made.add(run)
        elif kind in _OF_RUN or kind == "removed":
            self._before.setdefault((run, kind), details["before"])
        elif kind == "parent":
            self._parents.setdefault(run, {}).setdefault((details["parent"], details["step"]), details["before"])
        elif kind in {"metrics", "step-metrics"}:
            added = self._added.setdefault((kind, run, step), {})
            added.setdefault(None, set()).update(details["names"])
            for layer, names in details["layers"].items():
                added.setdefault(layer, set()).update(names)
            if details.get("new"):
                self._new.add((run, step))

    def has(self, run: str) -> bool:
        """Whether the run was there, not removed."""
        return run not in self._made and not self._before.get((run, "removed"), run in self._removed)

    def steps(self, run: str, steps: Iterable[int]) -> list[int]:
        """Those of a run's steps at which it had a snapshot: a run takes its snapshots in the order of their steps."""
        cut = self._cut.get(run)
        return [step for step in steps if cut is None or step < cut] if self.has(run) else []

    def has_later(self, run: str) -> bool:
        """Whether the run took snapshots later."""
        return run in self._cut

    def row_of(self, row: Row) -> Row:
        """The row of a run with the name, status and tags that it had."""
        return row | {kind: self._before[row["id"], kind] for kind in _OF_RUN if (row["id"], kind) in self._before}

    def parents(self, run: str, hows: Mapping[tuple[str, int], How]) -> dict[tuple[str, int], How]:
        """How the run descended from which (parent, step); ``hows`` are those of now."""
        with self._looking:
            then: dict[tuple[str, int], How | None] = {**hows, **self._parents.get(run, {})}
        return {place: how for place, how in then.items() if how is not None}

    def children(self) -> set[str]:
        """The runs whose parents were changed later."""
        with self._looking:
            return set(self._parents)

    def snapshots(self, snapshots: Iterable[Snapshot]) -> list[Snapshot]:
        """Those of the snapshots that were there, with the metrics of their own that they had."""
        return [
            replace(entry, metrics=self._left("metrics", entry.run, entry.step, None, entry.metrics))
            for entry in snapshots
            if self.steps(entry.run, [entry.step])
        ]

    def layer_metrics(self, of_snapshots: Mapping[str, LayerMetrics]) -> dict[str, dict[str, dict[str, float]]]:
        """The metrics that the layers of snapshots, by their ids, had: only of layers that had some."""
        then = {}
        for id_, layers in of_snapshots.items():
            run, _, step = id_.rpartition("@")
            then[id_] = self._layers("metrics", run, int(step), layers)
        return then

    def step_metrics(self, entries: Iterable[StepMetrics]) -> list[StepMetrics]:
        """The metrics that runs had at steps beside their snapshots."""
        kind = "step-metrics"
        return [
            replace(
                entry,
                metrics=self._left(kind, entry.run, entry.step, None, entry.metrics),
                layer_metrics=self._layers(kind, entry.run, entry.step, entry.layer_metrics),
            )
            for entry in entries
            if self.has(entry.run) and (entry.run, entry.step) not in self._new
        ]

    def _layers(self, kind: str, run: str, step: int, layers: LayerMetrics) -> dict[str, dict[str, float]]:
        then = {layer: self._left(kind, run, step, layer, metrics) for layer, metrics in layers.items()}
        return {layer: metrics for layer, metrics in then.items() if metrics}

    def _left(
        self, kind: str, run: str, step: int, layer: str | None, metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """Metrics without those that were added later."""
        added = self._added.get((kind, run, step), {}).get(layer, set())
        return {name: value for name, value in metrics.items() if name not in added}


def clock_of(tx: Asked) -> tuple[int, int]:
    """The last moment, and the earliest that can be asked about; an archive of before has counted nothing yet."""
    rows = tx.run("moments/clock", name=CLOCK)
    return (rows[0]["last"], rows[0]["earliest"]) if rows else (0, 0)


def rows_of(tx: Asked, since: int, until: int, *, without: list[str]) -> Iterator[Row]:
    """The changes after one moment up to another, but for some kinds, read by pages."""
    if since >= until:  # also in an archive of before, which has no index of changes yet
        return
    at, place = since, _BEYOND
    while page := tx.run("moments/changes", since=at, place=place, until=until, without=without, limit=_PAGE):
        yield from page
        if len(page) < _PAGE:
            return
        at, place = page[-1]["moment"], page[-1]["place"]
