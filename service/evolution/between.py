"""What became of a layer's connections between two snapshots of one run. Inside a run, same index means same unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from stratigraph import codec
from stratigraph.topology import Mask


@dataclass(frozen=True, slots=True)
class LayerEvolution:
    """Counts of connections of one layer, from one step to another.

    ``alive_from`` = survived + regrown + died, ``alive_to`` = survived + regrown + born. *Survived*: alive at both
    steps and at every recorded step between; *regrown*: alive at both, recorded dead in between. ``jaccard_distance``
    is that of the two sets of connections; ``unit_distance`` the mean, over the layer's target units, of the Jaccard
    distance of their fan-in sets (NNSTD without matching: Liu et al. 2020, section 3). Both go from 0 (the same) to 1
    (nothing shared).
    """

    name: str
    alive_from: int
    alive_to: int
    survived: int
    regrown: int
    died: int
    born: int
    jaccard_distance: float
    unit_distance: float


@dataclass(frozen=True, slots=True)
class Evolution:
    """What became of each layer of a run between two of its snapshots."""

    run: str
    from_step: int
    to_step: int
    layers: tuple[LayerEvolution, ...]


def between(name: str, masks: Iterable[Mask]) -> LayerEvolution:
    """Compare the first with the last of a layer's masks, which are those of every recorded step from one to the other.

    >>> a, b = (Mask(2, 2, np.array(cells)) for cells in ([0, 1, 2], [0, 3]))
    >>> between("l0", [a, b])  # doctest: +NORMALIZE_WHITESPACE
    LayerEvolution(name='l0', alive_from=3, alive_to=2, survived=1, regrown=0, died=2, born=1,
      jaccard_distance=0.75, unit_distance=0.75)
    """
    each: Iterator[Mask] = iter(masks)
    first = last = next(each)
    alive = first.cells  # throughout
    for mask in each:
        alive = alive[codec.in_sorted(alive, mask.cells)]
        last = mask
    stays = codec.in_sorted(first.cells, last.cells)
    common = int(stays.sum())
    union = first.nnz + last.nnz - common
    return LayerEvolution(
        name,
        alive_from=first.nnz,
        alive_to=last.nnz,
        survived=int(alive.size),
        regrown=common - int(alive.size),
        died=first.nnz - common,
        born=last.nnz - common,
        jaccard_distance=(union - common) / union if union else 0.0,
        unit_distance=_unit_distance(first, last, first.cells[stays]),
    )


def _unit_distance(a: Mask, b: Mask, shared: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    common = np.bincount(shared // a.stride, minlength=a.n_target)
    union = a.fan_in + b.fan_in - common
    # A unit without inputs at either step has not changed: distance 0.
    distances = (union - common) / np.maximum(union, 1)
    return math.fsum(distances.tolist()) / a.n_target
