"""Matches and edits as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import TypedDict

from topostrata.distance.edits import COLUMNS
from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.distance.edits import Edits, LayerEdits
    from topostrata.distance.match import Match


def match_answer(a: str, b: str, match: Match, *, space: str | None = None) -> dict[str, Any]:
    """The match of the networks named ``a`` and ``b`` as JSON: of all spaces, or of one."""
    spaces = [as_json(entry) for entry in match.spaces if space in {None, entry.name}]
    return {"a": a, "b": b, **as_json(match), "spaces": spaces}


class EditAnswer(TypedDict):
    """One connection to ``delete`` or to ``insert``: its ends among A's units and among B's, -1 where there is none."""

    layer: str
    edit: str
    source: int
    target: int
    tap: int
    source_b: int
    target_b: int


def edits_answer(
    a: str, b: str, edits: Edits, *, unit: tuple[str, int] | None = None, layer: str | None = None, limit: int = 1000
) -> dict[str, Any]:
    """The edits that make the network named ``a`` the one named ``b`` as JSON: counts, and on request those of a unit.

    ``listed`` has single edits of a layer, at most ``limit``; null where no layer is asked for.
    """
    listed = None if layer is None else edits.layer(layer).listed()[:limit]
    return {
        "a": a,
        "b": b,
        **as_json(edits),
        "unit": None if unit is None else as_json(edits.unit(*unit)),
        "listed": None if listed is None else [dict(zip(COLUMNS, row, strict=True)) for row in listed],
    }


def packed_edits(edits: LayerEdits, sizes: tuple[int, int]) -> bytes:
    """The connections of a layer under a match as numbers of 32 bits, little-endian: what a picture of them needs.

    First ``sizes``, those of A's source and target; then the connections that both have, none, those to delete and
    those to insert, in A's units: their number, the sources, the targets. What ends in a unit that A has not is left
    out. The four are in the places of `/v1/runs/{run}/changes`.
    """
    parts = [np.array(sizes, dtype="<u4")]
    for rows in (edits.kept, edits.kept[:0], edits.deletions, edits.insertions):
        inside = rows[(rows[:, 0] >= 0) & (rows[:, 1] >= 0)]
        parts += [np.array([len(inside)], dtype="<u4"), inside[:, 0].astype("<u4"), inside[:, 1].astype("<u4")]
    return np.concatenate(parts).tobytes()
