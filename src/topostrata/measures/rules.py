"""Whether a network still keeps to what it was made for: a mask, an N:M pattern, a density, equal fan-in, no collapse.

A pipeline that fine-tunes, merges an adapter or exports may fill a mask, or thin it out, without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np

from topostrata.distance.chosen import Choice, Layers
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.layers import Layer
from topostrata.masks import Cells
from topostrata.measures.paths import effective_part
from topostrata.topology import Topology

_LARGEST_GROUP = 1024


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """One rule that one layer breaks; ``layer`` is None where it is the whole network that does.

    ``count`` says how often, ``source``, ``target`` and ``tap`` where first: a unit alone has no source.
    """

    rule: str
    layer: str | None
    expected: str
    found: str
    count: int
    source: int | None = None
    target: int | None = None
    tap: int | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check saw: the ``rules`` that were looked at in these ``layers``, and those that were ``broken``."""

    rules: tuple[str, ...]
    layers: tuple[str, ...]
    broken: tuple[BrokenRule, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule is broken."""
        return not self.broken


def check(
    topology: Topology,
    *,
    same_as: Topology | None = None,
    within: Topology | None = None,
    pattern: str | None = None,
    density: float | None = None,
    constant_fan_in: bool = False,
    no_collapse: bool = False,
    layers: Layers = None,
) -> Checked:
    """Look whether a network keeps to rules; each layer that breaks one is named, with the first place where it does.

    - ``same_as``: it has the connections of that network, unit by unit; ``within``: none that this network has not.
      Layers correspond by their names, else by their order.
    - ``pattern``, such as ``"2:4"``: of 4 neighbouring inputs of a unit, the first of them a multiple of 4, at most 2
      are connected; in kernels at each tap, along the sources. A rest of fewer than 4 is a group, too.
    - ``density``: its connections are at most this share of the possible ones, rounded up in each layer.
    - ``constant_fan_in``: units of a layer that have inputs have equally many.
    - ``no_collapse``: each layer has a connection on a path from the inputs of the network to its outputs.

    ``layers`` are those that are looked at, all by default: names, globs, ``"sparse"`` for those that are not full.
    Tied layers are one, named by the first. Raises ``InvalidInputError`` where no rule is stated or one cannot be.

    Sources: Mishra et al., "Accelerating sparse deep neural networks" (2021), for N:M; Lasby et al., "Dynamic sparse
    training with structured sparsity" (2024), for constant fan-in; Tanaka et al., "Pruning neural networks without any
    data" (2020), for collapse.

    >>> t = Topology.from_masks([[[1, 1], [1, 0], [1, 0], [0, 1]], [[1], [1]]])
    >>> [(rule.layer, rule.found, rule.target) for rule in check(t, pattern="2:4").broken]
    [('l0', '3 of 4', 0)]
    """
    if density is not None and not 0 <= density <= 1:
        raise InvalidInputError(f"density: expected a share from 0 to 1, found {density}")
    rules: dict[str, Callable[[list[Layer]], Iterator[BrokenRule]]] = {}
    if same_as is not None:
        rules["same as"] = partial(_unlike, topology, same_as, "same as")
    if within is not None:
        rules["within"] = partial(_unlike, topology, within, "within")
    if pattern is not None:
        rules[f"pattern {pattern}"] = partial(_off_pattern, *_parsed(pattern))
    if density is not None:
        rules[f"density {density:g}"] = partial(_denser, density)
    if constant_fan_in:
        rules["constant fan-in"] = _uneven
    if no_collapse:
        rules["no collapse"] = partial(_collapsed, topology)
    if not rules:
        raise InvalidInputError(
            "check: expected a rule, found none",
            hint="say one or more of same_as, within, pattern, density, constant_fan_in, no_collapse",
        )
    own = [layer for layer in topology.layers if layer.name not in topology.wiring.shared_with]
    rows = Choice.of(layers).rows([layer.name for layer in own], [layer.nnz == layer.shape.possible for layer in own])
    chosen = [own[k] for k in rows]
    broken = tuple(fault for look in rules.values() for fault in look(chosen))
    return Checked(tuple(rules), tuple(layer.name for layer in chosen), broken)


def _parsed(pattern: str) -> tuple[int, int]:
    """N and M of ``"N:M"``."""
    if (numbers := re.fullmatch(r"([0-9]{1,4}):([0-9]{1,4})", pattern)) is not None:
        most, group = map(int, numbers.groups())
        if most <= group and 1 <= group <= _LARGEST_GROUP:
            return most, group
    raise InvalidInputError(f"pattern: expected N:M with N <= M <= {_LARGEST_GROUP}, such as 2:4, found {pattern!r}")


def _unlike(topology: Topology, model: Topology, rule: str, layers: list[Layer]) -> Iterator[BrokenRule]:
    """Layers that have not the connections of their counterparts, or with ``within`` some that these have not."""
    partners = _partners(topology, model)
    for layer in layers:
        other = partners[layer.name]
        if _size(layer) != _size(other):
            yield BrokenRule(rule, layer.name, _size(other), _size(layer), 1)
            continue
        more = np.setdiff1d(layer.mask.cells, other.mask.cells, assume_unique=True)
        less = np.setdiff1d(other.mask.cells, layer.mask.cells, assume_unique=True) if rule != "within" else more[:0]
        if more.size or less.size:
            parts = [f"{cells.size} {word}" for cells, word in ((more, "more"), (less, "missing")) if cells.size]
            first = np.sort(np.concatenate([more[:1], less[:1]]))[:1]
            yield _at(rule, layer, first, f"{other.nnz} connections", ", ".join(parts), more.size + less.size)


def _partners(topology: Topology, model: Topology) -> dict[str, Layer]:
    """For each layer its counterpart: by name where all have one, else by the order of execution."""
    names = [layer.name for layer in topology.layers]
    if all(name in model for name in names):
        return {name: model[name] for name in names}
    try:
        partners = topology.wiring.counterparts(model.wiring)
    except NotComparableError as error:
        raise NotComparableError(
            f"check: expected a network of the same layers, {error.message}", hint=error.hint
        ) from error
    return {name: model.layers[k] for name, k in zip(names, partners, strict=True)}


def _off_pattern(most: int, group: int, layers: list[Layer]) -> Iterator[BrokenRule]:
    for layer in layers:
        mask = layer.mask
        groups = -(-mask.n_source // group)
        numbers = (mask.targets * mask.taps + mask.tap_indices) * groups + mask.sources // group
        _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
        if (over := np.flatnonzero(counts > most)).size:
            # Of the groups that are too full, the one whose first connection comes first.
            at = over[np.argmin(first[over])]
            cell, found = mask.cells[first[at] : first[at] + 1], f"{counts[at]} of {group}"
            yield _at(f"pattern {most}:{group}", layer, cell, f"at most {most} of {group}", found, int(over.size))


def _denser(density: float, layers: list[Layer]) -> Iterator[BrokenRule]:
    most = sum(ceil(round(density * layer.shape.possible, 6)) for layer in layers)
    connections, possible = sum(layer.nnz for layer in layers), sum(layer.shape.possible for layer in layers)
    if connections > most:
        densest = max(layers, key=lambda layer: layer.density)
        yield BrokenRule(
            f"density {density:g}",
            None,
            f"at most {most} connections",
            f"{connections}, a density of {connections / possible:.4g}; the densest layer is {densest.name!r} with "
            f"{densest.density:.4g}",
            connections - most,
        )


def _uneven(layers: list[Layer]) -> Iterator[BrokenRule]:
    for layer in layers:
        fan_in = layer.mask.fan_in
        units = np.bincount(fan_in[fan_in > 0], minlength=1)
        usual = int(units.argmax())
        others = np.flatnonzero((fan_in > 0) & (fan_in != usual))
        if others.size:
            yield BrokenRule(
                "constant fan-in",
                layer.name,
                f"{usual} inputs, as {units[usual]} units have",
                f"{fan_in[others[0]]}",
                int(others.size),
                target=int(others[0]),
            )


def _collapsed(topology: Topology, layers: list[Layer]) -> Iterator[BrokenRule]:
    on_path = effective_part(topology).connections
    for layer in layers:
        if not on_path[layer.name].any():
            found = f"none of its {layer.nnz}" if layer.nnz else "no connection"
            yield BrokenRule("no collapse", layer.name, "a connection on a path from inputs to outputs", found, 1)


def _at(rule: str, layer: Layer, cell: Cells, expected: str, found: str, count: int) -> BrokenRule:
    """A rule that is broken first at a connection."""
    source, target, tap = (int(index[0]) for index in layer.shape.units_of(cell))
    return BrokenRule(rule, layer.name, expected, found, count, source, target, tap)


def _size(layer: Layer) -> str:
    shape = layer.shape
    return f"{shape.source.size} -> {shape.target.size} units, {shape.taps} taps, {shape.groups} groups"
