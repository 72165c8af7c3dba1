"""The drill: back up while jobs push, lose the archive, restore it, and find by every digest what was there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.stores import Target, contents, tell, wipe
from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidInputError, NotFoundError, TopostrataError
from topostrata.ingest.formats.export_file import ExportFile
from topostrata.refs import Ref
from topostrata.runs import Parent
from topostrata.service.cli.main import app
from topostrata.topology import LayerShape, Space, Topology, Wiring

QUIET = {"guard", "writer_epoch", "writer_batch", "half_written", "created_by"}


def network(seed: int) -> Topology:
    """A network of two layers."""
    random = np.random.default_rng(seed)
    return Topology.from_masks([random.random((6, 5)) < 0.5, random.random((5, 3)) < 0.5])


def fill(archive: Archive) -> None:
    """Runs of every kind, and everything that is computed of runs and kept."""
    archive.create_run("w0", name="the first", config={"zeta": 0.3}, tags=["a"], status="finished")
    for k in range(3):
        archive.push(f"w{k}", 0, network(k), layer_metrics={"l0": {"flow": 0.5}})
    archive.push("w0", 4, network(10))
    archive.push_metrics("w0", 2, {"egf": 0.25}, layer_metrics={"l0.bias": {"flow": 0.5}})
    archive.update_run("w1", parents=[Parent("w0", 0, "fork")])
    archive.update_run("w2", parents=[Parent("w0", 0, "pruned")])
    archive.distances("w*@last")
    archive.nnstd("w0@0", "w1@0", chance="degrees")
    random = np.random.default_rng(0)
    source, hidden, target = Space("input", 60, True), Space("encoder/hidden", 90, False), Space("output", 60, True)
    wiring = Wiring((LayerShape("l0", source, hidden, 1), LayerShape("l1", hidden, target, 1)))
    wide = wiring.place({"l0": random.random((60, 90)) < 0.05, "l1": random.random((90, 60)) < 0.05})
    archive.push("u0", 0, wide)
    archive.push("u1", 0, wide.relabelled({"encoder/hidden": random.permutation(90)}))
    archive.match("u0", "u1", keep=True)
    archive.infer("w*@0", name="tree")
    archive.remove_runs(["w2"])


def graph(archive: Archive) -> list[object]:
    """All of the graph but how masks are packed, which archive this is, and who wrote last."""
    rows = [
        (kind, [p for p in properties if p[0] not in QUIET], *ends)
        for kind, properties, *ends in contents(archive)
        if not {"Mask", "MaskPart", "BASE", "HAS_PART", "Archive"} & set(kind)
    ]
    return sorted(rows, key=repr)


def masks(archive: Archive) -> list[str]:
    """The digests of all masks."""
    return sorted(row["digest"] for row in tell(archive, "MATCH (m:Mask) RETURN m.digest AS digest"))


def ask(target: Target, *words: str) -> dict[str, object]:
    """What the command line answers as JSON."""
    done = CliRunner(env=target.environment).invoke(app, [*words, "--store", target.uri, "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_what_was_lost_is_restored_to_the_last_digest(archive: Archive, target: Target, tmp_path: Path) -> None:
    """All runs, the removed too, with what is kept beside them; one that was stopped goes on, a second adds nothing."""
    fill(archive)
    path, again = tmp_path / "all.zip", tmp_path / "again.zip"
    told = ask(target, "backup", str(path))
    assert (told["runs"], told["removed"]) == (5, 1)
    assert told["bytes"] == told["bytes_added"] == path.stat().st_size
    assert told["topologies"] == told["topologies_added"]
    before, digests, removed = graph(archive), masks(archive), archive.removed_runs()
    kinds = {str(kind) for row in before for kind in row[0]}  # type: ignore[index]
    assert {"DistanceBlock", "Topology", "DISTANCE", "MATCHES", "Inference", "INFERRED_FROM", "StepMetrics"} <= kinds

    wipe(archive)

    def stop(done: int, total: int) -> None:
        if done == total // 3 + 3:
            raise KeyboardInterrupt

    with target.open() as emptied, pytest.raises(KeyboardInterrupt):
        emptied.restore(path, progress=stop)
    told = ask(target, "restore", str(path))
    assert 0 < told["added"] < told["snapshots"]  # type: ignore[operator]
    with target.open() as restored:
        assert graph(restored) == before
        assert (masks(restored), restored.removed_runs()) == (digests, removed)
        assert list(restored.verify()) == []
        restored.backup(again)
        assert again.read_bytes() == path.read_bytes()
        assert restored.restore(path).added == 0
        assert graph(restored) == before
        restored.bring_back(["w2"])
        assert restored.topology("w2@0") == network(2)
        restored.push("w9", 0, network(0))
        with pytest.raises(ConflictError, match=r"expected an archive without runs .*, found 'w9'"):
            restored.restore(path)


def test_a_backup_that_is_there_gets_what_is_new_while_jobs_push(
    archive: Archive, target: Target, tmp_path: Path
) -> None:
    """Only new topologies are read; what is pushed meanwhile waits for the next; nothing leaves the file unasked."""
    for step in range(3):
        archive.push("w0", step, network(step))
    path = tmp_path / "all.zip"
    first = archive.backup(path)
    assert (first.topologies, first.topologies_added) == (3, 3)
    same = archive.backup(path)
    assert (same.topologies_added, same.bytes_added, same.bytes) == (0, 0, first.bytes)

    archive.push("w0", 3, network(3))
    archive.push("w1", 0, network(0))
    pushed = []

    def job(done: int, _total: int) -> None:
        pushed.append(done)
        archive.push("w0", 100 + done, network(100 + done))
        archive.push("w2", done, network(200 + done))
        archive.update_run("w2", parents=[Parent("w0", 100 + done, "declared")])
        archive.nnstd(f"w0@{100 + done}", "w1@0")

    second = archive.backup(path, progress=job)
    assert (second.runs, second.snapshots, second.topologies_added) == (2, 5, 1)
    assert len(pushed) == second.topologies
    assert second.bytes == path.stat().st_size == first.bytes + second.bytes_added
    with ExportFile(path) as file:
        file.check()
        assert all(line["digest"] is None for line in file.kept() if line["kind"] == "number")
    third = archive.backup(path)
    assert (third.runs, third.topologies_added) == (3, 2 * len(pushed))

    whole = path.read_bytes()
    at = whole.index(b"topologies/") + 120
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    with pytest.raises(TopostrataError, match=r"all\.zip"):
        archive.restore(path)
    assert archive.backup(path).topologies_added == 1
    assert path.read_bytes() == whole

    archive.purge_runs(["w2"])
    with pytest.raises(ConflictError, match="found w2@1 only in the file"):
        archive.backup(path)
    assert path.read_bytes() == whole
    assert archive.backup(path, force=True).bytes_added < 0


def test_a_restore_hides_runs_as_a_change_and_shows_none_that_it_refuses(
    archive: Archive, target: Target, tmp_path: Path
) -> None:
    """An earlier moment keeps what it showed; where the archive contradicts the file, what is removed stays so."""
    if target.name != "embedded":
        return  # all stores are told the same
    archive.push("w0", 0, network(0))
    archive.push("w1", 0, network(1))
    archive.remove_runs(["w0"])
    path = tmp_path / "all.zip"
    archive.backup(path)
    archive.bring_back(["w0"])
    moment = archive.moment()
    archive.restore(path)
    assert (archive.at(moment).has_run("w0"), archive.has_run("w0")) == (True, False)
    assert [(entry.kind, entry.run) for entry in archive.changes(moment)] == [("removed", "w0")]
    moment, removed = archive.moment(), archive.removed_runs()
    archive.update_run("w1", name="another")
    with pytest.raises(ConflictError, match=r"'w1': .* with other name"):
        archive.restore(path)
    assert (archive.removed_runs(), archive.moment()) == (removed, moment + 1)


def test_runs_are_taken_out_of_a_backup(archive: Archive, target: Target, tmp_path: Path) -> None:
    """`import` brings the named ones, by default those not removed, with all ancestors; an export is no backup."""
    if target.name != "embedded":
        return  # whatever the store, it is the file that is asked
    archive.push("w0", 0, network(0))
    archive.push("w1", 0, network(1))
    archive.update_run("w1", parents=[Parent("w0", 0, "fork")])
    archive.push("w2", 0, network(2))
    archive.push("w3", 0, network(3))
    archive.remove_runs(["w2"])
    path = tmp_path / "all.zip"
    archive.export(tmp_path / "runs.zip")
    for run in ("w4", "w5"):
        archive.push(run, 0, network(4))
    archive.update_run("w4", parents=[Parent("w5", 0, "fork")])
    tell(archive, "MATCH (r:Run {id: 'w5'}) SET r.removed_at = '2026-01-01T00:00:00.000+00:00'")  # as of old versions
    archive.backup(path)
    with pytest.raises(InvalidInputError, match="expected a backup, found an export"):
        archive.backup(tmp_path / "runs.zip")
    wipe(archive)
    with target.open() as emptied:
        with pytest.raises(InvalidInputError, match="expected a backup, found an export"):
            emptied.restore(tmp_path / "runs.zip")
        with pytest.raises(NotFoundError, match=r"run 'nobody': expected it in .*all\.zip"):
            emptied.import_(path, runs="nobody")
        assert emptied.runs() == []
        assert emptied.import_(path, runs=["w1"]).runs_added == ("w0", "w1")
        assert ask(target, "import", str(path))["runs_added"] == ["w3", "w5", "w4"]
        assert ask(target, "import", str(path), "w2")["runs_added"] == ["w2"]
        assert emptied.topology("w2@0") == network(2)
        assert emptied.expand("w*@last") == [Ref(f"w{k}", 0) for k in range(6)]
