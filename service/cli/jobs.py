"""The verbs that follow the long work that a service was asked for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from topostrata.service.cli.lineage import OptionalAlign
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, archive, counted, progress, show, table

if TYPE_CHECKING:
    from topostrata.archive import Archive
    from topostrata.store.jobs import Job

jobs = typer.Typer(help="Long work that a service was asked for.", no_args_is_help=True, rich_markup_mode=None)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or how that begins.")]
_LOOK_S = 1.0
_SHORT = 8  # characters of an id that are shown


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(jobs, name="jobs")


@jobs.command()
def submit(
    kind: Annotated[
        Literal["distances", "inference", "relatedness", "export"],
        typer.Argument(metavar="KIND", help="distances, inference, relatedness or export."),
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES", help="Refs or globs of snapshots; of relatedness its two; of an export its runs, or none."
        ),
    ] = None,
    alignment: OptionalAlign = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME", help="Of distances: a layer that counts, or a glob; may be repeated."),
    ] = None,
    chance: Annotated[
        Literal["degrees", "density"] | None,
        typer.Option("--chance", help="Of distances: add the distance that independent networks would have."),
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="RUN", help="Of an inference: the ancestor of all.")
    ] = None,
    by_time: Annotated[
        bool, typer.Option("--by-time", help="Of an inference: no run descends from a younger one.")
    ] = False,
    units: Annotated[
        Literal["in-place", "renamed"] | None,
        typer.Option("--units", help="Of an inference: whether hidden unit i is the same in all. [default: detected]"),
    ] = None,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="GENERATIONS", help="Of an inference. [default: all]")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="COUNT", help="Of an inference: resamples of its support.")
    ] = None,
    tests: Annotated[
        int | None, typer.Option("--tests", metavar="COUNT", help="Of relatedness: exchanges a layer. [default: 999]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="NUMBER", help="Of relatedness: which exchanges. [default: 0]")
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Ask a service for long work; whoever asks for the same gets the same job. --store is the service's URL.

    KIND is distances (a matrix), inference (a probable ancestry), relatedness (of two snapshots) or export.
    """
    from topostrata.errors import InvalidInputError
    from topostrata.service.remote_jobs import RemoteJobs

    asked: dict[str, Any] = {
        "alignment": alignment, "layers": layers or None, "chance": chance, "root": root, "by_time": by_time or None,
        "units": units, "depth": depth, "samples": samples, "tests": tests, "seed": seed,
    }  # fmt: skip
    if kind == "relatedness":
        if names is None or len(names) != 2:
            raise InvalidInputError(f"relatedness: expected two snapshots, found {len(names or ())}")
        asked |= dict(zip("ab", names, strict=True))
    else:
        asked["runs" if kind == "export" else "refs"] = names or None
    with archive(store) as opened:
        queue = opened.jobs
        if not isinstance(queue, RemoteJobs):
            raise InvalidInputError(
                f"jobs submit: expected a service, which works on jobs, found the archive {opened.location}",
                hint="--store URL of `topostrata serve`; or the verbs distances, lineage, related and export, at once",
            )
        job = queue.ask(kind, **asked)
    if json_:
        _tell(job, json_=True)
    else:
        show(f"{job.id}: {job.status}; `topostrata jobs wait {job.id[:_SHORT]}` waits for it")


@jobs.command()
def ls(store: StoreOption = None, json_: JsonFlag = False) -> None:
    """List the jobs, newest first: what was asked, and how far it is."""
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        listed = opened.jobs.page(limit=1000)
    if json_:
        answer(as_json(listed))
    elif not listed:
        show("no jobs: `topostrata jobs submit` asks a service for one")
    else:
        rows = [
            [job.id[:_SHORT], job.kind, _about(job), job.status, _extent(job), f"{job.created_at:%Y-%m-%d %H:%M}"]
            for job in listed
        ]
        show(table(["job", "kind", "of", "status", "done", "asked at"], rows))


@jobs.command("show")
def show_(job: JobArgument, store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Show one job: all that was asked, and what it failed of."""
    with archive(store) as opened:
        _tell(_find(opened, job), json_=json_)


@jobs.command()
def wait(
    job: JobArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the result there: npz, JSON or an export.")
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Wait until a job is done; the exit status is 1 where it failed.

    A matrix is written as npz, which `ts.DistanceMatrix.from_npz` reads.
    """
    from topostrata.files import whole

    with archive(store) as opened, progress(job[:_SHORT]) as advance:
        found = _find(opened, job)
        while not found.is_done:
            sleep(_LOOK_S)
            found = opened.jobs.get(found.id)
            advance(found.done, found.total or 0)
        if out is not None and found.status == "finished":
            with whole(out) as draft, draft.open("wb") as file:
                file.writelines(opened.jobs.result(found))
    _tell(found, json_=json_)
    if found.status == "failed":
        raise typer.Exit(1)


@jobs.command()
def cancel(job: JobArgument, store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Cancel a job where it is not done, and forget it with its result."""
    with archive(store) as opened:
        found = _find(opened, job)
        opened.jobs.forget(found.id)
    if json_:
        answer({"cancelled": found.id})
    else:
        show(f"{found.id}: {'forgotten' if found.is_done else 'cancelled'}")


def _find(opened: Archive, job: str) -> Job:
    from topostrata.errors import InvalidInputError

    starting = [known for known in opened.jobs.page(limit=1000) if known.id.startswith(job)]
    if len(starting) > 1:
        ids = ", ".join(known.id for known in starting[:3])
        raise InvalidInputError(f"job {job!r}: expected the beginning of one id, found {len(starting)}, such as {ids}")
    return starting[0] if starting else opened.jobs.get(job)


def _tell(job: Job, *, json_: bool) -> None:
    from topostrata.service.answers.shape import as_json

    told = as_json(job)
    if json_:
        answer(told)
        return
    lines = {**told, "request": None, **{f"asked {name}": value for name, value in job.request.items()}}
    for name, value in lines.items():
        if value is not None:
            show(f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")


def _about(job: Job) -> str:
    request = job.request
    with suppress(KeyError):
        return f"{request['a']} and {request['b']}"
    if "refs" in request:
        refs = request["refs"]
        return f"{counted(len(refs), 'snapshot')}, {refs[0]} to {refs[-1]}"
    return ", ".join(request["runs"]) if request["runs"] else "all runs"


def _extent(job: Job) -> str:
    return f"{job.done:,} of {job.total:,}" if job.total else ""
