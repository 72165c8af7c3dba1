"""Parameters in a URL are text: which text is a number, a truth value, or none of a route's parameters.

One value has one spelling. What a framework would make something of (``05``, ``yes``, `` 5``), a parameter twice, and
one that the route has not are refused: a mistyped ``form=10`` is not quietly the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

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


def check_texts(request: Request, dependant: Dependant) -> None:
    """Refuse parameters of a request that are not spelt as they are to be, come twice, or are none of the route's."""
    for field in dependant.path_params:
        _check(field.alias, request.path_params[field.alias], field.field_info.annotation)
    kinds = {field.alias: field.field_info.annotation for field in _queries(dependant)}
    seen: set[str] = set()
    for name, text in request.query_params.multi_items():
        if name not in kinds:
            raise InvalidInputError(
                f"expected parameters of this path, found {name[:64]!r}",
                hint=f"it has {', '.join(kinds)}" if kinds else "it has none",
            )
        several = list in {get_origin(kind) for kind in _parts(kinds[name])}
        if name in seen and not several:
            raise InvalidInputError(f"{name}: expected it once, found it twice")
        seen.add(name)
        _check(name, text, kinds[name])


def _queries(dependant: Dependant) -> Iterator[Any]:
    """The parameters of a route in the URL's query, those of what it depends on too."""
    yield from dependant.query_params
    for inner in dependant.dependencies:
        yield from _queries(inner)


def _check(name: str, text: str, kind: Any) -> None:
    for part in _parts(kind):
        pattern, words = _FORMS.get(part, (None, ""))
        if pattern is not None and not pattern.fullmatch(text):
            raise InvalidInputError(f"{name}: expected {words}, found {text[:40]!r}")


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
