"""Archives and exports of the first format, made before the product had its present name: every later version opens them.

``archive-format-1.zip`` is the directory of an embedded archive (three runs with three snapshots each, projected, one
inference, single distances of all alignments and a matrix), ``archive-format-1-export.zip`` its export and
``archive-format-1.json`` what the version that made them answered.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topostrata import format_1
from topostrata.archive import Archive, open_archive
from topostrata.distance import stored
from topostrata.distance.alignments import ALIGNMENTS
from topostrata.distance.nnstd import nnstd
from topostrata.errors import NotFoundError
from topostrata.store.embedded import stop

DATA = Path(__file__).resolve().parents[1] / "data"
pytestmark = pytest.mark.checkout


@pytest.fixture(scope="module")
def answers() -> Any:
    """What the version that made the archive answered."""
    return json.loads((DATA / "archive-format-1.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """The old directory, unpacked and opened by today's code."""
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(DATA / "archive-format-1.zip") as file:
        file.extractall(folder)
    directory = folder / format_1.OLD_DIRECTORY
    try:
        with open_archive(str(directory), create=False) as opened:
            yield opened
    finally:
        stop(directory, force=True)


def _snapshots(archive: Archive) -> list[list[Any]]:
    return [
        [snapshot.id, snapshot.digest, snapshot.nnz, snapshot.epoch, dict(snapshot.metrics)]
        for run in archive.runs()
        for snapshot in archive.snapshots(run.id)
    ]


def test_an_old_archive_holds_what_it_held(archive: Archive, answers: Any) -> None:
    """Runs, parents, snapshots, digests and metrics are as they were, and everything adds up."""
    assert [
        [run.id, run.name, run.config, list(run.tags), [[p.run, p.step, p.how] for p in run.parents]]
        for run in archive.runs()
    ] == answers["runs"]
    assert _snapshots(archive) == answers["snapshots"]
    counts = asdict(archive.counts())
    assert {name: counts[name] for name in answers["counts"]} == answers["counts"]
    assert list(archive.verify()) == []


def test_masks_of_an_old_archive_have_their_digests(archive: Archive, answers: Any) -> None:
    """Every topology is read from its packed masks, and has the digest that was written with it."""
    for ref, digest, nnz, _epoch, _metrics in answers["snapshots"]:
        topology = archive.topology(ref)
        assert (topology.digest, topology.nnz) == (digest, nnz)


def test_an_old_archive_answers_with_the_same_distances(archive: Archive, answers: Any) -> None:
    """Each alignment gives the number that it gave, to the bit; so does the matrix, and what is stored is still there.

    But for ``refined``, whose rule is another one since (version 2).
    """
    for question, value in answers["nnstd"].items():
        a, b, alignment = question.split()
        distance = archive.nnstd(a, b, alignment=alignment, keep=False)
        if alignment == "refined":
            assert distance.version == 2
            assert distance.nnstd <= answers["nnstd"][f"{a} {b} canonical"]
        else:
            assert (distance.nnstd, distance.version) == (value, 1), question
    assert archive.distances(["w*@10"], alignment="canonical", keep=False).nnstd.tolist() == answers["distances"]
    relationships = archive.cypher(
        "MATCH (a:Snapshot)-[d:DISTANCE]->(b:Snapshot) RETURN a.id, b.id, d.alignment, d.nnstd "
        "ORDER BY a.id, b.id, d.alignment"
    )
    assert [list(row) for row in relationships.rows] == answers["stored_distances"]


def test_what_an_old_rule_left_is_not_served(archive: Archive, answers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances that ``refined`` 1 stored stay as they are, and the matrix of ``refined`` 2 is computed anew."""
    refs = ["w0@10", "w1@10", "w2@10"]
    digests = [archive.snapshot(ref).digest for ref in refs]
    with monkeypatch.context() as patch:
        patch.setitem(ALIGNMENTS, "refined", replace(ALIGNMENTS["refined"], version=1))
        numbers = stored.number(archive._store, digests, layers=3)
        old = stored.StoredTiles(archive._store, numbers, alignment="refined", layers=3)
        old.put_tile(digests, digests, np.full((3, 3, 3), 0.125))
    matrix = archive.distances(refs, alignment="refined", keep=False)
    topologies = [archive.topology(ref) for ref in refs]
    fresh = [[nnstd(a, b, alignment="refined").nnstd for b in topologies] for a in topologies]
    assert (matrix.nnstd.tolist(), matrix.version) == (fresh, 2)
    versions = archive.cypher("MATCH ()-[d:DISTANCE {alignment: 'refined'}]->() RETURN DISTINCT d.version")
    assert [list(row) for row in versions.rows] == [[1]]
    assert archive.inference("inferred").inference.version == 1


def test_an_old_archive_knows_its_evolution_and_descent(archive: Archive, answers: Any) -> None:
    """Evolution, the inference that was kept, and the connections in the graph are as they were."""
    assert [
        [y.name, y.alive_from, y.alive_to, y.survived, y.regrown, y.died, y.born, y.jaccard_distance]
        for y in archive.evolution("w0").layers
    ] == answers["evolution"]
    assert [
        [e.parent, e.child, e.distance, e.margin, e.support, e.direction]
        for e in archive.inference("inferred").inference.edges
    ] == answers["inference"]
    connections = archive.cypher(
        "MATCH (a:Neuron)-[c:CONNECTS]->(b:Neuron) WHERE c.run = 'w2' RETURN a.id, b.id, c.layer, c.tap, c.born_step, "
        "c.died_step ORDER BY a.id, b.id, c.layer, c.born_step"
    )
    assert [list(row) for row in connections.rows] == answers["connections"]


def test_an_old_archive_takes_new_snapshots(archive: Archive) -> None:
    """It is not only read: the next snapshot of a run is stored, and until the archive is migrated its connections wait."""
    assert archive.push("w0", 15, archive.topology("w0@5")) == "added"
    assert archive.topology("w0@15") == archive.topology("w0@5")
    assert list(archive.verify()) == []
    assert {(lag.run, lag.projected_step, lag.last_step) for lag in archive.unprojected()} == {("w0", 10, 15)}


def test_an_old_archive_is_brought_to_todays_format(archive: Archive, answers: Any) -> None:
    """Migrated, it has the same connections, what waited is projected, connections die and are born in it; once is enough."""
    before = (
        "MATCH (a:Neuron)-[c:CONNECTS {run: 'w2'}]->(b:Neuron) RETURN a.id, b.id, c.layer, c.tap, c.born_step, "
        "c.died_step ORDER BY a.id, b.id, c.layer, c.born_step"
    )
    alive = "MATCH ()-[c:CONNECTS]->() WHERE c.died_step IS NULL RETURN count(c), count(c.alive)"
    ((living, keyed),) = archive.cypher(alive).rows
    assert archive.migrate(dry_run=True).runs == 3
    assert (archive.cypher(alive).rows, keyed) == ([[living, 0]], 0)
    migrated = archive.migrate()
    assert (migrated.before, migrated.after, migrated.runs, migrated.connections) == (1, 2, 3, living)
    assert archive.unprojected() == []
    assert archive.migrate().connections == 0
    assert archive.push("w2", 15, archive.topology("w0@10")) == "added"
    assert archive.push("w2", 20, archive.topology("w2@10")) == "added"
    assert archive.unprojected() == []
    assert list(archive.verify()) == []
    ended = [row[:6] for row in archive.cypher(before).rows if row[4] <= 10]
    assert [row[:5] for row in ended] == [row[:5] for row in answers["connections"]]


def test_an_old_directory_in_the_place_of_the_default_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `.topostrata` is not there and the directory of before is, nothing is made; the error says how to go on."""
    (tmp_path / format_1.OLD_DIRECTORY / "engine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for create in (True, False):
        with pytest.raises(NotFoundError, match="earlier version") as caught:
            open_archive(create=create)
        assert f"--store {format_1.OLD_DIRECTORY}" in str(caught.value)
    assert not (tmp_path / ".topostrata").exists()


def test_an_export_of_format_2_holds_what_it_held(tmp_path: Path) -> None:
    """Recurrent, shared and grouped-query networks with metrics of layers come out of the file with their digests."""
    answers = json.loads((DATA / "export-format-2.json").read_text(encoding="utf-8"))
    directory = tmp_path / "archive"
    try:
        with open_archive(str(directory)) as archive:
            archive.import_(DATA / "export-format-2.zip")
            assert {
                snapshot.id: [snapshot.digest, snapshot.nnz]
                for run in archive.runs()
                for snapshot in archive.snapshots(run.id)
            } == answers["snapshots"]
            for run, distance in answers["nnstd"].items():
                assert archive.topology(f"{run}@5").digest == answers["snapshots"][f"{run}@5"][0]
                assert archive.nnstd(f"{run}@0", f"{run}@5", alignment="canonical", keep=False).nnstd == distance
                assert archive.snapshot(f"{run}@0").layer_metrics == {answers["first_layer"][run]: {"flow": 0.25}}
            assert list(archive.verify()) == []
    finally:
        stop(directory, force=True)


def test_an_old_archive_takes_metrics_at_steps_without_a_snapshot(archive: Archive) -> None:
    """What it has no place for is read as nothing, and has one, unique by its id, once it is written."""
    run = archive.runs()[0].id
    assert list(archive.step_metrics(run)) == []
    assert archive.push_metrics(run, 7, {"egf_2": 0.5}, layer_metrics={"l0.bias": {"flow_2": 0.25}}) == "added"
    (entry,) = archive.reopened().step_metrics(run)
    assert (entry.step, entry.metrics, entry.layer_metrics) == (7, {"egf_2": 0.5}, {"l0.bias": {"flow_2": 0.25}})
    assert list(archive.verify()) == []
