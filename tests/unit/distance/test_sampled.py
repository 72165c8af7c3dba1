"""The chance level of a matrix is that of some of its pairs."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.unit.distance.networks import random_network
from topostrata.distance.alignments import Alignment
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import nnstd
from topostrata.distance.null_model import Kept
from topostrata.distance.pairwise import distances
from topostrata.distance.sampled import MOST_PAIRS, sampled_pairs
from topostrata.errors import Cancelled, InvalidInputError
from topostrata.topology import Topology

NETWORKS = [random_network(np.random.default_rng(seed), [7, 9, 8, 3], 0.3) for seed in range(5)]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 19, 20, 21, 200])
def test_each_network_is_in_as_many_pairs_as_any_other(n: int) -> None:
    """All pairs where there are at most ten; else ten different ones, of as many networks as there can be."""
    pairs = sampled_pairs([f"w{k}" for k in range(n)])
    assert len(set(pairs)) == len(pairs) == min(MOST_PAIRS, n * (n - 1) // 2)
    assert all(i < j for i, j in pairs)
    times = Counter(k for pair in pairs for k in pair)
    assert len(times) == min(n, 2 * MOST_PAIRS)
    assert max(times.values()) - min(times.values()) <= 1


def test_the_pairs_are_the_same_in_any_order() -> None:
    """Which pairs are drawn depends on the names alone."""
    names = [f"w{k}@50" for k in range(30)]
    turned = names[::-1]
    drawn = [{frozenset((each[i], each[j])) for i, j in sampled_pairs(each)} for each in (names, turned)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kept", ["degrees", "density"])
@pytest.mark.parametrize("alignment", ["overlap", "identity", "reference"])
def test_each_pair_has_the_level_that_it_has_alone(kept: Kept, alignment: Alignment) -> None:
    """Level, spread and z of `nnstd` of the two; the matrix itself is what it is without."""
    labels = [f"w{k}" for k in range(5)]
    loaders = [partial(NETWORKS.__getitem__, k) for k in range(5)]
    matrix = distances(loaders, labels=labels, alignment=alignment, chance=kept)
    assert np.array_equal(matrix.nnstd, distances(NETWORKS, alignment=alignment).nnstd)
    assert matrix.chance is not None
    assert (matrix.chance.kept, matrix.chance.of, len(matrix.chance.pairs)) == (kept, 10, 10)
    for pair in matrix.chance.pairs:
        alone = nnstd(*(NETWORKS[labels.index(name)] for name in (pair.a, pair.b)), alignment=alignment, chance=kept)
        assert (pair.nnstd, pair.chance, pair.z) == (alone.nnstd, alone.chance, alone.z)
    levels = [pair.chance.level for pair in matrix.chance.pairs]
    assert (matrix.chance.low, matrix.chance.high) == (min(levels), max(levels))
    assert matrix.chance.level == pytest.approx(np.mean(levels))


def test_only_the_layers_that_count_have_a_level() -> None:
    """Chosen layers, and those that networks of different depth have in common."""
    matrix = distances(NETWORKS[:2], layers=["l0", "l2"], chance="degrees")
    alone = nnstd(*NETWORKS[:2], layers=["l0", "l2"], chance="degrees")
    assert matrix.chance is not None
    assert matrix.chance.pairs[0].chance == alone.chance
    deep = random_network(np.random.default_rng(9), [7, 9, 8, 8, 3], 0.3)
    matrix = distances([NETWORKS[0], deep], layers="common", chance="degrees")
    alone = nnstd(NETWORKS[0], deep, layers="common", chance="degrees")
    assert matrix.chance is not None
    assert matrix.chance.pairs[0].chance == alone.chance


def test_a_level_goes_through_a_file(tmp_path: Path) -> None:
    """To the bit; a matrix without one has none afterwards."""
    for matrix in (distances(NETWORKS[:3], chance="degrees"), distances(NETWORKS[:3])):
        matrix.to_npz(tmp_path / "matrix.npz")
        assert DistanceMatrix.from_npz(tmp_path / "matrix.npz").chance == matrix.chance


def test_what_cannot_have_a_level_says_so() -> None:
    """One network has no pair; a null model by another name is refused before anything is computed."""
    assert distances(NETWORKS[:1], chance="degrees").chance is None

    def unread() -> Topology:
        raise AssertionError

    with pytest.raises(InvalidInputError, match="'degrees', 'density' or None, found True"):
        distances([unread, unread], chance=True)  # type: ignore[arg-type]


def test_it_is_cancelled_between_pairs() -> None:
    """Once the event is set no further pair is drawn; progress counts pairs of chance after those of the matrix."""
    cancel, told = threading.Event(), []

    def progress(done: int, every: int) -> None:
        told.append((done, every))
        if told[-1] == (2, 10):
            cancel.set()

    with pytest.raises(Cancelled):
        distances(NETWORKS, chance="degrees", progress=progress, cancel=cancel)
    assert told[-3:] == [(15, 15), (1, 10), (2, 10)]
