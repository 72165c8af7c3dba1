"""Verbs about metrics over the steps of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import JsonFlag, PngOption, StoreOption, answer, archive, say, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (metrics, flow):
        app.command()(with_moment(verb))


def metrics(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Only the metric of this name.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="NAME", help="Only those of this layer or parameter.")
    ] = None,
    png: PngOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """The metrics of a run over its steps, also those of layers and parameters.

    Those of its snapshots, and those that it has at other steps, such as gradient flow.
    """
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        history = opened.metrics(run, metric=metric, layer=layer)
    if png is not None:
        from topostrata.service.plots import metric_curves

        metric_curves(run, history, png)
    entries = as_json(history)
    if json_:
        answer({"run": run, "metrics": entries})
    elif entries:
        show(_table(entries))
    else:
        say(f"run {run!r} has no such metrics" if metric or layer else f"run {run!r} has no metrics")


def flow(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN...", help="Runs and globs of runs. [all]")] = None,
    correlate: Annotated[
        str | None, typer.Option("--correlate", metavar="METRIC", help="How it goes with this metric at the end.")
    ] = None,
    moments: Annotated[
        int, typer.Option("--moments", metavar="N", min=1, help="The steps over which it is averaged.")
    ] = 11,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """The gradient flow of runs, averaged over their training; --correlate: Kendall's tau with a metric."""
    from topostrata.service.answers.shape import as_json

    patterns = runs or "*"
    with archive(store) as opened:
        flows = as_json(opened.gradient_flows(patterns, moments=moments))
        correlations = as_json(opened.flow_correlations(correlate, patterns, moments=moments) if correlate else [])
    if json_:
        answer({"runs": flows, "correlations": correlations})
        return
    heads = {"run": "run", **{name: name.replace("_", " ") for name in (flows[0] if flows else {}) if name[0] in "eg"}}
    show(table(list(heads.values()), [[entry[name] for name in heads] for entry in flows]))
    if correlations:
        columns = ("measure", "n", "tau", "low", "high", "p_value")
        show(f"Kendall's tau with {correlate} at the end, with its 95 % interval:")
        show(table([name.replace("_", "-") for name in columns], [[y[name] for name in columns] for y in correlations]))


def _table(entries: Sequence[dict[str, Any]]) -> Any:
    """A row for the run and for each layer at each step, a column for each metric."""
    rows = [
        (entry["step"], layer, numbers)
        for entry in entries
        for layer, numbers in [(None, entry["metrics"]), *entry["layer_metrics"].items()]
        if numbers
    ]
    names = sorted({name for _, _, numbers in rows for name in numbers})
    cells = [[step, layer, *(numbers.get(name) for name in names)] for step, layer, numbers in rows]
    return table(["step", "layer", *names], cells)
