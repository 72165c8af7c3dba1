"""Parameters in a URL are text: which text is a number, a truth value, or none of a route's parameters.

One value has one spelling. What a framework would make something of (``05``, ``yes``, `` 5``), a parameter twice, and
one that the route has not are refused: a mistyped ``form=10`` is not quietly the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant

from topostrata.errors import InvalidInputError

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?")
_FORMS = {
    int: (_WHOLE, "a whole number such as 0 or 25"),
    float: (_DECIMAL, "a number such as 0.5"),
    bool: (re.compile("true|false"), "true or false"),
}


class _Text(NamedTuple):
    """How a parameter is to be spelt: patterns and the words for each; whether it may come several times."""

    forms: tuple[tuple[re.Pattern[str], str], ...]
    several: bool


class Texts(NamedTuple):
    """The parameters of a route, those in its path and those in the query."""

    path: dict[str, _Text]
    query: dict[str, _Text]


def texts_of(dependant: Dependant) -> Texts:
    """What a route says of its parameters, read off once: a request need not look for it."""
    path = {field.alias: _text(field.field_info.annotation) for field in dependant.path_params}
    return Texts(path, {field.alias: _text(field.field_info.annotation) for field in _queries(dependant)})


def check_texts(request: Request, texts: Texts) -> None:
    """Refuse parameters of a request that are not spelt as they are to be, come twice, or are none of the route's."""
    for name, text in texts.path.items():
        _check(name, request.path_params[name], text)
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in texts.query:
            raise InvalidInputError(
                f"expected parameters of this path, found {name[:64]!r}",
                hint=f"it has {', '.join(texts.query)}" if texts.query else "it has none",
            )
        text = texts.query[name]
        if name in seen and not text.several:
            raise InvalidInputError(f"{name}: expected it once, found it twice")
        seen.add(name)
        _check(name, value, text)


def _queries(dependant: Dependant) -> Iterator[Any]:
    """The parameters of a route in the URL's query, those of what it depends on too."""
    yield from dependant.query_params
    for inner in dependant.dependencies:
        yield from _queries(inner)


def _check(name: str, value: str, text: _Text) -> None:
    for pattern, words in text.forms:
        if not pattern.fullmatch(value):
            raise InvalidInputError(f"{name}: expected {words}, found {value[:40]!r}")


def _text(kind: Any) -> _Text:
    parts = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    return _Text(tuple(_FORMS[part] for part in parts if part in _FORMS), list in {get_origin(part) for part in parts})
