"""The wiring of a family that was found in a file: spaces with their axes, layers with their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topostrata.errors import InvalidTopologyError
from topostrata.ingest.families.fitting import Fit, MisfitError, Use
from topostrata.ingest.families.structure import Attention, Row
from topostrata.layers import TAPS
from topostrata.topology import Axis, LayerShape, Orientation, Part, Space, Wiring
from topostrata.words import Heads


@dataclass(frozen=True, slots=True)
class Decisions:
    """What shapes do not tell: how many heads, which rows are tied with which array, whether positions turn q and k."""

    heads: Heads
    tied: Mapping[str, Use]
    rotary: bool = False
    channels_last: bool = False


def wiring_of(fit: Fit, decisions: Decisions) -> Wiring:
    """The wiring of a fit. Raises ``MisfitError`` where the widths are not those of so many heads."""
    return _Building(fit, decisions).wiring()


class _Building:
    def __init__(self, fit: Fit, decisions: Decisions) -> None:
        self._fit = fit
        self._decisions = decisions
        self._sizes = dict(fit.sizes)
        self._labelled = set(fit.labelled)
        self._axes: dict[str, tuple[Axis, ...]] = {}
        self._groups: dict[str, tuple[Axis, ...]] = {}  # block -> the axes that its output reads as taps
        self._same: dict[str, str] = {}
        self._spaces: dict[str, Space] = {}
        self._uses = [*fit.uses, *(self._without_array(row) for row in fit.untied if row.name in decisions.tied)]
        for use in self._uses:
            if (owner := decisions.tied.get(use.row.name)) is not None and use.source != owner.targets[0]:
                self._same[use.source] = owner.targets[0]  # it reads the units that the embedding enters

    def wiring(self) -> Wiring:
        """All layers, in the order of execution."""
        if self._fit.family.attention is not None:
            for block in dict.fromkeys(use.block for use in self._uses if use.block):
                self._attention(block, self._fit.family.attention)
        for use in self._uses:
            if use.groups > 1:
                self._grouped(use)
        self._labelled |= self._outputs()
        shapes = [shape for use in self._uses for shape in self._layers(use)]
        try:
            return Wiring(tuple(shapes))
        except InvalidTopologyError as error:
            raise MisfitError(error.message) from error

    def _without_array(self, row: Row) -> Use:
        """A row that has no array of its own, and that of another."""
        owner = self._decisions.tied[row.name]
        (target,) = (place.lstrip("#") for place in row.places)
        self._labelled.add(target)
        self._sizes[target] = self._sizes[owner.source]
        return Use(row, row.names[0].replace("~", self._fit.root), owner.role, "", row.source, (target,), 1, 1)

    def _outputs(self) -> frozenset[str]:
        """Places that nothing reads after they were entered: the units that the network gives."""
        last: dict[str, bool] = {}
        for use in self._uses:
            last[self._same.get(use.source, use.source)] = False
            for target in use.targets:
                last[self._same.get(target, target)] = True
        outputs = {space for space, entered in last.items() if entered and space not in self._axes}
        after = {place for use in self._uses if not use.block for place in use.row.places if place.startswith("#")}
        return frozenset(outputs if after else outputs | {self._fit.stream})

    def _attention(self, block: str, attention: Attention) -> None:
        q, k, v = (block + place[1:] for place in (attention.q, attention.k, attention.v))
        sizes, heads = self._sizes, self._decisions.heads
        if attention.within:
            self._side_by_side(block, q, v)
            return
        if heads == "unknown":
            if not sizes[q] == sizes[k] == sizes[v]:
                raise MisfitError("heads that share keys and values need their number")
            self._axes |= {name: (Axis(name, sizes[name], fixed=True),) for name in (q, k, v)}
            return
        width, rest = divmod(sizes[q], heads)
        if rest or sizes[k] % width:
            raise MisfitError(f"{heads} heads of {sizes[q]} queries and {sizes[k]} keys")
        shared = sizes[k] // width
        if heads % shared or sizes[v] % shared or sizes[v] // shared != width:
            raise MisfitError(f"{heads} heads of {sizes[q]} queries, {sizes[k]} keys and {sizes[v]} values")
        head = Axis(f"{block}heads" if heads == shared else f"{block}kv", shared)
        group = Axis(f"{block}group", heads // shared)
        place = (
            Axis("rotary", width, fixed=True)
            if attention.rotary or self._decisions.rotary
            else Axis(f"{block}qk", width)
        )
        value = Axis(f"{block}dims", width)
        self._axes[q] = _several(head, group, place)
        self._axes[k] = _several(head, place)
        self._axes[v] = _several(head, value)
        self._groups[block] = (group,) if group.size > 1 else ()

    def _side_by_side(self, block: str, joint: str, values: str) -> None:
        sizes, heads = self._sizes, self._decisions.heads
        if sizes[joint] != 3 * sizes[values]:
            raise MisfitError(f"{sizes[joint]} queries, keys and values, expected 3 x {sizes[values]}")
        if heads == "unknown":
            self._axes |= {name: (Axis(name, sizes[name], fixed=True),) for name in (joint, values)}
            return
        width, rest = divmod(sizes[values], heads)
        if rest:
            raise MisfitError(f"{heads} heads of {sizes[values]} values")
        head = Axis(f"{block}heads", heads)
        self._axes[joint] = _several(head, Axis("places", 3 * width, fixed=True))
        self._axes[values] = _several(head, Axis("values", width, fixed=True))

    def _grouped(self, use: Use) -> None:
        """The groups are the first axis of the spaces on both sides."""
        group = Axis(f"{use.name}.groups", use.groups)
        for space in (use.source, *use.targets):
            self._axes[space] = (group, Axis(space, self._sizes[space] // use.groups))

    def _space(self, name: str) -> Space:
        name = self._same.get(name, name)
        if name not in self._spaces:
            axes = self._axes.get(name)
            self._spaces[name] = Space(name, axes) if axes else Space(name, self._sizes[name], name in self._labelled)
        return self._spaces[name]

    def _layers(self, use: Use) -> list[LayerShape]:
        stored = use.row.order(self._fit.axes)
        orientation: Orientation = "hwio" if use.row.kind == "kernel" and stored == "in-out" else stored
        owner = self._decisions.tied.get(use.row.name)
        parameter = (owner or use).role.name
        source = self._space(use.source)
        attention = self._fit.family.attention
        tap_axes: tuple[Axis, ...] = ()
        order: tuple[str, ...] = ()
        taps = use.taps
        if attention is not None and use.row.source == attention.v:
            tap_axes = self._groups.get(use.block, ())
        if tap_axes:
            taps = tap_axes[0].size
            *first, value = (axis.name for axis in source.axes)
            order = (*first, tap_axes[0].name, value)
        elif use.row.picture and taps > 1 and self._decisions.channels_last:
            order = (TAPS, *(axis.name for axis in source.axes))
        shapes = []
        at = 0
        for target in use.targets:
            space = self._space(target)
            edges = (at, at + space.size)
            at += space.size
            several = len(use.targets) > 1
            name = f"{use.name}[{edges[0]}:{edges[1]}]" if several else use.name
            part = Part(parameter, targets=edges if several else None, orientation=orientation, order=order)
            shapes.append(LayerShape(name, source, space, taps, use.groups, tap_axes, part))
        return shapes


def _several(*axes: Axis) -> tuple[Axis, ...]:
    """Axes without those of one index."""
    return tuple(axis for axis in axes if axis.size > 1) or axes[-1:]
