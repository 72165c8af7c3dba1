"""Runs held in memory that can be exported as an archive can: what a file is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tests.histories import random_history
from topostrata.ingest.formats.export_file import RunRecord
from topostrata.runs import Parent, Run, RunLayer, Snapshot, StepMetrics
from topostrata.topology import Topology

BEGIN = datetime(2026, 3, 1, 8, 0, 0, 123_000, tzinfo=UTC)


@dataclass
class HeldRuns:
    """Runs, their snapshots and topologies."""

    records: list[RunRecord] = field(default_factory=list)
    histories: dict[str, list[Snapshot]] = field(default_factory=dict)
    topologies: dict[str, Topology] = field(default_factory=dict)
    beside: dict[str, list[StepMetrics]] = field(default_factory=dict)
    location: str = "memory"

    def add(self, run: Run, *history: tuple[int, Topology], **metrics: float) -> None:
        """A run with its history; every snapshot has the metrics, and its place among them."""
        for place, (step, topology) in enumerate(history):
            snapshot = Snapshot(
                run.id,
                step,
                topology.digest,
                topology.nnz,
                BEGIN + timedelta(hours=place),
                epoch=place / 2 if place % 3 else None,
                metrics={**metrics, "place": float(place)},
            )
            self.histories.setdefault(run.id, []).append(snapshot)
            self.topologies[snapshot.id] = topology
        steps = [step for step, _ in history]
        run = replace(
            run,
            snapshots=len(steps),
            first_step=steps[0] if steps else None,
            last_step=steps[-1] if steps else None,
        )
        wiring = history[0][1].wiring if history else None
        names = [] if wiring is None else [y.name for y in wiring if y.name not in wiring.shared_with]
        self.records.append(RunRecord(run, wiring, tuple(names[::2])))

    def runs(self) -> list[Run]:
        return sorted((record.run for record in self.records), key=lambda run: run.id)

    def run(self, run: str) -> Run:
        return next(record.run for record in self.records if record.run.id == run)

    def snapshots(self, run: str) -> list[Snapshot]:
        return self.histories.get(run, [])

    def step_metrics(self, run: str) -> Iterator[StepMetrics]:
        yield from self.beside.get(run, [])

    def layers(self, run: str) -> tuple[RunLayer, ...]:
        record = next(record for record in self.records if record.run.id == run)
        return tuple(
            RunLayer(
                run,
                shape,
                projection="follow" if shape.name in record.projected else "off",
                shared_with=record.wiring.shared_with.get(shape.name) if record.wiring is not None else None,
            )
            for shape in record.wiring or ()
        )

    def topology(self, snapshot: Snapshot) -> Topology:
        return self.topologies[snapshot.id]


def family(seed: int) -> HeldRuns:
    """Four runs: a root, its child, one with both as parents, and one that is declared and still empty."""
    runs = HeldRuns()
    histories = [random_history(seed + k) for k in range(3)]
    shared = histories[0].snapshots
    first, last = shared[0][0], shared[-1][0]
    runs.add(
        Run("root", "the root", "finished", BEGIN, config={"lr": 0.1, "\N{SNOWMAN}": [1, None]}), *shared, loss=0.5
    )
    runs.add(
        Run("a-child", "a-child", "open", BEGIN, tags=("x", "b"), parents=(Parent("root", last, "fork"),)), *shared
    )
    both = (Parent("a-child", first, "declared"), Parent("root", first, "perturbation"))
    runs.add(Run("both", "both", "failed", BEGIN, parents=both), *histories[1].snapshots)
    runs.add(Run("empty", "empty", "open", BEGIN, parents=(Parent("both", histories[1].steps[0], "pruned"),)))
    return runs
