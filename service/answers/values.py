"""Results as documents from which a program gets the same values back: ``topostrata.Client`` asks for these.

``shape`` makes JSON to be read by anybody: chosen columns, arrays as lists, what is computed beside what is stored.
Here is everything that makes the value again, and nothing else. Both follow from the dataclass of a result: an object
has its fields, an array its dtype, its shape and its bytes in base64, a number that is not finite its name. What kind
of value a document holds is never said in it: who reads it knows what was asked.
"""

from __future__ import annotations

import math
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

MEDIA_TYPE = "application/vnd.topostrata+json"
CHANGED = "Topostrata-Changed"  # the header that says whether a change of something changed it
UNPROJECTED = "Topostrata-Unprojected"  # the header that counts the layers that a query could not see to the end
CONNECTIONS = "Topostrata-Connections"  # the header that says that connections of a snapshot are not in the graph yet
SCHEMA = {"schema": {"description": "The same result with all fields of its type in `topostrata`, for its client."}}

T = TypeVar("T")
_READ: dict[Any, Callable[[Any], Any]] = {float: float, datetime: datetime.fromisoformat}


def as_document(value: Any) -> Any:
    """A result as values that JSON has.

    >>> from topostrata.runs import Parent
    >>> as_document((Parent("w0", 5, "fork"), math.inf))
    [{'run': 'w0', 'step': 5, 'how': 'fork'}, 'inf']
    """
    if getattr(value, "ndim", 0):  # an array of NumPy, which a list of runs does not need
        return {"dtype": value.dtype.str, "shape": list(value.shape), "bytes": b64encode(value.tobytes()).decode()}
    if isinstance(value, list | tuple | AbstractSet):
        return [as_document(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: as_document(entry) for key, entry in value.items()}
    if is_dataclass(value):
        return {field.name: as_document(getattr(value, field.name)) for field in fields(value) if field.init}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    value = value.item() if hasattr(value, "ndim") else value
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def value_of(kind: type[T], document: Any) -> T:
    """The value of that type whose document this is.

    Raises ``TypeError``, ``ValueError``, ``KeyError`` or ``AttributeError`` for the document of another.

    >>> from topostrata.runs import Parent
    >>> value_of(tuple[Parent, ...], [{"run": "w0", "step": 5, "how": "fork"}])
    (Parent(run='w0', step=5, how='fork'),)
    """
    return cast("T", _value(kind, document))


def _value(kind: Any, document: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        others = [part for part in arguments if part is not NoneType]
        return document if document is None or len(others) > 1 else _value(others[0], document)
    if isinstance(origin, type):
        return _container(origin, arguments, document)
    if kind in _READ:
        return _READ[kind](document)
    if is_dataclass(kind):
        hints = _hints(cast("type", kind))
        known = {field.name for field in fields(kind) if field.init} & document.keys()
        return kind(**{name: _value(hints[name], document[name]) for name in known})  # type: ignore[operator]
    if hasattr(kind, "_fields"):  # a named tuple
        hints = _hints(kind)
        return kind(*(_value(hints[name], entry) for name, entry in zip(kind._fields, document, strict=True)))
    return document


def _container(origin: type, arguments: tuple[Any, ...], document: Any) -> Any:
    if issubclass(origin, tuple):
        if arguments[-1] is not ...:
            return tuple(_value(part, entry) for part, entry in zip(arguments, document, strict=True))
        return tuple(_value(arguments[0], entry) for entry in document)
    if issubclass(origin, list | AbstractSet):
        return origin(_value(arguments[0], entry) for entry in document)  # type: ignore[call-arg]
    if issubclass(origin, Mapping):
        return {key: _value(arguments[1], entry) for key, entry in document.items()}
    import numpy as np  # noqa: PLC0415 - a list of runs does not need it

    assert issubclass(origin, np.ndarray), origin  # noqa: S101 - the types of results are ours
    data = np.frombuffer(b64decode(document["bytes"], validate=True), np.dtype(document["dtype"]))
    return data.reshape(document["shape"]).copy()


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of the fields; of some modules the names are there for type checkers only."""
    return get_type_hints(kind, localns=_Names(vars(sys.modules[kind.__module__])))


class _Names(dict[str, Any]):
    """The names of a module, and those of ours that everybody can import."""

    def __missing__(self, name: str) -> Any:
        import topostrata  # noqa: PLC0415 - who asks for a value has it

        if name not in topostrata.__all__:
            raise KeyError(name)
        return getattr(topostrata, name)
