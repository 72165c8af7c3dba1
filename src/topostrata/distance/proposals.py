"""How the units of one problem are matched anew, given the partners of all others: most overlap, least distance.

The three kinds of proposals of docs/design/013-overlap.md, points B and D. ``overlap``: most common connections;
``joint``: least fan-in plus fan-out cost; ``slope``: least distance to first order. Ties go to further criteria, to
colours at last.
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast.
# ruff: noqa: ANN001, ANN201, C901, PLR0912, PLR0915
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance import dense, joint, matching, room
from topostrata.distance.canonical import keymap, match_units
from topostrata.distance.comparison import inverse
from topostrata.distance.kernels import S, cost
from topostrata.distance.partners import Partners
from topostrata.distance.plan import Problem
from topostrata.distance.prepared import Prepared
from topostrata.distance.sets import Sets, shared_by_all
from topostrata.distance.ties import Ties

Ints = NDArray[np.int64]
Kind = Literal["overlap", "joint", "slope"]

# What a pair that is not listed costs; gains of up to 240,000 common connections stay below it.
BYPASS = 1 << 60
MOST_GAINS = 240_000
# Shared elements per pair of units from which they are counted by bit sets.
_SPARSE = 0.3
# Pairs of units of a dense space up to which they are all listed (24 bytes each).
_MOST_PAIRS = 1 << 24


@njit(cache=True, nogil=True)
def common_pairs(n, n_b, ins, outs, room):
    """The pairs of units with a common element, by row: offsets (n + 1,), columns, common inputs, common outputs.

    ``ins`` and ``outs`` are each A's sets (ptr, keys), the names of its elements in B (-1: none), and the holders of
    B's elements (back, holders). ``room``: as many pairs as there can be.
    """
    n_a = len(ins[0]) - 1
    offsets = np.empty(n + 1, dtype=np.int64)
    columns = np.empty(room, dtype=np.uint32)
    common_in, common_out = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int32)
    place = np.full(n_b, -1, dtype=np.int64)
    at = 0
    for i in range(n_a):
        offsets[i] = begin = at
        for side in range(2):
            ptr, keys, names, back, holders = ins if side == 0 else outs
            for e in range(ptr[i], ptr[i + 1]):
                other = names[keys[e]]
                if other < 0:
                    continue
                for h in range(back[other], back[other + 1]):
                    j = holders[h]
                    q = place[j]
                    if q < begin:
                        q = at
                        place[j] = q
                        columns[q], common_in[q], common_out[q] = j, 0, 0
                        at += 1
                    if side == 0:
                        common_in[q] += np.int32(1)
                    else:
                        common_out[q] += np.int32(1)
    for i in range(n_a, n + 1):
        offsets[i] = at
    return offsets, columns[:at], common_in[:at], common_out[:at]


@njit(cache=True, nogil=True)
def counted_pairs(n, counts_in, counts_out):
    """As ``common_pairs``, from the counts of all pairs."""
    n_a, n_b = counts_in.shape
    at = 0
    for i in range(n_a):
        for j in range(n_b):
            at += (counts_in[i, j] | counts_out[i, j]) != 0
    offsets = np.empty(n + 1, dtype=np.int64)
    columns = np.empty(at, dtype=np.uint32)
    common_in, common_out = np.empty(at, dtype=np.int32), np.empty(at, dtype=np.int32)
    at = 0
    for i in range(n_a):
        offsets[i] = at
        for j in range(n_b):
            if (counts_in[i, j] | counts_out[i, j]) != 0:
                columns[at], common_in[at], common_out[at] = j, counts_in[i, j], counts_out[i, j]
                at += 1
    for i in range(n_a, n + 1):
        offsets[i] = at
    return offsets, columns, common_in, common_out


@njit(cache=True, nogil=True)
def tied_common(rows, offsets, columns, ptr_a, keys_a, names, ptr_b, keys_b, elements_b):
    """How many elements the listed pairs of units share; an absent unit, beyond the end of its network, none."""
    n_a, n_b = len(ptr_a) - 1, len(ptr_b) - 1
    common = np.zeros(len(columns), dtype=np.int64)
    stamp = np.full(elements_b, -1, dtype=np.int64)
    for k in range(len(rows)):
        i = rows[k]
        if i >= n_a:
            continue
        for e in range(ptr_a[i], ptr_a[i + 1]):
            other = names[keys_a[e]]
            if other >= 0:
                stamp[other] = i
        for e in range(offsets[k], offsets[k + 1]):
            j = columns[e]
            if j < n_b:
                for h in range(ptr_b[j], ptr_b[j + 1]):
                    common[e] += stamp[keys_b[h]] == i
    return common


@njit(cache=True, nogil=True)
def joint_costs(pairs, ins, outs, n_b):
    """Fan-in plus fan-out cost of the listed pairs, and of all pairs of two empty sets, which cost 0.

    ``pairs`` are those of ``common_pairs``; ``ins`` and ``outs`` the sizes of the sets of A and of B, of no length
    where a side does not count. Offsets, columns, costs; every other pair costs the bypass, 2 S (or S, with one side).
    """
    offsets, columns, common_in, common_out = pairs
    in_a, in_b = ins
    out_a, out_b = outs
    n = len(offsets) - 1
    n_a = max(len(in_a), len(out_a))
    empty_in, empty_out = np.empty(n_b, dtype=np.int64), np.empty(n_b, dtype=np.int64)
    most_in = most_out = rows_in = rows_out = 0
    for j in range(n_b):
        if len(in_b) and in_b[j] == 0:
            empty_in[most_in] = j
            most_in += 1
        if len(out_b) and out_b[j] == 0:
            empty_out[most_out] = j
            most_out += 1
    for i in range(n_a):
        rows_in += len(in_a) > 0 and in_a[i] == 0
        rows_out += len(out_a) > 0 and out_a[i] == 0
    room = len(columns) + rows_in * most_in + rows_out * most_out
    starts = np.empty(n + 1, dtype=np.int64)
    listed, costs = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.int64)
    seen = np.full(n_b, -1, dtype=np.int64)
    at = 0
    for i in range(n):
        starts[i] = at
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            seen[j] = i
            listed[at], costs[at] = j, 0
            if len(in_a):
                total, common = in_a[i] + in_b[j], np.int64(common_in[e])
                costs[at] += cost(total - 2 * common, total - common)
            if len(out_a):
                total, common = out_a[i] + out_b[j], np.int64(common_out[e])
                costs[at] += cost(total - 2 * common, total - common)
            at += 1
        if i >= n_a:
            continue
        for side in range(2):
            if side == 0:
                if len(in_a) == 0 or in_a[i] > 0:
                    continue
                empties, count = empty_in, most_in
            else:
                if len(out_a) == 0 or out_a[i] > 0:
                    continue
                empties, count = empty_out, most_out
            for q in range(count):
                j = empties[q]
                if seen[j] == i:
                    continue
                seen[j] = i
                listed[at], costs[at] = j, 0
                if len(in_a) and (in_a[i] > 0 or in_b[j] > 0):
                    costs[at] += S
                if len(out_a) and (out_a[i] > 0 or out_b[j] > 0):
                    costs[at] += S
                at += 1
    starts[n] = at
    return starts, listed[:at], costs[:at]


@njit(cache=True, nogil=True)
def gains(ptr, keys, mine, ptr_other, keys_other, elements_other, names, common, sizes):
    """For each connection of a unit to an element x what a further common input adds to the likeness of x, times S.

    Its partner shares ``common[x]`` inputs with x, and both together have ``sizes[x]``: the likeness is
    common / (sizes - common). If the unit and its present partner ``mine`` are among the common ones, they are taken
    out first.
    """
    gained = np.zeros(len(keys), dtype=np.int64)
    stamp = np.full(elements_other, -1, dtype=np.int64)
    for i in range(len(ptr) - 1):
        if mine[i] >= 0:
            for e in range(ptr_other[mine[i]], ptr_other[mine[i] + 1]):
                stamp[keys_other[e]] = i
        for e in range(ptr[i], ptr[i + 1]):
            x = keys[e]
            other = names[x]
            if other >= 0:
                before = common[x] - (stamp[other] == i)
                q = (sizes[x] - before - 1) * (sizes[x] - before)
                if q > 0:
                    gained[e] = (2 * S * sizes[x] + q) // (2 * q)
    return gained


@njit(cache=True, nogil=True)
def slope_costs(pairs, ins, outs_a, outs_b, names, back, n_b):
    """``BYPASS - 2 (S - K) - gains`` of the listed pairs, and of all pairs of units without inputs, whose K is 0.

    ``ins`` are the sizes of the fan-in sets of A and of B; ``outs`` the fan-out sets (ptr, keys) and the gain of each
    of their elements; ``names`` those of A's elements in B, ``back`` as in ``Sets``. Offsets, columns, costs.
    """
    offsets, columns, common_in, _ = pairs
    in_a, in_b = ins
    ptr_a, keys_a, gained_a = outs_a
    ptr_b, keys_b, gained_b = outs_b
    n, n_a = len(offsets) - 1, len(in_a)
    # The holders of each element of B with their gains: the order of ``Sets.holders``.
    holders, of_holders = np.empty(len(keys_b), dtype=np.int64), np.empty(len(keys_b), dtype=np.int64)
    position = back[:-1].copy()
    for j in range(len(ptr_b) - 1):
        for e in range(ptr_b[j], ptr_b[j + 1]):
            k = keys_b[e]
            holders[position[k]], of_holders[position[k]] = j, gained_b[e]
            position[k] += 1
    empties = np.empty(n_b, dtype=np.int64)
    count = rows = 0
    for j in range(n_b):
        if in_b[j] == 0:
            empties[count] = j
            count += 1
    for i in range(n_a):
        rows += in_a[i] == 0
    room = len(columns) + rows * count
    starts = np.empty(n + 1, dtype=np.int64)
    listed, costs = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.int64)
    total = np.zeros(n_b, dtype=np.int64)
    seen = np.full(n_b, -1, dtype=np.int64)
    at = 0
    for i in range(n):
        starts[i] = at
        if i < n_a:
            for e in range(ptr_a[i], ptr_a[i + 1]):
                other = names[keys_a[e]]
                if other >= 0:
                    for h in range(back[other], back[other + 1]):
                        total[holders[h]] += gained_a[e] + of_holders[h]
        for e in range(offsets[i], offsets[i + 1]):
            j, common = columns[e], np.int64(common_in[e])
            both = in_a[i] + in_b[j]
            seen[j] = i
            listed[at] = j
            costs[at] = BYPASS - 2 * (S - cost(both - 2 * common, both - common)) - total[j]
            total[j] = 0
            at += 1
        if i < n_a and in_a[i] == 0:
            for q in range(count):
                j = empties[q]
                if seen[j] != i:
                    listed[at], costs[at] = j, BYPASS - 2 * S
                    at += 1
    starts[n] = at
    return starts, listed[:at], costs[:at]


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A match of the new axes of a problem, how many units of each space no structure decided, and if it is unique.

    ``undecided`` are those that only colours told apart; ``unique`` is False where they did not either, and what is
    left is more than an exchange of equals.
    """

    axes: Mapping[int, Ints]
    undecided: Mapping[int, int]
    unique: bool


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of the other spaces: the partner of every unit.

    ``units`` holds the partners by space (and context); ``axes`` the matches that are final so far; ``common``, for
    ``slope``, by space how many inputs each unit of A shares with its partner.
    """

    units: Mapping[int, Ints]
    axes: Partners
    common: Mapping[int, Ints]


class Proposer:
    """The matches of the problems of two networks, each given those of the others."""

    def __init__(self, a: Prepared, b: Prepared) -> None:
        self.a, self.b = a, b

    def propose(self, problem: Problem, known: Known, kind: Kind) -> Proposal:
        """The best match of that kind."""
        if not problem.plain:
            return self._of_axes(problem, known, kind)
        (space,), (axis,) = problem.spaces, problem.inner
        ins, outs = self._sides(space, known.units)
        n_a, n_b = self.a.sizes[space], self.b.sizes[space]
        pairs = _pairs(n_a, n_b, ins, outs, kind)
        if pairs is None:
            columns, _, undecided, unique = match_units(self.a, self.b, problem, known.units, {})
            return Proposal({axis: columns}, {space: undecided}, unique)
        ties = self._solve(space, pairs, ins, outs, known, kind)
        undecided = self._connected(space, ties)
        unique = ties.by_colour(self.a.colours[space], self.b.colours[space])
        unique &= self.a.plan.exchangeable[space] > 0 or not len(ties.rows)
        return Proposal({axis: ties.partner(n_a, n_b)}, {space: undecided}, unique)

    def _sides(self, space: int, units: Mapping[int, Ints]) -> tuple[_Side, _Side]:
        return (
            _Side.of(self.a.inputs[space], self.b.inputs[space], units),
            _Side.of(self.a.outputs[space], self.b.outputs[space], units).without_universal(),
        )

    def _solve(self, space: int, pairs: _Pairs, ins: _Side, outs: _Side, known: Known, kind: Kind) -> Ties:
        """The best match, and what is tied in it after the criteria that look at connections."""
        if kind == "overlap":
            offsets, columns, common_in, common_out = pairs
            problem = offsets, columns, BYPASS - common_in.astype(np.int64) - common_out
            ties = _ties(problem, BYPASS)
            if len(ties.rows):
                ties.narrow(2 * S - ins.likeness(ties) - outs.likeness(ties))
            return ties
        if kind == "joint":
            used = [side for side in (ins, outs) if side.any]
            sizes = [(side.sizes_a, side.sizes_b) if side.any else (_NOTHING, _NOTHING) for side in (ins, outs)]
            ties = _ties(joint_costs(pairs, *sizes, self.b.sizes[space]), len(used) * S)
        else:
            ties = _ties(self._slope(space, pairs, ins, outs, known), BYPASS)
        if len(ties.rows):
            ties.narrow(-ins.common(ties) - outs.common(ties))
        return ties

    def _slope(
        self, space: int, pairs: _Pairs, ins: _Side, outs: _Side, known: Known
    ) -> tuple[NDArray[np.generic], ...]:
        a, b = self.a, self.b
        mine = known.units[space]
        back_names = inverse(outs.names, outs.b.elements)
        spaces, taps = outs.a.spaces, outs.a.taps
        common = _per_element([known.common[t] for t in spaces], taps)
        both = [a.inputs[t].sizes + np.where(known.units[t] >= 0, b.inputs[t].sizes[known.units[t]], 0) for t in spaces]
        sizes = _per_element(both, taps)
        gained_a = gains(
            outs.a.ptr, outs.a.keys, mine, outs.b.ptr, outs.b.keys, outs.b.elements, outs.names, common, sizes
        )
        # Seen from B: an element that no unit of A stands for has no name, and gains nothing.
        at = np.maximum(back_names, 0)
        other = inverse(mine, b.sizes[space])
        gained_b = gains(
            outs.b.ptr, outs.b.keys, other, outs.a.ptr, outs.a.keys, outs.a.elements, back_names,
            common[at] if len(common) else at, sizes[at] if len(sizes) else at,
        )  # fmt: skip
        return slope_costs(  # type: ignore[no-any-return]
            pairs, (ins.sizes_a, ins.sizes_b), (outs.a.ptr, outs.a.keys, gained_a), (outs.b.ptr, outs.b.keys, gained_b),
            outs.names, outs.b.back, b.sizes[space],
        )  # fmt: skip

    def _of_axes(self, problem: Problem, known: Known, kind: Kind) -> Proposal:
        """A problem of several axes or spaces: the sum over units of what they share, or of their costs."""
        costs = {}
        for space in problem.spaces:
            sides = self._sides(space, known.units)
            pairs = np.zeros((self.a.sizes[space], self.b.sizes[space]), dtype=np.int64)
            used = [side for side in sides if side.any]
            for side in used:
                pairs += -side.counts() if kind == "overlap" else side.costs()
            lone = 0 if kind == "overlap" else len(used) * S
            costs[space] = joint.Costs(pairs, *(np.full(n, lone, dtype=np.int64) for n in pairs.shape))
        match = joint.match(self.a, self.b, problem, known.axes, costs)
        return Proposal(match.axes, match.ambiguous, match.unique)

    def _connected(self, space: int, ties: Ties) -> int:
        """How many tied units have any connection, in the network with more of them: the others are all alike."""
        most = 0
        for network, units in ((self.a, ties.rows), (self.b, ties.column_of[ties.rows])):
            there = units[units < network.sizes[space]]
            connections = network.inputs[space].sizes[there] + network.outputs[space].sizes[there]
            most = max(most, int((connections > 0).sum()))
        return most


_Pairs = tuple[Ints, NDArray[np.uint32], NDArray[np.int32], NDArray[np.int32]]
_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The fan-in or the fan-out sets of a space in both networks, and the names in B of A's elements.

    ``dropped`` elements, which all units of both hold, have no name and do not count.
    """

    a: Sets
    b: Sets
    names: Ints
    dropped: int = 0

    @staticmethod
    def of(a: Sets, b: Sets, units: Mapping[int, Ints]) -> _Side:
        return _Side(a, b, keymap(a, b, units))

    def without_universal(self) -> _Side:
        """The same without the elements that all units of both networks hold: they tell none from another."""
        universal = np.flatnonzero((np.diff(self.a.back) == len(self.a.sizes)) & (self.names >= 0))
        universal = universal[np.diff(self.b.back)[self.names[universal]] == len(self.b.sizes)]
        if not len(universal):
            return self
        names = self.names.copy()
        names[universal] = -1
        return _Side(self.a, self.b, names, len(universal))

    @property
    def sizes_a(self) -> Ints:
        return self.a.sizes - self.dropped

    @property
    def sizes_b(self) -> Ints:
        return self.b.sizes - self.dropped

    @property
    def any(self) -> bool:
        """Whether any unit holds an element that counts."""
        return max(self.a.largest, self.b.largest) > self.dropped

    @property
    def increments(self) -> int:
        """How many (unit of A, unit of B, shared element) triples there are."""
        return shared_by_all(self.a, self.b, self.names)

    @property
    def lists(self) -> tuple[NDArray[np.generic], ...]:
        return self.a.ptr, self.a.keys, self.names, self.b.back, self.b.holders

    def counts(self) -> Ints:
        """How many elements each unit of A shares with each of B."""
        counts: Ints = dense.shared_counts(self.a, self.b, self.names).astype(np.int64)
        return counts

    def costs(self) -> Ints:
        """The integer Jaccard cost of each unit of A and each of B."""
        return joint.jaccard_costs(self.counts(), self.sizes_a, self.sizes_b)

    def common(self, ties: Ties) -> Ints:
        """How many elements the tied pairs share."""
        shared: Ints = tied_common(
            ties.rows, ties.offsets, ties.columns,
            self.a.ptr, self.a.keys, self.names, self.b.ptr, self.b.keys, self.b.elements,
        )  # fmt: skip
        return shared

    def likeness(self, ties: Ties) -> Ints:
        """S times the common share of the tied pairs' union, rounded; 0 for two empty sets and for absent units."""
        common = self.common(ties)
        rows, columns = np.repeat(ties.rows, np.diff(ties.offsets)), ties.columns.astype(np.int64)
        there = np.maximum(_padded(self.sizes_a, rows) + _padded(self.sizes_b, columns) - common, 1)
        likeness: Ints = (2 * S * common + there) // (2 * there)
        return likeness


def _padded(sizes: Ints, units: Ints) -> Ints:
    there = units < len(sizes)
    padded: Ints = np.where(there, sizes[np.where(there, units, 0)], 0)
    return padded


def _pairs(n_a: int, n_b: int, ins: _Side, outs: _Side, kind: Kind) -> _Pairs | None:
    """The pairs that share an element, with their common inputs and outputs; None where they are too many to list."""
    if kind == "overlap":
        # Inputs that all hold are as many for every pair, so they need not be listed to be counted.
        ins = ins.without_universal()
    total = ins.increments + outs.increments
    if total > _SPARSE * n_a * n_b and max(ins.b.largest, outs.b.largest) <= dense.LARGEST:
        if n_a * n_b > _MOST_PAIRS:
            return None
        counts = [dense.shared_counts(side.a, side.b, side.names) for side in (ins, outs)]
        return counted_pairs(max(n_a, n_b), *counts)  # type: ignore[no-any-return]
    most = min(total, n_a * n_b)
    room.check_pairs(max(n_a, n_b), most)
    return common_pairs(max(n_a, n_b), n_b, ins.lists, outs.lists, most)  # type: ignore[no-any-return]


def _ties(problem: tuple[NDArray[np.generic], ...], bypass: int) -> Ties:
    none = np.zeros(len(problem[0]) - 1, dtype=np.bool_)
    return Ties(*matching.solve(matching.listed(*problem), bypass, none, none))  # type: ignore[arg-type]


def _per_element(values: list[Ints], taps: tuple[int, ...]) -> Ints:
    return np.concatenate([_NOTHING, *(np.repeat(part, tap) for part, tap in zip(values, taps, strict=True))])
