"""Verbs that put snapshots in and look them up: push, ls, show."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.output import (
    JsonFlag,
    StoreOption,
    answer,
    archive,
    counted,
    progress,
    say,
    show,
    table,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from topostrata.ingest.load import Projection


class BiasRow(StrEnum):
    """Whether the last row of each matrix is a bias."""

    AUTO = "auto"
    LAST_ROW = "last-row"
    NONE = "none"


class StoredZeros(StrEnum):
    """Whether a stored zero of a sparse matrix is a connection."""

    ABSENT = "absent"
    PRESENT = "present"


class Axes(StrEnum):
    """What the rows of a matrix are: sources (in-out) or targets (out-in)."""

    IN_OUT = "in-out"
    OUT_IN = "out-in"


class How(StrEnum):
    """How a run departed from its parent."""

    RESUME = "resume"
    FORK = "fork"
    PERTURBATION = "perturbation"
    PRUNED = "pruned"
    DECLARED = "declared"


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(push)
    app.command()(ls)
    app.command(name="show")(show_ref)


def push(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A directory of epochs, one epoch, or a .npz or .safetensors file."),
    ],
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="The run that the snapshots belong to.")],
    step: Annotated[
        list[int] | None,
        typer.Option(
            "--step", metavar="STEP", help="Push only this step; may be repeated. For a single file: its step."
        ),
    ] = None,
    bias: Annotated[BiasRow, typer.Option(help="Is the last row of each matrix a bias?")] = BiasRow.AUTO,
    zeros: Annotated[
        StoredZeros | None, typer.Option(help="Is a stored zero a connection? [default: in masks yes, in weights no]")
    ] = None,
    orientation: Annotated[
        Axes | None, typer.Option(help="Are rows sources (in-out) or targets? [default: in-out, safetensors out-in]")
    ] = None,
    parent: Annotated[
        list[str] | None,
        typer.Option("--parent", metavar="REF", help="The snapshot that the run started from; may be repeated."),
    ] = None,
    how: Annotated[How, typer.Option(help="How the run departed from its parent.")] = How.DECLARED,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag for the run; may be repeated.")
    ] = None,
    project: Annotated[
        str, typer.Option(metavar="all|none|LAYERS", help="The layers whose connections Cypher can see.")
    ] = "all",
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Put snapshots into the archive. Pushing the same snapshots again changes nothing."""
    from topostrata.ingest.pushing import check_files
    from topostrata.refs import check_run_id
    from topostrata.runs import Parent
    from topostrata.service.answers.runs import push_answer

    check_run_id(run)
    files = check_files(
        source,
        steps=step or [],
        bias=bias.value,
        zeros=zeros.value if zeros else None,
        orientation=orientation.value if orientation else None,
    )
    projection: Projection = project if project in {"all", "none"} else project.split(",")
    files.check_projection(projection)
    with archive(store, create=True) as opened, progress(f"push {run}") as advance:
        starts = [opened.snapshot(ref) for ref in parent or []]
        pushed = opened.push_files(
            files,
            run,
            parents=[Parent(start.run, start.step, how.value) for start in starts],
            tags=tag or [],
            projection=projection,
            progress=advance,
        )
        stopped = [layer for layer in opened.unprojected() if layer.run == run and layer.projection == "limit"]
    done = push_answer(pushed)
    if json_:
        answer(done)
    else:
        gained = [f"tag {name}" for name in tag or []] + [f"parent {start.id}" for start in starts]
        show(_pushed_text(done, gained if pushed.run_changed else []))
    for layer in stopped:
        say(f"note: layer {layer.layer}: Cypher sees its connections up to step {layer.projected_step} only")


def ls(
    pattern: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run (its snapshots are listed) or a glob of runs.")
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """List the runs, or the snapshots of one run."""
    from fnmatch import fnmatchcase

    from topostrata.refs import is_glob
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        if pattern is not None and not is_glob(pattern):
            snapshots = as_json(opened.snapshots(pattern))
            if json_:
                answer({"run": pattern, "snapshots": snapshots})
            else:
                show(_snapshots_table(snapshots))
            return
        runs = [as_json(run) for run in opened.runs() if pattern is None or fnmatchcase(run.id, pattern)]
    if json_:
        answer({"runs": runs})
    elif runs:
        show(_runs_table(runs))
    else:
        say("no runs" + (f" match {pattern!r}" if pattern else " yet: `topostrata push DIR --run NAME` adds one"))


def show_ref(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A run or a snapshot: RUN, RUN@STEP, RUN@first, RUN@last.")],
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Show one snapshot, its run and its layers."""
    from topostrata.service.answers.runs import layer_answer
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        snapshot = opened.snapshot(ref)
        run = as_json(opened.run(snapshot.run))
        topology = opened.topology(ref)
    layers = [layer_answer(layer) for layer in topology.layers]
    if json_:
        answer({"snapshot": as_json(snapshot), "run": run, "layers": layers})
        return
    rows = [
        [
            y["name"],
            f"{y['source']} {y['n_source']}",
            f"{y['target']} {y['n_target']}",
            y["taps"],
            y["connections"],
            y["density"],
            y["dead_sources"],
            y["dead_targets"],
        ]
        for y in layers
    ]
    show(
        _runs_table([run]),
        _snapshots_table([as_json(snapshot)]),
        f"digest {snapshot.digest}",
        table(["layer", "from", "to", "taps", "connections", "density", "without outputs", "without inputs"], rows),
    )


def _pushed_text(done: dict[str, Any], gained: list[str]) -> str:
    parts = []
    if done["added"]:
        parts.append(f"{counted(len(done['added']), 'snapshot')} added, {done['connections']:,} connections")
    if gained:
        parts.append(f"the run now has {' and '.join(gained)}")
    if done["added"]:
        return f"{done['run']}: {'; '.join(parts)}"
    already = f"{counted(len(done['unchanged']), 'snapshot')} there already"
    return f"{done['run']}: {'; '.join(parts) or 'nothing new'} ({already})"


def _runs_table(runs: list[dict[str, Any]]) -> RenderableType:
    rows = [
        [
            run["run"],
            run["snapshots"],
            run["first_step"],
            run["last_step"],
            run["status"],
            ", ".join(f"{p['parent']}@{p['step']} ({p['how']})" for p in run["parents"]) or None,
            ", ".join(run["tags"]) or None,
            run["created_at"][:19].replace("T", " "),
        ]
        for run in runs
    ]
    return table(["run", "snapshots", "first", "last", "status", "parents", "tags", "created (UTC)"], rows)


def _snapshots_table(snapshots: list[dict[str, Any]]) -> RenderableType:
    metrics = sorted({name for snapshot in snapshots for name in snapshot["metrics"]})
    rows = [
        [
            snapshot["ref"],
            snapshot["epoch"],
            snapshot["connections"],
            *(snapshot["metrics"].get(name) for name in metrics),
            snapshot["digest"][:12],
            snapshot["recorded_at"][:19].replace("T", " "),
        ]
        for snapshot in snapshots
    ]
    return table(["snapshot", "epoch", "connections", *metrics, "digest", "recorded (UTC)"], rows)
