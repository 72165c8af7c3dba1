"""The names that a reader meets: variables carry the field's nouns, and every test says its fact."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.checkout

# Participles and pronouns say nothing about a value: a mask, a row or a distance has a noun of its own.
EMPTY_NAMES = {"found", "one", "two", "held", "made", "said", "each", "asked", "given", "kept"}
MOST = 0.005  # six codebases for models have 0.0 to 0.1 %


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Each Python file below these folders: its path in the repository, and its syntax tree."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def assigned(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each variable where it gets a value, and each argument, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


@pytest.mark.parametrize("folders", [("src", "service", "ingest", "queries"), ("tests", "bench", "docs", "examples")])
def test_variables_are_named_by_nouns(folders: tuple[str, ...]) -> None:
    """Names that fit any value are less than 0.5 % of all assigned names."""
    names = [(name, f"{path}:{line}") for path, tree in sources(*folders) for name, line in assigned(tree)]
    empty = [f"{place} {name}" for name, place in names if name in EMPTY_NAMES]
    assert len(empty) < MOST * len(names), "\n".join(empty)


def test_every_test_says_its_fact() -> None:
    """A test function without a docstring does not say what is true when it passes."""
    silent = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in sources("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent, "\n".join(silent)
