"""The digest of a topology: equal exactly for equal connections in equal wirings; names do not count.

Version 1 stands for all that a sequence of plain layers can say and never changes. What it cannot say (late entries,
self-loops, groups, several axes, tied layers) has version 2, which takes the layers in their normal order, so that a
traced wiring and one written by hand have the same digest. Design: docs/design/030-wiring.md.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from topostrata import format_1, format_2
from topostrata.axes import Axis, joined_axes
from topostrata.layers import LayerShape
from topostrata.masks import Mask
from topostrata.order import late_entry, normal_order
from topostrata.sharing import owners


def digest(layers: Sequence[LayerShape], masks: Sequence[Mask]) -> str:
    """SHA-256 in hex over the wiring and the cells of every layer."""
    return _digest_1(layers, masks) if beyond_format_1(layers) is None else _digest_2(layers, masks)


def beyond_format_1(layers: Sequence[LayerShape]) -> str | None:
    """The first thing that needs version 2, in words; None where there is none."""
    return next(_beyond_format_1(layers), None)


def _beyond_format_1(layers: Sequence[LayerShape]) -> Iterator[str]:
    late = late_entry(layers)
    if late is not None:
        layer, reader = late
        yield (
            f"a residual stream (layer {layer.name!r} enters {layer.target.name!r} after {reader.name!r} read from it)"
        )
    for k, owner in owners(layers).items():
        yield f"tied layers ({layers[owner].name!r} and {layers[k].name!r})"
    for layer in layers:
        if layer.loops:
            yield f"a self-loop (layer {layer.name!r} reads and enters {layer.source.name!r})"
        if layer.groups > 1:
            yield f"groups (layer {layer.name!r} has {layer.groups})"
        if not all(axis.fixed for axis in layer.tap_axes):
            yield f"taps that are interchangeable (layer {layer.name!r})"
    yield from _axes_beyond_format_1(layers)


def _axes_beyond_format_1(layers: Sequence[LayerShape]) -> Iterator[str]:
    spaces = {space.name: space for layer in layers for space in (layer.source, layer.target)}
    free = Counter(axis.name for space in spaces.values() for axis in space.axes if not axis.fixed)
    for space in spaces.values():
        if len(joined_axes(space.axes)) > 1:
            yield f"several axes (space {space.name!r} has {', '.join(axis.name for axis in space.axes)})"
    for name, count in free.items():
        if count > 1:
            yield f"an axis in several spaces ({name!r})"


def _digest_1(layers: Sequence[LayerShape], masks: Sequence[Mask]) -> str:
    index: dict[str, int] = {}
    for layer in layers:
        index.setdefault(layer.source.name, len(index))
        index.setdefault(layer.target.name, len(index))
    sha = hashlib.sha256(format_1.TOPOLOGY_DIGEST)
    sha.update(struct.pack("<Q", len(layers)))
    for layer, mask in zip(layers, masks, strict=True):
        for space in (layer.source, layer.target):
            sha.update(struct.pack("<QQ?", index[space.name], space.size, space.labelled))
        sha.update(struct.pack("<QQ", layer.taps, mask.nnz))
        sha.update(np.ascontiguousarray(mask.cells, dtype="<i8").data)
    return sha.hexdigest()


def _digest_2(layers: Sequence[LayerShape], masks: Sequence[Mask]) -> str:
    tied = owners(layers)
    spaces: dict[str, int] = {}
    axes: dict[str, int] = {}
    places: dict[int, int] = {}  # the owner of a set of connections -> the first place it has in the order
    sha = hashlib.sha256(format_2.TOPOLOGY_DIGEST)
    sha.update(struct.pack("<Q", len(layers)))
    for place, k in enumerate(normal_order(layers)):
        layer, mask = layers[k], masks[k]
        for space in (layer.source, layer.target):
            sha.update(struct.pack("<Q", spaces.setdefault(space.name, len(spaces))))
            sha.update(_axes(space.axes, axes))
        sha.update(_axes(layer.tap_axes or (Axis("taps", layer.taps, fixed=True),), axes))
        first = places.setdefault(tied.get(k, k), place)
        sha.update(struct.pack("<QQQ", layer.groups, first, mask.nnz))
        sha.update(np.ascontiguousarray(mask.cells, dtype="<i8").data)
    return sha.hexdigest()


def _axes(axes: Sequence[Axis], seen: dict[str, int]) -> bytes:
    """How many axes; for each free one its number from 1 on, for fixed ones 0; and their sizes."""
    joined = joined_axes(axes)
    numbers = [0 if name is None else seen.setdefault(name, len(seen) + 1) for name, _ in joined]
    pairs = (number for pair in zip(numbers, (size for _, size in joined), strict=True) for number in pair)
    return struct.pack(f"<{1 + 2 * len(joined)}Q", len(joined), *pairs)
