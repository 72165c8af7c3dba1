"""The chance level of a matrix of distances: that of some of its pairs, since each pair costs many distances."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from topostrata.distance import null_model
from topostrata.distance.jobs import Loader
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import layer_names, nnstd, with_chance
from topostrata.distance.null_model import Kept, MatrixChance, Memory, PairChance
from topostrata.errors import Cancelled
from topostrata.topology import Topology

MOST_PAIRS = 10


def sampled_pairs(labels: Sequence[str]) -> list[tuple[int, int]]:
    """At most ``MOST_PAIRS`` pairs of networks, as places in ``labels``: the same ones in whichever order they stand.

    Networks are shuffled by a fixed seed; the next pair is always one of those that were drawn least. So each is in as
    many pairs as any other, give or take one, and ten pairs are of twenty networks if there are so many.

    >>> sampled_pairs(["w0@0", "w1@0", "w2@0"])
    [(0, 2), (0, 1), (1, 2)]
    """
    n = len(labels)
    by_name = sorted(range(n), key=labels.__getitem__)
    shuffled = [by_name[k] for k in np.random.default_rng(null_model.SEED).permutation(n)[: 2 * MOST_PAIRS]]
    left = list(combinations(shuffled, 2))
    drawn: Counter[int] = Counter()
    pairs: list[tuple[int, int]] = []
    while left and len(pairs) < MOST_PAIRS:
        pair = min(left, key=lambda ends: sorted((drawn[k] for k in ends), reverse=True))
        left.remove(pair)
        drawn.update(pair)
        pairs.append((min(pair), max(pair)))
    return pairs


def with_matrix_chance(
    matrix: DistanceMatrix,
    networks: Sequence[Topology | Loader],
    kept: Kept | None,
    *,
    fix_output: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
    memory: Memory | None = None,
) -> DistanceMatrix:
    """The matrix with the chance level of some of its pairs (``sampled_pairs``), of the layers that count in it.

    ``networks`` are those of the matrix, in its order. A matrix of one network has no pair, and so no level.

    Raises as ``nnstd`` does with ``chance``, and ``Cancelled`` once ``cancel`` is set.
    """
    n = len(matrix.labels)
    if kept is None or n < 2:
        return matrix
    pairs = sampled_pairs(matrix.labels)
    every = layer_names(_loaded(networks[0]).wiring)
    rows = [every.index(name) for name in matrix.layer_names]
    levels = []
    for i, j in pairs:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        a, b = _loaded(networks[i]), _loaded(networks[j])
        distance = nnstd(a, b, alignment=matrix.alignment, fix_output=fix_output)
        counted = tuple(distance.layers[k] for k in rows)
        distance = replace(distance, nnstd=float(matrix.nnstd[i, j]), layers=counted)
        level = with_chance(distance, a, b, kept=kept, fix_output=fix_output, memory=memory).chance
        if level is not None:
            levels.append(PairChance(matrix.labels[i], matrix.labels[j], distance.nnstd, level))
        if progress is not None:
            progress(len(levels), len(pairs))
    return replace(matrix, chance=MatrixChance(kept, tuple(levels), n * (n - 1) // 2))


def _loaded(network: Topology | Loader) -> Topology:
    return network if isinstance(network, Topology) else network()
