"""The measures of one snapshot as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from collections.abc import Sequence

    from topostrata.measures.core import Core
    from topostrata.measures.panel import Measures
    from topostrata.measures.structure import Structure


def snapshot_answer(ref: str, result: Structure | Measures) -> dict[str, Any]:
    """What was measured of a snapshot as JSON, with the snapshot's ref."""
    return {"ref": ref, **as_json(result)}


def core_answer(refs: Sequence[str], result: Core) -> dict[str, Any]:
    """What networks have in common as JSON, with their names; their units are those of the first."""
    return {"refs": list(refs), **as_json(result)}
