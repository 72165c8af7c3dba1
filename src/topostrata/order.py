"""The order of a network's layers: what depends on what, the stages of a space, and one normal order for all writings.

Layers are written in the order of execution. Of that order only this matters: a layer reads its source after the layers
that entered it before, and enters its target after the layers that read it before. Two layers that enter one space, or
that read one, may change places. Self-loops (source = target) depend on nothing and nothing depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from topostrata.axes import Space, joined_axes
from topostrata.layers import LayerShape
from topostrata.sharing import owners


@dataclass(frozen=True, slots=True)
class Stage:
    """The layers (their positions) that enter a space between two reads by other layers, and its self-loops there."""

    entries: tuple[int, ...]
    loops: tuple[int, ...] = ()


def stages(layers: Sequence[LayerShape]) -> dict[str, tuple[Stage, ...]]:
    """The stages of every space that some layer enters.

    The first stage holds the entries before the first read by another layer; it is empty where the space is read before
    anything enters it (the input of a residual stream that no layer of the wiring gives). A self-loop belongs to the
    stage that is open when it comes and neither opens nor closes one.
    """
    open_stages: dict[str, list[tuple[list[int], list[int]]]] = {}
    closed: dict[str, bool] = {}
    for k, layer in enumerate(layers):
        target = open_stages.setdefault(layer.target.name, [])
        if layer.loops:
            if not target:
                target.append(([], []))
            target[-1][1].append(k)
            continue
        if layer.target.name in closed and not target:
            target.append(([], []))
        if not target or closed.pop(layer.target.name, False):
            target.append(([], []))
        target[-1][0].append(k)
        closed[layer.source.name] = True
    return {
        name: tuple(Stage(tuple(entries), tuple(loops)) for entries, loops in of_space)
        for name, of_space in open_stages.items()
        if of_space
    }


def levels(layers: Sequence[LayerShape]) -> tuple[int, ...]:
    """How many layers have to come before each: layers of one level may run side by side.

    A self-loop has the level of the first stage of its space.
    """
    entered: dict[str, int] = {}
    read: dict[str, int] = {}
    first: dict[str, int] = {}  # space -> the level of its first stage
    level_of: list[int] = []
    for layer in layers:
        source, target = layer.source.name, layer.target.name
        if layer.loops:
            level_of.append(-1)
            continue
        level = max(entered.get(source, -1), read.get(target, -1)) + 1
        level_of.append(level)
        read[source] = max(read.get(source, -1), level)
        if target not in read:
            first[target] = level if target not in entered else max(first[target], level)
        entered[target] = max(entered.get(target, -1), level)
    return tuple(
        first.get(layer.target.name, 0) if layer.loops else level for layer, level in zip(layers, level_of, strict=True)
    )


def ranks(layers: Sequence[LayerShape]) -> dict[str, int]:
    """When each space can be matched: the level of its first stage. Spaces whose first stage is empty have none."""
    level = levels(layers)
    rank_of = {}
    for name, (first, *_) in stages(layers).items():
        if first.entries:
            rank_of[name] = max(level[k] for k in first.entries)
    return rank_of


def normal_order(layers: Sequence[LayerShape]) -> tuple[int, ...]:
    """The positions of the layers in the one order that does not depend on names, nor on how the wiring was written.

    By level, then by what surrounds a layer (colours that are refined until they tell no more apart), then by sizes;
    what is still alike (the gates of an LSTM) stays in the order written. The digests of version 2 are taken in this
    order, so it can never change.
    """
    level = levels(layers)
    colour = _colours(layers, level)
    sizes = [
        (tuple(a.size for a in layer.source.axes), tuple(a.size for a in layer.target.axes), layer.taps, layer.groups)
        for layer in layers
    ]
    return tuple(sorted(range(len(layers)), key=lambda k: (level[k], colour[k], sizes[k], k)))


def late_entry(layers: Sequence[LayerShape]) -> tuple[LayerShape, LayerShape] | None:
    """The first layer that enters a space after another layer has read from it, and that reader."""
    read: dict[str, LayerShape] = {}
    for layer in layers:
        if layer.loops:
            continue
        read.setdefault(layer.source.name, layer)
        if layer.target.name in read:
            return layer, read[layer.target.name]
    return None


def _colours(layers: Sequence[LayerShape], level: Sequence[int]) -> list[int]:
    """A number for each layer that is equal where nothing around the layers differs but sizes and names."""
    tied = owners(layers)
    spaces: dict[str, Space] = {}
    for layer in layers:
        spaces.setdefault(layer.source.name, layer.source)
        spaces.setdefault(layer.target.name, layer.target)
    axes = {a.name for s in spaces.values() for a in s.axes if not a.fixed}
    axes |= {a.name for layer in layers for a in layer.tap_axes if not a.fixed}
    of_layer: dict[Any, int] = _ranked(
        {k: (level[k], layer.loops, layer.groups > 1, layer.taps > 1) for k, layer in enumerate(layers)}
    )
    of_space: dict[Any, int] = _ranked({n: tuple(a is None for a, _ in joined_axes(s.axes)) for n, s in spaces.items()})
    of_axis: dict[Any, int] = dict.fromkeys(axes, 0)
    classes = 0
    while (count := len(set(of_layer.values())) + len(set(of_space.values())) + len(set(of_axis.values()))) > classes:
        classes = count
        around: dict[str, list[tuple[int, ...]]] = {name: [] for name in spaces}
        shared: dict[str, list[tuple[int, ...]]] = {name: [] for name in axes}
        for k, layer in enumerate(layers):
            around[layer.source.name].append((0, of_layer[k]))
            around[layer.target.name].append((1, of_layer[k]))
            for place, (axis, _) in enumerate(joined_axes(layer.tap_axes)):
                if axis is not None:
                    shared[axis].append((1, of_layer[k], place))
        for name, space in spaces.items():
            for place, (axis, _) in enumerate(joined_axes(space.axes)):
                if axis is not None:
                    shared[axis].append((0, of_space[name], place))
        of_axis = _ranked({name: (of_axis[name], *sorted(seen)) for name, seen in shared.items()})
        of_space = _ranked(
            {
                name: (of_space[name], *sorted(around[name]), *(of_axis[a] for a, _ in joined_axes(s.axes) if a))
                for name, s in spaces.items()
            }
        )
        of_layer = _ranked(
            {
                k: (
                    of_layer[k],
                    of_space[layer.source.name],
                    of_space[layer.target.name],
                    of_layer[tied[k]] if k in tied else -1,
                    *(of_axis[a] for a, _ in joined_axes(layer.tap_axes) if a),
                )
                for k, layer in enumerate(layers)
            }
        )
    return [of_layer[k] for k in range(len(layers))]


def _ranked(signatures: dict[Any, Any]) -> dict[Any, int]:
    """Each signature by its place among the different ones: the same numbers however things are named."""
    place = {signature: k for k, signature in enumerate(sorted(set(signatures.values()), key=repr))}
    return {name: place[signature] for name, signature in signatures.items()}
