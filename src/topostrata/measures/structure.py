"""The structure of one snapshot: the spread of its connections, its dead units, and which connections lie on a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata.sharing import tied_units
from topostrata.topology import Topology, Wiring

Counts = NDArray[np.int64]
Stage = tuple[str, int]  # a space, and how often it had been read and entered again


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
    on_path = _on_path(topology)
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


def _on_path(topology: Topology) -> dict[str, NDArray[np.bool_]]:
    """Which connections of each layer that owns its own lie on a path from the network's inputs to its outputs."""
    ends = _stages(topology.wiring)
    forward, backward = _reached(topology, ends)
    on_path = {name: np.zeros(mask.nnz, dtype=bool) for name, mask in topology.to_masks().items()}
    for layer, (source, target) in zip(topology.layers, ends, strict=True):
        owner = topology[topology.wiring.shared_with.get(layer.name, layer.name)]
        sources, targets = tied_units(owner.shape, layer.shape, owner.mask)
        on_path[owner.name] |= forward[source][sources] & backward[target][targets]
    return on_path


def _stages(wiring: Wiring) -> list[tuple[Stage, Stage]]:
    """Per layer the stage of the space that it reads, and of the one that it enters."""
    stage = {space.name: 0 for space in wiring.spaces}
    read: set[str] = set()
    ends = []
    for layer in wiring:
        source = (layer.source.name, stage[layer.source.name])
        if not layer.loops:
            read.add(layer.source.name)
            if layer.target.name in read:
                read.remove(layer.target.name)
                stage[layer.target.name] += 1
        ends.append((source, (layer.target.name, stage[layer.target.name])))
    return ends


def _reached(
    topology: Topology, ends: list[tuple[Stage, Stage]]
) -> tuple[dict[Stage, NDArray[np.bool_]], dict[Stage, NDArray[np.bool_]]]:
    """Which units a path from the network's inputs reaches, and from which units a path leads to its outputs."""
    size = {space.name: space.size for space in topology.spaces}
    last = {name: max(k for pair in ends for other, k in pair if other == name) for name in size}
    joins = [(layer, *pair) for layer, pair in zip(topology.layers, ends, strict=True)]
    entered = {target for layer, _, target in joins if not layer.shape.loops}
    read = {source for layer, source, _ in joins if not layer.shape.loops}
    inputs = {name for name in size if (name, 0) not in entered}
    outputs = {name for name in size if (name, last[name]) not in read}
    stages = [(name, k) for name in size for k in range(last[name] + 1)]
    forward = {(name, k): np.full(size[name], name in inputs) for name, k in stages}
    backward = {(name, k): np.full(size[name], name in outputs) for name, k in stages}
    loops = any(layer.shape.loops for layer in topology.layers)
    changes = True
    while changes:
        changes = False
        for layer, source, (name, k) in joins:
            units = layer.targets[forward[source][layer.sources]]
            changes |= _mark([forward[name, later] for later in range(k, last[name] + 1)], units)
        for layer, (name, k), target in reversed(joins):
            units = layer.sources[backward[target][layer.targets]]
            changes |= _mark([backward[name, earlier] for earlier in range(k + 1)], units)
        changes &= loops  # without them all is known after one pass in the order of execution
    return forward, backward


def _mark(stages: list[NDArray[np.bool_]], units: Counts) -> bool:
    """Mark the units in each of the stages; gives whether any was not marked in the first."""
    changes = not stages[0][units].all()
    for reached in stages:
        reached[units] = True
    return changes
