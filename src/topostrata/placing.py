"""Arrays put in their places: the masks of a wiring's layers, cut out of the parameters in which they are stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidTopologyError
from topostrata.layers import TAPS, LayerShape, Part
from topostrata.masks import Mask
from topostrata.matrices import Entries, Orientation, check_words, entries
from topostrata.sharing import owners, tied_mask
from topostrata.words import Zeros

Ints = NDArray[np.int64]

_LISTED = 8


def place(
    layers: Sequence[LayerShape], arrays: Mapping[str, Any], *, orientation: Orientation, zeros: Zeros | None
) -> list[Mask]:
    """The mask of each layer, from arrays by the name of a parameter, or masks by the name of a layer.

    Raises ``InvalidTopologyError`` where a layer has none, an array is left over or has another shape than expected, or
    a part of a parameter belongs to no layer.
    """
    check_words(orientation=orientation, zeros=zeros, kernels=True)
    tied = owners(layers)
    keys = [_key(layer, arrays, tied=k in tied) for k, layer in enumerate(layers)]
    _check_names(layers, arrays, keys)
    parameters: dict[str, Entries] = {}
    masks: list[Mask] = []
    for k, (layer, key) in enumerate(zip(layers, keys, strict=True)):
        if key is None:
            masks.append(tied_mask(layers[tied[k]], layer, masks[tied[k]]))
            continue
        matrix = arrays[key]
        if isinstance(matrix, Mask):
            masks.append(_whole_mask(layer, matrix))
            continue
        if key not in parameters:
            parameters[key] = _entries(layer, key, matrix, zeros)
        masks.append(_cut(layer, key, parameters[key], orientation))
    _check_covered(layers, keys, parameters)
    return masks


def _key(layer: LayerShape, arrays: Mapping[str, Any], *, tied: bool) -> str | None:
    """The name under which the layer's connections are looked up; None where its owner has them."""
    if isinstance(arrays.get(layer.name), Mask):
        return layer.name
    key = layer.name if layer.part is None else layer.part.parameter
    whole = isinstance(arrays.get(key), Mask)  # a layer has the name of the parameter, and its mask is that layer's own
    return None if tied and (whole or key not in arrays) else key


def _whole_mask(layer: LayerShape, mask: Mask) -> Mask:
    if not layer.accepts(mask):
        raise InvalidTopologyError(
            f"layer {layer.name!r}: expected a mask of {layer.local_sources} x {layer.target.size} units and "
            f"{layer.taps} taps, found {mask.n_source} x {mask.n_target} and {mask.taps}"
        )
    return mask


def _entries(layer: LayerShape, key: str, matrix: Any, zeros: Zeros | None) -> Entries:
    try:
        return entries(matrix, zeros=zeros)
    except InvalidTopologyError as error:
        raise InvalidTopologyError(f"{_at(layer, key)}: {error.message}", hint=error.hint) from None


def _cut(layer: LayerShape, key: str, stored: Entries, orientation: Orientation) -> Mask:
    """The layer's own part of a parameter, as cells."""
    part = layer.part or Part(key)
    orientation = part.orientation or orientation
    keys, targets = _keys(layer, key, stored, part, orientation)
    inside = np.ones(keys.shape, dtype=bool)
    if part.sources is not None:
        first, beyond = layer.source_keys
        inside &= (keys >= first) & (keys < beyond)
        keys = keys - first
    if part.targets is not None:
        inside &= (targets >= part.targets[0]) & (targets < part.targets[1])
        targets = targets - part.targets[0]
    keys, targets = keys[inside], targets[inside]
    if part.order:
        keys = _keys_in_order(layer, part)[keys]
    cells = np.sort(targets * (layer.local_sources * layer.taps) + keys)
    return Mask(layer.local_sources, layer.target.size, cells, layer.taps)


def _keys(layer: LayerShape, key: str, stored: Entries, part: Part, orientation: Orientation) -> tuple[Ints, Ints]:
    """Keys and targets of all entries, counted in the whole parameter."""
    indices, shape = stored
    if len(shape) == 2:
        expected = _dims(layer, part, taps=layer.taps, shape=shape, orientation=orientation)
        _check_shape(layer, key, expected, shape, orientation)
        sources, targets = indices[::-1] if orientation == "out-in" else indices
        return sources, targets
    kernel = shape[:-2] if orientation == "hwio" else shape[2:]
    expected = _dims(layer, part, taps=1, shape=shape, orientation=orientation)
    _check_shape(layer, key, expected, shape, orientation)
    if part.order:
        raise InvalidTopologyError(
            f"{_at(layer, key)}: expected a matrix, as its part has an order, found shape {shape}"
        )
    at = indices[:-2] if orientation == "hwio" else indices[2:]
    taps = np.ravel_multi_index(at, kernel) if at else np.zeros(0, dtype=np.int64)
    sources, targets = indices[-2:] if orientation == "hwio" else indices[:2]
    if orientation == "out-in":
        sources, targets = targets, sources
    elif orientation == "in-out" and layer.groups > 1:  # a transposed convolution: its targets are those of one group
        targets = targets + sources // layer.local_sources * (layer.target.size // layer.groups)
        sources = sources % layer.local_sources
    return sources * layer.taps + taps, targets


def _dims(
    layer: LayerShape, part: Part, *, taps: int, shape: tuple[int, ...], orientation: Orientation
) -> tuple[int | str, ...]:
    """The expected shape; ``>= n`` where the layer is a part of a longer dimension."""
    n_source, n_target = layer.local_sources * taps, layer.target.size
    if len(shape) > 2 and orientation == "in-out":
        n_source, n_target = layer.source.size, layer.target.size // layer.groups
    beyond = layer.source_keys[1] * taps // layer.taps
    sources: int | str = n_source if part.sources is None else f">= {beyond}"
    targets: int | str = n_target if part.targets is None else f">= {part.targets[1]}"
    ends = (targets, sources) if orientation == "out-in" else (sources, targets)
    if len(shape) == 2:
        return ends
    kernel = shape[:-2] if orientation == "hwio" else shape[2:]
    exact: tuple[int | str, ...] = kernel if math.prod(kernel) == layer.taps else (f"{layer.taps} taps",)
    return (*exact, *ends) if orientation == "hwio" else (*ends, *exact)


def _check_shape(
    layer: LayerShape, key: str, expected: tuple[int | str, ...], shape: tuple[int, ...], orientation: Orientation
) -> None:
    fits = len(shape) > 1 and len(expected) == len(shape)
    for dim, size in zip(expected, shape, strict=False):
        if isinstance(dim, str):
            fits &= dim.startswith(">=") and size >= int(dim.removeprefix(">= "))
        else:
            fits &= dim == size
    if fits:
        return
    turned = (
        orientation != "hwio" and len(shape) == 2 and all(a == b for a, b in zip(expected, shape[::-1], strict=True))
    )
    other = "in-out" if orientation == "out-in" else "out-in"
    ends = (layer.source.name, layer.target.name)
    spaces = " x ".join(ends[::-1] if orientation == "out-in" else ends)
    raise InvalidTopologyError(
        f"{_at(layer, key)}: expected shape ({', '.join(map(str, expected))}) ({orientation}: {spaces}), found {shape}",
        hint=f"it fits turned around: orientation={other!r}" if turned else None,
    )


def _keys_in_order(layer: LayerShape, part: Part) -> Ints:
    """For each place in the stored source dimension the key ``source * taps + tap`` that lies there."""
    sizes = {axis.name: axis.size for axis in (*layer.source.axes, *layer.tap_axes)}
    if not layer.tap_axes and layer.taps > 1:
        sizes[TAPS] = layer.taps
    natural = np.arange(layer.local_sources * layer.taps).reshape(tuple(sizes.values()))
    names = list(sizes)
    return natural.transpose([names.index(name) for name in part.order]).reshape(-1)


def _check_names(layers: Sequence[LayerShape], arrays: Mapping[str, Any], keys: Sequence[str | None]) -> None:
    missing = [
        repr(layer.name) if key == layer.name else f"{layer.name!r} (parameter {key!r})"
        for layer, key in zip(layers, keys, strict=True)
        if key is not None and key not in arrays
    ]
    left = [repr(name) for name in arrays if name not in set(keys)]
    if missing or left:
        raise InvalidTopologyError(
            "expected an array for each layer of the wiring and none besides, "
            f"missing {_some(missing)}, left over {_some(left)}"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) + more) or "none"


def _check_covered(layers: Sequence[LayerShape], keys: Sequence[str | None], parameters: Mapping[str, Entries]) -> None:
    """Every entry of a parameter belongs to a layer: parts are the same or apart, so their sizes add up to its size."""
    covered: dict[str, set[tuple[Any, Any, int]]] = {}
    for layer, key in zip(layers, keys, strict=True):
        part = layer.part
        if key is not None and key in parameters and part is not None and (part.sources or part.targets):
            ends = (part.sources or (0, 0), part.targets or (0, 0))
            region = ends[::-1] if part.orientation == "out-in" else ends
            covered.setdefault(key, set()).add((*region, layer.possible))
    for key, regions in covered.items():
        size, total = math.prod(parameters[key].shape), sum(possible for *_, possible in regions)
        if total != size:
            raise InvalidTopologyError(
                f"parameter {key!r}: expected parts that make up all its {size} entries "
                f"(shape {parameters[key].shape}), found parts of {total}",
                hint="name the layer that the rest belongs to",
            )


def _at(layer: LayerShape, key: str) -> str:
    return f"layer {layer.name!r}" if key == layer.name else f"layer {layer.name!r} (parameter {key!r})"
