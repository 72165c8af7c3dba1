"""Distances as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from topostrata.distance.matrix import leaves
from topostrata.errors import NotFoundError
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


class MatrixAnswer(TypedDict):
    """What there is to say of all pairs but their distances."""

    refs: list[str]
    alignment: str
    layer_names: list[str]
    order: list[str]
    linkage: list[list[float]]
    held: list[str]
    version: int
    left_out: list[str]
    chance: MatrixChanceAnswer | None


class DistancesAnswer(MatrixAnswer):
    """All pairs: ``nnstd[i][j]`` and, per layer, ``layers[i][j][k]``.

    ``linkage`` is the average linkage in SciPy's form: a row has two clusters, their distance and the number of refs in
    both. ``order`` lists the refs along the leaves of that tree. ``nearest[i]`` lists the nearest of ``refs[i]``;
    ``nearest`` is null if the request does not ask for it. ``held`` names the spaces that are compared by index because
    nothing tells their units apart: distances are too large there, never too small. ``version`` is the alignment's.
    ``left_out`` names the layers that do not count, where layers were chosen. ``chance`` is null if the request does
    not ask for it, or where there is but one network.
    """

    nnstd: list[list[float]]
    layers: list[list[list[float]]]
    nearest: list[list[NearAnswer]] | None


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
    neighbours = None if nearest is None else matrix.nearest(nearest)
    return {
        **_about(matrix),
        "nnstd": matrix.nnstd.tolist(),
        "layers": matrix.layers.tolist(),
        "nearest": None
        if neighbours is None
        else [[{"ref": label, "nnstd": distance} for label, distance in row] for row in neighbours],
    }


def _about(matrix: DistanceMatrix) -> MatrixAnswer:
    tree = matrix.linkage() if len(matrix.labels) > 1 else None
    return {
        "refs": list(matrix.labels),
        "alignment": matrix.alignment,
        "layer_names": list(matrix.layer_names),
        "order": [matrix.labels[k] for k in ([0] if tree is None else leaves(tree))],
        "linkage": [] if tree is None else tree.tolist(),
        "held": list(matrix.held),
        "version": matrix.version,
        "left_out": list(matrix.left_out),
        "chance": None if matrix.chance is None else _matrix_chance(matrix.chance),
    }


def check_layer(layer: str | None, names: Sequence[str]) -> None:
    """Raise ``NotFoundError`` for a layer that is not among these names."""
    if layer is not None and layer not in names:
        raise NotFoundError(
            f"layer: expected one of {', '.join(names[:20])}, found {layer}",
            hint="without a layer the distances are the means of the layers",
        )


def picture(matrix: DistanceMatrix, layer: str | None = None) -> bytes:
    """What a picture of a matrix takes: what JSON has but the distances, and those of the mean or of one layer.

    An unsigned number of 32 bits, how many bytes of JSON follow; the JSON, with spaces behind it so that its length is
    a multiple of four; then the distances row by row, of 32 bits, all little-endian: 4 MB of 1,000 snapshots.

    Raises ``NotFoundError`` where the matrix has no such layer.
    """
    check_layer(layer, matrix.layer_names)
    numbers = matrix.nnstd if layer is None else matrix.layers[:, :, matrix.layer_names.index(layer)]
    text = json.dumps(_about(matrix), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return len(text).to_bytes(4, "little") + text + numbers.astype("<f4").tobytes()


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
