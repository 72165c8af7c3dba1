"""Verbs for what training jobs left on the disk: sync, spool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.output import OWN_PROCESS, JsonFlag, answer, counted, drop_answers, say, show, table

if TYPE_CHECKING:
    from topostrata.service.sync import SpoolState

spool = typer.Typer(help="What training jobs left on the disk.", no_args_is_help=True, rich_markup_mode=None)

PathArgument = Annotated[
    Path | None,
    typer.Argument(metavar="SPOOL", help="A spool, or a directory of spools. [default: .topostrata-spool]"),
]
_COLUMNS = ("spool", "run", "live", "ended", "waiting", "sent", "damaged", "store")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(sync)
    app.add_typer(spool, name="spool", cls=app.info.cls)  # which names arguments by a word alone


def sync(
    path: PathArgument = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on while jobs write; Ctrl-C ends.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="PATH_OR_URI",
            help="A directory, neo4j:// or bolt:// of a server, http:// of a service. [default: as the spool says]",
        ),
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Send what training jobs recorded to the archive.

    What is there already stays; a spool that is sent is deleted. The exit status is 1 where something is left.
    """
    _import_driver()
    from topostrata.errors import TopostrataError
    from topostrata.service.sync import Sender, inspect, spools
    from topostrata.settings import load_settings

    settings = load_settings()
    place = settings.spool if path is None else path
    if dry_run:
        _list([inspect(file) for file in spools(place)], json_=json_)
        return
    voice = _Voice(lines=watch and json_)
    with Sender(settings, store=store, tell=voice.tell) as sender:
        try:
            states = sender.watch(place, seen=voice.seen) if watch else sender.send(place)
        except TopostrataError as error:
            if not voice.lines:
                raise
            voice.tell(str(error.code), str(error))
            raise typer.Exit(1) from None
    if json_ and not watch:
        answer([_row(state) for state in states])
    elif not json_:
        added, unchanged = sum(state.added for state in states), sum(state.unchanged for state in states)
        show(f"{counted(len(states), 'spool')}: {counted(added, 'snapshot')} added, {unchanged:,} were there")
    if any(not state.is_sent for state in states):
        raise typer.Exit(1)


class _Voice:
    """Says each thing once: on stderr, or as a line of JSON on stdout for the job whose spool is watched."""

    def __init__(self, *, lines: bool) -> None:
        self.lines = lines
        self._told: set[tuple[str, str]] = set()

    def tell(self, kind: str, message: str) -> None:
        """Say something."""
        if (kind, message) in self._told:
            return
        self._told.add((kind, message))
        if not self.lines:
            say(f"{kind}: {message}")
            return
        try:
            answer({"kind": kind, "message": message})
        except OSError:  # a job that is gone hears nothing, and its snapshots are sent all the same
            drop_answers()

    def seen(self, states: list[SpoolState]) -> None:
        """How much is sent, for who reads lines."""
        if self.lines:
            self.tell("sent", counted(sum(state.added + state.unchanged for state in states), "snapshot"))


def _import_driver() -> None:
    """In a process of its own: the database driver without what it would bring along, where there is one."""
    from importlib.util import find_spec

    if OWN_PROCESS.get() and find_spec("neo4j") is not None:
        from topostrata.store.driver import import_driver_alone

        import_driver_alone()


@spool.command()
def ls(path: PathArgument = None, json_: JsonFlag = False) -> None:
    """List spools, and how far each is sent."""
    from topostrata.service.sync import inspect, spools
    from topostrata.settings import load_settings

    place = load_settings().spool if path is None else path
    _list([inspect(file) for file in spools(place)] if path is not None or place.exists() else [], json_=json_)


@spool.command(name="show")
def show_(file: Annotated[Path, typer.Argument(metavar="FILE", help="A spool.")], json_: JsonFlag = False) -> None:
    """Show what is in a spool, a line for each record."""
    from topostrata.errors import InvalidInputError
    from topostrata.ingest.hook.spool import Damage, RunEnd, SpooledMetrics, SpooledSnapshot, read
    from topostrata.service.sync import spools

    if file.is_dir():
        raise InvalidInputError(
            f"{file}: expected one spool, found a directory", hint=f"`topostrata spool ls {file}` lists its spools"
        )
    rows: list[dict[str, Any]] = []
    for k, entry in enumerate(read(spools(file)[0])):
        value = entry.value
        row: dict[str, Any] = {
            "record": k,
            "kind": type(value).__name__,
            "step": None,
            "connections": None,
            "note": None,
        }
        if isinstance(value, SpooledSnapshot):
            row |= {"kind": "snapshot", "step": value.step, "connections": value.topology.nnz}
        elif isinstance(value, SpooledMetrics):
            count = len(value.metrics) + sum(map(len, value.layer_metrics.values()))
            row |= {"kind": "metrics", "step": value.step, "note": counted(count, "number")}
        elif isinstance(value, RunEnd):
            row |= {"kind": "end", "note": value.status}
        elif isinstance(value, Damage):
            row |= {"kind": "damaged", "note": value.message}
        else:
            row["kind"] = "run" if hasattr(value, "run") else "wiring"
            row["note"] = value.run if hasattr(value, "run") else counted(len(value.layers), "layer")
        rows.append(row)
    if json_:
        answer(rows)
    else:
        show(table(list(rows[0]) if rows else ["record"], [list(row.values()) for row in rows]))


@spool.command()
def clean(
    path: PathArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="Those too that hold what no archive has.")] = False,
    wirings: Annotated[
        bool,
        typer.Option("--wirings", help="The traced wirings of runs without a spool, too; who resumes one traces anew."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only say what would be deleted.")] = False,
    json_: JsonFlag = False,
) -> None:
    """Delete spools whose snapshots are all sent.

    One that a job is writing stays in any case; one whose job may be writing on another machine stays without --all.
    """
    from topostrata.errors import InvalidInputError
    from topostrata.ingest.hook import traced
    from topostrata.ingest.hook.spool import SUFFIX, drafts, run_of
    from topostrata.service.sync import inspect, remove, spools
    from topostrata.settings import load_settings

    place = load_settings().spool if path is None else path
    states = [inspect(file) for file in spools(place)]
    if place.is_file() and place.suffix != SUFFIX:
        raise InvalidInputError(f"{place}: expected a spool, whose name ends in {SUFFIX}, found another file")
    chosen = [
        state.path
        for state in states
        if not state.live and ((state.is_sent and state.is_over) or (all_ and state.path.is_file()))
    ]
    if place.is_dir():
        chosen += drafts(place)
        left = {run_of(state.path) for state in states if state.path not in chosen}
        chosen += [traced.path(place, run) for run in traced.runs(place) if wirings and run not in left]
    for file in chosen if yes else []:
        remove(file)
    if json_:
        answer({"deleted" if yes else "would_delete": [str(file) for file in chosen]})
    else:
        for file in chosen:
            show(f"{'deleted' if yes else 'would delete'} {file}")
        if chosen and not yes:
            say("--yes deletes")


def _list(states: list[SpoolState], *, json_: bool) -> None:
    if json_:
        answer([_row(state) for state in states])
        return
    rows = [
        (
            str(s.path),
            s.run,
            "yes" if s.live else "no",
            "yes" if s.ended else "no",
            s.waiting,
            s.unchanged,
            s.damaged,
            s.store,
        )
        for s in states
    ]
    show(table(_COLUMNS, rows))


def _row(state: SpoolState) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(state), "path": str(state.path), "sent": state.is_sent}
