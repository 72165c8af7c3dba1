"""One unit of a run over time: its connections, and from when to when each of them lived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from topostrata.layers import LayerShape
    from topostrata.topology import Mask


@dataclass(frozen=True, slots=True)
class Life:
    """A connection is alive from the step ``born`` on, up to but without the step ``died`` (``None``: to the end)."""

    born: int
    died: int | None


@dataclass(frozen=True, slots=True)
class NeuronConnection:
    """A connection of a unit: in which layer, with which unit of which space at the other end, and when it lived."""

    layer: str
    space: str
    unit: int
    tap: int
    lives: tuple[Life, ...]


@dataclass(frozen=True, slots=True)
class Neuron:
    """A unit over the ``steps`` of its run: all connections into it and out of it that there ever were.

    A layer that is tied to another has that one's connections and is not listed.
    """

    run: str
    space: str
    unit: int
    steps: tuple[int, ...]
    inputs: tuple[NeuronConnection, ...]
    outputs: tuple[NeuronConnection, ...]


def lives_of(
    shape: LayerShape, history: Iterable[tuple[int, Mask]], unit: int, *, into: bool
) -> list[NeuronConnection]:
    """The connections of a layer into a unit (or out of it), given the layer's masks as (step, mask) in order of time.

    >>> from topostrata.topology import LayerShape, Mask, Space
    >>> shape = LayerShape("l0", Space("input", 2, labelled=True), Space("hidden1", 2))
    >>> masks = [Mask(2, 2, np.array(cells)) for cells in ([0, 1], [1, 2], [0, 2])]
    >>> [(entry.unit, entry.lives) for entry in lives_of(shape, enumerate(masks), 0, into=True)]
    [(0, (Life(born=0, died=1), Life(born=2, died=None))), (1, (Life(born=0, died=2),))]
    """
    lives: dict[int, list[Life]] = {}
    since: dict[int, int] = {}
    for step, mask in history:
        if into:
            low, high = np.searchsorted(mask.cells, [unit * mask.stride, (unit + 1) * mask.stride])
            cells = mask.cells[low:high]
        else:
            cells = mask.cells[shape.units_of(mask.cells)[0] == unit]
        alive = set(cells.tolist())
        for cell in since.keys() - alive:
            lives[cell].append(Life(since.pop(cell), step))
        for cell in alive - since.keys():
            since[cell] = step
            lives.setdefault(cell, [])
    for cell, step in since.items():
        lives[cell].append(Life(step, None))
    order = sorted(lives)
    sources, targets, taps = shape.units_of(np.array(order, dtype=np.int64))
    ends, space = (sources, shape.source) if into else (targets, shape.target)
    return [
        NeuronConnection(shape.name, space.name, end, tap, tuple(lives[cell]))
        for cell, end, tap in zip(order, ends.tolist(), taps.tolist(), strict=True)
    ]
