"""Brings an archive of an earlier format to today's, in place: what it holds stays, and goes on answering meanwhile.

Format 2 gives every living connection a key (``alive``), by which the one that dies is found at a cost that does not
grow with all that its neuron ever had; see docs/design/003-flat-cost.md. The masks, the truth, are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from topostrata.errors import ConflictError
from topostrata.ingest.lifecycle import removed
from topostrata.ingest.load import Loader
from topostrata.ingest.projection import give_keys
from topostrata.runs import RunLayer
from topostrata.store import runs
from topostrata.store.graph import GraphStore
from topostrata.store.opening import FORMAT, index_keys


@dataclass(frozen=True, slots=True)
class Migrated:
    """From which format to which an archive was brought, and how many living connections were given a key."""

    before: int
    after: int
    runs: int
    connections: int


def migrate(
    store: GraphStore, loader: Loader, *, dry_run: bool = False, progress: Callable[[int, int], None]
) -> Migrated:
    """Bring the archive to today's format; one that is of it is left as it is. Started again, it goes on.

    Processes of an earlier version that write must have ended before: what they would add has no keys. The format is
    said last, so that whoever opens the archive meanwhile goes on with what is there.
    """
    before = store.read("archive/archive")[0]["format"]
    held = store.read_with(runs.all_runs)
    if before == FORMAT or dry_run:
        return Migrated(before, before if dry_run else FORMAT, len(held) if before != FORMAT else 0, 0)
    if hidden := removed(store):
        raise ConflictError(
            f"run {hidden[0].run!r}: expected no run that was removed, which would be left behind",
            hint="`topostrata undelete` it, or `topostrata purge` it, first",
        )
    index_keys(store)
    connections = 0
    for done, run in enumerate(held, start=1):
        for layer in _projected(store, run.id):
            connections += give_keys(store, layer)
        progress(done, len(held))
    store.write(lambda tx: tx.run("archive/set_format", format=FORMAT))
    for run in held:  # what was stored meanwhile waits to be projected
        loader.drawer.project(run.id)
    return Migrated(before, FORMAT, len(held), connections)


def _projected(store: GraphStore, run: str) -> Iterator[RunLayer]:
    layers = store.read_with(lambda tx: runs.layers_of(tx, [run])[run])
    return (layer for layer in layers if layer.projection != "off" and layer.shared_with is None)
