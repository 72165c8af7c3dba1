"""What the documents say of queries and of the REST API is what there is."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from topostrata import queries

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SPEC = importlib.util.spec_from_file_location("make_cookbook", ROOT / "docs" / "make_cookbook.py")
assert SPEC is not None
assert SPEC.loader is not None
make_cookbook = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_cookbook)

_ENDPOINT = re.compile(
    r"(?:\b(GET|PUT|POST|PATCH|DELETE) )?(?:https?://[^/\s]+)?(/(?:v1/[\w{}./-]*[\w}]|healthz|readyz))"
)

pytestmark = pytest.mark.checkout


def page() -> str:
    return (ROOT / "docs" / "cypher.md").read_text(encoding="utf-8")


def test_the_page_shows_every_cookbook_query_once() -> None:
    """docs/cypher.md has a place for each file of queries/cookbook, and all its Cypher comes from there."""
    places = re.findall(r"^<!-- query: (\w+) -->$", page(), re.MULTILINE)
    assert tuple(sorted(f"cookbook/{name}" for name in places)) == queries.names("cookbook")
    assert list(make_cookbook.answers(page())) == places
    assert len(re.findall(r"^```cypher$", page(), re.MULTILINE)) == len(places)


def test_the_page_says_what_the_files_say() -> None:
    """Title, purpose, text and command of each question are those of its file; an answer has the file's columns."""
    answers = make_cookbook.answers(page())
    remade = make_cookbook.with_answers(page(), lambda query: answers[query.name.removeprefix("cookbook/")])
    assert remade == page(), "run docs/make_cookbook.py on an archive of `topostrata demo`"
    for name, answer in answers.items():
        assert answer.startswith(make_cookbook.heads(queries.load(f"cookbook/{name}").columns)), name


def test_the_table_of_plans_shows_no_question_that_is_gone() -> None:
    """Its rows are questions of the page, in the page's order; a new one comes in with the next `--plans`."""
    _, _, plans = page().partition("<!-- plans -->\n")
    rows = re.findall(r"^\| (\w+) \| \w+ `", plans, re.MULTILINE)
    assert len(rows) > 30
    assert rows == [name for name in make_cookbook.answers(page()) if name in rows]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_no_endpoint_that_is_not_there(document: Path) -> None:
    """Each path that a document shows is one of docs/openapi.json, with the method if one stands before it."""
    routes = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    for method, path in endpoints(document.read_text(encoding="utf-8")):
        methods = [method for route, methods in routes.items() if matches(route, path) for method in methods]
        assert methods, f"{document.name}: {path}"
        assert not method or method.lower() in methods, f"{document.name}: {method} {path}"


def test_endpoints_are_seen_in_prose_and_in_commands() -> None:
    """With a host, without, with a method, with a query string, and with values in the place of names."""
    text = "`POST /v1/cypher` or curl 'http://localhost:8321/v1/distances?a=w0', /v1/runs/{run}. And GET /healthz."
    assert endpoints(text) == [
        ("POST", "/v1/cypher"),
        ("", "/v1/distances"),
        ("", "/v1/runs/{run}"),
        ("GET", "/healthz"),
    ]
    assert matches("/v1/runs/{run}/snapshots/{step}", "/v1/runs/mine/snapshots/0")
    assert not matches("/v1/runs/{run}", "/v1/runs/mine/snapshots")


def endpoints(text: str) -> list[tuple[str, str]]:
    return _ENDPOINT.findall(text)


def matches(route: str, path: str) -> bool:
    """Whether a route of the contract has this path, with names or values in the place of its parameters."""
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route)), path) is not None


def test_the_style_for_neo4j_browser_is_of_what_stands_in_the_graph() -> None:
    """Each label, type and property that it shows is one that docs/cypher.md has in its table of the graph."""
    style = (ROOT / "docs" / "neo4j-browser.grass").read_text("utf-8")
    table = (
        (ROOT / "docs" / "cypher.md")
        .read_text("utf-8")
        .partition("## What stands in the graph")[2]
        .partition("\n## ")[0]
    )
    rules = re.findall(r"^(?:node|relationship)\.(\w+) \{(.*?)^\}", style, re.MULTILINE | re.DOTALL)
    assert rules
    for name, rule in rules:
        assert f":{name}" in table, name
        for shown in re.findall(r"\{(\w+)\}", rule):
            assert re.search(rf":{name}[^|]*\b{shown}\b", table), (name, shown)
