"""From layers in files to a topology: which rows are biases, how layers follow each other, what is a group.

A ``FileLayer`` is one layer as a file holds it, its shape known and its entries not yet read; so a whole directory can
be checked by its shapes alone. Entries are ``Mask`` cells: ``target * (n_source * taps) + source * taps + tap``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from topostrata.errors import InvalidInputError, InvalidTopologyError, LimitError
from topostrata.ingest.formats.array_file import AxisOrder
from topostrata.ingest.formats.cells import Cells
from topostrata.ingest.formats.limits import Limits
from topostrata.layers import TAPS
from topostrata.memory import beside
from topostrata.topology import Axis, Layer, LayerShape, Mask, Orientation, Part, Space, Topology, Wiring
from topostrata.words import Bias, Flatten

_MAX_CELLS = 2**62


@dataclass(frozen=True, slots=True)
class FileLayer:
    """One layer of a file: shape known, cells read by ``load``. ``kernel``: a convolution, whose units are channels.

    ``parameter`` is the name of its array in the file, ``axes`` the order in which that lies.
    """

    name: str
    n_source: int
    n_target: int
    load: Callable[[], Cells]
    taps: int = 1
    kernel: bool = False
    parameter: str = ""
    axes: AxisOrder = "in-out"

    @property
    def shape(self) -> str:
        """The shape for messages: ``784 x 10``, with the taps of a convolution."""
        return f"{self.n_source} x {self.n_target}" + (f" ({self.taps} taps)" if self.kernel else "")


@dataclass(frozen=True, slots=True)
class Fit:
    """How one layer follows the one before: the sources that its mask counts, its targets, taps and groups."""

    n_source: int
    n_target: int
    taps: int
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How the parts of a network fit: whether each carries a bias row, how each follows, how pictures are flattened."""

    last_row: bool
    fits: tuple[Fit, ...]
    flatten: Flatten = "channels-first"


def plan(
    parts: Sequence[FileLayer], *, bias: Bias, where: str, limits: Limits, flatten: Flatten = "channels-first"
) -> Plan:
    """Fit the parts together by their shapes alone, or say why they do not."""
    if not parts:
        raise InvalidInputError(f"{where}: expected at least one layer, found none")
    limits.check(where, layers=len(parts))
    for part in parts:
        at = f"{where}: layer {part.name!r}"
        limits.check(at, units=max(part.n_source, part.n_target), taps=part.taps)
        if min(part.n_source, part.n_target, part.taps) < 1:
            raise InvalidInputError(f"{at}: expected at least 1 source and 1 target, found {part.shape}")
        if part.n_source * part.n_target * part.taps > _MAX_CELLS:
            raise LimitError(f"{at}: expected at most 2**62 possible connections, found {part.shape}")
    last_row = _has_bias_row(parts, bias, where)
    return Plan(last_row, tuple(_fit(k, parts, where, last_row=last_row) for k in range(len(parts))), flatten)


def follows(before: FileLayer, part: FileLayer, *, extra: int = 0, grouped: bool = False) -> Fit | None:
    """How a layer can follow another, by their shapes; None where it cannot. ``extra``: rows that are no sources."""
    n_source = part.n_source - extra
    if n_source == before.n_target:
        return Fit(n_source, part.n_target, part.taps)
    if before.kernel and not part.kernel and n_source % before.n_target == 0:
        return Fit(before.n_target, part.n_target, n_source // before.n_target)
    if grouped and part.kernel and before.n_target % part.n_source == 0:
        groups = before.n_target // part.n_source
        if part.n_target % groups == 0:
            return Fit(part.n_source, part.n_target, part.taps, groups)
    return None


def assemble(parts: Sequence[FileLayer], planned: Plan, *, where: str, limits: Limits) -> Topology:
    """Read every part as the plan says and chain them. A bias row is dropped: a bias is no connection."""
    masks: list[Mask] = []
    total = 0
    for part, fit in zip(parts, planned.fits, strict=True):
        with beside(8 * total):
            cells = part.load()
        if planned.last_row:
            source, target = cells % (fit.n_source + 1), cells // (fit.n_source + 1)
            cells = (target * fit.n_source + source)[source < fit.n_source]
        elif not part.kernel and fit.taps > 1 and planned.flatten == "channels-last":
            stride = fit.n_source * fit.taps
            position, channel = np.divmod(cells % stride, fit.n_source)
            cells = np.sort(cells - cells % stride + channel * fit.taps + position)
        total += cells.size
        limits.check(where, connections=total)
        masks.append(Mask(fit.n_source, fit.n_target, cells, fit.taps))
    try:
        shapes = wiring_of(parts, planned, parameters=False).layers
        return Topology(tuple(Layer.of(shape, mask) for shape, mask in zip(shapes, masks, strict=True)))
    except InvalidTopologyError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from error


def wiring_of(parts: Sequence[FileLayer], planned: Plan, *, parameters: bool) -> Wiring:
    """The chain that the plan describes. ``parameters``: each layer says which array it is and how that lies.

    A convolution with as many groups as channels before and after it is one filter per channel: its target is its
    source. Other groups are the outer axis of the spaces around them.
    """
    sizes = [planned.fits[0].n_source]
    places: list[tuple[int, int]] = []  # per layer the numbers of its spaces
    for fit in planned.fits:
        source = len(sizes) - 1
        depthwise = fit.groups > 1 and fit.groups == fit.n_target == sizes[source]
        if not depthwise:
            sizes.append(fit.n_target)
        places.append((source, len(sizes) - 1))
    axes = _group_axes(parts, planned.fits, places, len(sizes))
    spaces = [_space(k, len(sizes) - 1, size, axes[k]) for k, size in enumerate(sizes)]
    shapes = []
    for part, fit, (source, target) in zip(parts, planned.fits, places, strict=True):
        named = _part(part, fit, spaces[source], planned) if parameters else None
        shapes.append(LayerShape(part.name, spaces[source], spaces[target], fit.taps, fit.groups, part=named))
    return Wiring(tuple(shapes))


def _group_axes(
    parts: Sequence[FileLayer], fits: Sequence[Fit], places: Sequence[tuple[int, int]], count: int
) -> list[Axis | None]:
    """For each space the axis of the groups around it: grouped layers that follow each other share one."""
    runs: list[int | None] = [None] * count
    groups: list[int] = []
    for part, fit, (source, target) in zip(parts, fits, places, strict=True):
        if fit.groups == 1 or source == target:
            continue
        run = runs[source]
        if run is None:
            run = len(groups)
            groups.append(fit.groups)
        if groups[run] != fit.groups:
            raise InvalidTopologyError(
                f"layer {part.name!r}: expected {groups[run]} groups, as in the layer before it, found {fit.groups}",
                hint="write the wiring down: --wiring net.toml, see docs/wiring.md",
            )
        runs[source] = runs[target] = run
    fixed = {runs[0], runs[-1]}
    return [None if run is None else Axis(f"groups{run}", groups[run], run in fixed) for run in runs]


def _space(k: int, last: int, size: int, groups: Axis | None) -> Space:
    name = "input" if k == 0 else "output" if k == last else f"hidden{k}"
    if groups is None:
        return Space(name, size, labelled=k in {0, last})
    return Space(name, [groups, Axis(f"{name}_in_group", size // groups.size, k in {0, last})])


def _part(part: FileLayer, fit: Fit, source: Space, planned: Plan) -> Part:
    last = not part.kernel and fit.taps > 1 and planned.flatten == "channels-last"
    order = (TAPS, *(axis.name for axis in source.axes)) if last else ()
    orientation: Orientation = "hwio" if part.kernel and part.axes == "in-out" else part.axes
    return Part(part.parameter or part.name, orientation=orientation, order=order)


def _has_bias_row(parts: Sequence[FileLayer], bias: Bias, where: str) -> bool:
    """Whether the last row of each matrix is a bias, by how the layers chain.

    A matrix has one row per unit of the layer before it, and one more where its last row is the bias. Of a single
    matrix nothing can be told, so nothing is guessed: a wrong guess would lose an input unit in silence.
    """
    if any(part.kernel for part in parts):
        if bias == "last-row":
            raise InvalidInputError(f"{where}: expected plain matrices with --bias last-row, found {shapes_of(parts)}")
        return False
    beyond = {after.n_source - before.n_target for before, after in pairwise(parts)}
    if beyond - {0} and beyond - {1}:
        raise InvalidInputError(
            f"{where}: expected each layer to have as many sources as the one before it has targets (or each one more, "
            f"for a bias row), found {shapes_of(parts)}",
            hint=_WAYS_OUT,
        )
    if not beyond and bias == "auto":
        raise InvalidInputError(
            f"{where}: expected several layers, to tell from whether the last row is a bias, found {shapes_of(parts)}",
            hint="say which with --bias none or --bias last-row (in Python bias='none' or bias='last-row')",
        )
    last_row = beyond == {1} if beyond else bias == "last-row"
    if bias != "auto" and last_row != (bias == "last-row"):
        raise InvalidInputError(
            f"{where}: expected shapes that fit --bias {bias}, found {shapes_of(parts)}",
            hint=f"they fit --bias {'last-row' if last_row else 'none'}",
        )
    if last_row and any(part.n_source < 2 for part in parts):
        raise InvalidInputError(f"{where}: expected at least one row besides the bias, found {shapes_of(parts)}")
    return last_row


_WAYS_OUT = (
    "choose layers and their order with --layers 'a,b', turn them with --orientation out-in or in-out, or write the "
    "wiring down: --wiring net.toml"
)


def _fit(k: int, parts: Sequence[FileLayer], where: str, *, last_row: bool) -> Fit:
    part = parts[k]
    if k == 0:
        return Fit(part.n_source - last_row, part.n_target, part.taps)
    before = parts[k - 1]
    fit = follows(before, part, extra=int(last_row), grouped=True)
    if fit is None:
        raise InvalidInputError(
            f"{where}: layer {part.name!r}: expected {before.n_target} sources (the targets of {before.name!r}), "
            f"found {part.n_source - last_row}; all layers: {shapes_of(parts)}",
            hint=_WAYS_OUT,
        )
    return fit


def shapes_of(parts: Sequence[FileLayer]) -> str:
    """Names and shapes for a message."""
    shown = ", ".join(f"{part.name} {part.shape}" for part in parts[:20])
    return shown + (f" and {len(parts) - 20} more" if len(parts) > 20 else "")
