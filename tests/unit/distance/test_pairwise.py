"""Many networks at once: tiles, threads, the cache, cancelling, and what the matrix can do."""

from __future__ import annotations

import csv
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.unit.distance.networks import Alive, random_network, rewired
from topostrata.distance import jobs, threads
from topostrata.distance.alignments import ALIGNMENTS, Alignment
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import Distance, compare, nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.prepared import Prepared
from topostrata.errors import Cancelled, InvalidInputError, NotComparableError, TopostrataError
from topostrata.topology import Topology


@pytest.fixture(scope="module")
def networks() -> list[Topology]:
    rng = np.random.default_rng(5)
    family = [random_network(rng, [12, 14, 14, 4], 0.15)]
    while len(family) < 9:
        family.append(rewired(rng, family[-1], 0.2))
    return family


class Memory:
    """A cache of single pairs, by digest."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], np.ndarray] = {}
        self.tiles = 0

    def get_tile(self, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray | None:
        nothing = np.full(3, np.nan)
        return np.array([[self.known.get((r, c), nothing) for c in columns] for r in rows])

    def put_tile(self, rows: Sequence[str], columns: Sequence[str], layers: np.ndarray) -> None:
        self.tiles += 1
        for r, row in zip(rows, layers, strict=True):
            for c, values in zip(columns, row, strict=True):
                self.known[r, c] = values.copy()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_the_matrix_holds_the_distance_of_every_pair(
    networks: list[Topology], alignment: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry equals ``nnstd`` of the two networks, to the bit, for every alignment."""
    monkeypatch.setattr(jobs, "TILE", 4)
    matrix = distances(networks, alignment=alignment)
    for i, a in enumerate(networks):
        for j, b in enumerate(networks):
            single = nnstd(a, b, alignment=alignment)
            assert matrix.nnstd[i, j] == single.nnstd
            assert matrix.layers[i, j].tolist() == [row.distance for row in single.layers]
    assert matrix.layer_names == ("l0", "l1", "l2")
    assert matrix.labels == tuple("012345678")


@pytest.mark.parametrize("alignment", ["identity", "canonical"])
def test_few_of_many_networks_are_in_memory_and_each_is_loaded_seldom(
    networks: list[Topology], alignment: Alignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty blocks of networks, of which eight are kept, as if they were 960: memory does not grow with them."""
    monkeypatch.setattr(jobs, "TILE", 4)
    monkeypatch.setattr(jobs, "MOST_READY", 32)
    monkeypatch.setattr(threads, "SMALL_SHARE", 1)
    alive = Alive(networks, 120)
    matrix = distances(alive.loaders, alignment=alignment, workers=2)
    few = distances(networks, alignment=alignment).nnstd
    at = np.arange(120) % len(networks)
    assert (matrix.nnstd == few[np.ix_(at, at)]).all()
    # Those kept, the first one, and what two threads have in hand.
    assert alive.most <= 32 + 1 + 2 * 2
    # Six groups of five blocks of rows: each network comes once with each, and the first one once more.
    assert max(alive.calls) <= 7
    assert sum(alive.calls) <= 120 * 7 / 2 + 40


def test_networks_that_are_large_leave_room_for_fewer(
    networks: list[Topology], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections count, not only networks; two are always kept, which a pair needs."""
    for room, most in ((3 * networks[0].nnz, 3), (1, 2)):
        monkeypatch.setattr(jobs, "MOST_CONNECTIONS", room)
        alive = Alive(networks, 9)
        matrix = distances(alive.loaders, alignment="identity", workers=1)
        assert alive.most <= most + 4
        assert (matrix.nnstd == distances(networks, alignment="identity").nnstd).all()


def test_known_pairs_are_not_computed_again_and_a_new_network_costs_one_row(
    networks: list[Topology], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache, only the pairs of the new network are computed."""
    monkeypatch.setattr(jobs, "TILE", 4)
    cache = Memory()
    compared: list[int] = []

    def counted(a: Prepared, b: Prepared, *, alignment: Alignment) -> Distance:
        compared.append(1)
        return compare(a, b, alignment=alignment)

    monkeypatch.setattr(jobs, "compare", counted)
    first = distances(networks[:8], alignment="refined", cache=cache)
    assert len(compared) == 36
    again = distances(networks[:8], alignment="refined", cache=cache, digests=[t.digest for t in networks[:8]])
    assert len(compared) == 36
    assert (again.layers == first.layers).all()
    assert again.layer_names == first.layer_names
    distances(networks, alignment="refined", cache=cache)
    assert len(compared) == 36 + 9


def test_progress_counts_pairs_and_cancelling_keeps_finished_tiles(
    networks: list[Topology], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress grows to the number of pairs; a cancelled job leaves its finished tiles in the cache."""
    monkeypatch.setattr(jobs, "TILE", 4)
    seen: list[tuple[int, int]] = []
    distances(networks, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (45, 45)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    cache, cancel = Memory(), threading.Event()

    def stop(done: int, total: int) -> None:
        del total
        if done >= 10:
            cancel.set()

    with pytest.raises(Cancelled):
        distances(networks, cache=cache, cancel=cancel, progress=stop)
    assert cache.tiles >= 1


def test_cancelled_is_an_error_of_ours() -> None:
    """A handler of all that this package raises sees it, with a code of its own and a message."""
    error = Cancelled()
    assert isinstance(error, TopostrataError)
    assert (error.code, str(error)) == ("cancelled", "cancelled")


def test_a_matrix_is_an_array(networks: list[Topology]) -> None:
    """NumPy takes it for its NNSTD values; what it does with them leaves the matrix as it is."""
    matrix = distances(networks[:3], alignment="identity")
    array = np.asarray(matrix)
    assert (array == matrix.nnstd).all()
    assert np.asarray(matrix, dtype=np.float32).dtype == np.float32
    copy = np.array(matrix)
    copy[0, 1] = 7
    assert matrix.nnstd[0, 1] != 7
    assert np.mean(matrix) == matrix.nnstd.mean()


def test_plain_matrices_are_told_how_to_become_a_topology(networks: list[Topology]) -> None:
    """The network is named, whether it is handed in or loaded."""
    hint = r"network b: expected a Topology, found ndarray \(Topology.from_masks\(\[...\]\)"
    with pytest.raises(InvalidInputError, match=hint):
        distances([networks[0], np.eye(3)], labels=["a", "b"])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match=hint):
        distances([networks[0], lambda: np.eye(3)], labels=["a", "b"], alignment="identity")  # type: ignore[list-item,return-value]


def test_an_error_names_the_networks(networks: list[Topology]) -> None:
    """The error for a pair has both labels; labels that are too few or equal are refused."""
    odd = random_network(np.random.default_rng(1), [12, 14, 4], 0.2)
    with pytest.raises(NotComparableError, match=r"first and odd: "):
        distances([networks[0], odd], labels=["first", "odd"])
    with pytest.raises(InvalidInputError, match="expected 2 labels, one per network, found 1"):
        distances(networks[:2], labels=["a"])
    with pytest.raises(InvalidInputError, match="expected a label of its own for each network, found 'a' twice"):
        distances(networks[:3], labels=["b", "a", "a"])
    with pytest.raises(InvalidInputError, match="at least one network"):
        distances([])


def test_the_matrix_is_written_read_clustered_and_searched(networks: list[Topology], tmp_path: Path) -> None:
    """Npz and CSV keep every bit; linkage, order and nearest networks fit the values."""
    matrix = distances(networks, labels=[f"w{k}@0" for k in range(9)])
    matrix.to_npz(tmp_path / "d.npz")
    read = DistanceMatrix.from_npz(tmp_path / "d.npz")
    assert (read.nnstd == matrix.nnstd).all()
    assert (read.layers == matrix.layers).all()
    assert (read.labels, read.layer_names) == (matrix.labels, matrix.layer_names)
    assert (read.alignment, read.version) == ("overlap", 1)
    matrix.to_csv(tmp_path / "d.csv")
    rows = list(csv.reader((tmp_path / "d.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["", *matrix.labels]
    assert [float(x) for x in rows[3][1:]] == matrix.nnstd[2].tolist()
    assert matrix.linkage().shape == (8, 4)
    assert sorted(matrix.dendrogram_order()) == list(range(9))
    nearest = matrix.nearest(2)
    assert [len(row) for row in nearest] == [2] * 9
    assert nearest[0][0][1] == matrix.nnstd[0, 1:].min()
    assert all(label != other for label, row in zip(matrix.labels, nearest, strict=True) for other, _ in row)
