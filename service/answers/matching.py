"""Matches as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.distance.match import Match


def match_answer(a: str, b: str, match: Match, *, space: str | None = None) -> dict[str, Any]:
    """The match of the networks named ``a`` and ``b`` as JSON: of all spaces, or of one."""
    spaces = [as_json(entry) for entry in match.spaces if space in {None, entry.name}]
    return {"a": a, "b": b, **as_json(match), "spaces": spaces}
