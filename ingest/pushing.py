"""Pushes files into a run: all files are read once before anything is written, then read again and pushed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.ingest.formats.reading import Bias, Frame, Orientation, read
from topostrata.ingest.load import Loader, Outcome, Projection
from topostrata.refs import check_run_id, check_step
from topostrata.runs import Parent
from topostrata.store.runs import RunStore
from topostrata.topology import Zeros


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
    """Files with ``count`` good snapshots of these ``layers``: all were read once."""

    path: Path
    steps: frozenset[int]
    bias: Bias
    zeros: Zeros | None
    orientation: Orientation | None
    count: int = 0
    layers: tuple[str, ...] = ()

    def frames(self) -> Iterator[Frame]:
        """The snapshots, one in memory at a time. ``steps`` gives the snapshot of a single file its step."""
        missing = set(self.steps)
        for frame in read(self.path, bias=self.bias, zeros=self.zeros, orientation=self.orientation):
            if not self.steps or frame.step in missing:
                missing.discard(frame.step)
                yield frame
            elif frame.source == self.path and len(self.steps) == 1:
                yield replace(frame, step=missing.pop())
        if missing:
            raise InvalidInputError(f"{self.path}: expected epochs {sorted(missing)}, found none of that number")

    def check_projection(self, projection: Projection) -> None:
        """Raise an error if the projection names a layer that the files do not have."""
        if isinstance(projection, str):
            projection = [] if projection in {"all", "none"} else [projection]
        if unknown := set(projection) - set(self.layers):
            raise NotFoundError(f"layer {min(unknown)!r}: expected one of the layers {', '.join(sorted(self.layers))}")


def check_files(
    path: str | os.PathLike[str],
    *,
    steps: Iterable[int] = (),
    bias: Bias = "auto",
    zeros: Zeros | None = None,
    orientation: Orientation | None = None,
) -> CheckedFiles:
    """Read all snapshots of a file or directory once, so that a bad file half-way leaves nothing half pushed.

    ``steps`` are those to push, all by default; for a single file its step. The other arguments are those of
    ``ts.read``.
    """
    files = CheckedFiles(Path(path), frozenset(check_step(step) for step in steps), bias, zeros, orientation)
    count, layers = 0, dict[str, None]()
    for frame in files.frames():
        count += 1
        layers |= dict.fromkeys(layer.name for layer in frame.topology.layers)
    return replace(files, count=count, layers=tuple(layers))


def push_files(
    loader: Loader,
    runs: RunStore,
    files: CheckedFiles,
    run: str,
    *,
    parents: Iterable[Parent] = (),
    tags: Iterable[str] = (),
    projection: Projection = "all",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Pushed:
    """Push checked files into a run, which is created if it is new."""
    check_run_id(run)
    files.check_projection(projection)
    descent, labels = list(parents), list(tags)
    # A new run has its parents from the start; an existing run gets them only after its snapshots were accepted.
    is_new = not runs.has_run(run)
    if is_new and (descent or labels):
        loader.create_run(run, tags=labels, parents=descent)
    pushed = []
    for frame in files.frames():
        outcome = loader.push(
            run, frame.step, frame.topology, epoch=frame.epoch, metrics=frame.metrics, projection=projection
        )
        pushed.append(PushedSnapshot(frame.step, outcome, frame.topology.nnz))
        progress(len(pushed), files.count)
    changed = is_new
    if not is_new and (descent or labels):
        changed = loader.update_run(run, tags=labels, parents=descent)
    return Pushed(run, tuple(pushed), changed)
