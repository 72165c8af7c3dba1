"""Axes and spaces: what the units of a network are numbered by, and which of them are interchangeable.

A plain layer's units are one free axis: any order of them is the same network. The units of an attention are heads x
dims, two axes; units of several spaces that share an axis (the heads of q, k and v) change places together. An axis is
*fixed* where its order means something: input features, output classes, positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from topostrata.errors import InvalidTopologyError

MAX_UNITS = 2**62
_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Axis:
    """An index of units, known by its name: equal names in one network are one axis, permuted everywhere at once.

    ``fixed`` axes keep their order; the others are free, that is, their units are interchangeable.

    >>> Axis("heads", 12)
    Axis(name='heads', size=12, fixed=False)
    """

    name: str
    size: int
    fixed: bool = False

    def __post_init__(self) -> None:
        check_name("axis", self.name)
        object.__setattr__(self, "size", _whole(f"axis {self.name!r}", self.size))
        object.__setattr__(self, "fixed", bool(self.fixed))  # NumPy's is equal to it, and another thing when written


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Space:
    """An ordered set of units that layers read from and write to: the product of its axes, the outermost first.

    A plain space is one axis of its own name, written as a size; ``labelled`` makes that axis fixed. A space is
    labelled where all its axes are fixed: its units have a meaning of their own (input features, output classes) and
    are never permuted. The units below an outer axis (the dims of a head) may lie in another order for each of its
    indices; if they must not, the inner axis has to be fixed. A space without axes has one unit.

    >>> Space("input", 784, labelled=True)
    Space(name='input', size=784, labelled=True)
    >>> queries = Space("q", [Axis("heads", 12), Axis("dims", 64)])
    >>> queries.size, queries.labelled
    (768, False)
    """

    name: str
    axes: tuple[Axis, ...]
    size: int = field(init=False, compare=False)

    def __init__(self, name: str, axes: int | Axis | Iterable[Axis], labelled: bool = False) -> None:
        check_name("space", name)
        if isinstance(axes, Axis):
            axes = (axes,)
        if isinstance(axes, Iterable):
            if labelled:
                raise InvalidTopologyError(
                    f"space {name!r}: expected labelled beside a size only: axes say if they are fixed"
                )
            axes = tuple(axes)
        else:
            axes = (Axis(name, _whole(f"space {name!r}", axes), labelled),)
        names = [axis.name for axis in axes]
        if len(set(names)) < len(names):
            raise InvalidTopologyError(f"space {name!r}: expected every axis once, found {', '.join(names)}")
        size = math.prod(axis.size for axis in axes)
        if size > MAX_UNITS:
            raise InvalidTopologyError(f"space {name!r}: expected at most {MAX_UNITS} units, found {size}")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "size", size)

    @property
    def labelled(self) -> bool:
        """Whether all axes are fixed, so that unit i of one network is unit i of the other."""
        return all(axis.fixed for axis in self.axes)

    @property
    def plain(self) -> bool:
        """Whether a name, a size and ``labelled`` say everything: one axis of the space's own name."""
        return len(self.axes) == 1 and self.axes[0].name == self.name

    def __repr__(self) -> str:
        if self.plain:
            return f"Space(name={self.name!r}, size={self.size}, labelled={self.labelled})"
        return f"Space(name={self.name!r}, axes={self.axes!r})"


def joined_axes(axes: Sequence[Axis]) -> tuple[tuple[str | None, int], ...]:
    """Axes by what can be permuted: the name of each free one, None for fixed ones; fixed neighbours are merged.

    >>> joined_axes([Axis("heads", 2), Axis("pairs", 4, fixed=True), Axis("half", 2, fixed=True)])
    (('heads', 2), (None, 8))
    """
    row: list[tuple[str | None, int]] = []
    for axis in axes:
        if axis.fixed and row and row[-1][0] is None:
            row[-1] = (None, row[-1][1] * axis.size)
        else:
            row.append((None if axis.fixed else axis.name, axis.size))
    return tuple(row)


def check_name(kind: str, name: str) -> None:
    """Refuse what cannot be printed, typed again or stored as the name of an axis, a space or a layer."""
    if not isinstance(name, str) or not name or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidTopologyError(f"{kind}: expected a printable name of 1 to {_MAX_NAME} characters, found {name!r}")


def _whole(what: str, size: object) -> int:
    if not isinstance(size, int | np.integer) or size < 1:
        raise InvalidTopologyError(f"{what}: expected at least 1 unit, found {size}")
    return int(size)
