"""What goes out of an inferred ancestry, as JSON; all other answers about lineage are their dataclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.lineage.stored import StoredInference


def inference_answer(stored: StoredInference) -> dict[str, Any]:
    """An inferred ancestry as JSON: a tree over runs, each compared at the step in ``steps``."""
    return {"name": stored.id, **as_json(stored.inference), "steps": dict(stored.steps)}
