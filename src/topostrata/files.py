"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topostrata.errors import InvalidInputError


def check_target(path: str | os.PathLike[str]) -> Path:
    """The path; an error if no file can be written there. Call it before the work begins, not at its end."""
    target = Path(path)
    folder = target.parent
    if target.is_dir():
        raise InvalidInputError(f"{target}: expected the name of a file, found a directory")
    if not folder.is_dir():
        raise InvalidInputError(
            f"{target}: expected a file in an existing directory, found no directory {folder}",
            hint=f"mkdir -p '{folder}'",
        )
    if not os.access(target if _is_device(target) else folder, os.W_OK):
        raise InvalidInputError(f"{target}: expected a place that can be written, found it read-only")
    return target


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to: its file replaces ``path`` at the end, unless an error is raised.

    The temporary path has the same suffix and directory, and is removed in the end. Links are followed. A device or a
    pipe (``/dev/stdout``) is written directly.
    """
    target = check_target(path)
    draft = target
    if not _is_device(target):
        target = target.resolve()
        draft = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield draft
        if draft != target:
            draft.replace(target)
    except OSError as error:
        raise InvalidInputError(f"{path}: expected a file that can be written: {error.strerror or error}") from error
    finally:
        if draft != target:
            draft.unlink(missing_ok=True)


def _is_device(target: Path) -> bool:
    streams = target.is_relative_to("/dev/fd") or str(target) in {"/dev/stdout", "/dev/stderr"}
    return streams or (target.exists() and not target.is_file())
