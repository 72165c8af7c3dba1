"""What takes long and is done in the background: what each kind of job asks, and how it is answered.

A request is made canonical before it is queued: globs become the snapshots that they name now. A job's id is the digest
of that, of the snapshots' topologies and of the versions of the alignments, so that whoever asks for the same gets the
same job, and nobody an answer that is no longer true.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, Literal, NamedTuple

from topostrata.archive import Archive
from topostrata.distance.alignments import ALIGNMENTS, definition_of
from topostrata.errors import Cancelled, LimitError
from topostrata.ingest import transfer
from topostrata.service.answers.lineage import inference_answer, related_answer
from topostrata.store.jobs import Job
from topostrata.store.runs import RecordedSnapshot

JobKind = Literal["distances", "inference", "relatedness", "export"]
Progress = Callable[[int, int], None]

MOST_COMPARED = 1000  # snapshots of a matrix: 500,000 pairs
JSON, NPZ, ZIP = "application/json", "application/x-npz", "application/zip"


class Plan(NamedTuple):
    """A request whose every name stands for one thing: what it depends on besides, and the runs that it is about.

    ``anew``: what is finished is no answer to the same request later.
    """

    request: dict[str, Any]
    depends_on: list[Any]
    runs: list[str]
    total: int | None = None
    anew: bool = False


class Kind(NamedTuple):
    """A kind of job: how its request is made canonical, what its result is, and how that is written to a file.

    ``work`` gives the runs that the result is about where these are others than those of the plan.
    """

    plan: Callable[[Archive, Mapping[str, Any]], Plan]
    media_type: str
    work: Callable[[Archive, Mapping[str, Any], BinaryIO, Progress, threading.Event], Sequence[str] | None]


def plan(archive: Archive, kind: JobKind, asked: Mapping[str, Any]) -> Plan:
    """What is to be done for a request.

    Raises what naming snapshots raises, ``LimitError`` for more of them than a job may compare.
    """
    return KINDS[kind].plan(archive, asked)


def submit(archive: Archive, kind: JobKind, plan: Plan) -> tuple[Job, bool]:
    """The job of a plan, and whether it was put into the queue now; ``LimitError`` where too many wait."""
    text = json.dumps([kind, plan.request, plan.depends_on], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return archive.jobs.submit(digest, kind, plan.request, runs=plan.runs, total=plan.total, anew=plan.anew)


def work(
    archive: Archive, job: Job, progress: Progress, cancel: threading.Event
) -> tuple[BinaryIO, Sequence[str] | None]:
    """The result of a job as an open file that is nowhere in the file system, and what ``Kind.work`` gives.

    Raises ``Cancelled`` once ``cancel`` is set, ``OSError`` where there is no room for the file.
    """

    def advance(done: int, total: int) -> None:
        if cancel.is_set():
            raise Cancelled
        progress(done, total)

    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        runs = KINDS[job.kind].work(archive, job.request, file, advance, cancel)
        file.seek(0)
        stack.pop_all()
        return file, runs


def _distances_plan(archive: Archive, asked: Mapping[str, Any]) -> Plan:
    entries = _snapshots(archive, asked["refs"])
    request = {**asked, "refs": [entry.snapshot.id for entry in entries]}
    definition = definition_of(asked["alignment"])
    count = len(entries)
    total = count * (count + 1) // 2 if definition.symmetric else count * count
    depends_on = [[entry.snapshot.digest for entry in entries], definition.version]
    return Plan(request, depends_on, _runs(entries), total)


def _distances(
    archive: Archive, request: Mapping[str, Any], file: BinaryIO, progress: Progress, cancel: threading.Event
) -> None:
    archive.distances(
        request["refs"],
        alignment=request["alignment"],
        layers=request["layers"],
        chance=request["chance"],
        progress=progress,
        cancel=cancel,
    ).write_npz(file)


def _inference_plan(archive: Archive, asked: Mapping[str, Any]) -> Plan:
    entries = _snapshots(archive, asked["refs"])
    request = {**asked, "refs": [entry.snapshot.id for entry in entries]}
    versions = {name: definition.version for name, definition in ALIGNMENTS.items()}
    return Plan(request, [[entry.snapshot.digest for entry in entries], versions], _runs(entries))


def _inference(
    archive: Archive, request: Mapping[str, Any], file: BinaryIO, progress: Progress, _cancel: threading.Event
) -> None:
    answer = archive.infer(
        request["refs"],
        root=request["root"],
        alignment=request["alignment"],
        units=request["units"],
        by_time=request["by_time"],
        depth=request["depth"],
        samples=request["samples"],
        name=None,
        progress=progress,
        keep=True,  # whoever goes on with an interrupted job reads what it computed
    )
    _write_json(file, inference_answer(answer))


def _relatedness_plan(archive: Archive, asked: Mapping[str, Any]) -> Plan:
    entries = archive.recorded(asked["a"], asked["b"])
    ours, theirs = (entry.snapshot for entry in entries)
    return Plan({**asked, "a": ours.id, "b": theirs.id}, [ours.digest, theirs.digest], _runs(entries))


def _relatedness(
    archive: Archive, request: Mapping[str, Any], file: BinaryIO, _progress: Progress, _cancel: threading.Event
) -> None:
    a, b = request["a"], request["b"]
    result = archive.related(a, b, tests=request["tests"], seed=request["seed"])
    _write_json(file, related_answer(a, b, result))


def _export_plan(archive: Archive, asked: Mapping[str, Any]) -> Plan:
    runs = [archive.run(run).id for run in asked["runs"] or ()]
    parents: dict[str, set[str]] = {}
    for edge in archive.lineage().edges:
        parents.setdefault(edge.child, set()).add(edge.parent)
    family, above = set(runs or archive.states()), list(runs)
    while above:
        new = parents.get(above.pop(), set()) - family
        family |= new
        above += new
    # What a run is called, its tags and metrics may change at any time: an export that is there is of another moment.
    return Plan({"runs": sorted(set(runs)) or None}, [], sorted(family), anew=True)


def _export(
    archive: Archive, request: Mapping[str, Any], file: BinaryIO, progress: Progress, _cancel: threading.Event
) -> Sequence[str]:
    return transfer.export_into(archive, file, runs=request["runs"], progress=progress).runs  # those of now


def _snapshots(archive: Archive, patterns: Sequence[str]) -> list[RecordedSnapshot]:
    refs = archive.expand(patterns)
    if len(refs) > MOST_COMPARED:
        raise LimitError(
            f"refs: expected at most {MOST_COMPARED} snapshots in a job, found {len(refs)}",
            hint="the command line compares any number: topostrata distances",
        )
    return archive.recorded(*refs)


def _runs(entries: Sequence[RecordedSnapshot]) -> list[str]:
    return sorted({entry.snapshot.run for entry in entries})


def _write_json(file: BinaryIO, answer: Any) -> None:
    file.write(json.dumps(answer, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode())


KINDS: Mapping[str, Kind] = {
    "distances": Kind(_distances_plan, NPZ, _distances),
    "inference": Kind(_inference_plan, JSON, _inference),
    "relatedness": Kind(_relatedness_plan, JSON, _relatedness),
    "export": Kind(_export_plan, ZIP, _export),
}
