"""Which unit of B each unit of A is matched with, known axis by axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.plan import Context, Plan

Ints = NDArray[np.int64]


class Partners(Mapping[int, Ints]):
    """The partner in B of every unit of A, for the contexts (spaces first) whose axes are all matched or kept.

    ``axes[x]`` is the match of axis x: its index in B, -1 where it has none, for each index in A; with an axis in front
    for each of those at whose (A's) indices it differs.
    """

    def __init__(self, a: Plan, b: Plan) -> None:
        self._a, self._b = a, b
        self.axes: dict[int, Ints] = {}
        self._units: dict[int, Ints] = {}
        for c in range(len(a.contexts)):
            self._complete(c)

    def __getitem__(self, context: int) -> Ints:
        return self._units[context]

    def __iter__(self) -> Iterator[int]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)

    def put(self, axes: Mapping[int, Ints]) -> None:
        """Add the matches of some axes."""
        self.axes.update(axes)
        for c, context in enumerate(self._a.contexts):
            if any(axis in axes for axis, _ in context):
                self._complete(c)

    def replaced(self, axes: Mapping[int, Ints]) -> Partners:
        """The same with other matches of some axes."""
        other = object.__new__(Partners)
        other._a, other._b = self._a, self._b
        other.axes, other._units = dict(self.axes), dict(self._units)
        other.put(axes)
        return other

    def image(self, axis: int, index: Ints, at: Mapping[int, Ints]) -> Ints:
        """Where indices of an axis go, given those of the axes around it in A; -1 where there is no partner."""
        if self._a.stays(axis):
            return index
        images: Ints = self.axes[axis][(*(at[outer] for outer in self._a.within[axis]), index)]
        return images

    def images(self, context: Context, other: Context, units: Ints) -> Ints:
        """The units of B's context for some of A's, all axes of which are matched or kept."""
        at = coordinates(context, units)
        there = np.zeros(len(units), dtype=np.int64)
        alone = np.zeros(len(units), dtype=np.bool_)
        named = {axis: index for (axis, _), index in zip(context, at, strict=True)}
        for (axis, _), (_, size), index in zip(context, other, at, strict=True):
            image = self.image(axis, index, named)
            alone |= image < 0
            there = there * size + image
        return np.where(alone, -1, there)

    def _complete(self, c: int) -> None:
        context = self._a.contexts[c]
        if not all(self._a.stays(axis) or axis in self.axes for axis, _ in context):
            return
        if len(context) == 1 and not self._a.stays(context[0][0]) and not self._a.within[context[0][0]]:
            self._units[c] = self.axes[context[0][0]]
        else:
            units = np.arange(math.prod(size for _, size in context), dtype=np.int64)
            self._units[c] = self.images(context, self._b.contexts[c], units)


def identity(a: Plan, b: Plan) -> dict[int, Ints]:
    """For every context the units of B that have the same indices; -1 where there is none."""
    partners = {}
    for c, (context, other) in enumerate(zip(a.contexts, b.contexts, strict=True)):
        units = np.arange(math.prod(size for _, size in context), dtype=np.int64)
        there, inside = np.zeros(len(units), dtype=np.int64), np.ones(len(units), dtype=np.bool_)
        for (_, size), index in zip(other, coordinates(context, units), strict=True):
            there = there * size + index
            inside &= index < size
        partners[c] = np.where(inside, there, -1)
    return partners


def coordinates(context: Sequence[tuple[int, int]], units: Ints) -> list[Ints]:
    """The index on each axis of some units of a product of axes."""
    indices = []
    for _, size in reversed(context):
        units, index = np.divmod(units, size)
        indices.append(index)
    return indices[::-1]
