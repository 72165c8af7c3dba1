"""A run that is being written: its snapshots are pushed as soon as they are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.run_directory import steps_in
from topostrata.ingest.pushing import CheckedFiles, check_files

Stamp = tuple[tuple[str, int, int], ...]


def watch(files: CheckedFiles, pause: Callable[[], bool]) -> Iterator[CheckedFiles]:
    """The snapshots that appear in a directory after ``files`` was checked, each checked by itself, in their order.

    A snapshot is taken when it did not change between two looks and can be read with the layers of those before; a
    later one waits for it. ``pause`` waits between two looks and says whether to go on. Raises what ``check_files``
    raises, but for snapshots that are not whole.
    """
    seen = set(files.steps)
    before: dict[int, Stamp] = {}
    while pause():
        steps, _ = steps_in(files.path, files.options.get("step_from"))
        stamps = {step.number: _stamp(step.path) for step in steps if step.number is not None}
        for number in sorted(stamps.keys() - seen):
            if before.get(number) != stamps[number]:
                break
            try:
                snapshot = check_files(files.path, steps=[number], **files.options)
            except InvalidInputError:
                break
            if snapshot.layers != files.layers:
                break
            seen.add(number)
            yield snapshot
        before = stamps


def _stamp(path: Path) -> Stamp:
    """Names, sizes and times of a snapshot's files; a file that goes away meanwhile counts as empty."""
    stamps = []
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        try:
            state = file.stat()
        except OSError:
            stamps.append((file.name, 0, 0))
        else:
            stamps.append((file.name, state.st_size, state.st_mtime_ns))
    return tuple(stamps)
