"""The jobs of an archive behind a service: followed, fetched and cancelled by requests; the service works on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typing_extensions import override

from topostrata.errors import ConflictError, InvalidInputError
from topostrata.service.answers.values import value_of
from topostrata.service.transport import JSON, Service, path_of
from topostrata.store.jobs import Job, JobQueue, JobState


def _at_home(method: str) -> Any:
    """What those who work on jobs do, beside the archive."""

    def refused(_self: RemoteJobs, *_: Any, **__: Any) -> Any:
        raise InvalidInputError(
            f"jobs.{method}: expected an archive that is opened itself, found one behind a service",
            hint="jobs.ask(KIND, ...) asks the service for a job, which it works on itself",
        )

    refused.__name__ = method
    return refused


class RemoteJobs(JobQueue):
    """The part of ``JobQueue`` for those who want an answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def ask(self, kind: str, /, **request: Any) -> Job:
        """Ask the service for work that takes long: the job, which is the same one for whoever asks for the same.

        Kinds and what each takes are those of ``POST /v1/jobs`` in docs/api.md: ``distances`` (``refs``, ``alignment``,
        ...), ``inference``, ``relatedness`` (``a``, ``b``, ...) and ``export``. What is None is not said.
        Raises ``InvalidInputError`` for another kind, or what a kind has not; ``NotFoundError`` where nothing is named.
        """
        said = {name: value for name, value in request.items() if value is not None}
        return self._service.read(Job, self._service.send("POST", path_of("jobs"), document={"kind": kind, **said}))

    @override
    def page(self, *, limit: int = 100, before: int | None = None) -> list[Job]:
        page = self._service.value(dict[str, Any], path_of("jobs"), limit=limit, cursor=before)
        return [value_of(Job, entry) for entry in page["jobs"]]

    @override
    def get(self, job: str) -> Job:
        return self._service.value(Job, path_of("jobs", job))

    @override
    def states(self) -> dict[str, JobState]:
        return {job.id: JobState(job.status, job.done, job.total) for job in self.page(limit=1000)}

    @override
    def result(self, job: Job) -> Iterator[bytes]:
        if job.status != "finished":
            raise ConflictError(f"job {job.id}: expected one that is finished, found it {job.status}", hint=job.error)
        answer = self._service.send("GET", path_of("jobs", job.id, "result"), accept=job.media_type or JSON)
        return iter([answer.body])

    @override
    def forget(self, job: str) -> None:
        self._service.send("DELETE", path_of("jobs", job))

    submit = _at_home("submit")
    waiting = _at_home("waiting")
    claim = _at_home("claim")
    renew = _at_home("renew")
    release = _at_home("release")
    finish = _at_home("finish")
    fail = _at_home("fail")
    forget_runs = _at_home("forget_runs")
    forget_old = _at_home("forget_old")
