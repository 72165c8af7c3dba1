"""Every statement sent to the graph, as files: ``load("runs/layers")`` gives ``queries/runs/layers.cypher``.

A file begins with a header of comments: what it is for, its parameters and the columns of its answer. The header is the
contract: parameters are checked before a query is sent, and a test compares the columns with what an engine returns.

The files of ``cookbook/`` are for users: they stand in docs/cypher.md, with a title and an example's values, and
``archive.cypher`` runs their text.

>>> query = load("cookbook/inputs")
>>> query.parameters, query.columns
(('id', 'step'), ('input', 'layer', 'tap', 'born'))
>>> query.example
{'id': 'w0/hidden1/5', 'step': 30}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from topostrata.errors import NotFoundError

_REQUIRED = ("purpose", "parameters", "columns")
_FIELDS = (*_REQUIRED, "title", "example", "instead")


@dataclass(frozen=True, slots=True)
class Query:
    """One statement with its contract.

    ``text`` is without the header's comments. A cookbook query has a ``title`` and an ``example``: the values of its
    parameters on the demo's archive; and ``instead``, where larger archives are better asked in another way, says how.
    Elsewhere they are empty.
    """

    name: str
    text: str
    purpose: str
    parameters: tuple[str, ...]
    columns: tuple[str, ...]
    title: str
    example: Mapping[str, Any]
    instead: str


@cache
def load(name: str) -> Query:
    """The query of that name, ``folder/file`` without the suffix; ``NotFoundError`` where there is none."""
    header, text = _split(_source(name))
    missing = [field for field in _REQUIRED if field not in header]
    if missing:
        raise ValueError(f"{name}.cypher: expected a header with {', '.join(_REQUIRED)}, which lacks {missing}")
    return Query(
        name,
        text,
        header["purpose"],
        _listed(header["parameters"]),
        _listed(header["columns"]),
        header.get("title", ""),
        json.loads(header.get("example", "{}")),
        header.get("instead", ""),
    )


def statements(name: str) -> list[str]:
    """The statements of a file that holds several, such as ``schema/001-archive``, in order."""
    _, text = _split(_source(name))
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def names(folder: str | None = None) -> tuple[str, ...]:
    """The names of all files, or of those in a folder, sorted."""
    folders = [entry.name for entry in files(__name__).iterdir() if entry.is_dir() and folder in {None, entry.name}]
    return tuple(
        f"{name}/{file.name.removesuffix('.cypher')}"
        for name in sorted(folders)
        for file in sorted((files(__name__) / name).iterdir(), key=lambda file: file.name)
        if file.name.endswith(".cypher")
    )


def _source(name: str) -> str:
    try:
        return (files(__name__) / f"{name}.cypher").read_text(encoding="utf-8")
    except OSError:
        raise NotFoundError(
            f"expected the name of a query such as cookbook/inputs, found {name!r}",
            hint="topostrata.queries.names() gives all",
        ) from None


def _split(source: str) -> tuple[dict[str, str], str]:
    header: dict[str, str] = {}
    lines = source.splitlines()
    field = ""
    at = 0
    for at, line in enumerate(lines):  # noqa: B007 - where the header ends is needed after the loop
        if not line.startswith("//"):
            break
        comment = line.removeprefix("//").strip()
        name, colon, rest = comment.partition(":")
        if colon and name in _FIELDS:
            field = name
            header[field] = rest.strip()
        elif field:
            header[field] += " " + comment
    return header, "\n".join(lines[at:]).strip()


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip() and name.strip() != "none")
