"""What keeps an archive fit for years: it is checked, and brought along to new formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from topostrata.analysis import Analysis
from topostrata.runs import ArchiveCounts
from topostrata.store.graph import GraphStore

if TYPE_CHECKING:
    from topostrata.ingest.load import Loader
    from topostrata.ingest.loose import Collected
    from topostrata.ingest.migration import Migrated
    from topostrata.ingest.verify import Violation


def _unheard(_done: int, _total: int) -> None:
    """Progress that nobody follows."""


class Upkeep(Analysis):
    """The part of ``Archive`` that looks after what is stored."""

    def __init__(self, store: GraphStore) -> None:
        super().__init__(store)
        self._built_loader: Loader | None = None

    @property
    def _loader(self) -> Loader:
        from topostrata.ingest.load import Loader

        with self._building:
            self._built_loader = self._built_loader or Loader(self._store, self._masks)
            return self._built_loader

    # The archive itself

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
