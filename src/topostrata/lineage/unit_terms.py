"""What each unit contributes to the distance of two networks: the parts that a bootstrap draws again.

NNSTD is a mean over units of the Jaccard distance of their fan-in sets. Once the units of the two networks are matched,
by whatever alignment, those parts follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.comparison import inverse
from topostrata.topology import Mask, Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Matching = Mapping[str, Ints]

# Standard deviations. Networks that do not share their indices stay below 3, a family after long churn is above 10.
_CLEAR = 5.0
_TABLE = 2**24  # cells of a mask
_NOWHERE = -(2**62)
_NOISE = 1e-9  # what rounding leaves of residues that are 0, as in full layers


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


Units = Literal["in-place", "renamed"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Whether the hidden units of some networks are in place, and how that is known: ``by``.

    By the ``"connections"``: ``agreement`` is the least over the networks of the largest agreement with another one,
    ``out_of_place`` are the positions of those for which it is no larger than chance makes it. By the ``"shapes"``,
    which differ, or by the ``"caller"``, who stated it.
    """

    units: Units
    by: Literal["connections", "shapes", "caller"]
    agreement: float | None
    out_of_place: tuple[int, ...]


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
    spaces, total = [], 0
    for space, layers in entering.items():
        partner = np.asarray(matching[space], dtype=np.int64)
        size_a = np.zeros(len(partner), dtype=np.int64)
        size_b, shared = np.zeros(len(back[space]), dtype=np.int64), np.zeros(len(back[space]), dtype=np.int64)
        for k in layers:
            mask, other = a.layers[k].mask, b.layers[k].mask
            size_a += mask.fan_in
            size_b += other.fan_in
            places = back[a.layers[k].source.name]
            if mask.taps > 1:  # of each source with each tap
                taps = np.arange(mask.taps)
                places = np.where(places[:, None] < 0, -1, places[:, None] * mask.taps + taps).ravel()
            # B's connections as A's cells; one with an end that A has not is far below all cells.
            rows = np.where(back[space] < 0, _NOWHERE, back[space] * mask.stride)
            cells = np.repeat(rows, other.fan_in) + np.where(places < 0, _NOWHERE, places)[other.keys]
            until = np.append(0, np.cumsum(_in(np.maximum(cells, -1), mask)))
            shared += until[other.indptr[1:]] - until[other.indptr[:-1]]
        total += int(shared.sum())
        spaces.append(_terms(space, partner, back[space], size_a, size_b, shared))
    return PairTerms(tuple(spaces), total)


def placement_of(topologies: Sequence[Topology]) -> Placement:
    """Whether hidden unit i is the same unit in all networks, as in a family that was forked or perturbed in place.

    Only the connections decide: units are in place if every network shares more connections with another one, by five
    standard deviations, than it would if its hidden units were stored in a random order. So one network that was stored
    in another order, or is related to none, is enough for units to count as renamed. Networks of different shapes do.

    >>> a = Topology.from_masks([np.eye(40), np.eye(40)])
    >>> turned = a.relabelled({"hidden1": np.roll(np.arange(40), 1)})
    >>> placement_of([a, a]).units, placement_of([a, turned]).units, placement_of([a, turned]).out_of_place
    ('in-place', 'renamed', (0, 1))
    """
    shapes = {tuple((lay.source.size, lay.target.size, lay.taps) for lay in t.layers) for t in topologies}
    if len(shapes) > 1:
        return Placement("renamed", "shapes", None, ())
    residues = [[_Residue(layer.mask) for layer in topology.layers] for topology in topologies]
    best = np.full(len(topologies), -np.inf)
    for i, a in enumerate(topologies):
        for j in range(i):
            best[i], best[j] = np.maximum(best[[i, j]], _agreement(a, residues[i], residues[j]))
    out_of_place = tuple(np.flatnonzero(best <= _CLEAR).tolist())
    least = float(best.min()) if len(best) > 1 else None
    return Placement("renamed" if out_of_place else "in-place", "connections", least, out_of_place)


def agreement(a: Topology, b: Topology) -> float:
    """How many more connections two networks of one shape share than they would if B's hidden units were shuffled.

    In standard deviations. What degrees alone would make them share is taken away first: in each layer a connection
    counts less the product of its ends' degrees over all connections, so that hubs that happen to meet are no
    agreement. Labelled units stay in place in the shuffle. If one end of a layer is labelled, the residues of different
    labelled units count as independent. 0 if no layer can tell.
    """
    return _agreement(a, *([_Residue(layer.mask) for layer in network.layers] for network in (a, b)))


def _agreement(a: Topology, residues_a: Sequence[_Residue], residues_b: Sequence[_Residue]) -> float:
    excess = variance = 0.0
    for layer, ours, theirs in zip(a.layers, residues_a, residues_b, strict=True):
        if layer.source.labelled and layer.target.labelled:
            continue
        excess += ours.product(theirs)
        if layer.source.labelled:
            variance += float(ours.keys @ theirs.keys) / max(layer.mask.n_target - 1, 1)
        elif layer.target.labelled:
            variance += float(ours.targets @ theirs.targets) / max(layer.mask.stride - 1, 1)
        else:
            places = max(layer.mask.stride - 1, 1) * max(layer.mask.n_target - 1, 1)
            variance += float(ours.keys.sum() * theirs.keys.sum()) / places
    return float(excess / np.sqrt(variance)) if variance > _NOISE else 0.0


def _in(cells: Ints, mask: Mask) -> NDArray[np.bool_]:
    """Which of these cells a mask has, by a table of all its cells where that is small: ``np.isin`` sorts or ranks.

    A cell -1 is one that it has not.
    """
    if mask.size <= _TABLE:
        there = np.zeros(mask.size + 1, dtype=np.bool_)
        there[mask.cells] = True
        return there[cells]
    at = np.searchsorted(mask.cells, cells)
    known: NDArray[np.bool_] = np.append(mask.cells, -2)[at] == cells
    return known


class _Residue:
    """A mask less what its degrees expect: a cell is 1 or 0, less (its key's degree) (its target's) / connections.

    Its rows and columns add up to 0; ``keys`` and ``targets`` are the sums of their squares.
    """

    def __init__(self, mask: Mask) -> None:
        self.mask, self.of_keys, self.of_targets = mask, mask.keys, mask.targets
        self.out = np.bincount(self.of_keys, minlength=mask.stride).astype(float)
        self.into = mask.fan_in.astype(float)
        self.total = max(float(mask.nnz), 1.0)
        near_keys: Floats = np.bincount(self.of_keys, self.into[self.of_targets], mask.stride).astype(np.float64)
        near_targets: Floats = np.bincount(self.of_targets, self.out[self.of_keys], mask.n_target).astype(np.float64)
        self.keys = _squares(self.out, near_keys, float(self.into @ self.into), self.total)
        self.targets = _squares(self.into, near_targets, float(self.out @ self.out), self.total)

    def product(self, other: _Residue) -> float:
        """The sum over all cells of the product of two residues."""
        shared = int(_in(self.mask.cells, other.mask).sum())
        expected = float((self.out @ other.out) * (self.into @ other.into)) / (self.total * other.total)
        return shared - self._expected_in(other) - other._expected_in(self) + expected

    def _expected_in(self, other: _Residue) -> float:
        return float(other.out[self.of_keys] @ other.into[self.of_targets]) / other.total


def _squares(degrees: Floats, near: Floats, squares: float, total: float) -> Floats:
    """Per unit the sum of squares of its residue, never below 0: ``near`` has the sums of its neighbours' degrees."""
    return np.maximum(degrees - 2 * degrees * near / total + degrees**2 * squares / total**2, 0.0)


def _terms(space: str, partner: Ints, back: Ints, size_a: Ints, size_b: Ints, shared: Ints) -> UnitTerms:
    matched = partner >= 0
    units = partner[matched]
    union = size_a[matched] + size_b[units] - shared[units]
    distance = np.ones(len(partner))
    distance[matched] = (union - shared[units]) / np.maximum(union, 1)
    lone = np.flatnonzero(back < 0)
    return UnitTerms(
        space,
        ours=np.concatenate([np.arange(len(partner)), np.full(len(lone), -1)]).astype(np.int32),
        theirs=np.concatenate([partner, lone]).astype(np.int32),
        distance=np.concatenate([distance, np.ones(len(lone))]),
    )
