"""Training jobs by the hundred: a process that has imported everything forks one after the other, each to be killed.

The child's side is a loop that logs a random history (``tests.training_job``) and says what is on its disk. It has a
process, a lock and a recorder of its own, as any job; only the imports are shared.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, tzinfo
from time import monotonic
from types import TracebackType
from typing import Any, Self

from tests.training_job import ROOT, Job, fork, masks, say
from topostrata.ingest.hook import run as hook


@dataclass
class Ended:
    """What became of a job: the steps that were on its disk, its exit status, its longest call of ``log`` in seconds."""

    saved: list[int] = field(default_factory=list)
    status: int = 0
    longest: float = 0.0
    raised: str | None = None


class Nursery:
    """The parent's side. Use it as a context manager."""

    def __init__(self, **environment: str) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _at: TracebackType | None) -> None:
        self._process.communicate(timeout=120)

    def run(
        self, job: Job, *, kill: signal.Signals | None = None, after: int = 0, spin: int = 0, clock: str = ""
    ) -> Ended:
        """Run one job to its end; ``kill`` it when so many snapshots are on its disk and it has gone on for a while."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"job": asdict(job), "clock": clock}) + "\n")
        self._process.stdin.flush()
        ended, pid = Ended(), -1  # a descriptor: no other process can get the number meanwhile
        for line in self._process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "pid":
                pid = os.pidfd_open(int(rest))
            elif word == "saved":
                ended.saved.append(int(rest))
            elif word == "longest":
                ended.longest = float(rest)
            elif word == "raised":
                ended.raised = rest
            elif word == "ended":
                os.close(pid)
                ended.status = int(rest)
                return ended
            if kill is not None and pid >= 0 and len(ended.saved) >= after:
                for _ in range(spin):  # into the midst of the next one
                    pass
                signal.pidfd_send_signal(pid, kill)
                kill = None
        raise AssertionError("the nursery ended")


class _Jumping(datetime):
    """A wall clock that jumps an hour back and a day on, again and again."""

    jumps = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """A moment somewhere near."""
        _Jumping.jumps += 1
        return cls.fromtimestamp((datetime.now(tz) + timedelta(hours=(-1, 24, 0)[cls.jumps % 3])).timestamp(), tz)


def _train(job: Job, clock: str) -> None:
    """A training that hears nothing of what goes wrong."""
    if clock:
        hook.datetime = _Jumping  # type: ignore[attr-defined]
    if job.most_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.most_file_bytes, resource.RLIM_INFINITY))
    longest = 0.0
    try:
        options: dict[str, Any] = {"spool": job.spool, "store": job.store, "mode": job.mode}
        run = hook.init(job.run, token=os.environ.get("TOPOSTRATA_TEST_TOKEN"), **options)
        for step in range(job.steps):
            network = masks(job.run, step, job.size)
            began = monotonic()
            run.log(network, step=step, metrics={"loss": 1 / (step + 1)})
            longest = max(longest, monotonic() - began)
            if job.how == "interrupt" or (run.flush() and run.counts.last_saved == step):
                say(f"saved {step}")
            if job.how == "fork" and step == 1:
                fork(run, job)
        while job.how == "pause":
            signal.pause()
        run.finish(timeout=job.timeout)
    except KeyboardInterrupt:
        hook._at_exit()
    except BaseException as error:  # noqa: BLE001 - to be said
        say(f"raised {error!r}")
    say(f"longest {longest}")


def _nurse() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _train(Job(**order["job"]), order["clock"])
            sys.stdout.flush()
            os._exit(0)
        say(f"pid {child}")
        _, status = os.waitpid(child, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    _nurse()
