"""Answers as pandas data frames, for who has pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from topostrata.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] | None = None) -> pd.DataFrame:
    """A data frame of rows; ``columns`` are its columns where there are no rows to tell."""
    try:
        import pandas as pd  # noqa: PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError("a data frame", "pandas") from error
    return pd.DataFrame(list(rows), columns=None if columns is None else list(columns))
