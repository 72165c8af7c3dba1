"""What to do about a file that is not as its format has it, where the reader that met the fault knows no better."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from topostrata.errors import InvalidInputError, LimitError

if TYPE_CHECKING:
    from topostrata.ingest.formats.array_file import ArrayFile
    from topostrata.ingest.formats.stored import StoredArray

Value = TypeVar("Value")


@contextmanager
def or_again(path: Path, writers: str) -> Iterator[None]:
    """Add what to type next to an error that says none, or only asks whether the file is cut off."""
    look = f"topostrata inspect {shlex.quote(str(path))}"
    try:
        yield
    except InvalidInputError as error:
        if error.hint is None or error.hint.endswith("?"):
            again = f"copy it again or write it again ({writers}), then: {look}"
            error.hint = again if error.hint is None else f"{error.hint} {again}"
        raise
    except LimitError as error:
        if error.hint is None:
            error.hint = f"write less into it, such as the masks alone ({writers}), then: {look}"
        raise


def reading_again(file: ArrayFile, path: Path, writers: str) -> ArrayFile:
    """The same file, whose arrays say so too when their numbers are read."""

    def told(array: StoredArray) -> StoredArray:
        return replace(array, read=partial(_read, array.read, path, writers))

    snapshot = None if file.snapshot is None else partial(_read, file.snapshot, path, writers)
    return replace(file, arrays={name: told(array) for name, array in file.arrays.items()}, snapshot=snapshot)


def _read(read: Callable[[], Value], path: Path, writers: str) -> Value:
    with or_again(path, writers):
        return read()
