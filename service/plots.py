"""Pictures of answers, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stratigraph.errors import InvalidInputError, MissingExtraError
from stratigraph.service.answers import SurvivalAnswer
from stratigraph.service.distance.pairwise import DistanceMatrix
from stratigraph.service.evolution.stored import RunHistory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_MOST_LABELS = 60
_MOST_NUMBERS = 16
_MOST_NAMES = 25


def heat_maps(matrices: Mapping[str, DistanceMatrix], path: Path) -> None:
    """Draw matrices side by side on one scale into a PNG, each under its title: dark = near, bright = far."""
    most = max(len(matrix.labels) for matrix in matrices.values())
    side = min(4.0 + 0.3 * most, 14.0)
    figure = _new_figure(side * len(matrices) + 1.2, side)
    every = figure.subplots(1, len(matrices), squeeze=False)[0]
    top = max(float(matrix.nnstd.max(initial=0.0)) for matrix in matrices.values()) or 1.0
    images = [_draw(axes, matrix, title, top) for axes, (title, matrix) in zip(every, matrices.items(), strict=True)]
    label = "distance (0 = same wiring, 1 = nothing in common)"
    figure.colorbar(images[-1], ax=list(every), label=label, shrink=0.8)
    _save(figure, path)


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


def survival_curves(found: SurvivalAnswer, path: Path) -> None:
    """Draw, per layer, the share of the connections alive at a snapshot that is left at each later one."""
    with _figure(path) as axes:
        places = range(len(found["refs"]))
        for layer in (*found["layers"], found["total"]):
            axes.plot(places, layer["share"], label=layer["name"], linewidth=2 if layer["name"] == "total" else 1)
        _name_snapshots(axes, found["refs"])
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("share alive ever since")
        axes.set_title(f"survival of the connections alive at {found['from']}")
        axes.legend()


def births_and_deaths(history: RunHistory, path: Path) -> None:
    """Draw how many connections were born and died at each snapshot after the first, and the exploration rate."""
    total = history.rewired or history.total
    refs = [str(moment) for moment in history.moments]
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
        right = axes.twinx()
        right.plot(range(len(refs)), total.exploration, color="grey", label="explored")
        right.set_ylim(0, 1)
        right.set_ylabel("share of possible connections ever alive (grey)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


@contextmanager
def _figure(path: Path) -> Iterator[Axes]:
    figure = _new_figure(8.0, 5.0)
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


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path}: expected a place for a picture (.png, .svg, .pdf): {error}") from error
