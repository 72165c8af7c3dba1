"""The two alignments that need nothing but SciPy: ``reference``, the published procedure, and ``identity``."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from stratigraph.service.distance.wiring import Wiring
from stratigraph.topology import Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def reference(a: Topology, b: Topology, wiring: Wiring) -> list[float]:
    """The layers' distances as the authors' procedure gives them (Liu et al. 2020, algorithm 1).

    Every layer is matched, labelled outputs too, by ``linear_sum_assignment`` on the float64 cost
    ``(|a| + |b| - 2 common) / union``; before the next layer B's rows are put in the order of that match. Its ties are
    broken as SciPy >= 1.5 breaks them, so swapping the networks may change the values.
    """
    partner: dict[int, Ints] = {}
    values = []
    for space, entering in enumerate(wiring.incoming):
        if not entering:
            partner[space] = np.arange(wiring.spaces[space].size)
            continue
        costs = _costs(a, b, wiring, entering, partner)
        rows, columns = linear_sum_assignment(costs)
        partner[space] = _inverse(rows, columns, costs.shape[1])
        width = max(costs.shape)
        values.append((float(costs[rows, columns].sum()) + width - len(rows)) / width)
    return values


def identity(a: Topology, b: Topology, wiring: Wiring) -> list[float]:
    """The layers' distances with unit i of one network taken for unit i of the other; widths may differ."""
    values = []
    for space in wiring.targets:
        entering = wiring.incoming[space]
        width = max(t.layers[entering[0]].target.size for t in (a, b))
        size_a, size_b, common = (np.zeros(width, dtype=np.int64) for _ in range(3))
        for k in entering:
            one, two = a.layers[k].mask, b.layers[k].mask
            size_a[: one.n_target] += one.fan_in
            size_b[: two.n_target] += two.fan_in
            # Where the source spaces differ in width the cells of the two masks count differently.
            keys = two.targets * one.stride + two.keys
            shared = np.intersect1d(one.cells, keys[two.keys < one.stride], assume_unique=True)
            common += np.bincount(shared // one.stride, minlength=width)
        union = size_a + size_b - common
        distances = (size_a + size_b - 2 * common) / np.maximum(union, 1)
        lone = min(t.layers[entering[0]].target.size for t in (a, b))
        distances[lone:] = 1.0
        values.append(math.fsum(distances.tolist()) / width)
    return values


def _costs(a: Topology, b: Topology, wiring: Wiring, entering: tuple[int, ...], partner: dict[int, Ints]) -> Floats:
    """The Jaccard distance of every unit of A's space and every unit of B's: shape (units of A, units of B)."""
    common: Floats | float = 0.0
    sizes_a: Ints | int = 0
    sizes_b: Ints | int = 0
    for k in entering:
        one, two = a.layers[k].mask, b.layers[k].mask
        source = wiring.layers[k][0]
        keys = partner[source][two.sources] * two.taps + two.tap_indices
        known = keys >= 0
        shape = (one.stride, two.n_target)
        moved = sp.csr_array((np.ones(int(known.sum())), (keys[known], two.targets[known])), shape=shape)
        ones = sp.csr_array(one.to_csc().T, dtype=np.float64)
        common = common + (ones @ moved).toarray()
        sizes_a = sizes_a + one.fan_in
        sizes_b = sizes_b + two.fan_in
    total = np.add.outer(sizes_a, sizes_b).astype(np.float64)
    union = total - common
    # 1 - common / union is another float and changes which of the tied matches SciPy finds: papers.md, section 1.
    distances: Floats = np.divide(total - 2 * common, union, out=np.zeros_like(union), where=union > 0)
    return distances


def _inverse(rows: Ints, columns: Ints, size: int) -> Ints:
    """For each unit of B its partner in A, or a negative number below every key where it has none."""
    partner = np.full(size, np.iinfo(np.int32).min, dtype=np.int64)
    partner[columns] = rows
    return partner
