"""Results as JSON: values and schema both come from the dataclass of a result, so each column is written once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from typing_extensions import TypedDict

from topostrata.frames import columns

_PLAIN = frozenset({str, int, bool, NoneType})


def as_json(value: Any) -> Any:
    """A result as JSON: its ``columns`` as an object, arrays and tuples as lists, times as text in ISO 8601.

    Numbers that are not finite become null, because JSON cannot express them.

    >>> from topostrata.runs import Parent
    >>> as_json((Parent("w0", 5, "fork"), math.inf))
    [{'parent': 'w0', 'step': 5, 'how': 'fork'}, None]
    """
    if type(value) in _PLAIN or (isinstance(value, float) and math.isfinite(value)):
        return value
    if getattr(value, "ndim", 0):  # an array; this test does not import NumPy, which a list of runs does not need
        return value.tolist()
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    if is_dataclass(value):
        value = {name: getattr(value, attribute) for attribute, name in columns(cast("type", type(value))).items()}
    if isinstance(value, Mapping):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) else value


@cache
def answer_type(kind: type, name: str | None = None) -> Any:
    """The type of the JSON of a result, for the schema of REST: ``LayerEvolutionAnswer`` and so on."""
    return shape(name or f"{kind.__name__}Answer", kind.__doc__, answer_fields(kind))


def answer_fields(kind: type) -> dict[str, Any]:
    """The names and types of the columns of a result's JSON."""
    hints = get_type_hints(kind)
    for attribute in columns(kind).keys() - hints.keys():
        member = vars(kind)[attribute]
        hints[attribute] = get_type_hints(member.fget if isinstance(member, property) else member.func)["return"]
    return {name: _json_type(hints[attribute]) for attribute, name in columns(kind).items()}


def shape(name: str, doc: str | None, fields: Mapping[str, Any]) -> Any:
    """A type of JSON objects that have all these fields."""
    answer = cast("Any", TypedDict)(name, dict(fields))
    answer.__doc__ = doc
    return answer


def _json_type(hint: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - only the schema of REST needs it

    origin, arguments = get_origin(hint), get_args(hint)
    if origin is np.ndarray:
        number = get_args(arguments[1])[0]
        kinds = {np.integer: list[int], np.bool_: list[bool]}
        return next((kind for base, kind in kinds.items() if issubclass(number, base)), list[float])
    if origin in {tuple, list}:
        return list[_json_type(arguments[0])]  # type: ignore[misc]
    if origin in {Union, UnionType}:
        return Union[tuple(NoneType if part is NoneType else _json_type(part) for part in arguments)]  # noqa: UP007
    if origin is Literal or hint is datetime:
        return str
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, _json_type(arguments[1])]  # type: ignore[misc]
    return answer_type(cast("type", hint)) if is_dataclass(hint) else hint
