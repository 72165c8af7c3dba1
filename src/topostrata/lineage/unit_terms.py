"""What each unit contributes to the distance of two networks: the parts that a bootstrap draws again.

NNSTD is a mean over units of the Jaccard distance of their fan-in sets. Once the units of the two networks are matched,
by whatever alignment, those parts follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.comparison import inverse
from topostrata.topology import Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Matching = Mapping[str, Ints]

# Standard deviations. Networks that do not share their indices stay below 3, a family after long churn is above 10.
_CLEAR = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class UnitTerms:
    """The units of one space of two networks, matched: which they are and how far apart, 0 to 1.

    ``ours[t]`` and ``theirs[t]`` are the units of term t, -1 where one network has no such unit; ``distance[t]`` is
    the Jaccard distance of their fan-in sets, 1 where there is only one unit. All have the length of the wider space.
    """

    space: str
    ours: NDArray[np.int32]
    theirs: NDArray[np.int32]
    distance: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PairTerms:
    """Two networks' matched units, space by space, and the number of connections that both have under the matching."""

    spaces: tuple[UnitTerms, ...]
    common: int


def unit_terms(a: Topology, b: Topology, matching: Matching) -> PairTerms:
    """The terms of every space that layers enter, in the order in which A's layers first enter them.

    ``matching`` has for every space (by A's name) the unit of B with which each unit of A is matched, -1 for none. The
    networks must be comparable, which the matching has checked. The mean of the terms' means over the spaces is the
    NNSTD of that matching.

    >>> a = Topology.from_masks([np.array([[1, 0], [1, 1], [0, 1]])])
    >>> b = Topology.from_masks([np.array([[1, 0], [0, 1], [0, 1]])])
    >>> same = {"input": np.arange(3), "output": np.arange(2)}
    >>> unit_terms(a, b, same).spaces[0].distance, unit_terms(a, b, same).common
    (array([0.5, 0. ]), 3)
    """
    entering: dict[str, list[int]] = {}
    for k, layer in enumerate(a.layers):
        entering.setdefault(layer.target.name, []).append(k)
    names = {(layer.source.name, other.source.size) for layer, other in zip(a.layers, b.layers, strict=True)}
    names |= {(layer.target.name, other.target.size) for layer, other in zip(a.layers, b.layers, strict=True)}
    back = {space: inverse(np.asarray(matching[space]), size) for space, size in names}
    spaces, common = [], 0
    for space, layers in entering.items():
        partner = np.asarray(matching[space], dtype=np.int64)
        size_a, shared = np.zeros(len(partner), dtype=np.int64), np.zeros(len(partner), dtype=np.int64)
        size_b = np.zeros(len(back[space]), dtype=np.int64)
        for k in layers:
            mask, other = a.layers[k].mask, b.layers[k].mask
            size_a += mask.fan_in
            size_b += other.fan_in
            sources, targets = back[a.layers[k].source.name][other.sources], back[space][other.targets]
            both = (sources >= 0) & (targets >= 0)
            cells = targets[both] * mask.stride + sources[both] * mask.taps + other.tap_indices[both]
            common_cells = np.intersect1d(mask.cells, cells, assume_unique=True)
            shared += np.bincount(common_cells // mask.stride, minlength=len(partner))
        common += int(shared.sum())
        spaces.append(_terms(space, partner, back[space], size_a, size_b, shared))
    return PairTerms(tuple(spaces), common)


def indices_kept(topologies: Sequence[Topology]) -> bool:
    """Whether hidden unit i is the same unit in all networks, as in a family that was forked or perturbed in place.

    Then ``identity`` is the best alignment (docs/benchmarks-ancestry.md). Only the connections decide: networks are
    assumed to keep their indices if most of them share more connections with another one, by five standard deviations,
    than they would if its hidden units were stored in a random order. False for networks of different shapes.
    """
    shapes = {tuple((lay.source.size, lay.target.size, lay.taps) for lay in t.layers) for t in topologies}
    if len(shapes) > 1:
        return False
    best = np.full(len(topologies), -np.inf)
    for i, a in enumerate(topologies):
        for j in range(i):
            best[i], best[j] = np.maximum(best[[i, j]], agreement(a, topologies[j]))
    return bool(np.median(best) > _CLEAR)


def agreement(a: Topology, b: Topology) -> float:
    """How many more connections two networks of one shape share than they would if B's hidden units were shuffled.

    In standard deviations. Labelled units stay in place in the shuffle; connections count as drawn independently among
    the places they could then have; if one end of a layer is labelled, within each of its labelled units. 0 if no layer
    can tell.
    """
    excess = variance = 0.0
    for layer, twin in zip(a.layers, b.layers, strict=True):
        if layer.source.labelled and layer.target.labelled:
            continue
        mask, other = layer.mask, twin.mask
        if layer.source.labelled:
            mine, theirs = (np.bincount(m.keys, minlength=m.stride).astype(float) for m in (mask, other))
            places = mask.n_target
        elif layer.target.labelled:
            mine, theirs = (m.fan_in.astype(float) for m in (mask, other))
            places = mask.stride
        else:
            mine, theirs = (np.array([float(m.nnz)]) for m in (mask, other))
            places = mask.size
        shared = len(np.intersect1d(mask.cells, other.cells, assume_unique=True))
        excess += shared - float((mine * theirs).sum()) / places
        spread = mine * theirs * (places - mine) * (places - theirs)  # hypergeometric
        variance += float(spread.sum()) / (places**2 * max(places - 1, 1))
    return float(excess / np.sqrt(variance)) if variance else 0.0


def _terms(space: str, partner: Ints, back: Ints, size_a: Ints, size_b: Ints, shared: Ints) -> UnitTerms:
    matched = partner >= 0
    union = size_a[matched] + size_b[partner[matched]] - shared[matched]
    distance = np.ones(len(partner))
    distance[matched] = (union - shared[matched]) / np.maximum(union, 1)
    lone = np.flatnonzero(back < 0)
    return UnitTerms(
        space,
        ours=np.concatenate([np.arange(len(partner)), np.full(len(lone), -1)]).astype(np.int32),
        theirs=np.concatenate([partner, lone]).astype(np.int32),
        distance=np.concatenate([distance, np.ones(len(lone))]),
    )
