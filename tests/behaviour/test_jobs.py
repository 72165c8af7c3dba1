"""Long work that the archive keeps: asked for once, done by one at a time, taken over from who vanished, forgotten."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
import sys
from io import BytesIO
from threading import Event
from unittest.mock import Mock

import pytest

from tests.histories import sparse_history
from tests.pushed import push
from tests.stores import tell
from topostrata.archive import Archive
from topostrata.distance.nnstd import nnstd
from topostrata.errors import ConflictError, CorruptError, InvalidInputError, LimitError, NotFoundError
from topostrata.service import jobs, worker
from topostrata.service.api import workers
from topostrata.store.jobs import MOST_ATTEMPTS, Job

A, B = "a" * 32, "b" * 32


def submit(archive: Archive, job: str, **more: bool) -> tuple[Job, bool]:
    return archive.jobs.submit(job, "distances", {"refs": ["w0@0"]}, runs=["w0"], total=10, **more)


def parts(archive: Archive) -> int:
    """How many parts of results the archive has, of whatever job."""
    return int(tell(archive, "MATCH (p:JobPart) RETURN count(p) AS parts")[0]["parts"])


def let_vanish(archive: Archive) -> None:
    """Let the leases of all who work end without a word."""
    tell(archive, "MATCH (j:Job) WHERE j.lease_until IS NOT NULL SET j.lease_until = 0 RETURN j.id AS id")


def test_a_job_is_asked_for_once_and_done_in_turn(archive: Archive) -> None:
    """Equal requests are one job; the oldest is worked on first, by one owner, whose progress and result are kept."""
    queue = archive.jobs
    assert (queue.page(), queue.waiting(), queue.claim("me")) == ([], False, None)
    assert submit(archive, A)[1]
    assert submit(archive, B)[1]
    assert not submit(archive, A)[1]
    assert [job.id for job in queue.page()] == [B, A]
    assert [job.id for job in queue.page(limit=1, before=queue.get(B).number)] == [A]
    job = queue.claim("me")
    assert job is not None
    assert (job.id, job.status, job.is_done) == (A, "running", False)
    other = queue.claim("another")
    assert other is not None
    assert other.id == B
    assert queue.claim("third") is None
    assert queue.renew(A, "me", done=4, total=12)
    assert not queue.renew(A, "another", done=9, total=12)
    assert (queue.get(A).done, queue.get(A).total) == (4, 12)
    with pytest.raises(ConflictError, match="found it running"):
        list(queue.result(queue.get(A)))
    data = bytes(range(256)) * 2**15 + b"end"  # 8 MiB and a little: three parts
    assert not queue.finish(A, "another", "x/y", BytesIO(data))  # whose it is not
    assert (queue.get(A).status, parts(archive)) == ("running", 0)
    assert queue.finish(A, "me", "x/y", BytesIO(data))
    finished = queue.get(A)
    assert (finished.status, finished.done, finished.bytes, finished.media_type) == ("finished", 12, len(data), "x/y")
    assert b"".join(queue.result(finished)) == data
    assert submit(archive, A) == (finished, False)
    queue.fail(B, "another", InvalidInputError("no such thing"))
    assert (queue.get(B).status, queue.get(B).error_code, queue.get(B).error) == (
        "failed", "invalid-input", "no such thing",
    )  # fmt: skip
    assert submit(archive, B)[0].status == "queued"
    reading = [queue.result(finished) for _ in range(2)]
    for reader in reading:
        assert next(reader) == data[: 4 * 2**20]
    assert submit(archive, A, anew=True)[0].status == "queued"
    assert parts(archive) == 0
    with pytest.raises(ConflictError, match="found that it is made anew"):
        next(reading[0])
    assert [claimed.id for claimed in (queue.claim("me"), queue.claim("me")) if claimed is not None] == [B, A]
    assert queue.finish(A, "me", "x/y", BytesIO(data[::-1]))
    with pytest.raises(ConflictError, match="found that it is made anew"):
        next(reading[1])  # nobody gets a part of this and a part of that
    rename = (
        "MATCH (j:Job {id: $job})-[:HAS_PART]->(p:JobPart) SET p.id = $job + '/' + right(p.id, 1) RETURN p.id AS id"
    )
    tell(archive, rename, job=A)
    with pytest.raises(ConflictError, match="found that of an earlier one"):
        next(queue.result(queue.get(A)))


def test_who_vanishes_is_replaced_and_a_job_that_kills_has_failed(archive: Archive) -> None:
    """The lease ends and another takes the job over where it was; without any progress again and again it has failed."""
    queue = archive.jobs
    submit(archive, A)
    assert queue.claim("first") is not None
    queue.renew(A, "first", done=5, total=10)
    let_vanish(archive)
    assert queue.waiting()
    taken = queue.claim("second")
    assert taken is not None
    assert taken.done == 5
    assert not queue.renew(A, "first", done=9, total=10)
    queue.release(A, "second")
    for attempt in range(MOST_ATTEMPTS):
        assert queue.claim("third") is not None, attempt
        queue.renew(A, "third", done=5, total=10)  # as far as before: no progress
        let_vanish(archive)
    assert queue.claim("fourth") is None
    assert (queue.get(A).status, queue.get(A).error_code) == ("failed", "engine")


def test_a_job_is_forgotten_with_its_result_and_with_its_runs(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever works on it notices; what is purged leaves no result; the queue has an end; loose parts are collected."""
    queue = archive.jobs
    submit(archive, A)
    queue.claim("me")
    monkeypatch.setattr("topostrata.store.jobs.PART_BYTES", 4)

    class Overtaken(BytesIO):
        """A file whose last part is read when the job is forgotten meanwhile."""

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == 8:
                assert parts(archive) == 2
                queue.forget(A)
            return super().read(size)

    assert not queue.finish(A, "me", "x/y", Overtaken(b"2 parts late"))
    assert parts(archive) == 0
    assert not queue.renew(A, "me", done=1, total=10)
    with pytest.raises(NotFoundError):
        queue.get(A)
    with pytest.raises(NotFoundError):
        queue.forget(A)
    push(archive, "w0", sparse_history(8, snapshots=2, widths=[20, 15, 8], density=0.3, churn=0.05))
    plan = jobs.plan(archive, "distances", {"refs": ["w0@*"], "alignment": "identity", "layers": None, "chance": None})
    assert (plan.request["refs"], plan.runs, plan.total) == (["w0@0", "w0@1"], ["w0"], 3)
    job, _ = jobs.submit(archive, "distances", plan)
    assert jobs.submit(archive, "distances", jobs.plan(archive, "distances", plan.request)) == (job, False)
    assert jobs.submit(archive, "distances", plan._replace(depends_on=["another version"]))[1]
    tell(archive, "MATCH (j:Job) CREATE (j)-[:HAS_PART]->(:JobPart {id: j.id + '/9'})")  # of who lost it meanwhile
    archive.purge_runs(["w0"])
    assert queue.page() == []
    tell(archive, "CREATE (p:JobPart {id: 'gone/0'}) RETURN p.id AS id")
    assert archive.gc().kinds == {"JobPart": 1}
    monkeypatch.setattr("topostrata.store.jobs.MOST_OPEN", 1)
    submit(archive, B)
    with pytest.raises(LimitError, match="that wait"):
        submit(archive, A)
    assert queue.claim("me") is not None
    monkeypatch.setattr("topostrata.store.jobs.MOST_RESULT", 7)
    with pytest.raises(LimitError, match="at most 7 bytes, found 8"):
        queue.finish(B, "me", "x/y", BytesIO(b"8 bytes."))
    assert parts(archive) == 0
    assert queue.finish(B, "me", "x/y", BytesIO(b"6 here"))
    submit(archive, A)
    with pytest.raises(LimitError, match="that wait"):
        submit(archive, B, anew=True)
    assert b"".join(queue.result(queue.get(B))) == b"6 here"  # refused, it is as it was


def test_an_interrupted_inference_goes_on(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes it over reads the distances and matches that were computed, and compares the other pairs alone."""
    history = sparse_history(8, snapshots=4, widths=[20, 15, 8], density=0.3, churn=0.1)
    for step, topology in history.snapshots:
        archive.push(f"w{step}", 0, topology)
    asked_for = {"refs": ["w*@0"], "alignment": "canonical", "root": "w0", "units": None, "by_time": False}
    plan = jobs.plan(archive, "inference", asked_for | {"depth": None, "samples": 9})
    job, _ = jobs.submit(archive, "inference", plan)
    compared = Mock(wraps=nnstd)
    monkeypatch.setattr("topostrata.distance.stored_pairs.nnstd", compared)

    def killed(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.work(archive, job, killed, Event())
    assert compared.call_count == 5
    result, _ = jobs.work(archive.reopened(), job, lambda _done, _total: None, Event())
    assert compared.call_count == 6
    with result:
        assert len(json.load(result)["edges"]) == 3


def test_an_export_is_about_the_runs_that_it_wrote(archive: Archive) -> None:
    """One of all runs has those of the moment at which it is made, and is forgotten with each of them."""
    history = sparse_history(8, snapshots=1, widths=[20, 15, 8], density=0.3, churn=0.05)
    push(archive, "w0", history)
    queue = archive.jobs
    job, _ = jobs.submit(archive, "export", jobs.plan(archive, "export", {"runs": None}))
    push(archive, "w1", history)
    assert queue.claim("me") is not None
    result, runs = jobs.work(archive, job, lambda _done, _total: None, Event())
    assert runs == ("w0", "w1")
    with result:
        assert queue.finish(job.id, "me", "application/zip", result, runs=runs)
        assert queue.get(job.id).bytes == result.tell()
        archive.purge_runs(["w1"])
        assert queue.page() == []
        jobs.submit(archive, "export", jobs.plan(archive, "export", {"runs": None}))
        assert queue.claim("me") is not None
        result.seek(0)
        assert not queue.finish(job.id, "me", "application/zip", result, runs=runs)  # w1 went while it was written
    assert (queue.page(), parts(archive)) == ([], 0)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/secret"),
            "limit",
            "more room than there is on the disk",
        ),
        (RuntimeError("/tmp/secret"), "engine", "an unexpected error"),
        (CorruptError("/tmp/secret"), "corrupt", "is damaged"),
        (InvalidInputError("no such thing"), "invalid-input", "no such thing"),
    ],
)
def test_a_job_says_what_it_failed_of_and_no_path_of_the_server(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, words: str
) -> None:
    """It fails at once, of its true cause; what only whoever runs the service may see stands in its log alone."""

    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setitem(jobs.KINDS, "export", jobs.KINDS["export"]._replace(work=fail))
    jobs.submit(archive, "export", jobs.plan(archive, "export", {"runs": None}))
    job = archive.jobs.claim("me")
    assert job is not None
    worker.work(archive, job, "me", Event())
    failed = archive.jobs.get(job.id)
    assert (failed.status, failed.error_code) == ("failed", code)
    assert re.search(words, failed.error or "")
    assert "secret" not in (failed.error or "")


def test_who_starts_workers_goes_on_where_none_can_be_started(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries again and again, and says why; what was done more than seven days ago is forgotten, worker or none."""
    submit(archive, A)
    assert archive.jobs.claim("me") is not None
    archive.jobs.finish(A, "me", "x/y", BytesIO(b"old"))
    tell(archive, "MATCH (j:Job) SET j.finished_at = '2025-01-01T00:00:00.000+00:00' RETURN j.id AS id")
    submit(archive, B)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    monkeypatch.setattr(workers, "_LOOK_S", 0.01)

    async def story() -> list[str]:
        words: list[str] = []
        tried_again = asyncio.Event()

        class Words(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                words.append(record.getMessage())
                if len(words) == 2:
                    tried_again.set()

        handler = Words()
        workers.logger.addHandler(handler)
        try:
            starting = workers.Workers(archive, "memory", "jobs")
            async with asyncio.timeout(60):
                await tried_again.wait()
            await starting.close()
        finally:
            workers.logger.removeHandler(handler)
        return words

    assert ["/no/such/python" in text for text in asyncio.run(story())[:2]] == [True, True]
    assert [job.id for job in archive.jobs.page()] == [B]
    assert parts(archive) == 0
