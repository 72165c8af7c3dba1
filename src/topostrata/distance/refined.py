"""The refined alignment: the smallest NNSTD that a local search over the hidden spaces' matchings finds.

The greedy match of a space looks at its fan-in alone. Here each hidden space in turn, forward then backward, is matched
anew by fan-in cost plus fan-out cost given its neighbours' matchings, and the new match is kept only where NNSTD falls.
The starts are the canonical match and, where the widths are equal, the identity, so the result is never larger than
either; it is searched from both sides and the smaller kept, so it is symmetric. It depends on how hidden units are
stored, because the identity does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from topostrata.distance import kernels, matching
from topostrata.distance.canonical import canonical, keymap, layer_value
from topostrata.distance.prepared import Prepared, Sets
from topostrata.distance.simple import inverse

Ints = NDArray[np.int64]
Partners = dict[int, Ints]


def refined(a: Prepared, b: Prepared) -> tuple[Partners, dict[int, float]]:
    """The partner in B of every unit of A, per space, and the distance per space; ``a`` and ``b`` in a fixed order."""
    forth = {space: match.partner for space, match in canonical(a, b).items()}
    best = _best(a, b, forth)
    other = _best(b, a, {space: inverse(p, b.sizes[space]) for space, p in forth.items()})
    if math.fsum(other[1].values()) < math.fsum(best[1].values()):
        best = ({space: inverse(p, a.sizes[space]) for space, p in other[0].items()}, other[1])
    return best


def _best(a: Prepared, b: Prepared, start: Partners) -> tuple[Partners, dict[int, float]]:
    found = _descend(a, b, start)
    if a.sizes == b.sizes:
        other = _descend(a, b, {space: np.arange(size, dtype=np.int64) for space, size in enumerate(a.sizes)})
        if math.fsum(other[1].values()) < math.fsum(found[1].values()):
            return other
    return found


def _descend(a: Prepared, b: Prepared, start: Partners) -> tuple[Partners, dict[int, float]]:
    partner = dict(start)
    targets = a.wiring.targets
    values = {space: layer_value(a, b, space, partner[space], partner) for space in targets}
    hidden = [space for space in targets if not a.kept[space]]
    changed = True
    while changed:
        changed = False
        for space in (*hidden, *hidden[-2::-1]):
            tried = {**partner, space: _propose(a, b, space, partner)}
            affected = {space, *(a.wiring.layers[k][1] for k in a.wiring.outgoing[space])}
            new = {s: layer_value(a, b, s, tried[s], tried) if s in affected else values[s] for s in targets}
            if math.fsum(new.values()) < math.fsum(values.values()):
                partner, values, changed = tried, new, True
    return partner, values


def _propose(a: Prepared, b: Prepared, space: int, partner: Mapping[int, Ints]) -> Ints:
    """The match of least fan-in plus fan-out cost, ties by colour."""
    n_a, n_b = a.sizes[space], b.sizes[space]
    n = max(n_a, n_b)
    ins, more = _side(a.fan_in[space], b.fan_in[space], partner)
    outs, most = _side(a.fan_out[space], b.fan_out[space], partner)
    offsets, columns, costs = kernels.joint_costs(n, ins, outs, more + most)
    problem = matching.listed(offsets, columns, costs)
    none = np.zeros(n, dtype=np.bool_)
    column_of, row_of, rows, kept, found = matching.solve(problem, 2 * kernels.S, none, none)
    if len(rows):
        by_colour = kernels.listed_colour_costs(rows, kept, found, a.colours[space], b.colours[space])
        matching.rematch(rows, kept, found, by_colour, column_of, row_of)
    mine: Ints = column_of[:n_a]
    return np.where(mine < n_b, mine, -1)


def _side(one: Sets, two: Sets, partner: Mapping[int, Ints]) -> tuple[tuple[NDArray[np.generic], ...], int]:
    """What ``joint_costs`` needs of one direction, and the room its pairs may take."""
    names = keymap(one, two, partner)
    empties = np.flatnonzero(two.empty)
    room = int(kernels.increments(one.ptr, one.keys, names, two.back)[0]) + int(one.empty.sum()) * len(empties)
    return (one.ptr, one.keys, names, two.sizes, two.back, two.holders, one.empty, empties), room
