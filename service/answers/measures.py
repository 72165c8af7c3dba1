"""What goes out of the measures of one snapshot, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.measures.structure import Structure


def structure_answer(ref: str, structure: Structure) -> dict[str, Any]:
    """The shape of a snapshot as JSON."""
    return {"ref": ref, **as_json(structure)}
