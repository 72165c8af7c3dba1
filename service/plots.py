"""Pictures of answers, drawn with matplotlib."""

from __future__ import annotations

from pathlib import Path

from stratigraph.errors import MissingExtraError
from stratigraph.service.distance.pairwise import DistanceMatrix

_MOST_LABELS = 60
_MOST_NUMBERS = 16


def heat_map(matrix: DistanceMatrix, path: Path, *, title: str | None = None) -> None:
    """Draw the matrix as a heat map into a PNG: dark = near, bright = far."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - behind an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("a heat map", "plot") from error
    n = len(matrix.labels)
    side = min(4.0 + 0.3 * n, 14.0)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = float(matrix.nnstd.max()) or 1.0
    image = axes.imshow(matrix.nnstd, cmap="viridis", vmin=0.0, vmax=top)
    axes.set_title(title or f"NNSTD, alignment {matrix.alignment}")
    if n <= _MOST_LABELS:
        axes.set_xticks(range(n), matrix.labels, rotation=90)
        axes.set_yticks(range(n), matrix.labels)
    if n <= _MOST_NUMBERS:
        for i in range(n):
            for j in range(n):
                value = matrix.nnstd[i, j]
                colour = "black" if value > 0.6 * top else "white"
                axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="distance (0 = same wiring, 1 = nothing in common)", shrink=0.8)
    figure.savefig(path, dpi=130)
