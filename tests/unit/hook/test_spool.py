"""The spool: what was written is read, and what was damaged is named; never anything else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from topostrata.errors import CorruptError, LimitError
from topostrata.ingest.hook import spool
from topostrata.ingest.hook.spool import Damage, Node, RunEnd, RunHead, SpooledSnapshot, SpoolReader, SpoolWriter
from topostrata.runs import Parent
from topostrata.topology import Topology, Wiring

WHEN = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
HEAD = RunHead(
    "w1",
    WHEN,
    config={"zeta": 0.3},
    tags=("set",),
    parents=(Parent("w0", 5, "fork"),),
    resume="never",
    store="archive",
)


def snapshot(step: int) -> SpooledSnapshot:
    rng = np.random.default_rng(step)
    topology = Topology.from_masks([rng.random((4, 5)) < 0.5, rng.random((5, 3)) < 0.7])
    return SpooledSnapshot(step, topology, WHEN, epoch=step / 2, metrics={"loss": 1 / (step + 1)})


def write(directory: Path, steps: tuple[int, ...] = (0, 3)) -> Path:
    writer = SpoolWriter(directory, HEAD, most_bytes=2**20)
    writer.wiring(snapshot(0).topology.wiring)
    for step in steps:
        writer.snapshot(snapshot(step))
    writer.end("finished")
    writer.close()
    return writer.path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small spool of a run that ended."""
    return write(tmp_path)


def values(path: Path) -> list[object]:
    return [entry.value for entry in spool.read(path)]


def test_what_was_written_is_read(file: Path) -> None:
    """The run, its wiring, every snapshot with all that belongs to it, and the end."""
    assert values(file) == [
        HEAD,
        snapshot(0).topology.wiring,
        snapshot(0),
        snapshot(3),
        RunEnd("finished"),
    ]
    assert isinstance(values(file)[1], Wiring)


def test_a_spool_cut_anywhere_gives_the_records_before_the_cut(file: Path, tmp_path: Path) -> None:
    """At every length what is read is what was written up to the last whole record, and nothing of the torn one."""
    data, whole = file.read_bytes(), values(file)
    ends = [entry.end for entry in spool.read(file)]
    cut = tmp_path / "cut.spool"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        assert values(cut) == whole[: sum(end <= length for end in ends)]


def test_any_byte_that_is_flipped_costs_one_record_or_is_refused(file: Path, tmp_path: Path) -> None:
    """No damage gives a snapshot that nobody logged: each record is the one that was written, or named as damaged."""
    data, whole = file.read_bytes(), values(file)
    flipped = tmp_path / "flipped.spool"
    outcomes: set[str] = set()
    for at in range(len(data)):
        flipped.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        seen: list[object] = []
        with contextlib.suppress(CorruptError):
            seen = values(flipped)
        if not seen:
            outcomes.add("refused")
            with pytest.raises(CorruptError, match=r"flipped\.spool"):
                values(flipped)
            continue
        damages = [value for value in seen if isinstance(value, Damage)]
        assert damages, at
        first = damages[0].number
        outcomes.add("rest" if damages[-1].rest else "one")
        assert seen[:first] == whole[:first]
        assert all(isinstance(value, Damage) or value == whole[k] for k, value in enumerate(seen))
        if damages[0].rest:
            assert len(seen) == first + 1
        elif first > 1:  # without its wiring no snapshot can be read
            assert len(damages) == 1
            assert len(seen) == len(whole)
    assert outcomes == {"refused", "rest", "one"}


def test_bytes_of_something_else_are_no_spool(tmp_path: Path) -> None:
    """They are refused by name."""
    other = tmp_path / "other.spool"
    other.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(CorruptError, match="expected a spool"):
        values(other)


def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    """It gives each record once, as soon as it is whole."""
    writer = SpoolWriter(tmp_path, HEAD, most_bytes=2**20)
    with SpoolReader(writer.path) as reader:
        assert [entry.value for entry in reader.new()] == [HEAD]
        writer.wiring(snapshot(0).topology.wiring)
        writer.snapshot(snapshot(0))
        assert [entry.value for entry in reader.new()][1:] == [snapshot(0)]
        assert list(reader.new()) == []
        writer.snapshot(snapshot(1))
        assert [entry.value for entry in reader.new()] == [snapshot(1)]
    writer.close()


def test_a_full_spool_refuses_what_is_new(tmp_path: Path) -> None:
    """What is in it stays, and the end of the run is still written."""
    writer = SpoolWriter(tmp_path, HEAD, most_bytes=900)
    writer.wiring(snapshot(0).topology.wiring)

    def steps() -> Iterator[int]:
        for step in range(100):
            writer.snapshot(snapshot(step))
            yield step

    saved: list[int] = []
    with pytest.raises(LimitError, match="at most 900 bytes"):
        saved.extend(steps())
    writer.end("failed")
    writer.close()
    assert values(writer.path)[2:] == [*map(snapshot, range(len(values(writer.path)) - 3)), RunEnd("failed")]


def test_a_spool_is_live_while_its_writer_has_it(tmp_path: Path) -> None:
    """The kernel keeps the lock, so that it is gone with the process, however that ends."""
    writer = SpoolWriter(tmp_path, HEAD, most_bytes=2**20)
    assert spool.is_live(writer.path)
    writer.close()
    assert not spool.is_live(writer.path)


def test_two_jobs_of_one_run_have_two_spools(tmp_path: Path) -> None:
    """Each is made anew and exclusively."""
    assert write(tmp_path) != write(tmp_path)


def test_a_spool_has_its_name_only_with_its_lock_and_its_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sender that looks at the directory meanwhile would take an empty file that nobody locks for one that is sent."""
    at_lock: list[list[Path]] = []
    flock = fcntl.flock

    def looked_at(file: int, how: int) -> None:
        at_lock.append(list(tmp_path.glob(f"*{spool.SUFFIX}")))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", looked_at)
    path = write(tmp_path)
    assert at_lock == [[]]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_locks_costs_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each snapshot would else leave an empty file and an open descriptor."""

    def refuse(_file: int, _how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="not implemented"):
        SpoolWriter(tmp_path, HEAD, most_bytes=2**20)
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_record_is_read_in_as_many_pieces_as_it_takes(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """The kernel gives 2 GiB at a time, however much is there."""
    whole = values(file)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda stream, length, at: pread(stream, min(length, 7), at))
    assert values(file) == whole


@pytest.mark.checkout
def test_a_spool_of_the_first_format_is_read() -> None:
    """Made on 2026-11-27 and kept: a job that was recorded then is sent by every later version."""
    data = Path(__file__).resolve().parents[2] / "data"
    said = json.loads((data / "spool-format-1.json").read_text(encoding="utf-8"))
    head, wiring, *rest = values(data / "spool-format-1.spool")
    assert isinstance(head, RunHead)
    assert isinstance(wiring, Wiring)
    for name in ("run", "name", "config", "resume", "store"):
        assert getattr(head, name) == said[name]
    assert (list(head.tags), head.created_at.isoformat()) == (said["tags"], said["created_at"])
    assert head.parents == (Parent("w0", 5, "fork"),)
    assert {layer.name: [layer.source.size, layer.target.size] for layer in wiring} == said["units"]
    for snapshot, known in zip(rest, said["snapshots"], strict=False):
        assert isinstance(snapshot, SpooledSnapshot)
        assert (snapshot.step, snapshot.epoch, snapshot.metrics) == (known["step"], known["epoch"], known["metrics"])
        assert snapshot.topology.digest == known["digest"]
    assert rest[2:] == [RunEnd(said["status"])]


def test_a_record_that_the_disk_did_not_take_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A reader that has seen it sees the one in its place, too: that is the one that was acknowledged."""
    writer = SpoolWriter(tmp_path, HEAD, most_bytes=2**20)
    writer.wiring(snapshot(0).topology.wiring)
    fsync = os.fsync
    seen: list[object] = []
    with SpoolReader(writer.path) as reader:

        def fail(_file: int) -> None:
            seen.extend(entry.value for entry in reader.new())
            raise OSError(5, "Input/output error")

        for step in (0, 1):
            monkeypatch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="Input/output"):
                writer.snapshot(snapshot(step))
        monkeypatch.setattr(os, "fsync", fsync)
        assert seen[2:] == [snapshot(0), snapshot(1)]
        assert list(reader.new()) == []
        writer.snapshot(snapshot(2))
        writer.snapshot(snapshot(3))
        assert [entry.value for entry in reader.new()] == [snapshot(2), snapshot(3)]
    writer.close()


def test_an_outline_has_the_places_of_all_records(file: Path) -> None:
    """Without their bodies, as far as heads are whole."""
    records = spool.outline(file)
    assert [(record.end, record.check) for record in records] == [
        (entry.end, entry.check) for entry in spool.read(file)
    ]
    assert [record.kind for record in records] == ["run", "wiring", "snapshot", "snapshot", "end"]
    file.write_bytes(file.read_bytes()[:-1])
    assert spool.outline(file) == records[:-1]


def test_a_spool_says_where_it_is_written(file: Path) -> None:
    """Locks may be those of one machine: another one is told by its name and by its start."""
    (head, *_) = values(file)
    assert isinstance(head, RunHead)
    assert head.node == Node.here()
    assert not Node.here().is_elsewhere
    assert not Node(Node.here().host, "before it was started anew").is_elsewhere
    assert not Node("a container of this machine", Node.here().boot).is_elsewhere
    assert Node("another", "started at another time").is_elsewhere


def test_a_draft_of_a_job_that_is_gone_is_told_from_one_that_is_written(tmp_path: Path) -> None:
    """The lock is on the draft already."""
    left, written = tmp_path / ".w1.0.new", tmp_path / ".w1.1.new"
    left.touch()
    with written.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert spool.drafts(tmp_path) == [left]
