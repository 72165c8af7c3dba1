"""The two alignments that need nothing but SciPy: ``reference``, the published procedure, and ``identity``."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.distance.comparison import Comparison, inverse
from topostrata.distance.wiring import Wiring, wiring_of
from topostrata.topology import Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def reference(a: Topology, b: Topology) -> Comparison:
    """The layers' distances as the authors' procedure gives them (Liu et al. 2020, algorithm 1), and the matches.

    Every layer is matched, labelled outputs too, by ``linear_sum_assignment`` on the float64 cost
    ``(|a| + |b| - 2 common) / union``; before the next layer B's rows are put in the order of that match. Its ties are
    broken as SciPy >= 1.5 breaks them, so swapping the networks may change the values.
    """
    # A third of a second to import, which every other command would pay for.
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415

    wiring = wiring_of(a)
    partner: dict[int, Ints] = {}
    forth: dict[int, Ints] = {}
    values = []
    for space, entering in enumerate(wiring.incoming):
        if not entering:
            partner[space] = forth[space] = np.arange(wiring.spaces[space].size)
            continue
        costs = _costs(a, b, wiring, entering, partner)
        rows, columns = linear_sum_assignment(costs)
        forth[space] = np.full(costs.shape[0], -1, dtype=np.int64)
        forth[space][rows] = columns
        partner[space] = inverse(forth[space], costs.shape[1])
        width = max(costs.shape)
        values.append((float(costs[rows, columns].sum()) + width - len(rows)) / width)
    return Comparison(values, forth)


def identity(a: Topology, b: Topology) -> Comparison:
    """The layers' distances with unit i of one network taken for unit i of the other, and that match.

    Widths may differ: a unit that only one network has costs 1.
    """
    wiring = wiring_of(a)
    values = []
    for space in wiring.targets:
        entering = wiring.incoming[space]
        width = max(t.layers[entering[0]].target.size for t in (a, b))
        size_a, size_b, common = (np.zeros(width, dtype=np.int64) for _ in range(3))
        for k in entering:
            mask_a, mask_b = a.layers[k].mask, b.layers[k].mask
            size_a[: mask_a.n_target] += mask_a.fan_in
            size_b[: mask_b.n_target] += mask_b.fan_in
            # Where the source spaces differ in width the cells of the two masks count differently.
            cells = mask_b.targets * mask_a.stride + mask_b.keys
            shared = np.intersect1d(mask_a.cells, cells[mask_b.keys < mask_a.stride], assume_unique=True)
            common += np.bincount(shared // mask_a.stride, minlength=width)
        union = size_a + size_b - common
        distances = (size_a + size_b - 2 * common) / np.maximum(union, 1)
        lone = min(t.layers[entering[0]].target.size for t in (a, b))
        distances[lone:] = 1.0
        values.append(math.fsum(distances.tolist()) / width)
    sizes = [(space.size, other.size) for space, other in zip(wiring.spaces, wiring_of(b).spaces, strict=True)]
    units = [np.arange(size, dtype=np.int64) for size, _ in sizes]
    partners = {s: np.where(units[s] < sizes[s][1], units[s], -1) for s in range(len(sizes))}
    return Comparison(values, partners, ambiguous=[0] * len(values))


def _costs(a: Topology, b: Topology, wiring: Wiring, entering: tuple[int, ...], partner: dict[int, Ints]) -> Floats:
    """The Jaccard distance of every unit of A's space and every unit of B's: shape (units of A, units of B)."""
    common: Floats | float = 0.0
    sizes_a: Ints | int = 0
    sizes_b: Ints | int = 0
    for k in entering:
        mask_a, mask_b = a.layers[k].mask, b.layers[k].mask
        source = wiring.layers[k][0]
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
