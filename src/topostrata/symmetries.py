"""The symmetries of a wiring: which units can change places, and the masks after they have.

A free axis can be put in any order, in all spaces and taps that have it at once. Where another free axis stands before
it in each of them (heads before dims), its order may differ at each index of that one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from topostrata.axes import Axis
from topostrata.errors import InvalidInputError
from topostrata.layers import LayerShape
from topostrata.masks import Mask

Permutations = Mapping[str, NDArray[np.int64]]


def within(layers: Sequence[LayerShape]) -> dict[str, tuple[Axis, ...]]:
    """For each free axis the free axes at each of whose indices it may be ordered differently, outermost first.

    >>> from topostrata.axes import Space
    >>> heads, dims = Axis("heads", 2), Axis("dims", 3)
    >>> v = LayerShape("v", Space("x", 4), Space("v", [heads, dims]))
    >>> {name: [a.name for a in outer] for name, outer in within([v]).items()}
    {'x': [], 'heads': [], 'dims': ['heads']}
    """
    outer_axes: dict[str, tuple[Axis, ...]] = {}
    for axes in _contexts(layers):
        free = [axis for axis in axes if not axis.fixed]
        for k, axis in enumerate(free):
            outer = outer_axes.setdefault(axis.name, tuple(free[:k]))
            outer_axes[axis.name] = tuple(a for a in outer if a in free[:k])
    return outer_axes


def relabelled(layers: Sequence[LayerShape], masks: Sequence[Mask], permutations: Permutations) -> list[Mask]:
    """The masks after the units changed places: index j of an axis goes to ``permutations[axis][j]``.

    An axis that is not named stays as it is. An array of shape (size,) moves it everywhere alike; one of shape
    (n1, ..., size), with the sizes of the axes that ``within`` names, differently at each of their (old) indices.
    Raises ``InvalidInputError`` where an array is no such permutation.
    """
    outer = within(layers)
    _check(layers, outer, permutations)
    maps: dict[tuple[Axis, ...], NDArray[np.int64]] = {}

    def units(axes: tuple[Axis, ...]) -> NDArray[np.int64]:
        if axes not in maps:
            maps[axes] = _moved(axes, outer, permutations)
        return maps[axes]

    moved = []
    for layer, mask in zip(layers, masks, strict=True):
        sources, targets, taps = layer.units_of(mask.cells)
        if layer.tap_axes:
            sources, taps = np.divmod(
                units((*layer.source.axes, *layer.tap_axes))[sources * layer.taps + taps], layer.taps
            )
        else:
            sources = units(layer.source.axes)[sources]
        cells = layer.cells_of(sources, units(layer.target.axes)[targets], taps)
        moved.append(Mask(mask.n_source, mask.n_target, np.sort(cells), mask.taps))
    return moved


def _contexts(layers: Sequence[LayerShape]) -> Iterator[tuple[Axis, ...]]:
    """All the rows of axes in which an axis stands: those of the spaces, and of sources with their taps."""
    for layer in layers:
        yield layer.source.axes
        yield layer.target.axes
        if layer.tap_axes:
            yield (*layer.source.axes, *layer.tap_axes)


def _moved(
    axes: tuple[Axis, ...], outer: Mapping[str, tuple[Axis, ...]], permutations: Permutations
) -> NDArray[np.int64]:
    """The new place of each unit of a product of axes."""
    sizes = tuple(axis.size for axis in axes)
    old = np.unravel_index(np.arange(math.prod(sizes)), sizes) if sizes else ()
    place = {axis.name: index for axis, index in zip(axes, old, strict=True)}
    new = np.zeros(math.prod(sizes), dtype=np.int64)
    for axis, index in zip(axes, old, strict=True):
        moves = permutations.get(axis.name)
        if moves is None:
            moved = index
        elif moves.ndim == 1:
            moved = moves[index]
        else:
            moved = moves[(*(place[a.name] for a in outer[axis.name]), index)]
        new = new * axis.size + moved
    return new


def _check(layers: Sequence[LayerShape], outer: Mapping[str, tuple[Axis, ...]], permutations: Permutations) -> None:
    sizes = {axis.name: axis.size for axes in _contexts(layers) for axis in axes if not axis.fixed}
    for name, moves in permutations.items():
        if name not in sizes:
            raise InvalidInputError(f"axis {name!r}: expected one of the free axes {', '.join(sizes)}")
        shapes = {(sizes[name],), (*(axis.size for axis in outer[name]), sizes[name])}
        if np.shape(moves) not in shapes:
            raise InvalidInputError(
                f"axis {name!r}: expected a permutation of shape {' or '.join(map(str, sorted(shapes)))}, "
                f"found {np.shape(moves)}"
            )
        if not np.array_equal(np.sort(moves, axis=-1), np.broadcast_to(np.arange(sizes[name]), np.shape(moves))):
            raise InvalidInputError(f"axis {name!r}: expected every index from 0 to {sizes[name] - 1} once")
