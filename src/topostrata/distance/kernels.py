"""Compiled kernels: hashing, colours, and the fan-in costs of pairs of units. They hold no state and release the GIL.

The exact integer cost of two units is ``K = floor((2 S num + den) / (2 den))`` with num/den = |xor| / |or| of their
fan-in sets and ``S = lcm(1..30)``: the Jaccard distance in units of 1/S, exact for unions up to 30 and within 2.2e-13
beyond. Sets are flat arrays as in ``sets.Sets``.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, ANN202, C901, PLR0912, PLR0915
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance.compiling import inner

S = 2329089562800
# Entries that follow the last holder in ``sets.Sets``, so that a list may be copied past its end.
PAD = 8
# 2 S num + den must fit in 63 bits.
LARGEST_UNION = 1_900_000

_GOLDEN, _ONE, _TWO = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S16 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(16)
_IN, _OUT, _THREE, _FIVE = np.uint64(0x1111), np.uint64(0x2222), np.uint64(3), np.uint64(5)


@njit(cache=True, nogil=True, inline="always")
def mix(x):
    """The splitmix64 step of a uint64."""
    x = x + _GOLDEN
    x = (x ^ (x >> _S30)) * _ONE
    x = (x ^ (x >> _S27)) * _TWO
    return x ^ (x >> _S31)


@njit(cache=True, nogil=True)
def mixed(values):
    """``mix`` of every entry of a uint64 array."""
    out = np.empty_like(values)
    for k in range(len(values)):
        out[k] = mix(values[k])
    return out


@njit(cache=True, nogil=True)
def refine(colours, rounds, sources, targets, salts_in, salts_out):
    """The colours after some synchronous rounds: each takes in those of its fan-in and of its fan-out.

    Connections are source and target units; their salts are of no length where all are 0. Connections of one target
    in a row are summed up in a register.
    """
    n, m = len(colours), len(sources)
    now = colours.copy()
    ins, outs = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.uint64)
    seen_in, seen_out = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.uint64)
    salted_in, salted_out = len(salts_in) > 0, len(salts_out) > 0
    for _ in range(rounds):
        for k in range(n):
            ins[k] = outs[k] = 0
            seen_in[k], seen_out[k] = mix(now[k] ^ _IN), mix(now[k] ^ _OUT)
        e = 0
        while e < m:
            target = targets[e]
            total, outward = np.uint64(0), seen_out[target]
            if salted_in or salted_out:
                while e < m and targets[e] == target:
                    source = sources[e]
                    total += mix(now[source] ^ _IN ^ salts_in[e]) if salted_in else seen_in[source]
                    outs[source] += mix(now[target] ^ _OUT ^ salts_out[e]) if salted_out else outward
                    e += 1
            else:
                while e < m and targets[e] == target:
                    source = sources[e]
                    total += seen_in[source]
                    outs[source] += outward
                    e += 1
            ins[target] += total
        for k in range(n):
            now[k] = mix(mix(mix(now[k]) ^ ins[k]) + _THREE * outs[k])
    return now


@njit(cache=True, nogil=True)
def differ(colours, order, ptr, keys):
    """Whether any two units of one colour hold different sets; ``order`` sorts the units by colour."""
    for k in range(1, len(order)):
        i, j = order[k - 1], order[k]
        if colours[i] == colours[j]:
            if ptr[i + 1] - ptr[i] != ptr[j + 1] - ptr[j]:
                return True
            for e in range(ptr[i + 1] - ptr[i]):
                if keys[ptr[i] + e] != keys[ptr[j] + e]:
                    return True
    return False


@njit(cache=True, nogil=True, inline="always")
def colour_cost(x, y):
    """0 for equal colours, else 1 to 2^48, the same for (x, y) and (y, x)."""
    if x == y:
        return np.int64(0)
    low, high = (x, y) if x < y else (y, x)
    return np.int64(mix(mix(low) ^ (_FIVE * high)) >> _S16) + np.int64(1)


def _cost_table(size):
    den, num = np.divmod(np.arange(size * size, dtype=np.int64), size)
    return np.where(den > 0, (2 * S * num + den) // np.maximum(2 * den, 1), 0)


_SMALL = 64
_COSTS = _cost_table(_SMALL)


@njit(cache=True, nogil=True, inline="always")
def cost(num, den):
    """The integer Jaccard cost of two sets with ``num`` elements in their xor and ``den`` in their union."""
    if den < _SMALL:  # the common case in sparse layers; a division costs more than all the rest
        return _COSTS[den * _SMALL + num]
    return np.int64(np.uint64(2 * S * num + den) // np.uint64(2 * den))


@njit(cache=True, nogil=True)
def grown(values, used, room):
    """A larger array that begins with the ``used`` first values. A slice would compile ten times as long."""
    larger = np.empty(room, dtype=values.dtype)
    for k in range(used):
        larger[k] = values[k]
    return larger


@inner
def unequal(x, y):
    """Whether two arrays differ. NumPy's way takes a second to compile, as does its copying, which reports lengths."""
    if len(x) != len(y):
        return True
    equal = 0
    for k in range(len(x)):
        equal += x[k] == y[k]
    return equal < len(x)


@inner
def copy_into(values, into):
    """Copy an array into one that is as long, or longer."""
    for k in range(len(values)):
        into[k] = values[k]


@njit(cache=True, nogil=True)
def increments(ptr, keys, keymap, back):
    """How many (unit of A, unit of B, shared element) triples there are, in all and of one unit of A at most."""
    total = most = 0
    for i in range(len(ptr) - 1):
        before = total
        for e in range(ptr[i], ptr[i + 1]):
            other = keymap[keys[e]]
            if other >= 0:
                total += back[other + 1] - back[other]
        most = max(most, total - before)
    return total, most


_NOTHING = np.zeros(0, dtype=np.int64)
_NO_UNITS = np.zeros(0, dtype=np.uint32)
NOTHING_KNOWN = (
    _NOTHING, _NO_UNITS, _NOTHING, _NOTHING, _NOTHING, _NOTHING, _NO_UNITS, _NOTHING, _NOTHING, _NOTHING
)  # fmt: skip


@njit(cache=True, nogil=True)
def sparse_costs(n, ptr_a, keys_a, keymap, sizes_b, back_b, holders_b, smallest_b, single, most, known):
    """The pairs of units that share two elements or more, by row, and what leads to those that share one.

    Row i is unit i of A, a column a unit of B; there are n rows, those beyond A's units are absent. A pair that shares
    nothing costs S (or 0, where both sets are empty). *Near* pairs share two elements or more: offsets, columns, costs.
    *Far* pairs share one; their cost is ``single[|a| + |b|]``. In sparse layers most pairs are far and few are looked
    at, so they are not listed, but found through ``names``, A's keys as they are called in B (-1: not there), and the
    holders of each; ``floor`` is the least that any of a row's can cost. ``keymap`` names A's elements in B; ``most``
    is the second number that ``increments`` gives. ``known`` is what this function gave for the same units and another
    ``keymap``, or ``NOTHING_KNOWN``: rows whose elements have the same names keep their costs.
    """
    known_near, known_columns, known_costs, _, known_names, _, _, _, known_floor, _ = known
    n_a = len(ptr_a) - 1
    near = np.empty(n + 1, dtype=np.int64)
    floor = np.empty(n_a, dtype=np.int64)
    names = np.empty(len(keys_a), dtype=np.int64)
    room = 2 * len(keys_a) + 64
    columns = np.empty(room, dtype=np.uint32)
    costs = np.empty(room, dtype=np.int64)
    largest = 0
    for i in range(n_a):
        largest = max(largest, ptr_a[i + 1] - ptr_a[i])
    # What a row shares with a column stands in ``common`` above the row's own base: no need to begin with zeros again.
    common = np.zeros(len(sizes_b), dtype=np.int32)
    stride = np.int32(largest + 2)
    base = stride
    met = np.empty(most + PAD, dtype=np.uint32)
    at = 0
    for i in range(n_a):
        near[i] = at
        changed = len(known_names) == 0
        for e in range(ptr_a[i], ptr_a[i + 1]):
            names[e] = keymap[keys_a[e]]
            if len(known_names):
                changed |= names[e] != known_names[e]
        if not changed:
            end = known_near[i + 1] - known_near[i]
            if at + end > room:
                room = 2 * (at + end)
                columns, costs = grown(columns, at, room), grown(costs, at, room)
            for e in range(known_near[i], known_near[i + 1]):
                columns[at], costs[at] = known_columns[e], known_costs[e]
                at += 1
            floor[i] = known_floor[i]
            continue
        end = 0
        least = np.int64(2**31)
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = names[e]
            if other < 0:
                continue
            least = min(least, smallest_b[other])
            begin, count = back_b[other], back_b[other + 1] - back_b[other]
            # Most lists are short: a fixed number of copies, of which too many are made, takes less than a loop's end.
            for k in range(PAD):
                met[end + k] = holders_b[begin + k]
            for k in range(PAD, count):
                met[end + k] = holders_b[begin + k]
            end += count
        if at + end + 1 > room:
            room = 2 * (at + end + 1)
            columns, costs = grown(columns, at, room), grown(costs, at, room)
        for e in range(end):
            j = met[e]
            shared = max(common[j], base) + np.int32(1)
            common[j] = shared
            columns[at] = j  # overwritten by the next one unless this is the second element that the two share
            at += shared == base + 2
        size = ptr_a[i + 1] - ptr_a[i]
        floor[i] = single[size + least] if least < 2**31 else 2**62
        for e in range(near[i], at):
            together = np.int64(common[columns[e]] - base)
            total = size + sizes_b[columns[e]]
            costs[e] = cost(total - 2 * together, total - together)
        if base > 2**31 - 1 - 2 * stride:
            common[:] = 0
            base = np.int32(0)
        base += stride
    for i in range(n_a, n + 1):
        near[i] = at
    return near, columns[:at], costs[:at], ptr_a, names, back_b, holders_b, sizes_b, floor, single


def single_costs(largest: int) -> NDArray[np.int64]:
    """The costs of pairs that share one element, by the sum of their sizes: index 0 to ``largest``."""
    total = np.maximum(np.arange(largest + 1, dtype=np.int64), 2)
    costs: NDArray[np.int64] = (2 * S * (total - 2) + total - 1) // (2 * (total - 1))
    return costs


@njit(cache=True, nogil=True)
def listed_costs(rows, offsets, columns, ptr_a, keys_a, keymap, ptr_b, keys_b, elements_b):
    """The integer Jaccard costs of the listed pairs; a unit beyond the end of a network is absent: no elements."""
    n_a, n_b = len(ptr_a) - 1, len(ptr_b) - 1
    costs = np.empty(len(columns), dtype=np.int64)
    stamp = np.full(elements_b, -1, dtype=np.int64)
    for k in range(len(rows)):
        i = rows[k]
        size = 0
        if i < n_a:
            size = ptr_a[i + 1] - ptr_a[i]
            for e in range(ptr_a[i], ptr_a[i + 1]):
                other = keymap[keys_a[e]]
                if other >= 0:
                    stamp[other] = i
        for e in range(offsets[k], offsets[k + 1]):
            j = columns[e]
            total, common = size, 0
            if j < n_b:
                total += ptr_b[j + 1] - ptr_b[j]
                for h in range(ptr_b[j], ptr_b[j + 1]):
                    if stamp[keys_b[h]] == i:
                        common += 1
            costs[e] = cost(total - 2 * common, total - common)
    return costs


@njit(cache=True, nogil=True)
def listed_colour_costs(rows, offsets, columns, colours_a, colours_b):
    """The colour costs of the listed pairs; an absent unit has colour 0."""
    costs = np.empty(len(columns), dtype=np.int64)
    for k in range(len(rows)):
        x = colours_a[rows[k]] if rows[k] < len(colours_a) else np.uint64(0)
        for e in range(offsets[k], offsets[k + 1]):
            j = columns[e]
            y = colours_b[j] if j < len(colours_b) else np.uint64(0)
            costs[e] = colour_cost(x, y)
    return costs


_HALF = 2.0**37
ONE = 1 << 74  # the unit of ``matched_sum``


@njit(cache=True, nogil=True)
def matched_sum(partner, ptr_a, keys_a, keymap, ptr_b, keys_b, elements_b):
    """The exact sum of num / den (float64) over all matched pairs of units, as ``high * 2^37 + low`` in units of 2^-74.

    A quotient is 0 or at least 1 / LARGEST_UNION > 2^-21, so its last bit is worth 2^-73 or more: nothing is lost.
    """
    high = low = np.int64(0)
    stamp = np.full(elements_b, -1, dtype=np.int64)
    for i in range(len(partner)):
        j = partner[i]
        if j < 0:
            continue
        for h in range(ptr_b[j], ptr_b[j + 1]):
            stamp[keys_b[h]] = i
        common = 0
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = keymap[keys_a[e]]
            if other >= 0 and stamp[other] == i:
                common += 1
        total = ptr_a[i + 1] - ptr_a[i] + ptr_b[j + 1] - ptr_b[j]
        if total > 2 * common:
            scaled = (total - 2 * common) / (total - common) * _HALF
            whole = np.int64(scaled)
            high += whole
            low += np.int64((scaled - whole) * _HALF)
    return high, low


def row_distance(high: int, low: int, matched: int, size_a: int, size_b: int) -> float:
    """The distance of a row by its ``matched_sum`` over so many matched pairs; a unit without a partner costs 1.

    Rounded once, as ``math.fsum`` does.
    """
    alone = size_a + size_b - 2 * matched
    return ((high << 37) + low + alone * ONE) / ONE / (matched + alone)
