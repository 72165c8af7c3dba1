"""The distance of two snapshots as it is told from what the archive keeps, without a mask being read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from topostrata.distance.alignments import Alignment
from topostrata.distance.comparable import plans
from topostrata.distance.comparison import Comparison
from topostrata.distance.nnstd import Distance, describe
from topostrata.distance.plan import Plan
from topostrata.distance.stored import Known
from topostrata.store.runs import RecordedSnapshot, wiring_of
from topostrata.topology import Wiring


@dataclass(frozen=True, slots=True)
class _Wired:
    wiring: Wiring
    digest: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What of a snapshot stands in an answer: how it is compared, and the connections of each layer."""

    plan: Plan
    connections: tuple[int, ...]


def wired(entries: Sequence[RecordedSnapshot]) -> tuple[Recorded, Recorded] | None:
    """Two snapshots as they would be compared; None where one is not whole, which reading its masks tells best.

    Raises ``NotComparableError`` where they have no distance.
    """
    if not all(entry.layers for entry in entries):
        return None
    networks = [_Wired(wiring_of(entry.layers), entry.snapshot.digest) for entry in entries]
    first, second = plans(*networks)
    return _recorded(first, entries[0]), _recorded(second, entries[1])


def _recorded(plan: Plan, entry: RecordedSnapshot) -> Recorded:
    counts = dict(zip((mask.layer for mask in entry.masks), entry.connections, strict=True))
    return Recorded(plan, tuple(counts.get(shape.name, 0) for shape in plan.shapes))


def told(a: Recorded, b: Recorded, alignment: Alignment, known: Known) -> Distance:
    """A distance that was kept, as ``nnstd`` gives it, but for the match."""
    comparison = Comparison(known.values, {}, known.ambiguous, known.canonical, known.informed)
    return describe(a, b, alignment, comparison)
