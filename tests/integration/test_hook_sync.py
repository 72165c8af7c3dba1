"""``topostrata sync`` and ``topostrata spool``: where resumed and forked runs end up, and what the verbs say."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.stores import Target
from tests.training_job import expected, left, masks, turnover
from topostrata.ingest.hook.run import init
from topostrata.ingest.hook.spool import Node, RunHead, SpooledSnapshot, SpoolWriter
from topostrata.service.sync import Sender, spools


def record(directory: Path, steps: list[int], network: str = "a", **options: Any) -> None:
    """A job that logs at these steps what the network ``network`` has at them."""
    with init("w0", mode="offline", spool=directory, **options) as run:
        for step in steps:
            run.log(masks(network, step), step=step)


def sync(target: Target, directory: Path, *, keep: bool = False) -> list[str]:
    """Send all; the kinds of what was said. ``keep``: of copies, so that the spools are there again."""
    copies = {file: file.read_bytes() for file in spools(directory)}
    said: list[str] = []
    with Sender(target.settings, store=target.uri, tell=lambda kind, _message: said.append(kind)) as sender:
        assert all(state.is_sent for state in sender.send(directory))
    for file, data in copies.items() if keep else ():
        file.write_bytes(data)
    return said


def steps_of(target: Target) -> dict[str, list[int]]:
    with target.open() as archive:
        return {run.id: [snapshot.step for snapshot in archive.snapshots(run.id)] for run in archive.runs()}


def test_a_resumed_run_goes_on(empty: Target, tmp_path: Path) -> None:
    """Also where it begins with steps that are recorded, if nothing was different then."""
    record(tmp_path, [0, 1, 2])
    record(tmp_path, [1, 2, 3])
    assert sync(empty, tmp_path) == []
    assert steps_of(empty) == {"w0": [0, 1, 2, 3]}


def test_what_an_update_did_goes_with_its_snapshot(empty: Target, tmp_path: Path) -> None:
    """Into the metrics of layers, and from there into the answers about the run; the same again changes nothing."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        for step in range(3):
            run.log(masks("a", step), step=step, after_removal=left("a", step) if step else None)
    for _ in range(2):
        assert sync(empty, tmp_path, keep=True) == []
    with empty.open() as archive:
        assert [snapshot.layer_metrics for snapshot in archive.snapshots("w0")] == [
            {}, turnover("a", 1), turnover("a", 2),
        ]  # fmt: skip
        for layer in archive.evolution("w0").layers:
            for name in ("dropped", "grown", "regrown_at_once"):
                assert getattr(layer, name) == sum(turnover("a", step)[layer.name][name] for step in (1, 2))
    command = [sys.executable, "-m", "topostrata.service.cli.main", "evolution", "w0", "--store", empty.uri]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    assert "regrown at once" in shown.stdout


def test_a_run_that_goes_back_becomes_a_fork(empty: Target, tmp_path: Path) -> None:
    """However often it is sent, and as often as it goes back; each fork descends from the last step before it."""
    record(tmp_path, [0, 2, 4])
    record(tmp_path, [3, 5, 1, 6], "b")
    record(tmp_path, [4, 5], "c")
    for _ in range(3):
        assert sync(empty, tmp_path, keep=True) == ["forked"] * 3
        assert steps_of(empty) == {
            "w0": [0, 2, 4],
            "w0-fork-3": [3, 5],
            "w0-fork-3-fork-1": [1, 6],
            "w0-fork-4": [4, 5],
        }
    with empty.open() as archive:
        assert {edge.child: (edge.parent, edge.step) for edge in archive.lineage("w0").edges} == {
            "w0-fork-3": ("w0", 2),
            "w0-fork-3-fork-1": ("w0", 0),
            "w0-fork-4": ("w0", 2),
        }
        assert archive.topology("w0-fork-3@5") == expected("b", 5)
        assert archive.topology("w0-fork-4@5") == expected("c", 5)


def test_a_job_with_other_layers_is_told_as_that(empty: Target, tmp_path: Path) -> None:
    """Its snapshots go to a fork, too; that it went back to an earlier step would be wrong, and helps nobody."""
    record(tmp_path, [0, 1])
    sync(empty, tmp_path)
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log(masks("b", 2, 20), step=2)
    said: list[str] = []
    with Sender(empty.settings, store=empty.uri, tell=lambda _kind, message: said.append(message)) as sender:
        assert all(state.is_sent for state in sender.send(tmp_path))
    assert steps_of(empty) == {"w0": [0, 1], "w0-fork-2": [2]}
    assert "expected layer 'l0' (input 40" in said[0]
    assert "goes back" not in said[0]
    assert "from step 2 on it is w0-fork-2; `topostrata lineage w0` shows both" in said[0]


def test_a_spool_of_a_job_elsewhere_is_sent_and_kept(
    empty: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Until the job says that it is done: whether it runs is not seen here, and what it saves next must not be lost."""
    monkeypatch.setattr(Node, "here", lambda: Node("node7", "started at another time"))
    writer = SpoolWriter(tmp_path, RunHead("w0", datetime.now(UTC)), most_bytes=2**20)
    monkeypatch.undo()
    fcntl.flock(writer._file, fcntl.LOCK_UN)  # as a file system shows it that keeps locks to one machine
    writer.wiring(expected("a", 0).wiring)
    said: list[str] = []
    with Sender(empty.settings, store=empty.uri, tell=lambda kind, _message: said.append(kind)) as sender:
        for step in (0, 1):
            writer.snapshot(SpooledSnapshot(step, expected("a", step), datetime.now(UTC)))
            (state,) = sender.send(tmp_path)
            assert (state.live, state.elsewhere, state.is_sent, state.added) == (False, "node7", True, step + 1)
        assert set(said) == {"elsewhere"}
        writer.end("finished")
        (state,) = sender.send(tmp_path)
    writer.close()
    assert state.elsewhere is None
    assert spools(tmp_path) == []
    assert steps_of(empty) == {"w0": [0, 1]}


def test_two_forks_from_one_step_are_two_runs(empty: Target, tmp_path: Path) -> None:
    """The second has a number."""
    for network in "abc":
        record(tmp_path, [0, 1] if network == "a" else [1, 2], network)
    for _ in range(2):
        sync(empty, tmp_path, keep=True)
        assert steps_of(empty) == {"w0": [0, 1], "w0-fork-1": [1, 2], "w0-fork-1-2": [1, 2]}


def test_never_resume_makes_another_run(empty: Target, tmp_path: Path) -> None:
    """However often it is sent; the first of its id has it."""
    for network in "abc":
        record(tmp_path, [0, 1], network, resume="never")
    for _ in range(2):
        sync(empty, tmp_path, keep=True)
        assert steps_of(empty) == {"w0": [0, 1], "w0-2": [0, 1], "w0-3": [0, 1]}


def test_must_resume_says_where_there_is_nothing(empty: Target, tmp_path: Path) -> None:
    """Its snapshots are kept all the same."""
    record(tmp_path, [5], resume="must")
    assert sync(empty, tmp_path) == ["resume"]
    record(tmp_path, [6], resume="must")
    assert sync(empty, tmp_path) == []
    assert steps_of(empty) == {"w0": [5, 6]}


def test_a_run_that_goes_on_gains_tags_and_is_open_again(empty: Target, tmp_path: Path) -> None:
    """Until it ends anew."""
    record(tmp_path, [0], tags=["first"])
    sync(empty, tmp_path)
    run = init("w0", mode="offline", spool=tmp_path, tags=["second"])
    run.log(masks("a", 1), step=1)
    assert run.flush()
    with Sender(empty.settings, store=empty.uri, tell=lambda _kind, _message: None) as sender:
        (state,) = sender.send(tmp_path)
        with empty.open() as archive:
            assert (archive.run("w0").status, archive.run("w0").tags) == ("open", ("first", "second"))
        run.finish(status="failed")
        (state,) = sender.send(tmp_path)
    assert (state.ended, spools(tmp_path)) == (True, [])
    with empty.open() as archive:
        assert archive.run("w0").status == "failed"


def topostrata(*arguments: str, cwd: Path, status: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-m", "topostrata.service.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_a_spool_left_behind_is_found_where_the_job_ran(empty: Target, tmp_path: Path) -> None:
    """Every verb looks into ``.topostrata-spool`` of the working directory, and into what it is told."""
    topostrata("sync", cwd=tmp_path, status=1)
    assert json.loads(topostrata("spool", "ls", "--json", cwd=tmp_path)[0]) == []
    record(tmp_path / ".topostrata-spool", [0, 1])
    (listed,) = json.loads(topostrata("spool", "ls", "--json", cwd=tmp_path)[0])
    assert (listed["run"], listed["waiting"], listed["ended"], listed["live"]) == ("w0", 2, True, False)
    rows = json.loads(topostrata("spool", "show", listed["path"], "--json", cwd=tmp_path)[0])
    assert [row["kind"] for row in rows] == ["run", "wiring", "snapshot", "snapshot", "end"]
    (planned,) = json.loads(topostrata("sync", "--dry-run", "--json", cwd=tmp_path)[0])
    assert planned["waiting"] == 2
    assert json.loads(topostrata("spool", "clean", "--yes", "--json", cwd=tmp_path)[0]) == {"deleted": []}
    (sent,) = json.loads(topostrata("sync", "--store", empty.uri, "--json", cwd=tmp_path)[0])
    assert (sent["added"], sent["sent"]) == (2, True)
    assert list((tmp_path / ".topostrata-spool").iterdir()) == []
    assert steps_of(empty) == {"w0": [0, 1]}
    record(tmp_path / ".topostrata-spool", [7])
    would = json.loads(topostrata("spool", "clean", "--all", "--json", cwd=tmp_path)[0])["would_delete"]
    assert len(would) == len(spools(tmp_path / ".topostrata-spool")) == 1
    topostrata("spool", "clean", "--all", "--yes", cwd=tmp_path)
    assert spools(tmp_path / ".topostrata-spool") == []
