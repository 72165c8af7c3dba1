"""What keeps an archive fit for years: it is checked, and brought along to new formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from topostrata.analysis import Analysis
from topostrata.runs import ArchiveCounts
from topostrata.store.graph import GraphStore

if TYPE_CHECKING:
    from topostrata.ingest.load import Loader
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
