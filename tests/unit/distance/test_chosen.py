"""Distances of some layers: named ones, sparse ones, and those that networks of different depth have in common."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from tests.unit.distance.networks import relabelled
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import nnstd
from topostrata.distance.pairwise import distances
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.topology import Topology


def network(seed: int, *widths: int, density: float = 0.3) -> Topology:
    rng = np.random.default_rng(seed)
    masks = [rng.random(shape) < density for shape in pairwise(widths)]
    masks[-1] = np.ones_like(masks[-1])
    return Topology.from_masks(masks)


A, B = network(0, 8, 12, 12, 12, 4), network(1, 8, 12, 12, 12, 4)


def test_rows_that_are_named_make_the_mean() -> None:
    """The networks are matched whole; the mean is of the chosen rows, and the others are named."""
    whole = nnstd(A, B)
    for layers, chosen in (
        ("l1", [1]),
        (["l0", "l2"], [0, 2]),
        ("l[01]", [0, 1]),
        ("sparse", [0, 1, 2]),
        ("l[23],sparse", [2]),
    ):
        part = nnstd(A, B, layers=layers)
        assert part.layers == tuple(whole.layers[k] for k in chosen)
        assert part.nnstd == math.fsum(whole.layers[k].distance for k in chosen) / len(chosen)
        assert part.left_out == tuple(row.name for k, row in enumerate(whole.layers) if k not in chosen)
    assert nnstd(A, B, layers=None).left_out == ()


def test_chance_is_that_of_the_chosen_rows() -> None:
    """Levels of the rows are those of the whole networks, and the whole has the level of its rows."""
    for kept in ("degrees", "density"):
        whole, part = nnstd(A, B, chance=kept), nnstd(A, B, chance=kept, layers="sparse")
        assert part.layers == whole.layers[:3]
        assert part.chance is not None
        levels = [row.chance.level for row in part.layers if row.chance is not None]
        assert part.chance.level == pytest.approx(math.fsum(levels) / 3)


def test_networks_of_different_depth_are_compared_by_what_both_have() -> None:
    """The layers of the same names between the same spaces, as if there were no others; all others are named."""
    deep = network(2, 8, 12, 12, 12, 12, 4)
    with pytest.raises(NotComparableError):
        nnstd(A, deep)
    part = nnstd(A, deep, layers="common")
    cut = [Topology(tuple(network[name] for name in ("l0", "l1", "l2"))) for network in (A, deep)]
    assert part.nnstd == nnstd(*cut).nnstd
    assert [row.name for row in part.layers] == ["l0", "l1", "l2"]
    assert part.left_out == ("l3", "l4")
    assert nnstd(A, B, layers="common").nnstd == nnstd(A, B).nnstd
    assert nnstd(A, deep, layers=["common", "l1"]).left_out == ("l0", "l2", "l3", "l4")
    copy = Topology.from_masks([A["l0"].mask, A["l1"].mask, A["l2"].mask, np.eye(12), A["l3"].mask])
    assert nnstd(A, relabelled(np.random.default_rng(0), copy), layers="common").nnstd == 0


def test_what_names_nothing_is_refused() -> None:
    """A glob without a layer, full layers alone, networks without a layer in common, an empty word."""
    with pytest.raises(InvalidInputError, match="expected one or more of l0, l1, l2, l3, found 'fc'"):
        nnstd(A, B, layers="l1,fc")
    with pytest.raises(InvalidInputError, match="found only full ones"):
        nnstd(A, B, layers="l3,sparse")
    with pytest.raises(NotComparableError, match="with layers in common"):
        nnstd(A, network(3, 9, 12, 4), layers="common")
    for empty in ("", ["l1", " "]):
        with pytest.raises(InvalidInputError, match="expected names, globs"):
            nnstd(A, B, layers=empty)


def test_a_matrix_of_some_layers_is_that_of_its_pairs(tmp_path: object) -> None:
    """Each entry is the distance of its pair; `sparse` leaves out what is full in all; `common` what all have."""
    networks = [A, network(5, 8, 12, 12, 12, 4), B]
    for layers in ("l1", "sparse", "common"):
        matrix = distances(networks, layers=layers)
        for i, a in enumerate(networks):
            for j, b in enumerate(networks):
                pair = nnstd(a, b, layers=layers)
                assert matrix.nnstd[i, j] == pytest.approx(pair.nnstd, abs=1e-15)
                assert matrix.layer_names == tuple(row.name for row in pair.layers)
                assert matrix.left_out == pair.left_out
    deep = distances([*networks, lambda: network(2, 8, 12, 12, 12, 12, 4)], labels=list("abcd"), layers="common")
    assert deep.nnstd[0, 3] == nnstd(A, network(2, 8, 12, 12, 12, 12, 4), layers="common").nnstd
    assert deep.left_out == ("l3", "l4")
    path = f"{tmp_path}/matrix.npz"
    deep.to_npz(path)
    assert DistanceMatrix.from_npz(path).left_out == deep.left_out
