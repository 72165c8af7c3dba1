"""Chance levels that were drawn before, kept in the graph: whoever asks again waits for a look-up, not for the draws.

Levels depend on nothing but the degrees of two networks and on how they are compared (``null_model.degree_levels``).
They stand in a ``(:DistanceBlock)`` of their own, whose id says so, as numbers: level, error and spread of each row,
then of their mean.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from topostrata.distance.alignments import Alignment, definition_of, options
from topostrata.distance.null_model import DRAWS, VERSION, Chance, Levels
from topostrata.errors import CorruptError

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore


class StoredLevels:
    """The levels of one alignment that an archive has; with ``keep`` new ones are added."""

    def __init__(self, store: GraphStore, alignment: Alignment, *, keep: bool = True) -> None:
        self._store = store
        self._definition = definition_of(alignment)
        self._keeps = keep and not store.read_only

    def get(self, key: str, rows: int) -> Levels | None:
        """What was kept under this key, of so many rows; None where nothing was."""
        found = self._store.read("distance/distance_blocks", ids=[_id(key)])
        if not found:
            return None
        data, expected = found[0]["data"], 8 * 3 * (rows + 1)
        if len(data) != expected:
            raise CorruptError(f"chance levels {_id(key)}: expected {expected} bytes, found {len(data)}")
        values = np.frombuffer(data, dtype="<f8").reshape(rows + 1, 3).tolist()
        *levels, whole = (Chance(level, error, spread, DRAWS, kept="degrees") for level, error, spread in values)
        return levels, whole

    def put(self, key: str, levels: Levels) -> None:
        """Keep levels under a key."""
        if not self._keeps:
            return
        rows, whole = levels
        values = np.array([[y.level, y.error, y.spread] for y in (*rows, whole)], dtype="<f8")
        self._store.write(
            lambda tx: tx.run(
                "distance/put_chance",
                id=_id(key),
                alignment=self._definition.name,
                options=options(fix_output=True),
                version=self._definition.version,
                data=values.tobytes(),
            )
        )


def _id(key: str) -> str:
    return f"chance/{VERSION}/{sha256(key.encode()).hexdigest()}"
