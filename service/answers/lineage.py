"""An inferred ancestry and a test of relatedness as JSON; ``shape.as_json`` makes that of all else about lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.lineage.related import Relatedness
    from topostrata.lineage.stored import StoredInference


def inference_answer(stored: StoredInference) -> dict[str, Any]:
    """An inferred ancestry as JSON: a tree of runs; ``steps`` has the step at which each run was compared."""
    return {"name": stored.id, **as_json(stored.inference), "steps": dict(stored.steps)}


def related_answer(a: str, b: str, result: Relatedness) -> dict[str, Any]:
    """Whether the networks named ``a`` and ``b`` are related, as JSON."""
    return {"a": a, "b": b, **as_json(result)}
