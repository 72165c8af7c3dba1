"""The fan-in match of layers that are not sparse: shared elements by bit sets, the assignment on a core of good pairs.

Where most pairs of units share elements, listing them would cost more than a matrix of counts (two bytes a pair). The
assignment is solved on a *core*, each row's best columns; then all pairs are priced with its duals, those that could
improve it join the core, and so on until none can: the optimum of the core is then the optimum of all pairs, exactly.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, ANN202, ARG001, C901, FURB136, PLR0912, PLR0915, PLW3301
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from topostrata.distance import matching, room
from topostrata.distance.kernels import S, cost, grown
from topostrata.distance.sets import shared_by_all

LARGEST = 65535  # shared elements that a count can hold
_PER_PAIR = 2  # bytes of a count
_CHUNK = 64
_CORE = 24  # columns per row in the first core, and how many join it in a round
_NEAR = S // 1000  # pairs that miss by this little join as well, so that few rounds are needed
# Increments as costly as one word of a bit set (bench/distance.py): 0.7 ns against 0.15 ns.
_LISTED = 0.25


@intrinsic
def _popcount(typing_context, word):
    """The number of set bits of a uint64."""
    del typing_context

    def generate(context, builder, signature, args):
        del context, signature
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def bit_sets(ptr, keys, names, elements):
    """One column of 64-bit words per unit; element k stands at bit ``names[k]``, or nowhere if that is negative."""
    words = np.zeros((8 * ((elements + 511) >> 9), len(ptr) - 1), dtype=np.uint64)
    for i in range(len(ptr) - 1):
        for e in range(ptr[i], ptr[i + 1]):
            at = names[keys[e]]
            if at >= 0:
                words[at >> 6, i] |= np.uint64(1) << np.uint64(at & 63)
    return words


@njit(cache=True, nogil=True)
def shared_elements(bits_a, bits_b, counts):
    """How many elements each unit of A shares with each of B, into counts: shape (units of A, units of B), uint16."""
    n_a, n_b, words = bits_a.shape[1], bits_b.shape[1], bits_a.shape[0]
    block = 512
    total = np.empty(block, dtype=np.uint64)
    for begin in range(0, n_b, block):
        size = min(block, n_b - begin)
        part = bits_b[:, begin : begin + size].copy()  # stays in the cache for all of A's units
        for i in range(n_a):
            for j in range(size):
                total[j] = 0
            for w in range(0, words, 8):
                a0, a1, a2, a3 = bits_a[w, i], bits_a[w + 1, i], bits_a[w + 2, i], bits_a[w + 3, i]
                a4, a5, a6, a7 = bits_a[w + 4, i], bits_a[w + 5, i], bits_a[w + 6, i], bits_a[w + 7, i]
                b0, b1, b2, b3 = part[w], part[w + 1], part[w + 2], part[w + 3]
                b4, b5, b6, b7 = part[w + 4], part[w + 5], part[w + 6], part[w + 7]
                for j in range(size):
                    total[j] += (
                        _popcount(a0 & b0[j])
                        + _popcount(a1 & b1[j])
                        + _popcount(a2 & b2[j])
                        + _popcount(a3 & b3[j])
                        + _popcount(a4 & b4[j])
                        + _popcount(a5 & b5[j])
                        + _popcount(a6 & b6[j])
                        + _popcount(a7 & b7[j])
                    )
            row = counts[i, begin : begin + size]
            for j in range(size):
                row[j] = total[j]


@njit(cache=True, nogil=True)
def listed_elements(ptr, keys, names, n_b, back, holders):
    """As ``shared_elements``, by the units of B that hold each element: faster where sets are small."""
    counts = np.zeros((len(ptr) - 1, n_b), dtype=np.uint16)
    for i in range(len(ptr) - 1):
        row = counts[i]
        for e in range(ptr[i], ptr[i + 1]):
            other = names[keys[e]]
            if other >= 0:
                for h in range(back[other], back[other + 1]):
                    row[holders[h]] += np.uint16(1)
    return counts


@njit(cache=True, nogil=True)
def _highest(values, begin, end):
    """The largest of some values; four chains, because one would wait for each comparison."""
    a = b = c = d = values[begin]
    whole = begin + ((end - begin) & ~3)
    for j in range(begin, whole, 4):
        a = values[j] if values[j] > a else a
        b = values[j + 1] if values[j + 1] > b else b
        c = values[j + 2] if values[j + 2] > c else c
        d = values[j + 3] if values[j + 3] > d else d
    for j in range(whole, end):
        a = values[j] if values[j] > a else a
    return max(max(a, b), max(c, d))


@njit(cache=True, nogil=True)
def _largest(values, rank):
    """The rank-th largest of some values, which are put in another order (Hoare's selection)."""
    low, high, want = 0, len(values) - 1, rank - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if want <= j:
            high = j
        elif want >= i:
            low = i
        else:
            break
    return values[want]


@njit(cache=True, nogil=True, fastmath=True)
def first_core(n, counts, sizes_a, sizes_b, most):
    """About ``most`` good columns for each row: offsets (n + 1,), columns, exact costs.

    Good is what costs little compared with what the column costs others, by the mean over some rows; how little is
    judged by a sample of the row.
    """
    n_a, n_b = counts.shape
    least_union = np.float32(1.0)
    sizes = sizes_b.astype(np.float32)
    level = np.zeros(n_b, dtype=np.float32)
    step = max(1, n_a // 64)
    for i in range(0, n_a, step):
        size = np.float32(sizes_a[i])
        for j in range(n_b):
            shared = np.float32(counts[i, j])
            level[j] += shared / max(size + sizes[j] - shared, least_union)
    level /= np.float32((n_a + step - 1) // step)
    offsets = np.zeros(n + 1, dtype=np.int64)
    room = 2 * most * n_a + n_b
    columns, costs = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.int64)
    good = np.empty(n_b, dtype=np.float32)
    stride = max(1, n_b // 128)
    sample = np.empty((n_b + stride - 1) // stride, dtype=np.float64)
    rank = min(max(2, (most * len(sample)) // n_b), len(sample))
    at = 0
    for i in range(n_a):
        size = np.float32(sizes_a[i])
        row = counts[i]
        for j in range(n_b):
            shared = np.float32(row[j])
            good[j] = shared / max(size + sizes[j] - shared, least_union) - level[j]
        least = np.float32(-2.0)
        if n_b > 2 * most:
            for k in range(0, n_b, stride):
                sample[k // stride] = good[k]
            least = np.float32(_largest(sample, rank))
        begin_row = at
        if at + n_b > room:
            room = 2 * (at + n_b)
            columns, costs = grown(columns, at, room), grown(costs, at, room)
        for begin in range(0, n_b, _CHUNK):
            end = min(begin + _CHUNK, n_b)
            if _highest(good, begin, end) >= least:
                for j in range(begin, end):
                    if good[j] >= least:
                        columns[at] = j
                        at += 1
        if at - begin_row > 4 * most:  # the sample misjudged the row
            goods = np.empty(at - begin_row, dtype=np.float64)
            for e in range(begin_row, at):
                goods[e - begin_row] = good[columns[e]]
            least = np.float32(_largest(goods, most))
            end_row, at = at, begin_row
            for e in range(begin_row, end_row):
                if good[columns[e]] >= least and at - begin_row < 4 * most:
                    columns[at] = columns[e]
                    at += 1
        end_row, at = at, begin_row
        for e in range(begin_row, end_row):
            j = columns[e]
            shared, total = np.int64(row[j]), sizes_a[i] + sizes_b[j]
            if total > 0:  # two empty sets are never listed
                columns[at], costs[at] = j, cost(total - 2 * shared, total - shared)
                at += 1
        offsets[i + 1] = at
    for i in range(n_a, n):
        offsets[i + 1] = at
    return offsets, columns[:at], costs[:at]


@njit(cache=True, nogil=True, fastmath=True)
def price(counts, sizes_a, sizes_b, u, v, near, most):
    """The pairs with u + v + near >= cost: by row offsets, columns, exact costs; of every row about the ``most`` best.

    Also says whether u + v > cost for any pair, and whether all pairs with u + v = cost were returned.
    """
    n_a, n_b = counts.shape
    offsets = np.zeros(n_a + 1, dtype=np.int64)
    room = 4 * n_a + n_b + 64
    columns, costs = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.int64)
    prices, sizes = (v[:n_b] / S).astype(np.float32), sizes_b.astype(np.float32)
    lowest_price, largest = float(v[:n_b].min()) / S, float(sizes_b.max())
    slack = np.empty(n_b, dtype=np.float32)
    gains, order = np.empty(n_b, dtype=np.int64), np.empty(n_b, dtype=np.float64)
    improvable, complete = False, True
    at = 0
    for i in range(n_a):
        size, rest = np.float32(sizes_a[i]), np.float32((S - u[i] - near) / S)
        # cost <= u + v + near needs (1 - (u + v + near) / S) den <= shared; the margin covers all that was rounded.
        margin = np.float32(
            1e-6 * (2.0 + abs((S - u[i] - near) / S) + abs(lowest_price)) * (sizes_a[i] + largest + 1.0)
        )
        row = counts[i]
        begin_row = at
        if at + n_b > room:
            room = 2 * (at + n_b)
            columns, costs = grown(columns, at, room), grown(costs, at, room)
        for j in range(n_b):
            shared = np.float32(row[j])
            slack[j] = shared - (rest - prices[j]) * (size + sizes[j] - shared)
        for begin in range(0, n_b, _CHUNK):
            end = min(begin + _CHUNK, n_b)
            if _highest(slack, begin, end) < -margin:
                continue
            for j in range(begin, end):
                if slack[j] < -margin:
                    continue
                total, common = sizes_a[i] + sizes_b[j], np.int64(row[j])
                exact = cost(total - 2 * common, total - common)
                gain = u[i] + v[j] - exact
                # Pairs that share nothing cost the bypass, which every row has without a list.
                if gain + near >= 0 and common > 0:
                    columns[at], costs[at] = j, exact
                    gains[at - begin_row] = gain
                    at += 1
                    improvable |= gain > 0
        count = at - begin_row
        if count > most:
            for k in range(count):
                order[k] = gains[k]  # exact: below 2^53
            least = np.int64(_largest(order[:count], most))
            complete &= least < 0
            at = begin_row
            for k in range(count):
                if gains[k] >= least:
                    columns[at], costs[at] = columns[begin_row + k], costs[begin_row + k]
                    at += 1
        offsets[i + 1] = at
    return offsets, columns[:at], costs[:at], improvable, complete


@njit(cache=True, nogil=True)
def merged(n, offsets, columns, costs, more, more_columns, more_costs, n_columns):
    """Two lists of pairs by row as one, each pair once; n rows."""
    out = np.empty(n + 1, dtype=np.int64)
    out_columns = np.empty(len(columns) + len(more_columns), dtype=np.uint32)
    out_costs = np.empty(len(columns) + len(more_columns), dtype=np.int64)
    seen = np.full(n_columns, -1, dtype=np.int64)
    at = 0
    for i in range(n):
        out[i] = at
        if i >= len(more) - 1:
            continue
        for e in range(offsets[i], offsets[i + 1]):
            seen[columns[e]] = i
            out_columns[at], out_costs[at] = columns[e], costs[e]
            at += 1
        for e in range(more[i], more[i + 1]):
            if seen[more_columns[e]] != i:
                out_columns[at], out_costs[at] = more_columns[e], more_costs[e]
                at += 1
    out[n] = at
    return out, out_columns[:at], out_costs[:at]


@njit(cache=True, nogil=True)
def tight_others(offsets, columns, costs, u, v, row_of, n):
    """The listed pairs with u + v = cost, without the matched ones, for n rows."""
    starts = np.empty(n + 1, dtype=np.int64)
    tied = np.empty(len(columns), dtype=np.uint32)
    at = 0
    for i in range(n):
        starts[i] = at
        if i < len(offsets) - 1:
            for e in range(offsets[i], offsets[i + 1]):
                j = columns[e]
                if row_of[j] != i and u[i] + v[j] == costs[e]:
                    tied[at] = j
                    at += 1
    starts[n] = at
    return starts, tied[:at]


def solve(n: int, sets_a: Any, sets_b: Any, names: Any, empty_a: Any, empty_b: Any) -> tuple[Any, ...]:
    """As ``matching.solve`` for the fan-in sets ``sets_a`` and ``sets_b`` (``sets.Sets``) of n rows and columns."""
    room.check_matrix(len(sets_a.sizes), len(sets_b.sizes), _PER_PAIR)
    counts = shared_counts(sets_a, sets_b, names)
    offsets, columns, costs = first_core(n, counts, sets_a.sizes, sets_b.sizes, _CORE)
    u, v, column_of, row_of = matching.optimum(matching.listed(offsets, columns, costs), S)
    # Only where every unit has a partner in the core do the duals serve as a start of the next round.
    square = n == counts.shape[0] == counts.shape[1]
    while True:
        more, more_columns, more_costs, improvable, everything = price(
            counts, sets_a.sizes, sets_b.sizes, u, v, _NEAR, _CORE
        )
        if not improvable:
            break
        offsets, columns, costs = merged(n, offsets, columns, costs, more, more_columns, more_costs, n)
        problem = matching.listed(offsets, columns, costs)
        if square and (column_of >= 0).all():
            matching.improve(problem, u, v, column_of, row_of)
        else:
            u, v, column_of, row_of = matching.optimum(problem, S)
    matching.complete(S, empty_a, empty_b, u, v, column_of, row_of)
    if not everything:  # more tight pairs in one row than a round returns
        more, more_columns, more_costs, _, _ = price(counts, sets_a.sizes, sets_b.sizes, u, v, 0, n)
    starts, tight = tight_others(more, more_columns, more_costs, u, v, row_of, n)
    _, *tied = matching.tied(starts, tight, column_of, row_of, u == S, v == 0, empty_a, empty_b)
    return column_of, row_of, *tied


def shared_counts(sets_a, sets_b, names):
    """How many elements each unit of A shares with each of B: shape (units of A, units of B), uint16."""
    pairs, words = len(sets_a.sizes) * len(sets_b.sizes), (sets_b.elements + 63) >> 6
    if shared_by_all(sets_a, sets_b, names) < _LISTED * pairs * words:
        return listed_elements(sets_a.ptr, sets_a.keys, names, len(sets_b.sizes), sets_b.back, sets_b.holders)
    # In pages of their own, which go back at once: the heap would keep them where it had room between other things.
    shape = len(sets_a.sizes), len(sets_b.sizes)
    try:
        pages = mmap.mmap(-1, max(1, _PER_PAIR * pairs))
    except OSError as error:
        raise MemoryError(f"no {_PER_PAIR * pairs:,} bytes of memory for counts of shared elements") from error
    counts = np.frombuffer(pages, np.uint16, pairs).reshape(shape)
    shared_elements(
        bit_sets(sets_a.ptr, sets_a.keys, names, sets_b.elements),
        bit_sets(sets_b.ptr, sets_b.keys, np.arange(sets_b.elements), sets_b.elements),
        counts,
    )
    return counts
