"""Exact sparse assignment, and which of its optima are left open.

Rows are units of A, columns units of B. Only some pairs are listed, by row; a listed pair costs at most ``bypass``,
every other pair exactly ``bypass``: these are never stored. So a row may always stay without a listed partner at the
price ``bypass``; the rows and columns that are left over pair among themselves. A problem is the tuple of

* *near* pairs: offsets (n + 1,), columns and costs;
* *far* pairs, which are rarely looked at: the columns ``holders[back[k]:back[k + 1]]`` of every k among
  ``names[ptr[i]:ptr[i + 1]]`` (-1: none); their cost is ``single[ptr[i + 1] - ptr[i] + sizes[j]]`` and never below the
  row's ``floor``. A near pair may be among them: it costs less as a near one. Rows beyond ``ptr`` have none.

Duals u (rows) and v (columns) prove optimality: ``u_i + v_j <= cost`` for every pair, equal for every matched one. All
v are at most 0, and 0 where the column is left over; all u are at most ``bypass``, and equal to it where the row is.
As no v is positive, a row's far pairs can only matter where ``floor`` is within reach.
(Shortest augmenting paths after Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
assignment problems", Computing 38, 1987.)
"""

# numba infers the types of what it compiles; loops and branches written out are what makes it fast. (The walk over a
# row's far pairs stands here four times: gathered by one function, inlined or not, small networks took longer.)
# ruff: noqa: ANN001, ANN201, ANN202, C901, PLR0912, PLR0915
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,call-arg,assignment"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topostrata.distance import room
from topostrata.distance.compiling import inner
from topostrata.distance.kernels import grown

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NONE = 2**62  # bypass of a problem whose listed pairs hold a perfect matching


@njit(cache=True, nogil=True)
def assign(problem, bypass, u, v, column_of, row_of):
    """Match the rows that have listed pairs, at minimum cost; fills duals and partners (-1: left over).

    On entry ``v`` is 0, ``column_of`` and ``row_of`` are -1 where a unit is to be matched. Rows without a listed pair
    are left as they are, but for their dual. Exact in int64.
    """
    near, columns, costs, ptr, names, back, holders, sizes, floor, single = problem
    n, n_far = len(near) - 1, len(ptr) - 1
    free = np.empty(n, dtype=np.int64)
    n_free = np.int64(0)  # not a literal: its type decides how often the functions below are compiled
    for i in range(n):
        best, at = bypass, np.int64(-1)
        for e in range(near[i], near[i + 1]):
            c, j = costs[e], np.int64(columns[e])
            if c < best or (c == best and at >= 0 and row_of[at] >= 0 and row_of[j] < 0):
                best, at = c, j
        if i < n_far and floor[i] < best:
            size = ptr[i + 1] - ptr[i]
            for e in range(ptr[i], ptr[i + 1]):
                k = names[e]
                if k >= 0:
                    for h in range(back[k], back[k + 1]):
                        j = np.int64(holders[h])
                        c = single[size + sizes[j]]
                        if c < best or (c == best and at >= 0 and row_of[at] >= 0 and row_of[j] < 0):
                            best, at = c, j
        if at < 0:
            if bypass < NONE:
                u[i] = bypass
            continue
        u[i] = best
        if row_of[at] < 0:
            row_of[at] = i
            column_of[i] = at
        else:
            free[n_free] = i
            n_free += 1
    for _ in range(2):
        n_free = _reduce_rows(problem, bypass, u, v, column_of, row_of, free, n_free)
    augment(problem, bypass, u, v, column_of, row_of, free, n_free)


@inner
def _reduce_rows(problem, bypass, u, v, column_of, row_of, free, n_free):
    """One pass of augmenting row reduction: a free row takes its best column and lowers that column's dual."""
    near, columns, costs, ptr, names, back, holders, sizes, floor, single = problem
    n_far = len(ptr) - 1
    k = 0
    left = 0
    steps = 4 * n_free + 16
    while k < n_free:
        i = free[k]
        k += 1
        first, second, j1, j2 = bypass, NONE, np.int64(-1), np.int64(-1)
        for e in range(near[i], near[i + 1]):
            j = np.int64(columns[e])
            c = costs[e] - v[j]
            if c < second:
                if c < first:
                    first, second, j2, j1 = c, first, j1, j
                else:
                    second, j2 = c, j
        if i < n_far and floor[i] < second:
            size = ptr[i + 1] - ptr[i]
            for e in range(ptr[i], ptr[i + 1]):
                name = names[e]
                if name >= 0:
                    for h in range(back[name], back[name + 1]):
                        j = np.int64(holders[h])
                        c = single[size + sizes[j]] - v[j]
                        if c < second and j != j1:  # a near pair may come again, dearer
                            if c < first:
                                first, second, j2, j1 = c, first, j1, j
                            else:
                                second, j2 = c, j
        if j1 < 0:
            u[i] = bypass
            continue
        if second >= NONE:
            second = first
        owner = row_of[j1]
        steps -= 1
        if second > first:
            if owner >= 0 and steps < 0:
                free[left] = i
                left += 1
                continue
            v[j1] -= second - first
        elif owner >= 0:
            if j2 < 0:  # staying alone is as good
                u[i] = second
                if second == bypass:
                    continue
                free[left] = i
                left += 1
                continue
            j1 = j2
            owner = row_of[j1]
        u[i] = second
        if owner >= 0:
            column_of[owner] = -1
            if second > first:
                k -= 1
                free[k] = owner
            else:
                free[left] = owner
                left += 1
        row_of[j1] = i
        column_of[i] = j1
    return left


@njit(cache=True, nogil=True)
def augment(problem, bypass, u, v, column_of, row_of, free, n_free):
    """A shortest augmenting path for every row that is still free."""
    near, columns, costs, ptr, names, back, holders, sizes, floor, single = problem
    m, n_far = len(v), len(ptr) - 1
    distance = np.full(m, NONE, dtype=np.int64)
    before = np.empty(m, dtype=np.int64)
    done = np.zeros(m, dtype=np.bool_)
    touched = np.empty(m, dtype=np.int64)
    scanned = np.empty(m, dtype=np.int64)
    room = 256
    heap_key = np.empty(room, dtype=np.int64)
    heap_column = np.empty(room, dtype=np.int64)
    reach = np.empty(room, dtype=np.int64)
    for f in range(n_free):
        root = free[f]
        n_touched = n_scanned = size = 0
        best, end_column, end_row = NONE, np.int64(-1), np.int64(-1)
        i, d = root, np.int64(0)
        while True:
            if bypass < NONE and d + bypass - u[i] < best:
                best, end_column, end_row = d + bypass - u[i], np.int64(-1), i
            base = d - u[i]
            at_near, at_far, end_near = near[i], 0, near[i + 1]
            end_far = own = 0
            if i < n_far and base + floor[i] < best:
                own = ptr[i + 1] - ptr[i]
                for e in range(ptr[i], ptr[i + 1]):
                    k = names[e]
                    if k >= 0:
                        if end_far + back[k + 1] - back[k] > len(reach):
                            reach = grown(reach, end_far, 2 * (end_far + back[k + 1] - back[k]))
                        for h in range(back[k], back[k + 1]):
                            reach[end_far] = holders[h]
                            end_far += 1
            if size + end_near - at_near + end_far > room:
                room = 2 * (size + end_near - at_near + end_far)
                heap_key, heap_column = grown(heap_key, size, room), grown(heap_column, size, room)
            while at_near < end_near or at_far < end_far:
                if at_near < end_near:
                    j = np.int64(columns[at_near])
                    there = base + costs[at_near] - v[j]
                    at_near += 1
                else:
                    j = reach[at_far]
                    there = base + single[own + sizes[j]] - v[j]
                    at_far += 1
                if there >= best or there >= distance[j]:
                    continue
                if distance[j] == NONE:
                    touched[n_touched] = j
                    n_touched += 1
                distance[j] = there
                before[j] = i
                if row_of[j] < 0:
                    best, end_column = there, j
                    continue
                at = size
                size += 1
                while at > 0:
                    up = (at - 1) >> 1
                    if heap_key[up] <= there:
                        break
                    heap_key[at], heap_column[at] = heap_key[up], heap_column[up]
                    at = up
                heap_key[at], heap_column[at] = there, j
            reached = False
            while size > 0:
                d, j = heap_key[0], heap_column[0]
                if d >= best:
                    break
                size -= 1
                last_key, last_column = heap_key[size], heap_column[size]
                at = 0
                while True:
                    child = 2 * at + 1
                    if child >= size:
                        break
                    if child + 1 < size and heap_key[child + 1] < heap_key[child]:
                        child += 1
                    if heap_key[child] >= last_key:
                        break
                    heap_key[at], heap_column[at] = heap_key[child], heap_column[child]
                    at = child
                heap_key[at], heap_column[at] = last_key, last_column
                if not done[j] and d == distance[j]:
                    reached = True
                    break
            if not reached:
                break
            done[j] = True
            scanned[n_scanned] = j
            n_scanned += 1
            i = row_of[j]
        for k in range(n_scanned):
            j = scanned[k]
            rise = best - distance[j]
            v[j] -= rise
            u[row_of[j]] += rise
            done[j] = False
        u[root] += best
        for k in range(n_touched):
            distance[touched[k]] = NONE
        if end_column < 0:
            i = end_row
            j = column_of[i]
            column_of[i] = -1
        else:
            j = end_column
            i = before[j]
            row_of[j] = i
            column_of[i], j = j, column_of[i]
        while i != root:
            i = before[j]
            row_of[j] = i
            column_of[i], j = j, column_of[i]


@njit(cache=True, nogil=True)
def complete(bypass, empty_a, empty_b, u, v, column_of, row_of):
    """Pair what ``assign`` left over: units without elements with each other at cost 0, the rest at ``bypass``.

    Two empty sets cost 0 and an empty and another set ``bypass``, so empty rows take empty columns in every optimum.
    """
    n = len(column_of)
    rows, cols = 0, 0
    for i in range(n):
        rows += empty_a[i]
        cols += empty_b[i]
    if rows and cols:
        j = 0
        for i in range(n):
            if not empty_a[i]:
                continue
            while j < n and not empty_b[j]:
                j += 1
            if j == n:
                break
            column_of[i] = j
            row_of[j] = i
            j += 1
        # Duals that fit: the side with units to spare competes for the other's, whose price is all of the saving.
        for i in range(n):
            if empty_a[i]:
                u[i] = bypass if rows > cols else 0
            if empty_b[i]:
                v[i] = -bypass if rows > cols else 0
    j = 0
    for i in range(n):
        if column_of[i] < 0:
            while row_of[j] >= 0:
                j += 1
            column_of[i] = j
            row_of[j] = i


@njit(cache=True, nogil=True)
def tight_pairs(problem, u, v, row_of):
    """The listed pairs of reduced cost 0, but for the matched ones: offsets and columns."""
    near, columns, costs, ptr, names, back, holders, sizes, floor, single = problem
    n, n_far = len(near) - 1, len(ptr) - 1
    starts = np.empty(n + 1, dtype=np.int64)
    room = 1024
    tight = np.empty(room, dtype=np.uint32)
    at = 0
    for i in range(n):
        starts[i] = at
        price = u[i]
        # A column is far and tight at most once.
        if at + near[i + 1] - near[i] + len(v) > room:
            room = 2 * (at + near[i + 1] - near[i] + len(v))
            tight = grown(tight, at, room)
        for e in range(near[i], near[i + 1]):
            j = columns[e]
            if costs[e] - v[j] == price and row_of[j] != i:
                tight[at] = j
                at += 1
        if i < n_far and floor[i] <= price:
            size = ptr[i + 1] - ptr[i]
            for e in range(ptr[i], ptr[i + 1]):
                k = names[e]
                if k >= 0:
                    for h in range(back[k], back[k + 1]):
                        j = holders[h]
                        if single[size + sizes[j]] - v[j] == price and row_of[j] != i:
                            tight[at] = j
                            at += 1
    starts[n] = at
    return starts, tight[:at]


@njit(cache=True, nogil=True)
def components(starts, tight, column_of, row_of, to_hub, from_hub, empty_a, empty_b):
    """The strongly connected component of every row, in the graph row -> owner of a column of reduced cost 0.

    A pair is part of some optimum exactly when the row and the column's owner share a component, whichever optimal
    duals were found. ``tight`` are the listed pairs of that graph. Unlisted pairs cost ``bypass`` and u + v <= bypass
    throughout, so they are tight only between the rows with u = bypass (``to_hub``) and the columns with v = 0
    (``from_hub``): one auxiliary node stands for them all, another one for the pairs of two empty units. Of no length:
    no such pairs. Returns the component of every row and its number of rows.
    """
    n = len(column_of)
    hub, empties = n, n + 1
    with_hub, with_empties = len(to_hub) > 0, len(empty_a) > 0
    component = np.full(n + 2, -1, dtype=np.int64)
    order = np.zeros(n + 2, dtype=np.int64)  # 0: not seen
    low = np.zeros(n + 2, dtype=np.int64)
    position = np.zeros(n + 2, dtype=np.int64)
    stack = np.empty(n + 2, dtype=np.int64)
    path = np.empty(n + 2, dtype=np.int64)
    n_stack = seen = count = 0
    for start in range(n):
        if order[start]:
            continue
        depth = 0
        path[0] = start
        seen += 1
        order[start] = low[start] = seen
        stack[n_stack] = start
        n_stack += 1
        position[start] = starts[start]
        while depth >= 0:
            node = path[depth]
            follow = -1
            at = position[node]
            if node < n:
                end = starts[node + 1]
                if at < end:
                    follow = row_of[tight[at]]
                    at += 1
                else:
                    if at == end:
                        at += 1
                        if with_hub and to_hub[node]:
                            follow = hub
                    if follow < 0 and at == end + 1:
                        at += 1
                        if with_empties and empty_a[node]:
                            follow = empties
            else:
                while at < n:
                    j = at
                    at += 1
                    if from_hub[j] if node == hub else empty_b[j]:
                        follow = row_of[j]
                        break
            position[node] = at
            if follow >= 0:
                if order[follow] == 0:
                    seen += 1
                    order[follow] = low[follow] = seen
                    stack[n_stack] = follow
                    n_stack += 1
                    position[follow] = starts[follow] if follow < n else 0
                    depth += 1
                    path[depth] = follow
                elif component[follow] < 0 and order[follow] < low[node]:
                    low[node] = order[follow]
                continue
            depth -= 1
            if depth >= 0 and low[node] < low[path[depth]]:
                low[path[depth]] = low[node]
            if low[node] == order[node]:
                while True:
                    n_stack -= 1
                    member = stack[n_stack]
                    component[member] = count
                    if member == node:
                        break
                count += 1
    sizes = np.zeros(count, dtype=np.int64)
    for i in range(n):
        sizes[component[i]] += 1
    return component[:n], sizes


@njit(cache=True, nogil=True)
def tied_pairs(starts, tight, column_of, row_of, to_hub, from_hub, empty_a, empty_b, component, sizes):
    """The pairs that some optimum uses and another does not: the tied rows, their offsets, and columns."""
    n = len(row_of)
    rows = np.empty(n, dtype=np.int64)
    offsets = np.empty(n + 1, dtype=np.int64)
    # Columns of v = 0, and empty ones, of tied components: few, so each row looks through them all.
    open_columns = np.empty(n, dtype=np.int64)
    empty_columns = np.empty(n, dtype=np.int64)
    n_open = n_empty = 0
    for j in range(n):
        if sizes[component[row_of[j]]] > 1:
            if len(from_hub) and from_hub[j]:
                open_columns[n_open] = j
                n_open += 1
            if len(empty_b) and empty_b[j]:
                empty_columns[n_empty] = j
                n_empty += 1
    room = 1024
    columns = np.empty(room, dtype=np.uint32)
    at = n_rows = 0
    for i in range(n):
        mine = component[i]
        if sizes[mine] < 2:
            continue
        rows[n_rows], offsets[n_rows] = i, at
        n_rows += 1
        needed = at + starts[i + 1] - starts[i] + n_open + n_empty + 1
        if needed > room:
            room = 2 * needed
            columns = grown(columns, at, room)
        own = column_of[i]
        columns[at] = own
        at += 1
        for e in range(starts[i], starts[i + 1]):
            if component[row_of[tight[e]]] == mine:
                columns[at] = tight[e]
                at += 1
        if n_open and to_hub[i]:
            for k in range(n_open):
                j = open_columns[k]
                if j != own and component[row_of[j]] == mine:
                    columns[at] = j
                    at += 1
        if n_empty and empty_a[i]:
            for k in range(n_empty):
                j = empty_columns[k]
                if j != own and component[row_of[j]] == mine:
                    columns[at] = j
                    at += 1
    offsets[n_rows] = at
    return rows[:n_rows], offsets[: n_rows + 1], columns[:at]


@njit(cache=True, nogil=True)
def loosened(near, columns, costs, u, v, column_of, row_of):
    """Fit the duals of fewer listed pairs to these: rows whose dual is too large lose their partner; returns them."""
    n = len(near) - 1
    free = np.empty(n, dtype=np.int64)
    n_free = 0
    for i in range(n):
        best = u[i]
        for e in range(near[i], near[i + 1]):
            best = min(best, costs[e] - v[columns[e]])
        if best < u[i]:
            u[i] = best
            row_of[column_of[i]] = -1
            column_of[i] = -1
            free[n_free] = i
            n_free += 1
    return free[:n_free]


# What follows is plain Python: a compiled function that calls another one compiles it again.


_NOTHING = np.zeros(0, dtype=np.int64)
_NO_FAR = np.zeros(1, dtype=np.int64), _NOTHING, _NOTHING, np.zeros(0, dtype=np.uint32), _NOTHING, _NOTHING, _NOTHING


def listed(offsets: Ints, columns: NDArray[np.uint32], costs: Ints) -> tuple[NDArray[Any], ...]:
    """A problem of near pairs alone."""
    return offsets, columns, costs, *_NO_FAR


def optimum(problem: tuple[NDArray[Any], ...], bypass: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Duals of rows and columns, partners of rows and columns (-1: left over), of the listed problem."""
    n = len(problem[0]) - 1
    u, v = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    column_of, row_of = np.full(n, -1, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    assign(problem, bypass, u, v, column_of, row_of)
    return u, v, column_of, row_of


def ties(
    problem: tuple[NDArray[Any], ...],
    bypass: int,
    empty_a: Bools,
    empty_b: Bools,
    u: Ints,
    v: Ints,
    column_of: Ints,
    row_of: Ints,
) -> tuple[Ints, Ints, Ints, NDArray[np.uint32]]:
    """Complete what ``assign`` matched, and find what other optima there are.

    Returns the component of every row, and the tied pairs: rows, offsets and columns.
    """
    complete(bypass, empty_a, empty_b, u, v, column_of, row_of)
    starts, tight = tight_pairs(problem, u, v, row_of)
    return tied(starts, tight, column_of, row_of, u == bypass, v == 0, empty_a, empty_b)


def tied(
    starts: Ints,
    tight: NDArray[np.uint32],
    column_of: Ints,
    row_of: Ints,
    to_hub: Bools,
    from_hub: Bools,
    empty_a: Bools,
    empty_b: Bools,
) -> tuple[Ints, Ints, Ints, NDArray[np.uint32]]:
    """What ``ties`` returns, given the tight pairs of a complete match; ``LimitError`` for more than memory holds."""
    ends = column_of, row_of, to_hub, from_hub, empty_a, empty_b
    component, sizes = components(starts, tight, *ends)
    room.check_tied(tight, *ends[1:], component, sizes)
    rows, offsets, columns = tied_pairs(starts, tight, *ends, component, sizes)
    return component, rows, offsets, columns


def solve(problem: tuple[NDArray[Any], ...], bypass: int, empty_a: Bools, empty_b: Bools) -> tuple[Any, ...]:
    """One optimum of the listed problem and its ties.

    Returns the partners of rows and columns, and the tied pairs: the rows with more than one optimal partner, the
    offsets of each, and columns.
    """
    u, v, column_of, row_of = optimum(problem, bypass)
    _, rows, offsets, columns = ties(problem, bypass, empty_a, empty_b, u, v, column_of, row_of)
    return column_of, row_of, rows, offsets, columns


def rematch(
    rows: Ints, offsets: Ints, columns: NDArray[np.uint32], costs: Ints, column_of: Ints, row_of: Ints
) -> tuple[Ints, Ints, NDArray[np.uint32], Ints]:
    """Match the tied rows anew by another criterion; returns the pairs still tied after it, as ``solve`` does.

    ``column_of`` and ``row_of`` hold one perfect matching on the listed pairs and receive the best one. The last array
    returned is the component of each row that is still tied.
    """
    # Few rows are tied, so they are numbered anew, and their columns by the row that holds them.
    m = len(rows)
    taken = column_of[rows]
    place = np.empty(len(row_of), dtype=np.uint32)
    place[taken] = np.arange(m, dtype=np.uint32)
    problem = listed(offsets, place[columns], costs)
    u, v, column, row = optimum(problem, NONE)
    none = np.zeros(m, dtype=np.bool_)
    component, tied, starts, tied_columns = ties(problem, NONE, none, none, u, v, column, row)
    column_of[rows] = taken[column]
    row_of[taken[column]] = rows
    return rows[tied], starts, taken[tied_columns].astype(np.uint32), component[tied]


def improve(problem: tuple[NDArray[Any], ...], u: Ints, v: Ints, column_of: Ints, row_of: Ints) -> None:
    """Make an optimum of fewer listed pairs one of these, in which every row keeps a listed partner; v only falls."""
    free = loosened(*problem[:3], u, v, column_of, row_of)
    augment(problem, NONE, u, v, column_of, row_of, free, len(free))
