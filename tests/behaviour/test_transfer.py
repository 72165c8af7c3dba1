"""Moving runs: out to a file and in again, from any store to another and back, interrupted, damaged, in conflict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.held_runs import BEGIN, HeldRuns, family
from tests.stores import Target, contents, embedded, tell, wipe
from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidInputError, NotFoundError, TopostrataError
from topostrata.ingest import transfer
from topostrata.ingest.formats.export_file import ExportFile
from topostrata.runs import Parent, Run, Snapshot
from topostrata.topology import Topology

ROOT = Path(__file__).resolve().parents[2]
A = Topology.from_masks([np.eye(3), np.ones((3, 2))])
B = Topology.from_masks([np.ones((3, 3)), np.eye(3, 2)])
SEED = 11  # a family with taps, several layers into one space, and lives that end and begin again

# Moves, and kills itself: after so many steps of progress, or in the projection of the next push.
_MOVER = """
import os, signal, sys
from pathlib import Path
from topostrata.archive import open_archive
from topostrata.ingest import transfer

verb, store, other, when, point = sys.argv[1:]

def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(done, total):
    if done >= int(when) and point == "after":
        end()
    if done >= int(when):
        archive._loader.drawer.project = end

with open_archive(store) as archive:
    if verb == "export":
        transfer.export(archive, Path(other), progress=progress)
    elif verb == "import":
        transfer.import_(Path(other), archive, progress=progress)
    else:
        with open_archive(other) as source:
            transfer.copy(source, archive, progress=progress)
"""


@pytest.fixture(scope="module")
def beside_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Another store, embedded, for what is moved between two."""
    with embedded(tmp_path_factory.mktemp("beside")) as running:
        yield running


@pytest.fixture
def beside(beside_target: Target) -> Iterator[Archive]:
    """A client of the other store, empty."""
    with beside_target.open() as opened:
        wipe(opened)
        yield opened


def fill(archive: Archive, family_runs: HeldRuns) -> None:
    """Everything that is held, as a user would have it there."""
    for record in family_runs.records:
        run = record.run
        archive.create_run(
            run.id, name=run.name, config=run.config, tags=run.tags, parents=run.parents, status=run.status,
            created_at=run.created_at,
        )  # fmt: skip
        for snapshot in family_runs.snapshots(run.id):
            archive.push(
                run.id, snapshot.step, family_runs.topology(snapshot), epoch=snapshot.epoch, metrics=snapshot.metrics,
                recorded_at=snapshot.recorded_at, projection=record.projected,
            )  # fmt: skip


def state(archive: Archive) -> list[tuple[Run, list[tuple[Snapshot, Topology]]]]:
    """All that can be asked of runs and snapshots."""
    return [
        (run, [(snapshot, archive.topology(snapshot.id)) for snapshot in archive.snapshots(run.id)])
        for run in archive.runs()
    ]


def graph(archive: Archive) -> list[Any]:
    """All of the graph but how masks are packed, which archive this is, and who wrote last."""
    quiet = {"guard", "writer_epoch", "writer_batch", "half_written", "created_by"}
    rows = [
        (kind, [p for p in properties if p[0] not in quiet], *ends)
        for kind, properties, *ends in contents(archive)
        if not {"Mask", "MaskPart", "BASE", "HAS_PART", "Archive"} & set(kind)
    ]
    return sorted(rows, key=repr)


def same(archive: Archive, other: Archive) -> None:
    """Two archives hold the same, down to every connection that Cypher sees, and both are sound."""
    assert state(archive) == state(other)
    assert graph(archive) == graph(other)
    assert list(archive.verify()) == list(other.verify()) == []


@pytest.mark.parametrize("seed", [5, SEED])
def test_what_is_exported_is_imported(archive: Archive, beside: Archive, tmp_path: Path, seed: int) -> None:
    """Out of one store and into another and back: equal archives, and equal bytes of their exports."""
    runs = family(seed)
    fill(archive, runs)
    first, second, third = (tmp_path / f"{k}.zip" for k in range(3))
    done = transfer.export(archive, first)
    assert done.bytes == first.stat().st_size
    assert set(done.runs) == {record.run.id for record in runs.records}
    moved = transfer.import_(first, beside)
    assert (moved.added, moved.unchanged, moved.runs_added) == (done.snapshots, 0, done.runs)
    same(archive, beside)
    transfer.export(beside, second)
    wipe(archive)
    transfer.import_(second, archive.reopened())
    same(archive, beside)
    transfer.export(archive, third)
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


@pytest.mark.parametrize("seed", [3])
def test_runs_are_copied_there_and_back(archive: Archive, beside: Archive, target: Target, seed: int) -> None:
    """From one store to another and back again: names, config, tags, parents, times, metrics, connections."""
    fill(archive, family(seed))
    before = state(archive)
    moved = transfer.copy(archive, beside)
    assert moved.added == moved.snapshots == sum(len(snapshots) for _, snapshots in before)
    same(archive, beside)
    wipe(archive)
    with target.open() as emptied:
        transfer.copy(beside, emptied)
        same(emptied, beside)
        assert state(emptied) == before


def test_a_second_move_brings_only_what_is_new(archive: Archive, beside: Archive, tmp_path: Path) -> None:
    """Nothing where nothing is new; then a snapshot, a metric, a tag, a parent and a status that are new."""
    fill(archive, family(SEED))
    transfer.copy(archive, beside)
    before = contents(beside)
    again = transfer.copy(archive, beside)
    assert (again.added, again.runs_added) == (0, ())
    archive.push("empty", 4, A)
    step = next(iter(archive.snapshots("both"))).step
    archive.push("both", step, archive.topology(f"both@{step}"), metrics={"later": 0.25})
    archive.update_run("a-child", tags=["new"], status="finished")
    archive.update_run("empty", parents=[Parent("root", archive.snapshot("root@first").step, "declared")])
    assert transfer.copy(archive, beside).added == 1
    same(archive, beside)
    assert contents(beside) != before
    assert beside.snapshot(f"both@{step}").metrics["later"] == 0.25
    transfer.export(archive, tmp_path / "runs.zip")
    assert transfer.import_(tmp_path / "runs.zip", beside).added == 0


def test_a_target_that_goes_on_is_left_as_it_is(archive: Archive, beside: Archive) -> None:
    """Snapshots, metrics and tags that only the target has stay, and so does its status."""
    archive.create_run("w0", status="finished")
    archive.push("w0", 0, A, metrics={"loss": 1.0})
    transfer.copy(archive, beside)
    beside.push("w0", 5, B)
    beside.push("w0", 0, A, metrics={"other": 2.0})
    beside.update_run("w0", tags=["mine"], status="open")
    before = state(beside)
    assert transfer.copy(archive, beside).unchanged == 1
    assert state(beside) == before


def test_a_run_moves_with_all_that_it_descends_from(archive: Archive, beside: Archive, tmp_path: Path) -> None:
    """A parent is a snapshot, so the runs of the ancestors move too, and no others."""
    runs = family(SEED)
    fill(archive, runs)
    archive.push("stranger", 0, A)
    done = transfer.export(archive, tmp_path / "runs.zip", runs=["both"])
    assert set(done.runs) == {"root", "a-child", "both"}
    assert done.runs.index("root") < done.runs.index("a-child") < done.runs.index("both")
    assert set(transfer.copy(archive, beside, runs=["a-child"]).runs) == {"root", "a-child"}
    assert transfer.import_(tmp_path / "runs.zip", beside).runs_added == ("both",)
    with pytest.raises(NotFoundError, match="nobody"):
        transfer.export(archive, tmp_path / "more.zip", runs=["both", "nobody"])
    assert not (tmp_path / "more.zip").exists()


def test_an_empty_archive_moves_too(archive: Archive, beside: Archive, tmp_path: Path) -> None:
    """No runs, in a file and without one."""
    assert transfer.export(archive, tmp_path / "runs.zip").runs == ()
    assert transfer.import_(tmp_path / "runs.zip", beside).snapshots == 0
    assert transfer.copy(archive, beside).runs == ()


def test_layers_that_were_not_for_cypher_stay_out_of_the_graph(archive: Archive, beside: Archive) -> None:
    """Which layers are projected moves with the run; one that the limit of a store stopped goes on elsewhere."""
    archive.push("w0", 0, A, projection=["l1"])
    archive.push("none", 0, A, projection="none")
    tell(archive, "MATCH (y:Layer {id: 'w0/l1'}) SET y.projection = 'limit'")
    transfer.copy(archive, beside)
    lags = {(lag.run, lag.layer): lag.projection for lag in beside.unprojected()}
    assert lags == {("w0", "l0"): "off", ("none", "l0"): "off", ("none", "l1"): "off"}


def another_way(archive: Archive) -> None:
    """The run, with the same parent by another way."""
    archive.push("v", 0, A)
    archive.create_run("w0", parents=[Parent("v", 0, "pruned")])


CONFLICTS: dict[str, tuple[Callable[[Archive], object], str]] = {
    "another topology": (lambda a: a.push("w0", 3, B), "w0@3.*another topology"),
    "another metric": (lambda a: a.push("w0", 3, A, metrics={"loss": 2.0}), r"w0@3.*'loss': expected 1\.0, found 2\.0"),
    "a step that the source lacks": (lambda a: a.push("w0", 2, A), "w0@2: expected this snapshot on both sides"),
    "a step that the target lacks": (lambda a: a.push("w0", 7, B), "w0@3.*only in the source"),
    "another config": (lambda a: a.create_run("w0", config={"lr": 9}), "'w0'.*other config"),
    "another name": (lambda a: a.create_run("w0", name="mine"), "'w0'.*other name"),
    "other layers": (lambda a: a.push("w0", 3, Topology.from_masks([np.eye(3), np.ones((3, 2))], names=["x", "y"])), "'w0'.*other layers"),
    "another way from its parent": (another_way, "'w0'.*by 'pruned', not by 'fork'"),
}  # fmt: skip


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_conflict_stops_a_move_before_anything_is_written(
    archive: Archive, beside: Archive, tmp_path: Path, conflict: str
) -> None:
    """What both sides hold must agree; the error names the run and the step, and the target is as it was."""
    for run in ("v", "w0", "x"):
        parents = [Parent("v", 0, "fork")] if run == "w0" else []
        archive.create_run(run, parents=parents)
        archive.push(run, 0 if run == "v" else 3, A, metrics={"loss": 1.0})
        archive.push(run, 8, B)
    transfer.export(archive, tmp_path / "runs.zip")
    CONFLICTS[conflict][0](beside)
    before = contents(beside)
    with pytest.raises(ConflictError, match=CONFLICTS[conflict][1]):
        transfer.copy(archive, beside)
    with pytest.raises(ConflictError, match=CONFLICTS[conflict][1]):
        transfer.import_(tmp_path / "runs.zip", beside)
    assert contents(beside) == before


def test_of_a_damaged_file_nothing_is_imported(archive: Archive, tmp_path: Path) -> None:
    """Cut off, changed, or of an unknown format: an error that names the file, and no word written."""
    fill(archive, family(SEED))
    transfer.export(archive, tmp_path / "runs.zip")
    data = (tmp_path / "runs.zip").read_bytes()
    wipe(archive)
    before = contents(archive)
    damaged = tmp_path / "damaged.zip"
    end = data.rindex(b"PK\x05\x06")
    places = [len(data) // 7 * k for k in range(1, 7)]
    for cut in (0, 40, *places, end, len(data) - 1):
        damaged.write_bytes(data[:cut])
        with pytest.raises(TopostrataError, match=r"damaged\.zip"):
            transfer.import_(damaged, archive)
    topology = data.index(b"topologies/") + 120
    for at in (topology, topology + 40):
        damaged.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        with pytest.raises(InvalidInputError, match=r"damaged\.zip"):
            transfer.import_(damaged, archive)
    damaged.write_bytes(data.replace(b'{"format": 1,', b'{"format": 7,'))
    with pytest.raises(TopostrataError, match=r"damaged\.zip"):
        transfer.import_(damaged, archive)
    assert contents(archive) == before


def killed(target: Target, verb: str, other: str, when: int, point: str = "after") -> None:
    """Move in a process of its own that is killed on the way."""
    command = [sys.executable, "-c", _MOVER, verb, target.uri, other, str(when), point]
    done = subprocess.run(
        command, env=os.environ | target.environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize(("when", "point"), [(3, "in projection"), (6, "after")])
def test_a_killed_import_is_resumed_by_another(
    archive: Archive, beside: Archive, target: Target, tmp_path: Path, when: int, point: str
) -> None:
    """Whatever was brought before the kill is whole; importing again brings the rest."""
    fill(beside, family(SEED))
    total = transfer.export(beside, tmp_path / "runs.zip").snapshots
    killed(target, "import", str(tmp_path / "runs.zip"), total + when, point)
    with target.open() as after:
        arrived = sum(len(snapshots) for _, snapshots in state(after))
        assert when <= arrived < total
        assert list(after.verify()) == []
        assert transfer.import_(tmp_path / "runs.zip", after).added == total - arrived
        same(after, beside)


@pytest.mark.parametrize(("when", "point"), [(4, "after"), (7, "in projection")])
def test_a_killed_copy_is_resumed_by_another(
    archive: Archive, beside: Archive, beside_target: Target, target: Target, when: int, point: str
) -> None:
    """Whatever was brought before the kill is whole; copying again brings the rest."""
    fill(beside, family(SEED))
    killed(target, "copy", beside_target.uri, when, point)
    with target.open() as after:
        assert list(after.verify()) == []
        assert transfer.copy(beside, after).added > 0
        same(after, beside)


def test_a_killed_projection_is_completed_when_nothing_is_left_to_bring(
    archive: Archive, beside: Archive, beside_target: Target, target: Target
) -> None:
    """The last snapshot is there and its connections are not: the next move writes them."""
    beside.push("w0", 0, A)
    beside.push("w0", 1, B)
    killed(target, "copy", beside_target.uri, 1, "in projection")
    with target.open() as after:
        assert [lag.projected_step for lag in after.unprojected()] == [0, 0]
        assert transfer.copy(beside, after).added == 0
        same(after, beside)


def test_a_killed_export_leaves_no_file_of_that_name(archive: Archive, target: Target, tmp_path: Path) -> None:
    """A file that was there stays as it was; the next export writes over what was left beside it."""
    fill(archive, family(SEED))
    path = tmp_path / "runs.zip"
    killed(target, "export", str(path), 3)
    assert not path.exists()
    path.write_bytes(b"an older export")
    killed(target, "export", str(path), 5)
    assert path.read_bytes() == b"an older export"
    transfer.export(archive, path)
    assert [path.name for path in tmp_path.iterdir()] == ["runs.zip"]
    with ExportFile(path) as file:
        file.check()


def test_a_full_disk_leaves_no_file(archive: Archive, target: Target, tmp_path: Path) -> None:
    """A clear error, and neither the file nor what was begun of it."""
    fill(archive, family(SEED))
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from topostrata.archive import open_archive\nfrom topostrata.errors import InvalidInputError\n"
        "from topostrata.ingest import transfer\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with open_archive(sys.argv[1]) as archive:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "    try:\n        transfer.export(archive, Path(sys.argv[2]))\n"
        "    except InvalidInputError as error:\n        print(error)\n"
    )
    path = tmp_path / "runs.zip"
    done = subprocess.run(
        [sys.executable, "-c", code, target.uri, str(path)],
        env=os.environ | target.environment, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert "runs.zip: expected a file that can be written, found: File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInputError, match="No such file or directory"):
        transfer.export(archive, tmp_path / "nowhere" / "runs.zip")


def test_two_exports_to_one_name_do_not_mix(archive: Archive, tmp_path: Path) -> None:
    """The second says that the first is still writing; the first ends well."""
    fill(archive, family(SEED))
    path = tmp_path / "runs.zip"

    def second(_done: int, _total: int) -> None:
        with pytest.raises(ConflictError, match="another export is writing"):
            transfer.export(archive, path)

    transfer.export(archive, path, progress=second)
    with ExportFile(path) as file:
        file.check()


def test_an_export_of_format_1_stays_readable(archive: Archive, tmp_path: Path) -> None:
    """tests/data/export-format-1.zip was written when format 1 was new; what it holds is told by the code that made it."""
    old = ROOT / "tests" / "data" / "export-format-1.zip"
    moved = transfer.import_(old, archive)
    runs = family(SEED)
    assert moved.snapshots == sum(len(snapshots) for snapshots in runs.histories.values())
    moved_runs = {run.id: (run, snapshots) for run, snapshots in state(archive)}
    for record in runs.records:
        run, snapshots = moved_runs[record.run.id]
        assert run == replace(record.run, parents=run.parents)
        assert set(run.parents) == set(record.run.parents)
        assert snapshots == [(snapshot, runs.topology(snapshot)) for snapshot in runs.snapshots(run.id)]
    assert list(archive.verify()) == []
    transfer.export(archive, tmp_path / "again.zip")
    with ExportFile(tmp_path / "again.zip") as again, ExportFile(old) as first:
        assert again.records == first.records


def test_the_command_line_moves_runs(
    archive: Archive, beside_target: Target, beside: Archive, target: Target, tmp_path: Path
) -> None:
    """`export`, `import` and `copy`, with what they say; a file that is there is replaced only when asked."""
    archive.push("w0", 0, A, recorded_at=BEGIN)
    archive.push("w1", 0, B, recorded_at=BEGIN + timedelta(days=1))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "topostrata.service.cli.main", *words]
        return subprocess.run(
            command, env=os.environ | target.environment, cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip

    done = run("export", "runs.zip", "w*", "--store", target.uri, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["runs"], told["snapshots"], told["bytes"]) == (["w0", "w1"], 2, (tmp_path / "runs.zip").stat().st_size)
    refused = run("export", "runs.zip", "--store", target.uri)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--force replaces it" in refused.stderr
    assert run("export", "runs.zip", "w0", "--force", "--store", target.uri).stdout.startswith(
        "runs.zip: 1 runs, 1 snap"
    )
    assert json.loads(run("import", "runs.zip", "--store", beside_target.uri, "--json").stdout)["runs_added"] == ["w0"]
    done = run("copy", target.uri, beside_target.uri)
    assert "1 runs and 1 snapshots added, 1 were there; all 2 read back" in done.stdout, done.stderr
    same(archive, beside)
    assert "nothing new" in run("copy", beside_target.uri, target.uri).stdout
    assert "found " in run("copy", target.uri, target.uri).stderr
    assert run("import", "nothing.zip", "--store", "fresh").returncode == 1
    assert not (tmp_path / "fresh").exists()


@pytest.mark.checkout
def test_the_document_reads_a_file_without_topostrata(archive: Archive, tmp_path: Path) -> None:
    """The snippet of docs/export-file.md needs zipfile, json and NumPy, and finds what was pushed."""
    text = (ROOT / "docs" / "export-file.md").read_text("utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    archive.push("w0", 0, A, metrics={"loss": 0.5})
    archive.push("w0", 3, B)
    transfer.export(archive, tmp_path / "runs.zip")
    lone = shutil.copy(tmp_path / "runs.zip", tmp_path / "alone.zip")
    block = "import sys; sys.modules['topostrata'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + code.replace("runs.zip", str(lone))], cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "w0 0 l0 (3, 3) 3 connections {'loss': 0.5}",
        "w0 0 l1 (3, 2) 6 connections {'loss': 0.5}",
        "w0 3 l0 (3, 3) 9 connections {}",
        "w0 3 l1 (3, 2) 2 connections {}",
    ]
