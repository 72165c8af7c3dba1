"""An embedded archive that nobody may write: a copy on a read-only mount, or in a directory without write permission.

The engine writes even where it is only asked: its log, its accounts, its locks, and the log of transactions of one that
was killed. Opened to read only, it takes no transactions at all. So it gets a copy of the database among the temporary
files, which lasts as long as the archive is open, and the store refuses what would be written to it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from topostrata.errors import EngineError
from topostrata.store.engine_files import DATABASE, EngineFiles, explained

_LOCK = "database.lck"  # of an engine that was killed: the copy's makes its own


def is_sealed(directory: Path) -> bool:
    """Whether there is an archive that this process may not write."""
    database = _database(directory)
    return database.is_dir() and not all(os.access(path, os.W_OK) for path in (directory, database))


def copied(directory: Path) -> Path:
    """A temporary directory with a copy of the database, to be removed by the caller.

    Raises ``EngineError`` where an engine has the archive open now, or where there is no room for a copy.
    """
    scratch = Path(tempfile.mkdtemp(prefix="topostrata-"))
    try:
        with _at_rest(EngineFiles(directory)), explained(scratch):
            place = _database(scratch)
            place.mkdir(parents=True)
            for path in _database(directory).iterdir():
                if path.name != _LOCK:
                    shutil.copyfile(path, place / path.name)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return scratch


def _database(directory: Path) -> Path:
    return directory / "engine" / "databases" / DATABASE


@contextmanager
def _at_rest(files: EngineFiles) -> Iterator[None]:
    """Refuse an archive that an engine has open, and keep engines away meanwhile.

    To look at a lock, and to share it, needs no right to write; what is not there, or cannot be locked, is free.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            lock = stack.enter_context(files.lock("engine").path.open("rb"))
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EngineError(
                    f"{files.directory}: expected a copy at rest, found one that an engine has open",
                    hint="open the archive where it can be written, or stop it first: `topostrata engine stop`",
                ) from error
        yield
