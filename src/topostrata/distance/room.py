"""The memory that a match would take, said before it is paid.

Matching looks at the pairs of units that share an input, and these are few where layers are sparse. What can be many
are ties: units without inputs, and units that share nothing, tie with each other all over, and each such pair is
listed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.memory import FREE, check_memory

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_PER_PAIR = 40  # bytes: a tied pair with its costs by the next criterion and its place in the problem made of them
MOST_UNCHECKED = math.isqrt(FREE // _PER_PAIR)  # units: all their pairs may be tied
_HINT = "identity needs none: --alignment identity, alignment='identity'; TOPOSTRATA_MEMORY_BYTES raises the limit"

_layers: ContextVar[tuple[str, ...]] = ContextVar("layers", default=())


@contextmanager
def of_layers(names: Iterable[str]) -> Iterator[None]:
    """Name the layers whose targets are matched meanwhile in what is refused."""
    token = _layers.set(tuple(dict.fromkeys(names)))
    try:
        yield
    finally:
        _layers.reset(token)


def check_matrix(units_a: int, units_b: int, per_pair: int) -> None:
    """Refuse a matrix of all pairs, ``per_pair`` bytes each, that is larger than may be."""
    check_memory(f"{_where()}matching {max(units_a, units_b):,} units", units_a * units_b * per_pair, hint=_HINT)


def check_pairs(units: int, pairs: int) -> None:
    """Refuse more listed pairs than may be."""
    check_memory(f"{_where()}matching {units:,} units by {pairs:,} pairs", pairs * _PER_PAIR, hint=_HINT)


def check_tied(
    tight: NDArray[np.uint32],
    row_of: Ints,
    to_hub: Bools,
    from_hub: Bools,
    empty_a: Bools,
    empty_b: Bools,
    component: Ints,
    sizes: Ints,
) -> None:
    """Refuse more tied pairs than may be listed; the arguments are those of ``matching.tied_pairs``."""
    n = len(row_of)
    if n <= MOST_UNCHECKED:
        return
    tied_rows = sizes[component] > 1
    of_column = component[row_of]
    tied_columns = sizes[of_column] > 1
    pairs = len(tight) + int(tied_rows.sum())
    for rows, columns in ((to_hub, from_hub), (empty_a, empty_b)):
        if len(rows):
            per_component: Any = np.bincount(component[rows & tied_rows], minlength=len(sizes))
            pairs += int(per_component @ np.bincount(of_column[columns & tied_columns], minlength=len(sizes)))
    check_pairs(n, pairs)


def _where() -> str:
    names = _layers.get()
    if not names:
        return ""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"layer{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:3]))}{rest}: "
