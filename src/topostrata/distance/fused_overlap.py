"""Many comparisons by overlap in one compiled call, given the sure pairs: ``overlap`` to the bit.

Points B and C of docs/design/013-overlap.md, for wirings whose units are matched one by one, and layers that are not
both wide and dense; other pairs are left to ``overlap``, step by step. Networks are handed over as ``fused`` does it.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, C901, PLR0912, PLR0915
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance.addresses import colours, ints, units
from topostrata.distance.beliefs import find_sure
from topostrata.distance.compiling import inner, part
from topostrata.distance.fused import DONE, OTHERWISE, ROW, SLOTS, named, narrowed, put_partners
from topostrata.distance.kernels import (
    S,
    copy_into,
    increments,
    listed_colour_costs,
    matched_sum,
    row_distance,
    unequal,
)
from topostrata.distance.matching import NONE
from topostrata.distance.prepared import SIDE_SLOTS, Prepared
from topostrata.distance.proposals import BYPASS, tied_common
from topostrata.distance.room import MOST_UNCHECKED
from topostrata.distance.sets import SPARSE

STEPS = 100  # of a climb
MOST_COUNTED = 1 << 20  # shared elements of all pairs of a space that is not sparse: bit sets count more sooner

Ints = NDArray[np.int64]


@inner
def overlap_costs(n, n_b, ins, outs, room, ascending):
    """The pairs of units with common elements, by row: offsets (n + 1,), columns, ``BYPASS`` less their number.

    ``ins`` and ``outs`` are each A's sets (ptr, keys), the names of its elements in B (-1: none), and the holders of
    B's elements (back, holders). ``room``: as many pairs as there can be. Pairs stand in the order of
    ``proposals.common_pairs``, or ``ascending``, in that of ``proposals.counted_pairs``.
    """
    n_a = len(ins[0]) - 1
    offsets = np.empty(n + 1, dtype=np.int64)
    columns, costs = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.int64)
    total, met = np.zeros(n_b, dtype=np.int64), np.empty(n_b + 1, dtype=np.int64)
    at = 0
    for i in range(n_a):
        offsets[i] = at
        count = 0
        for side in range(2):
            ptr, keys, names, back, holders = ins if side == 0 else outs
            for e in range(ptr[i], ptr[i + 1]):
                other = names[keys[e]]
                if other < 0:
                    continue
                for h in range(back[other], back[other + 1]):
                    j = holders[h]
                    met[count] = j  # overwritten by the next one unless it is new
                    count += total[j] == 0
                    total[j] += 1
        if ascending:
            for j in range(n_b):
                if total[j]:
                    columns[at], costs[at] = j, BYPASS - total[j]
                    at += 1
                total[j] = 0
        else:
            for e in range(count):
                j = met[e]
                columns[at], costs[at] = j, BYPASS - total[j]
                at += 1
                total[j] = 0
    for i in range(n_a, n + 1):
        offsets[i] = at
    return offsets, columns[:at], costs[:at]


@inner
def without_universal(names, back_a, n_a, back_b, n_b):
    """The names without the elements that all units of both networks hold, and how many these are."""
    dropped = 0
    for k in range(len(names)):
        other = names[k]
        if other >= 0 and back_a[k + 1] - back_a[k] == n_a and back_b[other + 1] - back_b[other] == n_b:
            if not dropped:
                names = names.copy()
            names[k] = -1
            dropped += 1
    return names, dropped


@inner
def likeness(rows, offsets, columns, ptr_a, keys_a, names, ptr_b, keys_b, elements_b, dropped, costs):
    """Take from the tied pairs' ``costs`` S times the common share of their union, as ``proposals._Side.likeness``."""
    common = tied_common(rows, offsets, columns, ptr_a, keys_a, names, ptr_b, keys_b, elements_b)
    for k in range(len(rows)):
        i = rows[k]
        size = ptr_a[i + 1] - ptr_a[i] - dropped if i < len(ptr_a) - 1 else 0
        for e in range(offsets[k], offsets[k + 1]):
            j = columns[e]
            total = size + (ptr_b[j + 1] - ptr_b[j] - dropped if j < len(ptr_b) - 1 else 0)
            there = max(total - common[e], 1)
            costs[e] -= (2 * S * common[e] + there) // (2 * there)


@inner
def connected(members, ptr_in, ptr_out):
    """How many of these units are there and have any connection."""
    count = 0
    for i in members:
        count += i < len(ptr_in) - 1 and ptr_in[i + 1] - ptr_in[i] + ptr_out[i + 1] - ptr_out[i] > 0
    return count


@part
def propose(here, there, in_names, out_names, colours_a, colours_b, equal_units, into):
    """The match of one space by most overlap, as ``proposals.Proposer``, given the names of its elements.

    ``here`` and ``there`` are its places in the tables of the two networks. Fills ``into``, the partners of A's units;
    returns how many no structure decided, and whether the match is unique. The former is -1 where lists would be long.
    """
    in_ptr_a, in_keys_a, in_back_a = ints(here[0]), units(here[1]), ints(here[2])
    out_ptr_a, out_keys_a, out_back_a = ints(here[4]), units(here[5]), ints(here[6])
    in_ptr_b, in_keys_b, in_back_b = ints(there[0]), units(there[1]), ints(there[2])
    out_ptr_b, out_keys_b, out_back_b = ints(there[4]), units(there[5]), ints(there[6])
    n_a, n_b = len(in_ptr_a) - 1, len(in_ptr_b) - 1
    n = max(n_a, n_b)
    out_names, dropped = without_universal(out_names, out_back_a, n_a, out_back_b, n_b)
    # Inputs that all hold are as many for every pair, so they need not be listed to be counted.
    listed, _ = without_universal(in_names, in_back_a, n_a, in_back_b, n_b)
    most_in = increments(in_ptr_a, in_keys_a, listed, in_back_b)[0]
    most_out = increments(out_ptr_a, out_keys_a, out_names, out_back_b)[0]
    total = most_in + most_out
    many = total > SPARSE * n_a * n_b
    if n > MOST_UNCHECKED or (many and total > MOST_COUNTED):
        return -1, False
    offsets, columns, costs = overlap_costs(
        n, n_b, (in_ptr_a, in_keys_a, listed, in_back_b, units(there[3])),
        (out_ptr_a, out_keys_a, out_names, out_back_b, units(there[7])), min(total, n_a * n_b), many,
    )  # fmt: skip
    # All rows are tied at first, and the last but one criterion is likeness, the last one colour.
    rows, column_of, row_of = np.arange(n), np.arange(n), np.arange(n)
    undecided, unique, bypass = 0, True, np.int64(BYPASS)
    shades_a, shades_b = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64)
    for turn in range(3):
        if not len(rows):
            break
        if turn == 1:
            bypass = np.int64(NONE)
            costs = np.empty(len(columns), dtype=np.int64)
            for e in range(len(columns)):
                costs[e] = 2 * S
            likeness(
                rows, offsets, columns, in_ptr_a, in_keys_a, in_names, in_ptr_b, in_keys_b, len(in_back_b) - 1,
                np.int64(0), costs,
            )  # fmt: skip
            likeness(
                rows, offsets, columns, out_ptr_a, out_keys_a, out_names, out_ptr_b, out_keys_b, len(out_back_b) - 1,
                dropped, costs,
            )  # fmt: skip
        elif turn == 2:
            taken = np.empty(len(rows), dtype=np.int64)
            for k in range(len(rows)):
                taken[k] = column_of[rows[k]]
            undecided = max(connected(rows, in_ptr_a, out_ptr_a), connected(taken, in_ptr_b, out_ptr_b))
            costs = listed_colour_costs(rows, offsets, columns, colours_a, colours_b)
            shades_a, shades_b = colours_a, colours_b
        rows, offsets, columns, unique = narrowed(
            rows, offsets, columns, costs, shades_a, shades_b, column_of, row_of, bypass
        )
    put_partners(column_of, n_a, n_b, into)
    # Units that are more than this space's, such as heads, are not known to be equal.
    return undecided, unique and (equal_units or not len(rows))


@inner
def common_connections(mine, ptr_a, keys_a, names, ptr_b, keys_b, elements_b):
    """How many elements the units of A share with their partners, all together."""
    count = 0
    stamp = np.full(elements_b, -1, dtype=np.int64)
    for i in range(len(mine)):
        j = mine[i]
        if j < 0:
            continue
        for e in range(ptr_b[j], ptr_b[j + 1]):
            stamp[keys_b[e]] = i
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = names[keys_a[e]]
            count += other >= 0 and stamp[other] == i
    return count


@njit(cache=True, nogil=True)
def compare_pairs(pairs, table, side_table, sizes, sides, row_layout, values, undecided, unique, partners, ended, sure):
    """Compare each of ``pairs``, places in the tables; fills what is known of each and how it ``ended``.

    ``sure`` are the sure pairs of each, as ``beliefs.find_sure`` fills them; ``partners`` has a row for each pair.
    """
    hidden, in_ends, in_parts, out_ends, out_parts = sides
    row_spaces, row_ends, row_parts, equal_units = row_layout
    n_spaces, n_rows, n = sizes.shape[1], len(row_spaces), len(hidden)
    everything = np.ones(n_spaces, dtype=np.bool_)
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        size_a, size_b = sizes[a], sizes[b]
        first = np.zeros(n_spaces + 1, dtype=np.int64)
        for s in range(n_spaces):
            first[s + 1] = first[s] + size_a[s]
        partner = partners[p]
        for s in range(n_spaces):
            for i in range(size_a[s]):
                partner[first[s] + i] = i
        for s in hidden:
            copy_into(sure[p, first[s] : first[s + 1]], partner[first[s] : first[s + 1]])
        unique[p] = True
        ended[p] = DONE
        # A proposal depends on the partners of the neighbours alone: where these are as they were, it is the same, and
        # brings what it brought.
        version, seen = np.zeros(n_spaces, dtype=np.int64), np.full(n_spaces, -1, dtype=np.int64)
        common = np.zeros(n_rows, dtype=np.int64)
        idle, step = 0, -n
        while step < 0 or (idle < n and step < STEPS):
            climbing = step >= 0
            at = step + n
            if climbing:
                at = step % max(n, 2 * n - 2)
                at = at if at < n else 2 * n - 2 - at
            s = hidden[at]
            step += 1
            idle += climbing
            now = 0
            for q in range(in_ends[s], in_ends[s + 1]):
                now += version[in_parts[q, 0]]
            for q in range(out_ends[s], out_ends[s + 1]):
                now += version[out_parts[q, 0]]
            if seen[s] != now:
                seen[s] = now
                here, there = table[a, s * SLOTS :], table[b, s * SLOTS :]
                column = np.empty(size_a[s], dtype=np.int64)
                count, alone = propose(
                    side_table[a, s * SIDE_SLOTS :], side_table[b, s * SIDE_SLOTS :],
                    named(in_parts[in_ends[s] : in_ends[s + 1]], size_a, size_b, partner, first, everything),
                    named(out_parts[out_ends[s] : out_ends[s + 1]], size_a, size_b, partner, first, everything),
                    colours(here[9]), colours(there[9]), equal_units[s], column,
                )  # fmt: skip
                if count < 0:
                    ended[p] = OTHERWISE
                    break
                unique[p] &= alone
                mine = partner[first[s] : first[s + 1]]
                taken = not climbing
                if climbing and unequal(column, mine):
                    before, gained = mine.copy(), 0
                    for turn in range(2):
                        copy_into(before if turn == 0 else column, mine)
                        for r in range(n_rows):
                            touched = row_spaces[r] == s
                            for q in range(row_ends[r], row_ends[r + 1]):
                                touched |= row_parts[q, 0] == s
                            if touched:
                                here = table[a, n_spaces * SLOTS + r * ROW :]
                                there = table[b, n_spaces * SLOTS + r * ROW :]
                                parts = row_parts[row_ends[r] : row_ends[r + 1]]
                                of = row_spaces[r]
                                common = common_connections(
                                    partner[first[of] : first[of + 1]], ints(here[0]), units(here[1]),
                                    named(parts, size_a, size_b, partner, first, everything),
                                    ints(there[0]), units(there[1]), there[2, 0],
                                )  # fmt: skip
                                gained += common if turn else -common
                    taken = gained > 0
                    if taken:
                        idle = 1
                    else:
                        copy_into(before, mine)
                if taken:
                    undecided[p, s] = count
                    version[s] += climbing or unequal(column, mine)
                    copy_into(column, mine)
        if ended[p] != DONE:
            continue
        for r in range(n_rows):
            s = row_spaces[r]
            here = table[a, n_spaces * SLOTS + r * ROW :]
            there = table[b, n_spaces * SLOTS + r * ROW :]
            names = named(row_parts[row_ends[r] : row_ends[r + 1]], size_a, size_b, partner, first, everything)
            mine = partner[first[s] : first[s + 1]]
            high, low = matched_sum(
                mine, ints(here[0]), units(here[1]), names, ints(there[0]), units(there[1]), there[2, 0]
            )
            values[p, r, 0], values[p, r, 1] = high, low
            matched = 0
            for j in mine:
                matched += j >= 0
            values[p, r, 2] = matched


class Answer(NamedTuple):
    """What is known of each pair: see ``compare_pairs``."""

    sums: Ints
    undecided: Ints
    unique: NDArray[np.bool_]
    partners: Ints
    ended: Ints
    sure: Ints

    def values(self, p: int, a: Prepared, b: Prepared) -> list[float] | None:
        """The distances of the rows of one pair; None where it is for ``overlap`` to compare step by step."""
        if self.ended[p] != DONE:
            return None
        rows = zip(self.sums[p].tolist(), a.plan.rows, strict=True)
        return [
            row_distance(high, low, matched, a.sizes[row.space], b.sizes[row.space])
            for (high, low, matched), row in rows
        ]

    @staticmethod
    def by_space(units_of: Ints, a: Prepared) -> dict[int, Ints]:
        """Of the first pair the units of each space: of ``sure`` or of ``partners``."""
        ends = np.cumsum((0, *a.sizes)).tolist()
        return {s: units_of[0, ends[s] : ends[s + 1]] for s in range(len(a.sizes))}


def answer(networks: Sequence[Prepared], pairs: Ints) -> Answer | None:
    """The comparison of each of ``pairs``, places in ``networks``; None for wirings that are compared step by step."""
    plan = networks[0].plan
    if plan.layout is None or [*plan.sides[0]] != [*plan.layout[0]]:
        return None
    if any(network.plan.form != plan.form for network in networks):
        return None
    n, width = len(pairs), max(sum(network.sizes) for network in networks)
    for network in networks:
        network.colours  # noqa: B018 - computed now, so that they stand in the table
    sizes = np.stack([network.context_sizes for network in networks])
    sides = np.stack([network.sides_in_memory for network in networks])
    sure = np.full((n, width), -1, dtype=np.int64)
    find_sure(pairs, sides, sizes, plan.sides, sure)
    found = Answer(
        np.zeros((n, len(plan.rows), 3), dtype=np.int64),
        np.zeros((n, len(plan.spaces)), dtype=np.int64),
        np.zeros(n, dtype=np.bool_),
        np.empty((n, width), dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        sure,
    )
    table = np.stack([network.places_in_memory for network in networks])
    compare_pairs(pairs, table, sides, sizes, plan.sides, plan.layout[6:], *found)
    return found
