"""Answers as columns: which ones a type of result has, and their values as pandas data frames for who has pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from topostrata.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


@cache
def columns(kind: type) -> dict[str, str]:
    """The attributes of a result dataclass that answers hold, each with its name there: fields, then properties.

    All of them are columns, so that no new one is forgotten. ``json_names`` of the dataclass gives some of them another
    name, or None to those that stay inside.

    >>> from topostrata.runs import Parent
    >>> columns(Parent)
    {'run': 'parent', 'step': 'step', 'how': 'how'}
    """
    renamed: Mapping[str, str | None] = getattr(kind, "json_names", {})
    computed = [name for name, member in vars(kind).items() if isinstance(member, property | cached_property)]
    names = {name: renamed.get(name, name) for name in (*(field.name for field in fields(kind)), *computed)}
    return {attribute: name for attribute, name in names.items() if name is not None and not name.startswith("_")}


def frame(rows: Iterable[Mapping[str, Any]], names: Iterable[str] | None = None) -> pd.DataFrame:
    """A data frame of rows; ``names`` are its columns where there are no rows to tell."""
    try:
        import pandas as pd  # noqa: PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError("a data frame", "pandas") from error
    return pd.DataFrame(list(rows), columns=None if names is None else list(names))
