"""Which pairs of units are surely the same ones, by beliefs that spread out of what is compared by index.

Point A of docs/design/013-overlap.md. A belief is an integer from 0 to ``ONE``: how probable it is that a unit of A is
the one of B. Every common connection to units that are believed to be the same speaks for a pair, every other one
against it; what each pair gains is weighed against its rivals in its row and in its column. Sums do not depend on
order, so neither do beliefs.

One compiled call for all of it. What no belief changed is not computed again: a side (inputs or outputs) of which every
belief is as it was, and a space of which both sides are.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, C901, PLR0912, PLR0915
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance.addresses import ints, units
from topostrata.distance.compiling import inner
from topostrata.distance.kernels import grown, unequal
from topostrata.distance.prepared import SIDE_SLOTS, Prepared

ONE = 1 << 16
_GAIN = 8  # what a common connection gains, where each of the two connections costs 1
_BETA = 2  # how much a belief grows with the score
_LEAST = 64  # beliefs below count as none
_FAR = 31 * ONE  # ``power`` is 0 from here on
_NEAR = 10 * ONE  # ``power`` is below ``_LEAST`` beyond: of sums of ONE or more that is no belief
_SWEEPS = 16
# A side is left out whose lists of pairs would be longer than that, and than this share of all pairs: dense layers.
_LONGEST, _SPARSE = 1 << 20, 0.3

Ints = NDArray[np.int64]


@inner
def power(x):
    """``ONE * 2^(-x / ONE)`` for x >= 0, linear between whole powers."""
    k = x >> 16
    return 0 if k > 30 else ((2 * ONE - (x & 0xFFFF)) << 14) >> (k + 15)


@inner
def holders_squared(back, n):
    """The sum of the squares of the elements' holders, without those that more than half of the n units hold."""
    total = 0
    for k in range(len(back) - 1):
        held = back[k + 1] - back[k]
        if 2 * held <= n:
            total += held * held
    return total


@inner
def spread(parts, sizes_a, sizes_b, beliefs, ptr_a, keys_a, back_a, ptr_b, keys_b, back_b, of_a, of_b):
    """The beliefs of a side's elements, as offsets, columns, values; fills the masses of the units of A and of B.

    An element has the belief of its unit; the mass of a unit is the sum of the beliefs of its elements. Two hubs, which
    most units hold, are never believed: they tell nothing. ``beliefs`` are those of the spaces: offsets, columns,
    values; nothing is believed of further contexts, units with their taps.
    """
    n_a, n_b = len(ptr_a) - 1, len(ptr_b) - 1
    all_offsets, all_columns, all_values = beliefs
    room = 0
    for q in range(len(parts)):
        if parts[q, 0] < len(all_values):
            room += parts[q, 1] * len(all_values[parts[q, 0]])
    out = np.zeros(len(back_a), dtype=np.int64)
    columns, values = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    mass_a, mass_b = np.zeros(len(back_a), dtype=np.int64), np.zeros(len(back_b), dtype=np.int64)
    at = first_a = first_b = 0
    for q in range(len(parts)):
        space, taps = parts[q, 0], parts[q, 1]
        if space < len(all_values):
            offsets, others, believed = all_offsets[space], all_columns[space], all_values[space]
            for u in range(sizes_a[space]):
                for t in range(taps):
                    k = first_a + u * taps + t
                    hub = 2 * (back_a[k + 1] - back_a[k]) > n_a
                    for e in range(offsets[u], offsets[u + 1]):
                        other = first_b + others[e] * taps + t
                        if hub and 2 * (back_b[other + 1] - back_b[other]) > n_b:
                            continue
                        columns[at], values[at] = other, believed[e]
                        mass_a[k] += believed[e]
                        mass_b[other] += believed[e]
                        at += 1
                    out[k + 1] = at
        else:
            for k in range(first_a, first_a + sizes_a[space] * taps):
                out[k + 1] = at
        first_a += sizes_a[space] * taps
        first_b += sizes_b[space] * taps
    for i in range(n_a):
        total = np.int64(0)
        for e in range(ptr_a[i], ptr_a[i + 1]):
            total += mass_a[keys_a[e]]
        of_a[i] = total
    for j in range(n_b):
        total = np.int64(0)
        for e in range(ptr_b[j], ptr_b[j + 1]):
            total += mass_b[keys_b[e]]
        of_b[j] = total
    return out, columns[:at], values[:at]


@inner
def scores(ins, outs, mass_a, mass_b, places_a, places_b, null, offsets, top_a, top_b, columns, score):
    """The scores, times ``_BETA``, of the pairs of units with a common believed element, by row.

    ``ins`` and ``outs`` are each A's sets (ptr, keys), the beliefs of its elements (offsets, columns, values) and the
    holders of B's elements (back, holders). ``places`` (or nothing) must be equal for two units to be a pair. Fills
    ``offsets`` and the largest of each row and column, at least ``null``. Returns columns and scores, which are those
    handed in or longer ones; pairs that add nothing to a share beside ``null`` and the largest are left out.
    """
    n_a, n_b = len(mass_a), len(mass_b)
    total = np.zeros(n_b, dtype=np.int64)
    met, reached = np.empty(n_b + 1, dtype=np.int64), np.empty(n_b, dtype=np.int64)
    top_a[:] = null
    top_b[:] = null
    room = len(columns)
    at = 0
    for i in range(n_a):
        offsets[i] = at
        count = 0
        for side in range(2):
            ptr, keys, believed, others, values, back, holders = ins if side == 0 else outs
            for e in range(ptr[i], ptr[i + 1]):
                u = keys[e]
                for q in range(believed[u], believed[u + 1]):
                    other, gained = others[q], _GAIN * values[q]
                    for h in range(back[other], back[other + 1]):
                        j = holders[h]
                        met[count] = j  # overwritten by the next one unless it is new
                        count += total[j] == 0
                        total[j] += gained
        if at + count >= room:
            room = 2 * (at + count + 1)
            columns, score = grown(columns, at, room), grown(score, at, room)
        highest = null
        for e in range(count):
            j = met[e]
            x = _BETA * (total[j] - mass_a[i] - mass_b[j])
            if len(places_a) and places_a[i] != places_b[j]:
                x = null - _FAR
            total[j] = 0
            reached[e] = x
            highest = max(highest, x)
        top_a[i] = highest
        for e in range(count):
            j, x = met[e], reached[e]
            columns[at], score[at] = j, x  # overwritten by the next one if it is too far behind
            at += x > min(highest, top_b[j]) - _FAR
            top_b[j] = max(top_b[j], x)
    offsets[n_a] = at
    return columns, score


@inner
def believe(offsets, columns, score, null, top_a, top_b):
    """Beliefs from scores, by row: ``r c / (r + c - r c)``, r the pair's share of its row, c that of its column.

    Shares are those of 2^score, 2^null standing for "none of these".
    """
    n_a, n_b = len(top_a), len(top_b)
    sum_a, sum_b = np.empty(n_a, dtype=np.int64), np.empty(n_b, dtype=np.int64)
    for i in range(n_a):
        sum_a[i] = power(top_a[i] - null)
    for j in range(n_b):
        sum_b[j] = power(top_b[j] - null)
    room = 0
    for i in range(n_a):
        for e in range(offsets[i], offsets[i + 1]):
            x, j = score[e], columns[e]
            behind_a, behind_b = top_a[i] - x, top_b[j] - x
            if behind_a < _FAR:
                sum_a[i] += power(behind_a)
            if behind_b < _FAR:
                sum_b[j] += power(behind_b)
            room += behind_a <= _NEAR and behind_b <= _NEAR
    out = np.empty(n_a + 1, dtype=np.int64)
    out_columns, values = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    at = 0
    for i in range(n_a):
        out[i] = at
        for e in range(offsets[i], offsets[i + 1]):
            x, j = score[e], columns[e]
            behind_a, behind_b = top_a[i] - x, top_b[j] - x
            if behind_a > _NEAR or behind_b > _NEAR:
                continue
            in_row, in_column = power(behind_a) * ONE, power(behind_b) * ONE
            if in_row < _LEAST * sum_a[i] or in_column < _LEAST * sum_b[j]:
                continue
            r, c = in_row // sum_a[i], in_column // sum_b[j]
            belief = (r * c) // (r + c - ((r * c) >> 16))
            if belief >= _LEAST:
                out_columns[at], values[at] = j, belief
                at += 1
    out[n_a] = at
    return out, out_columns[:at], values[:at]


@inner
def strictly_best(n_b, offsets, columns, values, best_a):
    """For each row the column of its largest belief, if that is the only largest one of row and column; else -1.

    Whether that is other than what ``best_a`` held before, which it is written into.
    """
    n_a = len(offsets) - 1
    best_b = np.full(n_b, -1, dtype=np.int64)
    top_b = np.zeros(n_b, dtype=np.int64)
    for i in range(n_a):
        for e in range(offsets[i], offsets[i + 1]):
            j, value = columns[e], values[e]
            if value > top_b[j]:
                top_b[j], best_b[j] = value, i
            elif value == top_b[j]:
                best_b[j] = -1
    changed = False
    for i in range(n_a):
        best, top = -1, 0
        for e in range(offsets[i], offsets[i + 1]):
            if values[e] > top:
                top, best = values[e], columns[e]
            elif values[e] == top:
                best = -1
        if best >= 0 and best_b[best] != i:
            best = -1
        changed |= best_a[i] != best
        best_a[i] = best
    return changed


@njit(cache=True, nogil=True)
def find_sure(pairs, tables, all_sizes, sides, sure):
    """Fill ``sure`` for each of ``pairs``, space after space as A's units stand; see ``sure_pairs``.

    ``pairs`` are places in ``tables``, those of the networks (``Prepared.sides_in_memory``), and in the sizes of their
    contexts; ``sides`` say how they are wired (``Plan.sides``).
    """
    hidden, in_ends, in_parts, out_ends, out_parts = sides
    n = len(in_ends) - 1
    nothing, start = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
    is_hidden = np.zeros(n, dtype=np.bool_)
    for s in hidden:
        is_hidden[s] = True
    columns, score = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    for p in range(len(pairs)):
        mine, other = tables[pairs[p, 0]], tables[pairs[p, 1]]
        sizes_a, sizes_b = all_sizes[pairs[p, 0]], all_sizes[pairs[p, 1]]
        first = np.zeros(n + 1, dtype=np.int64)
        widest_a = widest_b = 0
        for s in range(n):
            first[s + 1] = first[s] + sizes_a[s]
            widest_a, widest_b = max(widest_a, sizes_a[s]), max(widest_b, sizes_b[s])
        all_offsets, all_columns, all_values = [nothing] * n, [nothing] * n, [nothing] * n
        for s in range(n):
            size = sizes_a[s]
            if is_hidden[s]:
                all_offsets[s] = np.zeros(size + 1, dtype=np.int64)
            else:
                all_offsets[s] = np.arange(size + 1)
                all_columns[s] = np.arange(size)
                all_values[s] = np.full(size, np.int64(ONE))
        # Of both sides of each space: the beliefs of the elements (offsets, columns, values), the masses of the units.
        believed, others, weights = [start] * (2 * n), [nothing] * (2 * n), [nothing] * (2 * n)
        masses_a, masses_b = np.zeros((2 * n, widest_a), dtype=np.int64), np.zeros((2 * n, widest_b), dtype=np.int64)
        dense = np.zeros(2 * n, dtype=np.bool_)
        for s in hidden:
            for side in range(2):
                at = s * SIDE_SLOTS + 4 * side
                longest = max(
                    holders_squared(ints(mine[at + 2]), sizes_a[s]), holders_squared(ints(other[at + 2]), sizes_b[s])
                )
                dense[2 * s + side] = longest > max(float(_LONGEST), _SPARSE * sizes_a[s] * sizes_b[s])
        version, seen = np.zeros(n, dtype=np.int64), np.full(2 * n, -1, dtype=np.int64)
        for sweep in range(_SWEEPS):
            stable = sweep > 0
            for turn in range(len(hidden)):
                s = hidden[turn] if sweep % 2 == 0 else hidden[len(hidden) - 1 - turn]
                size_a, size_b = sizes_a[s], sizes_b[s]
                here, there = mine[s * SIDE_SLOTS :], other[s * SIDE_SLOTS :]
                renewed = sweep == 0
                for side in range(2):
                    if dense[2 * s + side]:
                        continue
                    ends, parts = (in_ends, in_parts) if side == 0 else (out_ends, out_parts)
                    parts = parts[ends[s] : ends[s + 1]]
                    now = 0
                    for q in range(len(parts)):
                        if parts[q, 0] < n:
                            now += version[parts[q, 0]]
                    if now == seen[2 * s + side]:
                        continue
                    seen[2 * s + side] = now
                    renewed = True
                    at = 4 * side
                    believed[2 * s + side], others[2 * s + side], weights[2 * s + side] = spread(
                        parts, sizes_a, sizes_b, (all_offsets, all_columns, all_values),
                        ints(here[at]), units(here[at + 1]), ints(here[at + 2]),
                        ints(there[at]), units(there[at + 1]), ints(there[at + 2]),
                        masses_a[2 * s + side], masses_b[2 * s + side],
                    )  # fmt: skip
                if not renewed:
                    continue
                mass_a, mass_b = np.empty(size_a, dtype=np.int64), np.empty(size_b, dtype=np.int64)
                for i in range(size_a):
                    mass_a[i] = masses_a[2 * s, i] + masses_a[2 * s + 1, i]
                for j in range(size_b):
                    mass_b[j] = masses_b[2 * s, j] + masses_b[2 * s + 1, j]
                none = np.zeros(size_a + 1, dtype=np.int64)  # what the units hold of a side that is left out
                ins = (
                    none if dense[2 * s] else ints(here[0]), units(here[1]),
                    believed[2 * s], others[2 * s], weights[2 * s], ints(there[2]), units(there[3]),
                )  # fmt: skip
                outs = (
                    none if dense[2 * s + 1] else ints(here[4]), units(here[5]),
                    believed[2 * s + 1], others[2 * s + 1], weights[2 * s + 1], ints(there[6]), units(there[7]),
                )  # fmt: skip
                null = 0
                while max(size_a, size_b) >> null:
                    null += 1
                null *= ONE
                offsets, top_a = np.empty(size_a + 1, dtype=np.int64), np.empty(size_a, dtype=np.int64)
                top_b = np.empty(size_b, dtype=np.int64)
                columns, score = scores(
                    ins,
                    outs,
                    mass_a,
                    mass_b,
                    ints(here[8]),
                    ints(there[8]),
                    null,
                    offsets,
                    top_a,
                    top_b,
                    columns,
                    score,
                )
                now_offsets, now_columns, now_values = believe(offsets, columns, score, null, top_a, top_b)
                changed = unequal(now_offsets, all_offsets[s]) or unequal(now_columns, all_columns[s])
                if changed or unequal(now_values, all_values[s]):
                    all_offsets[s], all_columns[s], all_values[s] = now_offsets, now_columns, now_values
                    version[s] += 1
                stable &= not strictly_best(
                    size_b, now_offsets, now_columns, now_values, sure[p, first[s] : first[s + 1]]
                )
            if stable:
                break


def sure_pairs(a: Prepared, b: Prepared) -> dict[int, Ints]:
    """For each space that is not compared by index the surely equal unit of B for each of A's, -1 where none is."""
    ends = np.cumsum((0, *a.sizes))
    sure = np.full((1, ends[-1]), -1, dtype=np.int64)
    tables, sizes = np.stack([a.sides_in_memory, b.sides_in_memory]), np.stack([a.context_sizes, b.context_sizes])
    find_sure(np.array([[0, 1]]), tables, sizes, a.plan.sides, sure)
    return {s: sure[0, ends[s] : ends[s + 1]] for s, fixed in enumerate(a.fixed) if not fixed}
