"""The verb about the structure panel: the measures that papers print of sparse networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, archive, progress, show, table

if TYPE_CHECKING:
    from collections.abc import Mapping

# The measures of a layer in the order of docs/measures.md, by the heads of their columns.
_COLUMNS = {
    "connections": "connections",
    "active_rate": "active rate",
    "effective_connections": "effective",
    "fan_in_cv": "fan-in cv",
    "fan_out_cv": "fan-out cv",
    "assortativity": "assortativity",
    "fan_in_power_law.exponent": "fan-in exponent",
    "fan_in_power_law.x_min": "from",
    "fan_out_power_law.exponent": "fan-out exponent",
    "fan_out_power_law.x_min": "from",
    "ramanujan.gap": "Ramanujan gap",
    "ramanujan.gap_of_degrees": "gap of degrees",
    "explored": "explored",
}
_WHOLE = {
    "connections": "connections",
    "active_rate": "active rate",
    "effective_connections": "effective connections",
    "effective_units": "effective units",
    "effective_paths_log10": "effective paths, log10",
    "fan_in_cv": "fan-in cv",
    "fan_out_cv": "fan-out cv",
    "assortativity": "assortativity",
    "explored": "explored",
}
_DEGREES_ALONE = ("connections", "active_rate", "fan_in_", "fan_out_", "explored")


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(with_moment(measures))


def measures(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A snapshot: RUN, RUN@STEP, RUN@first, RUN@last.")],
    null: Annotated[
        int,
        typer.Option("--null", metavar="N", min=0, help="Measure N copies beside it in which only degrees are kept."),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", metavar="SEED", min=0, help="The seed of the first copy.")] = 0,
    no_spectra: Annotated[
        bool, typer.Option("--no-spectra", help="Leave out the Ramanujan gaps, which take the longest.")
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Store them as metrics of the snapshots that REF names, a glob too ('w0@*')."),
    ] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """The measures that papers print of a snapshot's layers and of the whole.

    Effective paths, connections and units, degrees and their power laws, assortativity, Ramanujan gaps.
    """
    from topostrata.service.answers.measures import snapshot_answer

    if keep:
        if null:
            raise typer.BadParameter("expected no copies beside measures that are kept", param_hint="--null")
        with archive(store) as opened, progress("measure") as advance:
            refs = [str(ref) for ref in opened.keep_measures(ref, spectra=not no_spectra, progress=advance)]
        answer({"kept": refs}) if json_ else show(
            f"snapshots with new metrics: {len(refs):,} (`topostrata metrics RUN` shows them)"
        )
        return
    with archive(store) as opened:
        (entry,) = opened.recorded(ref)
        measured = opened.measures(entry, null=null, seed=seed, spectra=not no_spectra)
    panel = snapshot_answer(entry.snapshot.id, measured)
    if json_:
        answer(panel)
        return
    heads = ["layer", *_COLUMNS.values()]
    show(table(heads, [[layer["name"], *_values(layer, _COLUMNS)] for layer in panel["layers"]]))
    show(table(list(_WHOLE.values()), [_values(panel, _WHOLE)]))
    paths = panel["effective_paths"]
    show(f"effective paths: {paths:,}" if paths is not None else panel["refused"]["effective_paths"])
    if null:
        varying = {name: head for name, head in _COLUMNS.items() if not name.startswith(_DEGREES_ALONE)}
        whole = {name: head for name, head in _WHOLE.items() if not name.startswith(_DEGREES_ALONE)}
        show(f"the same on {null} networks by chance in which each unit has its degrees (from seed {seed} on):")
        show(table(["layer", *varying.values()], [[y["name"], *_levels(y["null"], varying)] for y in panel["layers"]]))
        show(table(list(whole.values()), [_levels(panel["null"], whole)]))


def _values(measured: Mapping[str, Any], names: Mapping[str, str]) -> list[object]:
    values: list[object] = []
    for name in names:
        part, _, inner = name.partition(".")
        value = measured[part]
        values.append(value[inner] if inner and value is not None else value)
    return values


def _levels(null: Mapping[str, Any], names: Mapping[str, str]) -> list[str | None]:
    """Means with the spread of single copies."""
    levels = [null.get(name) or {"mean": None, "std": None} for name in names]
    return [None if y["mean"] is None else _level(y["mean"], y["std"]) for y in levels]


def _level(mean: float, std: float | None) -> str:
    return f"{mean:.6g}" if std is None else f"{mean:.6g} +- {std:.2g}"
