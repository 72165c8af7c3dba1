"""NNSTD, the distance between the wirings of two sparse networks (Liu et al. 2020, section 3).

Two units are as far apart as their fan-in sets: ``|xor| / |or|``. A layer's distance is the cost of the best one-to-one
matching of its units, divided by its width; the next layer is compared with its inputs named by that match. NNSTD is
the mean over the layers: 0 = the same wiring up to the matching, 1 = nothing in common. Which of several equally good
matches is used is left open by the paper and changes the value; ``alignment`` names the choice
(docs/design/010-nnstd.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from stratigraph.errors import InvalidInputError
from stratigraph.service.distance import simple
from stratigraph.service.distance.wiring import Wiring, check_comparable, wiring_of
from stratigraph.topology import Topology

Alignment = Literal["reference", "canonical", "refined", "identity"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)


@dataclass(frozen=True, slots=True)
class LayerDistance:
    """One row of a distance: the layer (or the layers that enter one space, joined by ``+``) and what it contributes.

    ``distance`` is 0 to 1, ``width`` the units of the larger network's space, the densities shares of the possible
    connections, 0 to 1.
    """

    name: str
    distance: float
    width: int
    density_a: float
    density_b: float


@dataclass(frozen=True, slots=True)
class Distance:
    """How far apart two networks are: ``nnstd`` is the mean of the layers' distances, 0 to 1."""

    alignment: Alignment
    nnstd: float
    layers: tuple[LayerDistance, ...]


def nnstd(a: Topology, b: Topology, *, alignment: Alignment = "canonical", fix_output: bool = True) -> Distance:
    """How different the wirings of two networks are, 0 (the same) to 1 (nothing in common).

    ``alignment`` says how hidden units are matched: ``"canonical"`` (well defined and symmetric), ``"refined"`` (the
    smallest value a local search finds), ``"reference"`` (as published; not symmetric) or ``"identity"`` (unit i is
    unit i: for snapshots of one run). Labelled output units stay in place unless ``fix_output=False``; the reference
    matches them always, as published. Spaces of different width are padded with absent units, each of which costs 1.

    Raises ``NotComparableError`` where the networks are wired differently, ``MissingExtraError`` where ``canonical`` or
    ``refined`` is asked and numba is not installed.

    >>> import numpy as np
    >>> one = Topology.from_masks([np.array([[1, 0], [1, 1], [0, 1]])])
    >>> two = Topology.from_masks([np.array([[1, 0], [0, 1], [0, 1]])])
    >>> nnstd(one, two, alignment="identity").nnstd  # unit 0: {0, 1} and {0}; unit 1: {1, 2} twice
    0.25
    """
    check_alignment(alignment)
    check_comparable(a, b)
    wiring = wiring_of(a)
    if alignment == "reference":
        values = simple.reference(a, b, wiring)
    elif alignment == "identity":
        values = simple.identity(a, b, wiring)
    else:
        raise NotImplementedError(alignment)
    return describe_distance(a, b, wiring, alignment, values)


def check_alignment(alignment: str) -> None:
    """Refuse an alignment that does not exist."""
    if alignment not in ALIGNMENTS:
        raise InvalidInputError(f"alignment: expected one of {', '.join(ALIGNMENTS)}, found {alignment!r}")


def describe_distance(a: Topology, b: Topology, wiring: Wiring, alignment: Alignment, values: list[float]) -> Distance:
    """The layers' values with their names, widths and densities, and their mean."""
    rows = []
    for space, value in zip(wiring.targets, values, strict=True):
        entering = wiring.incoming[space]
        rows.append(
            LayerDistance(
                name="+".join(a.layers[k].name for k in entering),
                distance=value,
                width=max(t.layers[entering[0]].target.size for t in (a, b)),
                density_a=_density(a, entering),
                density_b=_density(b, entering),
            )
        )
    return Distance(alignment, math.fsum(values) / len(values), tuple(rows))


def _density(topology: Topology, layers: tuple[int, ...]) -> float:
    chosen = [topology.layers[k] for k in layers]
    return sum(layer.nnz for layer in chosen) / sum(layer.mask.size for layer in chosen)
