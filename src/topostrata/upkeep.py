"""What keeps an archive fit for years: it is checked, and brought along to new formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from topostrata.analysis import Analysis
from topostrata.errors import CorruptError, NotFoundError
from topostrata.runs import ArchiveCounts

if TYPE_CHECKING:
    from topostrata.ingest.backup import BackedUp
    from topostrata.ingest.drawing import Drawer
    from topostrata.ingest.lifecycle import Purged, RemovedRun
    from topostrata.ingest.load import Loader
    from topostrata.ingest.loose import Collected
    from topostrata.ingest.migration import Migrated
    from topostrata.ingest.verify import Violation
    from topostrata.store.graph import GraphStore
    from topostrata.store.jobs import JobQueue


def _unheard(_done: int, _total: int) -> None:
    """Progress that nobody follows."""


class Upkeep(Analysis):
    """The part of ``Archive`` that looks after what is stored."""

    def __init__(self, store: GraphStore) -> None:
        super().__init__(store)
        self._built_loader: Loader | None = None
        self._built_jobs: JobQueue | None = None

    @property
    def _loader(self) -> Loader:
        from topostrata.ingest.load import Loader

        with self._building:
            self._built_loader = self._built_loader or Loader(self._store, self._masks)
            return self._built_loader

    @property
    def jobs(self) -> JobQueue:
        """The long work that a service was asked for: how far it is, and what came of it.

        >>> archive.jobs.page()
        []
        """
        from topostrata.store.jobs import JobQueue

        with self._building:
            self._built_jobs = self._built_jobs or JobQueue(self._store)
            return self._built_jobs

    # The archive itself

    def project(self, runs: Iterable[str] | str | None = None) -> list[str]:
        """Draw the connections that wait, of these runs or of all; gives the runs of which all are drawn now.

        Those of a push with ``connections="later"`` wait, and those that a push left which was killed. Whoever is at
        work on one of the runs stops. Layers that are not projected, or went over the limit, stay as they are
        (``unprojected``). Raises ``NotFoundError`` for a run that is not there, before anything is drawn, and
        ``CorruptError`` that names each one that is damaged, after those that are not are drawn.

        >>> import topostrata as ts
        >>> topology = ts.Topology.from_masks([[[1, 0], [1, 1]]])
        >>> archive.push("x12", 0, topology, connections="later")
        'added'
        >>> archive.project(), archive.project()
        (['x12'], [])
        """
        behind = dict.fromkeys(layer.run for layer in self._runs.unprojected() if layer.is_behind)
        if runs is not None:
            names = [self._runs.run(run).id for run in ([runs] if isinstance(runs, str) else runs)]
            behind = {run: None for run in names if run in behind}
        drawn = []
        damage: list[str] = []
        hint: str | None = None
        for run in behind:
            try:
                if self._loader.drawer.project(run):
                    drawn.append(run)
            except CorruptError as error:
                damage.append(f"run {run!r}: {error.message}")
                hint = error.hint
            except NotFoundError:  # purged meanwhile
                if runs is not None:
                    raise
        if damage:
            raise CorruptError("; ".join(damage), hint=hint)
        return drawn

    @property
    def drawer(self) -> Drawer:
        """Who draws the connections that wait, run by run: for whoever goes on with it, as a service does.

        >>> archive.drawer.waiting()
        []
        """
        return self._loader.drawer

    def verify(self, *, progress: Callable[[str], None] | None = None) -> Iterator[Violation]:
        """Everything that does not add up: digests, order, projection against masks, descent.

        ``progress`` is called with the id of each run as its turn comes.

        >>> list(archive.verify())
        []
        """
        from topostrata.ingest.verify import verify

        return verify(self._store, self._masks, progress=progress)

    def repair(self) -> list[Violation]:
        """Mend what ``verify`` finds, and give what is left; a sound archive is only read.

        What follows from the masks is made again from them, a mask that is damaged from the connections in the graph,
        where the digest of its snapshot proves it; nothing is guessed. What hangs on no run is taken away.

        >>> archive.repair()
        []
        """
        from topostrata.ingest.repair import repair

        return repair(self._store, self._masks, self._loader)

    def rebuild(self, run: str) -> int:
        """Draw the connections of a run again from its masks; gives how many lifetimes the graph has of it then.

        Its history is that of the snapshots that are there: one that is missing is given up. Raises ``NotFoundError``
        where there is no such run, ``CorruptError`` where a mask is damaged (``repair`` first).

        >>> archive.rebuild("w0")
        9
        """
        from topostrata.ingest.repair import rebuild

        return rebuild(self._store, self._loader, run)

    def gc(self, *, dry_run: bool = False) -> Collected:
        """Take away what hangs on no run, such as what remains of one that was deleted by hand in the database.

        >>> archive.gc(dry_run=True).kinds
        {}
        """
        from topostrata.ingest.loose import collect

        return collect(self._store, dry_run=dry_run)

    def removed_runs(self) -> list[RemovedRun]:
        """The runs that were removed and can be brought back.

        >>> archive.removed_runs()
        []
        """
        from topostrata.ingest.lifecycle import removed

        return removed(self._store)

    def remove_runs(self, runs: Iterable[str], *, dry_run: bool = False) -> list[str]:
        """Hide runs from every verb until they are brought back or purged; gives those that were not hidden yet.

        They take no snapshots meanwhile, and keep all that they have. Raises ``NotFoundError`` for a run that is not
        there, ``ConflictError`` where a run that stays descends from one of them.

        >>> archive.create_run("x5")
        >>> archive.remove_runs(["x5"]), archive.has_run("x5")
        (['x5'], False)
        >>> archive.bring_back(["x5"])
        >>> archive.has_run("x5")
        True
        """
        from topostrata.ingest.lifecycle import remove

        return remove(self._store, list(runs), dry_run=dry_run)

    def bring_back(self, runs: Iterable[str], *, dry_run: bool = False) -> None:
        """Show removed runs again, as they were.

        Raises ``NotFoundError`` for one that was not removed, ``ConflictError`` where one descends from a run that
        would stay removed.

        >>> archive.bring_back(["nowhere"])
        Traceback (most recent call last):
        ...
        topostrata.errors.NotFoundError: ...
        """
        from topostrata.ingest.lifecycle import bring_back

        bring_back(self._store, list(runs), dry_run=dry_run)

    def purge_runs(self, runs: Iterable[str], *, dry_run: bool = False) -> Purged:
        """Take runs away for good, removed or not: with connections, distances, and the masks that no other run has.

        Inferences that they were in go with them. With ``dry_run`` nothing is written. Interrupted, it is to be started
        again. Raises what ``remove_runs`` raises.

        >>> archive.create_run("x6")
        >>> archive.purge_runs(["x6"]).masks, archive.has_run("x6")
        (0, False)
        """
        from topostrata.ingest.lifecycle import purge

        purged = purge(self._store, list(runs), dry_run=dry_run)
        self._loader.forget()
        return purged

    def backup(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        progress: Callable[[int, int], None] = _unheard,
    ) -> BackedUp:
        """Write all that the archive holds to one file, or what is new into its last backup (docs/operations.md).

        Runs with all that was said of them, removed ones too, masks, stored distances, kept matches and inferences,
        while jobs go on pushing. Each run is taken as it was when the backup began, but for its metrics beside
        snapshots, of which some that came since may be in it. Masks that the file has are not read again. ``restore``
        makes an archive of it.

        Raises ``ConflictError`` where the file holds what the archive has no more, unless ``force`` lets it go, and
        ``InvalidInputError`` where the file is none, or cannot be written.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = archive.backup(f"{folder}/all.zip")
        ...     second = archive.backup(f"{folder}/all.zip")
        >>> first.topologies_added == first.topologies, second.topologies_added, second.bytes_added
        (True, 0, 0)
        """
        from topostrata.ingest.backup import backup

        return backup(self._store, self._masks, Path(path), force=force, progress=progress)

    def counts(self) -> ArchiveCounts:
        """How much the archive holds: runs, snapshots, masks and their bytes, neurons.

        >>> archive.counts().runs >= 2
        True
        """
        return self._runs.counts()

    def engine_version(self) -> str:
        """What database this is.

        >>> archive.engine_version() != ""
        True
        """
        return self._store.version()

    def migrate(self, *, dry_run: bool = False, progress: Callable[[int, int], None] = _unheard) -> Migrated:
        """Bring an archive that an earlier version made to today's format, in place (docs/design/003-flat-cost.md).

        Until then it is read as it is, and takes snapshots; their connections wait to be projected. Earlier versions
        refuse it afterwards: end what writes with them first. With ``dry_run`` nothing is written.

        >>> archive.migrate().connections
        0
        """
        from topostrata.ingest.migration import migrate

        return migrate(self._store, self._loader, dry_run=dry_run, progress=progress)
