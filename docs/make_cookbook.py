"""Runs every query of docs/cypher.md on the demo's archive and writes its answer under it.

    topostrata demo --no-serve --out demo-out
    python docs/make_cookbook.py demo-out/archive

And, on a Neo4j server that holds the same archive, writes how it found them into the table of plans.

    topostrata copy demo-out/archive bolt://localhost
    python docs/make_cookbook.py --plans bolt://localhost

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
    from topostrata.archive import Archive
    from topostrata.store.graph import Table

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


def with_plans(document: str, uri: str) -> str:
    """The document with the plans of a Neo4j server: where each question begins, and how much it reads."""
    import neo4j  # noqa: PLC0415 - only this talks to a server by itself

    from topostrata.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    auth = settings.neo4j_user, settings.neo4j_secret()
    lines = []
    with neo4j.GraphDatabase.driver(uri, auth=auth, notifications_min_severity="OFF") as driver:
        for recipe in recipes(document):
            answer = driver.execute_query("PROFILE " + recipe.text, recipe.values, database_=settings.neo4j_database)
            agent, plan = answer.summary.server.agent, answer.summary.profile
            assert plan is not None
            starts = "; ".join(dict.fromkeys(_starts(plan)))
            lines.append(f"| {recipe.number} | {starts} | {_hits(plan):,} | {len(answer.records):,} |")
    head = [f"{agent}:", "", "| question | begins at | reads (db hits) | rows |", "| ---: | --- | ---: | ---: |"]
    before, _, rest = document.partition("<!-- plans -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    return before + "<!-- plans -->\n" + "\n".join([*head, *lines]) + "\n" + end + after


def _starts(plan: dict[str, Any]) -> Iterator[str]:
    """The leaves of a plan: what is looked up or scanned first."""
    kind = plan["operatorType"].partition("@")[0]
    if not plan.get("children") and kind != "Argument":
        yield f"{kind} `{plan['args'].get('Details', '')}`"
    for child in plan.get("children", ()):
        yield from _starts(child)


def _hits(plan: dict[str, Any]) -> int:
    return int(plan["dbHits"]) + sum(_hits(child) for child in plan.get("children", ()))


def main() -> None:
    """Write the answers, or the plans, anew."""
    from topostrata.archive import open_archive  # noqa: PLC0415 - only this needs the server's extra

    if sys.argv[1] == "--plans":
        DOCUMENT.write_text(with_plans(DOCUMENT.read_text(encoding="utf-8"), sys.argv[2]), encoding="utf-8")
        return
    with open_archive(sys.argv[1], create=False) as archive:
        for step in COMPARED:
            archive.nnstd(f"w0@{step}", f"w1@{step}")
        DOCUMENT.write_text(with_answers(DOCUMENT.read_text(encoding="utf-8"), archive), encoding="utf-8")


if __name__ == "__main__":
    main()
