"""Pushes files into a run: all files are read once before anything is written, then read again and pushed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.ingest.formats.reading import Frame, ReadOptions, read
from topostrata.ingest.formats.run_directory import steps_in
from topostrata.projections import Projection, layers_in
from topostrata.refs import check_run_id, check_step
from topostrata.runs import Connections, LayerMetrics, Parent, check_tags
from topostrata.topology import Topology, Wiring

if TYPE_CHECKING:
    from topostrata.ingest.load import Outcome


class Target(Protocol):
    """What files are pushed to; ``topostrata.archive.Archive`` is one."""

    def has_run(self, run: str, /) -> bool:
        """Whether there is such a run."""

    def create_run(self, run: str, /, *, tags: Iterable[str], parents: Iterable[Parent]) -> None:
        """Create a run; see ``ingest.load``."""

    def update_run(self, run: str, /, *, tags: Iterable[str], parents: Iterable[Parent]) -> bool:
        """Add tags and parents to a run; see ``ingest.load``."""

    def push(
        self,
        run: str,
        step: int,
        topology: Topology,
        /,
        *,
        epoch: float | None,
        metrics: Mapping[str, float] | None,
        layer_metrics: LayerMetrics | None,
        projection: Projection,
        connections: Connections,
    ) -> Outcome:
        """Store one snapshot; see ``ingest.load``."""


def _unheard(_done: int, _total: int) -> None:
    """Progress that nobody follows."""


@dataclass(frozen=True, slots=True)
class PushedSnapshot:
    """One snapshot of a push: ``"added"``, or ``"unchanged"`` if the same one was there; ``nnz`` connections."""

    step: int
    outcome: Outcome
    nnz: int


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push of files did; ``run_changed`` says whether the run is new or gained a tag or a parent."""

    run: str
    snapshots: tuple[PushedSnapshot, ...]
    run_changed: bool


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """Files that hold snapshots and were read through once; ``count`` snapshots with these ``layers``.

    ``wiring`` is that of the first snapshot; ``evidence`` says how it is known, ``notes`` what was left out and what
    may be wrong (``Frame``).
    """

    path: Path
    steps: frozenset[int]
    options: ReadOptions
    count: int = 0
    layers: tuple[str, ...] = ()
    wiring: Wiring | None = None
    evidence: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def frames(self) -> Iterator[Frame]:
        """The snapshots, one in memory at a time. ``steps`` gives the snapshot of a single file its step."""
        missing = set(self.steps)
        for frame in read(self.path, steps=self.steps, **self.options):
            if not self.steps or frame.step in missing:
                missing.discard(frame.step)
                yield frame
            elif frame.source == self.path and len(self.steps) == 1:
                yield replace(frame, step=missing.pop())
        if missing:
            raise InvalidInputError(f"{self.path}: expected epochs {sorted(missing)}, found none of that number")

    def total(self) -> int:
        """How many snapshots there are by the names of files, before any is read; a file that holds several is one."""
        if self.steps or not self.path.is_dir():
            return max(1, len(self.steps))
        return len(steps_in(self.path, self.options.get("step_from"))[0])

    def check_projection(self, projection: Projection) -> None:
        """Raise an error if the projection names a layer that the files do not have."""
        if unknown := set(layers_in(projection) or ()) - set(self.layers):
            raise NotFoundError(f"layer {min(unknown)!r}: expected one of the layers {', '.join(sorted(self.layers))}")


def check_files(
    path: str | os.PathLike[str],
    *,
    steps: Iterable[int] = (),
    progress: Callable[[int, int], None] = _unheard,
    **options: Unpack[ReadOptions],
) -> CheckedFiles:
    """Read all snapshots of a file or directory once, so that a bad file half-way leaves nothing half pushed.

    ``steps`` are those to push, all by default; for a single file its step. ``options`` are those of ``ts.read``,
    ``progress`` is called with (done, total) snapshots: with 0 before all are looked at, then as each is read.
    """
    files = CheckedFiles(Path(path), frozenset(check_step(step) for step in steps), options)
    wiring: Wiring | None = None
    evidence: tuple[str, ...] = ()
    steps_read, layers, notes = list[int](), dict[str, None](), dict[str, None]()
    total = files.total()
    progress(0, total)
    for frame in files.frames():
        if wiring is None:
            wiring, evidence = frame.topology.wiring, frame.evidence
        steps_read.append(frame.step)
        layers |= dict.fromkeys(layer.name for layer in frame.topology.layers)
        notes |= dict.fromkeys(frame.notes)
        progress(len(steps_read), max(total, len(steps_read)))
    # Only what was read now is pushed: in a run that is being written there is more the next time.
    return CheckedFiles(
        files.path, frozenset(steps_read), options, len(steps_read), tuple(layers), wiring, evidence, tuple(notes)
    )


def push_files(
    archive: Target,
    files: CheckedFiles,
    run: str,
    *,
    parents: Iterable[Parent] = (),
    tags: Iterable[str] = (),
    projection: Projection = "all",
    connections: Connections = "now",
    progress: Callable[[int, int], None] = _unheard,
) -> Pushed:
    """Push checked files into a run, which is created if it is new."""
    check_run_id(run)
    files.check_projection(projection)
    descent, labels = list(parents), check_tags(tags)
    # A new run has its parents from the start; an existing run gets them only after its snapshots were accepted.
    is_new = not archive.has_run(run)
    if is_new and (descent or labels):
        archive.create_run(run, tags=labels, parents=descent)
    pushed = []
    for frame in files.frames():
        outcome = archive.push(
            run,
            frame.step,
            frame.topology,
            epoch=frame.epoch,
            metrics=frame.metrics,
            layer_metrics=frame.layer_metrics,
            projection=projection,
            connections=connections,
        )
        pushed.append(PushedSnapshot(frame.step, outcome, frame.topology.nnz))
        progress(len(pushed), files.count)
    changed = is_new
    if not is_new and (descent or labels):
        changed = archive.update_run(run, tags=labels, parents=descent)
    return Pushed(run, tuple(pushed), changed)
