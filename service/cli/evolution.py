"""Verbs about what happens inside a run: evolution, history, survival, connections, structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import (
    JsonFlag,
    PngOption,
    StoreOption,
    answer,
    archive,
    layers_table,
    say,
    show,
    table,
)
from topostrata.words import ConnectionStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_ROWS = 20

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run.")]
FromOption = Annotated[
    int | None, typer.Option("--from", metavar="STEP", help="The earlier step. [default: the first]")
]
ToOption = Annotated[int | None, typer.Option("--to", metavar="STEP", help="The later step. [default: the last]")]
ParentsFlag = Annotated[
    bool, typer.Option("--through-parents", help="Begin in the runs that this one resumed or was forked from.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (evolution, history, survival, connections, structure):
        app.command()(with_moment(verb))


def evolution(
    run: RunArgument,
    from_: FromOption = None,
    to: ToOption = None,
    through_parents: ParentsFlag = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """What survived, regrew, died and was born between two steps."""
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        change = as_json(opened.evolution(run, from_, to, through_parents=through_parents))
    if json_:
        answer(change)
        return
    turnover = ("dropped", "grown", "regrown_at_once")
    unknown = [name for name in turnover if all(layer[name] is None for layer in change["layers"])]
    title = f"{change['from_run']}@{change['from']} to {run}@{change['to']}"
    show(title, layers_table(change["layers"], without=unknown))
    if unknown:
        say("what was dropped and regrown at once is not known: run.log(dropped=, grown=) records it")


def history(
    run: RunArgument,
    through_parents: ParentsFlag = False,
    png: PngOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Births, deaths, regrowth and exploration at each snapshot."""
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        followed = opened.history(run, through_parents=through_parents)
    series = as_json(followed)
    if png is not None:
        from topostrata.service.plots import births_and_deaths

        births_and_deaths(followed, png)
        say(f"wrote {png}")
    if json_:
        answer(series)
        return
    total = series["total"]
    columns = [name for name in total if name != "name"]
    rows = list(zip(series["refs"], *(total[name] for name in columns), strict=True))
    show("all layers together", table(["snapshot", *columns], _thinned(rows)))
    ends = [[y["name"], y["density"][-1], y["exploration"][-1]] for y in series["layers"]]
    if (rewired := series["rewired"]) is not None:
        ends.append(["not always full", rewired["density"][-1], rewired["exploration"][-1]])
    show("at the last snapshot", table(["layer", "density", "exploration"], ends))


def survival(
    run: RunArgument,
    from_: FromOption = None,
    through_parents: ParentsFlag = False,
    png: PngOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """How long the connections of a run live.

    What is left of those alive at a step, and the Kaplan-Meier estimate of their lifetimes.
    """
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        lives = opened.history(run, through_parents=through_parents).survival(from_)
    curves = as_json(lives)
    if png is not None:
        from topostrata.service.plots import survival_curves

        survival_curves(lives, png)
        say(f"wrote {png}")
    if json_:
        answer(curves)
        return
    whole = curves["total"] if curves["rewired"] is None else curves["rewired"] | {"name": "not always full"}
    layers = [*curves["layers"], whole]
    rows = [[ref, *(f"{layer['share'][k]:.1%}" for layer in layers)] for k, ref in enumerate(curves["refs"])]
    show(
        f"share of the connections alive at {curves['from']} that are alive at every snapshot since",
        table(["snapshot", *(layer["name"] for layer in layers)], _thinned(rows)),
    )
    lifetimes = [
        [
            layer["name"],
            layer["kaplan_meier"]["median"],
            sum(layer["kaplan_meier"]["deaths"]),
            layer["kaplan_meier"]["censored"],
            layer["kaplan_meier"]["left_truncated"],
        ]
        for layer in layers
    ]
    heads = ["layer", "median life, steps", "ended", "alive at the end", "of unknown age, left out"]
    show("lifetimes (Kaplan-Meier; a death is counted at the first snapshot after it)", table(heads, lifetimes))


def connections(
    run: RunArgument,
    layer: Annotated[str, typer.Option("--layer", metavar="LAYER", help="The layer.")],
    status: Annotated[ConnectionStatus, typer.Option(help="Which connections.")],
    from_: FromOption = None,
    to: ToOption = None,
    through_parents: ParentsFlag = False,
    limit: Annotated[int, typer.Option("--limit", metavar="ROWS", min=1, help="Most connections to print.")] = 1000,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """The connections of a layer by what became of them.

    Those that survived, died, were born or regrew between two steps.
    """
    from topostrata.service.answers.evolution import connections_answer

    with archive(store) as opened:
        changes = opened.connections(run, layer, from_, to, through_parents=through_parents)
    cells = changes.of(status)
    rows = connections_answer(changes, cells[:limit])
    if json_:
        answer({"run": run, "layer": layer, "status": status, "count": cells.size, "connections": rows})
        return
    show(table(["source", "tap", "target"], [list(row.values()) for row in rows]))
    if cells.size > limit:
        say(f"note: these are {limit} of {cells.size}; --limit shows more")


def structure(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A snapshot: RUN, RUN@STEP, RUN@first, RUN@last.")],
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Fan-in, fan-out, hubs and dead units of a snapshot.

    Also the connections that lie on a path from input to output.
    """
    from topostrata.service.answers.measures import snapshot_answer

    with archive(store) as opened:
        (entry,) = opened.recorded(ref)
        shape = snapshot_answer(entry.snapshot.id, opened.structure(entry))
    if json_:
        answer(shape)
        return
    rows = []
    for space in shape["spaces"]:
        for side, degrees in (("inputs", space["fan_in"]), ("outputs", space["fan_out"])):
            if degrees is not None:
                rows.append([f"{space['name']}, {side}", space["size"], *_degree_cells(degrees)])
    show(table(["units", "number", "mean", "cv", "gini", "without any", "most connections (unit)"], rows))
    show(layers_table(shape["layers"]))


def _degree_cells(degrees: dict[str, Any]) -> Iterable[object]:
    hubs = ", ".join(f"{hub['connections']} ({hub['unit']})" for hub in degrees["hubs"][:3])
    return degrees["mean"], degrees["cv"], degrees["gini"], len(degrees["dead"]), hubs


def _thinned(rows: Sequence[Sequence[object]]) -> Sequence[Sequence[object]]:
    """A readable number of rows, the first and the last among them; --json prints all."""
    if len(rows) <= _MOST_ROWS:
        return rows
    say(f"note: these are {_MOST_ROWS} of {len(rows)} snapshots; --json gives all")
    return [rows[round(k * (len(rows) - 1) / (_MOST_ROWS - 1))] for k in range(_MOST_ROWS)]
