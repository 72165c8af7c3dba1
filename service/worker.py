"""What works beside the service, which starts it: ``python -m topostrata.service.worker STORE WHAT``.

``jobs`` computes jobs, ``connections`` draws connections that wait. It is a process of its own so that computing takes
neither the interpreter nor the patience of those whom the service answers: the system gives it what is left. It ends
when there is nothing to do, and at once when whoever started it is gone: its standard input is at its end then. What it
cannot stop within a few seconds ends with it.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import uuid
from contextlib import suppress
from time import monotonic, sleep
from typing import Self

from topostrata.archive import Archive, open_archive
from topostrata.errors import OF_THE_SERVER, Cancelled, Code, CorruptError, EngineError, LimitError, TopostrataError
from topostrata.service import jobs
from topostrata.store.jobs import LEASE_S, Job

logger = logging.getLogger(__name__)

NICE = 10
_LOOK_S = 1.0  # how often progress is told, and seen whether the job is still wanted
_STOP_S = 2.0  # that a job has to stop in, before the process ends with it
_BATCH_S = 5.0  # that a batch of connections has
_LINGER_S = 20.0  # without anything to draw, for a job that sends the next snapshot: to start anew takes a second
_ENDED = 75  # the exit status of that
_ELSEWHERE = {Code.STORE_UNAVAILABLE, Code.ENGINE}


class _Gone(threading.Event):
    """Set when whoever started this process is gone, or wants it to end. ``told`` is set when they call before."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def watch(self) -> None:
        """Wait for the end of the standard input."""
        while os.read(0, 1024):  # not by the file of that name, which the interpreter locks when it ends
            self.told.set()
        self.set()
        self.told.set()


def main() -> None:
    """Work until there is nothing to do."""
    with suppress(OSError):
        os.nice(NICE)
    gone = _Gone()
    threading.Thread(target=gone.watch, daemon=True).start()
    store, what = sys.argv[1:]
    with open_archive(store) as archive:
        if what == "connections":
            draw(archive, gone)
            return
        owner = uuid.uuid4().hex
        while not gone.is_set() and (job := archive.jobs.claim(owner)) is not None:
            work(archive, job, owner, gone)


def draw(archive: Archive, gone: _Gone) -> None:
    """Draw connections that wait, run by run, until none have come for a while."""
    threading.Thread(target=_end_soon, args=(gone,), daemon=True).start()
    while not gone.is_set():
        gone.told.clear()
        try:
            if archive.drawer.draw_next(gone) is None and not gone.told.wait(_LINGER_S):
                return
        except Cancelled:
            return
        except TopostrataError as error:
            if error.code in _ELSEWHERE:
                raise
            logger.exception("connections of a run cannot be drawn now; `topostrata verify` may say why")
            gone.wait(_LOOK_S)


def _end_soon(gone: _Gone) -> None:
    """End the process where a batch takes longer than whoever wants its end waits."""
    gone.wait()
    sleep(_BATCH_S)
    os._exit(_ENDED)


def work(archive: Archive, job: Job, owner: str, gone: threading.Event) -> None:
    """Work on a job until it is finished, has failed, or is not wanted any more."""
    with _Lease(archive, job, owner, gone) as lease:
        try:
            result, runs = jobs.work(archive, job, lease.advance, lease.stop)
            with result:
                archive.jobs.finish(job.id, owner, jobs.KINDS[job.kind].media_type, result, runs=runs)
        except Cancelled:
            if gone.is_set():
                archive.jobs.release(job.id, owner)
        except TopostrataError as error:
            if error.code in _ELSEWHERE:  # no fault of the job: its lease ends, and it is tried again
                raise
            archive.jobs.fail(job.id, owner, _told(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt would end of it, too
            archive.jobs.fail(job.id, owner, _told(error))


def _told(error: Exception) -> TopostrataError:
    """What a job is said to have failed of: what is about the server, its paths and settings, only its log says."""
    if isinstance(error, TopostrataError) and error.code not in OF_THE_SERVER:
        return error
    logger.error("a job failed", exc_info=error)
    if isinstance(error, MemoryError):
        return LimitError("the job needs more memory than there is")
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LimitError("the job needs more room than there is on the disk of the service", hint="ask for less")
    if isinstance(error, CorruptError):
        return CorruptError("what is stored is damaged; the log of the service says more")
    return EngineError("an unexpected error; the log of the service says more")


class _Lease:
    """Keeps the lease of a job while it is worked on, and tells its progress; ``stop`` is set once it is not wanted."""

    def __init__(self, archive: Archive, job: Job, owner: str, gone: threading.Event) -> None:
        self.stop = threading.Event()
        self._archive, self._job, self._owner, self._gone = archive, job, owner, gone
        self._done, self._total = 0, job.total
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def advance(self, done: int, total: int) -> None:
        """Take note of how far the work is."""
        self._done, self._total = done, total

    def _keep(self) -> None:
        told, renewed = 0, monotonic()
        while not self._over.wait(_LOOK_S):
            if self._gone.is_set():
                break
            done = self._done
            if done == told and monotonic() - renewed < LEASE_S / 5:
                continue
            try:
                if not self._archive.jobs.renew(self._job.id, self._owner, done=done, total=self._total):
                    break
            except TopostrataError:  # the archive is away: the job itself will notice, or it comes back
                continue
            told, renewed = done, monotonic()
        else:
            return
        self.stop.set()
        if not self._over.wait(_STOP_S):
            if self._gone.is_set():
                with suppress(TopostrataError):
                    self._archive.jobs.release(self._job.id, self._owner)
            os._exit(_ENDED)


if __name__ == "__main__":
    main()
