"""Distances that the archive remembers: tiles by topology, and relationships for Cypher, on every store."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tests.histories import sparse_history
from tests.stores import Target, contents, tell
from topostrata import comparing, once
from topostrata.archive import Archive
from topostrata.copies import degree_kept
from topostrata.distance import jobs, null_model, stored_chance, stored_pairs, threads
from topostrata.distance import nnstd as nnstd_module
from topostrata.distance.alignments import ALIGNMENTS, Alignment
from topostrata.distance.comparison import Ready
from topostrata.distance.jobs import Floats, Ints, Ways, distances_of
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import Distance, nnstd
from topostrata.distance.stored import SIDE, StoredTiles, number
from topostrata.distance.stored_pairs import KnownPairs
from topostrata.errors import Cancelled, CorruptError, InvalidInputError, NotFoundError, StoreUnavailableError

Counter = list[tuple[str, str]]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Which pairs are really computed, as digests."""
    pairs: Counter = []

    def watched(shares: Ints, get: Callable[[int], Ready], ways: Ways, stopped: Callable[[], bool]) -> Floats:
        pairs.extend((get(i).digest, get(j).digest) for i, j in shares.tolist())
        return distances_of(shares, get, ways, stopped)

    monkeypatch.setattr(threads, "distances_of", watched)
    return pairs


def fill(archive: Archive, runs: int, seed: int = 700) -> None:
    """Runs of one snapshot each, all different."""
    for k in range(runs):
        history = sparse_history(seed + k, snapshots=1, widths=(8, 8, 4), density=0.3, churn=0)
        archive.push(f"r{k}", 0, history.snapshots[0][1])


@pytest.mark.parametrize("alignment", ["identity", "reference", "canonical"])
def test_the_matrix_is_that_of_the_topologies(archive: Archive, alignment: Alignment, computed: Counter) -> None:
    """Computed, and read back by another client, every value equals the pair's own distance to the bit."""
    fill(archive, 5)
    first = archive.distances(["r*"], alignment=alignment)
    count = len(computed)
    assert count == (25 if alignment == "reference" else 15)
    again = archive.reopened().distances(["r*"], alignment=alignment)
    assert len(computed) == count, "what was computed before was computed again"
    for matrix in (first, again):
        assert matrix.labels == tuple(f"r{k}@0" for k in range(5))
        assert matrix.layer_names == ("l0", "l1")
        for i in range(5):
            for j in range(5):
                pair = nnstd(archive.topology(f"r{i}"), archive.topology(f"r{j}"), alignment=alignment)
                assert matrix.nnstd[i, j] == pair.nnstd
                assert matrix.layers[i, j].tolist() == [layer.distance for layer in pair.layers]


def test_a_new_snapshot_costs_one_row(archive: Archive, computed: Counter) -> None:
    """Whatever its place among the refs; and any subset, in any order, costs nothing."""
    fill(archive, 6)
    archive.distances(["r*"], alignment="identity")
    computed.clear()
    archive.push("q", 0, sparse_history(800, snapshots=1, widths=(8, 8, 4), density=0.2, churn=0).snapshots[0][1])
    whole = archive.distances(["q", "r*"], alignment="identity")
    assert len(computed) == 7
    computed.clear()
    part = archive.distances(["r4", "q", "r1"], alignment="identity")
    assert computed == []
    at = [whole.labels.index(label) for label in part.labels]
    np.testing.assert_array_equal(part.nnstd, whole.nnstd[np.ix_(at, at)])


def test_a_matrix_that_is_not_to_be_kept_writes_nothing(archive: Archive, computed: Counter) -> None:
    """What is known is read, what is not is computed; nodes and relationships stay as they were."""
    fill(archive, 5)
    archive.distances(["r0", "r1", "r2"], alignment="identity")
    computed.clear()
    before = contents(archive)
    unstored = archive.distances(["r*"], alignment="identity", keep=False)
    assert len(computed) == 15 - 6
    assert contents(archive) == before
    stored = archive.distances(["r*"], alignment="identity")
    assert len(computed) == 2 * (15 - 6)
    np.testing.assert_array_equal(unstored.layers, stored.layers)


def test_equal_topologies_are_compared_once(archive: Archive, computed: Counter) -> None:
    """A copy of a network under another name is known already."""
    fill(archive, 3)
    archive.distances(["r*"], alignment="identity")
    computed.clear()
    archive.push("copy", 7, archive.topology("r1"))
    matrix = archive.distances(["copy", "r*"], alignment="identity")
    assert computed == []
    assert matrix.nnstd[0, 2] == 0


def test_an_interrupted_job_goes_on_where_it_stopped(
    archive: Archive, computed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles that were finished before the cancellation are not computed again."""
    monkeypatch.setattr(jobs, "TILE", 2)
    fill(archive, 8)
    cancel = threading.Event()
    done: list[int] = []

    def watch(pairs: int, _total: int) -> None:
        done.append(pairs)
        if pairs >= 12:
            cancel.set()

    with pytest.raises(Cancelled):
        archive.distances(["r*"], alignment="identity", cancel=cancel, progress=watch)
    finished = len(computed)
    archive.distances(["r*"], alignment="identity")
    assert 12 <= finished < 36
    assert len(computed) < finished + 36
    assert len(set(computed)) == 36


def test_tiles_hold_any_pair_of_many_topologies(archive: Archive) -> None:
    """Random rectangles over three tiles' worth of numbers, put and got in any order, one direction or both."""
    random = np.random.default_rng(0)
    digests = [f"{k:064x}" for k in range(3 * SIDE)]
    numbers = number(archive._store, digests, layers=2)
    assert sorted(numbers.values()) == list(range(3 * SIDE))
    assert number(archive._store, digests[::-1], layers=2) == numbers
    alignments: tuple[Alignment, ...] = ("identity", "reference")
    for alignment in alignments:
        symmetric = alignment != "reference"
        truth = random.random((3 * SIDE, 3 * SIDE, 2))
        truth = truth + truth.transpose(1, 0, 2) if symmetric else truth
        known = np.full_like(truth, np.nan)
        tiles = StoredTiles(archive._store, numbers, alignment=alignment, layers=2)
        for _ in range(12):
            rows, columns = (random.choice(3 * SIDE, size=20, replace=False) for _ in range(2))
            names = [[digests[k] for k in side] for side in (rows, columns)]
            tiles.put_tile(names[0], names[1], truth[np.ix_(rows, columns)])
            known[np.ix_(rows, columns)] = truth[np.ix_(rows, columns)]
            if symmetric:
                known[np.ix_(columns, rows)] = truth[np.ix_(columns, rows)]
        fresh = StoredTiles(archive._store, numbers, alignment=alignment, layers=2)
        distances = fresh.get_tile(digests, digests)
        np.testing.assert_array_equal(distances, known)


def test_clients_that_number_at_once_agree(target: Target, archive: Archive) -> None:
    """Two clients give the same new topologies numbers: each gets one, and both know the same."""
    digests = [f"{k:064x}" for k in range(40)]
    numbers: list[dict[str, int]] = []

    def give(order: Callable[[list[str]], list[str]]) -> None:
        with target.open() as mine:
            numbers.append(number(mine._store, order(digests), layers=3))

    threads = [threading.Thread(target=give, args=(order,)) for order in (list, lambda d: d[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 2
    assert numbers[0] == numbers[1]
    assert sorted(numbers[0].values()) == list(range(40))
    assert number(archive._store, digests, layers=3) == numbers[0]


def test_cypher_walks_the_nearest(archive: Archive) -> None:
    """The ten nearest of each snapshot stand as relationships, one a pair, with the value of the matrix."""
    fill(archive, 14)
    matrix = archive.distances(["r*"], alignment="identity")
    rows = tell(
        archive,
        "MATCH (a:Snapshot)-[d:DISTANCE]->(b:Snapshot) "
        "RETURN a.id AS a, b.id AS b, d.nnstd AS nnstd, d.layers AS layers, d.alignment AS alignment",
    )
    at = {label: k for k, label in enumerate(matrix.labels)}
    pairs = {(row["a"], row["b"]) for row in rows}
    assert len(pairs) == len(rows)
    assert all(a < b for a, b in pairs)
    for row in rows:
        assert row["nnstd"] == matrix.nnstd[at[row["a"]], at[row["b"]]]
        assert row["layers"] == matrix.layers[at[row["a"]], at[row["b"]]].tolist()
        assert row["alignment"] == "identity"
    for label, near in zip(matrix.labels, matrix.nearest(10), strict=True):
        for other, _ in near:
            assert (min(label, other), max(label, other)) in pairs


def test_a_pair_asked_for_is_written_once(archive: Archive) -> None:
    """Symmetric alignments have one relationship whichever way they are asked, the published one has two."""
    fill(archive, 2)
    for alignment in ("canonical", "reference"):
        for a, b in (("r0", "r1"), ("r1", "r0"), ("r0", "r1"), ("r0", "r0")):
            archive.nnstd(a, b, alignment=alignment)
    rows = tell(
        archive, "MATCH (a:Snapshot)-[d:DISTANCE]->(b:Snapshot) RETURN a.id AS a, b.id AS b, d.alignment AS alignment"
    )
    stored = sorted((row["alignment"], row["a"], row["b"]) for row in rows)
    assert stored == [("canonical", "r0@0", "r1@0"), ("reference", "r0@0", "r1@0"), ("reference", "r1@0", "r0@0")]


def test_an_unknown_alignment_is_refused(archive: Archive) -> None:
    """By every question of the archive that takes one; nothing is written."""
    fill(archive, 2)
    before = contents(archive)
    name: Any = "best"
    questions: list[Callable[[], object]] = [
        lambda: archive.nnstd("r0", "r1", alignment=name),
        lambda: archive.distances(["r*"], alignment=name),
        lambda: archive.infer(["r*"], alignment=name),
        lambda: archive.timeline("r0", alignment=name),
        lambda: archive.timeline("r0", "r1", alignment=name),
    ]
    for question in questions:
        with pytest.raises(
            InvalidInputError, match="expected one of overlap, canonical, reference, refined, identity, found 'best'"
        ):
            question()
    assert contents(archive) == before


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Which pairs are computed singly, as digests."""
    pairs: Counter = []
    inner = nnstd_module.compare

    def watched(a: Ready, b: Ready, *, alignment: Alignment) -> Distance:
        pairs.append((a.digest, b.digest))
        return inner(a, b, alignment=alignment)

    monkeypatch.setattr(nnstd_module, "compare", watched)
    return pairs


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_stored_distance_is_read_with_all_that_is_told_of_it(
    archive: Archive, alignment: Alignment, compared: Counter
) -> None:
    """Another client's answer is the first one's, field by field, the match too, and nothing is computed for it."""
    fill(archive, 2)
    first = archive.nnstd("r0", "r1", alignment=alignment)
    assert len(compared) == 1
    again = archive.reopened().nnstd("r0", "r1", alignment=alignment)
    assert len(compared) == 1
    assert again == first
    assert {s: units.tolist() for s, units in again.matching.items()} == {
        s: units.tolist() for s, units in first.matching.items()
    }
    if alignment != "reference":
        assert archive.reopened().nnstd("r1", "r0", alignment=alignment).nnstd == first.nnstd
        assert len(compared) == 2  # the match was looked at


def test_a_remembered_distance_does_not_outlive_its_snapshots(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a snapshot in hand is told once its run is removed; those that were read last are remembered."""
    monkeypatch.setattr(comparing, "_ANSWERS", 4)  # layers: of two distances
    fill(archive, 3)
    snapshots = [archive.snapshot(f"r{k}") for k in range(3)]
    for a, b in ((0, 1), (0, 2), (0, 1), (1, 2)):
        for _ in range(2):  # computed, and read
            assert archive.nnstd(snapshots[a], snapshots[b]) == archive.nnstd(f"r{a}", f"r{b}")
    remembered = [{entry.snapshot.run for entry in entries} for entries, _ in archive._answers.values()]
    assert remembered == [{"r0", "r1"}, {"r1", "r2"}]
    archive.remove_runs(["r1"])
    for a, b in ((0, 1), (2, 1)):
        with pytest.raises(NotFoundError, match="r1"):
            archive.nnstd(snapshots[a], snapshots[b])


@pytest.mark.parametrize("alignment", ["canonical", "reference"])
def test_an_inference_computes_what_is_not_known_and_keeps_it(
    archive: Archive, alignment: Alignment, compared: Counter
) -> None:
    """A matrix gives it distances, an inference matches too: the second of the same networks computes no pair.

    In another order of the runs neither, but where a pair has two matches; one network more costs its own pairs; where
    no answer is stored nothing is kept.
    """
    fill(archive, 4)
    turned = 0 if ALIGNMENTS[alignment].symmetric else 3
    before = contents(archive)
    truth = archive.infer(["r0", "r1", "r2"], alignment=alignment, root="r0", name=None).inference
    assert contents(archive) == before
    compared.clear()
    archive.distances(["r*"], alignment=alignment)
    assert archive.reopened().infer(["r*"], alignment=alignment, root="r0", samples=0, name=None).inference.nodes
    assert not compared  # without resamples, and with a root, no unit is looked at
    first = archive.infer(["r0", "r1", "r2"], alignment=alignment, root="r0").inference
    assert (first, len(compared)) == (truth, 3)
    again = archive.reopened()
    assert again.infer(["r0", "r1", "r2"], alignment=alignment, root="r0").inference == truth
    assert len(compared) == 3
    assert again.infer(["r2", "r1", "r0"], alignment=alignment, root="r0", depth=1).inference.edges
    assert len(compared) == 3 + turned
    again.infer(["r*"], alignment=alignment)
    assert len(compared) == 6 + turned


def test_a_damaged_match_is_computed_again(
    archive: Archive, compared: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that are no match of these networks give no answer: it is computed, said, and kept in their place."""
    fill(archive, 2)
    truth = archive.infer(["r*"], alignment="canonical").inference
    text = "MATCH (b:DistanceBlock {family: 'match'}) "
    stored = tell(archive, text + "RETURN b.data AS data")
    unknown, doubled = np.full(20, 99, dtype="<i4"), (-np.arange(20)).astype("<i4")
    whole = zlib.compress(bytes(80))
    for data in (
        b"abc",
        zlib.compress(bytes(8)),
        zlib.compress(bytes(84)),
        zlib.compress(unknown.tobytes()),
        whole[:-1],
    ):
        tell(archive, text + "SET b.data = $data", data=data)
        for computations in (1, 0):
            compared.clear()
            caplog.clear()
            assert archive.reopened().infer(["r*"], alignment="canonical").inference == truth
            assert len(compared) == computations
            assert [r.message.partition(": ")[2] for r in caplog.records] == ["damaged, and computed again"][
                : len(compared)
            ]
        assert tell(archive, text + "RETURN b.data AS data") == stored
    assert stored_pairs._unpacked(zlib.compress(doubled.tobytes()), [(8, 8), (8, 8), (4, 4)]) is None
    assert stored_pairs._unpacked(whole, [(8, 8), (8, 8), (4, 4)]) is not None


def test_matches_of_wide_networks_are_kept_by_pages(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is full by its bytes, too; one match that is larger is not kept, and its distance is."""
    fill(archive, 4)
    pages: list[int] = []
    inner = KnownPairs.close

    def close(pairs: KnownPairs) -> None:
        pages.append(len(pairs._new_matches))
        inner(pairs)

    monkeypatch.setattr(KnownPairs, "close", close)
    monkeypatch.setattr(stored_pairs, "_MESSAGE", 60)
    archive.infer(["r0", "r1", "r2"], alignment="canonical")
    assert sum(pages) == 3
    assert max(pages) < 3
    monkeypatch.setattr(stored_pairs, "_MESSAGE", 8)
    archive.infer(["r*"], alignment="canonical")
    matches = tell(archive, "MATCH (b:DistanceBlock {family: 'match'}) RETURN count(b) AS count")[0]["count"]
    assert matches == 3
    assert archive.stored_nnstd("r0", "r3", alignment="canonical") is None  # Cypher does not walk it
    pages.clear()
    archive.infer(["r*"], alignment="canonical", root="r0", samples=0)
    assert sum(pages) == 0


def test_distances_that_cannot_be_kept_cost_no_answer(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is right, and the log says once that nothing of it is kept."""
    fill(archive, 3)
    topologies = [archive.topology(f"r{k}@0") for k in range(3)]
    pairs = list(combinations(topologies, 2))

    def write(_work: object) -> None:
        raise StoreUnavailableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(stored_pairs, "_PAGE", 1)
        patch.setattr(archive._store, "write", write)
        known = KnownPairs(
            archive._store,
            [(a.digest, b.digest) for a, b in pairs],
            alignment="canonical",
            layers=2,
            keep=True,
            matches=True,
        )
        assert [known.compare(a, b) for a, b in pairs] == [nnstd(a, b, alignment="canonical") for a, b in pairs]
        known.close()
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["the disk is full"]


@pytest.mark.parametrize("other", [None, "s"])
def test_a_timeline_computes_what_is_not_known_and_keeps_it(
    archive: Archive, compared: Counter, other: str | None
) -> None:
    """Asked again it computes nothing; a new snapshot costs one pair; the matrix of its snapshots knows them, too."""
    histories = {
        run: sparse_history(k, snapshots=4, widths=(8, 8, 4), density=0.3, churn=0.2) for k, run in enumerate("rs")
    }
    for run, history in histories.items():
        for step, topology in history.snapshots[:3]:
            archive.push(run, step, topology)
    first = archive.timeline("r", other, alignment="canonical")
    count = 2 if other is None else 3
    assert len(compared) == count
    again = archive.reopened().timeline("r", other, alignment="canonical")
    assert (again, len(compared)) == (first, count)
    for point in first.points:
        pair = f"r@{point.step}", f"{other or 'r'}@{point.other_step}"
        assert point.distance == archive.nnstd(*pair, alignment="canonical", keep=False).nnstd
    compared.clear()
    for run, history in histories.items():
        archive.push(run, *history.snapshots[3])
    longer = archive.timeline("r", other, alignment="canonical")
    assert (longer.points[:-1], len(compared)) == (first.points, 1)
    before = contents(archive)
    archive.timeline("r", other, alignment="reference", chance="degrees", keep=False)
    assert contents(archive) == before
    assert not tell(archive, "MATCH (b:DistanceBlock {family: 'match'}) RETURN b.id AS id")
    levels = archive.timeline("r", other, alignment="canonical", chance="degrees")
    assert [point.distance for point in levels.points] == [point.distance for point in longer.points]
    assert all(point.chance is not None for point in levels.points)


def test_single_pairs_and_matrices_share_one_store(archive: Archive, computed: Counter) -> None:
    """A pair that was asked for singly is not computed again for a matrix."""
    fill(archive, 3)
    archive.nnstd("r0", "r1", alignment="canonical")
    archive.distances(["r*"], alignment="canonical")
    digests = [archive.snapshot(f"r{k}@0").digest for k in range(3)]
    assert len(computed) == 5
    assert {*digests[:2]} not in [{*pair} for pair in computed if pair[0] != pair[1]]


def test_a_snapshot_pushed_anew_never_meets_a_stale_distance(archive: Archive, compared: Counter) -> None:
    """The same ref with other connections is another topology; what Cypher walks follows."""
    fill(archive, 2)
    old = archive.nnstd("r0", "r1", alignment="identity")
    for node in ("(n:Snapshot {run: 'r1'})", "(n:Layer {run: 'r1'})", "(n:Run {id: 'r1'})"):
        tell(archive, f"MATCH {node} DETACH DELETE n")
    archive.push("r1", 0, sparse_history(990, snapshots=1, widths=(8, 8, 4), density=0.3, churn=0).snapshots[0][1])
    new = archive.nnstd("r0", "r1", alignment="identity")
    assert len(compared) == 2
    assert new != old
    assert new == nnstd(archive.topology("r0"), archive.topology("r1"), alignment="identity")


def test_a_newer_definition_never_meets_a_stale_distance(
    archive: Archive, compared: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another version of the alignment stored is not served."""
    fill(archive, 2)
    archive.nnstd("r0", "r1", alignment="identity")
    monkeypatch.setitem(ALIGNMENTS, "identity", replace(ALIGNMENTS["identity"], version=2))
    assert archive.nnstd("r0", "r1", alignment="identity").version == 2
    assert len(compared) == 2
    archive.nnstd("r0", "r1", alignment="identity")
    assert len(compared) == 2


@pytest.mark.parametrize("pairs", [1, 3])
def test_two_equal_requests_at_once_compute_once(archive: Archive, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first one's answer: for a distance, and for a matrix of three pairs."""
    fill(archive, 2)
    ask: Callable[[], Distance | DistanceMatrix] = partial(archive.nnstd, "r0", "r1", alignment="identity", keep=False)
    if pairs > 1:
        ask = partial(archive.distances, "r*", alignment="identity", keep=False)
    inner, begun, free = nnstd_module.compare, threading.Event(), threading.Event()
    times: list[int] = []

    def slow(a: Ready, b: Ready, *, alignment: Alignment) -> Distance:
        times.append(1)
        begun.set()
        free.wait(60)
        return inner(a, b, alignment=alignment)

    monkeypatch.setattr(nnstd_module, "compare", slow)
    monkeypatch.setattr(jobs, "compare", slow)
    waiting, awaited = threading.Event(), once._awaited

    def waited(flying: Future[Any], cancel: threading.Event | None) -> Any:
        waiting.set()
        return awaited(flying, cancel)

    monkeypatch.setattr(once, "_awaited", waited)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask)
        assert begun.wait(60)
        second = pool.submit(ask)
        assert waiting.wait(60)
        free.set()
        assert np.array_equal(first.result(60).nnstd, second.result(60).nnstd)
    assert len(times) == pairs


def test_distances_of_some_layers_are_nobodys_neighbours(archive: Archive) -> None:
    """Chosen layers, also of runs of different depth, come out of the archive as without it, and leave no relationship."""
    for run, widths in (("r0", (8, 12, 12, 4)), ("r1", (8, 12, 12, 4)), ("deep", (8, 12, 12, 12, 4))):
        history = sparse_history(len(widths) + len(run), snapshots=1, widths=widths, density=0.3, churn=0)
        archive.push(run, 0, history.snapshots[0][1])
    topologies = {run: archive.topology(run) for run in ("r0", "r1", "deep")}
    assert archive.nnstd("r0", "r1", layers="l1").nnstd == nnstd(topologies["r0"], topologies["r1"], layers="l1").nnstd
    for _ in range(2):
        matrix = archive.distances(["*@0"], layers="common")
        a, b = (topologies[label.split("@")[0]] for label in matrix.labels[:2])
        assert matrix.nnstd[0, 1] == nnstd(a, b, layers="common").nnstd
        assert archive.distances(["r*"], layers="l1").layer_names == ("l1",)
    assert tell(archive, "MATCH ()-[d:DISTANCE]->() RETURN d.nnstd AS kept") == []


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often levels of chance were drawn since it was last asked; what the process remembers is forgotten."""
    drawing: list[int] = []
    independent = null_model._chains

    def watched(*arguments: Any) -> Any:
        drawing.append(1)
        return independent(*arguments)

    def since() -> int:
        null_model._levels.clear()
        count = len(drawing)
        drawing.clear()
        return count

    monkeypatch.setattr(null_model, "_chains", watched)
    since()
    return since


def test_levels_of_chance_are_drawn_once(
    archive: Archive, drawn: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a pair, a matrix or a timeline, in either order and for other snapshots of the same degrees."""
    fill(archive, 3)
    before = contents(archive)
    archive.nnstd("r0", "r1", chance="degrees", keep=False)
    assert (drawn(), contents(archive)) == (1, before)
    first = archive.nnstd("r0", "r1", chance="degrees")
    assert drawn() == 1
    archive.push("copy", 0, degree_kept(archive.topology("r1"), 3))
    other = archive.reopened()
    again = other.nnstd("r1", "r0", chance="degrees")
    assert (again.chance, [row.chance for row in again.layers]) == (first.chance, [row.chance for row in first.layers])
    assert other.nnstd("r0", "copy", chance="degrees").chance == first.chance
    assert drawn() == 0
    matrix = other.distances(["r0", "r1", "r2"], chance="degrees")
    assert drawn() == 2
    assert matrix.chance is not None
    assert first.chance in {pair.chance for pair in matrix.chance.pairs}
    assert archive.timeline("r0", "r1", chance="degrees").points[0].z == first.z
    assert drawn() == 0
    archive.nnstd("r0", "r1", chance="degrees", layers="l0")
    assert drawn() == 1
    monkeypatch.setattr(stored_chance, "VERSION", 2)
    archive.nnstd("r0", "r1", chance="degrees")
    assert drawn() == 1


def test_a_damaged_level_of_chance_is_told(archive: Archive, drawn: Callable[[], int]) -> None:
    """Bytes that are not as many as the rows need are named, with where they stand."""
    fill(archive, 2)
    archive.nnstd("r0", "r1", chance="degrees")
    tell(archive, "MATCH (b:DistanceBlock {family: 'chance'}) SET b.data = $data", data=b"abc")
    assert drawn() == 1
    with pytest.raises(CorruptError, match=r"chance levels chance/1/.*: expected 72 bytes, found 3"):
        archive.nnstd("r0", "r1", chance="degrees")
