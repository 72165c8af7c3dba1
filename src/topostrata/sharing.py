"""Tied layers: one set of connections that stands in several places of a network, such as a tied embedding.

Which layers are tied follows from their parts: the same part of the same parameter. It is counted, stored and drawn
once, with the layer that comes first, its *owner*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topostrata.axes import joined_axes
from topostrata.errors import InvalidTopologyError
from topostrata.layers import LayerShape, Range
from topostrata.masks import Cells, Mask


def owners(layers: Sequence[LayerShape]) -> dict[int, int]:
    """For each tied layer (its position) the one that owns its connections.

    Raises ``InvalidTopologyError`` where parts of one parameter overlap without being the same part.
    """
    by_parameter: dict[str, list[int]] = {}
    for k, layer in enumerate(layers):
        if layer.part is not None:
            by_parameter.setdefault(layer.part.parameter, []).append(k)
    tied: dict[int, int] = {}
    for parameter, positions in by_parameter.items():
        if len(positions) > 1:
            tied.update(_tied(layers, parameter, positions))
    return tied


def tied_mask(owner: LayerShape, layer: LayerShape, mask: Mask) -> Mask:
    """The mask of a tied layer, given its owner's: the same, or turned around where it reads the parameter so.

    >>> from topostrata.axes import Space
    >>> from topostrata.layers import Part
    >>> tokens, logits = Space("tokens", 3, labelled=True), Space("logits", 3, labelled=True)
    >>> stream = Space("stream", 2)
    >>> embed = LayerShape("embed", tokens, stream, part=Part("wte", orientation="in-out"))
    >>> head = LayerShape("head", stream, logits, part=Part("wte", orientation="out-in"))
    >>> np.asarray(tied_mask(embed, head, Mask(3, 2, np.array([0, 4])))).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0]]
    """
    if _turned(owner) == _turned(layer):
        return Mask(layer.local_sources, layer.target.size, mask.cells, layer.taps)
    cells = layer.cells_of(mask.targets, mask.sources, mask.tap_indices)
    return Mask(layer.local_sources, layer.target.size, np.sort(cells), layer.taps)


def tied_units(owner: LayerShape, layer: LayerShape, mask: Mask) -> tuple[Cells, Cells]:
    """The source and the target unit that each of the owner's connections has in a tied layer, in the owner's order."""
    if _turned(owner) == _turned(layer):
        sources, targets, _ = layer.units_of(mask.cells)
        return sources, targets
    return mask.targets, mask.sources


def _tied(layers: Sequence[LayerShape], parameter: str, positions: list[int]) -> dict[int, int]:
    first: dict[tuple[Range, Range], int] = {}
    tied: dict[int, int] = {}
    parts = [layers[k].part for k in positions]
    if len({part is None or part.orientation is None for part in parts}) > 1:
        raise InvalidTopologyError(
            f"layer {layers[positions[-1]].name!r}: expected an orientation in every part of {parameter!r} or in none"
        )
    for k in positions:
        region = _region(layers[k])
        owner = first.setdefault(region, k)
        if owner != k:
            _check_alike(layers[owner], layers[k], parameter)
            tied[k] = owner
    regions = sorted(first)
    # Sorted by rows, only parts that begin before the end of the last can overlap; few parts of one parameter do.
    for at, (rows, columns) in enumerate(regions):
        for other_rows, other_columns in regions[at + 1 :]:
            if other_rows[0] >= rows[1]:
                break
            if other_columns[0] < columns[1] and columns[0] < other_columns[1]:
                name, other = (layers[first[r]].name for r in ((rows, columns), (other_rows, other_columns)))
                raise InvalidTopologyError(
                    f"layers {name!r} and {other!r}: expected parts of {parameter!r} that are the same or apart, "
                    f"found rows {rows}, columns {columns} and rows {other_rows}, columns {other_columns}"
                )
    return tied


def _region(layer: LayerShape) -> tuple[Range, Range]:
    """The rows and columns of the stored parameter."""
    part = layer.part
    assert part is not None  # noqa: S101 - only layers with parts are asked
    targets = part.targets or (0, layer.target.size)
    return (targets, layer.source_keys) if _turned(layer) else (layer.source_keys, targets)


def _turned(layer: LayerShape) -> bool:
    return layer.part is not None and layer.part.orientation == "out-in"


def _check_alike(owner: LayerShape, layer: LayerShape, parameter: str) -> None:
    turned = _turned(owner) != _turned(layer)
    ends, expected = (layer.source, layer.target), (owner.source, owner.target)
    if turned:
        expected = expected[::-1]
    alike = all(joined_axes(end.axes) == joined_axes(other.axes) for end, other in zip(ends, expected, strict=True))
    orders = [shape.part.order for shape in (owner, layer) if shape.part is not None]
    shapes = [(shape.taps, shape.groups, joined_axes(shape.tap_axes)) for shape in (owner, layer)]
    if not alike or shapes[0] != shapes[1] or orders[0] != orders[1] or (turned and owner.groups > 1):
        raise InvalidTopologyError(
            f"layer {layer.name!r}: expected the same part of {parameter!r} as layer {owner.name!r} with the same axes "
            f"({expected[0]} -> {expected[1]}, {owner.taps} taps, no groups where it is turned around), "
            f"found {ends[0]} -> {ends[1]}, {layer.taps} taps, {layer.groups} groups"
        )
