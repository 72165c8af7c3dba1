"""Verbs about metrics over the steps of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.output import JsonFlag, PngOption, StoreOption, answer, archive, say, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(metrics)


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
