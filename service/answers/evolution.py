"""The connections of a layer as JSON. ``shape.as_json`` makes the JSON of all other results about evolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.topology import Mask


class ConnectionAnswer(TypedDict):
    """One connection: from a source unit, at a tap, to a target unit."""

    source: int
    tap: int
    target: int


def connections_answer(mask: Mask, cells: NDArray[np.int64]) -> list[ConnectionAnswer]:
    """The connections at these cells of a mask, in the order of target, source, tap."""
    keys = cells % mask.stride
    columns = zip(
        (keys // mask.taps).tolist(), (keys % mask.taps).tolist(), (cells // mask.stride).tolist(), strict=True
    )
    return [{"source": source, "tap": tap, "target": target} for source, tap, target in columns]
