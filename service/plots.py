"""Pictures of answers, drawn with matplotlib (the extra ``plot``): the same that the command line draws by ``--png``.

Each gives a ``Picture``, which a notebook shows, and writes it where a path is named, whose suffix says the kind: .png,
.svg, .pdf. Each raises ``MissingExtraError`` where matplotlib is not installed, ``InvalidInputError`` for a path that
is no picture or cannot be written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.matrix import DistanceMatrix, leaves, short
from topostrata.errors import InvalidInputError
from topostrata.service.pictures import Picture, finished, new_figure, plain
from topostrata.shown import Shown

if TYPE_CHECKING:  # a picture of distances needs no archive
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.text import Annotation

    from topostrata.distance.edits import Edits, UnitEdits
    from topostrata.distance.match import Match
    from topostrata.distance.nnstd import Distance
    from topostrata.distance.null_model import MatrixChance
    from topostrata.evolution.between import Evolution
    from topostrata.evolution.stored import RunHistory
    from topostrata.evolution.survival import RunSurvival
    from topostrata.lineage.declared import Lineage
    from topostrata.lineage.inferred import Inference
    from topostrata.lineage.timelines import Timeline
    from topostrata.runs import Snapshot, StepMetrics

_MOST_LABELS = 200
_MOST_NUMBERS = 16
_MOST_NAMES = 25
_MOST_PANELS = 12
_BENT = 0.35  # height of an arc over its length, twice
_ROW = 1.1  # inches between the runs of a generation
_REWIRED = "all that are not always full"
_EDITS = (("stays", "0.72", "s"), ("goes", "tab:orange", "x"), ("comes", "tab:blue", "+"))  # word, colour, marker
_SCALE = "distance (0 = same wiring, 1 = nothing in common)"


def picture_of(value: Shown, path: str | os.PathLike[str] | None = None) -> Picture:
    """The picture of a result: what its ``plot`` draws.

    Raises ``InvalidInputError`` for a result that has none.
    """
    drawers: dict[str, Callable[[Any, str | os.PathLike[str] | None], Picture]] = {
        "Distance": layer_bars,
        "DistanceMatrix": clustered_map,
        "Edits": edit_map,
        "Evolution": change_bars,
        "Inference": lambda inferred, file: descent_tree(None, inferred, file),
        "Lineage": lambda declared, file: descent_tree(declared, None, file),
        "Match": match_bars,
        "RunHistory": births_and_deaths,
        "RunSurvival": survival_curves,
        "Timeline": timeline_curve,
    }
    return drawers[type(value).__name__](value, path)


def layer_bars(distance: Distance, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw the distance of each layer, and what chance would give where it is known.

    >>> import topostrata as ts
    >>> picture = ts.layer_bars(archive.nnstd("w0@0", "w0@10", alignment="identity"))
    """
    names = [row.name for row in distance.layers]
    figure, axes = _bars(names)
    axes.bar(range(len(names)), [row.distance for row in distance.layers], color="tab:blue", label="distance")
    levels = [(k, row.chance) for k, row in enumerate(distance.layers) if row.chance is not None]
    if levels:
        places, chances = zip(*levels, strict=True)
        heights, spreads = [c.level for c in chances], [c.spread for c in chances]
        axes.errorbar(places, heights, spreads, fmt="_", markersize=24, color="black", label="chance, and its spread")
        axes.legend(fontsize=8)
    axes.axhline(distance.nnstd, color="grey", linestyle=":")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("distance")
    axes.set_title(f"NNSTD {distance.nnstd:.4f} (dotted: the mean), alignment {distance.alignment}", fontsize=10)
    return finished(figure, path)


def match_bars(match: Match, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw how many units of each space are established, and how many are unknown.

    >>> import topostrata as ts
    >>> picture = ts.match_bars(archive.match("w0@0", "w0@10"))
    """
    figure, axes = _bars([space.name for space in match.spaces])
    known = [int(space.established.sum()) for space in match.spaces]
    rest = [space.width_a - count for space, count in zip(match.spaces, known, strict=True)]
    _stack(axes, {"established": (known, "tab:blue", ""), "unknown": (rest, "0.85", "//")})
    axes.set_ylabel("units")
    axes.set_title(f"{match.established:,} of {match.units:,} units are established", fontsize=10)
    return finished(figure, path)


def change_bars(evolution: Evolution, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw what became of each layer's connections between two steps.

    >>> import topostrata as ts
    >>> picture = ts.change_bars(archive.evolution("w0", 0, 10))
    """
    figure, axes = _bars([layer.name for layer in evolution.layers])
    kinds = {
        "survived": ("0.75", ""),
        "regrown": ("tab:green", ".."),
        "born": ("tab:blue", "++"),
        "died": ("tab:orange", "xx"),
    }
    _stack(axes, {k: ([getattr(y, k) for y in evolution.layers], *look) for k, look in kinds.items()})
    axes.set_ylabel("connections")
    ends = f"{evolution.from_run}@{evolution.from_step} to {evolution.run}@{evolution.to_step}"
    axes.set_title(plain(ends), fontsize=10)
    return finished(figure, path)


def _bars(names: Sequence[str]) -> tuple[Figure, Axes]:
    figure = new_figure(min(max(5.0, 1.5 + 0.6 * len(names)), 20.0), 4.0)
    axes = figure.subplots()
    turned = 60 if len(names) > 6 else 0
    axes.set_xticks(
        range(len(names)), [plain(name) for name in names], rotation=turned, ha="right" if turned else "center"
    )
    return figure, axes


def _stack(axes: Axes, parts: Mapping[str, tuple[Sequence[int], str, str]]) -> None:
    """Bars on top of each other, told apart by colour and by hatching."""
    below = np.zeros(max(len(heights) for heights, *_ in parts.values()))
    for label, (heights, colour, hatch) in parts.items():
        axes.bar(range(len(heights)), heights, bottom=below, color=colour, hatch=hatch, edgecolor="white", label=label)
        below += heights
    axes.set_ylim(0, 1.3 * float(below.max()) or 1.0)  # room for the legend
    axes.legend(fontsize=8, ncols=len(parts), loc="upper center")


def heat_maps(matrices: Mapping[str, DistanceMatrix], path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw matrices side by side on the scale from 0 to 1, each under its title: dark = near, bright = far.

    Where a matrix has its chance level, the scale shows it as a band.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> networks = [ts.Topology.from_masks([mask]) for mask in ([[1, 0], [0, 1]], [[1, 1], [0, 1]])]
    >>> matrix = ts.distances(networks, labels=["a", "b"], alignment="identity")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.heat_maps({"identity": matrix}, f"{folder}/map.png")
    """
    most = max(len(matrix.labels) for matrix in matrices.values())
    side = min(4.0 + 0.3 * most, 14.0)
    figure = new_figure(side * len(matrices) + 1.2, side)
    every = figure.subplots(1, len(matrices), squeeze=False)[0]
    images = [_draw(axes, matrix, title) for axes, (title, matrix) in zip(every, matrices.items(), strict=True)]
    _colour_bar(figure, images[-1], list(every), {title: matrix.chance for title, matrix in matrices.items()})
    return finished(figure, path)


def clustered_map(matrix: DistanceMatrix, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw one matrix with similar networks side by side, below its dendrogram (average linkage).

    Where the matrix has its chance level, the scale shows it as a band.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> networks = [ts.Topology.from_masks([mask]) for mask in ([[1, 0], [0, 1]], [[1, 1], [0, 1]])]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.clustered_map(ts.distances(networks, alignment="identity"), f"{folder}/map.svg")
    """
    if len(matrix.labels) < 2:
        return heat_maps({f"NNSTD, alignment {matrix.alignment}": matrix}, path)
    tree = matrix.linkage()
    order = leaves(tree)
    names = [name.replace("$", r"\$") for name in short(matrix.labels)]  # no formulas
    sorted_ = DistanceMatrix(
        tuple(names[k] for k in order),
        matrix.alignment,
        matrix.nnstd[np.ix_(order, order)],
        matrix.layers[:0, :0],  # not drawn
        matrix.layer_names,
    )
    side = min(4.0 + 0.3 * len(order), 14.0)
    figure = new_figure(side + 1.2, side + 1.0)
    axes = figure.subplots()
    image = _draw(axes, sorted_, "")
    above = axes.inset_axes((0, 1.02, 1, 0.14), sharex=axes)  # as wide as the map itself, without its labels
    for across, up in _branches(tree, order):
        above.plot(across, up, color="black", linewidth=1)
    above.set_ylim(bottom=0)
    above.tick_params(labelbottom=False, bottom=False)
    above.spines[["top", "right", "bottom"]].set_visible(False)
    above.set_title(f"NNSTD, alignment {matrix.alignment}; above: average linkage")
    _colour_bar(figure, image, [axes], {"": matrix.chance})
    return finished(figure, path)


def _colour_bar(figure: Figure, image: AxesImage, maps: list[Axes], chances: Mapping[str, MatrixChance | None]) -> None:
    """The scale of distances; a band in it are the levels of chance of each map, from the lowest to the highest."""
    bar = figure.colorbar(image, ax=maps, label=_SCALE, shrink=0.8)
    lowest = 0.0  # where the next label has room
    for title, level in sorted(chances.items(), key=lambda entry: 0.0 if entry[1] is None else entry[1].level):
        if level is None:
            continue
        bar.ax.axhspan(level.low, level.high, facecolor="white", edgecolor="black", hatch="//", linewidth=1.2)
        words = "chance" if len(chances) == 1 else f"chance\n{plain(title)}"
        place = max(level.level, lowest)
        bar.ax.annotate(
            f"{words}\n{level.level:.3f}",
            (0.0, level.level),
            (-0.35, place),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "linewidth": 0.8, "relpos": (1, 0.5)},
        )
        lowest = place + 0.05 * (words.count("\n") + 2)


def _branches(tree: NDArray[np.float64], order: Sequence[int]) -> Iterator[tuple[list[float], list[float]]]:
    """The lines of a dendrogram over columns 0, 1, ...: up from one branch, across, down to the other."""
    place = {leaf: (float(column), 0.0) for column, leaf in enumerate(order)}
    for k, (left, right, height, _) in enumerate(tree.tolist()):
        (x0, y0), (x1, y1) = place[int(left)], place[int(right)]
        yield [x0, x0, x1, x1], [y0, height, height, y1]
        place[len(order) + k] = (x0 + x1) / 2, height


def _draw(axes: Axes, matrix: DistanceMatrix, title: str) -> AxesImage:
    n = len(matrix.labels)
    image = axes.imshow(matrix.nnstd, cmap="viridis", vmin=0.0, vmax=1.0)
    axes.set_title(title)
    named = range(0, n, math.ceil(n / _MOST_LABELS))
    size = min(10.0, 800 / n)
    axes.set_xticks(named, [matrix.labels[k] for k in named], rotation=90, fontsize=size)
    axes.set_yticks(named, [matrix.labels[k] for k in named], fontsize=size)
    if n <= _MOST_NUMBERS:
        for i in range(n):
            for j in range(n):
                value = matrix.nnstd[i, j]
                colour = "black" if value > 0.6 else "white"
                axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=8)
    return image


def edit_map(
    edits: Edits, path: str | os.PathLike[str] | None = None, *, unit: tuple[str, int] | None = None
) -> Picture:
    """Draw what makes one network another: each layer's connections, those that stay, go and come.

    A panel a layer that has edits, target units across and source units down, both in the order of the first network;
    units that only the second one has stand behind. Of more than 12 layers those with most edits are drawn. With
    ``unit``, such as ``("hidden1", 3)``, it is the inputs of that unit alone: source units across.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.edit_map(archive.edits("w0@0", "w0@10"), f"{folder}/edits.png")
    ...     picture = ts.edit_map(archive.edits("w0@0", "w0@10"), f"{folder}/unit.png", unit=("hidden1", 0))
    """
    if unit is not None:
        return finished(_unit_map(edits.unit(*unit)), path)
    changed = sorted(edits.layers, key=lambda layer: -layer.deleted - layer.inserted)[:_MOST_PANELS]
    drawn = [layer for layer in edits.layers if layer in changed and layer.deleted + layer.inserted] or changed[:1]
    columns = min(3, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    figure = new_figure(4.6 * columns, 4.6 * lines + 0.6)
    panels = figure.subplots(lines, columns, squeeze=False).reshape(-1)
    kinds = [(ends, *drawn_as) for ends, drawn_as in zip(("kept", "deletions", "insertions"), _EDITS, strict=True)]
    for axes, layer in zip(panels, drawn, strict=False):
        most = max(layer.common, layer.deleted, layer.inserted, 1)
        size = min(30.0, max(1.5, 6000 / most))
        beyond = [1 + max((int(getattr(layer, kind)[:, at].max(initial=-1)) for kind, *_ in kinds)) for at in (0, 1)]
        for kind, label, colour, marker in kinds:
            ends = getattr(layer, kind)
            places = [np.where(ends[:, at] < 0, beyond[at] + ends[:, at + 3], ends[:, at]) for at in (0, 1)]
            axes.scatter(places[1], places[0], s=size, c=colour, marker=marker, linewidths=0.8, label=label)
        axes.invert_yaxis()
        axes.set_title(
            plain(f"{layer.name}: {layer.common:,} stay, {layer.deleted:,} go, {layer.inserted:,} come"), fontsize=9
        )
        axes.set_xlabel(plain(layer.target), fontsize=8)
        axes.set_ylabel(plain(layer.source), fontsize=8)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    rest = len(edits.layers) - len(drawn)
    more = f"; not drawn: {rest} of {len(edits.layers)} layers, with fewer edits or none" if rest else ""
    figure.suptitle(f"{edits.total:,} edits, NNSTD {edits.nnstd:.4f}, alignment {edits.alignment}{more}", fontsize=10)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, markerscale=2)
    return finished(figure, path)


def _unit_map(unit: UnitEdits) -> Figure:
    """The inputs of one unit, a panel a layer: those that stay, go and come, by their source units."""
    inputs = (unit.common, unit.delete, unit.insert)
    layers = list(dict.fromkeys(entry.layer for kind in inputs for entry in kind))
    figure = new_figure(9.0, 0.9 + 1.5 * max(len(layers), 1))
    panels = figure.subplots(max(len(layers), 1), 1, squeeze=False).reshape(-1)
    for axes, layer in zip(panels, layers, strict=False):
        here = [[entry for entry in kind if entry.layer == layer] for kind in inputs]
        beyond = 1 + max(entry.source for kind in here for entry in kind)
        for row, (kind, (label, colour, marker)) in enumerate(zip(here, _EDITS, strict=True)):
            places = [entry.source if entry.source >= 0 else beyond + entry.source_b for entry in kind]
            axes.scatter(places, [row] * len(places), s=30, c=colour, marker=marker, linewidths=1.0, label=label)
        axes.set_yticks(range(3), [f"{label}: {len(kind)}" for kind, (label, *_) in zip(here, _EDITS, strict=True)])
        axes.set_ylim(2.6, -0.6)
        axes.set_xlabel(plain(f"source units of {layer}"), fontsize=8)
    if not layers:
        panels[0].set_axis_off()
    told = "without a counterpart" if unit.partner < 0 else f"B's unit {unit.partner}"
    figure.suptitle(plain(f"{unit.space}:{unit.unit}, {told}: distance {unit.distance:.4f}"), fontsize=10)
    return figure


def survival_curves(survival: RunSurvival, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw, for each layer, the share of the connections alive at a snapshot that have stayed alive since, by step.

    The thick line is all layers together that are not always full; those that are have no line.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.survival_curves(archive.survival("w0"), f"{folder}/survival.png")
    """
    figure = new_figure(8.0, 5.0)
    axes = figure.subplots()
    whole = survival.rewired or survival.total
    for layer in (*survival.layers, whole):
        if layer is whole or (layer.share < 1).any():  # a layer that is always full has nothing to show
            thick = layer is whole
            label = _REWIRED if thick and survival.rewired is not None else layer.name
            axes.plot(survival.times, layer.share, label=plain(label), linewidth=2.5 if thick else 1, marker="o", ms=3)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(_step_label(survival.refs))
    axes.set_ylabel("share alive ever since")
    axes.set_title(plain(f"survival of the connections alive at {survival.from_ref}"))
    axes.legend()
    return finished(figure, path)


def metric_curves(
    run: str, entries: Sequence[StepMetrics | Snapshot], path: str | os.PathLike[str] | None = None
) -> Picture:
    """Draw the metrics of a run over its steps: its own, then each one of its layers, a line a layer.

    Raises ``InvalidInputError`` where there are no metrics or the path is no picture, ``MissingExtraError`` without
    matplotlib.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.metric_curves("w0", archive.metrics("w0"), f"{folder}/metrics.png")
    """
    numbers: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for entry in entries:
        for name, value in entry.metrics.items():
            numbers.setdefault(f"metric {name}", {}).setdefault(run, []).append((entry.step, value))
        for layer, metrics in entry.layer_metrics.items():
            for name, value in metrics.items():
                numbers.setdefault(f"layer metric {name}", {}).setdefault(layer, []).append((entry.step, value))
    if not numbers:
        raise InvalidInputError(f"run {run!r}: expected metrics to draw, found none")
    figure = new_figure(8.0, 0.8 + 2.6 * len(numbers))
    titles = sorted(numbers, key=lambda title: (title.startswith("layer"), title))
    for axes, title in zip(figure.subplots(len(numbers), 1, sharex=True, squeeze=False)[:, 0], titles, strict=True):
        for name, points in numbers[title].items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.replace("$", r"\$"))
        axes.set_title(title, fontsize=10)
        if title.startswith("layer") and len(numbers[title]) <= _MOST_NAMES:
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlabel("step")
    return finished(figure, path)


def births_and_deaths(history: RunHistory, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw how many connections were born and died per step between snapshots, and what has been explored so far.

    Of the layers that are not always full, together; below, the density and the share that was ever alive.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.births_and_deaths(archive.history("w0"), f"{folder}/births.png")
    """
    whole = history.rewired or history.total
    times = [moment.time for moment in history.moments]
    figure = new_figure(8.0, 7.0)
    rates, extent = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    lengths = np.diff(times)
    kinds = (("born", "-"), ("died", "--"), ("regrown", ":"))
    for kind, style in kinds if len(times) > 1 else ():
        label = "regrown (of those born)" if kind == "regrown" else kind
        rates.stairs(
            getattr(whole, kind)[1:] / lengths, times, label=label, linestyle=style, linewidth=1.8, baseline=None
        )
    rates.set_ylim(bottom=0)
    rates.set_ylabel("connections per step")
    rates.legend(fontsize=8)
    what = "the layers that are not always full" if history.rewired is not None else "all layers"
    rates.set_title(plain(f"{history.run}: births and deaths between snapshots, {what}"))
    extent.plot(times, whole.exploration, label="alive now or ever before (exploration)", marker="o", ms=3)
    extent.plot(times, whole.density, label="alive now (density)", linestyle="--", marker="s", ms=3)
    extent.set_ylim(bottom=0)
    extent.set_ylabel("share of possible connections")
    extent.set_xlabel(_step_label(history.refs))
    extent.legend(fontsize=8)
    return finished(figure, path)


def timeline_curve(line: Timeline, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw the distance over the steps, its smallest value, and the level of chance if it is known.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.timeline_curve(archive.timeline("w0"), f"{folder}/timeline.png")
    """
    figure = new_figure(8.0, 5.0)
    axes = figure.subplots()
    steps = [point.step for point in line.points]
    axes.plot(steps, [point.distance for point in line.points], marker="o", markersize=3, label="distance")
    if any(point.chance is not None for point in line.points):
        levels = [math.nan if point.chance is None else point.chance for point in line.points]
        axes.plot(steps, levels, linestyle="--", color="grey", label="chance")
    if (closest := line.closest) is not None:
        axes.annotate(
            f"closest: {closest.distance:.3f}",
            (closest.step, closest.distance),
            textcoords="offset points",
            xytext=(8, -12 if closest.distance > 0.05 else 4),  # within the axes
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("step")
    axes.set_ylabel("NNSTD")
    axes.set_title(f"{line.a} and its own past" if line.a == line.b else f"{line.a} and {line.b}")
    axes.legend()
    return finished(figure, path)


def descent_tree(
    declared: Lineage | None, inferred: Inference | None, path: str | os.PathLike[str] | None = None
) -> Picture:
    """Draw runs by generation: declared descent as arrows with how and step, inferred as dashed lines with support.

    What passes a generation goes around its runs in an arc. Raises ``MissingExtraError`` without matplotlib,
    ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = ts.descent_tree(archive.lineage("w1"), None, f"{folder}/descent.png")
    """
    stated = () if declared is None else declared.edges
    if inferred is not None:
        nodes = list(inferred.nodes)
        graph = declared.graph() if declared is not None and stated else inferred.graph()
    elif declared is not None:
        nodes, graph = list(declared.nodes), declared.graph()
    else:
        raise InvalidInputError("descent: expected declared or inferred descent, found neither")
    place = _generations(graph, nodes)
    if not place:
        raise InvalidInputError("descent: expected one or more runs to draw, found none")
    xs, ys = zip(*place.values(), strict=True)
    inferences = () if inferred is None else inferred.edges
    said = {(d.parent, d.child): f"{d.how} @{d.step}" for d in stated if d.parent in place and d.child in place}
    guessed = {(e.parent, e.child): f"{e.distance:.3f}{_support(e.support)}" for e in inferences}
    longest = max(map(len, [*said.values(), *guessed.values()]), default=0)
    column = 0.9 + 0.09 * max(map(len, nodes)) + 0.075 * longest
    low, high = (
        side + sign * max([0.8, *(0.4 + _BENT / 2 * column / _ROW * _reach(place, *ends) for ends in arcs)])
        for side, sign, arcs in ((min(ys), -1, guessed), (max(ys), 1, said))
    )
    figure = new_figure(max(column * (max(xs) - min(xs) + 1), 5.0), _ROW * (high - low) + 0.5)
    axes = figure.subplots()
    axes.set_xlim(min(xs) - 0.5, max(xs) + 0.5)
    axes.set_ylim(low, high)
    boxes = {
        node: axes.annotate(
            plain(node), place[node], ha="center", va="center", bbox={"boxstyle": "round", "fc": "white"}, zorder=3
        )
        for node in nodes
    }
    for labels, dashed in ((guessed, True), (said, False)):
        for ends, text in labels.items():
            _join(axes, boxes, place, ends, text, dashed=dashed)
    axes.set_axis_off()
    lines = "; dashed: inferred, with distance and support" if inferred is not None else ""
    axes.set_title(f"descent (arrows: declared, with how and step{lines})", fontsize=10)
    return finished(figure, path)


def _reach(place: Mapping[str, tuple[float, float]], parent: str, child: str) -> float:
    """How many generations an edge goes that has to go around others' runs; 0 where nothing is in its way."""
    (x0, _), (x1, _) = place[parent], place[child]
    return 1.0 if x0 == x1 else abs(x1 - x0) if abs(x1 - x0) > 1 else 0.0


def _support(support: float | None) -> str:
    return "" if support is None else f", {support:.0%}"


def _join(
    axes: Axes,
    boxes: Mapping[str, Annotation],
    place: Mapping[str, tuple[float, float]],
    ends: tuple[str, str],
    text: str,
    *,
    dashed: bool,
) -> None:
    """An edge from the box of a parent to that of its child, declared above and inferred below, and what it says."""
    (x0, y0), (x1, y1) = (place[end] for end in ends)
    side = -1 if dashed else 1
    bend = side * (_BENT if _reach(place, *ends) else 0.12)
    colour = "tab:orange" if dashed else "black"
    style = {"arrowstyle": "-" if dashed else "-|>", "color": colour, "linestyle": "--" if dashed else "-"}
    boxes_of = {"patchA": boxes[ends[0]].get_bbox_patch(), "patchB": boxes[ends[1]].get_bbox_patch()}
    axes.annotate(
        "",
        (x1, y1),
        (x0, y0),
        arrowprops={**style, **boxes_of, "shrinkA": 2, "shrinkB": 2, "connectionstyle": f"arc3,rad={-bend}"},
        zorder=2,
    )
    # An arc leaves the straight line by half its bend, measured in the picture; so does its label.
    (px0, py0), (px1, py1) = (axes.transData.transform((x, y)) for x, y in ((x0, y0), (x1, y1)))
    middle = (px0 + px1) / 2 - bend / 2 * (py1 - py0), (py0 + py1) / 2 + bend / 2 * (px1 - px0)
    axes.annotate(
        plain(text),
        tuple(axes.transData.inverted().transform(middle)),
        ha="center",
        va="center",
        fontsize=8,
        color=colour,
        annotation_clip=False,
        bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"},
        zorder=4,
    )


def _generations(graph: nx.DiGraph[str], nodes: Sequence[str]) -> dict[str, tuple[float, float]]:
    """A column for each generation, the runs of one generation below each other."""
    import networkx as nx  # noqa: PLC0415 - behind an extra

    graph = nx.DiGraph(graph)
    graph.add_nodes_from(nodes)
    if not nx.is_directed_acyclic_graph(graph):
        graph.remove_edges_from(list(graph.edges))
    place: dict[str, tuple[float, float]] = {}
    for column, generation in enumerate(nx.topological_generations(graph)):
        shown = [node for node in sorted(generation) if node in nodes]
        place.update({node: (float(column), (len(shown) - 1) / 2 - row) for row, node in enumerate(shown)})
    return place


def _step_label(refs: Sequence[str]) -> str:
    """What the axis of steps says: of one run, or of several that continue each other."""
    runs = list(dict.fromkeys(ref.rpartition("@")[0] for ref in refs))
    return "step" if len(runs) == 1 else plain(f"step ({', then '.join(runs)})")
