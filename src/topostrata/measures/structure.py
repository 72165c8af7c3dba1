"""The structure of one snapshot: the spread of its connections, its dead units, and which connections lie on a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata.measures.paths import effective_part
from topostrata.topology import Topology

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hub:
    """A unit with many connections."""

    unit: int
    connections: int


@dataclass(frozen=True, slots=True, eq=False)
class Degrees:
    """How many connections the units of a space have on one side.

    ``histogram[d]`` units have d connections. ``cv`` is the standard deviation over the mean; ``gini`` is 0 when all
    units have the same number and near 1 when few units have all; both ``None`` where there are no connections.
    """

    mean: float
    cv: float | None
    gini: float | None
    dead: tuple[int, ...]
    hubs: tuple[Hub, ...]
    histogram: Counts


@dataclass(frozen=True, slots=True, eq=False)
class SpaceStructure:
    """The units of a space: their inputs (``None`` for the network's inputs) and outputs (``None`` for its outputs).

    The connections of tied layers are inputs and outputs in each of their places.
    """

    name: str
    size: int
    fan_in: Degrees | None
    fan_out: Degrees | None


@dataclass(frozen=True, slots=True)
class LayerStructure:
    """``effective`` of a layer's connections lie on some path from an input of the network to one of its outputs.

    Tied layers are one, named by the first of them: a connection counts once, in whichever place it lies on a path.
    """

    name: str
    connections: int
    density: float
    effective: int
    effective_density: float


@dataclass(frozen=True, slots=True)
class Structure:
    """One snapshot: its spaces and layers."""

    spaces: tuple[SpaceStructure, ...]
    layers: tuple[LayerStructure, ...]


def structure(topology: Topology, *, hubs: int = 10) -> Structure:
    """How the connections of a topology are spread; the ``hubs`` units with the most connections are listed.

    A path follows the order of execution: what enters a residual stream late reaches only those that read it later. It
    may go through a self-loop any number of times.

    >>> t = Topology.from_masks([[[1, 1], [0, 0]], [[1], [0]]])
    >>> [(layer.connections, layer.effective) for layer in structure(t).layers]
    [(2, 1), (1, 1)]
    """
    spaces = []
    for space in topology.spaces:
        into = [layer.fan_in for layer in topology.layers if layer.target == space]
        out = [layer.fan_out for layer in topology.layers if layer.source == space]
        spaces.append(
            SpaceStructure(
                space.name, space.size, _degrees(into, hubs) if into else None, _degrees(out, hubs) if out else None
            )
        )
    on_path = effective_part(topology).connections
    layers = []
    for name, mask in topology.to_masks().items():
        effective = int(np.count_nonzero(on_path[name]))
        layers.append(LayerStructure(name, mask.nnz, mask.density, effective, effective / mask.size))
    return Structure(tuple(spaces), tuple(layers))


def gini(values: Counts) -> float | None:
    """The Gini coefficient: 0 when all values are equal, (n - 1) / n when one has all; ``None`` when all are 0."""
    ordered = np.sort(values)
    whole = int(ordered.sum())
    if not whole:
        return None
    n = ordered.size
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * whole))


def _degrees(parts: list[Counts], hubs: int) -> Degrees:
    degree = np.sum(parts, axis=0)
    mean = float(degree.mean())
    most = np.lexsort((np.arange(degree.size), -degree))[:hubs]
    return Degrees(
        mean,
        float(degree.std() / mean) if mean else None,
        gini(degree),
        tuple(np.flatnonzero(degree == 0).tolist()),
        tuple(Hub(int(unit), int(degree[unit])) for unit in most if degree[unit]),
        np.bincount(degree),
    )
