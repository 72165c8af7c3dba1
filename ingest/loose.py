"""What hangs on no run: found, and taken away.

A run that was deleted by hand leaves its snapshots, layers, neurons and metrics behind; they take room, and a run of
the same name cannot be pushed over them. Masks are loose when no snapshot has them and no used mask is packed against
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Row, Transaction

_PAGE = 500
_NEURONS = 100  # a transaction: those with many connections are slow to take away


@dataclass(frozen=True, slots=True)
class Collected:
    """How many nodes of each kind hung on no run, and were taken away unless it was a rehearsal."""

    kinds: Mapping[str, int]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Loose:
    """Nodes of one kind that hang on no run: how many, and the name of the first."""

    kind: str
    count: int
    name: str


def loose(store: GraphStore) -> Iterator[Loose]:
    """The kinds of nodes that hang on no run."""
    rows = _loose_nodes(store)
    counts = Counter(row["kind"] for row in rows)
    for kind in sorted(counts):
        names = [str(row["name"]) for row in rows if row["kind"] == kind]
        yield Loose(kind, counts[kind], min(names)[:60])
    for run, space, count in _loose_neurons(store):
        yield Loose("Neuron", count, f"{run}/{space}")


def collect(store: GraphStore, *, dry_run: bool = False) -> Collected:
    """Take away what hangs on no run. Started again after it was interrupted, it goes on."""
    kinds: Counter[str] = Counter()
    while rows := _loose_nodes(store):  # a mask that is gone lets go of its parts, metrics of those of layers
        kinds.update(row["kind"] for row in rows)
        if dry_run:
            break
        nodes = [row["node"] for row in rows]
        for at in range(0, len(nodes), _PAGE):
            _drop(store, lambda tx, page=nodes[at : at + _PAGE]: tx.run("upkeep/drop_nodes", nodes=page)[0]["dropped"])  # type: ignore[misc]
    for run, space, count in list(_loose_neurons(store)):
        kinds["Neuron"] += count
        if not dry_run:
            drop_neurons(store, run, space)
    return Collected(dict(sorted(kinds.items())), dry_run)


def drop_neurons(store: GraphStore, run: str, space: str) -> None:
    """Take the neurons of a space of a run away, with all that joins them to others."""
    while _drop(store, lambda tx: tx.run("upkeep/drop_neurons", run=run, space=space, limit=_NEURONS)[0]["dropped"]):
        pass


def masks_of_none_but(store: GraphStore, ids: Sequence[str]) -> list[int]:
    """The bytes of each mask that would be loose without these runs."""
    uses = Counter(row["digest"] for run in ids for row in store.read("upkeep/run_mask_uses", run=run))
    rows = [{**row, "uses": row["uses"] - uses[row["digest"]]} for row in store.read("upkeep/mask_uses")]
    return [row["bytes"] or 0 for row in _unused(rows)]


def _loose_nodes(store: GraphStore) -> list[Row]:
    unused = [{"kind": "Mask", "name": row["digest"], **row} for row in _unused(store.read("upkeep/mask_uses"))]
    return [*store.read("upkeep/loose_nodes"), *unused]


def _unused(rows: Sequence[Row]) -> list[Row]:
    """The masks that nothing uses, of all masks."""
    masks = {row["digest"]: row for row in rows}
    used = {digest for digest, row in masks.items() if row["uses"]}
    at = list(used)
    while at:  # what a used mask is packed against is used as well
        base = masks[at.pop()]["base"]
        if base in masks and base not in used:
            used.add(base)
            at.append(base)
    return [row for digest, row in masks.items() if digest not in used]


def _loose_neurons(store: GraphStore) -> Iterator[tuple[str, str, int]]:
    """Spaces whose neurons belong to no run, or to none of the layers of theirs: run, space, neurons."""
    spaces: dict[str, set[str]] = {}
    for row in store.read("runs/spaces"):
        spaces.setdefault(row["run"], set()).update((row["source"], row["target"]))
    for row in store.read("upkeep/neuron_places"):
        if row["run"] is not None and row["space"] is not None and row["space"] not in spaces.get(row["run"], ()):
            yield row["run"], row["space"], row["neurons"]


def _drop(store: GraphStore, work: Callable[[Transaction], int]) -> int:
    return store.write(work)
