"""Training jobs under every fault: what was acknowledged is in the archive once, undamaged; no training felt anything.

A tenth of the campaign runs with the other tests, all of it by ``make soak`` (``TOPOSTRATA_TEST_SOAK=1``), which writes
its table where ``TOPOSTRATA_TEST_CHAOS_TO`` says. Everything is drawn from a seed.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.disks import mounted
from tests.faulty_service import faulty
from tests.nursery import Ended, Nursery
from tests.stores import STORES, Target
from tests.training_job import ROOT, Job, expected
from topostrata.service.sync import Sender, spools

pytestmark = pytest.mark.slow

SEED = 14
SHARE = 1 if os.environ.get("TOPOSTRATA_TEST_SOAK") else 10
WRITE_TO = "TOPOSTRATA_TEST_CHAOS_TO"
TOKEN = "0123456789abcdef0123456789abcdef"
SIZE = 12


@dataclass
class Row:
    """What became of all jobs under one fault."""

    jobs: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    damaged: int = 0
    raised: int = 0
    longest: float = 0.0


@dataclass
class Campaign:
    """Jobs under faults, and the archive in which all of them end."""

    target: Target
    url: str
    nursery: Nursery
    rng: np.random.Generator
    rows: dict[str, Row] = field(default_factory=dict)

    def jobs(self, fault: str, count: int, directory: Path, work: Callable[[Job], Ended], **options: Any) -> None:
        """Run some jobs, send what they left, and look for what they had acknowledged."""
        row, ended = self.rows.setdefault(fault, Row()), {}
        for _ in range(max(1, count // SHARE)):
            run = f"{re.sub('[^a-z0-9]+', '-', fault.lower())}-{row.jobs}"
            ended[run] = work(Job(run, str(directory), **{"size": SIZE, "timeout": 1, **options}))
            row.jobs += 1
        self.send(directory, fault)
        self._look(row, ended, int(options.get("size", SIZE)))

    def end(self, job: Job, how: signal.Signals) -> Ended:
        """Run a job that is ended at a random moment: before there is a spool, within a record, or between two."""
        after, spin = int(self.rng.integers(0, 6)), int(self.rng.integers(0, 30_000))
        ended = self.nursery.run(replace(job, steps=after + 3, how="pause"), kill=how, after=after, spin=spin)
        assert ended.status == -how
        return ended

    def send(self, directory: Path, fault: str) -> None:
        """``topostrata sync``, straight into the archive."""
        said: list[str] = []
        with Sender(
            self.target.settings, store=self.target.uri, tell=lambda kind, text: said.append(f"{kind}: {text}")
        ) as sender:
            states = sender.send(directory)
        assert all(state.is_sent for state in states), (fault, said)
        assert spools(directory) == [], fault

    def _look(self, row: Row, ended: Mapping[str, Ended], size: int) -> None:
        with self.target.open() as archive:
            runs = {run.id for run in archive.runs()}
            for run, job in ended.items():
                stored = archive.snapshots(run) if run in runs else []
                steps = [snapshot.step for snapshot in stored]
                row.acknowledged += len(job.saved)
                row.lost += len(set(job.saved) - set(steps))
                row.duplicated += len(steps) - len(set(steps))
                row.duplicated += sum(other.startswith((f"{run}-fork-", f"{run}-2")) for other in runs)
                row.damaged += sum(snapshot.digest != expected(run, snapshot.step, size).digest for snapshot in stored)
                if steps:
                    step = int(self.rng.choice(steps))
                    row.damaged += archive.topology(f"{run}@{step}") != expected(run, step, size)
                row.raised += job.raised is not None
                row.longest = max(row.longest, job.longest)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """One archive, a service on it, and a nursery."""
    with STORES["embedded"](tmp_path_factory.mktemp("chaos")) as target:
        command = [sys.executable, "-m", "topostrata.service.cli.main", "serve", "--port", "0", "--store", target.uri]
        environment = {**os.environ, "TOPOSTRATA_API_TOKEN": TOKEN}
        with (
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server,
            Nursery(TOPOSTRATA_TEST_TOKEN=TOKEN) as nursery,
        ):
            assert server.stderr is not None
            url = server.stderr.readline().split()[1].removesuffix("/v1/runs")
            running = Campaign(target, url, nursery, np.random.default_rng(SEED))
            yield running
            server.terminate()
        with target.open() as archive:
            assert list(archive.verify()) == []


@pytest.fixture(autouse=True)
def _nothing_is_lost(campaign: Campaign) -> Iterator[None]:
    yield
    for fault, row in campaign.rows.items():
        assert (row.lost, row.duplicated, row.damaged, row.raised) == (0, 0, 0, 0), (fault, row)
    if os.environ.get(WRITE_TO):
        write(ROOT / os.environ[WRITE_TO], campaign.rows)


@pytest.mark.timeout(3600)
def test_jobs_that_are_killed_at_any_moment(campaign: Campaign, tmp_path: Path) -> None:
    """``kill -9``, into the writing of a record or between two, and before there is a spool."""
    campaign.jobs("kill -9", 500, tmp_path, lambda job: campaign.end(job, signal.SIGKILL))
    assert campaign.rows["kill -9"].acknowledged > campaign.rows["kill -9"].jobs


def test_jobs_that_are_told_to_end(campaign: Campaign, tmp_path: Path) -> None:
    """SIGTERM, as batch systems send it; nothing of ours handles it."""
    campaign.jobs("SIGTERM", 50, tmp_path, lambda job: campaign.end(job, signal.SIGTERM))


def test_jobs_that_are_interrupted(campaign: Campaign, tmp_path: Path) -> None:
    """Ctrl-C in a call of ``log``, in ``finish`` or between: all that was logged is written before the exit."""

    def interrupted(job: Job) -> Ended:
        after, spin = int(campaign.rng.integers(1, job.steps + 1)), int(campaign.rng.integers(0, 30_000))
        return campaign.nursery.run(job, kill=signal.SIGINT, after=after, spin=spin)

    campaign.jobs("Ctrl-C", 50, tmp_path, interrupted, how="interrupt")


def test_jobs_that_fork(campaign: Campaign, tmp_path: Path) -> None:
    """As loaders of data do: the copy records nothing and closes nothing."""
    campaign.jobs("fork", 20, tmp_path, campaign.nursery.run, how="fork")


def test_jobs_whose_clock_jumps(campaign: Campaign, tmp_path: Path) -> None:
    """An hour back and a day on, at each look: no order rests on it."""
    campaign.jobs("clock jumps", 20, tmp_path, lambda job: campaign.nursery.run(job, clock="jumping"))


def test_jobs_whose_file_may_not_grow(campaign: Campaign, tmp_path: Path) -> None:
    """RLIMIT_FSIZE: what does not fit is not acknowledged."""
    campaign.jobs("file size limit", 20, tmp_path, campaign.nursery.run, size=120, most_file_bytes=20_000)
    row = campaign.rows["file size limit"]
    assert 0 < row.acknowledged < 20 * row.jobs


def test_jobs_whose_disk_is_full(campaign: Campaign, tmp_path: Path) -> None:
    """A disk of 64 KiB, which is full after some snapshots; some are killed there."""
    disk = tmp_path / "disk"

    def filled(job: Job) -> Ended:
        if campaign.rng.random() < 0.5:
            return campaign.nursery.run(job)
        return campaign.nursery.run(job, kill=signal.SIGKILL, after=int(campaign.rng.integers(1, 4)))

    with mounted(disk, "size=64k"):
        for _ in range(max(1, 20 // SHARE)):
            campaign.jobs("full disk", 1, disk, filled, size=120, steps=40)
    row = campaign.rows["full disk"]
    assert 0 < row.acknowledged < 40 * row.jobs


def test_jobs_that_may_not_write(campaign: Campaign, tmp_path: Path) -> None:
    """A disk that is read-only: nothing is acknowledged, and the training goes on."""
    disk = tmp_path / "disk"
    with mounted(disk, "ro"):
        campaign.jobs("read-only directory", 10, disk, campaign.nursery.run, steps=5)
    assert campaign.rows["read-only directory"].acknowledged == 0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "wrong",
    ["absent", "slow", "500", "429", "503", "reset", "reset answer", "lost answer", "login page", "wrong token"],
)
def test_jobs_whose_archive_fails(campaign: Campaign, wrong: str, tmp_path: Path) -> None:
    """Online, through a service that does this to every other request; half of the jobs are killed as well."""

    def sent(job: Job) -> Ended:
        if campaign.rng.random() < 0.5:
            return campaign.nursery.run(job)
        return campaign.nursery.run(job, kill=signal.SIGKILL, after=int(campaign.rng.integers(1, 8)))

    def fault(_method: str, _path: str) -> str:
        return wrong if wrong != "wrong token" and campaign.rng.random() < 0.5 else ""

    with faulty(campaign.url, fault) as service:
        service.retry_after = "1"
        if wrong == "wrong token":
            with Nursery(TOPOSTRATA_TEST_TOKEN=TOKEN[::-1]) as other:
                campaign.jobs(f"archive: {wrong}", 4, tmp_path, other.run, store=service.url, mode="online", steps=8)
        else:
            campaign.jobs(f"archive: {wrong}", 4, tmp_path, sent, store=service.url, mode="online", steps=8)


def write(file: Path, rows: Mapping[str, Row]) -> None:
    """The table, in place of the one that is there."""
    names = ("jobs", "acknowledged", "lost", "duplicated", "damaged", "raised")
    counts = {fault: [getattr(row, name) for name in names] for fault, row in rows.items()}
    in_all = [sum(column) for column in zip(*counts.values(), strict=True)]
    # Of jobs that were killed nobody heard it.
    longest = {fault: f"{row.longest * 1000:.1f}" for fault, row in rows.items() if row.longest}
    table = [
        f"| {fault} | {' | '.join(map(str, numbers))} | {longest.get(fault, '')} |"
        for fault, numbers in {**counts, "**all**": in_all}.items()
    ]
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [
        "<!-- jobs -->",
        f"Made by `make soak` on {datetime.now(UTC):%Y-%m-%d}: {system}; seed {SEED}, load {os.getloadavg()[1]:.0f}.",
        "",
        "| fault | jobs | acknowledged | lost | duplicated | damaged | exceptions in training | longest `log`, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *table,
        "<!-- end of jobs -->",
    ]
    before, _, rest = file.read_text(encoding="utf-8").partition(lines[0])
    file.write_text(before + "\n".join(lines) + rest.partition(lines[-1])[2], encoding="utf-8")
