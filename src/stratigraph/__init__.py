"""Stratigraph: an archive of how sparse neural networks' wiring evolves.

>>> import stratigraph as sg
>>> a = sg.Topology.from_masks([[[1, 0], [0, 1]]])
>>> sg.nnstd(a, a, alignment="identity").nnstd
0.0

The public names load when they are first used, so that a training job pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratigraph.archive import Archive
    from stratigraph.archive import open_archive as open  # noqa: A004 - sg.open reads like what it does
    from stratigraph.errors import StratigraphError
    from stratigraph.refs import Ref
    from stratigraph.runs import Parent, Run, Snapshot
    from stratigraph.service.distance.matrix import DistanceMatrix
    from stratigraph.service.distance.nnstd import Distance, nnstd
    from stratigraph.service.distance.pairwise import distances
    from stratigraph.topology import Layer, Mask, Space, Topology

__version__ = "0.1.0"

__all__ = [
    "Archive",
    "Distance",
    "DistanceMatrix",
    "Layer",
    "Mask",
    "Parent",
    "Ref",
    "Run",
    "Snapshot",
    "Space",
    "StratigraphError",
    "Topology",
    "distances",
    "nnstd",
    "open",
]

_HOMES = {
    "Archive": "archive",
    "Distance": "service.distance.nnstd",
    "DistanceMatrix": "service.distance.matrix",
    "Layer": "topology",
    "Mask": "topology",
    "Parent": "runs",
    "Ref": "refs",
    "Run": "runs",
    "Snapshot": "runs",
    "Space": "topology",
    "StratigraphError": "errors",
    "Topology": "topology",
    "distances": "service.distance.pairwise",
    "nnstd": "service.distance.nnstd",
    "open": "archive",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stratigraph' has no attribute {name!r}")
    value = getattr(import_module(f"stratigraph.{_HOMES[name]}"), "open_archive" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
