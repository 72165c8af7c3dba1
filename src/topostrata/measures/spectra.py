"""The largest singular values of a layer's mask, and how far they are from those of a Ramanujan graph.

The mask is the 0/1 matrix as it is stored: a row for each source unit at each tap, a column for each target unit. The
groups of a layer are blocks of their own. Rows and columns without a connection are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import eigvalsh
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh

from topostrata.topology import Layer

# Up to so many rows or columns all of the smaller Gram matrix is decomposed; above, Lanczos iterates.
_DENSE = 1200


@dataclass(frozen=True, slots=True)
class Ramanujan:
    """The two largest singular values of a layer's mask, and its gaps; a gap below 0 = not Ramanujan.

    ``gap`` is 2 sqrt(mu_1 - 1) - mu_2, ``gap_of_degrees`` sqrt(d_L - 1) + sqrt(d_R - 1) - mu_2 with the mean degrees of
    the rows and columns that are not empty.
    """

    mu_1: float
    mu_2: float
    gap: float
    gap_of_degrees: float


def ramanujan(layer: Layer) -> Ramanujan | None:
    """The gaps of a layer; ``None`` without connections. Published work disagrees on what they predict.

    Sources: Pal et al., "A study on the Ramanujan graph property of winning lottery tickets" (ICML 2022); Hoang et al.,
    "Revisiting pruning at initialization through the lens of Ramanujan graph" (ICLR 2023).

    >>> from topostrata.topology import Topology
    >>> measured = ramanujan(Topology.from_masks([[[1, 1], [1, 1]]])["l0"])
    >>> round(measured.mu_1, 9), round(measured.mu_2, 6), round(measured.gap, 6)
    (2.0, 0.0, 2.0)
    """
    if not layer.nnz:
        return None
    rows = np.unique(layer.sources * layer.taps + layer.mask.tap_indices, return_inverse=True)[1]
    columns = np.unique(layer.targets, return_inverse=True)[1]
    mu_1, mu_2 = _largest_two(rows, columns)
    d_left, d_right = layer.nnz / (rows.max() + 1), layer.nnz / (columns.max() + 1)
    gap_of_degrees = np.sqrt(d_left - 1) + np.sqrt(d_right - 1) - mu_2
    return Ramanujan(mu_1, mu_2, float(2 * np.sqrt(max(mu_1 - 1, 0.0)) - mu_2), float(gap_of_degrees))


def _largest_two(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[float, float]:
    """The two largest singular values, counted as often as they occur.

    Every connected component is taken alone: there the largest is simple (Perron and Frobenius), so that Lanczos, which
    sees a value once however often it occurs, misses nothing that counts.
    """
    height, width = int(rows.max()) + 1, int(columns.max()) + 1
    ones = np.ones(rows.size)
    graph = sp.coo_array((ones, (rows, columns + height)), shape=(height + width, height + width))
    component = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(component, kind="stable")
    values: list[float] = []
    for part in np.split(order, np.flatnonzero(np.diff(component[order])) + 1):
        mine = np.unique(rows[part], return_inverse=True)[1], np.unique(columns[part], return_inverse=True)[1]
        matrix = sp.csr_array((ones[part], mine))
        # No singular value is above the root of the number of connections.
        if len(values) < 2 or part.size > min(values) ** 2:
            values = sorted([*values, *_of_component(matrix)])[-2:]
    return (values[1], values[0]) if len(values) > 1 else (values[0], 0.0)


def _of_component(matrix: sp.csr_array) -> list[float]:
    """The largest two singular values of a connected matrix, or the only one."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T.tocsr()
    width = tall.shape[1]
    if width == 1:
        return [float(np.sqrt(tall.nnz))]
    if tall.nnz == tall.shape[0] * width:  # of rank 1: the root of a rounding error is no zero
        return [float(np.sqrt(tall.nnz)), 0.0]
    if width <= _DENSE:
        squares = eigvalsh((tall.T @ tall).toarray(), subset_by_index=[width - 2, width - 1])
    else:
        gram = LinearOperator((width, width), matvec=lambda x: tall.T @ (tall @ x), dtype=np.float64)
        squares = eigsh(gram, k=2, which="LA", v0=np.ones(width) / np.sqrt(width), return_eigenvectors=False)
    return [float(np.sqrt(max(square, 0.0))) for square in squares]
