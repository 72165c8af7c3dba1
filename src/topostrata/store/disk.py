"""What an embedded archive takes on the disk, by what it is for: the engine's files tell by their names."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from topostrata.store.engine_files import DATABASE

_INDEX = re.compile(r"\.v\d+\.\w*idx$")
_TYPE = re.compile(r"([A-Za-z_]+?)_\d+(_out_edges|_in_edges)?\.")
_KINDS = {
    "CONNECTS": "connections",
    "Neuron": "neurons",
    "Mask": "masks",
    "MaskPart": "masks",
    "Topology": "distances",
    "DistanceBlock": "distances",
}


def disk_bytes(directory: Path) -> dict[str, int]:
    """Bytes by kind, the largest first: connections, neurons, masks, distances, indexes, log, other.

    ``log`` is the engine's log of transactions and what it tells of itself: most of it goes when the engine stops. The
    connections are their own records and the lists of them that each neuron has.
    """
    sizes: dict[str, int] = {}
    for folder, _, names in os.walk(directory / "engine"):
        for path in (Path(folder, name) for name in names):
            with suppress(OSError):  # a running engine replaces its files
                kind = _kind(path)
                sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])))


def _kind(path: Path) -> str:
    if path.parent.name != DATABASE:
        return "log" if path.parent.name == "log" else "other"
    if path.suffix == ".wal":
        return "log"
    if _INDEX.search(path.name):
        return "indexes"
    match = _TYPE.match(path.name)
    if match is None:
        return "other"
    if match[1] == "Neuron" and match[2]:
        return "connections"
    return _KINDS.get(match[1], "other")
