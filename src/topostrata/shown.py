"""Results that show themselves in a notebook: as a table, and as a picture."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import Any, NamedTuple

_MOST_ROWS = 30


class Table(NamedTuple):
    """What is shown of a result: a title, heads, and rows of cells."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]


class Shown:
    """A result that a notebook shows as a table, and that draws itself with ``plot``."""

    __slots__ = ()

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw it: a picture that a notebook shows, written to a file too where one is named (.png, .svg, .pdf).

        Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.
        """
        # Pictures stand above the values that they show, so they are found by name, as pandas finds what draws for it.
        return import_module("topostrata.service.plots").picture_of(self, path)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        title, heads, rows = self._shown()
        lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
        lines += ["".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) for row in rows[:_MOST_ROWS]]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        more = f"<p>and {len(rows) - _MOST_ROWS} more</p>" if len(rows) > _MOST_ROWS else ""
        return f"<div><p>{escape(title)}</p><table>{body}</table>{more}</div>"

    @abstractmethod
    def _shown(self) -> Table:
        """The table of this result."""


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4f}"
    return str(value)
