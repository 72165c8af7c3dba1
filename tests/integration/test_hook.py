"""Training jobs as processes: whatever happens to them, what they had on their disk is in the archive in the end."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from tests.stores import Target
from tests.training_job import Job, Training, expected
from topostrata.archive import Archive
from topostrata.ingest.hook.spool import Damage, RunEnd, SpooledSnapshot, read
from topostrata.runs import Parent
from topostrata.service.sync import Sender, SpoolState, inspect, spools

pytestmark = pytest.mark.slow

KILLS = 30


def sync(target: Target, directory: Path) -> tuple[list[SpoolState], list[str]]:
    said: list[str] = []
    with Sender(
        target.settings, store=target.uri, tell=lambda kind, message: said.append(f"{kind}: {message}")
    ) as sender:
        return sender.send(directory), said


def run_job(job: Job) -> tuple[Training, int, str]:
    training = Training(job)
    training.go()
    status, errors = training.end()
    return training, status, errors


def assert_whole(archive: Archive, run: str, saved: list[int], size: int = 40) -> list[int]:
    """Every step that was on the disk is in the archive once, each as it was logged; gives the steps there."""
    steps = [snapshot.step for snapshot in archive.snapshots(run)]
    assert set(saved) <= set(steps)
    assert len(steps) == len(set(steps))
    for step in steps:
        assert archive.topology(f"{run}@{step}") == expected(run, step, size)
    return steps


def test_a_job_that_is_killed_loses_nothing_that_was_on_its_disk(empty: Target, tmp_path: Path) -> None:
    """``kill -9`` at a random moment of many runs: after one sync each snapshot is there, once, undamaged."""
    rng = np.random.default_rng(14)
    saved: dict[str, list[int]] = {}
    for k in range(KILLS):
        training = Training(Job(f"killed-{k}", str(tmp_path), steps=1000))
        training.go()
        for _ in range(int(rng.integers(0, 25))):
            assert training.read_saved()
        for _ in range(int(rng.integers(0, 20_000))):  # into the midst of the next one
            pass
        training.process.kill()
        status, _ = training.end()
        assert status == -signal.SIGKILL
        saved[f"killed-{k}"] = training.saved
    assert sum(map(len, saved.values())) > 5 * KILLS
    states, said = sync(empty, tmp_path)
    assert said == []
    assert all(state.is_sent and not state.ended for state in states)
    with empty.open() as archive:
        kept = {run for run in saved if archive.has_run(run)}
        assert {run for run, steps in saved.items() if steps} <= kept
        for run in kept:
            steps = assert_whole(archive, run, saved[run])
            assert steps == list(range(len(steps)))
            assert archive.run(run).status == "open"
    assert spools(tmp_path) == [], "all was sent"


def test_a_second_sync_changes_nothing(empty: Target, tmp_path: Path) -> None:
    """What stands in the archive may be sent again, whether or not it is remembered that it was."""
    _, status, errors = run_job(Job("again", str(tmp_path), steps=5))
    assert status == 0, errors
    copy = spools(tmp_path)[0].read_bytes()
    assert errors == "", "what offline jobs leave is no trouble"
    for added in (5, 0):
        (tmp_path / "again.spool").write_bytes(copy)
        for file in tmp_path.glob("again.?*.spool"):
            file.unlink()
        states, _ = sync(empty, tmp_path)
        assert [(state.added, state.unchanged) for state in states] == [(added, 5 - added)]
    with empty.open() as archive:
        assert assert_whole(archive, "again", []) == [0, 1, 2, 3, 4]
        assert archive.run("again").status == "finished"


def test_a_running_job_is_in_the_archive_already(empty: Target, tmp_path: Path) -> None:
    """Online, its snapshots arrive while it trains; it ends when they are sent, and leaves no spool."""
    training, status, errors = run_job(Job("live", str(tmp_path), empty.uri, "online", steps=6, how="finish"))
    assert (status, errors) == (0, "")
    assert training.saved == [0, 1, 2, 3, 4, 5]
    assert list(tmp_path.iterdir()) == []
    with empty.open() as archive:
        assert assert_whole(archive, "live", training.saved) == training.saved
        assert archive.snapshot("live@5").metrics == {"loss": 1 / 6}
        assert archive.run("live").status == "finished"


def test_what_a_live_job_has_saved_can_be_sent(empty: Target, tmp_path: Path) -> None:
    """Sync beside a job that runs leaves it its spool, and sends the rest later."""
    training = Training(Job("beside", str(tmp_path), steps=4, how="wait"))
    training.go()
    while training.read_saved():
        pass
    (state,), _ = sync(empty, tmp_path)
    assert (state.live, state.added, state.ended) == (True, 4, False)
    with empty.open() as archive:
        assert assert_whole(archive, "beside", training.saved) == [0, 1, 2, 3]
    training.go()
    assert training.end()[0] == 0
    (state,), _ = sync(empty, tmp_path)
    assert (state.live, state.added, state.ended) == (False, 0, True)
    assert spools(tmp_path) == []


@pytest.mark.parametrize(
    ("how", "status", "last"), [("exit", 0, "finished"), ("raise", 1, "failed"), ("fork", 0, "finished")]
)
def test_a_job_that_ends_by_itself_leaves_a_whole_spool(how: str, status: int, last: str, tmp_path: Path) -> None:
    """Without ``finish``, by an exception, with workers that were forked: all is there, and how it ended."""
    _, code, errors = run_job(Job("ended", str(tmp_path), steps=4, how=how))
    assert code == status, errors
    (file,) = spools(tmp_path)
    values = [entry.value for entry in read(file)]
    assert [value.step for value in values if isinstance(value, SpooledSnapshot)] == [0, 1, 2, 3]
    assert values[-1] == RunEnd(last)  # type: ignore[arg-type]


def test_ctrl_c_ends_a_job_as_ever(tmp_path: Path) -> None:
    """The interrupt is the training's: what was logged is whole, and the run counts as failed."""
    training = Training(Job("interrupted", str(tmp_path), steps=3, how="wait"))
    training.go()
    while training.read_saved():
        pass
    training.process.send_signal(signal.SIGINT)
    status, errors = training.end()
    assert status != 0
    assert "KeyboardInterrupt" in errors
    values = [entry.value for entry in read(spools(tmp_path)[0])]
    assert sum(isinstance(value, SpooledSnapshot) for value in values) == 3
    assert values[-1] == RunEnd("failed")


def test_a_full_disk_costs_snapshots_and_no_training(tmp_path: Path) -> None:
    """What does not fit is not recorded, which is said once; when there is room again, recording goes on."""
    training, status, errors = run_job(Job("full", str(tmp_path), steps=12, size=120, most_file_bytes=20_000))
    assert status == 0, errors
    assert errors.count("is not recorded: File too large") == 1
    assert 0 < len(training.saved) < 12
    assert training.saved[-1] == 12, "there is room again"
    values = [entry.value for entry in read(spools(tmp_path)[0])]
    assert [value.step for value in values if isinstance(value, SpooledSnapshot)] == training.saved
    assert not any(isinstance(value, Damage) for value in values)


def test_a_directory_that_cannot_be_written_costs_no_training(tmp_path: Path) -> None:
    """Neither one on a file system without writing nor a file in its place."""
    (tmp_path / "file").write_text("in the way")
    for place in ("/proc/topostrata-spool", str(tmp_path / "file")):
        training, status, errors = run_job(Job("unwritten", place, steps=5))
        assert status == 0, errors
        assert training.saved == []
        assert errors.count("step 0 is not recorded") == 1
        assert "step 1 " not in errors, "said once"


def test_an_archive_that_is_not_there_costs_no_training(empty: Target, tmp_path: Path) -> None:
    """``finish`` waits no longer than it is told and says how to send what stays; sync then sends it elsewhere."""
    environment = {"TOPOSTRATA_NEO4J_PASSWORD": "correct horse battery"}
    training = Training(Job("absent", str(tmp_path), "bolt://127.0.0.1:1", "online", steps=3, timeout=8), environment)
    training.go()
    status, errors = training.end()
    assert status == 0, errors
    assert training.saved == [0, 1, 2]
    (file,) = spools(tmp_path)
    assert f"topostrata sync {file} --store bolt://127.0.0.1:1" in errors
    (state,), _ = sync(empty, tmp_path)
    assert (state.added, state.is_sent) == (3, True)


def test_parents_are_sent_before_their_children(empty: Target, tmp_path: Path) -> None:
    """Whatever their order in the directory; without its parent a child waits."""
    for job in (Job("child", str(tmp_path), steps=2, fork_from="parent@3"), Job("parent", str(tmp_path), steps=5)):
        assert run_job(job)[1] == 0
    parent = next(file for file in spools(tmp_path) if file.name.startswith("parent"))
    aside = parent.rename(tmp_path / "aside")
    (state,), said = sync(empty, tmp_path)
    assert (state.code, state.waiting) == ("not-found", 2)
    assert "parent@3: expected this snapshot in the archive, found none" in said[0]
    aside.rename(parent)
    states, said = sync(empty, tmp_path)
    assert said == []
    assert all(state.is_sent for state in states)
    with empty.open() as archive:
        assert archive.run("child").parents == (Parent("parent", 3, "fork"),)


def test_a_damaged_record_costs_itself_and_is_named(empty: Target, tmp_path: Path) -> None:
    """All others are sent, and the spool stays for who can mend it."""
    assert run_job(Job("damaged", str(tmp_path), steps=4))[1] == 0
    (file,) = spools(tmp_path)
    ends = [entry.end for entry in read(file)]
    data = bytearray(file.read_bytes())
    data[ends[3] - 5] ^= 0xFF  # in the snapshot of step 1
    file.write_bytes(data)
    (state,), said = sync(empty, tmp_path)
    assert (state.added, state.damaged, state.is_sent) == (3, 1, False)
    assert "record 3 (snapshot): its bytes are not those that were written" in said[0]
    with empty.open() as archive:
        assert assert_whole(archive, "damaged", []) == [0, 2, 3]
    assert inspect(file).damaged == 1
