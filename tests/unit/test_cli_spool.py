"""The verbs for what training jobs left, where what they are pointed at is no spool."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from topostrata.errors import InvalidInputError, TopostrataError
from topostrata.ingest.hook import traced
from topostrata.ingest.hook.run import init
from topostrata.ingest.hook.spool import Node, RunHead, SpooledSnapshot, SpoolWriter, outline
from topostrata.ingest.hook.traced import TracedWiring
from topostrata.service.cli.main import app
from topostrata.service.sync import Mark, inspect, spools, write_mark
from topostrata.topology import Topology, Wiring


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.output


def test_show_names_what_is_no_spool(tmp_path: Path) -> None:
    """A directory, empty or not, is none: it wants one file."""
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        with init("w0", mode="offline", spool=tmp_path / "two") as training:
            training.log([np.eye(3)])
    for place in ("empty", "two"):
        with pytest.raises(InvalidInputError, match="expected one spool, found a directory"):
            run("spool", "show", tmp_path / place)
    (file, _) = spools(tmp_path / "two")
    assert "snapshot" in run("spool", "show", file)


@pytest.mark.parametrize("verb", [["spool", "ls"], ["spool", "clean"], ["sync", "--dry-run"]])
def test_what_cannot_be_read_among_spools_is_named(verb: list[str], tmp_path: Path) -> None:
    """The others are listed all the same; one that another sender has just deleted counts as sent."""
    (tmp_path / "folder.spool").mkdir()
    with init("w0", mode="offline", spool=tmp_path) as training:
        training.log([np.eye(3)])
    run(*verb, tmp_path)
    assert inspect(tmp_path / "folder.spool").error == f"{tmp_path / 'folder.spool'}: Is a directory"
    gone = inspect(tmp_path / "gone.spool")
    assert (gone.error, gone.waiting, gone.damaged) == (None, 0, 0)


def test_clean_deletes_nothing_that_is_no_spool(tmp_path: Path) -> None:
    """Not even with --all: what is damaged beyond its first record has the name of a spool still."""
    notes, damaged = tmp_path / "notes.txt", tmp_path / "w0.1234.spool"
    for file in (notes, damaged):
        file.write_text("the night's results")
    with pytest.raises(TopostrataError, match=r"notes\.txt: expected a spool"):
        run("spool", "clean", "--all", "--yes", notes)
    assert notes.exists()
    run("spool", "clean", "--all", "--yes", tmp_path)
    assert not damaged.exists()


def test_clean_deletes_traced_wirings_where_that_is_said(tmp_path: Path) -> None:
    """A job that resumes the run would use it; those of runs with a spool stay, also beside one of a longer name."""
    for name in ("w0", "w0.1"):
        head = RunHead(name, datetime.now(UTC))
        traced.save(tmp_path, head, TracedWiring(Wiring.chain([3, 2])))
    with init("w0.1", mode="offline", spool=tmp_path) as training:
        training.log([np.eye(3)])
    spool = spools(tmp_path)[0]
    for options, left in (((), {"w0", "w0.1"}), (("--wirings",), {"w0.1"})):
        run("spool", "clean", tmp_path, "--yes", *options)
        assert {file.name for file in tmp_path.iterdir()} == {spool.name, *(f"{name}.wiring.toml" for name in left)}
    run("spool", "clean", tmp_path, "--yes", "--all", "--wirings")
    assert list(tmp_path.iterdir()) == []


def test_clean_keeps_what_a_job_elsewhere_may_be_writing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its lock may not be seen here; once it is known to have ended, or with --all, it goes."""
    monkeypatch.setattr(Node, "here", lambda: Node("node7", "started at another time"))
    files = []
    for ended in (False, True):
        writer = SpoolWriter(tmp_path, RunHead("w0", datetime.now(UTC)), most_bytes=2**20)
        topology = Topology.from_masks([np.eye(3)])
        writer.wiring(topology.wiring)
        writer.snapshot(SpooledSnapshot(0, topology, datetime.now(UTC)))
        if ended:
            writer.end("finished")
        writer.close()
        last = outline(writer.path)[2]
        write_mark(writer.path, Mark("archive", last.end, last.check, "w0", 0))
        files.append(writer.path)
    monkeypatch.undo()
    assert [inspect(file).elsewhere for file in files] == ["node7", None]
    assert all(inspect(file).is_sent for file in files)
    run("spool", "clean", "--yes", tmp_path)
    assert spools(tmp_path) == files[:1]
    run("spool", "clean", "--all", "--yes", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_clean_deletes_what_killed_jobs_and_senders_had_begun(tmp_path: Path) -> None:
    """Drafts that nobody has locked; those beside a spool go with it."""
    (tmp_path / ".w0.12345678.new").write_bytes(b"TSSPOOL1")
    with init("w0", mode="offline", spool=tmp_path) as training:
        training.log([np.eye(3)])
    (file,) = spools(tmp_path)
    file.with_name(f"{file.name}.4711").write_text("half a mark")
    assert "would delete" in run("spool", "clean", tmp_path)
    run("spool", "clean", "--yes", tmp_path)
    assert sorted(tmp_path.iterdir()) == [file, file.with_name(f"{file.name}.4711")]
    run("spool", "clean", "--all", "--yes", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_sender_whose_job_is_gone_ends_with_a_status_of_its_own(tmp_path: Path) -> None:
    """It tries, says so to nobody, and ends with 1: 120 is what Python makes of words that it cannot get rid of."""
    with init("w0", mode="offline", spool=tmp_path, store="http://127.0.0.1:1") as training:
        training.log([np.eye(3)])
    (file,) = spools(tmp_path)
    listen, speak = os.pipe()
    os.close(listen)
    sync = ["-m", "topostrata.service.cli.main", "sync", "--watch", "--json", str(file)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    sender = subprocess.Popen([sys.executable, *sync], stdout=speak, stderr=subprocess.PIPE, env=buffered)
    os.close(speak)
    try:
        _, words = sender.communicate(timeout=60)
    finally:
        sender.kill()
    assert (sender.returncode, words) == (1, b"")
