"""Every word said to the graph, as files: ``load("runs/snapshot")`` gives ``queries/read/snapshot.cypher``.

A file begins with a header of comments: what it is for, its parameters and the columns of its answer. The header is the
contract: parameters are checked before a query is sent, and a test compares the columns with what an engine returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_FIELDS = ("purpose", "parameters", "columns")


@dataclass(frozen=True, slots=True)
class Query:
    """One statement with its contract. ``text`` is without the header's comments."""

    name: str
    text: str
    purpose: str
    parameters: tuple[str, ...]
    columns: tuple[str, ...]


@cache
def load(name: str) -> Query:
    """The query of that name, ``folder/file`` without the suffix."""
    header, text = _split((files(__name__) / f"{name}.cypher").read_text(encoding="utf-8"))
    missing = [field for field in _FIELDS if field not in header]
    if missing:
        raise ValueError(f"{name}.cypher: expected a header with {', '.join(_FIELDS)}, found none of {missing}")
    return Query(name, text, header["purpose"], _names(header["parameters"]), _names(header["columns"]))


def statements(name: str) -> list[str]:
    """The statements of a file that holds several, such as ``schema/001-archive``, in order."""
    _, text = _split((files(__name__) / f"{name}.cypher").read_text(encoding="utf-8"))
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def names() -> Iterator[str]:
    """The names of all files, sorted: what is there to load."""
    for folder in sorted(entry.name for entry in files(__name__).iterdir() if entry.is_dir()):
        for file in sorted(entry.name for entry in (files(__name__) / folder).iterdir()):
            if file.endswith(".cypher"):
                yield f"{folder}/{file.removesuffix('.cypher')}"


def _split(source: str) -> tuple[dict[str, str], str]:
    header: dict[str, str] = {}
    lines = source.splitlines()
    field = ""
    at = 0
    for at, line in enumerate(lines):  # noqa: B007 - where the header ends is needed after the loop
        if not line.startswith("//"):
            break
        said = line.removeprefix("//").strip()
        name, colon, rest = said.partition(":")
        if colon and name in _FIELDS:
            field = name
            header[field] = rest.strip()
        elif field:
            header[field] += " " + said
    return header, "\n".join(lines[at:]).strip()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip() and name.strip() != "none")
