"""What goes out of distances, as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from topostrata.distance.matrix import leaves

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance


class LayerDistanceAnswer(TypedDict):
    """The distance of one layer, 0 to 1, the number of its target units, and both densities.

    ``ambiguous``: units with more than one optimal partner. ``chance``: what independent layers of the same widths and
    densities would have, with its standard error; ``z``: how many spreads of chance the distance lies from it.
    """

    name: str
    distance: float
    width: int
    density_a: float
    density_b: float
    ambiguous: int | None
    chance: float | None
    chance_error: float | None
    z: float | None


class DistanceAnswer(TypedDict):
    """The distance of two topologies: ``nnstd`` is the mean of the layers'.

    ``canonical`` says that the value does not depend on the order in which hidden units are stored.
    """

    a: str
    b: str
    alignment: str
    nnstd: float
    canonical: bool
    layers: list[LayerDistanceAnswer]


class NearAnswer(TypedDict):
    """A neighbour and how far it is."""

    ref: str
    nnstd: float


class DistancesAnswer(TypedDict):
    """All pairs: ``nnstd[i][j]`` and, per layer, ``layers[i][j][k]``.

    ``linkage`` is a hierarchical clustering (average) as SciPy writes it, rows of two clusters, their distance and how
    many refs they hold; ``order`` names the refs along its leaves. ``nearest[i]`` are the nearest of ``refs[i]``, null
    where they were not asked for.
    """

    refs: list[str]
    alignment: str
    layer_names: list[str]
    nnstd: list[list[float]]
    layers: list[list[list[float]]]
    order: list[str]
    linkage: list[list[float]]
    nearest: list[list[NearAnswer]] | None


def distance_answer(a: str, b: str, distance: Distance) -> DistanceAnswer:
    """A distance as JSON; ``a`` and ``b`` say of what."""
    return {
        "a": a,
        "b": b,
        "alignment": distance.alignment,
        "nnstd": distance.nnstd,
        "canonical": distance.canonical,
        "layers": [
            {
                "name": layer.name,
                "distance": layer.distance,
                "width": layer.width,
                "density_a": layer.density_a,
                "density_b": layer.density_b,
                "ambiguous": layer.ambiguous,
                "chance": layer.chance.level if layer.chance else None,
                "chance_error": layer.chance.error if layer.chance else None,
                "z": layer.z if layer.z is not None and math.isfinite(layer.z) else None,
            }
            for layer in distance.layers
        ],
    }


def distances_answer(matrix: DistanceMatrix, *, nearest: int | None = None) -> DistancesAnswer:
    """A matrix of distances as JSON, with the ``nearest`` of each network where a number is given."""
    tree = matrix.linkage() if len(matrix.labels) > 1 else None
    near = None if nearest is None else matrix.nearest(nearest)
    return {
        "refs": list(matrix.labels),
        "alignment": matrix.alignment,
        "layer_names": list(matrix.layer_names),
        "nnstd": matrix.nnstd.tolist(),
        "layers": matrix.layers.tolist(),
        "order": [matrix.labels[k] for k in ([0] if tree is None else leaves(tree))],
        "linkage": [] if tree is None else tree.tolist(),
        "nearest": None
        if near is None
        else [[{"ref": label, "nnstd": distance} for label, distance in each] for each in near],
    }
