"""Runs every query of docs/cypher.md on the demo's archive and writes its answer under it.

    stratigraph demo --no-serve --out demo-out
    python docs/make_cookbook.py demo-out/archive

A query is a block of Cypher with a header (parameters, columns), as in ``queries/``; the line after it names the values
of its parameters; what stands between ``<!-- answer -->`` and ``<!-- end -->`` is written here. Nothing of an answer
depends on when it is made, so a second run changes nothing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratigraph.archive import Archive
    from stratigraph.store.graph import Table

DOCUMENT = Path(__file__).resolve().parent / "cypher.md"
SHOWN = 10  # rows of an answer
COMPARED = range(0, 31, 5)  # steps at which w0 and w1 are compared, for the questions about distances

_RECIPE = re.compile(
    r"^### (?P<number>\d+)\. (?P<title>[^\n]+)\n(?P<said>(?:(?!^### ).)*?)"
    r"^```cypher\n// parameters: (?P<parameters>[^\n]+)\n// columns: (?P<columns>[^\n]+)\n(?P<text>.*?)^```\n\n"
    r"With `(?P<values>\{[^\n]*\})`[^\n]*\n\n<!-- answer -->\n(?P<answer>.*?)<!-- end -->\n",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One question of the cookbook."""

    number: int
    title: str
    text: str
    parameters: tuple[str, ...]
    columns: tuple[str, ...]
    values: dict[str, Any]
    answer: str


def recipes(document: str) -> Iterator[Recipe]:
    """Every question, in order."""
    for found in _RECIPE.finditer(document):
        names = [name for name in found["parameters"].split(", ") if name != "none"]
        yield Recipe(
            int(found["number"]),
            found["title"],
            found["text"],
            tuple(names),
            tuple(found["columns"].split(", ")),
            json.loads(found["values"]),
            found["answer"],
        )


def with_answers(document: str, archive: Archive) -> str:
    """The document with what this archive answers."""

    def answered(found: re.Match[str]) -> str:
        table = archive.cypher(found["text"], json.loads(found["values"]), limit=1000)
        start, end = found.start("answer") - found.start(), found.end("answer") - found.start()
        return found[0][:start] + _as_markdown(table, found["columns"].split(", ")) + found[0][end:]

    return _RECIPE.sub(answered, document)


def _as_markdown(table: Table, columns: list[str]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in table.rows[:SHOWN]]
    more = len(table.rows) - SHOWN
    if more > 0:
        lines += ["", f"and {more}{' or more' if table.truncated else ''} rows more."]
    elif not table.rows:
        lines += ["", "No rows."]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, dict | list):
        value = _graph(value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def _graph(value: Any) -> str:
    """Nodes, relationships and paths as people write them in Cypher."""
    if isinstance(value, list):
        return "[" + ", ".join(_cell(one) for one in value) + "]"
    if "nodes" in value:
        return " - ".join(_graph(node) for node in value["nodes"])
    if "labels" in value:
        return f"(:{':'.join(value['labels'])} {value.get('id', '')})"
    if "type" in value:
        held = ", ".join(f"{name}: {value[name]}" for name in sorted(value) if name not in {"type", "run"})
        return f"[:{value['type']} {{{held}}}]"
    return json.dumps(value, sort_keys=True)


def main() -> None:
    """Write the answers anew."""
    from stratigraph.archive import open_archive  # noqa: PLC0415 - only this needs the server's extra

    with open_archive(sys.argv[1], create=False) as archive:
        for step in COMPARED:
            archive.nnstd(f"w0@{step}", f"w1@{step}")
        DOCUMENT.write_text(with_answers(DOCUMENT.read_text(encoding="utf-8"), archive), encoding="utf-8")


if __name__ == "__main__":
    main()
