"""What an alignment says of two networks, before names, widths and densities are added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.plan import Plan
from topostrata.topology import Layer, Topology, Wiring

if TYPE_CHECKING:
    from topostrata.distance.prepared import Prepared

Ints = NDArray[np.int64]
Ready: TypeAlias = "Prepared | Planned"  # a network as its alignment compares it


class Described(Protocol):
    """What of a network stands in an answer beside the comparison."""

    @property
    def plan(self) -> Plan:
        """How it is compared."""

    @property
    def connections(self) -> tuple[int, ...]:
        """How many connections each layer of the plan has."""


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A topology of which nothing is computed beforehand, and its plan."""

    topology: Topology
    plan: Plan

    @property
    def wiring(self) -> Wiring:
        """The topology's."""
        return self.topology.wiring

    @property
    def digest(self) -> str:
        """The topology's."""
        return self.topology.digest

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the plan's order."""
        return tuple(self.topology.layers[k] for k in self.plan.order)

    @property
    def connections(self) -> tuple[int, ...]:
        """Those of each layer."""
        return tuple(layer.nnz for layer in self.layers)

    def ordered(self, plan: Plan) -> Planned:
        """The same with its layers in another order."""
        return Planned(self.topology, plan)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The distance, 0 to 1, of each row of the plan, and which unit went with which.

    ``partners[s][i]`` is the unit of B for unit i of A in space s, -1 where it has none. ``ambiguous`` counts, for each
    distance, the units that had more than one optimal partner; None where nothing was counted. ``canonical`` is True
    where nothing depends on how hidden units are stored. ``informed`` is False where colours alone, not connections,
    decided the partners of more than half of the units of a space; None where that was not counted.
    """

    values: list[float]
    partners: Mapping[int, Ints]
    ambiguous: list[int] | None = None
    canonical: bool = False
    informed: bool | None = True


def symmetric(a: Prepared, b: Prepared, match: Callable[[Prepared, Prepared], Comparison]) -> Comparison:
    """``match`` of two networks, always called in the same order of the two: the result is symmetric to the bit."""
    if a.digest <= b.digest:
        return match(a, b)
    turned = match(b, a)
    return replace(turned, partners={s: inverse(partner, a.sizes[s]) for s, partner in turned.partners.items()})


def of_equals(network: Prepared, ambiguous: list[int] | None = None, *, canonical: bool = False) -> Comparison:
    """The comparison of a network with itself: every unit is its own partner."""
    partners = {s: np.arange(size, dtype=np.int64) for s, size in enumerate(network.sizes)}
    return Comparison([0.0] * len(network.plan.rows), partners, ambiguous, canonical)


def inverse(partner: Ints, size: int) -> Ints:
    """For each of the ``size`` units on the other side its partner on this one, -1 where it has none.

    >>> inverse(np.array([2, -1, 0]), 3)
    array([ 2, -1,  0])
    """
    other = np.full(size, -1, dtype=np.int64)
    matched = np.flatnonzero(partner >= 0)
    other[partner[matched]] = matched
    return other
