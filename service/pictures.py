"""A picture as a value: matplotlib's figure, which a notebook shows and saved whole; what all of them share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.files import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture that a notebook shows; ``figure`` is matplotlib's, to change it before it is saved."""

    figure: Figure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, whose suffix says the kind: .png, .svg, .pdf.

        Raises ``InvalidInputError`` for a path that is no picture or cannot be written.
        """
        check_picture(path)
        with whole(path) as draft:  # "tight": the layout overlooks some labels of a square map, and a tree above it
            self.figure.savefig(draft, dpi=130, bbox_inches="tight")

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        image = BytesIO()
        self.figure.savefig(image, format="png", dpi=100, bbox_inches="tight")
        return image.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which no window shows; ``MissingExtraError`` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - behind an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("a picture", "plot") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finished(figure: Figure, path: str | os.PathLike[str] | None) -> Picture:
    """The picture of a figure, written where a path is named."""
    picture = Picture(figure)
    if path is not None:
        picture.save(path)
    return picture


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise an error if the file is no picture, or if matplotlib is not installed."""
    path = Path(path)
    known = new_figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise InvalidInputError(
            f"{path}: expected the name of a picture (.png, .svg, .pdf), found the suffix {path.suffix!r}"
        )


def plain(text: str) -> str:
    """A name that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
