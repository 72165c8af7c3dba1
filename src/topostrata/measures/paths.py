"""Paths from the inputs of a network to its outputs: what lies on one, and how many there are.

A path follows the order of execution: what enters a residual stream late reaches only those that read it later. Paths
begin in the spaces that no layer enters before they are read, and end in those that no layer reads after the last
entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.sharing import tied_units
from topostrata.topology import Topology, Wiring

Stage = tuple[str, int]  # a space, and how often it had been read and entered again
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class EffectivePart:
    """What lies on a path: connections by layer, in the order of its cells, and the units at their ends by space.

    Tied layers are one, named by the first of them: a connection counts in whichever place it lies on a path.
    """

    connections: dict[str, Flags]
    units: dict[str, Flags]


@dataclass(frozen=True, slots=True)
class _Ends:
    """Per layer the stage that it reads and the one that it enters, the last stages, and where paths begin and end."""

    joins: list[tuple[Stage, Stage]]
    last: dict[str, int]
    inputs: set[str]
    outputs: set[str]


def effective_part(topology: Topology) -> EffectivePart:
    """The connections and units that lie on a path; a path may go through a self-loop any number of times.

    Source: Vysogorets and Kempe, "Connectivity matters" (2023), effective sparsity.

    >>> part = effective_part(Topology.from_masks([[[1, 1], [0, 0]], [[1], [0]]]))
    >>> part.connections["l0"].tolist(), part.units["hidden1"].tolist()
    ([True, False], [True, False])
    """
    ends = _ends(topology.wiring)
    forward, backward = _reached(topology, ends)
    part = EffectivePart(
        {name: np.zeros(mask.nnz, dtype=bool) for name, mask in topology.to_masks().items()},
        {space.name: np.zeros(space.size, dtype=bool) for space in topology.spaces},
    )
    for layer, (source, target) in zip(topology.layers, ends.joins, strict=True):
        owner = topology[topology.wiring.shared_with.get(layer.name, layer.name)]
        sources, targets = tied_units(owner.shape, layer.shape, owner.mask)
        on_path = forward[source][sources] & backward[target][targets]
        part.connections[owner.name] |= on_path
        part.units[layer.source.name][sources[on_path]] = True
        part.units[layer.target.name][targets[on_path]] = True
    return part


def effective_paths(topology: Topology) -> int:
    """How many paths of at least one connection lead from an input unit to an output unit, exactly.

    For a chain of masks M_0, M_1, ... it is 1' M_0 M_1 ... 1; each tap is a connection of its own. Source: SynFlow
    (Tanaka et al., NeurIPS 2020) with all weights 1; Pham et al., "Towards data-agnostic pruning at initialization"
    (NeurIPS 2023).

    Raises ``InvalidInputError`` where a layer reads and enters one space: paths through it have no end.

    >>> effective_paths(Topology.from_masks([[[1, 1], [1, 0]], [[1], [1]]]))
    3
    """
    for layer in topology.layers:
        if layer.shape.loops:
            raise InvalidInputError(
                f"effective paths: expected a network without self-loops, found layer {layer.name!r} from "
                f"{layer.source.name!r} to itself: it may be passed any number of times"
            )
    ends = _ends(topology.wiring)
    # Numbers of Python, which never overflow: a count of paths grows with the power of the depth.
    paths = {s.name: np.full(s.size, int(s.name in ends.inputs), dtype=object) for s in topology.spaces}
    for layer in topology.layers:
        # A mask's cells are sorted by target, so that each target with inputs is one stretch of them.
        entered = np.flatnonzero(layer.fan_in)
        if entered.size:
            arriving = paths[layer.source.name][layer.sources]
            paths[layer.target.name][entered] += np.add.reduceat(arriving, layer.mask.indptr[entered])
    whole = sum(int(paths[name].sum()) for name in ends.outputs)
    return whole - sum(s.size for s in topology.spaces if s.name in ends.inputs & ends.outputs)


def _ends(wiring: Wiring) -> _Ends:
    stage = {space.name: 0 for space in wiring.spaces}
    read_since: set[str] = set()
    joins = []
    entered: set[Stage] = set()
    read: set[Stage] = set()
    for layer in wiring:
        source = (layer.source.name, stage[layer.source.name])
        if not layer.loops:
            read_since.add(layer.source.name)
            if layer.target.name in read_since:
                read_since.remove(layer.target.name)
                stage[layer.target.name] += 1
        target = (layer.target.name, stage[layer.target.name])
        if not layer.loops:
            read.add(source)
            entered.add(target)
        joins.append((source, target))
    inputs = {name for name in stage if (name, 0) not in entered}
    outputs = {name for name, last in stage.items() if (name, last) not in read}
    return _Ends(joins, stage, inputs, outputs)


def _reached(topology: Topology, ends: _Ends) -> tuple[dict[Stage, Flags], dict[Stage, Flags]]:
    """Which units a path from the network's inputs reaches, and from which units a path leads to its outputs."""
    size = {space.name: space.size for space in topology.spaces}
    stages = [(name, k) for name, last in ends.last.items() for k in range(last + 1)]
    forward = {(name, k): np.full(size[name], name in ends.inputs) for name, k in stages}
    backward = {(name, k): np.full(size[name], name in ends.outputs) for name, k in stages}
    joins = [(layer, *join) for layer, join in zip(topology.layers, ends.joins, strict=True)]
    loops = any(layer.shape.loops for layer in topology.layers)
    changes = True
    while changes:
        changes = False
        for layer, source, (name, k) in joins:
            units = layer.targets[forward[source][layer.sources]]
            changes |= _mark([forward[name, later] for later in range(k, ends.last[name] + 1)], units)
        for layer, (name, k), target in reversed(joins):
            units = layer.sources[backward[target][layer.targets]]
            changes |= _mark([backward[name, earlier] for earlier in range(k + 1)], units)
        changes &= loops  # without them all is known after one pass in the order of execution
    return forward, backward


def _mark(stages: list[Flags], units: NDArray[np.int64]) -> bool:
    """Mark the units in each of the stages; gives whether any was not marked in the first."""
    changes = not stages[0][units].all()
    for reached in stages:
        reached[units] = True
    return changes
