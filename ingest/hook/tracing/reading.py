"""From what was seen in a forward pass to a wiring: its layers, spaces and axes, by the names of the parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count

import numpy as np

from topostrata.axes import Axis, Space
from topostrata.errors import InvalidTopologyError
from topostrata.ingest.hook.tracing.axes_of_tensors import Label, fix, is_fixed, size_of, unify, why_fixed
from topostrata.ingest.hook.tracing.calls import Contraction
from topostrata.ingest.hook.tracing.contexts import Piece, companions, pieces, prepare, settle_copies
from topostrata.ingest.hook.tracing.forward import Seen
from topostrata.layers import TAPS, LayerShape, Part, Range
from topostrata.matrices import Orientation
from topostrata.order import normal_order
from topostrata.symmetries import within
from topostrata.topology import Wiring

Key = tuple[object, ...]

# The names of what torch.compile, FSDP and activation checkpointing put around a part of a model.
_WRAPPED = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclass(slots=True)
class Draft:
    """A layer before its spaces have names: ranges count in the parameter's own dimensions.

    ``units`` are the axes of the source space, ``taps`` the others that are read. Where the source is one unit, which
    has no axes to know it by, ``single`` is its space. ``read`` and ``written`` tell spaces with the same axes apart.
    """

    parameter: str
    source: Piece
    target: Piece
    orientation: Orientation
    sources: Range | None
    targets: Range | None
    kernel: int
    groups: int
    by_index: bool
    matrix: bool
    units: tuple[Label, ...] = ()
    taps: tuple[Label, ...] = ()
    single: Key = ()
    read: Key = ()
    written: Key = ()

    @property
    def source_key(self) -> Key:
        """The space that it reads."""
        if not self.units:
            return self.single
        return ("index" if self.by_index else "unit", *(id(axis) for axis in self.units), self.read)

    @property
    def target_key(self) -> Key:
        """The space that it enters."""
        if not self.target.axes:
            return ("one unit", self.parameter, self.targets)
        return ("unit", *self.target.key, self.written)

    @property
    def region(self) -> Key:
        """What tells it from all other layers."""
        return (self.parameter, self.orientation, self.sources, self.targets, self.source_key, self.target_key)


@dataclass(slots=True)
class Reading:
    """A wiring; which axis of it each atom is part of; why axes are fixed; which parameters are no layers, and why."""

    wiring: Wiring
    axis_of: dict[Label, Axis] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    unplaced: dict[str, str] = field(default_factory=dict)


def read(seen: Seen) -> Reading:
    """The wiring that a forward pass showed, in normal order.

    An axis that stands below another in the wiring and is not ordered by it in the network is fixed, until there is
    none. Raises ``InvalidTopologyError`` where no parameter meets an activation.
    """
    units = [(pieces(c.source), pieces(c.target)) for c in seen.contractions]
    for dim, other in seen.meetings:
        unify(dim, other)
    settle_copies(seen.tensors)
    for contraction in seen.contractions:
        prepare(contraction.source)
        prepare(contraction.target)
    for labels in seen.parameters.values():
        for dim in labels.dims:
            prepare(dim)
    names = {name: plain_name(name) for name in seen.parameters}
    while True:
        unplaced: dict[str, str] = {}
        drafts = _drafts(seen, units, unplaced)
        if not drafts:
            raise InvalidTopologyError(
                "model: expected at least one parameter that meets what stems from the input, found none",
                hint="name what was found: " + _listed(unplaced) if unplaced else "trace a module that has weights",
            )
        reading = _named(drafts, names, seen.aliases)
        if not _fix_what_is_not_within(reading, seen):
            break
    layers = reading.wiring.layers
    reading.wiring = Wiring(tuple(layers[k] for k in normal_order(layers)))
    reading.unplaced = {names[name]: why for name, why in unplaced.items() if name in names}
    placed = {draft.parameter for draft in drafts}
    for name in seen.multiplied - placed - unplaced.keys():
        reading.unplaced[names[name]] = "it is not multiplied with what stems from the input"
    reading.fixed = _why_fixed(reading)
    return reading


def _drafts(seen: Seen, units: Sequence[tuple[list[Piece], list[Piece]]], unplaced: dict[str, str]) -> list[Draft]:
    """One layer for each piece of the source and of the target of each contraction, in the order of execution."""
    drafts: dict[Key, Draft] = {}
    one_unit: dict[int, Key] = {}  # results of one unit -> their space
    for contraction, before in zip(seen.contractions, units, strict=True):
        stored = contraction.weight.stored
        if stored is None:
            unplaced |= dict.fromkeys(contraction.weight.names, "it is one of several that a weight is computed from")
            continue
        shape = seen.parameters[stored.parameter].shape
        sides = [pieces(contraction.source), pieces(contraction.target)]
        pairs = [(source, target) for source in sides[0] for target in sides[1]]
        if contraction.groups > 1:
            if len(sides[0]) != len(sides[1]):
                unplaced[stored.parameter] = "its groups do not align with what it reads"
                continue
            pairs = list(zip(*sides, strict=True))
        for source, target in pairs:
            draft = _draft(contraction, source, target, shape)
            if draft is None:
                unplaced[stored.parameter] = f"no rows and columns of its shape {shape} are this layer"
                continue
            draft.read, draft.written = _unit_key(before[0], source), _unit_key(before[1], target)
            if not source.axes:
                draft.single = _space_of_one_unit(contraction, one_unit)
            if not target.axes:
                one_unit[id(contraction.result)] = draft.target_key
            drafts.setdefault((draft.region[:4], draft.read, draft.written, draft.by_index), draft)
    _enter(list(drafts.values()))
    unique: dict[Key, Draft] = {}
    for draft in drafts.values():
        unique.setdefault(draft.region, draft)
    return list(unique.values())


def _draft(contraction: Contraction, source: Piece, target: Piece, shape: tuple[int, ...]) -> Draft | None:
    """The layer of two pieces, if it is a block of rows and columns of a parameter of that shape."""
    stored = contraction.weight.stored
    assert stored is not None  # noqa: S101 - the caller has seen to it
    if len(shape) < 2:
        return None
    kernel = math.prod(shape[2:])
    groups = contraction.groups
    if groups > 1:
        groups = groups * source.size // sum(piece.size for piece in pieces(contraction.source))
    local = source.size // groups
    first = 0 if contraction.groups > 1 else source.start
    columns = stored.places(contraction.source_dims)[first : first + local]
    rows = stored.places(contraction.target_dims)
    whole_rows = len(rows) == sum(piece.size for piece in pieces(contraction.target))
    kernel_places = stored.places(contraction.tap_dims)
    if not np.array_equal(kernel_places, np.arange(len(kernel_places))) or len(kernel_places) != kernel:
        return None
    transposed_groups = groups > 1 and not whole_rows
    if transposed_groups:  # rows of a transposed convolution are those of one group, its columns those of all
        columns = stored.places(contraction.source_dims)[source.start : source.start + source.size]
    else:
        rows = rows[target.start : target.start + target.size]
    sizes = (shape[0], shape[1])
    outer, inner = stored.offset // (shape[1] * kernel), stored.offset % (shape[1] * kernel) // kernel
    for orientation in ("out-in", "in-out"):
        high, low = (rows, columns) if orientation == "out-in" else (columns, rows)
        high_range, low_range = _range(high, shape[1] * kernel, outer), _range(low, kernel, inner)
        if high_range is None or low_range is None or high_range[1] > sizes[0] or low_range[1] > sizes[1]:
            continue
        ranges = [None if (r[0], r[1]) == (0, n) else r for r, n in ((high_range, sizes[0]), (low_range, sizes[1]))]
        targets, sources = ranges if orientation == "out-in" else ranges[::-1]
        return Draft(
            stored.parameter, source, target, orientation, sources, targets,
            kernel, groups, contraction.by_index, len(shape) == 2,
        )  # fmt: skip
    return None


def _unit_key(before: Sequence[Piece], piece: Piece) -> Key:
    """Which units a piece was, before those that meet in products were numbered alike."""
    whole = next(other for other in reversed(before) if other.start <= piece.start)
    return (*whole.key, piece.start - whole.start)


def _space_of_one_unit(contraction: Contraction, one_unit: Mapping[int, Key]) -> Key:
    """The space of one unit that a layer reads: that of the last layer before it that has one, or the input."""
    nearest, seen = [contraction.reads], {id(contraction.reads)}
    for labels in nearest:
        if id(labels) in one_unit:
            return one_unit[id(labels)]
        nearest += [before for before in (labels.made_of if labels else ()) if id(before) not in seen]
        seen |= {id(before) for before in nearest}
    return ("one unit", "input")


def _range(places: np.ndarray[tuple[int], np.dtype[np.int64]], stride: int, offset: int) -> Range | None:
    """The range of a dimension with that stride, where the places are consecutive in it."""
    if not np.array_equal(places, places[0] + np.arange(len(places)) * stride) or places[0] % stride:
        return None
    start = offset + int(places[0]) // stride
    return start, start + len(places)


def _enter(drafts: Sequence[Draft]) -> None:
    """Which axes of a source are the units of a space that some layer enters; the others are taps.

    Positions beside units are taps also where nothing enters. A kernel is a parameter's own, so its source has no taps
    besides; nor has a group.
    """
    written = {draft.target_key for draft in drafts}
    entered: dict[tuple[Label, ...], Key] = {}
    for draft in drafts:
        entered.setdefault(draft.target.axes, draft.written)
    for draft in drafts:
        axes = draft.source.axes
        draft.units, draft.taps = axes, ()
        if draft.by_index or not axes or draft.source_key in written:
            continue
        if axes in entered:
            draft.read = entered[axes]
            continue
        draft.read = ()
        if not draft.matrix or draft.groups > 1 or is_fixed(list(axes)):
            continue
        inside = [space for space in entered if set(space) <= set(axes) and not is_fixed(list(space))]
        if inside:
            draft.units = max(inside, key=len)
            draft.read = entered[draft.units]
        elif any(axis.why == "position" for axis in axes):
            draft.units = tuple(axis for axis in axes if axis.why != "position")
        draft.taps = tuple(axis for axis in axes if axis not in draft.units)


class _Axes:
    """The axes of the spaces by name: that of the first space that has them."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.grouped = {id(axis) for draft in drafts for axis in _group_axes(draft)}
        self.by_run: dict[Key, Axis] = {}
        self.of_label: dict[Label, Axis] = {}

    def row(self, name: str, labels: tuple[Label, ...]) -> tuple[Axis, ...]:
        """The axes of a space of that name."""
        runs = _runs(labels, self.grouped)
        axes = []
        for k, run in enumerate(runs):
            key = tuple(id(label) for label in run)
            if key not in self.by_run:
                own = name if len(runs) == 1 else f"{name}/{k}"
                self.by_run[key] = Axis(own, size_of(list(run)), fixed=is_fixed(list(run)))
            axes.append(self.by_run[key])
            self.of_label.update(dict.fromkeys(run, self.by_run[key]))
        return tuple(axes)

    def taps(self, draft: Draft, source: Space, name: str) -> tuple[int, tuple[Axis, ...], tuple[str, ...]]:
        """How many taps a layer has, their axes where they are more than positions, and their order as stored."""
        if not draft.taps:
            return draft.kernel, (), ()
        runs = _runs(draft.source.axes, {id(label) for label in draft.taps})
        plain = is_fixed(list(draft.taps)) and sum(run[0] in draft.taps for run in runs) == 1
        tap_axes = () if plain else self.row(f"{name} taps", draft.taps)
        stored = [TAPS if plain and run[0] in draft.taps else self.of_label[run[0]].name for run in runs]
        natural = [axis.name for axis in (*source.axes, *tap_axes)] + ([TAPS] if plain else [])
        order = list(dict.fromkeys(stored))
        return size_of(list(draft.taps)), tap_axes, () if order == natural else tuple(order)


def _named(drafts: Sequence[Draft], names: Mapping[str, str], aliases: Mapping[str, Sequence[str]]) -> Reading:
    """The wiring of some layers, with names for all of them and their spaces and axes."""
    layer_names = _layer_names(drafts, names, aliases)
    axes = _Axes(drafts)
    spaces = {
        key: Space(name, axes.row(name, labels) or Axis(name, 1, fixed=True))
        for key, (name, labels) in _space_names(drafts, layer_names).items()
    }
    layers = []
    for draft, name in zip(drafts, layer_names, strict=True):
        source, target = spaces[draft.source_key], spaces[draft.target_key]
        taps, tap_axes, order = axes.taps(draft, source, name)
        part = Part(names[draft.parameter], draft.sources, draft.targets, draft.orientation, order)
        layers.append(LayerShape(name, source, target, taps, draft.groups, tap_axes, part))
    return Reading(Wiring(tuple(layers)), axes.of_label)


def _space_names(drafts: Sequence[Draft], layer_names: Sequence[str]) -> dict[Key, tuple[str, tuple[Label, ...]]]:
    """The name and the axes of each space: that of the first layer that enters it, or of what it is read from."""
    spaces: dict[Key, tuple[str, tuple[Label, ...]]] = {}
    for loops in (False, True):
        for draft, name in zip(drafts, layer_names, strict=True):
            if (draft.source_key == draft.target_key) is loops:
                spaces.setdefault(draft.target_key, (name, draft.target.axes))
    taken = {name for name, _ in spaces.values()}
    for draft, name in zip(drafts, layer_names, strict=True):
        if draft.source_key not in spaces:
            is_input = all(label.why == "input" for label in draft.units)
            unique = _unique("input" if is_input else f"{name} {'index' if draft.by_index else 'source'}", taken)
            taken.add(unique)
            spaces[draft.source_key] = (unique, draft.units)
    return spaces


def _unique(name: str, taken: Container[str]) -> str:
    """The name, with a number where it is taken."""
    return next(other for other in chain([name], (f"{name} {k}" for k in count(2))) if other not in taken)


def _group_axes(draft: Draft) -> tuple[Label, ...]:
    """The first axes of a layer's source that number its groups."""
    joint, k = 1, 0
    while joint < draft.groups:
        joint *= draft.units[k].size
        k += 1
    return draft.units[:k]


def _runs(axes: Sequence[Label], *apart: set[int]) -> list[tuple[Label, ...]]:
    """Axes, fixed neighbours together: they change places as one. Those of the sets ``apart`` stay by themselves."""
    runs: list[tuple[Label, ...]] = []
    for axis in axes:
        joins = bool(runs) and is_fixed([axis]) and is_fixed(list(runs[-1]))
        if joins and all((id(axis) in some) == (id(runs[-1][-1]) in some) for some in apart):
            runs[-1] = (*runs[-1], axis)
        else:
            runs.append((axis,))
    return runs


def _layer_names(drafts: Sequence[Draft], names: Mapping[str, str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """A layer has the name of its module; its range in brackets where it is one of several parts of a parameter."""
    uses: dict[str, list[Key]] = {}
    parts: dict[str, set[Key]] = {}
    for draft in drafts:
        use = (draft.orientation, draft.by_index)
        if use not in uses.setdefault(draft.parameter, []):
            uses[draft.parameter].append(use)
        parts.setdefault(draft.parameter, set()).add((draft.sources, draft.targets))
    layer_names: list[str] = []
    for draft in drafts:
        place = uses[draft.parameter].index((draft.orientation, draft.by_index))
        others = [plain_name(alias) for alias in aliases[draft.parameter]]
        name = others[place] if place < len(others) else f"{names[draft.parameter]} {place + 1}"
        name = name.removesuffix(".weight") or name
        if len(parts[draft.parameter]) > 1:
            ranges = [f"{r[0]}:{r[1]}" if r else ":" for r in (draft.targets, draft.sources)]
            name += f"[{', '.join(ranges if draft.sources else ranges[:1])}]"
        layer_names.append(_unique(name, layer_names))
    return layer_names


def plain_name(name: str) -> str:
    """The name that a weight has without what wraps its modules, and without pruning and parametrization."""
    name = without_wrappers(name)
    name = re.sub(r"\bparametrizations\.([^.]+)\.original\d*$", r"\1", name)
    return re.sub(r"_(orig|v)$", "", name)


def without_wrappers(name: str) -> str:
    """The name that a parameter has in the model as its author wrote it."""
    return _WRAPPED.sub("", name)


def _fix_what_is_not_within(reading: Reading, seen: Seen) -> bool:
    """Fix the axes that the wiring would order by others by which the network does not."""
    beside = companions(seen.tensors)
    label_of = {axis.name: label for label, axis in reading.axis_of.items() if not axis.fixed}
    loose = []
    for name, outer in within(reading.wiring.layers).items():
        label = label_of[name]
        if any(label_of[axis.name] not in beside.get(label, ()) for axis in outer):
            loose.append((label, outer))
    for label, outer in loose:
        fix([label], f"not ordered by {' and '.join(axis.name for axis in outer)} everywhere")
    return bool(loose)


def _why_fixed(reading: Reading) -> dict[str, str]:
    """For each fixed axis why it is."""
    reasons: dict[str, str] = {}
    for label, axis in reading.axis_of.items():
        if axis.fixed and axis.name not in reasons:
            reasons[axis.name] = why_fixed([label])
    return {axis.name: reasons.get(axis.name, "one unit") for axis in reading.wiring.axes if axis.fixed}


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in reasons.items())
