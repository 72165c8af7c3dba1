"""The two alignments that need nothing but SciPy: ``reference``, the published procedure, and ``identity``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.distance import partners, room
from topostrata.distance.common import counterparts
from topostrata.distance.comparison import Comparison, Ready, inverse
from topostrata.distance.plan import Plan, Row
from topostrata.topology import Layer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_PER_PAIR = 48  # bytes: shared, total, union, distance and their differences


def reference(a: Ready, b: Ready) -> Comparison:
    """The layers' distances as the authors' procedure gives them (Liu et al. 2020, algorithm 1), and the matches.

    Every layer is matched, labelled outputs too, by ``linear_sum_assignment`` on the float64 cost
    ``(|a| + |b| - 2 common) / union``; before the next layer B's rows are put in the order of that match. Its ties are
    broken as SciPy >= 1.5 breaks them, so swapping the networks may change the values.
    """
    # A third of a second to import, which every other command would pay for.
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415

    plan = a.plan
    first, second = a.layers, b.layers
    partner: dict[int, Ints] = {}
    forth: dict[int, Ints] = {}
    values = []
    for space, entering in enumerate(plan.entering):
        if not entering:
            partner[space] = forth[space] = np.arange(plan.spaces[space].size)
            continue
        with room.of_layers(first[k].name for k in entering):
            room.check_matrix(plan.spaces[space].size, b.plan.spaces[space].size, _PER_PAIR)
        costs = _costs(first, second, plan, entering, partner)
        rows, columns = linear_sum_assignment(costs)
        forth[space] = np.full(costs.shape[0], -1, dtype=np.int64)
        forth[space][rows] = columns
        partner[space] = inverse(forth[space], costs.shape[1])
        width = max(costs.shape)
        values.append((float(costs[rows, columns].sum()) + width - len(rows)) / width)
        del costs  # before the next layer's
    return Comparison(values, forth, informed=None)


def identity(a: Ready, b: Ready) -> Comparison:
    """The rows' distances with unit i of one network taken for unit i of the other, and that match.

    Widths may differ: a unit that only one network has costs 1.
    """
    partner = partners.identity(a.plan, b.plan)
    values = [_identity_value(a, b, row, partner) for row in a.plan.rows]
    spaces = {s: partner[s] for s in range(len(a.plan.spaces))}
    return Comparison(values, spaces, ambiguous=[0] * len(values))


def _identity_value(a: Ready, b: Ready, row: Row, partner: Mapping[int, Ints]) -> float:
    mine, other = partner[row.space], b.plan.spaces[row.space].size
    size_a, size_b, common = np.zeros(len(mine), np.int64), np.zeros(other, np.int64), np.zeros(len(mine), np.int64)
    for k in row.layers:
        layer_a, layer_b = a.layers[k], b.layers[k]
        size_a += layer_a.fan_in
        size_b += layer_b.fan_in
        source = a.plan.sources[k]
        if (
            a.plan.contexts[source] == b.plan.contexts[source]
            and a.plan.contexts[row.space] == b.plan.contexts[row.space]
        ):
            shared = np.intersect1d(layer_a.mask.cells, layer_b.mask.cells, assume_unique=True)
            common += np.bincount(shared // layer_a.mask.stride, minlength=len(mine))
        else:
            joint = source >= len(a.plan.spaces)
            places = counterparts(layer_a, layer_b, partner[source], mine, joint=joint)
            common += np.bincount(layer_a.targets[places >= 0], minlength=len(mine))
    matched = np.flatnonzero(mine >= 0)
    total = size_a[matched] + size_b[mine[matched]]
    distances = (total - 2 * common[matched]) / np.maximum(total - common[matched], 1)
    alone = len(mine) - len(matched) + other - len(matched)
    return math.fsum([*distances.tolist(), float(alone)]) / (len(matched) + alone)


def _costs(
    a: Sequence[Layer], b: Sequence[Layer], plan: Plan, entering: tuple[int, ...], partner: dict[int, Ints]
) -> Floats:
    """The Jaccard distance of every unit of A's space and every unit of B's: shape (units of A, units of B)."""
    common: Floats | float = 0.0
    sizes_a: Ints | int = 0
    sizes_b: Ints | int = 0
    for k in entering:
        mask_a, mask_b = a[k].mask, b[k].mask
        source = plan.layers[k][0]
        units = partner[source][mask_b.sources]
        keys = units * mask_b.taps + mask_b.tap_indices
        known = units >= 0
        shape = (mask_a.stride, mask_b.n_target)
        moved = sp.csr_array((np.ones(int(known.sum())), (keys[known], mask_b.targets[known])), shape=shape)
        members = mask_a.to_csc().T.tocsr().astype(np.float64)
        common = common + (members @ moved).toarray()
        sizes_a = sizes_a + mask_a.fan_in
        sizes_b = sizes_b + mask_b.fan_in
    total = np.add.outer(sizes_a, sizes_b).astype(np.float64)
    union = total - common
    # 1 - common / union is another float and changes which of the tied matches SciPy finds: papers.md, section 1.
    distances: Floats = np.divide(total - 2 * common, union, out=np.zeros_like(union), where=union > 0)
    return distances
