"""A training job in a process of its own, which can be killed: logs a random history and says what is on the disk.

It is told by one line of JSON what to do (``Job``), says ``ready`` when it has imported everything, begins when it hears
``go``, and says ``saved STEP`` after each snapshot that is on its disk, ``done COUNTS`` when it has logged all.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import topostrata as ts

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Job:
    """What a job is to do."""

    run: str
    spool: str
    store: str = "nowhere"
    mode: str = "offline"
    steps: int = 20
    size: int = 40  # units of a layer
    how: str = "finish"  # what it does at the end: finish, exit, raise, wait, fork, pause, interrupt
    most_file_bytes: int = 0  # RLIMIT_FSIZE
    timeout: float = 60
    fork_from: str | None = None


def masks(run: str, step: int, size: int = 40) -> list[np.ndarray]:
    """What a job logs at a step."""
    rng = np.random.default_rng([*run.encode(), step])
    return [rng.random((size, size)) < 0.3, rng.random((size, 10)) < 0.5]


def left(run: str, step: int) -> list[np.ndarray]:
    """What the removal of the update to a step left of the step before: half of what is alive at both."""
    both = (before & after for before, after in zip(masks(run, step - 1), masks(run, step), strict=True))
    return [mask & (np.arange(mask.size).reshape(mask.shape) % 2 == 0) for mask in both]


def turnover(run: str, step: int) -> dict[str, dict[str, float]]:
    """What that update did, by definition."""
    counts = {}
    for k, (before, kept, after) in enumerate(
        zip(masks(run, step - 1), left(run, step), masks(run, step), strict=True)
    ):
        dropped, grown = before & ~kept, after & ~kept
        numbers = {"dropped": dropped, "grown": grown, "regrown_at_once": dropped & grown}
        counts[f"l{k}"] = {name: float(mask.sum()) for name, mask in numbers.items()}
    return counts


def expected(run: str, step: int, size: int = 40) -> ts.Topology:
    """The same as a topology."""
    return ts.Topology.from_masks(masks(run, step, size))


class Training:
    """The parent's side."""

    def __init__(self, job: Job, environment: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training_job", json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        )
        self.saved: list[int] = []
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        """Let it begin, or go on where it waits."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def read_saved(self) -> bool:
        """Hear of one more step; False where nothing more comes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.startswith("saved "):
            self.saved.append(int(line.split()[1]))
        return line.startswith("saved ")

    def end(self) -> tuple[int, str]:
        """Wait for its end; the exit status and what it wrote on stderr."""
        while self.read_saved():
            pass
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # in one piece: it may be killed at any moment


def log(run: ts.TrainingRun, job: Job, step: int) -> None:
    run.log(masks(job.run, step, job.size), step=step, metrics={"loss": 1 / (step + 1)})
    if run.flush() and run.counts.last_saved == step:
        say(f"saved {step}")


def fork(run: ts.TrainingRun, job: Job) -> None:
    """As for a DataLoader's worker: its copy of the run is nothing."""
    child = os.fork()
    if child == 0:
        run.log(masks(job.run, 999), step=999)
        run.finish()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def work(job: Job) -> None:
    if job.most_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.most_file_bytes, resource.RLIM_INFINITY))
    run = ts.init(
        job.run,
        spool=job.spool,
        store=job.store,
        mode=job.mode,  # type: ignore[arg-type]
        fork_from=job.fork_from,
    )
    for step in range(job.steps):
        log(run, job, step)
        if job.how == "fork" and step == 1:
            fork(run, job)
    if job.most_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        log(run, job, job.steps)
    if job.how == "wait":
        say("waiting")
        sys.stdin.readline()
    if job.how == "raise":
        raise RuntimeError("the training failed")
    if job.how in {"finish", "fork"}:
        run.finish(timeout=job.timeout)


if __name__ == "__main__":
    orders = Job(**json.loads(sys.argv[1]))
    say("ready")
    sys.stdin.readline()
    work(orders)
