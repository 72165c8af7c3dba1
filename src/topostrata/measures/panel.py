"""The structure panel: the measures that papers print of sparse networks, of one snapshot.

docs/measures.md has each with its formula, its source, and what it is on published networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from topostrata.copies import degree_kept
from topostrata.errors import InvalidInputError
from topostrata.measures.degrees import PowerLaw, assortativity, correlation, power_law, variation
from topostrata.measures.paths import effective_part, effective_paths
from topostrata.measures.spectra import Ramanujan, ramanujan
from topostrata.runs import Snapshot
from topostrata.topology import Layer, Topology

MOST_COPIES = 1000
_MOST_DIGITS = 4000  # of a count of paths; Python does not print numbers much longer


@dataclass(frozen=True, slots=True)
class NullLevel:
    """A measure on degree-kept copies: its mean and the standard deviation of single copies.

    Both are ``None`` where a copy has no such value or it is beyond a float, the deviation also for one copy.
    """

    mean: float | None
    std: float | None


@dataclass(frozen=True, slots=True)
class SpaceMeasures:
    """The units of a space; ``effective`` of them lie on a path from an input of the network to one of its outputs."""

    name: str
    size: int
    effective: int


@dataclass(frozen=True, slots=True)
class LayerMeasures:
    """The measures of one layer; tied layers are one, named by the first of them.

    ``active_rate`` is the share of its source units that have a connection. ``explored``, the in-time
    over-parameterisation, is the share of its possible connections that were alive at some snapshot of the run so far.
    ``null`` has the level of each number on degree-kept copies by its name, those of parts as ``ramanujan.gap``.
    """

    name: str
    connections: int
    active_rate: float
    effective_connections: int
    fan_in_cv: float | None
    fan_out_cv: float | None
    assortativity: float | None
    fan_in_power_law: PowerLaw | None
    fan_out_power_law: PowerLaw | None
    ramanujan: Ramanujan | None = None
    explored: float | None = None
    null: Mapping[str, NullLevel] | None = None


@dataclass(frozen=True, slots=True)
class Measures:
    """The measures of one snapshot: those of the whole network, of its spaces and of its layers.

    ``active_rate`` is the share of units that have a connection: an output, or in a space that no layer reads an input.
    ``fan_in_cv``, ``fan_out_cv`` and ``assortativity`` are those of the units of all spaces together, each with its
    connections from and to all layers that enter and read its space.
    ``effective_paths`` counts the paths from inputs to outputs; it may have hundreds of digits, and
    ``effective_paths_log10`` is its logarithm (``None`` for no path). ``refused`` says by name which measures this
    network has not, and why. ``null`` is as in ``LayerMeasures``, over ``copies`` copies from ``seed`` on.
    """

    connections: int
    active_rate: float
    effective_connections: int
    effective_units: int
    effective_paths: int | None
    effective_paths_log10: float | None
    spaces: tuple[SpaceMeasures, ...]
    layers: tuple[LayerMeasures, ...]
    refused: Mapping[str, str]
    fan_in_cv: float | None = None
    fan_out_cv: float | None = None
    assortativity: float | None = None
    explored: float | None = None
    copies: int = 0
    seed: int = 0
    null: Mapping[str, NullLevel] | None = None


def measure(topology: Topology, *, null: int = 0, seed: int = 0, spectra: bool = True) -> Measures:
    """The structure panel of a topology: per layer and for the whole network.

    ``null`` degree-kept copies are measured beside it, copy k being ``degree_kept(topology, seed + k)``: what differs
    from them is not a matter of degrees. Without ``spectra`` the Ramanujan gaps, which take the longest, are left out.

    Raises ``InvalidInputError`` where ``null`` is not 0 to 1000 or ``seed`` is below 0.

    >>> measured = measure(Topology.from_masks([[[1, 1, 0], [1, 0, 0]], [[1], [1], [1]]]))
    >>> measured.effective_paths, measured.effective_units, measured.active_rate
    (3, 5, 1.0)
    >>> [(layer.name, layer.effective_connections, layer.fan_in_cv) for layer in measured.layers]
    [('l0', 3, 0.816496580927726), ('l1', 2, 0.0)]
    """
    if not 0 <= null <= MOST_COPIES or seed < 0:
        raise InvalidInputError(
            f"measures: expected 0 to {MOST_COPIES} copies and a seed of 0 or above, found {null} and {seed}"
        )
    measured = _measured(topology, spectra=spectra)
    if not null:
        return measured
    copies = [_measured(degree_kept(topology, seed + k), spectra=spectra) for k in range(null)]
    layers = tuple(
        replace(layer, null=_levels([copy.layers[k] for copy in copies])) for k, layer in enumerate(measured.layers)
    )
    return replace(measured, layers=layers, copies=null, seed=seed, null=_levels(copies))


def over_run(measured: Measures, explored: Mapping[str, float], total: float) -> Measures:
    """The measures with the in-time over-parameterisation of each layer, and of all layers together.

    Source: Liu et al., "Do we actually need dense over-parameterization?" (ICML 2021).
    """
    layers = tuple(replace(layer, explored=explored[layer.name]) for layer in measured.layers)
    return replace(measured, layers=layers, explored=total)


def as_metrics(measured: Measures) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The numbers of the network and of each layer by their names, as ``archive.push`` takes metrics.

    Those of parts as ``ramanujan_gap``. The count of paths is left out, which may be beyond a float; its logarithm is
    there.

    >>> of_network, of_layers = as_metrics(measure(Topology.from_masks([[[1, 1], [0, 1]]])))
    >>> of_network["active_rate"], of_layers["l0"]["effective_connections"]
    (1.0, 3.0)
    """

    def numbers(measured: Any) -> dict[str, float]:
        values = _numbers(measured).items()
        return {
            name.replace(".", "_"): float(value)
            for name, value in values
            if value is not None and name != "effective_paths" and math.isfinite(value)
        }

    return numbers(measured), {layer.name: numbers(layer) for layer in measured.layers}


def new_metrics(measured: Measures, snapshot: Snapshot) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Those of ``as_metrics`` that the snapshot and its layers have not yet, and only layers with some."""
    of_network, of_layers = as_metrics(measured)

    def new(numbers: dict[str, float], recorded: Mapping[str, float]) -> dict[str, float]:
        return {name: value for name, value in numbers.items() if name not in recorded}

    left = {layer: new(numbers, snapshot.layer_metrics.get(layer, {})) for layer, numbers in of_layers.items()}
    return new(of_network, snapshot.metrics), {layer: numbers for layer, numbers in left.items() if numbers}


def _measured(topology: Topology, *, spectra: bool) -> Measures:
    part = effective_part(topology)
    owners = [layer for layer in topology.layers if layer.name not in topology.wiring.shared_with]
    layers = tuple(
        _of_layer(layer, int(np.count_nonzero(part.connections[layer.name])), spectra=spectra) for layer in owners
    )
    spaces = tuple(
        SpaceMeasures(space.name, space.size, int(np.count_nonzero(part.units[space.name])))
        for space in topology.spaces
    )
    refused: dict[str, str] = {}
    paths, digits = None, None
    try:
        paths = effective_paths(topology)
        digits = math.log10(paths) if paths else None
    except InvalidInputError as error:
        refused["effective_paths"] = error.message
    if digits is not None and digits >= _MOST_DIGITS:
        paths = None
        refused["effective_paths"] = (
            f"effective paths: expected a number of at most {_MOST_DIGITS} digits, found one of {int(digits) + 1}: "
            "ts.effective_paths gives it"
        )
    return Measures(
        topology.nnz,
        _active_rate(topology),
        sum(layer.effective_connections for layer in layers),
        sum(space.effective for space in spaces),
        paths,
        digits,
        spaces,
        layers,
        refused,
        *_whole_degrees(topology),
    )


def _whole_degrees(topology: Topology) -> tuple[float | None, float | None, float | None]:
    """Fan-in CV over the units of spaces that are entered, fan-out CV over those that are read, and assortativity.

    Tied layers count in each of their places, where their connections are inputs and outputs of other units.
    """
    into = {layer.target.name: np.zeros(layer.target.size, dtype=np.int64) for layer in topology.layers}
    out = {layer.source.name: np.zeros(layer.source.size, dtype=np.int64) for layer in topology.layers}
    for layer in topology.layers:
        into[layer.target.name] += layer.fan_in
        out[layer.source.name] += layer.fan_out
    ends = [
        (out[layer.source.name][layer.sources], into[layer.target.name][layer.targets]) for layer in topology.layers
    ]
    fan_out, fan_in = (np.concatenate(side) for side in zip(*ends, strict=True))
    return (
        variation(np.concatenate(list(into.values()))),
        variation(np.concatenate(list(out.values()))),
        correlation(fan_out, fan_in),
    )


def _of_layer(layer: Layer, effective: int, *, spectra: bool) -> LayerMeasures:
    fan_in, fan_out = layer.fan_in, layer.fan_out
    return LayerMeasures(
        layer.name,
        layer.nnz,
        int(np.count_nonzero(fan_out)) / layer.source.size,
        effective,
        variation(fan_in),
        variation(fan_out),
        assortativity(layer),
        power_law(fan_in),
        power_law(fan_out),
        ramanujan(layer) if spectra else None,
    )


def _active_rate(topology: Topology) -> float:
    """As CHT's training logs count: units with an output in the spaces that are read, with an input in the others."""
    read = {layer.source.name for layer in topology.layers}
    active = {space.name: np.zeros(space.size, dtype=bool) for space in topology.spaces}
    for layer in topology.layers:
        active[layer.source.name] |= layer.fan_out > 0
        if layer.target.name not in read:
            active[layer.target.name] |= layer.fan_in > 0
    units = sum(space.size for space in topology.spaces)
    return sum(int(np.count_nonzero(flags)) for flags in active.values()) / units


def _levels(copies: Sequence[Any]) -> dict[str, NullLevel]:
    """The level of every number that the measured copies have."""
    numbers = [_numbers(copy) for copy in copies]
    names = dict.fromkeys(name for values in numbers for name in values)
    return {name: _level([values.get(name) for values in numbers]) for name in names}


def _numbers(measured: Any) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for field in fields(measured):
        value = getattr(measured, field.name)
        if isinstance(value, PowerLaw | Ramanujan):
            values |= {f"{field.name}.{name}": number for name, number in _numbers(value).items()}
        elif isinstance(value, int | float) and field.name not in {"copies", "seed"}:
            values[field.name] = value
    return values


def _level(values: Sequence[float | None]) -> NullLevel:
    numbers = [value for value in values if value is not None]
    try:
        mean = math.fsum(numbers) / len(values) if len(numbers) == len(values) else None
    except OverflowError:
        mean = None
    if mean is None or len(numbers) == 1:
        return NullLevel(mean, None)
    return NullLevel(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1)))
