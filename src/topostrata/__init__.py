"""Topostrata: an archive of how sparse neural networks' wiring evolves.

>>> import topostrata as ts
>>> a = ts.Topology.from_masks([[[1, 0], [0, 1]]])
>>> ts.nnstd(a, a, alignment="identity").nnstd
0.0

The public names load when they are first used, so that a training job pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topostrata.archive import Archive
    from topostrata.archive import open_archive as open  # noqa: A004 - ts.open reads like what it does
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance, nnstd
    from topostrata.distance.pairwise import distances
    from topostrata.errors import TopostrataError
    from topostrata.refs import Ref
    from topostrata.runs import Parent, Run, Snapshot
    from topostrata.topology import Axis, Layer, LayerShape, Mask, Part, Space, Topology, Wiring

__version__ = "0.1.0"

__all__ = [
    "Archive",
    "Axis",
    "Distance",
    "DistanceMatrix",
    "Layer",
    "LayerShape",
    "Mask",
    "Parent",
    "Part",
    "Ref",
    "Run",
    "Snapshot",
    "Space",
    "Topology",
    "TopostrataError",
    "Wiring",
    "distances",
    "nnstd",
    "open",
]

_HOMES = {
    "Archive": "archive",
    "Axis": "topology",
    "Distance": "distance.nnstd",
    "DistanceMatrix": "distance.matrix",
    "Layer": "topology",
    "LayerShape": "topology",
    "Mask": "topology",
    "Parent": "runs",
    "Part": "topology",
    "Ref": "refs",
    "Run": "runs",
    "Snapshot": "runs",
    "Space": "topology",
    "Topology": "topology",
    "TopostrataError": "errors",
    "Wiring": "topology",
    "distances": "distance.pairwise",
    "nnstd": "distance.nnstd",
    "open": "archive",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'topostrata' has no attribute {name!r}")
    value = getattr(import_module(f"topostrata.{_HOMES[name]}"), "open_archive" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
