"""Moves whole runs: to a file, from a file, and from one archive to another.

A move writes only what the target does not have, so an interrupted move is resumed by starting it again. Before
anything is written, all that both sides have is compared: a conflict stops the move with nothing written. At the end
every snapshot of the source is read back from the target and its digest is computed again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from topostrata.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError, TopostrataError
from topostrata.ingest.formats import export_file
from topostrata.ingest.formats.export_file import ExportFile, RunRecord
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.projections import Projection
from topostrata.runs import LayerMetrics, Parent, Run, RunLayer, Snapshot, Status, StepMetrics
from topostrata.store.rows import VERIFY
from topostrata.store.runs import wiring_of
from topostrata.topology import Topology, Wiring

Progress = Callable[[int, int], None]
_LOOKS = 10  # at runs that grow while they are read


class Source(Protocol):
    """What a move reads from; ``topostrata.archive.Archive`` is one."""

    @property
    def location(self) -> str:
        """Where it is."""

    def runs(self) -> list[Run]:
        """Every run by its id."""

    def run(self, run: str, /) -> Run:
        """One run."""

    def snapshots(self, run: str, /) -> list[Snapshot]:
        """Every snapshot of a run by its step."""

    def step_metrics(self, run: str, /) -> Iterator[StepMetrics]:
        """The metrics of a run beside its snapshots by their steps."""

    def layers(self, run: str, /) -> tuple[RunLayer, ...]:
        """The layers of a run."""

    def topology(self, ref: Snapshot, /) -> Topology:
        """The wiring of a snapshot, checked against its digest."""


class Target(Source, Protocol):
    """What a move writes to; ``topostrata.archive.Archive`` is one."""

    def create_run(
        self,
        run: str,
        /,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        created_at: datetime | None = None,
    ) -> None:
        """Create a run; see ``ingest.load``."""

    def update_run(
        self,
        run: str,
        /,
        *,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        status: Status | None = None,
    ) -> bool:
        """Add tags and parents to a run, or set its status; see ``ingest.load``."""

    def push(
        self,
        run: str,
        step: int,
        topology: Topology,
        /,
        *,
        epoch: float | None = None,
        metrics: Mapping[str, float] | None = None,
        layer_metrics: LayerMetrics | None = None,
        recorded_at: datetime | None = None,
        projection: Projection = (),
    ) -> object:
        """Store one snapshot; see ``ingest.load``."""

    def push_metrics(
        self,
        run: str,
        step: int,
        metrics: Mapping[str, float],
        /,
        *,
        layer_metrics: LayerMetrics,
        epoch: float | None,
        recorded_at: datetime | None,
    ) -> object:
        """Store metrics of a run at a step; see ``ingest.load``."""

    def reopened(self) -> Source:
        """The same archive, without anything that this client remembers."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What the written file holds, and its size in bytes."""

    runs: tuple[str, ...]
    snapshots: int
    topologies: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did: the target now has all ``snapshots``, and ``added`` of them are new there."""

    runs: tuple[str, ...]
    runs_added: tuple[str, ...]
    snapshots: int
    added: int

    @property
    def unchanged(self) -> int:
        """Snapshots that were there already."""
        return self.snapshots - self.added


def export(
    archive: Source,
    path: Path,
    *,
    runs: Iterable[str] | str | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Exported:
    """Write runs (all by default) and their ancestors to one file, whole or not at all.

    The file gets its name once everything in it is on the disk, and replaces a file of that name. Equal runs give equal
    bytes.
    """
    source = ArchiveRuns(archive, runs)
    with whole_file(path) as stream:
        return _written(archive, source, stream, progress)


def export_into(archive: Source, stream: BinaryIO, *, runs: Iterable[str] | str | None, progress: Progress) -> Exported:
    """What ``export`` writes, into an empty file that is open for reading, too."""
    return _written(archive, ArchiveRuns(archive, runs), stream, progress)


def _written(archive: Source, source: ArchiveRuns, stream: BinaryIO, progress: Progress) -> Exported:
    counts, _ = export_file.write(
        stream, source.records, source.snapshots, archive.topology, archive.step_metrics, progress=progress
    )
    size = stream.seek(0, os.SEEK_END)
    return Exported(tuple(record.run.id for record in source.records), counts.snapshots, counts.topologies, size)


def import_(
    path: Path,
    archive: Target,
    *,
    runs: Iterable[str] | str | None = None,
    progress: Progress = lambda _done, _total: None,
    limits: Limits = DEFAULT,
) -> Moved:
    """Bring runs of an exported file into an archive; the whole file is checked before anything is written.

    All by default, but for those of a backup that were removed: of these, those that are named or that others descend
    from.
    """
    with ExportFile(path, limits=limits) as source:
        chosen = _FileRuns(source, runs)
        source.check(progress=lambda done, total: progress(done, 3 * total))
        total = source.counts.snapshots
        return bring(chosen, archive, lambda done, _: progress(total + done, 3 * total))


def copy(
    source: Source,
    target: Target,
    *,
    runs: Iterable[str] | str | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Moved:
    """Copy runs (all by default) and their ancestors from one archive to another."""
    return bring(ArchiveRuns(source, runs), target, progress)


class Histories(Protocol):
    """Runs in order of descent, each with its snapshots: an open file, or an archive."""

    where: str

    def histories(self) -> Iterator[tuple[RunRecord, Iterator[Snapshot]]]:
        """Each run with its snapshots by their steps."""

    def step_metrics(self) -> Iterator[tuple[RunRecord, Iterator[StepMetrics]]]:
        """Each run with its metrics beside its snapshots."""

    def topology(self, record: RunRecord, snapshot: Snapshot, /) -> Topology:
        """The wiring of a snapshot of a run."""


class ArchiveRuns:
    """The runs of an archive as they were when the move began; snapshots pushed later need another move."""

    def __init__(self, archive: Source, runs: Iterable[str] | str | None) -> None:
        self.where = archive.location
        self._archive = archive
        self.records = _records(archive, runs)
        self._lasts = {record.run.id: record.run.last_step for record in self.records}

    def histories(self) -> Iterator[tuple[RunRecord, Iterator[Snapshot]]]:
        """Each run with its snapshots."""
        for record in self.records:
            yield record, self.snapshots(record)

    def has(self, ref: str) -> bool:
        """Whether ``run@step`` is one of the snapshots that the runs had when the move began."""
        run, _, step = ref.rpartition("@")
        last = self._lasts.get(run)
        return last is not None and int(step) <= last

    def snapshots(self, record: RunRecord) -> Iterator[Snapshot]:
        """The snapshots that a run had when the move began."""
        last = record.run.last_step
        if last is not None:
            yield from takewhile(lambda snapshot: snapshot.step <= last, self._archive.snapshots(record.run.id))

    def step_metrics(self) -> Iterator[tuple[RunRecord, Iterator[StepMetrics]]]:
        """Each run with its metrics beside its snapshots."""
        for record in self.records:
            yield record, self._archive.step_metrics(record.run.id)

    def topology(self, _record: RunRecord, snapshot: Snapshot) -> Topology:
        """The wiring of a snapshot."""
        return self._archive.topology(snapshot)


class _FileRuns:
    """Some runs of a file with all that they descend from; where none are named, of those that were not removed."""

    def __init__(self, file: ExportFile, runs: Iterable[str] | str | None) -> None:
        self.where = file.where
        self._file = file
        ids = [record.run.id for record in file.records]
        if runs is None:
            self._wanted = {record.run.id for record in file.records if record.removed_at is None}
        else:
            self._wanted = {runs} if isinstance(runs, str) else set(runs)
        if missing := sorted(self._wanted - set(ids)):
            raise NotFoundError(
                f"run {missing[0]!r}: expected it in {file.where}, found none",
                hint=f"it holds {len(ids)} runs: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}",
            )
        for record in reversed(file.records):  # children before the parents that they need
            if record.run.id in self._wanted:
                self._wanted |= {parent.run for parent in record.run.parents}

    def histories(self) -> Iterator[tuple[RunRecord, Iterator[Snapshot]]]:
        return ((record, snapshots) for record, snapshots in self._file.histories() if record.run.id in self._wanted)

    def step_metrics(self) -> Iterator[tuple[RunRecord, Iterator[StepMetrics]]]:
        return ((record, entries) for record, entries in self._file.step_metrics() if record.run.id in self._wanted)

    def topology(self, record: RunRecord, snapshot: Snapshot) -> Topology:
        return self._file.topology(record, snapshot)


def compare(source: Histories, target: Source) -> tuple[dict[str, Run], int]:
    """The runs that the target has, and how many snapshots the source has; an error where they differ."""
    before = {run.id: run for run in target.runs()}
    total = 0
    for record, snapshots in source.histories():
        _check_run(record, before.get(record.run.id), target)
        total += sum(1 for _ in _compared(record, snapshots, target, before))
    _check_metrics(source, target, before)
    return before, total


def bring(source: Histories, target: Target, progress: Progress) -> Moved:
    """Write what the target has not, and read all of it back."""
    before, total = compare(source, target)
    done = added = 0
    for record, snapshots in source.histories():
        run = record.run
        if run.id in before:
            target.update_run(run.id, tags=run.tags, parents=run.parents)
        else:
            target.create_run(
                run.id,
                name=run.name,
                config=run.config,
                tags=run.tags,
                parents=run.parents,
                created_at=run.created_at,
            )
        last = None
        for snapshot, there in _compared(record, snapshots, target, before):
            if there is None or _numbers(snapshot).items() - _numbers(there).items():
                _push(source, target, record, snapshot)
            added += there is None
            last = snapshot
            done += 1
            progress(done, 2 * total)
        _finish(source, target, record, last)
    _bring_metrics(source, target)
    for record, snapshots in source.histories():
        for _ in _verified(source.where, record, snapshots, target):
            done += 1
            progress(done, max(done, 2 * total))
    runs = tuple(record.run.id for record, _ in source.histories())
    return Moved(runs, tuple(run for run in runs if run not in before), total, added)


def _push(source: Histories, target: Target, record: RunRecord, snapshot: Snapshot) -> None:
    target.push(
        snapshot.run,
        snapshot.step,
        source.topology(record, snapshot),
        epoch=snapshot.epoch,
        metrics=snapshot.metrics,
        layer_metrics=snapshot.layer_metrics,
        recorded_at=snapshot.recorded_at,
        projection=record.projected,
    )


def _bring_metrics(source: Histories, target: Target) -> None:
    """Push what the runs have beside their snapshots, and read it back."""
    for _, entries in source.step_metrics():
        for entry in entries:
            target.push_metrics(
                entry.run,
                entry.step,
                entry.metrics,
                layer_metrics=entry.layer_metrics,
                epoch=entry.epoch,
                recorded_at=entry.recorded_at,
            )
    reopened = target.reopened()
    for record, entries in source.step_metrics():
        for entry, there in _side_by_side(entries, reopened.step_metrics(record.run.id)):
            if there is None or not _numbers(entry).items() <= _numbers(there).items():
                raise CorruptError(f"{entry.id}: expected its metrics in {target.location} as in {source.where}")


def _check_metrics(source: Histories, target: Source, before: Container[str]) -> None:
    """What both sides have beside the snapshots of a run must agree."""
    for record, entries in source.step_metrics():
        if record.run.id in before:
            for entry, there in _side_by_side(entries, target.step_metrics(record.run.id)):
                if there is not None:
                    _check_numbers(entry, there, target.location)


def _side_by_side(
    ours: Iterable[StepMetrics], theirs: Iterator[StepMetrics]
) -> Iterator[tuple[StepMetrics, StepMetrics | None]]:
    """Each entry with the one that the other side has at its step; both sides in the order of their steps."""
    there = next(theirs, None)
    for entry in ours:
        while there is not None and there.step < entry.step:
            there = next(theirs, None)
        yield entry, there if there is not None and there.step == entry.step else None


def _finish(source: Histories, target: Target, record: RunRecord, last: Snapshot | None) -> None:
    """Finish a run whose snapshots are there: its projection, if an earlier move was killed in it, and its status."""
    now = target.run(record.run.id)
    missing = [layer for layer in target.layers(now.id) if layer.projected_step != now.last_step]
    if last is not None and any(layer.projection == "follow" for layer in missing):
        _push(source, target, record, last)
    if now.last_step == (last.step if last else None) and now.status != record.run.status:
        target.update_run(now.id, status=record.run.status)


def _check_run(record: RunRecord, there: Run | None, target: Source) -> None:
    """A run that is there already must be the same run."""
    if there is None:
        return
    run = record.run
    for what, ours, theirs in (
        ("name", run.name, there.name),
        ("config", dict(run.config), dict(there.config)),
        ("layers", record.wiring, _wiring(target.layers(run.id))),
    ):
        if ours != theirs and not (what == "layers" and not (ours and theirs)):
            raise ConflictError(
                f"run {run.id!r}: {target.location} holds a run of this id with other {what}: expected {_short(ours)}, "
                f"found {_short(theirs)}; nothing was written"
            )
    hows = {(parent.run, parent.step): parent.how for parent in there.parents}
    for parent in run.parents:
        how = hows.get((parent.run, parent.step), parent.how)
        if how != parent.how:
            raise ConflictError(
                f"run {run.id!r}: in {target.location} it descends from {parent.run}@{parent.step} by {how!r}, not by "
                f"{parent.how!r}; nothing was written"
            )


def _compared(
    record: RunRecord, ours: Iterable[Snapshot], target: Source, before: Mapping[str, Run]
) -> Iterator[tuple[Snapshot, Snapshot | None]]:
    """Each snapshot with the one that the target has at its step, if any; an error where the two histories differ."""
    run = record.run.id
    theirs = iter(target.snapshots(run) if run in before and before[run].snapshots else ())
    for snapshot in ours:
        there = next(theirs, None)
        if there is not None and there.step != snapshot.step:
            step = min(there.step, snapshot.step)
            where = target.location if step == there.step else "the source"
            raise ConflictError(
                f"{run}@{step}: expected this snapshot on both sides, found it only in {where}; "
                "the two runs differ from here on"
            )
        if there is not None:
            _check_snapshot(snapshot, there, target.location)
        yield snapshot, there


def _check_snapshot(ours: Snapshot, theirs: Snapshot, location: str) -> None:
    if ours.digest != theirs.digest:
        raise ConflictError(
            f"{ours.id}: {location} holds another topology: expected {ours.digest[:12]}, found {theirs.digest[:12]}"
        )
    _check_numbers(ours, theirs, location)


def _check_numbers(ours: Snapshot | StepMetrics, theirs: Snapshot | StepMetrics, location: str) -> None:
    recorded = _numbers(theirs)
    for (layer, name), value in _numbers(ours).items():
        there = recorded.get((layer, name), value)
        if there != value:
            at = ours.id if layer is None else f"{ours.id}, layer {layer!r}"
            raise ConflictError(f"{at}: {location} holds another {name!r}: expected {value}, found {there}")


def _numbers(snapshot: Snapshot | StepMetrics) -> dict[tuple[str | None, str], float]:
    """All metrics by the layer that they are of (None: the snapshot or run) and their names."""
    by_layer: list[tuple[str | None, Mapping[str, float]]] = [(None, snapshot.metrics), *snapshot.layer_metrics.items()]
    return {(layer, name): value for layer, metrics in by_layer for name, value in metrics.items()}


def _wiring(layers: tuple[RunLayer, ...]) -> Wiring | None:
    return wiring_of(layers) if layers else None


def _verified(where: str, record: RunRecord, ours: Iterable[Snapshot], target: Target) -> Iterator[None]:
    """Read every snapshot back from the database, not from what this client remembers."""
    run = record.run
    reopened = target.reopened()
    parents = reopened.run(run.id).parents
    if not set(run.parents) <= set(parents):
        raise CorruptError(f"run {run.id!r}: expected the parents it has in {where}, found {_short(parents)}")
    theirs = iter(reopened.snapshots(run.id) if record.wiring else ())
    for snapshot in ours:
        there = next(theirs, None)
        if there is None or there.step != snapshot.step or not _numbers(snapshot).items() <= _numbers(there).items():
            raise CorruptError(
                f"{snapshot.id}: expected it in {target.location} as in {where}, found {there}",
                hint="if somebody was writing there, start the move again: it goes on where it was",
            )
        topology = reopened.topology(there)
        if topology.digest != snapshot.digest or topology.wiring != record.wiring:
            raise CorruptError(
                f"{snapshot.id}: expected the wiring that {where} holds ({snapshot.digest[:12]}), "
                f"found {topology.digest[:12]} in {target.location}"
            )
        yield


def _records(archive: Source, runs: Iterable[str] | str | None) -> list[RunRecord]:
    """These runs and their ancestors: parents before children, otherwise in the order of their ids."""
    by_id = _closed(archive)
    wanted = sorted(by_id) if runs is None else list(dict.fromkeys([runs] if isinstance(runs, str) else runs))
    for run in wanted:
        if run not in by_id:
            archive.run(run)  # raises, and names the runs that exist
            raise NotFoundError(f"run {run!r}: it was created while this move began")
    order: dict[str, None] = {}
    above = sorted(wanted, reverse=True)
    while above:  # depth first without recursion: descent may be thousands of generations deep
        parents = sorted({p.run for p in by_id[above[-1]].parents if p.run not in order}, reverse=True)
        if parents:
            above.extend(parents)
        else:
            order.setdefault(above.pop())
    records = []
    for run in order:
        layers = archive.layers(run) if by_id[run].last_step is not None else ()
        last = layers[0].projected_last if layers else None
        projected = tuple(y.name for y in layers if y.projection != "off") if last is None else f"last {last}"
        records.append(RunRecord(by_id[run], _wiring(layers), projected))
    return records


def _closed(archive: Source) -> dict[str, Run]:
    """Every run by its id, each of whose parents is among them at its step.

    Runs are read before their descent, and meanwhile a run may have been made and declared a parent; the next look
    finds it.
    """
    for _ in range(_LOOKS):
        by_id = {run.id: run for run in archive.runs()}
        lasts = {run.id: run.last_step for run in by_id.values()}
        beyond = [
            (run.id, parent)
            for run in by_id.values()
            for parent in run.parents
            if (last := lasts.get(parent.run)) is None or last < parent.step
        ]
        if not beyond:
            return by_id
    run, parent = beyond[0]
    raise CorruptError(
        f"run {run!r}: expected its parent {parent.run}@{parent.step} in {archive.location}, found none",
        hint=f"`topostrata undelete {parent.run}` brings it back if it was removed; {VERIFY}",
    )


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A stream into a temporary file, which gets this name once all of it is on the disk.

    A killed writer leaves ``.NAME.part``, which the next export to the same name overwrites.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        stream = _locked(part)
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            with contextlib.suppress(OSError):  # a full disk, which was reported already
                stream.close()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if isinstance(error, TopostrataError):
            raise
        hint = (
            "nothing was written under that name" if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else None
        )
        raise InvalidInputError(
            f"{path}: expected a file that can be written, found: {error.strerror}", hint=hint
        ) from error


def _locked(part: Path) -> BinaryIO:
    """The temporary file, locked: two exports to one name must not write into the same file."""
    while True:
        stream = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "w+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            raise ConflictError(f"{part}: another export is writing to this name") from error
        with contextlib.suppress(FileNotFoundError):  # between open and lock, another export may have renamed it
            if os.path.samestat(part.stat(), os.fstat(stream.fileno())):
                return stream
        stream.close()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
