"""Which pairs of units are surely the same ones, by beliefs that spread out of what is compared by index.

Point A of docs/design/013-overlap.md. A belief is an integer from 0 to ``ONE``: how probable it is that a unit of A is
the one of B. Every common connection to units that are believed to be the same speaks for a pair, every other one
against it; what each pair gains is weighed against its rivals in its row and in its column. Sums do not depend on
order, so neither do beliefs.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, C901
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance.kernels import grown
from topostrata.distance.prepared import Prepared
from topostrata.distance.sets import Sets

ONE = 1 << 16
_GAIN = 8  # what a common connection gains, where each of the two connections costs 1
_BETA = 2  # how much a belief grows with the score
_LEAST = 64  # beliefs below count as none
_SWEEPS = 16
# A side is left out whose lists of pairs would be longer than that, and than this share of all pairs: dense layers.
_LONGEST, _SPARSE = 1 << 20, 0.3

Ints = NDArray[np.int64]


@njit(cache=True, nogil=True)
def power(x):
    """``ONE * 2^(-x / ONE)`` for x >= 0, linear between whole powers."""
    k = x >> 16
    return 0 if k > 30 else ((2 * ONE - (x & 0xFFFF)) << 14) >> (k + 15)


@njit(cache=True, nogil=True)
def spread(offsets, columns, values, taps, first_a, first_b, hubs_a, hubs_b, at, elements, mass_a, mass_b):
    """The beliefs of units as those of the elements that they are for one layer, added to ``elements`` from ``at`` on.

    ``elements`` are offsets, columns, values; the masses are the sums of beliefs of each element. Two hubs are never
    believed: what most units hold tells nothing.
    """
    out, out_columns, out_values = elements
    for u in range(len(offsets) - 1):
        for t in range(taps):
            k = first_a + u * taps + t
            for e in range(offsets[u], offsets[u + 1]):
                other = first_b + columns[e] * taps + t
                if not (hubs_a[k] and hubs_b[other]):
                    out_columns[at], out_values[at] = other, values[e]
                    mass_a[k] += values[e]
                    mass_b[other] += values[e]
                    at += 1
            out[k + 1] = at
    return at


@njit(cache=True, nogil=True)
def masses(ptr, keys, mass, total):
    """Add to ``total`` for each unit the sum of the masses of its elements."""
    for i in range(len(ptr) - 1):
        for e in range(ptr[i], ptr[i + 1]):
            total[i] += mass[keys[e]]


@njit(cache=True, nogil=True)
def scores(n_b, ins, outs, mass_a, mass_b, places_a, places_b, null):
    """The scores of the pairs of units with a common believed element, by row: offsets, columns, scores.

    ``ins`` and ``outs`` are each A's sets (ptr, keys), the beliefs of its elements (offsets, columns, values) and the
    holders of B's elements (back, holders). ``places`` (or nothing) must be equal for two units to be a pair. Pairs
    whose share would be 0 beside ``null`` are left out.
    """
    n_a = len(mass_a)
    offsets = np.empty(n_a + 1, dtype=np.int64)
    room = 32 * n_a + n_b
    columns, score = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    total = np.zeros(n_b, dtype=np.int64)
    at = 0
    for i in range(n_a):
        offsets[i] = at
        if at + n_b > room:
            room = 2 * (at + n_b)
            columns, score = grown(columns, at, room), grown(score, at, room)
        for side in range(2):
            ptr, keys, believed, others, values, back, holders = ins if side == 0 else outs
            for e in range(ptr[i], ptr[i + 1]):
                u = keys[e]
                for q in range(believed[u], believed[u + 1]):
                    other, gained = others[q], _GAIN * values[q]
                    for h in range(back[other], back[other + 1]):
                        j = holders[h]
                        if total[j] == 0:
                            columns[at] = j
                            at += 1
                        total[j] += gained
        begin, end = offsets[i], at
        at = begin
        for e in range(begin, end):
            j = columns[e]
            scored = total[j] - mass_a[i] - mass_b[j]
            total[j] = 0
            if _BETA * scored > null - 31 * ONE and (len(places_a) == 0 or places_a[i] == places_b[j]):
                columns[at], score[at] = j, scored
                at += 1
    offsets[n_a] = at
    return offsets, columns[:at], score[:at]


@njit(cache=True, nogil=True)
def believe(n_b, offsets, columns, score, null):
    """Beliefs from scores, by row: ``r c / (r + c - r c)``, r the pair's share of its row, c that of its column.

    Shares are those of 2^score, 2^null standing for "none of these".
    """
    n_a = len(offsets) - 1
    top_a, top_b = np.full(n_a, null, dtype=np.int64), np.full(n_b, null, dtype=np.int64)
    for i in range(n_a):
        for e in range(offsets[i], offsets[i + 1]):
            x, j = _BETA * score[e], columns[e]
            top_a[i], top_b[j] = max(top_a[i], x), max(top_b[j], x)
    sum_a, sum_b = np.empty(n_a, dtype=np.int64), np.empty(n_b, dtype=np.int64)
    for i in range(n_a):
        sum_a[i] = power(top_a[i] - null)
    for j in range(n_b):
        sum_b[j] = power(top_b[j] - null)
    for i in range(n_a):
        for e in range(offsets[i], offsets[i + 1]):
            x, j = _BETA * score[e], columns[e]
            sum_a[i] += power(top_a[i] - x)
            sum_b[j] += power(top_b[j] - x)
    out = np.empty(n_a + 1, dtype=np.int64)
    out_columns, values = np.empty(len(columns), dtype=np.int64), np.empty(len(columns), dtype=np.int64)
    at = 0
    for i in range(n_a):
        out[i] = at
        for e in range(offsets[i], offsets[i + 1]):
            x, j = _BETA * score[e], columns[e]
            in_row, in_column = power(top_a[i] - x) * ONE, power(top_b[j] - x) * ONE
            if in_row < _LEAST * sum_a[i] or in_column < _LEAST * sum_b[j]:
                continue
            r, c = in_row // sum_a[i], in_column // sum_b[j]
            belief = (r * c) // (r + c - ((r * c) >> 16))
            if belief >= _LEAST:
                out_columns[at], values[at] = j, belief
                at += 1
    out[n_a] = at
    return out, out_columns[:at], values[:at]


@njit(cache=True, nogil=True)
def strictly_best(n_b, offsets, columns, values):
    """For each row the column of its largest belief, if that is the only largest one of row and column; else -1."""
    n_a = len(offsets) - 1
    best_a, best_b = np.full(n_a, -1, dtype=np.int64), np.full(n_b, -1, dtype=np.int64)
    top_a, top_b = np.zeros(n_a, dtype=np.int64), np.zeros(n_b, dtype=np.int64)
    for i in range(n_a):
        for e in range(offsets[i], offsets[i + 1]):
            j, value = columns[e], values[e]
            if value > top_a[i]:
                top_a[i], best_a[i] = value, j
            elif value == top_a[i]:
                best_a[i] = -1
            if value > top_b[j]:
                top_b[j], best_b[j] = value, i
            elif value == top_b[j]:
                best_b[j] = -1
    for i in range(n_a):
        if best_a[i] >= 0 and best_b[best_a[i]] != i:
            best_a[i] = -1
    return best_a


@dataclass(frozen=True, slots=True, eq=False)
class _Beliefs:
    """Beliefs by rows: unit i of A is ``columns[offsets[i]:offsets[i + 1]]`` of B, as far as ``values`` say."""

    offsets: Ints
    columns: Ints
    values: Ints


def sure_pairs(a: Prepared, b: Prepared) -> dict[int, Ints]:
    """For each space that is not compared by index the surely equal unit of B for each of A's, -1 where none is."""
    spread_out = _Spread(a, b)
    hidden = [s for s, fixed in enumerate(a.fixed) if not fixed]
    sure: dict[int, Ints] = {}
    for sweep in range(_SWEEPS):
        stable = True
        for s in hidden if sweep % 2 == 0 else reversed(hidden):
            best = spread_out.renew(s)
            stable &= s in sure and np.array_equal(best, sure[s])
            sure[s] = best
        if stable:
            break
    return sure


class _Spread:
    """The beliefs of all spaces, renewed one at a time from those of the others."""

    def __init__(self, a: Prepared, b: Prepared) -> None:
        self.a, self.b = a, b
        nothing = np.zeros(0, dtype=np.int64)
        self.beliefs: dict[int, _Beliefs] = {}
        for s, n in enumerate(a.sizes):
            units = np.arange(n + 1, dtype=np.int64)
            self.beliefs[s] = (
                _Beliefs(units, units[:-1], np.full(n, ONE, dtype=np.int64))
                if a.fixed[s]
                else _Beliefs(np.zeros(n + 1, dtype=np.int64), nothing, nothing)
            )
        self.sides = {s: (self._side(s, a.inputs, b.inputs), self._side(s, a.outputs, b.outputs)) for s in self.hidden}

    @property
    def hidden(self) -> list[int]:
        """The spaces that are not compared by index."""
        return [s for s, fixed in enumerate(self.a.fixed) if not fixed]

    def _side(self, s: int, sets_a: tuple[Sets, ...], sets_b: tuple[Sets, ...]) -> _Side | None:
        """What never changes of one side of a space; None where it is too dense to look at."""
        one, other = sets_a[s], sets_b[s]
        hubs, longest = [], 0
        for sets in (one, other):
            holders = np.diff(sets.back)
            hub = 2 * holders > len(sets.sizes)
            hubs.append(hub)
            longest = max(longest, int((holders[~hub] ** 2).sum()))
        if longest > max(_LONGEST, _SPARSE * len(one.sizes) * len(other.sizes)):
            return None
        return _Side(one, other, hubs[0], hubs[1])

    def renew(self, s: int) -> Ints:
        """Believe anew in the pairs of one space; those that are surely the same."""
        n_a, n_b = self.a.sizes[s], self.b.sizes[s]
        mass_a, mass_b = np.zeros(n_a, dtype=np.int64), np.zeros(n_b, dtype=np.int64)
        lists = []
        for side in self.sides[s]:
            if side is None:
                lists.append(_no_side(n_a))
                continue
            elements, in_a, in_b = self._elements(side)
            masses(side.a.ptr, side.a.keys, in_a, mass_a)
            masses(side.b.ptr, side.b.keys, in_b, mass_b)
            lists.append((side.a.ptr, side.a.keys, *elements, side.b.back, side.b.holders))
        null = max(n_a, n_b).bit_length() * ONE
        pairs = scores(n_b, *lists, mass_a, mass_b, self.a.places[s], self.b.places[s], null)
        self.beliefs[s] = _Beliefs(*believe(n_b, *pairs, null))
        best: Ints = strictly_best(n_b, *_tuple(self.beliefs[s]))
        return best

    def _elements(self, side: _Side) -> tuple[tuple[Ints, Ints, Ints], Ints, Ints]:
        """The beliefs of a side's elements, and the mass of each element of A and of B."""
        one, other = side.a, side.b
        known = [self.beliefs.get(space) for space in one.spaces]
        room = sum(
            taps * len(beliefs.values) for taps, beliefs in zip(one.taps, known, strict=True) if beliefs is not None
        )
        elements = (
            np.zeros(one.elements + 1, dtype=np.int64),
            np.empty(room, dtype=np.int64),
            np.empty(room, dtype=np.int64),
        )
        mass_a, mass_b = np.zeros(one.elements, dtype=np.int64), np.zeros(other.elements, dtype=np.int64)
        at = 0
        ends = (*one.offset[1:], one.elements)
        for q, beliefs in enumerate(known):
            if beliefs is None:  # units with their taps, of which nothing is believed
                elements[0][one.offset[q] + 1 : ends[q] + 1] = at
                continue
            at = spread(
                *_tuple(beliefs), one.taps[q], one.offset[q], other.offset[q],
                side.hubs_a, side.hubs_b, at, elements, mass_a, mass_b,
            )  # fmt: skip
        return (elements[0], elements[1][:at], elements[2][:at]), mass_a, mass_b


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The fan-in or fan-out sets of one space in both networks, and which elements more than half of its units hold."""

    a: Sets
    b: Sets
    hubs_a: NDArray[np.bool_]
    hubs_b: NDArray[np.bool_]


def _tuple(beliefs: _Beliefs) -> tuple[Ints, Ints, Ints]:
    return beliefs.offsets, beliefs.columns, beliefs.values


def _no_side(size: int) -> tuple[NDArray[np.generic], ...]:
    """What ``scores`` takes for a side in which no unit holds anything."""
    starts, nothing, units = (
        np.zeros(size + 1, dtype=np.int64),
        np.zeros(0, dtype=np.int64),
        np.zeros(0, dtype=np.uint32),
    )
    return starts, units, np.zeros(1, dtype=np.int64), nothing, nothing, np.zeros(1, dtype=np.int64), units
