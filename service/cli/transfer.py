"""Verbs that move runs: export, import, copy; and the whole archive: backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, archive, progress, show

if TYPE_CHECKING:
    from topostrata.archive import Archive
    from topostrata.ingest.transfer import Moved

RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Runs or globs such as 'w*', with their ancestors. [default: all]"),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(with_moment(export))
    app.command(name="import")(import_)
    for verb in (copy, backup, restore):
        app.command()(verb)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as runs.zip.")],
    runs: RunsArgument = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Write runs to one file that any program can read.

    The file is described in docs/export-file.md.
    """
    from topostrata.errors import ConflictError

    if file.exists() and not force:
        raise ConflictError(f"{file}: expected a new file, found one of this name", hint="--force replaces it")
    with archive(store) as opened, progress(f"export {file.name}") as advance:
        done = opened.export(file, runs=_chosen(opened, runs), progress=advance)
    if json_:
        answer(
            {
                "file": str(file),
                "runs": list(done.runs),
                "snapshots": done.snapshots,
                "topologies": done.topologies,
                "bytes": done.bytes,
            }
        )
    else:
        show(f"{file}: {len(done.runs)} runs, {done.snapshots} snapshots, {done.bytes:,} bytes")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `topostrata export` or `backup` wrote.")],
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Runs of the file, with their ancestors. [default: all]")
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Bring the runs of an exported file into the archive.

    Runs that are there already stay as they are; a conflict stops the import. Of a backup, removed runs come where
    they are named or others descend from them.
    """
    from topostrata.errors import InvalidInputError

    if not file.is_file():  # checked before a new archive is created
        raise InvalidInputError(f"{file}: expected a file, found none")
    with archive(store, create=True) as opened, progress(f"import {file.name}") as advance:
        done = opened.import_(file, runs=runs, progress=advance)
        place = opened.location
    _tell(done, str(file), place, json_=json_)


def copy(
    from_: Annotated[str, typer.Argument(metavar="FROM", help="An archive: a directory, or the URI of a server.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="The other archive; a directory is made if missing.")],
    runs: RunsArgument = None,
    json_: JsonFlag = False,
) -> None:
    """Bring runs from one archive into another.

    After an interruption the same command goes on where it stopped.
    """
    with archive(from_) as source, archive(to, create=True) as target, progress("copy") as advance:
        done = source.copy_to(target, runs=_chosen(source, runs), progress=advance)
        places = source.location, target.location
    _tell(done, *places, json_=json_)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, or the last backup of this archive.")],
    force: Annotated[
        bool, typer.Option("--force", help="Let the file lose what the archive has no more, as after a purge.")
    ] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Write the whole archive to one file, while jobs push; into the last backup only what is new.

    It holds all runs, removed ones too, with distances, matches and inferences. `restore` makes an archive of it.
    """
    from dataclasses import asdict

    with archive(store) as opened, progress(f"backup {file.name}") as advance:
        done = opened.backup(file, force=force, progress=advance)
    if json_:
        answer({"file": str(file)} | asdict(done))
    else:
        hidden = f" ({done.removed} of them removed)" if done.removed else ""
        show(
            f"{file}: {done.runs} runs{hidden}, {done.snapshots} snapshots, {done.bytes:,} bytes; "
            f"{done.topologies_added} of {done.topologies} topologies and {done.bytes_added:,} bytes are new"
        )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `topostrata backup` wrote.")],
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Make a new archive of a backup, and compare it with the file.

    After an interruption the same command goes on where it stopped.
    """
    from topostrata.errors import InvalidInputError

    if not file.is_file():  # checked before a new archive is created
        raise InvalidInputError(f"{file}: expected a file, found none")
    with archive(store, create=True) as opened, progress(f"restore {file.name}") as advance:
        done = opened.restore(file, progress=advance)
        place = opened.location
    _tell(done, str(file), place, json_=json_)


def _chosen(opened: Archive, patterns: list[str] | None) -> list[str] | None:
    """The runs that ids and globs name; a glob that names none is an error."""
    from fnmatch import fnmatchcase

    from topostrata.errors import NotFoundError
    from topostrata.refs import is_glob

    if not patterns:
        return None
    ids = [run.id for run in opened.runs()]
    chosen = []
    for pattern in patterns:
        hits = [run for run in ids if fnmatchcase(run, pattern)] if is_glob(pattern) else [pattern]
        if not hits:
            raise NotFoundError(f"{pattern!r}: expected at least one run, found none of {len(ids)}")
        chosen += hits
    return chosen


def _tell(done: Moved, source: str, target: str, *, json_: bool) -> None:
    if json_:
        answer(
            {
                "from": source,
                "to": target,
                "runs": list(done.runs),
                "runs_added": list(done.runs_added),
                "snapshots": done.snapshots,
                "added": done.added,
                "unchanged": done.unchanged,
            }
        )
    elif done.added or done.runs_added:
        show(
            f"{target}: {len(done.runs_added)} runs and {done.added} snapshots added, {done.unchanged} were there; "
            f"all {done.snapshots} read back and equal to those of {source}"
        )
    else:
        show(f"{target}: nothing new, it holds all {done.snapshots} snapshots of {source}")
