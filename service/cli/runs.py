"""Verbs that put snapshots in and look them up: push, ls, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.runs import EVERY_RUN, Connections, How, RunFilter, Status
from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import (
    JsonFlag,
    PngOption,
    StoreOption,
    answer,
    archive,
    counted,
    drawn,
    progress,
    say,
    show,
    table,
    width,
)
from topostrata.service.cli.reading import Reading, SourceArgument, reading_answer, tell, with_reading

if TYPE_CHECKING:
    from rich.console import RenderableType

    from topostrata.archive import Archive
    from topostrata.ingest.pushing import CheckedFiles, Pushed

_WATCHED_EVERY_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(with_reading(push))
    app.command()(with_moment(ls))
    app.command(name="show")(with_moment(show_ref))


def push(
    source: SourceArgument,
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="The run that the snapshots belong to.")],
    reading: Reading,
    step: Annotated[
        list[int] | None,
        typer.Option(
            "--step", metavar="STEP", help="Push only this step; may be repeated. For a single file: its step."
        ),
    ] = None,
    parent: Annotated[
        list[str] | None,
        typer.Option("--parent", metavar="REF", help="The snapshot that the run started from; may be repeated."),
    ] = None,
    how: Annotated[How, typer.Option(help="How the run departed from its parent.")] = "declared",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag for the run; may be repeated.")
    ] = None,
    project: Annotated[
        str,
        typer.Option(
            metavar='all|none|LAYERS|"last N"',
            help="The layers whose connections Cypher can see; with last N all of them, in the newest N snapshots.",
        ),
    ] = "all",
    connections: Annotated[
        Connections, typer.Option(metavar="now|later", help="When they are drawn; later: by `project`, or a service.")
    ] = "now",
    measures: Annotated[
        bool, typer.Option("--measures", help="Store their measures as metrics too, without those of spectra.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with the snapshots that appear in the directory, until Ctrl-C.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not say how the files were read.")] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Put snapshots into the archive. Pushing the same snapshots again changes nothing."""
    from topostrata.ingest.pushing import check_files
    from topostrata.ingest.watching import watch as new_snapshots
    from topostrata.projections import projection_in
    from topostrata.refs import check_run_id
    from topostrata.runs import Parent

    check_run_id(run)
    projection = projection_in(project)
    with progress(f"check {source}") as advance:
        files = check_files(source, steps=step or [], progress=advance, **reading)
    if not quiet and not json_:
        tell(files.wiring, files.evidence, files.notes)
    files.check_projection(projection)
    with archive(store, create=True) as opened, progress(f"push {run}") as advance:
        starts = [opened.snapshot(ref) for ref in parent or []]
        pushed = opened.push_files(
            files,
            run,
            parents=[Parent(start.run, start.step, how) for start in starts],
            tags=tag or [],
            projection=projection,
            connections=connections,
            progress=advance,
        )
        _keep_measures(opened, pushed, wanted=measures)
        behind = [layer for layer in opened.unprojected() if layer.run == run]
        stopped = [layer for layer in behind if layer.projection == "limit"]
        gained = [f"tag {name}" for name in tag or []] + [f"parent {start.id}" for start in starts]
        _show_pushed(pushed, files, gained if pushed.run_changed else [], json_=json_)
        for layer in stopped:
            say(f"note: layer {layer.layer}: Cypher sees its connections up to step {layer.projected_step} only")
        if any(layer.is_behind for layer in behind):
            drawn_by = f"a service draws them, or, where the archive is, `topostrata project {run}`"
            say(f"note: Cypher does not see all connections yet: {drawn_by}")
        if watch:
            for more in new_snapshots(files, _pause):
                pushed = opened.push_files(more, run, projection=projection, connections=connections)
                _keep_measures(opened, pushed, wanted=measures)
                _show_pushed(pushed, more, [], json_=json_)


def _keep_measures(opened: Archive, pushed: Pushed, *, wanted: bool) -> None:
    if wanted:
        opened.keep_measures([f"{pushed.run}@{snapshot.step}" for snapshot in pushed.snapshots], spectra=False)


def _pause() -> bool:
    import time

    time.sleep(_WATCHED_EVERY_S)
    return True


def _show_pushed(pushed: Pushed, files: CheckedFiles, gained: list[str], *, json_: bool) -> None:
    from topostrata.service.answers.runs import push_answer

    done = push_answer(pushed)
    if json_:
        answer({**done, "read": reading_answer(files.wiring, files.evidence, files.notes)})
    else:
        show(_pushed_text(done, gained))


def ls(
    pattern: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run (its snapshots are listed) or a glob of runs.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Runs with this tag; again: with all of them.")
    ] = None,
    status: Annotated[Status | None, typer.Option("--status", help="Runs in this state.")] = None,
    first: Annotated[
        int | None, typer.Option("--from", metavar="STEP", min=0, help="Runs with a snapshot at this step or later.")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--to", metavar="STEP", min=0, help="Runs with a snapshot at this step or earlier.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Runs whose last snapshot has this metric.")
    ] = None,
    at_least: Annotated[
        float | None, typer.Option("--at-least", metavar="NUMBER", help="With --metric: of this value or more.")
    ] = None,
    at_most: Annotated[
        float | None, typer.Option("--at-most", metavar="NUMBER", help="With --metric: of this value or less.")
    ] = None,
    png: PngOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """List the runs, or the snapshots of one run; --png draws the metrics of that run and of its layers."""
    from fnmatch import fnmatchcase

    from topostrata.refs import is_glob
    from topostrata.service.answers.shape import as_json

    if png is not None and (pattern is None or is_glob(pattern)):
        raise typer.BadParameter("expected one run whose metrics are drawn: ls RUN --png FILE", param_hint="--png")
    only = RunFilter(tuple(tag or ()), status, first, last, metric, at_least, at_most)
    if only != EVERY_RUN and pattern is not None and not is_glob(pattern):
        raise typer.BadParameter(f"expected a glob of runs, of which some are listed, found the one run {pattern!r}")
    with archive(store) as opened:
        if pattern is not None and not is_glob(pattern):
            history = opened.snapshots(pattern)
            if png is not None:
                from topostrata.service.plots import metric_curves

                metric_curves(pattern, opened.metrics(pattern), png)
            snapshots = as_json(history)
            if json_:
                answer({"run": pattern, "snapshots": snapshots})
            else:
                show(_snapshots_table(snapshots))
            return
        runs = [as_json(run) for run in opened.runs(only) if pattern is None or fnmatchcase(run.id, pattern)]
    if json_:
        answer({"runs": runs})
    elif runs:
        show(_runs_table(runs))
    else:
        nothing = "" if pattern or only != EVERY_RUN else " yet: `topostrata push DIR --run NAME` adds one"
        say("no runs" + (f" match {pattern!r}" if pattern else "" if nothing else " are such") + nothing)


def show_ref(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A run or a snapshot: RUN, RUN@STEP, RUN@first, RUN@last.")],
    dot: Annotated[
        Path | None, typer.Option("--dot", metavar="FILE", help="Write the wiring as DOT (Graphviz) too.")
    ] = None,
    graphml: Annotated[
        Path | None, typer.Option("--graphml", metavar="FILE", help="Write the wiring as GraphML too.")
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Show one snapshot, its run, its wiring as a picture in text, and its layers."""
    from topostrata import wiring_text
    from topostrata.files import whole
    from topostrata.service.answers import wiring as wirings
    from topostrata.service.answers.runs import layer_answer
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        (entry,) = opened.recorded(ref)
        snapshot = entry.snapshot
        run = as_json(opened.run(snapshot.run))
        topology = opened.topology(entry)
    wiring = topology.wiring
    for path, write in ((dot, wirings.dot), (graphml, wirings.graphml)):
        if path is not None:
            with whole(path) as draft:
                draft.write_text(write(wiring), encoding="utf-8")
    layers = [layer_answer(y, wiring.shared_with.get(y.name), snapshot.layer_metrics.get(y.name, {})) for y in topology]
    if json_:
        document = wiring_text.document(wiring.layers)
        answer({"snapshot": as_json(snapshot), "run": run, "layers": layers, "wiring": document})
        return
    show(
        _runs_table([run]),
        _snapshots_table([as_json(snapshot)]),
        f"digest {snapshot.digest}",
        "",
        drawn(wirings.picture(wiring, width=min(width(), 100))),
        _layers_table(layers),
    )


def _layers_table(layers: list[dict[str, Any]]) -> RenderableType:
    """The layers of a snapshot; groups, ties and metrics have columns where a layer has any."""
    metrics = sorted({name for layer in layers for name in layer["metrics"]})
    columns = ["layer", "from", "to", "taps"]
    columns += ["groups"] if any(layer["groups"] > 1 for layer in layers) else []
    columns += ["tied with"] if any(layer["shared_with"] for layer in layers) else []
    columns += ["connections", "density", "without outputs", "without inputs", *metrics]
    rows = []
    for layer in layers:
        cells = {
            **layer["metrics"],
            "layer": layer["name"],
            "from": f"{layer['source']} {layer['n_source']}",
            "to": f"{layer['target']} {layer['n_target']}",
            "taps": layer["taps"],
            "groups": layer["groups"],
            "tied with": layer["shared_with"],
            "connections": layer["connections"],
            "density": layer["density"],
            "without outputs": layer["dead_sources"],
            "without inputs": layer["dead_targets"],
        }
        rows.append([cells.get(column) for column in columns])
    return table(columns, rows)


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
