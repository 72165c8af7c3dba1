"""Pictures of answers, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stratigraph.errors import InvalidInputError, MissingExtraError
from stratigraph.service.distance.pairwise import DistanceMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_MOST_LABELS = 60
_MOST_NUMBERS = 16


def heat_maps(matrices: Mapping[str, DistanceMatrix], path: Path) -> None:
    """Draw matrices side by side on one scale into a PNG, each under its title: dark = near, bright = far."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - behind an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("a heat map", "plot") from error
    most = max(len(matrix.labels) for matrix in matrices.values())
    side = min(4.0 + 0.3 * most, 14.0)
    figure = Figure(figsize=(side * len(matrices) + 1.2, side), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(1, len(matrices), squeeze=False)[0]
    top = max(float(matrix.nnstd.max(initial=0.0)) for matrix in matrices.values()) or 1.0
    images = [_draw(axes, matrix, title, top) for axes, (title, matrix) in zip(every, matrices.items(), strict=True)]
    label = "distance (0 = same wiring, 1 = nothing in common)"
    figure.colorbar(images[-1], ax=list(every), label=label, shrink=0.8)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path}: expected a place for a picture (.png, .svg, .pdf): {error}") from error


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
