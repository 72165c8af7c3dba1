"""A layer over a whole run, in one pass: births, deaths, regrowth, exploration, and how long connections live.

Memory holds two snapshots, a counter for each connection that is alive and a bit for each that ever was; never the
whole history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from topostrata import codec
from topostrata.errors import InvalidInputError
from topostrata.topology import Mask

Counts = NDArray[np.int64]

_MOST_FLAGS = 2**30  # possible connections up to which one byte each is kept; beyond, sorted cells


@dataclass(frozen=True, slots=True, eq=False)
class LayerHistory:
    """What happened to the connections of a layer (or of several) at each of K snapshots.

    ``alive``, ``born``, ``died``, ``regrown`` have shape (K,): connections alive at a snapshot; born there (at the
    first: all); died there, that is, alive at the one before; and born there after an earlier life. ``density`` and
    ``exploration`` are shares of the possible connections: those alive at a snapshot, and those alive there or ever
    before. Only in Python: ``size``, the number of possible connections; ``explored``, of shape (K,), those ever alive;
    ``lives``, of shape (n, 3): birth, death (positions in ``steps``, K while alive) and how many lifetimes have both.
    """

    json_names: ClassVar = {"size": None, "steps": None, "explored": None, "lives": None, "always_full": None}

    name: str
    size: int
    steps: tuple[int, ...]
    alive: Counts
    born: Counts
    died: Counts
    regrown: Counts
    explored: Counts
    lives: Counts

    @property
    def density(self) -> NDArray[np.float64]:
        """Share of the possible connections that are alive, at each snapshot."""
        return self.alive / self.size

    @property
    def exploration(self) -> NDArray[np.float64]:
        """Share of the possible connections that were alive at some snapshot so far.

        At the last snapshot this is the in-time over-parameterisation rate (Liu et al., ICML 2021).
        """
        return self.explored / self.size

    @property
    def always_full(self) -> bool:
        """Whether every possible connection is alive at every snapshot, as in a dense output layer."""
        return bool((self.alive == self.size).all())


def follow(name: str, history: Iterable[tuple[int, Mask]]) -> LayerHistory:
    """Follow a layer through its snapshots, given as (step, mask) in the order of time.

    >>> masks = [Mask(2, 2, np.array(cells)) for cells in ([0, 1], [1, 2], [0, 2])]
    >>> layer = follow("l0", enumerate(masks))
    >>> layer.born.tolist(), layer.died.tolist(), layer.regrown.tolist(), layer.explored.tolist()
    ([2, 1, 1], [0, 1, 1], [0, 0, 1], [2, 3, 3])
    """
    steps: list[int] = []
    rows: list[tuple[int, int, int, int, int]] = []
    lives: list[Counts] = []
    seen: _Seen | None = None
    before: Mask | None = None
    since: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    explored = 0
    for k, (step, mask) in enumerate(history):
        steps.append(step)
        if before is None or seen is None:
            seen = _seen(mask.size)
            before = Mask(mask.n_source, mask.n_target, np.empty(0, dtype=np.int64), mask.taps)
        if (mask.n_source, mask.n_target, mask.taps) != (before.n_source, before.n_target, before.taps):
            raise InvalidInputError(f"layer {name!r}: expected masks of one shape, found another at step {step}")
        stays = codec.in_sorted(before.cells, mask.cells)
        is_new = ~codec.in_sorted(mask.cells, before.cells)
        lives.append(_tally(since[~stays], k))
        since_before = since[stays]
        since = np.full(mask.nnz, k, dtype=np.int64)
        since[~is_new] = since_before
        born = mask.cells[is_new]
        regrown = seen.mark(born)
        explored += born.size - regrown
        rows.append((mask.nnz, born.size, before.nnz - since_before.size, regrown, explored))
        before = mask
    if before is None:
        raise InvalidInputError(f"layer {name!r}: expected at least one snapshot, found none")
    lives.append(_tally(since, len(steps)))
    alive, births, deaths, regrowths, ever = np.array(rows, dtype=np.int64).T
    return LayerHistory(name, before.size, tuple(steps), alive, births, deaths, regrowths, ever, np.concatenate(lives))


def total(histories: Sequence[LayerHistory], name: str = "total") -> LayerHistory:
    """Several layers of one run as if they were one layer."""
    first = histories[0]
    if any(layer.steps != first.steps for layer in histories):
        raise InvalidInputError("expected layers with the same snapshots, found others")
    stacked = np.concatenate([layer.lives for layer in histories])
    pairs, where = np.unique(stacked[:, :2], axis=0, return_inverse=True)
    counts = np.bincount(where.ravel(), weights=stacked[:, 2], minlength=len(pairs)).astype(np.int64)
    return LayerHistory(
        name,
        sum(layer.size for layer in histories),
        first.steps,
        alive=np.sum([layer.alive for layer in histories], axis=0),
        born=np.sum([layer.born for layer in histories], axis=0),
        died=np.sum([layer.died for layer in histories], axis=0),
        regrown=np.sum([layer.regrown for layer in histories], axis=0),
        explored=np.sum([layer.explored for layer in histories], axis=0),
        lives=np.column_stack([pairs, counts]),
    )


def _tally(births: NDArray[np.int64], death: int) -> Counts:
    """Rows (birth, death, count) of connections that died at one snapshot."""
    counts = np.bincount(births)
    born = np.flatnonzero(counts)
    return np.column_stack([born, np.full(born.size, death, dtype=np.int64), counts[born]])


class _Seen:
    """Which cells were ever alive: a byte each."""

    def __init__(self, size: int) -> None:
        self._flags = np.zeros(size, dtype=bool)

    def mark(self, cells: NDArray[np.int64]) -> int:
        """Remember the cells; return how many of them were known."""
        known = int(np.count_nonzero(self._flags[cells]))
        self._flags[cells] = True
        return known


class _SeenSparse(_Seen):
    """The same for layers with too many possible connections: sorted cells."""

    def __init__(self) -> None:
        self._cells = np.empty(0, dtype=np.int64)

    def mark(self, cells: NDArray[np.int64]) -> int:
        known = codec.in_sorted(cells, self._cells)
        self._cells = codec.merge(self._cells, cells[~known])
        return int(np.count_nonzero(known))


def _seen(size: int) -> _Seen:
    return _Seen(size) if size <= _MOST_FLAGS else _SeenSparse()
