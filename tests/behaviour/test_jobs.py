"""Long work that the archive keeps: asked for once, done by one at a time, taken over from who vanished, forgotten."""

from __future__ import annotations

from io import BytesIO

import pytest

from tests.histories import sparse_history
from tests.pushed import push
from tests.stores import tell
from topostrata.archive import Archive
from topostrata.errors import ConflictError, InvalidInputError, LimitError, NotFoundError
from topostrata.service import jobs
from topostrata.store.jobs import MOST_ATTEMPTS, Job

A, B = "a" * 32, "b" * 32


def submit(archive: Archive, job: str, **more: bool) -> tuple[Job, bool]:
    return archive.jobs.submit(job, "distances", {"refs": ["w0@0"]}, runs=["w0"], total=10, **more)


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
    queue.finish(A, "another", "x/y", BytesIO(data))  # whose it is not
    assert queue.get(A).status == "running"
    queue.finish(A, "me", "x/y", BytesIO(data))
    finished = queue.get(A)
    assert (finished.status, finished.done, finished.bytes, finished.media_type) == ("finished", 12, len(data), "x/y")
    assert b"".join(queue.result(finished)) == data
    assert submit(archive, A) == (finished, False)
    queue.fail(B, "another", InvalidInputError("no such thing"))
    assert (queue.get(B).status, queue.get(B).error_code, queue.get(B).error) == (
        "failed", "invalid-input", "no such thing",
    )  # fmt: skip
    assert submit(archive, B)[0].status == "queued"
    assert submit(archive, A, anew=True)[0].status == "queued"
    assert tell(archive, "MATCH (p:JobPart) RETURN count(p) AS parts") == [{"parts": 0}]


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
    queue.forget(A)
    assert not queue.renew(A, "me", done=1, total=10)
    queue.finish(A, "me", "x/y", BytesIO(b"late"))
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
