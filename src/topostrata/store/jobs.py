"""Long work that the archive keeps: who asked for what, how far it is, and what came out.

A job's id is a digest of what is asked, so that equal requests are one job. It is worked on under a lease, which who
works renews; where that ends without a word, another takes the job over. The parts of a result are nodes of their own,
because no message is larger than one of them.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, get_args

from topostrata import queries
from topostrata.errors import Code, ConflictError, CorruptError, LimitError, NotFoundError, TopostrataError
from topostrata.store.masks import PART_BYTES

if TYPE_CHECKING:
    from topostrata.store.graph import GraphStore, Row, Transaction

JobStatus = Literal["queued", "running", "finished", "failed"]

MOST_OPEN = 64  # jobs that wait or are worked on
MOST_ATTEMPTS = 3  # ends of whoever worked on a job without any progress, after which it has failed
MOST_RESULT = 2**30  # bytes
LEASE_S = 15.0
KEPT_DAYS = 7  # after which the result of a job that is done is forgotten
_PAGE = 8  # parts that are taken away at once
_NEWEST = 2**53
_OPEN: frozenset[str] = frozenset(get_args(JobStatus)[:2])


@dataclass(frozen=True, slots=True)
class Job:
    """Work that takes long, as the archive keeps it: what was asked, how far it is, and what it failed of.

    ``done`` of ``total`` are pairs, runs or whatever the work counts; ``total`` is None where it counts nothing yet.
    ``status`` is ``queued``, ``running``, ``finished`` or ``failed``; a failed one has an ``error`` with its stable
    ``error_code``, a finished one the ``media_type`` of its result and its size in ``bytes``. Times are in UTC.
    """

    json_names: ClassVar = {"number": None, "is_done": None}

    id: str
    kind: str
    request: Mapping[str, Any]
    status: JobStatus
    done: int
    total: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error: str | None
    media_type: str | None
    bytes: int | None
    number: int

    @property
    def is_done(self) -> bool:
        """Whether nobody works on it any more."""
        return self.status not in _OPEN


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job is: its status, and how many of what it counts are done."""

    status: JobStatus
    done: int
    total: int | None


class JobQueue:
    """The jobs of an archive, in the order in which they were asked for; threads and processes may share it.

    Whoever wants an answer uses ``submit``, ``get``, ``result`` and ``forget``; whoever works, ``claim`` and what
    follows it. Each changes a job under its lock.
    """

    def __init__(self, store: GraphStore) -> None:
        self._store = store
        self._has_schema = False

    def page(self, *, limit: int = 100, before: int | None = None) -> list[Job]:
        """At most ``limit`` jobs, the newest first, those that are older than the one of the number ``before``."""
        rows = self._store.read("jobs/jobs", before=_NEWEST if before is None else before, limit=limit)
        return [_job(row) for row in rows]

    def get(self, job: str) -> Job:
        """One job, or ``NotFoundError``."""
        rows = self._store.read("jobs/job", id=job)
        if not rows:
            raise NotFoundError(f"job {job[:64]!r}: expected it in the archive, found none", hint="it may be forgotten")
        return _job(rows[0])

    def states(self) -> dict[str, JobState]:
        """How far each job is, by id: cheap, for those who look again and again."""
        rows = self._store.read("jobs/states")
        return {row["id"]: JobState(row["status"], row["done"], row["total"]) for row in rows}

    def submit(
        self,
        job: str,
        kind: str,
        request: Mapping[str, Any],
        *,
        runs: Sequence[str],
        total: int | None = None,
        anew: bool = False,
    ) -> tuple[Job, bool]:
        """Put work at the end of the queue under its id; gives the job, and whether it was put there now.

        One of that id that waits, runs or is finished stays as it is; one that failed is tried anew, and with ``anew``
        one that is finished, too. ``runs`` are those that it is about: when one of them is purged, the job is
        forgotten. Raises ``LimitError`` where too many wait.
        """
        if not self._has_schema:  # an archive of before has no place for jobs
            self._store.schema(queries.statements("schema/004-jobs"))
            self._has_schema = True
        ends = {"failed", "finished"} if anew else {"failed"}

        def work(tx: Transaction) -> tuple[Job, bool, list[str]]:
            tx.run("archive/lock_archive", token=uuid.uuid4().hex)
            there = tx.one("jobs/lock_job", id=job, token=uuid.uuid4().hex)
            if there is not None and there["status"] not in ends:
                return _job(there), False, []
            waiting = len(tx.run("jobs/open_jobs"))
            if waiting >= MOST_OPEN:
                raise LimitError(
                    f"jobs: expected fewer than {MOST_OPEN} that wait, found {waiting}", hint="wait for some, or cancel"
                )
            parts = [] if there is None else _drop(tx, job)
            text = json.dumps(request, ensure_ascii=False)
            tx.run("jobs/create_job", id=job, kind=kind, request=text, runs=list(runs), total=total, created_at=_now())
            return _job(tx.run("jobs/job", id=job)[0]), True, parts

        entry, new, parts = self._store.write(work)
        self._drop_parts(parts)
        return entry, new

    def result(self, job: Job) -> Iterator[bytes]:
        """What came of a job that is finished, a part at a time.

        Raises ``ConflictError`` for one that is not, is made anew meanwhile or was kept by an earlier version,
        ``NotFoundError`` where it is forgotten.
        """
        if job.status != "finished":
            raise ConflictError(
                f"job {job.id}: expected one that is finished, found it {job.status}",
                hint=job.error or "its progress says how far it is",
            )
        row = self._store.read("jobs/job", id=job.id)
        if not row:
            self.get(job.id)
        return self._parts(job, row[0]["parts"] or 0)

    def _parts(self, job: Job, parts: int) -> Iterator[bytes]:
        for part in range(parts):
            rows = self._store.read("jobs/job_part", id=_part_id(job, part), job=job.id)
            finished_at = self.get(job.id).finished_at if not rows else _moment(rows[0]["finished_at"])
            if finished_at != job.finished_at:
                raise ConflictError(
                    f"job {job.id}: expected its result of {job.finished_at}, found that it is made anew",
                    hint="ask for the result again",
                )
            if not rows:
                if {"id": f"{job.id}/{part}"} in self._store.read("jobs/job_parts", id=job.id):
                    raise ConflictError(
                        f"job {job.id}: expected a result as this version keeps it, found that of an earlier one",
                        hint=f"forget it (`topostrata jobs cancel {job.id}`), and ask for it again",
                    )
                raise CorruptError(f"job {job.id}: expected {parts} parts of a result, found no part {part}")
            yield bytes(rows[0]["data"])

    def forget(self, job: str) -> None:
        """Take a job away with its result; who works on it stops. Raises ``NotFoundError`` where there is none."""

        def work(tx: Transaction) -> list[str]:
            _locked(tx, job)
            return _drop(tx, job)

        self._drop_parts(self._store.write(work))

    def forget_runs(self, runs: Sequence[str]) -> None:
        """Forget all jobs that are about one of these runs."""
        self._forget_all(self._store.read("jobs/jobs_of_runs", runs=list(runs)) if runs else [])

    def forget_old(self) -> None:
        """Forget the jobs that were done long ago."""
        before = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).isoformat(timespec="milliseconds")
        self._forget_all(self._store.read("jobs/finished_before", at=before))

    def _forget_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            with suppress(NotFoundError):
                self.forget(row["id"])

    # Whoever works

    def waiting(self) -> bool:
        """Whether there is a job that nobody works on."""
        return any(map(_is_free, self._store.read("jobs/open_jobs")))

    def claim(self, owner: str) -> Job | None:
        """The oldest job that nobody works on, which ``owner`` works on from now, for as long as the lease is renewed.

        One that lost whoever worked on it again and again without any progress has failed.
        """

        def work(tx: Transaction) -> Job | None:
            for free in filter(_is_free, tx.run("jobs/open_jobs")):
                row = tx.one("jobs/lock_job", id=free["id"], token=uuid.uuid4().hex)
                if row is None or row["status"] not in _OPEN or not _is_free(row):
                    continue
                if row["attempts"] >= MOST_ATTEMPTS:
                    error = (
                        f"whoever worked on it ended {MOST_ATTEMPTS} times without a word, perhaps for want of memory"
                    )
                    _set(tx, row, status="failed", error_code=Code.ENGINE, error=error, finished_at=_now(), **_NOBODY)
                    continue
                return _set(
                    tx,
                    row,
                    status="running",
                    owner=owner,
                    lease_until=row["now"] + int(1000 * LEASE_S),
                    attempts=row["attempts"] + 1,
                    started_at=row["started_at"] or _now(),
                )
            return None

        return self._store.write(work)

    def renew(self, job: str, owner: str, *, done: int, total: int | None) -> bool:
        """Say how far the work is, and that it goes on; False where it is no longer this owner's."""

        def work(tx: Transaction) -> bool:
            row = _mine(tx, job, owner)
            if row is not None:
                lease = row["now"] + int(1000 * LEASE_S)
                # What a resumed job has done before counts as no progress.
                attempts = 0 if done > row["done"] else row["attempts"]
                _set(tx, row, done=max(done, row["done"]), total=total, lease_until=lease, attempts=attempts)
            return row is not None

        return self._store.write(work)

    def release(self, job: str, owner: str) -> None:
        """Give a job back that is not done: the next who works goes on with it."""

        def work(tx: Transaction) -> None:
            row = _mine(tx, job, owner)
            if row is not None:
                _set(tx, row, status="queued", attempts=max(0, row["attempts"] - 1), **_NOBODY)

        self._store.write(work)

    def finish(
        self, job: str, owner: str, media_type: str, result: BinaryIO, *, runs: Sequence[str] | None = None
    ) -> bool:
        """Keep the result of a job, read from where the file stands; False where it is no longer this owner's.

        ``runs`` are those that the result is about, if not those that were named when it was asked for. Where one of
        them was purged meanwhile the job is forgotten, as if it had been finished before.
        Raises ``LimitError``, before anything is kept, for a result that is larger than ``MOST_RESULT``.
        """
        begin = result.tell()
        size = result.seek(0, os.SEEK_END) - begin
        result.seek(begin)
        if size > MOST_RESULT:
            raise LimitError(
                f"job {job}: expected a result of at most {MOST_RESULT} bytes, found {size}",
                hint="the command line writes it to a file",
            )
        parts = 0
        while data := result.read(PART_BYTES):
            if not self._store.write(partial(_put, job=job, owner=owner, part=parts, data=data)):
                return False  # what it wrote goes with the job, or is overwritten by who works on it now
            parts += 1

        def work(tx: Transaction) -> bool:
            row = _mine(tx, job, owner)
            if row is not None:
                values = {"done": row["done"] if row["total"] is None else row["total"]}
                values |= {"media_type": media_type, "bytes": size, "parts": parts, "finished_at": _now()}
                _set(tx, row, **values, **_NOBODY, status="finished")
                if runs is not None:
                    tx.run("jobs/set_job_runs", id=job, runs=list(runs))
            return row is not None

        finished = self._store.write(work)
        # Who purges a run takes it away first and looks for its jobs then: one of the two sees the other.
        if finished and runs and len(self._store.read("runs/runs_by_id", ids=list(runs), removed=True)) < len(runs):
            self._forget_all([{"id": job}])
            return False
        return finished

    def fail(self, job: str, owner: str, error: TopostrataError) -> None:
        """Say what a job failed of."""

        def work(tx: Transaction) -> None:
            row = _mine(tx, job, owner)
            if row is not None:
                _set(
                    tx,
                    row,
                    **_NOBODY,
                    status="failed",
                    finished_at=_now(),
                    error_code=error.code,
                    error=str(error),
                )

        self._store.write(work)

    def _drop_parts(self, ids: Sequence[str]) -> None:
        for at in range(0, len(ids), _PAGE):
            self._store.write(
                lambda tx, page=ids[at : at + _PAGE]: tx.run("jobs/drop_job_parts", ids=page, token=uuid.uuid4().hex)  # type: ignore[misc]
            )


_NOBODY: dict[str, Any] = {"owner": None, "lease_until": None}
_STATE = queries.load("jobs/set_job").parameters


def _is_free(row: Row) -> bool:
    return row["lease_until"] is None or row["lease_until"] < row["now"]


def _locked(tx: Transaction, job: str) -> Row:
    row = tx.one("jobs/lock_job", id=job, token=uuid.uuid4().hex)
    if row is None:
        raise NotFoundError(f"job {job[:64]!r}: expected it in the archive, found none", hint="it may be forgotten")
    return row


def _mine(tx: Transaction, job: str, owner: str) -> Row | None:
    row = tx.one("jobs/lock_job", id=job, token=uuid.uuid4().hex)
    return row if row is not None and row["owner"] == owner else None


def _put(tx: Transaction, *, job: str, owner: str, part: int, data: bytes) -> bool:
    """Keep a part of what this owner made; False where the job is no longer its."""
    row = _mine(tx, job, owner)
    if row is not None:
        tx.run("jobs/put_job_part", id=job, part=_part_id(_job(row), part), data=data)
    return row is not None


def _part_id(job: Job, part: int) -> str:
    """Names when the job was asked for, too: what is left of a result never meets the one that is made anew."""
    return f"{job.id}/{job.created_at.isoformat(timespec='milliseconds')}/{part}"


def _drop(tx: Transaction, job: str) -> list[str]:
    """Take a job away whose lock is taken; gives the parts of its result, which hang on nothing then."""
    parts = [row["id"] for row in tx.run("jobs/job_parts", id=job)]
    tx.run("jobs/drop_job", id=job)
    return parts


def _set(tx: Transaction, row: Row, **values: Any) -> Job:
    after = row | values
    tx.run("jobs/set_job", **{name: after[name] for name in _STATE})
    return _job(after)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _job(row: Row) -> Job:
    return Job(
        row["id"],
        row["kind"],
        json.loads(row["request"]),
        row["status"],
        row["done"],
        row["total"],
        datetime.fromisoformat(row["created_at"]),
        _moment(row["started_at"]),
        _moment(row["finished_at"]),
        row["error_code"],
        row["error"],
        row["media_type"],
        row["bytes"],
        row["number"],
    )
