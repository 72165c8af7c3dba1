"""Compiled kernels: hashing, colours, and the fan-in costs of pairs of units. They hold no state and release the GIL.

The exact integer cost of two units is ``K = floor((2 S num + den) / (2 den))`` with num/den = |xor| / |or| of their
fan-in sets and ``S = lcm(1..30)``: the Jaccard distance in units of 1/S, exact for unions up to 30 and within 2.2e-13
beyond. Sets are flat arrays as in ``prepared.Sets``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

S = 2329089562800
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
def refine(colours, rounds, to_in, from_in, salt_in, to_out, from_out, salt_out):
    """The colours after some synchronous rounds: each takes in those of its fan-in and of its fan-out."""
    n = len(colours)
    now = colours.copy()
    for _ in range(rounds):
        ins = np.zeros(n, dtype=np.uint64)
        outs = np.zeros(n, dtype=np.uint64)
        for e in range(len(to_in)):
            ins[to_in[e]] += mix(now[from_in[e]] ^ _IN ^ salt_in[e])
        for e in range(len(to_out)):
            outs[to_out[e]] += mix(now[from_out[e]] ^ _OUT ^ salt_out[e])
        for k in range(n):
            now[k] = mix(mix(mix(now[k]) ^ ins[k]) + _THREE * outs[k])
    return now


@njit(cache=True, nogil=True, inline="always")
def colour_cost(x, y):
    """0 for equal colours, else 1 to 2^48, the same for (x, y) and (y, x)."""
    if x == y:
        return np.int64(0)
    low, high = (x, y) if x < y else (y, x)
    return np.int64(mix(mix(low) ^ (_FIVE * high)) >> _S16) + np.int64(1)


@njit(cache=True, nogil=True, inline="always")
def cost(num, den):
    """The integer Jaccard cost of two sets with ``num`` elements in their xor and ``den`` in their union."""
    if den == 0:
        return np.int64(0)
    return (2 * S * num + den) // (2 * den)


@njit(cache=True, nogil=True)
def increments(keys, keymap, back):
    """How many (unit of A, unit of B, shared element) triples there are: the work of ``sparse_costs``."""
    total = 0
    for k in keys:
        other = keymap[k]
        if other >= 0:
            total += back[other + 1] - back[other]
    return total


@njit(cache=True, nogil=True)
def sparse_costs(n, ptr_a, keys_a, keymap, ptr_b, back_b, holders_b, room):
    """The pairs of units that share an element, by row: offsets, columns, integer costs.

    Row i is unit i of A, a column a unit of B; every pair left out costs S (or 0, where both sets are empty).
    ``keymap`` names A's elements in B (-1: not there); ``room`` is at least what ``increments`` says; there are n rows,
    those beyond A's units are absent.
    """
    n_a, n_b = len(ptr_a) - 1, len(ptr_b) - 1
    offsets = np.empty(n + 1, dtype=np.int64)
    columns = np.empty(room, dtype=np.int32)
    costs = np.empty(room, dtype=np.int64)
    common = np.zeros(n_b, dtype=np.int64)
    at = 0
    for i in range(n_a):
        offsets[i] = at
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = keymap[keys_a[e]]
            if other < 0:
                continue
            for h in range(back_b[other], back_b[other + 1]):
                j = holders_b[h]
                if common[j] == 0:
                    columns[at] = j
                    at += 1
                common[j] += 1
        size = ptr_a[i + 1] - ptr_a[i]
        for e in range(offsets[i], at):
            j = columns[e]
            total = size + ptr_b[j + 1] - ptr_b[j]
            costs[e] = cost(total - 2 * common[j], total - common[j])
            common[j] = 0
    offsets[n_a:] = at
    return offsets, columns[:at], costs[:at]


@njit(cache=True, nogil=True)
def listed_costs(offsets, columns, ptr_a, keys_a, keymap, ptr_b, keys_b, elements_b):
    """The integer Jaccard costs of the listed pairs; a unit beyond the end of a network is absent: no elements."""
    n_a, n_b = len(ptr_a) - 1, len(ptr_b) - 1
    costs = np.empty(len(columns), dtype=np.int64)
    stamp = np.full(elements_b, -1, dtype=np.int64)
    for i in range(len(offsets) - 1):
        if offsets[i] == offsets[i + 1]:
            continue
        size = 0
        if i < n_a:
            size = ptr_a[i + 1] - ptr_a[i]
            for e in range(ptr_a[i], ptr_a[i + 1]):
                other = keymap[keys_a[e]]
                if other >= 0:
                    stamp[other] = i
        for e in range(offsets[i], offsets[i + 1]):
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
def listed_colour_costs(offsets, columns, colours_a, colours_b):
    """The colour costs of the listed pairs; an absent unit has colour 0."""
    costs = np.empty(len(columns), dtype=np.int64)
    for i in range(len(offsets) - 1):
        x = colours_a[i] if i < len(colours_a) else np.uint64(0)
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            y = colours_b[j] if j < len(colours_b) else np.uint64(0)
            costs[e] = colour_cost(x, y)
    return costs


@njit(cache=True, nogil=True)
def matched_parts(column_of, ptr_a, keys_a, keymap, ptr_b, keys_b, elements_b):
    """Sizes of xor and union of every matched pair of units that are both there, by row; (1, 1) for the others."""
    n_a, n_b = len(ptr_a) - 1, len(ptr_b) - 1
    n = len(column_of)
    num, den = np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64)
    stamp = np.full(elements_b, -1, dtype=np.int64)
    for i in range(min(n, n_a)):
        j = column_of[i]
        if j >= n_b:
            continue
        for h in range(ptr_b[j], ptr_b[j + 1]):
            stamp[keys_b[h]] = i
        common = 0
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = keymap[keys_a[e]]
            if other >= 0 and stamp[other] == i:
                common += 1
        total = ptr_a[i + 1] - ptr_a[i] + ptr_b[j + 1] - ptr_b[j]
        num[i], den[i] = total - 2 * common, total - common
    return num, den
