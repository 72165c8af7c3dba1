"""Layers: which two spaces a mask joins, over how many taps and groups, and which part of a parameter it is.

``LayerShape`` is a layer without its mask, what a wiring consists of; ``Layer`` has the mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from topostrata.axes import Axis, Space, check_name
from topostrata.errors import InvalidTopologyError
from topostrata.masks import MAX_CELLS, Cells, Mask
from topostrata.matrices import Orientation

TAPS = "taps"  # the name of the taps in ``Part.order`` where they have no axes of their own

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """Where a layer's connections lie in a stored parameter, for ``Wiring.place``.

    ``sources`` and ``targets`` are the half-open ranges of the parameter's source and target dimension that belong to
    the layer (q, k and v side by side; the gates of an LSTM); None: all of it. ``orientation`` is the parameter's own
    (an embedding is in-out, a linear layer of torch out-in); None: the one that ``place`` is told. ``order`` names the
    axes of the source dimension as they lie in the parameter, outermost first (the layer's source axes, and its tap
    axes or ``"taps"``), where that is not the sources with their taps below them: a flatten with the channels last.

    Two layers whose parts are the same part of the same parameter are tied: one set of connections in two places.

    >>> Part("attn.c_attn.weight", targets=(48, 96), orientation="in-out").targets
    (48, 96)
    """

    parameter: str
    sources: Range | None = None
    targets: Range | None = None
    orientation: Orientation | None = None
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("part", self.parameter)
        for end in ("sources", "targets"):
            limits = getattr(self, end)
            if limits is None:
                continue
            ordered = len(limits) == 2 and all(type(edge) is int for edge in limits) and 0 <= limits[0] < limits[1]
            if not ordered:
                raise InvalidTopologyError(
                    f"part of {self.parameter!r}: {end}: expected (first, beyond the last), found {limits}"
                )
            object.__setattr__(self, end, (limits[0], limits[1]))
        if self.orientation is not None and self.orientation not in get_args(Orientation):
            known = ", ".join(get_args(Orientation))
            raise InvalidTopologyError(
                f"part of {self.parameter!r}: orientation: expected one of {known}, found {self.orientation!r}"
            )
        object.__setattr__(self, "order", tuple(self.order))


@dataclass(frozen=True, slots=True)
class LayerShape:
    """A layer without its mask: its name, the spaces it joins, its taps and groups, and the part of a parameter it is.

    ``taps`` is the number of positions at which a source unit may feed a target unit; ``tap_axes`` names them where an
    axis is read as taps (an axis that is expanded, as the query groups of a grouped-query attention). In a layer of
    ``groups`` g, source and target begin with the same axes, of g indices together, and a target unit can only be
    reached from the sources of its own index: a depthwise convolution has as many groups as units.

    >>> wide = Space("wide", 32)
    >>> depthwise = LayerShape("dw", wide, wide, taps=9, groups=32)
    >>> depthwise.local_sources, depthwise.possible
    (1, 288)
    """

    name: str
    source: Space
    target: Space
    taps: int = 1
    groups: int = 1
    tap_axes: tuple[Axis, ...] = ()
    part: Part | None = None

    def __post_init__(self) -> None:
        check_name("layer", self.name)
        object.__setattr__(self, "tap_axes", tuple(self.tap_axes))
        for name in ("taps", "groups"):
            number = getattr(self, name)
            if not isinstance(number, int | np.integer) or number < 1:
                raise InvalidTopologyError(f"{self._at}: expected {name} >= 1, found {number}")
            object.__setattr__(self, name, int(number))
        if self.tap_axes:
            self._check_tap_axes()
        if self.groups > 1:
            self._check_groups()
        if self.possible > MAX_CELLS:
            raise InvalidTopologyError(
                f"{self._at}: expected at most 2**62 possible connections, found {self.possible}"
            )
        if self.part is not None:
            self._check_part(self.part)

    @property
    def local_sources(self) -> int:
        """Source units that a target unit can be reached from: those of its group. What a mask's ``n_source`` is."""
        return self.source.size // self.groups

    @property
    def possible(self) -> int:
        """How many connections there could be."""
        return self.local_sources * self.taps * self.target.size

    @property
    def loops(self) -> bool:
        """Whether the layer reads and enters one space: depthwise, recurrent, or used several times in a row."""
        return self.source.name == self.target.name

    @property
    def source_keys(self) -> Range:
        """The range of keys that its part has in the parameter: its sources, each with all taps.

        A range may count sources or, in a matrix, the columns that sources and taps make together.
        """
        keys = self.local_sources * self.taps
        if self.part is None or self.part.sources is None:
            return 0, keys
        first, beyond = self.part.sources
        unit = keys // (beyond - first)
        return first * unit, beyond * unit

    def units_of(self, cells: Cells) -> tuple[Cells, Cells, Cells]:
        """``(sources, targets, taps)`` of cells of this layer's mask, as indices into its spaces.

        Group j of a layer of g groups has the sources from ``j * n_source / g`` on, of which a mask counts from 0.
        """
        stride = self.local_sources * self.taps
        targets, keys = cells // stride, cells % stride
        sources, taps = keys // self.taps, keys % self.taps
        if self.groups > 1:
            sources = sources + targets // (self.target.size // self.groups) * self.local_sources
        return sources, targets, taps

    def cells_of(self, sources: Cells, targets: Cells, taps: Cells | int = 0) -> Cells:
        """The cells of connections: the way back from ``units_of``, in the order given."""
        local = sources % self.local_sources if self.groups > 1 else sources
        return targets * (self.local_sources * self.taps) + local * self.taps + taps

    def empty(self) -> Mask:
        """The mask of this shape without a connection."""
        return Mask(self.local_sources, self.target.size, np.empty(0, dtype=np.int64), self.taps)

    def accepts(self, mask: Mask) -> bool:
        """Whether a mask has this shape."""
        return (mask.n_source, mask.taps, mask.n_target) == (self.local_sources, self.taps, self.target.size)

    @property
    def _at(self) -> str:
        return f"layer {self.name!r}"

    def _check_tap_axes(self) -> None:
        taps = math.prod(axis.size for axis in self.tap_axes)
        if taps != self.taps:
            raise InvalidTopologyError(f"{self._at}: expected {taps} taps, as its tap axes have, found {self.taps}")
        names = [axis.name for axis in (*self.source.axes, *self.tap_axes)]
        if len(set(names)) < len(names):
            raise InvalidTopologyError(
                f"{self._at}: expected every axis once in its source and its taps, found {', '.join(names)}"
            )

    def _check_groups(self) -> None:
        joint = 1
        for mine, other in zip(self.source.axes, self.target.axes, strict=False):
            if mine != other:
                break
            joint *= mine.size
            if joint == self.groups:
                return
        raise InvalidTopologyError(
            f"{self._at}: expected {self.source.name!r} and {self.target.name!r} to begin with the same axes, of "
            f"{self.groups} indices together (its groups), found {self.source.axes} and {self.target.axes}"
        )

    def _check_part(self, part: Part) -> None:
        if part.targets is not None and part.targets[1] - part.targets[0] != self.target.size:
            raise InvalidTopologyError(
                f"{self._at}: part of {part.parameter!r}: expected {self.target.size} targets, found {part.targets}"
            )
        wide = {self.local_sources, self.local_sources * self.taps}
        if part.sources is not None and part.sources[1] - part.sources[0] not in wide:
            raise InvalidTopologyError(
                f"{self._at}: part of {part.parameter!r}: expected {' or '.join(map(str, sorted(wide)))} sources, "
                f"found {part.sources}"
            )
        if part.order and part.sources is not None and self.source_keys != part.sources:
            raise InvalidTopologyError(
                f"{self._at}: part of {part.parameter!r}: expected a range of {self.local_sources * self.taps} columns "
                f"beside an order of axes, found {part.sources}"
            )
        if part.order:
            names = [axis.name for axis in self.source.axes]
            names += [axis.name for axis in self.tap_axes] or ([TAPS] if self.taps > 1 else [])
            if sorted(part.order) != sorted(names) or self.groups > 1:
                raise InvalidTopologyError(
                    f"{self._at}: part of {part.parameter!r}: order: expected the axes {', '.join(names)} of a layer "
                    f"without groups, found {', '.join(part.order)}"
                )


@dataclass(frozen=True, slots=True)
class Layer:
    """A mask with its name and the two spaces it joins.

    Several layers may enter one space (residual sums), also after it was read; a unit's fan-in set is then the union
    over them. ``groups``, ``tap_axes`` and ``part`` are as in ``LayerShape``, the taps are the mask's. ``sources`` and
    ``targets`` of its connections are units of its spaces, whatever the groups.

    >>> Layer("fc", Space("input", 3, labelled=True), Space("hidden", 2), Mask(3, 2, np.array([0, 5]))).sources
    array([0, 2])
    """

    name: str
    source: Space
    target: Space
    mask: Mask
    groups: int = 1
    tap_axes: tuple[Axis, ...] = ()
    part: Part | None = None
    shape: LayerShape = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = LayerShape(
            self.name, self.source, self.target, self.mask.taps, self.groups, tuple(self.tap_axes), self.part
        )
        expected, actual = (shape.local_sources, self.target.size), (self.mask.n_source, self.mask.n_target)
        if expected != actual:
            grouped = f" in {self.groups} groups" if self.groups > 1 else ""
            raise InvalidTopologyError(
                f"layer {self.name!r}: expected a mask of {expected[0]} x {expected[1]} units "
                f"({self.source.name} -> {self.target.name}{grouped}), found {actual[0]} x {actual[1]}"
            )
        object.__setattr__(self, "tap_axes", shape.tap_axes)
        object.__setattr__(self, "shape", shape)

    @staticmethod
    def of(shape: LayerShape, mask: Mask) -> Layer:
        """The layer of that shape with that mask."""
        return Layer(shape.name, shape.source, shape.target, mask, shape.groups, shape.tap_axes, shape.part)

    @property
    def taps(self) -> int:
        """Positions at which a source unit may feed a target unit."""
        return self.mask.taps

    @property
    def nnz(self) -> int:
        """Connections that exist."""
        return self.mask.nnz

    @property
    def density(self) -> float:
        """Share of the possible connections that exist, 0 to 1."""
        return self.mask.density

    @property
    def sources(self) -> NDArray[np.int64]:
        """The source unit of each connection: shape (nnz,)."""
        return self.shape.units_of(self.mask.cells)[0]

    @property
    def targets(self) -> NDArray[np.int64]:
        """The target unit of each connection: shape (nnz,)."""
        return self.mask.targets

    @property
    def fan_in(self) -> NDArray[np.int64]:
        """Connections into each target unit: shape (target.size,)."""
        return self.mask.fan_in

    @property
    def fan_out(self) -> NDArray[np.int64]:
        """Connections out of each source unit, over all taps: shape (source.size,)."""
        return np.bincount(self.sources, minlength=self.source.size)
