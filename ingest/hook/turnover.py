"""What an update of the wiring did, beyond what snapshots show: a link that was dropped and grown again at once.

Before and after it looks as if nothing had happened to it. CHT stops growing where most of what it grows is what it has
just dropped (the overlap rate of Zhang et al., ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata import codec
from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.ingest.hook import sources
from topostrata.ingest.hook.sources import Reading
from topostrata.topology import Orientation, Topology

Cells = NDArray[np.int64]

_BEFORE = "before= states the masks before the update, where they are not those of the snapshot before"


@dataclass(frozen=True, slots=True)
class Update:
    """What was said of an update, copied; None is what was not said."""

    dropped: Reading | Topology | None
    grown: Reading | Topology | None
    before: Reading | Topology | None
    after_removal: Reading | Topology | None

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        said = (self.dropped, self.grown, self.before, self.after_removal)
        return sum(reading.nbytes for reading in said if isinstance(reading, Reading))


def read(masks: Mapping[str, Any], orientation: Orientation | None) -> Update | None:
    """Copy the masks ``dropped``, ``grown``, ``before``, ``after_removal``; None where no turnover is asked for.

    Raises ``InvalidInputError`` where they do not tell what was dropped and what was grown.
    """
    given = {name for name, mask in masks.items() if mask is not None}
    if not given:
        return None
    if given - {"before"} not in ({"dropped", "grown"}, {"after_removal"}):
        raise InvalidInputError(
            f"update: expected the masks dropped and grown, or after_removal, found {', '.join(sorted(given))}"
        )
    return Update(
        **{name: None if mask is None else sources.read(mask, orientation=orientation) for name, mask in masks.items()}
    )


def of_layers(update: Update, after: Topology, previous: Topology | None) -> dict[str, dict[str, float]]:
    """The numbers ``dropped``, ``grown`` and ``regrown_at_once`` of each layer of which the update tells them.

    ``after`` is the snapshot that the update made; ``previous`` the one before it, where nothing was missed between
    them. Raises ``InvalidTopologyError`` where not after = (before minus dropped) plus grown.
    """
    dropped, grown, before, removed = (
        {} if reading is None else sources.placed(reading, after.wiring)
        for reading in (update.dropped, update.grown, update.before, update.after_removal)
    )
    before = {layer.name: layer.mask for layer in previous or ()} | before
    numbers = {}
    for name in removed or (name for name in dropped if name in grown):
        now, earlier = after[name].mask.cells, before[name].cells if name in before else None
        if removed:
            numbers[name] = _after_removal(name, earlier, removed[name].cells, now)
            continue
        gone, new = dropped[name].cells, grown[name].cells
        start = np.union1d(_minus(now, new), gone) if earlier is None else earlier
        numbers[name] = _counted(name, start, gone, _minus(start, gone), new, now)
    return numbers


def _after_removal(name: str, before: Cells | None, kept: Cells, after: Cells) -> dict[str, float]:
    if before is None:
        raise InvalidTopologyError(
            f"layer {name!r}: expected the masks before the update beside those after its removal, found none",
            hint=_BEFORE,
        )
    return _counted(name, before, _minus(before, kept), kept, _minus(after, kept), after)


def _counted(name: str, before: Cells, dropped: Cells, kept: Cells, grown: Cells, after: Cells) -> dict[str, float]:
    faults = {
        "dropped that were not alive": _minus(dropped, before),
        "kept that were not alive": _minus(kept, before),
        "grown that were alive": _both(grown, kept),
        "alive after it that were neither kept nor grown": _minus(_minus(after, kept), grown),
        "kept or grown that are not alive after it": np.concatenate([_minus(kept, after), _minus(grown, after)]),
    }
    if found := [f"{cells.size} {what}" for what, cells in faults.items() if cells.size]:
        raise InvalidTopologyError(
            f"layer {name!r}: expected after = (before minus dropped) plus grown, found {', '.join(found)}",
            hint=_BEFORE,
        )
    return {"dropped": dropped.size, "grown": grown.size, "regrown_at_once": _both(dropped, grown).size}


def _minus(cells: Cells, others: Cells) -> Cells:
    return cells[~codec.in_sorted(cells, others)]


def _both(cells: Cells, others: Cells) -> Cells:
    return cells[codec.in_sorted(cells, others)]
