"""The refined alignment: the smallest NNSTD that a local search over the hidden spaces' matchings finds.

The greedy match of a space looks at its fan-in alone. Here each hidden space in turn, forward then backward, is
matched again by fan-in cost plus fan-out cost given its neighbours' matchings, and the new match stays only where NNSTD
falls. The starts are the canonical match and, where the widths are equal, the identity, so the result is never larger
than either; it is searched from both sides and the smaller taken, so it is symmetric. It depends on how hidden units
are stored, because the identity does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import kernels, matching, room
from topostrata.distance.canonical import canonical, check_limits, keymap, row_value
from topostrata.distance.comparison import Comparison, inverse, of_equals, symmetric
from topostrata.distance.prepared import Prepared
from topostrata.distance.sets import Sets

Ints = NDArray[np.int64]
Partners = dict[int, Ints]


def compare(a: Prepared, b: Prepared) -> Comparison:
    """The comparison of two networks that were prepared with their colours."""
    check_limits(a, b)
    return of_equals(a) if a.digest == b.digest else symmetric(a, b, _compare)


def _compare(a: Prepared, b: Prepared) -> Comparison:
    partners, values = refined(a, b)
    return Comparison(values, partners)


def refined(a: Prepared, b: Prepared) -> tuple[Partners, list[float]]:
    """The partner in B of every unit of A, per space, and the distance per row; ``a`` and ``b`` in a fixed order."""
    forth = dict(canonical(a, b).partner)
    best = _best(a, b, forth)
    other = _best(b, a, {space: inverse(p, b.sizes[space]) for space, p in forth.items()})
    if math.fsum(other[1]) < math.fsum(best[1]):
        best = ({space: inverse(p, a.sizes[space]) for space, p in other[0].items()}, other[1])
    return best


def _best(a: Prepared, b: Prepared, start: Partners) -> tuple[Partners, list[float]]:
    best = _descend(a, b, start)
    if a.sizes == b.sizes:
        other = _descend(a, b, {space: np.arange(size, dtype=np.int64) for space, size in enumerate(a.sizes)})
        if math.fsum(other[1]) < math.fsum(best[1]):
            return other
    return best


def _descend(a: Prepared, b: Prepared, start: Partners) -> tuple[Partners, list[float]]:
    partner = dict(start)
    rows = a.plan.rows
    values = [row_value(a, b, row, partner) for row in range(len(rows))]
    hidden = [row.space for row in rows if not a.fixed[row.space]]
    changed = True
    while changed:
        changed = False
        for space in (*hidden, *hidden[-2::-1]):
            tried = {**partner, space: _propose(a, b, space, partner)}
            affected = {space, *(a.plan.layers[k][1] for k in a.plan.outgoing[space])}
            new = [row_value(a, b, k, tried) if row.space in affected else values[k] for k, row in enumerate(rows)]
            if math.fsum(new) < math.fsum(values):
                partner, values, changed = tried, new, True
    return partner, values


def _propose(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints]) -> Ints:
    """The match of least fan-in plus fan-out cost, ties by colour."""
    n_a, n_b = a.sizes[space], b.sizes[space]
    n = max(n_a, n_b)
    ins, more = _side(a.fan_in[space], b.fan_in[space], partner)
    outs, most = _side(a.fan_out[space], b.fan_out[space], partner)
    room.check_pairs(n, more + most)
    offsets, columns, costs = kernels.joint_costs(n, ins, outs, more + most)
    problem = matching.listed(offsets, columns, costs)
    none = np.zeros(n, dtype=np.bool_)
    column_of, row_of, rows, starts, tied = matching.solve(problem, 2 * kernels.S, none, none)
    if len(rows):
        by_colour = kernels.listed_colour_costs(rows, starts, tied, a.colours[space], b.colours[space])
        matching.rematch(rows, starts, tied, by_colour, column_of, row_of)
    partners: Ints = column_of[:n_a]
    return np.where(partners < n_b, partners, -1)


def _side(sets_a: Sets, sets_b: Sets, partner: Mapping[int, Ints]) -> tuple[tuple[NDArray[np.generic], ...], int]:
    """What ``joint_costs`` needs of one direction, and the room its pairs may take."""
    names = keymap(sets_a, sets_b, partner)
    empties = np.flatnonzero(sets_b.empty)
    pairs = int(kernels.increments(sets_a.ptr, sets_a.keys, names, sets_b.back)[0])
    pairs += int(sets_a.empty.sum()) * len(empties)
    return (sets_a.ptr, sets_a.keys, names, sets_b.sizes, sets_b.back, sets_b.holders, sets_a.empty, empties), pairs
