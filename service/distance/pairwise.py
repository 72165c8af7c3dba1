"""Many networks at once: the matrix of their pairwise distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stratigraph.errors import InvalidInputError
from stratigraph.service.distance.nnstd import Alignment, check_alignment, nnstd
from stratigraph.topology import Topology

Loader = Callable[[], Topology]


@dataclass(frozen=True, eq=False)
class DistanceMatrix:
    """Pairwise distances of n networks with L layers: ``nnstd[i, j]`` is that of ``labels[i]`` and ``labels[j]``.

    ``nnstd`` has shape (n, n), ``layers`` (n, n, L), both 0 to 1; symmetric except for the alignment ``"reference"``,
    where row i stands for the first argument.
    """

    labels: tuple[str, ...]
    alignment: Alignment
    nnstd: NDArray[np.float64]
    layers: NDArray[np.float64]
    layer_names: tuple[str, ...]


def distances(
    topologies: Sequence[Topology | Loader],
    *,
    labels: Sequence[str] | None = None,
    alignment: Alignment = "canonical",
    fix_output: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> DistanceMatrix:
    """The distances of all pairs. ``progress(done, all)`` is told how many pairs are done.

    ``labels`` are ``0``, ``1``, ... where none are given. Raises as ``nnstd`` does.
    """
    check_alignment(alignment)
    n = len(topologies)
    names = tuple(str(i) for i in range(n)) if labels is None else tuple(labels)
    if len(names) != n or not n:
        raise InvalidInputError(f"distances: expected one label for each of the networks, found {len(names)} for {n}")
    values = [t if isinstance(t, Topology) else t() for t in topologies]
    symmetric = alignment != "reference"
    pairs = [(i, j) for i in range(n) for j in range(i if symmetric else 0, n)]
    matrix = np.zeros((n, n))
    layers: NDArray[np.float64] | None = None
    layer_names: tuple[str, ...] = ()
    for done, (i, j) in enumerate(pairs, start=1):
        found = nnstd(values[i], values[j], alignment=alignment, fix_output=fix_output)
        if layers is None:
            layer_names = tuple(row.name for row in found.layers)
            layers = np.zeros((n, n, len(layer_names)))
        matrix[i, j] = found.nnstd
        layers[i, j] = [row.distance for row in found.layers]
        if symmetric:
            matrix[j, i], layers[j, i] = matrix[i, j], layers[i, j]
        if progress is not None:
            progress(done, len(pairs))
    if layers is None:
        layers = np.zeros((n, n, 0))
    return DistanceMatrix(names, alignment, matrix, layers, layer_names)
