"""What goes out of distances, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from topostrata.distance.matrix import leaves
from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # a verb loads what it asks for, not all that could be asked
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance


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


def distance_answer(a: str, b: str, distance: Distance) -> dict[str, Any]:
    """A distance as JSON; ``a`` and ``b`` say of what. The chance level of a layer stands beside its distance."""
    layers = [
        as_json(layer)
        | {
            "chance": layer.chance.level if layer.chance else None,
            "chance_error": layer.chance.error if layer.chance else None,
        }
        for layer in distance.layers
    ]
    return {"a": a, "b": b, **as_json(distance), "layers": layers}


def distances_answer(matrix: DistanceMatrix, *, nearest: int | None = None) -> DistancesAnswer:
    """A matrix of distances as JSON, with the ``nearest`` of each network where a number is given."""
    tree = matrix.linkage() if len(matrix.labels) > 1 else None
    neighbours = None if nearest is None else matrix.nearest(nearest)
    return {
        "refs": list(matrix.labels),
        "alignment": matrix.alignment,
        "layer_names": list(matrix.layer_names),
        "nnstd": matrix.nnstd.tolist(),
        "layers": matrix.layers.tolist(),
        "order": [matrix.labels[k] for k in ([0] if tree is None else leaves(tree))],
        "linkage": [] if tree is None else tree.tolist(),
        "nearest": None
        if neighbours is None
        else [[{"ref": label, "nnstd": distance} for label, distance in row] for row in neighbours],
    }
