"""The measures of one snapshot as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.measures.structure import Structure


def structure_answer(ref: str, structure: Structure) -> dict[str, Any]:
    """The structure of a snapshot as JSON."""
    return {"ref": ref, **as_json(structure)}
