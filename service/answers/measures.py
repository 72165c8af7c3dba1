"""The measures of one snapshot as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.measures.panel import Measures
    from topostrata.measures.structure import Structure


def snapshot_answer(ref: str, result: Structure | Measures) -> dict[str, Any]:
    """What was measured of a snapshot as JSON, with the snapshot's ref."""
    return {"ref": ref, **as_json(result)}
