"""Which layer feeds which, from the arrays of a file: evident from names, shapes and format, or refused.

What chains is not therefore the network. Names (``naming_schemes``), the order of definition, the format's own order of
axes and the shapes are evidence; where they leave two readings, or contradict each other, nothing is read and the error
names the option that decides.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cmp_to_key, partial
from itertools import pairwise

from topostrata.errors import InvalidInputError
from topostrata.ingest import placed
from topostrata.ingest.families.recognition import recognise
from topostrata.ingest.formats.array_file import ArrayFile, AxisOrder
from topostrata.ingest.formats.cells import cells_of, dims
from topostrata.ingest.formats.file_layers import (
    FileLayer,
    Plan,
    assemble,
    follows,
    plan,
    shapes_of,
    wiring_of,
)
from topostrata.ingest.formats.naming_schemes import branching, natural, precedes
from topostrata.ingest.formats.options import Options
from topostrata.ingest.formats.packed import without_shape
from topostrata.ingest.formats.roles import ArrayRole, axes_of_names, chosen, roles_of
from topostrata.topology import Topology, Wiring
from topostrata.words import Flatten

_MOST_SEARCHED = 64
_MOST_TRIED = 5_000
_USUAL_CHANNELS = (1, 3)

Order = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read: the wiring, each layer with the array that it is, how that is known, and what was left out.

    ``topology`` reads the connections. ``layers`` are those of a chain, whose order was searched.
    """

    wiring: Wiring
    evidence: tuple[str, ...]
    notes: tuple[str, ...]
    topology: Callable[[], Topology]
    layers: tuple[FileLayer, ...] = ()

    @property
    def arrays(self) -> set[str]:
        """The names of the arrays that are read."""
        return {layer.part.parameter for layer in self.wiring if layer.part is not None}


def decide(file: ArrayFile, options: Options) -> Reading:
    """The reading of a file that its arrays leave, or ``InvalidInputError`` with the option that decides."""
    roles = roles_of(file.arrays)
    known, resembles = recognise(file, roles, options)
    if known is not None:
        return Reading(known.wiring, known.evidence, known.notes, lambda: placed.place(file, known.wiring, options)[0])
    layers, places = _layers(file, roles, options)
    ordered = bool(options.layers) and len(set(places)) == len(layers)
    if (packed := without_shape(file.arrays)) and not options.layers:
        raise InvalidInputError(
            f"{file.where}: expected masks with a shape, found {', '.join(map(repr, packed[:6]))}"
            f"{f' and {len(packed) - 6} more' if len(packed) > 6 else ''} packed, eight entries to a byte, without one",
            hint="a wiring states the shape and how it lies: --wiring net.toml (docs/wiring.md); or unpack them: "
            "np.unpackbits(mask)[:rows * columns].reshape(rows, columns)",
        )
    if not layers:
        raise InvalidInputError(
            f"{file.where}: expected at least one layer, found none: {_counted(roles) or 'no arrays'}",
            hint="a layer is an array of 2 or more axes; choose with --layers 'NAME,NAME'",
        )
    for layer in layers:
        if 0 in layer.array.shape:
            raise InvalidInputError(
                f"{file.at(layer.name)}: layer {layer.stem!r}: expected at least 1 source and 1 target, "
                f"found shape {' x '.join(map(str, layer.array.shape))}",
                hint="leave it out: --layers with the names of the others",
            )
    names = [layer.stem for layer in layers]
    if not ordered and len(layers) > 1 and (reason := file.branches or branching(names)) is not None:
        raise _no_chain(file, reason, resembles or "")
    search = _Search(file, layers, places, options, said=ordered)
    axes, order, evidence = search.decide()
    parts = [search.parts(axes)[k] for k in order]
    apart = axes == "out-in" or axes_of_names(layers) is not None  # such files hold biases by themselves
    bias = "none" if options.bias == "auto" and len(parts) == 1 and apart else options.bias
    planned = plan(parts, bias=bias, where=file.where, limits=options.limits)
    flatten = _flatten(parts, planned, axes, options, file)
    planned = Plan(planned.last_row, planned.fits, flatten or "channels-first")
    if not (ordered or file.ordered) and (block := _inverted_residual(parts, planned)) is not None:
        raise _no_chain(file, f"inverted residual blocks ({block.name!r}), whose result is added to what they read", "")
    if flatten:
        evidence = (*evidence, f"pictures are flattened {flatten}")
    if planned.last_row:
        evidence = (*evidence, "the last row of each matrix is a bias and left out")
    return Reading(
        wiring_of(parts, planned, parameters=True),
        evidence,
        (*_left_out(file, roles, layers), *_doubts(parts)),
        lambda: assemble(parts, planned, where=file.where, limits=options.limits),
        tuple(parts),
    )


def _refuse_objects(file: ArrayFile, roles: Sequence[ArrayRole]) -> None:
    if objects := [name for name, array in file.arrays.items() if array.dtype == "object"]:
        names = [role.name for role in roles if role.holds_layer]
        raise InvalidInputError(
            f"{file.at(objects[0])}: array {objects[0]!r}: expected bool, integers or floats, found Python objects, "
            "which may be masks and are never read: they could hold code",
            hint=f"leave it out: --layers '{','.join(names)}'"
            if names
            else "save each mask as an array of its own: np.savez('masks.npz', l0=mask0, l1=mask1)",
        )


def _no_chain(file: ArrayFile, reason: str, resembles: str) -> InvalidInputError:
    path = shlex.quote(file.where)
    traced = "where the torch model is at hand, its wiring is traced: `Path('net.toml').write_text(ts.trace(model, "
    traced += "example).to_toml())`; else "
    return InvalidInputError(
        f"{file.where}: expected layers that follow each other, found {reason}: which layer feeds which is not in "
        f"the file{resembles}",
        hint=f"{traced if file.axes == 'out-in' else ''}write the wiring down: `topostrata inspect {path} --write "
        "net.toml`, edit it (docs/wiring.md); then --wiring net.toml; or choose a chain with --layers 'NAME,NAME'",
    )


def _inverted_residual(parts: Sequence[FileLayer], planned: Plan) -> FileLayer | None:
    """The first layer of a block that widens, filters each channel and narrows to the width that it read.

    Such blocks add what they read to their result (Sandler et al., "MobileNetV2", CVPR 2018), whatever their names.
    """
    for k, (wide, depthwise, narrow) in enumerate(zip(parts, parts[1:], parts[2:], strict=False)):
        channelwise = planned.fits[k + 1].groups == depthwise.n_target == wide.n_target
        pointwise = wide.kernel and narrow.kernel and wide.taps == narrow.taps == 1
        if channelwise and pointwise and narrow.n_target == wide.n_source < wide.n_target:
            return wide
    return None


def _layers(file: ArrayFile, roles: list[ArrayRole], options: Options) -> tuple[list[ArrayRole], list[int]]:
    """The arrays that are layers, and the place of each in what was said; those of one place have no order by that."""
    if options.layers:
        return _picked(roles, options.layers, file.where)
    _refuse_objects(file, roles)
    layers = chosen(roles, file.where)
    masked = {role.stem: role for role in roles if role.role == "original"}
    for layer in layers:
        weight = masked.get(layer.stem, layer)
        if layer.role == "mask" and layer.array.shape != weight.array.shape:
            raise InvalidInputError(
                f"{file.where}: mask {layer.name!r}: expected the shape of {weight.name!r}, "
                f"{' x '.join(map(str, weight.array.shape))}, found {' x '.join(map(str, layer.array.shape))}",
                hint="is it packed, eight entries to a byte? Unpack it first (np.unpackbits)",
            )
    lone_masks = [layer for layer in layers if layer.role == "mask" and layer.stem not in masked]
    weights = [layer for layer in layers if layer.role == "weight"]
    if lone_masks and weights and {m.array.shape for m in lone_masks} <= {w.array.shape for w in weights}:
        raise InvalidInputError(
            f"{file.where}: expected masks with the names of their weights, found masks {_names(lone_masks)} beside "
            f"weights {_names(weights)}",
            hint=f"choose the masks, in the order of execution: --layers '{','.join(m.name for m in lone_masks[:8])}'",
        )
    return layers, [0] * len(layers)


def _picked(roles: list[ArrayRole], patterns: Sequence[str], where: str) -> tuple[list[ArrayRole], list[int]]:
    """The layers that names or globs choose, in the order of these, and the place of the one that chose each."""
    able = [role for role in roles if len(role.array.shape) >= 2 and role.role != "other"]
    picked: list[ArrayRole] = []
    places: list[int] = []
    for place, pattern in enumerate(patterns):
        exact = [role for role in able if role.name == pattern]
        matching = exact or [
            role
            for role in able
            if role.holds_layer and (fnmatchcase(role.name, pattern) or fnmatchcase(role.stem, pattern))
        ]
        if not matching:
            raise InvalidInputError(
                f"{where}: --layers {pattern}: expected the name of an array of 2 or more axes, or a glob of names, "
                f"found none such among {_names(able)}"
            )
        new = [role for role in matching if role not in picked]
        picked += new
        places += [place] * len(new)
    if len(set(places)) < len(places):
        chosen(picked, where)  # refuses two arrays of one layer
    stems = [role.stem for role in picked]
    if len(set(stems)) < len(stems):
        double = next(stem for stem in stems if stems.count(stem) > 1)
        raise InvalidInputError(f"{where}: --layers: expected every layer once, found {double!r} twice")
    return picked, places


class _Search:
    """The orders in which the layers of a file chain, for each order of axes."""

    def __init__(
        self, file: ArrayFile, layers: list[ArrayRole], places: list[int], options: Options, *, said: bool
    ) -> None:
        self._file = file
        self._layers = layers
        self._places = places
        self._options = options
        self._said = said
        self._ordered = said or file.ordered
        self._names = [layer.stem for layer in layers]
        self._kernels = any(len(layer.array.shape) > 2 for layer in layers)
        self._parts: dict[AxisOrder, list[FileLayer]] = {}
        self._total = self._total_order()

    def parts(self, axes: AxisOrder) -> list[FileLayer]:
        """The layers of the file, if its axes stand in this order."""
        if axes not in self._parts:
            self._parts[axes] = [self._part(layer, axes) for layer in self._layers]
        return self._parts[axes]

    def decide(self) -> tuple[AxisOrder, Order, tuple[str, ...]]:
        """The axes and the order that the evidence leaves, and the evidence in words."""
        asked = self._options.axes
        able: tuple[AxisOrder, ...] = ("in-out", "out-in")
        if asked is not None or self._file.sure:
            able = (asked or self._file.axes,)
        fitting: dict[AxisOrder, list[Order]] = {}
        for grouped in (False, True):
            fitting = {axes: orders for axes in able if (orders := self._orders(axes, grouped=grouped))}
            if fitting:
                break
        if not fitting:
            return self._none_fits(asked)
        axes, why = self._choose_axes(fitting, asked)
        order, how = self._choose_order(fitting[axes], axes)
        if self._options.bias == "auto" and not self._file.sure:
            self._check_bias(axes, order, [other for other in fitting if other != axes])
        return axes, order, (why, how)

    def _check_bias(self, axes: AxisOrder, order: Order, others: list[AxisOrder]) -> None:
        """That a last row is a bias follows from the widths only where they leave no other order, of layers or axes."""
        parts = [self.parts(axes)[k] for k in order]
        if all(follows(a, b, grouped=True) for a, b in pairwise(parts)) or (not others and self._total is not None):
            return
        also = f"; where rows are {'targets' if axes == 'in-out' else 'sources'} they chain as well" if others else ""
        raise InvalidInputError(
            f"{self._file.where}: expected layers that chain as they are, found layers that chain only if the last row "
            f"of each matrix is a bias: {shapes_of(parts)}{also}",
            hint="if it is say --bias last-row; else say --orientation, choose layers and their order with --layers "
            "'NAME,NAME', or write the wiring down: --wiring net.toml",
        )

    def _choose_axes(self, fitting: dict[AxisOrder, list[Order]], asked: AxisOrder | None) -> tuple[AxisOrder, str]:
        rows = {"in-out": "rows are sources (in-out)", "out-in": "rows are targets (out-in)"}
        if asked is not None:
            return asked, f"{rows[asked]}, as you said"
        usual, by_name = self._file.axes, axes_of_names(self._layers)
        if self._file.sure:
            return usual, f"{rows[usual]}, as the format has it"
        if len(fitting) == 1:
            (axes,) = fitting
            told = by_name is None and usual == "in-out" and self._total is not None
            if axes in {usual, by_name} or told:
                return axes, f"{rows[axes]}: only so do the layers chain"
            other: AxisOrder = "out-in" if axes == "in-out" else "in-out"
            raise InvalidInputError(
                f"{self._file.where}: expected layers that chain where {rows[other]}, as files of this kind have it, "
                f"found layers that chain only where {rows[axes]}: "
                f"{_widths([self.parts(axes)[k] for k in fitting[axes][0]])}; "
                f"as they are: {shapes_of(self.parts(other))}",
                hint=f"if that is right say --orientation {axes}; else choose the layers and their order with "
                "--layers 'NAME,NAME', or write the wiring down: --wiring net.toml",
            )
        agree = by_name in {None, usual}
        unsettled = by_name is None and self._kernels and usual == "in-out"
        if agree and not unsettled and (usual == "out-in" or fitting["in-out"] == fitting["out-in"]):
            return usual, f"{rows[usual]}, as files of this format have it"
        if by_name == "in-out" or (by_name == "out-in" and (usual == "out-in" or self._kernels)):
            return by_name, f"{rows[by_name]}, as in files with such names"
        readings = [f"{axes}: {_widths([self.parts(axes)[k] for k in orders[0]])}" for axes, orders in fitting.items()]
        raise InvalidInputError(
            f"{self._file.where}: expected one order of axes in which the layers chain, found two: "
            f"{'; or '.join(readings)}",
            hint="say --orientation out-in (as torch stores weights, kernels oihw) or --orientation in-out (as Keras "
            "and Flax do, kernels hwio)",
        )

    def _choose_order(self, orders: list[Order], axes: AxisOrder) -> tuple[Order, str]:
        if self._ordered:
            return orders[0], "the order is " + ("the one you said" if self._said else "that of the model in the file")
        if len(self._layers) == 1:
            return orders[0], "there is one layer"
        definition = tuple(range(len(self._layers)))
        parts = self.parts(axes)
        told = self._file.in_order and [layer.name for layer in self._layers] != sorted(
            layer.name for layer in self._layers
        )
        chains = told and self._chains(definition, parts, grouped=True)
        if len(orders) == 1:
            if chains and orders[0] != definition:
                raise self._two_orders(orders[0], definition, "by the names", "by the order in the file")
            if len(set(self._places)) > 1:
                return orders[0], "the order is the one you said" + (", and that of the names" if self._total else "")
            return orders[0], "the order is that of the names" if self._total else "only in this order do they chain"
        if chains and self._agrees(definition):
            return definition, "the order is that of the file"
        raise self._two_orders(orders[0], orders[1], "first", "second")

    def _two_orders(self, one_order: Order, other: Order, how: str, how_else: str) -> InvalidInputError:
        first, second = (" -> ".join(self._names[k] for k in order[:12]) for order in (one_order, other))
        listed = ",".join(self._layers[k].name for k in one_order[:12]) + (",..." if len(one_order) > 12 else "")
        return InvalidInputError(
            f"{self._file.where}: expected one order in which the layers chain, found two: {how} {first}; "
            f"{how_else} {second}",
            hint=f"say the order of execution: --layers '{listed}'",
        )

    def _none_fits(self, asked: AxisOrder | None) -> tuple[AxisOrder, Order, tuple[str, ...]]:
        """No order chains: the planner says why of the order that the names suggest."""
        axes = asked or axes_of_names(self._layers) or self._file.axes
        order = self._total or tuple(sorted(range(len(self._names)), key=self._natural))
        parts = [self.parts(axes)[k] for k in order]
        plan(parts, bias=self._options.bias, where=self._file.where, limits=self._options.limits)
        raise InvalidInputError(
            f"{self._file.where}: expected names that tell the order of the layers, "
            f"found {', '.join(self._names[:12])}",
            hint=f"say the order of execution: --layers '{','.join(layer.name for layer in self._layers[:12])}'",
        )

    def _orders(self, axes: AxisOrder, *, grouped: bool) -> list[Order]:
        """At most two orders that agree with the names and chain."""
        parts = self.parts(axes)
        if self._total is not None:
            return [self._total] if self._chains(self._total, parts, grouped=grouped) else []
        if len(parts) > _MOST_SEARCHED:
            return []
        for extra in self._extras(parts):
            if orders := self._extend(parts, extra, grouped=grouped):
                return orders
        return []

    def _chains(self, order: Order, parts: list[FileLayer], *, grouped: bool) -> bool:
        return any(
            all(follows(parts[a], parts[b], extra=extra, grouped=grouped) for a, b in pairwise(order))
            for extra in self._extras(parts)
        )

    def _extras(self, parts: list[FileLayer]) -> tuple[int, ...]:
        """How many rows of each matrix may be no sources: one where the last row may be a bias."""
        if any(part.kernel for part in parts) or self._options.bias == "none":
            return (0,)
        return (1,) if self._options.bias == "last-row" else (0, 1)

    def _extend(self, parts: list[FileLayer], extra: int, *, grouped: bool) -> list[Order]:
        count = len(parts)
        before = [{k for k in range(count) if k != j and self._precedes(k, j)} for j in range(count)]
        orders: list[Order] = []
        tried = 0
        stack: list[Order] = [()]
        while stack and len(orders) < 2 and tried < _MOST_TRIED:
            tried += 1
            order = stack.pop()
            if len(order) == count:
                orders.append(order)
                continue
            placed = set(order)
            for j in range(count - 1, -1, -1):
                if j in placed or not before[j] <= placed:
                    continue
                if not order or follows(parts[order[-1]], parts[j], extra=extra, grouped=grouped):
                    stack.append((*order, j))
        return orders if len(orders) == 2 or not stack else []  # a search that was cut off does not say "the only one"

    def _agrees(self, order: Order) -> bool:
        """Whether an order is one that the names allow."""
        return not any(self._precedes(order[b], order[a]) for a in range(len(order)) for b in range(a + 1, len(order)))

    def _total_order(self) -> Order | None:
        """The order, where it was said or the names tell all of it."""
        positions = range(len(self._names))
        if self._ordered or len(self._names) == 1:
            return tuple(positions)

        def compare(a: int, b: int) -> int:
            before = self._precedes(a, b)
            if before is None:
                return -1 if self._natural(a) < self._natural(b) else 1
            return -1 if before else 1

        order = tuple(sorted(positions, key=cmp_to_key(compare)))
        return order if all(self._precedes(a, b) for a, b in pairwise(order)) else None

    def _precedes(self, a: int, b: int) -> bool | None:
        """Whether a layer comes before another: as was said, else by their names; None where neither tells."""
        if self._places[a] != self._places[b]:
            return self._places[a] < self._places[b]
        return precedes(self._names[a], self._names[b])

    def _natural(self, layer: int) -> tuple[int, list[tuple[int, str]]]:
        return self._places[layer], natural(self._names[layer])

    def _part(self, layer: ArrayRole, axes: AxisOrder) -> FileLayer:
        n_source, n_target, taps = dims(layer.array.shape, axes)
        where = f"{self._file.at(layer.name)}: layer {layer.stem!r}"
        load = partial(cells_of, layer.array, axes, zeros=self._options.zeros, limits=self._options.limits, where=where)
        kernel = len(layer.array.shape) > 2
        return FileLayer(layer.stem, n_source, n_target, load, taps, kernel, layer.name, axes)


def _flatten(
    parts: Sequence[FileLayer], planned: Plan, axes: AxisOrder, options: Options, file: ArrayFile
) -> Flatten | None:
    """How a picture is flattened before a linear layer; None where none is."""
    at = next((k for k, part in enumerate(parts) if not part.kernel and planned.fits[k].taps > 1), None)
    if at is None:
        return None
    if options.flatten is not None:
        return options.flatten
    if file.flatten is not None or axes == "out-in":
        return file.flatten or "channels-first"
    if all("kernel" in part.parameter.lower() for part in parts):
        return "channels-last"
    fit = planned.fits[at]
    raise InvalidInputError(
        f"{file.where}: layer {parts[at].name!r}: expected to know how {fit.n_source} channels at {fit.taps} positions "
        f"are flattened into its {parts[at].n_source} sources, found nothing that tells",
        hint="say --flatten channels-last (as Keras and Flax do) or --flatten channels-first (as torch does)",
    )


def _left_out(file: ArrayFile, roles: Sequence[ArrayRole], layers: Sequence[ArrayRole]) -> list[str]:
    taken = {layer.name for layer in layers}
    notes: list[str] = []
    for kind, words in (
        ("original", "weights whose masks are read"),
        ("average", "averages of the weights"),
        ("optimiser", "state of the optimiser"),
        ("buffer", "buffers"),
        ("weight", "layers that were not chosen"),
        ("mask", "masks that were not chosen"),
        ("other", "arrays that are not read"),
    ):
        names = [role for role in roles if role.role == kind and role.name not in taken and len(role.array.shape) >= 2]
        if names:
            notes.append(f"left out, {words}: {_names(names)}")
    return notes + [f"left out: {left.name}: {left.what}, {left.why}" for left in file.left_out[:4]]


def _doubts(parts: Sequence[FileLayer]) -> list[str]:
    first = parts[0]
    if not first.kernel or len(parts) == 1 or first.n_source in _USUAL_CHANNELS:
        return []
    doubt = (
        f"the first layer, {first.name!r}, reads {first.n_source} channels; a grouped convolution stores the channels "
        "of one group only: if it has groups, write the wiring down (--wiring net.toml)"
    )
    return [doubt]


def _widths(parts: Sequence[FileLayer]) -> str:
    chain = "-".join(str(n) for n in (parts[0].n_source, *(part.n_target for part in parts)))
    taps = sorted({part.taps for part in parts if part.kernel})
    return f"{chain} units" + (f" with {', '.join(map(str, taps))} taps" if taps else "")


def _counted(roles: Sequence[ArrayRole]) -> str:
    counts: dict[str, int] = {}
    for role in roles:
        counts[role.role] = counts.get(role.role, 0) + 1
    return ", ".join(f"{count} {role}" for role, count in counts.items())


def _names(roles: Sequence[ArrayRole], most: int = 6) -> str:
    shown = ", ".join(repr(role.name) for role in roles[:most])
    return shown + (f" and {len(roles) - most} more" if len(roles) > most else "")
