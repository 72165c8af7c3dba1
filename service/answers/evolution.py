"""The connections of a layer as JSON. ``shape.as_json`` makes the JSON of all other results about evolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.evolution.between import ConnectionChanges


class ConnectionAnswer(TypedDict):
    """One connection: from a source unit, at a tap, to a target unit."""

    source: int
    tap: int
    target: int


def connections_answer(changes: ConnectionChanges, cells: NDArray[np.int64]) -> list[ConnectionAnswer]:
    """The connections at these cells of a layer, in the order of target, source, tap."""
    columns = zip(*(units.tolist() for units in changes.units_of(cells)), strict=True)
    return [{"source": source, "tap": tap, "target": target} for source, target, tap in columns]


def packed_changes(changes: ConnectionChanges) -> bytes:
    """The connections of a layer as numbers of 32 bits, little-endian: what a picture of them needs.

    First the sizes of the layer's source and its target; then for those that survived, were regrown, died and were
    born, in this order: their number, the source units, the target units.
    """
    layer = changes.layer
    sizes = (layer.source.size, layer.target.size) if layer else (changes.first.n_source, changes.first.n_target)
    parts = [np.array(sizes, dtype="<u4")]
    for cells in (changes.survived, changes.regrown, changes.died, changes.born):
        sources, targets, _ = changes.units_of(cells)
        parts += [np.array([cells.size], dtype="<u4"), sources.astype("<u4"), targets.astype("<u4")]
    return np.concatenate(parts).tobytes()
