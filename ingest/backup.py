"""The whole archive in one file, and an archive made of that file again.

A backup is an export of all runs, those that were removed too, with what was computed and kept beside them
(``ingest.kept``): the same file, written and read by the same code (docs/design/023-backup.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from topostrata.errors import ConflictError, CorruptError, InvalidInputError
from topostrata.ingest import kept, lifecycle
from topostrata.ingest.formats import export_file
from topostrata.ingest.formats.export_file import ExportFile
from topostrata.ingest.formats.kept_lines import Kept
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.ingest.transfer import ArchiveRuns, Moved, Progress, Target, bring, compare, whole_file
from topostrata.runs import EVERY_RUN, Run, RunLayer, Snapshot, StepMetrics
from topostrata.store.graph import GraphStore
from topostrata.store.masks import MaskStore
from topostrata.store.runs import RunStore
from topostrata.topology import Topology


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds, how large it is, and how much of that is new: ``bytes_added`` is below 0 where it shrank.

    ``topologies_added`` are those that were read from the archive; the others stood in the file already. ``removed``
    are the ``runs`` among all that are hidden until they are brought back.
    """

    runs: int
    removed: int
    snapshots: int
    topologies: int
    topologies_added: int
    bytes: int
    bytes_added: int


def backup(
    store: GraphStore,
    masks: MaskStore,
    path: Path,
    *,
    force: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> BackedUp:
    """Write all that an archive holds to one file, whole or not at all; what the file has already is not read again.

    Each run is taken as it was when the backup began, but for its metrics beside snapshots, which are read while the
    file is written: some that came since may be in it. Raises ``ConflictError`` where the file holds what the archive
    has no more, unless ``force`` lets it go.
    """
    hidden = {run.run: run.removed_at for run in lifecycle.removed(store)}
    archive = _Everything(store, masks)
    whole = ArchiveRuns(archive, None)
    whole.records = [replace(record, removed_at=hidden.get(record.run.id)) for record in whole.records]
    with whole_file(path) as stream:
        before = path.stat().st_size if path.exists() else 0
        with ExportFile(path) if path.exists() else nullcontext() as earlier:
            if earlier is not None:
                _check_backup(earlier, "give the backup a name of its own")
                if not force:
                    _refuse_to_lose(earlier, whole, path)
            counts, added = export_file.write(
                stream,
                whole.records,
                whole.snapshots,
                archive.topology,
                archive.step_metrics,
                kept=lambda digests: kept.kept_of(store, whole.records, has=whole.has, digests=digests),
                earlier=earlier,
                progress=progress,
            )
        size = stream.seek(0, os.SEEK_END)
    removed = sum(record.removed_at is not None for record in whole.records)
    return BackedUp(counts.runs, removed, counts.snapshots, counts.topologies, added, size, size - before)


def restore(
    path: Path,
    store: GraphStore,
    archive: Target,
    *,
    progress: Progress = lambda _done, _total: None,
    limits: Limits = DEFAULT,
) -> Moved:
    """Make an empty archive what a backup holds; the whole file is checked before anything is written.

    One that was interrupted goes on where it was when started again. Every snapshot is read back and its digest
    computed anew, and what is kept beside the runs is compared with the file. Raises ``ConflictError`` where the
    archive holds anything else.
    """
    with ExportFile(path, limits=limits) as file:
        _check_backup(file, f"`topostrata import {path}` brings them")
        file.check(progress=lambda done, total: progress(done, 3 * total))
        hidden = {run.run for run in lifecycle.removed(store)}
        ids = {record.run.id for record in file.records}
        if others := sorted({*hidden, *(run.id for run in archive.runs())} - ids):
            raise ConflictError(
                f"{store.location}: expected an archive without runs to restore {path} into, found {others[0]!r}",
                hint="name a new one with --store; `topostrata import` brings runs into one that has some",
            )
        kept.check(store, file.kept)
        if hidden:  # they take nothing while they are hidden, and come back only where nothing contradicts the file
            compare(file, _Everything(store, MaskStore(store)))
            lifecycle.bring_back(store, sorted(hidden))
        moved = bring(file, archive, lambda done, _: progress(file.counts.snapshots + done, 3 * file.counts.snapshots))
        kept.put(store, file.kept())
        removed = {record.run.id: record.removed_at for record in file.records if record.removed_at is not None}
        lifecycle.remove_again(store, removed)
        _compare(store, file)
    return moved


class _Everything:
    """An archive as a source of a move, with the runs that were removed."""

    def __init__(self, store: GraphStore, masks: MaskStore) -> None:
        self.location = store.location
        self._runs = RunStore(store, removed=True)
        self._masks = masks

    def runs(self) -> list[Run]:
        return self._runs.runs(EVERY_RUN)

    def run(self, run: str) -> Run:
        return self._runs.run(run)

    def snapshots(self, run: str) -> list[Snapshot]:
        return self._runs.snapshots(run)

    def step_metrics(self, run: str) -> Iterator[StepMetrics]:
        return self._runs.step_metrics(run)

    def layers(self, run: str) -> tuple[RunLayer, ...]:
        return self._runs.layers(run)

    def topology(self, ref: Snapshot) -> Topology:
        return self._masks.topology(self._runs.recorded([ref])[0])


def _check_backup(file: ExportFile, hint: str) -> None:
    if file.format != export_file.FORMAT:
        raise InvalidInputError(f"{file.where}: expected a backup, found an export of runs", hint=hint)


def _refuse_to_lose(earlier: ExportFile, whole: ArchiveRuns, path: Path) -> None:
    """Every snapshot of the file must stand in the archive: else the archive is another, or something was purged."""
    records = {record.run.id: record for record in whole.records}
    for record, snapshots in earlier.histories():
        now = records.get(record.run.id)
        digests = {} if now is None else {snapshot.step: snapshot.digest for snapshot in whole.snapshots(now)}
        for snapshot in snapshots:
            if digests.get(snapshot.step) != snapshot.digest:
                raise _lost(snapshot.id, path)
        if now is None:
            raise _lost(f"run {record.run.id!r}", path)


def _lost(what: str, path: Path) -> ConflictError:
    return ConflictError(
        f"{path}: expected what it holds in the archive, too, found {what} only in the file",
        hint="--force lets it go from the file, as where it was purged; another name keeps both",
    )


def _compare(store: GraphStore, file: ExportFile) -> None:
    digests = {line["digest"] for line in file.kept() if line["kind"] == "number"}
    theirs_of = kept.kept_of(store, file.records, has=lambda _ref: True, digests=digests)
    for ours, theirs in zip_longest(file.kept(), theirs_of):
        if ours != theirs:
            raise CorruptError(
                f"{store.location}: expected what {file.where} keeps beside the runs, found another {_name(theirs)} "
                f"in the place of {_name(ours)}",
                hint="if somebody was writing there, start again in a new archive",
            )


def _name(line: Kept | None) -> str:
    return "end" if line is None else f"{line['kind']} {str(line.get('id') or line.get('snapshot') or '')[:80]}".strip()
