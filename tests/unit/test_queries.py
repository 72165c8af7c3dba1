"""Every word said to the graph stands in a file whose header says what it takes and gives."""

from __future__ import annotations

import ast
import os
import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest

import topostrata
from tests.statements import WRITING
from topostrata import queries
from topostrata.errors import NotFoundError
from topostrata.service.cli.cypher import as_options, parameters

NAMES = queries.names()
SCHEMA = [name for name in NAMES if name.startswith("schema/")]
QUERIES = [name for name in NAMES if name not in SCHEMA]

_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|//[^\n]*")
# What no sentence and no identifier holds: a pattern of a node or of a relationship, or a clause with one.
_CYPHER = re.compile(
    r"\(\w*:[A-Z]\w+[ ){]|-\[\w*:[A-Z_]{3,}|\b(MATCH|MERGE|CREATE)\s+\(|\bUNWIND\s+[$\[]|\bRETURN\s+\w+\.\w"
    r"|\bCREATE (INDEX|CONSTRAINT) \w+ (IF|FOR)\b"
)
_PROGRAM = Path(topostrata.__file__).parent


def test_every_file_is_found_and_loads() -> None:
    """The loader names each ``.cypher`` file once, and each has its header."""
    root = files(queries)
    there = sorted(
        f"{folder.name}/{file.name.removesuffix('.cypher')}"
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".cypher")
    )
    assert list(NAMES) == there
    assert len(there) > 40
    for name in there:
        assert queries.load(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_purpose_parameters_and_columns(name: str) -> None:
    """The purpose is a sentence; names are declared once, and the text has no comments of its own."""
    query = queries.load(name)
    assert query.purpose[0].isupper()
    assert query.purpose.endswith(".")
    for declared in (query.parameters, query.columns):
        assert len(set(declared)) == len(declared)
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", word) for word in declared), declared
    assert "//" not in _STRING.sub("", query.text)
    assert query.text


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_parameters_are_those_of_the_text(name: str) -> None:
    """Every ``$name`` is declared, every declared one is used."""
    query = queries.load(name)
    assert set(query.parameters) == set(re.findall(r"\$(\w+)", _STRING.sub("", query.text)))


@pytest.mark.parametrize("name", QUERIES)
def test_the_declared_columns_are_those_of_the_last_return(name: str) -> None:
    """In their order; what returns nothing declares none."""
    query = queries.load(name)
    _, keyword, returned = query.text.rpartition("RETURN ")
    if not keyword:
        assert query.columns == ()
        return
    returned = re.split(r"\n?\s*(?:ORDER BY|LIMIT|SKIP)\b", returned)[0].removeprefix("DISTINCT ")
    assert tuple(column.split()[-1] for column in _split(returned)) == query.columns


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_one_statement(name: str) -> None:
    """Each file is sent as it is, so it holds one."""
    assert ";" not in _STRING.sub("", queries.load(name).text)


def test_what_is_read_does_not_write() -> None:
    """Neither the cookbook nor what the program sends by ``.read`` changes the graph."""
    read = {
        node.args[0].value
        for path in _modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "read"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value in NAMES
    }
    assert len(read) > 10
    for name in (*read, *queries.names("cookbook")):
        assert not WRITING.search(_STRING.sub("", queries.load(str(name)).text)), name


def test_no_query_is_there_for_tests_alone() -> None:
    """The program names every file outside the cookbook, which users run."""
    named = {text for path in _modules() for _, text in _strings(path)}
    unused = [name for name in QUERIES if not name.startswith("cookbook/") and name not in named]
    assert unused == []


@pytest.mark.parametrize("name", queries.names("cookbook"))
def test_a_cookbook_query_has_a_title_and_an_example(name: str) -> None:
    """The example gives every parameter a value, in the header's order, and a shell hands it over unchanged."""
    query = queries.load(name)
    assert query.title
    assert tuple(query.example) == query.parameters
    options = shlex.split(as_options(query))
    assert options[::2] == ["-p"] * len(query.parameters)
    assert parameters(options[1::2]) == query.example


@pytest.mark.parametrize("name", SCHEMA)
def test_the_schema_can_be_applied_again(name: str) -> None:
    """Every statement makes a constraint or an index if it is not there, under a name of its own."""
    matches = [re.match(r"CREATE (?:CONSTRAINT|INDEX) (\w+) IF NOT EXISTS ", text) for text in queries.statements(name)]
    assert all(matches), queries.statements(name)
    names = [match[1] for match in matches if match]
    assert len(set(names)) == len(names) > 0


def test_no_cypher_stands_in_python() -> None:
    """All strings of the package but docstrings: none holds a pattern or a clause."""
    suspects = [
        f"{path.relative_to(_PROGRAM)}:{line}: {text[:60]!r}"
        for path in _modules()
        for line, text in _strings(path)
        if _CYPHER.search(text)
    ]
    assert suspects == []


def test_the_search_for_cypher_finds_it() -> None:
    """The pattern of the test above knows Cypher from prose."""
    for text in (
        "MATCH (n) RETURN n",
        "x (a:Neuron {id: 1})",
        "-[c:CONNECTS]->",
        "CREATE INDEX x FOR (n)",
        "RETURN n.id",
    ):
        assert _CYPHER.search(text), text
    for text in (
        "match (more or less)",
        "expected: CREATE and SET are refused",
        "CREATE INDEX",
        "(see: README)",
        "RETURN",
    ):
        assert not _CYPHER.search(text), text


def test_a_file_without_its_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file and what its header lacks."""
    (tmp_path / "read").mkdir()
    (tmp_path / "read" / "bare.cypher").write_text("// purpose: None.\nRETURN 1 AS x\n", encoding="utf-8")
    monkeypatch.setattr(queries, "files", lambda _name: tmp_path)
    with pytest.raises(ValueError, match=r"read/bare\.cypher.*lacks.*parameters.*columns"):
        queries.load("read/bare")


def test_a_query_that_is_not_there_is_named() -> None:
    """A name that no file has is NotFoundError, whatever the name is like."""
    for name in ("cookbook/nowhere", "nowhere/inputs", "", "a" * 1000):
        with pytest.raises(NotFoundError, match="expected the name of a query"):
            queries.load(name)


def test_a_header_may_go_on_over_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field ends where the next begins; the text is what follows the comments."""
    (tmp_path / "read").mkdir()
    text = "// purpose: Long\n//   enough.\n// parameters: a,\n//  b\n// columns: none\nRETURN $a, $b\n"
    (tmp_path / "read" / "long.cypher").write_text(text, encoding="utf-8")
    monkeypatch.setattr(queries, "files", lambda _name: tmp_path)
    query = queries.load("read/long")
    assert (query.purpose, query.parameters, query.columns) == ("Long enough.", ("a", "b"), ())
    assert query.text == "RETURN $a, $b"


def _modules() -> list[Path]:
    """All files of the program, those behind links too."""
    folders = os.walk(_PROGRAM, followlinks=True)
    return sorted(Path(folder) / file for folder, _, names in folders for file in names if file.endswith(".py"))


def _split(text: str) -> list[str]:
    """At commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _strings(path: Path) -> list[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
