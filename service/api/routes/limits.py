"""How much one request may ask for."""

from __future__ import annotations

from topostrata.archive import Archive
from topostrata.errors import LimitError
from topostrata.refs import Ref

MOST_COMPARED = 64  # a request computes n^2 / 2 distances while its client waits
MOST_POINTS = 500  # a request computes one distance for each


def check_count(archive: Archive, refs: list[str]) -> list[Ref]:
    """The snapshots that refs and globs name, unless they are more than one request may compare."""
    snapshots = archive.expand(refs)
    count = len(snapshots)
    if count > MOST_COMPARED:
        raise LimitError(
            f"refs: expected at most {MOST_COMPARED} snapshots in one request, found {count}",
            hint="POST /v1/jobs takes more, and computes them in the background",
        )
    return snapshots
