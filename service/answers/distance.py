"""Distances as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from topostrata.distance.matrix import leaves
from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance
    from topostrata.distance.null_model import Chance, MatrixChance


class NearAnswer(TypedDict):
    """A neighbour and how far it is."""

    ref: str
    nnstd: float


class PairChanceAnswer(TypedDict):
    """A pair of a matrix: its distance, the level of independent networks, and how many deviations lie between."""

    a: str
    b: str
    nnstd: float
    chance: float
    chance_error: float
    chance_spread: float
    z: float | None


class MatrixChanceAnswer(TypedDict):
    """The chance level of a matrix: the mean ``level`` of some ``pairs`` of it, the lowest and the highest.

    ``of`` is how many pairs the matrix has, ``draws`` how many independent pairs of networks each level is the mean of.
    """

    kept: str
    level: float
    low: float
    high: float
    draws: int
    of: int
    pairs: list[PairChanceAnswer]


class DistancesAnswer(TypedDict):
    """All pairs: ``nnstd[i][j]`` and, per layer, ``layers[i][j][k]``.

    ``linkage`` is the average linkage in SciPy's form: a row has two clusters, their distance and the number of refs in
    both. ``order`` lists the refs along the leaves of that tree. ``nearest[i]`` lists the nearest of ``refs[i]``;
    ``nearest`` is null if the request does not ask for it. ``held`` names the spaces that are compared by index because
    nothing tells their units apart: distances are too large there, never too small. ``version`` is the alignment's.
    ``left_out`` names the layers that do not count, where layers were chosen. ``chance`` is null if the request does
    not ask for it, or where there is but one network.
    """

    refs: list[str]
    alignment: str
    layer_names: list[str]
    nnstd: list[list[float]]
    layers: list[list[list[float]]]
    order: list[str]
    linkage: list[list[float]]
    nearest: list[list[NearAnswer]] | None
    held: list[str]
    version: int
    left_out: list[str]
    chance: MatrixChanceAnswer | None


def distance_answer(a: str, b: str, distance: Distance) -> dict[str, Any]:
    """The distance of the topologies named ``a`` and ``b`` as JSON: layers and whole have their level of chance too."""
    layers = [as_json(layer) | _chance(layer.chance) for layer in distance.layers]
    return {"a": a, "b": b, **as_json(distance), **_chance(distance.chance), "layers": layers}


def _chance(level: Chance | None) -> dict[str, Any]:
    return {
        "chance": level.level if level else None,
        "chance_error": level.error if level else None,
        "chance_spread": level.spread if level else None,
        "chance_kept": level.kept if level else None,
    }


def distances_answer(matrix: DistanceMatrix, *, nearest: int | None = None) -> DistancesAnswer:
    """A matrix of distances as JSON; ``nearest`` is how many neighbours to list for each network."""
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
        "held": list(matrix.held),
        "version": matrix.version,
        "left_out": list(matrix.left_out),
        "chance": None if matrix.chance is None else _matrix_chance(matrix.chance),
    }


def _matrix_chance(sampled: MatrixChance) -> MatrixChanceAnswer:
    return {
        "kept": sampled.kept,
        "level": sampled.level,
        "low": sampled.low,
        "high": sampled.high,
        "draws": sampled.pairs[0].chance.draws,
        "of": sampled.of,
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "nnstd": pair.nnstd,
                "chance": pair.chance.level,
                "chance_error": pair.chance.error,
                "chance_spread": pair.chance.spread,
                "z": pair.z,
            }
            for pair in sampled.pairs
        ],
    }
