"""Verbs that change what is said of runs, and that take runs away and bring them back."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from topostrata.service.cli.output import JsonFlag, StoreOption, answer, archive, show, table

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run.")]
RunsArgument = Annotated[list[str], typer.Argument(metavar="RUN...", help="The runs.")]
TagsArgument = Annotated[list[str], typer.Argument(metavar="TAG...", help="The tags.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (tag, untag, rename, finish, disown, rm, undelete, purge):
        app.command()(verb)


def tag(
    run: RunArgument, tags: TagsArgument, dry_run: DryRun = False, store: StoreOption = None, json_: JsonFlag = False
) -> None:
    """Give a run tags."""
    _update(run, store, dry_run=dry_run, json_=json_, tags=tags)


def untag(
    run: RunArgument, tags: TagsArgument, dry_run: DryRun = False, store: StoreOption = None, json_: JsonFlag = False
) -> None:
    """Take tags from a run."""
    _update(run, store, dry_run=dry_run, json_=json_, without_tags=tags)


def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    dry_run: DryRun = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Give a run another name to be shown. Its id, by which refs and other runs know it, stays."""
    _update(run, store, dry_run=dry_run, json_=json_, name=name)


def finish(
    run: RunArgument,
    failed: Annotated[bool, typer.Option("--failed", help="It failed.")] = False,
    reopen: Annotated[bool, typer.Option("--reopen", help="It goes on.")] = False,
    dry_run: DryRun = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Say that a run has finished, has failed, or goes on."""
    if failed and reopen:
        raise typer.BadParameter("expected one of the two, found both", param_hint="--failed and --reopen")
    _update(run, store, dry_run=dry_run, json_=json_, status="failed" if failed else "open" if reopen else "finished")


def disown(
    run: RunArgument,
    parent: Annotated[str, typer.Argument(metavar="REF", help="The snapshot that it is said to descend from.")],
    dry_run: DryRun = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Take a declared parent from a run."""
    from topostrata.refs import parse_ref

    _update(run, store, dry_run=dry_run, json_=json_, without_parents=[parse_ref(parent)])


def rm(runs: RunsArgument, dry_run: DryRun = False, store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Hide runs until `undelete` brings them back or `purge` takes them away for good."""
    with archive(store) as opened:
        hidden = opened.remove_runs(runs, dry_run=dry_run)
    if json_:
        answer({"removed": hidden, "dry_run": dry_run})
    else:
        show(f"{', '.join(hidden) or 'none'} {'would be' if dry_run else 'is'} hidden: `topostrata undelete`")


def undelete(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="The runs; none lists them.")] = None,
    dry_run: DryRun = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Bring removed runs back; without a run, list those that can be."""
    with archive(store) as opened:
        if runs:
            opened.bring_back(runs, dry_run=dry_run)
        removed = opened.removed_runs()
    if json_:
        rows = [
            {"run": run.run, "removed_at": run.removed_at.isoformat(), "snapshots": run.snapshots} for run in removed
        ]
        answer({"back": runs or [], "removed": rows, "dry_run": dry_run})
    elif runs:
        show(f"{', '.join(runs)} {'would be' if dry_run else 'is'} back")
    else:
        show(
            table(
                ["run", "removed (UTC)", "snapshots"], [[r.run, str(r.removed_at)[:19], r.snapshots] for r in removed]
            )
        )


def purge(
    runs: RunsArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Take runs away for good, with their connections, their distances, and the masks that no other run has.

    What would go is shown first, and asked for where --yes is not given.
    """
    from dataclasses import asdict

    with archive(store) as opened:
        purged = opened.purge_runs(runs, dry_run=True)
        if not dry_run:
            if not yes:
                if json_ or not sys.stdin.isatty():
                    raise typer.BadParameter("expected it where nobody can be asked", param_hint="--yes")
                typer.confirm(f"Purge {', '.join(runs)} for good: {purged.snapshots} snapshots?", abort=True, err=True)
            purged = opened.purge_runs(runs)
    if json_:
        answer(asdict(purged))
    else:
        show(
            table(
                ["", "would go" if dry_run else "gone"],
                [[k.replace("_", " "), _text(v)] for k, v in asdict(purged).items() if k != "dry_run"],
            )
        )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _update(run: str, store: str | None, *, dry_run: bool, json_: bool, **changes: Any) -> None:
    with archive(store) as opened:
        changed = opened.update_run(run, dry_run=dry_run, **changes)
    if json_:
        answer({"run": run, "changed": changed, "dry_run": dry_run})
    else:
        show(f"{run}: {'nothing to change' if not changed else 'would be changed' if dry_run else 'changed'}")
