"""Which connections of a run the graph shall hold: all, none, those of some layers, or the last snapshots'."""

from __future__ import annotations

import re
from collections.abc import Sequence

from topostrata.errors import InvalidInputError

Projection = str | Sequence[str]  # all, none, last N; or layers

_LAST = re.compile(r"last\s+(.*)", re.DOTALL)
_MOST = 10**9


def last_of(projection: Projection) -> int | None:
    """How many snapshots ``"last N"`` keeps, None for anything else; an error where N is no whole number from 1 on.

    Only the text alone says so: layers are a list, in which a layer may have any name.

    >>> last_of("last 50"), last_of(["last 50"]), last_of("all")
    (50, None, None)
    """
    form = _LAST.fullmatch(projection) if isinstance(projection, str) else None
    if form is None:
        return None
    number = form[1].strip()
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:20]) <= _MOST):
        raise InvalidInputError(
            f"projection: expected 'last N' with a whole number from 1 to {_MOST:,}, found {projection[:80]!r}",
            hint="the layers to project are a list: a layer may then have any name",
        )
    return int(number)


def projection_of(names: Sequence[str]) -> Projection:
    """What a command or a route was told: ``all``, ``none`` or ``last N`` alone, otherwise layers.

    Where a single layer has such a name, it is to be named twice.

    >>> projection_of(["none"]), projection_of(["none", "none"]), projection_of([])
    ('none', ['none', 'none'], 'all')
    """
    if not names:
        return "all"
    is_word = len(names) == 1 and (names[0] in {"all", "none"} or last_of(names[0]) is not None)
    return names[0] if is_word else list(names)


def projection_in(text: str) -> Projection:
    """What a text says in which names are separated by commas.

    >>> projection_in("l0, l1"), projection_in("last 2"), projection_in("")
    (['l0', 'l1'], 'last 2', 'all')
    """
    return projection_of([name.strip() for name in text.split(",") if name.strip()])


def names_of(projection: Projection) -> list[str]:
    """The names that ``projection_of`` reads as this projection; none for ``"all"``."""
    if isinstance(projection, str):
        return [] if projection == "all" else [projection]
    names = list(projection)
    is_like_a_word = len(names) == 1 and (names[0] in {"all", "none"} or _LAST.fullmatch(names[0]) is not None)
    return names * 2 if is_like_a_word else names or ["none"]


def layers_in(projection: Projection) -> list[str] | None:
    """The layers that a projection names, or None where it says all, or the last snapshots of all."""
    if isinstance(projection, str):
        return None if projection == "all" or last_of(projection) else [] if projection == "none" else [projection]
    return list(projection)
