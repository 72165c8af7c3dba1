"""Many canonical comparisons in one compiled call, without Python between the kernels: ``canonical`` to the bit.

For wirings whose units are matched one by one (every problem plain) and layers that are sparse; other pairs are left to
``canonical``, pair by pair. Networks are handed over as a table of where their arrays lie, so nothing is copied, and
nothing holds the lock of the interpreter.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, ANN202, C901, PLR0912, PLR0915
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance.addresses import colours, flags, ints, units
from topostrata.distance.comparison import Comparison
from topostrata.distance.compiling import inner
from topostrata.distance.kernels import (
    NOTHING_KNOWN,
    S,
    copy_into,
    increments,
    listed_colour_costs,
    listed_costs,
    matched_sum,
    mix,
    row_distance,
    single_costs,
    sparse_costs,
)
from topostrata.distance.matching import NONE, assign, complete, components, tied_pairs, tight_pairs
from topostrata.distance.prepared import Prepared
from topostrata.distance.room import MOST_UNCHECKED
from topostrata.distance.sets import SPARSE
from topostrata.distance.ties import mixed_components

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# How a comparison ended: done, in want of colours, or to be made by ``canonical``.
DONE, COLOURS, OTHERWISE = 0, 1, 2

SLOTS = 11  # of each space in the table: nine arrays of sets, colours, and the elements of the fan-out sets
ROW = 3  # of each row: two arrays, and the elements


@inner
def padded(empty, n):
    """``empty`` for n units, of which those beyond are absent: not among them."""
    flags = np.zeros(n, dtype=np.bool_)
    copy_into(empty, flags)
    return flags


@inner
def solved(problem, bypass, empty_a, empty_b, column_of, row_of):
    """As ``matching.solve``, into ``column_of`` and ``row_of``: the tied rows, offsets, columns, their components."""
    n = len(column_of)
    u, v = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    column_of[:] = -1
    row_of[:] = -1
    assign(problem, bypass, u, v, column_of, row_of)
    complete(bypass, empty_a, empty_b, u, v, column_of, row_of)
    starts, tight = tight_pairs(problem, u, v, row_of)
    to_hub, from_hub = u == bypass, v == 0
    component, sizes = components(starts, tight, column_of, row_of, to_hub, from_hub, empty_a, empty_b)
    rows, offsets, columns = tied_pairs(
        starts, tight, column_of, row_of, to_hub, from_hub, empty_a, empty_b, component, sizes
    )
    parts = np.empty(len(rows), dtype=np.int64)
    for k in range(len(rows)):
        parts[k] = component[rows[k]]
    return rows, offsets, columns, parts


@inner
def _fresh(table, key):
    """Whether a key is new in a table of keys, which then holds it."""
    at = key & np.uint64(len(table) - 1)
    while table[at] != 0:
        if table[at] == key:
            return False
        at = (at + np.uint64(1)) & np.uint64(len(table) - 1)
    table[at] = key
    return True


@inner
def only_equals(parts, mixed, rows, offsets, columns, colours_a, colours_b):
    """As ``ties.Ties._only_equals``."""
    room = 64
    while room < 4 * (len(columns) + 2 * len(rows)):
        room *= 2
    edges, nodes = np.zeros(room, dtype=np.uint64), np.zeros(room, dtype=np.uint64)
    regions = np.zeros(len(mixed), dtype=np.bool_)
    balance = np.int64(0)
    for k in range(len(rows)):
        part, i = parts[k], rows[k]
        if not mixed[part]:
            continue
        if not regions[part]:
            regions[part] = True
            balance -= 1
        x = colours_a[i] if i < len(colours_a) else np.uint64(0)
        base = mix(np.uint64(part))
        row = mix(base ^ mix(x)) | np.uint64(1)
        if not _fresh(nodes, row):
            continue
        balance += 1
        for e in range(offsets[k], offsets[k + 1]):
            j = columns[e]
            y = colours_b[j] if j < len(colours_b) else np.uint64(0)
            column = mix(base + mix(y)) & ~np.uint64(1) | np.uint64(2)
            if _fresh(nodes, column):
                balance += 1
            if _fresh(edges, mix(row + mix(column)) | np.uint64(1)):
                balance -= 1
    return balance == 0


@inner
def narrowed(rows, offsets, columns, costs, colours_a, colours_b, column_of, row_of, bypass):
    """As ``matching.rematch``, with a bypass; and whether only equals are left tied, where colours are handed in."""
    m = len(rows)
    taken, place = np.empty(m, dtype=np.int64), np.empty(len(row_of), dtype=np.uint32)
    for k in range(m):
        taken[k] = column_of[rows[k]]
        place[taken[k]] = k
    inner = np.empty(len(columns), dtype=np.uint32)
    for e in range(len(columns)):
        inner[e] = place[columns[e]]
    nothing, no_units = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32)
    far = np.zeros(1, dtype=np.int64)
    problem = (offsets, inner, costs, far, nothing, nothing, no_units, nothing, nothing, nothing)
    none = np.zeros(m, dtype=np.bool_)
    column, row = np.empty(m, dtype=np.int64), np.empty(m, dtype=np.int64)
    tied, starts, found, parts = solved(problem, bypass, none, none, column, row)
    for k in range(m):
        column_of[rows[k]] = taken[column[k]]
        row_of[taken[column[k]]] = rows[k]
    tied_rows, tied_columns = np.empty(len(tied), dtype=np.int64), np.empty(len(found), dtype=np.uint32)
    for k in range(len(tied)):
        tied_rows[k] = rows[tied[k]]
    for e in range(len(found)):
        tied_columns[e] = taken[found[e]]
    equal = True
    if len(colours_a) and len(tied_rows):
        mixed = mixed_components(parts, tied_rows, starts, tied_columns, colours_a, colours_b)
        for flag in mixed:
            if flag:
                equal = only_equals(parts, mixed, tied_rows, starts, tied_columns, colours_a, colours_b)
                break
    return tied_rows, starts, tied_columns, equal


@inner
def named(parts, sizes_a, sizes_b, partners, first, known):
    """The names in B of A's elements (``canonical.keymap``); ``parts`` are spaces and taps."""
    total = 0
    for q in range(len(parts)):
        total += sizes_a[parts[q, 0]] * parts[q, 1]
    names = np.empty(total, dtype=np.int64)
    at = np.int64(0)
    offset = np.int64(0)
    for q in range(len(parts)):
        space, taps = parts[q, 0], parts[q, 1]
        for unit in range(sizes_a[space]):
            other = partners[first[space] + unit] if known[space] else -1
            for tap in range(taps):
                names[at] = offset + other * taps + tap if other >= 0 else -1
                at += 1
        offset += sizes_b[space] * taps
    return names


@inner
def put_partners(column_of, size_a, size_b, into):
    """The unit of B for each unit of A, -1 where it has none."""
    for i in range(size_a):
        into[i] = column_of[i] if column_of[i] < size_b else -1


@njit(cache=True, nogil=True)
def compare_pairs(pairs, table, sizes, layout, single, values, counts, undecided, unique, partners, ended):
    """Compare each of ``pairs``, places in ``table``; fills what is known of each and how it ``ended``.

    ``layout`` says how the networks are wired (``Layout``); ``partners`` has a row for each pair, or one for all.
    """
    spaces, fed, in_ends, in_parts, out_ends, out_parts, row_spaces, row_ends, row_parts, equal_units = layout
    n_spaces = sizes.shape[1]
    nothing_known = NOTHING_KNOWN
    no_colours, none = np.zeros(0, dtype=np.uint64), np.int64(NONE)
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        first = np.zeros(n_spaces + 1, dtype=np.int64)
        for s in range(n_spaces):
            first[s + 1] = first[s] + sizes[a, s]
        partner = partners[p % len(partners)]
        known = np.ones(n_spaces, dtype=np.bool_)
        for s in range(n_spaces):
            for i in range(sizes[a, s]):
                partner[first[s] + i] = i
        for s in spaces:
            known[s] = False
        earlier, earlier_space = nothing_known, -1
        unique[p] = True
        ended[p] = DONE
        for s in spaces:
            # A space's own match, then at once that of the spaces that its look-ahead asks for.
            seen, ahead = known.copy(), known.copy()
            trial = partner.copy()
            own_rows, own_offsets = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
            own_columns = np.zeros(0, dtype=np.uint32)
            own_column, own_row = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
            for turn in range(n_spaces):
                t = s if turn == 0 else turn - 1 if turn <= s else turn  # s itself, then all others in order
                if t != s and (known[t] or not fed[s, t]):
                    continue
                n = max(sizes[a, t], sizes[b, t])
                here, there = table[a, t * SLOTS :], table[b, t * SLOTS :]
                ptr_a, keys_a, ptr_b = ints(here[0]), units(here[1]), ints(there[0])
                back_b, holders_b = ints(there[2]), units(there[3])
                sizes_b = ints(there[5])
                names = named(in_parts[in_ends[t] : in_ends[t + 1]], sizes[a], sizes[b], trial, first, seen)
                total, most = increments(ptr_a, keys_a, names, back_b)
                if n > MOST_UNCHECKED or total > SPARSE * sizes[a, t] * sizes[b, t]:
                    ended[p] = OTHERWISE
                    break
                problem = sparse_costs(
                    n, ptr_a, keys_a, names, sizes_b, back_b, holders_b, ints(there[4]), single, most,
                    earlier if earlier_space == t else nothing_known,
                )  # fmt: skip
                earlier, earlier_space = problem, t
                column_of, row_of = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
                empty_a, empty_b = padded(flags(here[6]), n), padded(flags(there[6]), n)
                rows, offsets, columns, _ = solved(problem, np.int64(S), empty_a, empty_b, column_of, row_of)
                colours_a, colours_b = colours(here[9]), colours(there[9])
                if len(rows) and (len(colours_a) == 0 or len(colours_b) == 0):
                    ended[p] = COLOURS
                    break
                if t == s:
                    own_column, own_row = column_of.copy(), row_of.copy()
                    own_rows, own_offsets, own_columns = rows, offsets, columns
                    if not len(rows):
                        break  # nothing to break by looking ahead
                if len(rows):
                    costs = listed_colour_costs(rows, offsets, columns, colours_a, colours_b)
                    narrowed(rows, offsets, columns, costs, no_colours, no_colours, column_of, row_of, none)
                ahead[t] = True
                put_partners(column_of, sizes[a, t], sizes[b, t], trial[first[t] :])
                if t == s:
                    seen[s] = True
                    if out_ends[s] == out_ends[s + 1]:
                        break
                    for i in rows:
                        j = trial[first[s] + i] if i < sizes[a, s] else -1
                        if j >= 0 and colours_a[i] != colours_b[j]:
                            trial[first[s] + i] = -1
            if ended[p] != DONE:
                break
            counts[p, s] = len(own_rows)
            if len(own_rows):
                here, there = table[a, s * SLOTS :], table[b, s * SLOTS :]
                ptr_a, ptr_b = ints(here[0]), ints(there[0])
                mine = theirs = 0
                for i in own_rows:
                    j = own_column[i]
                    mine += i < sizes[a, s] and ptr_a[i + 1] > ptr_a[i]
                    theirs += j < sizes[b, s] and ptr_b[j + 1] > ptr_b[j]
                undecided[p, s] = max(mine, theirs)
                colours_a, colours_b = colours(here[9]), colours(there[9])
                if out_ends[s] < out_ends[s + 1]:
                    names = named(out_parts[out_ends[s] : out_ends[s + 1]], sizes[a], sizes[b], trial, first, ahead)
                    costs = listed_costs(
                        own_rows, own_offsets, own_columns, ints(here[7]), units(here[8]), names, ints(there[7]),
                        units(there[8]), there[10, 0],
                    )  # fmt: skip
                    own_rows, own_offsets, own_columns, _ = narrowed(
                        own_rows, own_offsets, own_columns, costs, no_colours, no_colours, own_column, own_row, none
                    )
                if len(own_rows):
                    costs = listed_colour_costs(own_rows, own_offsets, own_columns, colours_a, colours_b)
                    own_rows, _, _, equal = narrowed(
                        own_rows, own_offsets, own_columns, costs, colours_a, colours_b, own_column, own_row, none
                    )
                    # Units that are more than this space's, such as heads, are not known to be equal.
                    if not equal or (len(own_rows) and not equal_units[s]):
                        unique[p] = False
            known[s] = True
            put_partners(own_column, sizes[a, s], sizes[b, s], partner[first[s] :])
        if ended[p] != DONE:
            continue
        for r in range(len(row_spaces)):
            s = row_spaces[r]
            here = table[a, n_spaces * SLOTS + r * ROW :]
            there = table[b, n_spaces * SLOTS + r * ROW :]
            names = named(row_parts[row_ends[r] : row_ends[r + 1]], sizes[a], sizes[b], partner, first, known)
            mine = partner[first[s] : first[s + 1]]
            high, low = matched_sum(
                mine, ints(here[0]), units(here[1]), names, ints(there[0]), units(there[1]), there[2, 0]
            )
            values[p, r, 0], values[p, r, 1] = high, low
            matched = 0
            for j in mine:
                matched += j >= 0
            values[p, r, 2] = matched


def compare(a: Prepared, b: Prepared) -> Comparison | None:
    """The canonical comparison of two networks, in this order; None where it is for ``canonical`` to make."""
    answer = _answer([a, b], np.array([[0, 1]]), np.empty((1, sum(a.sizes)), dtype=np.int64))
    if answer is None or answer.ended[0] != DONE:
        return None
    plan = a.plan
    bounds = np.cumsum((0, *a.sizes)).tolist()
    partners = {s: answer.partners[0, bounds[s] : bounds[s + 1]] for s in range(len(a.sizes))}
    counts = answer.counts[0].tolist()
    tied = any(counts)
    unique = bool(answer.unique[0]) and not plan.staying and (not tied or (a.settled and b.settled))
    halves = zip(answer.undecided[0].tolist(), a.sizes, b.sizes, strict=True)
    return Comparison(
        answer.values(0, a, b),
        partners,
        [counts[row.space] if row.first else 0 for row in plan.rows],
        canonical=unique,
        informed=all(2 * count <= max(sizes) for count, *sizes in halves),
    )


def values_of(networks: Sequence[Prepared], pairs: Ints) -> list[list[float] | None]:
    """The distance of each row of each of ``pairs``; None for those that are for ``canonical`` to compare."""
    answer = _answer(networks, pairs, np.empty((1, max(sum(x.sizes) for x in networks)), dtype=np.int64))
    if answer is None:
        return [None] * len(pairs)
    return [
        answer.values(p, networks[i], networks[j]) if answer.ended[p] == DONE else None
        for p, (i, j) in enumerate(pairs.tolist())
    ]


class _Answer(NamedTuple):
    """What is known of each pair: see ``compare_pairs``."""

    sums: Ints
    counts: Ints
    undecided: Ints
    unique: NDArray[np.bool_]
    partners: Ints
    ended: Ints

    def values(self, p: int, a: Prepared, b: Prepared) -> list[float]:
        """The distances of the rows of one pair."""
        rows = zip(self.sums[p].tolist(), a.plan.rows, strict=True)
        return [
            row_distance(high, low, matched, a.sizes[row.space], b.sizes[row.space])
            for (high, low, matched), row in rows
        ]


def _answer(networks: Sequence[Prepared], pairs: Ints, partners: Ints) -> _Answer | None:
    plan = networks[0].plan
    layout = plan.layout
    if layout is None or all(x.dense for x in networks) or any(x.plan.form != plan.form for x in networks):
        return None
    n, spaces = len(pairs), len(networks[0].sizes)
    answer = _Answer(
        np.zeros((n, len(networks[0].rows), 3), dtype=np.int64),
        np.zeros((n, spaces), dtype=np.int64),
        np.zeros((n, spaces), dtype=np.int64),
        np.zeros(n, dtype=np.bool_),
        partners,
        np.zeros(n, dtype=np.int64),
    )
    sizes = np.array([network.sizes for network in networks], dtype=np.int64)
    single = _single((2 * max(network.largest for network in networks)).bit_length())
    for network in networks:
        if _ties_are_likely(network):  # before a comparison is begun that would have to be begun again
            network.colours  # noqa: B018 - computed now
    tables = np.stack([network.places_in_memory for network in networks])
    compare_pairs(pairs, tables, sizes, layout, single, *answer)
    uncoloured = np.flatnonzero(answer.ended == COLOURS)
    if not len(uncoloured):
        return answer
    for k in np.unique(pairs[uncoloured]).tolist():
        networks[k].colours  # noqa: B018 - computed now
        tables[k] = networks[k].places_in_memory
    parts: list[Any] = [known if known is partners else known[uncoloured] for known in answer]
    again = _Answer(*parts)
    compare_pairs(pairs[uncoloured], tables, sizes, layout, single, *again)
    for known, renewed in zip(answer, again, strict=True):
        if known is not partners:
            known[uncoloured] = renewed
    return answer


def _ties_are_likely(network: Prepared) -> bool:
    """Whether the units of some space share so little that many pairs cost the same: that is, whether it is sparse."""
    return any(not network.fan_in[problem.spaces[0]].dense for problem in network.plan.problems)


@lru_cache(maxsize=32)
def _single(bits: int) -> Ints:
    return single_costs((1 << bits) - 1)
