"""Pictures of answers, drawn with matplotlib (the extra ``plot``): the same that the command line draws by ``--png``.

The suffix of the path says the kind: .png, .svg, .pdf. Each raises ``MissingExtraError`` where matplotlib is not
installed, ``InvalidInputError`` for a path that is no picture or cannot be written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.matrix import DistanceMatrix, leaves, short
from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.files import whole

if TYPE_CHECKING:  # a picture of distances needs no archive
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from topostrata.distance.edits import Edits
    from topostrata.evolution.stored import RunHistory
    from topostrata.evolution.survival import RunSurvival
    from topostrata.lineage.declared import Lineage
    from topostrata.lineage.inferred import Inference
    from topostrata.lineage.timelines import Timeline
    from topostrata.runs import Snapshot, StepMetrics

_MOST_LABELS = 60
_MOST_NUMBERS = 16
_MOST_NAMES = 25
_MOST_PANELS = 12
_SCALE = "distance (0 = same wiring, 1 = nothing in common)"


def heat_maps(matrices: Mapping[str, DistanceMatrix], path: str | os.PathLike[str]) -> None:
    """Draw matrices side by side on one scale, each under its title: dark = near, bright = far.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> networks = [ts.Topology.from_masks([mask]) for mask in ([[1, 0], [0, 1]], [[1, 1], [0, 1]])]
    >>> matrix = ts.distances(networks, labels=["a", "b"], alignment="identity")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.heat_maps({"identity": matrix}, f"{folder}/map.png")
    """
    most = max(len(matrix.labels) for matrix in matrices.values())
    side = min(4.0 + 0.3 * most, 14.0)
    figure = _new_figure(side * len(matrices) + 1.2, side)
    every = figure.subplots(1, len(matrices), squeeze=False)[0]
    top = max(float(matrix.nnstd.max(initial=0.0)) for matrix in matrices.values()) or 1.0
    images = [_draw(axes, matrix, title, top) for axes, (title, matrix) in zip(every, matrices.items(), strict=True)]
    figure.colorbar(images[-1], ax=list(every), label=_SCALE, shrink=0.8)
    _save(figure, path)


def clustered_map(matrix: DistanceMatrix, path: str | os.PathLike[str]) -> None:
    """Draw one matrix with similar networks side by side, below its dendrogram (average linkage).

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> networks = [ts.Topology.from_masks([mask]) for mask in ([[1, 0], [0, 1]], [[1, 1], [0, 1]])]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.clustered_map(ts.distances(networks, alignment="identity"), f"{folder}/map.svg")
    """
    if len(matrix.labels) < 2:
        heat_maps({f"NNSTD, alignment {matrix.alignment}": matrix}, path)
        return
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
    figure = _new_figure(side + 1.2, side + 1.0)
    axes = figure.subplots()
    image = _draw(axes, sorted_, "", float(matrix.nnstd.max()) or 1.0)
    above = axes.inset_axes((0, 1.02, 1, 0.14), sharex=axes)  # as wide as the map itself, without its labels
    for across, up in _branches(tree, order):
        above.plot(across, up, color="black", linewidth=1)
    above.set_ylim(bottom=0)
    above.tick_params(labelbottom=False, bottom=False)
    above.spines[["top", "right", "bottom"]].set_visible(False)
    above.set_title(f"NNSTD, alignment {matrix.alignment}; above: average linkage")
    figure.colorbar(image, ax=axes, label=_SCALE, shrink=0.8)
    _save(figure, path)


def _branches(tree: NDArray[np.float64], order: Sequence[int]) -> Iterator[tuple[list[float], list[float]]]:
    """The lines of a dendrogram over columns 0, 1, ...: up from one branch, across, down to the other."""
    place = {leaf: (float(column), 0.0) for column, leaf in enumerate(order)}
    for k, (left, right, height, _) in enumerate(tree.tolist()):
        (x0, y0), (x1, y1) = place[int(left)], place[int(right)]
        yield [x0, x0, x1, x1], [y0, height, height, y1]
        place[len(order) + k] = (x0 + x1) / 2, height


def _draw(axes: Axes, matrix: DistanceMatrix, title: str, top: float) -> AxesImage:
    n = len(matrix.labels)
    image = axes.imshow(matrix.nnstd, cmap="viridis", vmin=0.0, vmax=top)
    axes.set_title(title)
    if n <= _MOST_LABELS:
        axes.set_xticks(range(n), matrix.labels, rotation=90)
        axes.set_yticks(range(n), matrix.labels)
    if n <= _MOST_NUMBERS:
        for i in range(n):
            for j in range(n):
                value = matrix.nnstd[i, j]
                colour = "black" if value > 0.6 * top else "white"
                axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=8)
    return image


def edit_map(edits: Edits, path: str | os.PathLike[str]) -> None:
    """Draw what makes one network another: each layer's connections, those that stay, go and come.

    A panel a layer that has edits, target units across and source units down, both in the order of the first network;
    units that only the second one has stand behind. Of more than 12 layers those with most edits are drawn.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.edit_map(archive.edits("w0@0", "w0@10"), f"{folder}/edits.png")
    """
    changed = sorted(edits.layers, key=lambda layer: -layer.deleted - layer.inserted)[:_MOST_PANELS]
    drawn = [layer for layer in edits.layers if layer in changed and layer.deleted + layer.inserted] or changed[:1]
    columns = min(3, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    figure = _new_figure(4.6 * columns, 4.6 * lines + 0.6)
    panels = figure.subplots(lines, columns, squeeze=False).reshape(-1)
    kinds = (
        ("kept", "stays", "0.72", "s"),
        ("deletions", "goes", "tab:orange", "x"),
        ("insertions", "comes", "tab:blue", "+"),
    )
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
            _plain(f"{layer.name}: {layer.common:,} stay, {layer.deleted:,} go, {layer.inserted:,} come"), fontsize=9
        )
        axes.set_xlabel(_plain(layer.target), fontsize=8)
        axes.set_ylabel(_plain(layer.source), fontsize=8)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    rest = len(edits.layers) - len(drawn)
    more = f"; not drawn: {rest} of {len(edits.layers)} layers, with fewer edits or none" if rest else ""
    figure.suptitle(f"{edits.total:,} edits, NNSTD {edits.nnstd:.4f}, alignment {edits.alignment}{more}", fontsize=10)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, markerscale=2)
    _save(figure, path)


def survival_curves(survival: RunSurvival, path: str | os.PathLike[str]) -> None:
    """Draw, for each layer, the share of the connections alive at a snapshot that have stayed alive since.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.survival_curves(archive.survival("w0"), f"{folder}/survival.png")
    """
    with _figure(path) as axes:
        places = range(len(survival.refs))
        for layer in (*survival.layers, survival.total):
            axes.plot(places, layer.share, label=layer.name, linewidth=2 if layer.name == "total" else 1)
        _name_snapshots(axes, survival.refs)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("share alive ever since")
        axes.set_title(f"survival of the connections alive at {survival.from_ref}")
        axes.legend()


def metric_curves(run: str, entries: Sequence[StepMetrics | Snapshot], path: str | os.PathLike[str]) -> None:
    """Draw the metrics of a run over its steps: its own, then each one of its layers, a line a layer.

    Raises ``InvalidInputError`` where there are no metrics or the path is no picture, ``MissingExtraError`` without
    matplotlib.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.metric_curves("w0", archive.metrics("w0"), f"{folder}/metrics.png")
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
    figure = _new_figure(8.0, 0.8 + 2.6 * len(numbers))
    titles = sorted(numbers, key=lambda title: (title.startswith("layer"), title))
    for axes, title in zip(figure.subplots(len(numbers), 1, sharex=True, squeeze=False)[:, 0], titles, strict=True):
        for name, points in numbers[title].items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.replace("$", r"\$"))
        axes.set_title(title, fontsize=10)
        if title.startswith("layer") and len(numbers[title]) <= _MOST_NAMES:
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlabel("step")
    _save(figure, path)


def births_and_deaths(history: RunHistory, path: str | os.PathLike[str]) -> None:
    """Draw how many connections were born and died at each snapshot after the first, and the exploration rate.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.births_and_deaths(archive.history("w0"), f"{folder}/births.png")
    """
    total = history.rewired or history.total
    refs = history.refs
    with _figure(path) as axes:
        figure = axes.figure
        places = range(1, len(refs))
        axes.plot(places, total.born[1:], label="born", marker="o", markersize=3)
        axes.plot(places, total.died[1:], label="died", marker="s", markersize=3, linestyle="--")
        axes.plot(places, total.regrown[1:], label="regrown (of those born)", marker="^", markersize=3, linestyle=":")
        _name_snapshots(axes, refs)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("connections")
        axes.set_title(f"{history.run}: births and deaths")
        explored = axes.twinx()
        explored.plot(range(len(refs)), total.exploration, color="grey", label="explored")
        explored.set_ylim(0, 1)
        explored.set_ylabel("share of possible connections ever alive (grey)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def timeline_curve(line: Timeline, path: str | os.PathLike[str]) -> None:
    """Draw the distance over the steps, its smallest value, and the level of chance if it is known.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.timeline_curve(archive.timeline("w0"), f"{folder}/timeline.png")
    """
    with _figure(path) as axes:
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
                xytext=(8, -12),
            )
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("step")
        axes.set_ylabel("NNSTD")
        axes.set_title(f"{line.a} and its own past" if line.a == line.b else f"{line.a} and {line.b}")
        axes.legend()


def descent_tree(declared: Lineage, inferred: Inference | None, path: str | os.PathLike[str]) -> None:
    """Draw runs by generation: declared descent as solid arrows, inferred as dashed lines with their support.

    Raises ``MissingExtraError`` without matplotlib, ``InvalidInputError`` for a path that is no picture.

    >>> import tempfile, topostrata as ts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ts.descent_tree(archive.lineage("w1"), None, f"{folder}/descent.png")
    """
    graph = declared.graph() if inferred is None or declared.edges else inferred.graph()
    nodes = list(dict.fromkeys([*(inferred.nodes if inferred else ()), *(() if inferred else declared.nodes)]))
    place = _generations(graph, nodes)
    xs, ys = zip(*place.values(), strict=True)
    size = 1.7 * (max(xs) - min(xs)) + 2.2, 0.9 * (max(ys) - min(ys)) + 1.8
    with _figure(path, size) as axes:
        if inferred is not None:
            for edge in inferred.edges:
                (x0, y0), (x1, y1) = place[edge.parent], place[edge.child]
                axes.plot([x0, x1], [y0 - 0.08, y1 - 0.08], linestyle="--", color="tab:orange", zorder=1)
                label = f"{edge.distance:.3f}" + ("" if edge.support is None else f", {edge.support:.0%}")
                axes.annotate(label, ((x0 + x1) / 2, (y0 + y1) / 2 - 0.28), ha="center", fontsize=8, color="tab:orange")
        for descent in declared.edges:
            if descent.parent in place and descent.child in place:
                arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 14, "shrinkB": 14}
                axes.annotate("", place[descent.child], place[descent.parent], arrowprops=arrow, zorder=2)
        for node in nodes:
            axes.annotate(
                node, place[node], ha="center", va="center", bbox={"boxstyle": "round", "fc": "white"}, zorder=3
            )
        axes.set_xlim(min(xs) - 0.5, max(xs) + 0.5)
        axes.set_ylim(min(ys) - 0.6, max(ys) + 0.6)
        axes.set_axis_off()
        dashed = "; dashed: inferred, with distance and support" if inferred is not None else ""
        axes.set_title(f"descent (arrows: declared{dashed})", fontsize=10)


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


def _plain(text: str) -> str:
    """A name that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


@contextmanager
def _figure(path: str | os.PathLike[str], size: tuple[float, float] = (8.0, 5.0)) -> Iterator[Axes]:
    figure = _new_figure(max(size[0], 5.0), size[1])
    yield figure.subplots()
    _save(figure, path)


def _name_snapshots(axes: Axes, refs: Sequence[str]) -> None:
    every = max(1, math.ceil(len(refs) / _MOST_NAMES))
    places = range(0, len(refs), every)
    axes.set_xticks(places, [refs[k] for k in places], rotation=60, ha="right")


def _new_figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - behind an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("a picture", "plot") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise an error if the file is no picture, or if matplotlib is not installed."""
    path = Path(path)
    known = _new_figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise InvalidInputError(
            f"{path}: expected the name of a picture (.png, .svg, .pdf), found the suffix {path.suffix!r}"
        )


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    check_picture(path)
    with whole(path) as draft:  # "tight": the layout overlooks some labels of a square map, and a tree above it
        figure.savefig(draft, dpi=130, bbox_inches="tight")
