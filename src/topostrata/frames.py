"""Results as columns: which columns a type of result has, and their values as pandas data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from topostrata.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to a user's query. ``truncated`` says that there were more rows than asked for."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    truncated: bool


@cache
def columns(kind: type) -> dict[str, str]:
    """The attributes of a result dataclass that its JSON has, each with its name there: fields, then properties.

    All attributes are columns, so that no new one is forgotten. ``json_names`` of the dataclass gives some of them
    another name, or None to leave them out.

    >>> from topostrata.runs import Parent
    >>> columns(Parent)
    {'run': 'parent', 'step': 'step', 'how': 'how'}
    """
    renamed: Mapping[str, str | None] = getattr(kind, "json_names", {})
    computed = [name for name, member in vars(kind).items() if isinstance(member, property | cached_property)]
    names = {name: renamed.get(name, name) for name in (*(field.name for field in fields(kind)), *computed)}
    return {attribute: name for attribute, name in names.items() if name is not None and not name.startswith("_")}


def frame(rows: Iterable[Mapping[str, Any]], names: Iterable[str] | None = None) -> pd.DataFrame:
    """A data frame of rows; ``names`` are its columns if there are no rows."""
    try:
        import pandas as pd  # noqa: PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError("a data frame", "pandas") from error
    return pd.DataFrame(list(rows), columns=None if names is None else list(names))
