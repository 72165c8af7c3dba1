"""Writes the questions of docs/cypher.md, from ``queries/cookbook/``, with the answers of the demo's archive.

    topostrata demo --no-serve --out demo-out
    python docs/make_cookbook.py demo-out/archive

And, on a Neo4j server that holds the same archive, writes how it found them into the table of plans.

    topostrata copy demo-out/archive bolt://localhost
    python docs/make_cookbook.py --plans bolt://localhost

What stands between ``<!-- query: NAME -->`` and ``<!-- end -->`` is written here: title, purpose, command and text from
the file of that name, then the answer. A second run on the same archive changes nothing.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topostrata import queries
from topostrata.service.cli.cypher import as_options

if TYPE_CHECKING:
    from topostrata.archive import Archive
    from topostrata.frames import Table
    from topostrata.queries import Query

DOCUMENT = Path(__file__).resolve().parent / "cypher.md"
SHOWN = 10  # rows of an answer

_SECTION = re.compile(
    r"^<!-- query: (?P<name>\w+) -->\n(?:(?:(?!^<!-- ).)*?^```\n\n(?P<answer>\| (?:(?!^<!-- ).)*))?^<!-- end -->\n",
    re.MULTILINE | re.DOTALL,
)


def answers(document: str) -> dict[str, str]:
    """The answers that stand in the document, by the query's name, in the document's order."""
    return {section["name"]: section["answer"] or "" for section in _SECTION.finditer(document)}


def with_answers(document: str, answer: Callable[[Query], str]) -> str:
    """The document with every question as its file has it, and what ``answer`` says to it."""
    numbers = {name: number for number, name in enumerate(answers(document), 1)}

    def section(place: re.Match[str]) -> str:
        name = place["name"]
        query = queries.load(f"cookbook/{name}")
        return f"<!-- query: {name} -->\n{_question(numbers[name], query)}{answer(query)}<!-- end -->\n"

    return _SECTION.sub(section, document)


def _question(number: int, query: Query) -> str:
    name = query.name.removeprefix("cookbook/")
    purpose = _wrapped(query.purpose)
    if query.instead:
        purpose += "\n\n" + _wrapped(f"On a larger archive: {query.instead}")
    command = f"topostrata cypher --cookbook {name} {as_options(query)}".rstrip()
    return f"### {number}. {query.title}\n\n{purpose}\n\n```cypher\n{query.text}\n```\n\n```sh\n{command}\n```\n\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def answer_of(archive: Archive) -> Callable[[Query], str]:
    """What this archive answers to the example of a query, as a table of Markdown."""
    return lambda query: _as_markdown(archive.cypher(query.text, query.example, limit=1000), query.columns)


def heads(columns: tuple[str, ...]) -> str:
    """The first line of an answer."""
    return "| " + " | ".join(columns) + " |\n"


def _as_markdown(table: Table, columns: tuple[str, ...]) -> str:
    lines = ["| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in table.rows[:SHOWN]]
    more = len(table.rows) - SHOWN
    if more > 0:
        lines += ["", f"and {more}{' or more' if table.truncated else ''} rows more."]
    elif not table.rows:
        lines += ["", "No rows."]
    return heads(columns) + "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, dict | list):
        value = _graph(value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def _graph(value: Any) -> str:
    """Nodes, relationships and paths as people write them in Cypher."""
    if isinstance(value, list):
        return "[" + ", ".join(_cell(item) for item in value) + "]"
    if "nodes" in value:
        return " - ".join(_graph(node) for node in value["nodes"])
    if "labels" in value:
        return f"(:{':'.join(value['labels'])} {value.get('id', '')})"
    if "type" in value:
        properties = ", ".join(f"{k}: {value[k]}" for k in sorted(value) if k not in {"type", "run", "alive"})
        return f"[:{value['type']} {{{properties}}}]"
    return json.dumps(value, sort_keys=True)


def compute_again(archive: Archive) -> None:
    """What the demo computes and a copy leaves behind: distances, an inferred descent, and a match."""
    for when in ("first", "last"):
        archive.distances([f"w?@{when}"])
    archive.infer(["w?@first"], root="w0")
    archive.match("w0@last", "w4@last", keep=True)


def with_plans(document: str, uri: str) -> str:
    """The document with the plans of a Neo4j server: where each question begins, and how much it reads."""
    import neo4j  # noqa: PLC0415 - only this talks to a server by itself

    from topostrata.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    auth = settings.neo4j_user, settings.neo4j_secret()
    lines = []
    with neo4j.GraphDatabase.driver(uri, auth=auth, notifications_min_severity="OFF") as driver:
        for name in answers(document):
            query = queries.load(f"cookbook/{name}")
            result = driver.execute_query(
                "PROFILE " + query.text, dict(query.example), database_=settings.neo4j_database
            )
            agent, plan = result.summary.server.agent, result.summary.profile
            assert plan is not None
            starts = "; ".join(dict.fromkeys(_starts(plan)))
            lines.append(f"| {name} | {starts} | {_hits(plan):,} | {len(result.records):,} |")
    head = [f"{agent}:", "", "| question | begins at | reads (db hits) | rows |", "| --- | --- | ---: | ---: |"]
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
    """Write the questions with their answers, or the plans."""
    from topostrata.archive import open_archive  # noqa: PLC0415 - only this needs the server's extra

    document = DOCUMENT.read_text(encoding="utf-8")
    if len(sys.argv) != (3 if sys.argv[1:2] == ["--plans"] else 2):
        sys.exit(__doc__)
    if sys.argv[1] == "--plans":
        with open_archive(sys.argv[2], create=False) as archive:
            compute_again(archive)
        document = with_plans(document, sys.argv[2])
    else:
        with open_archive(sys.argv[1], create=False) as archive:
            document = with_answers(document, answer_of(archive))
    DOCUMENT.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
