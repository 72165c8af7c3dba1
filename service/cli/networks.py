"""The networks that a verb's arguments name: snapshots of the archive, sets of them, and files."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from topostrata.service.cli.output import archive
from topostrata.service.cli.reading import Reading, check_reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topostrata.topology import Topology


def networks(refs: Sequence[str], store: str | None, reading: Reading) -> list[tuple[str, Topology]]:
    """The networks by their names, in the order of the refs, each once: refs, globs and paths, also side by side."""
    from topostrata.ingest.formats.reading import read_one
    from topostrata.refs import is_path, parse_path_ref

    check_reading(reading, refs)
    paths = [ref for ref in refs if is_path(ref)]
    named: dict[str, Topology] = {}
    with nullcontext() if len(paths) == len(refs) else archive(store) as opened:
        for ref in refs:
            if opened is None or ref in paths:
                named.setdefault(ref, read_one(parse_path_ref(ref), **reading).topology)
                continue
            for entry in opened.recorded(*opened.expand(ref)):
                named.setdefault(entry.snapshot.id, opened.topology(entry))
    return list(named.items())
