"""A guard for pipelines: check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.distance import OnlyOption
from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.networks import networks
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, counted, report, show, table
from topostrata.service.cli.reading import NOTHING_SAID, Reading, check_reading, with_reading

if TYPE_CHECKING:
    from topostrata.measures.rules import BrokenRule, Checked
    from topostrata.topology import Topology


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(with_moment(with_reading(check)))


def check(
    network: Annotated[
        list[str], typer.Argument(metavar="NETWORK...", help="Refs (run@STEP), globs of them, or paths to files.")
    ],
    reading: Reading,
    same_as: Annotated[
        str | None,
        typer.Option("--as", metavar="NETWORK", help="It has the connections of this ref or file, unit by unit."),
    ] = None,
    within: Annotated[
        str | None, typer.Option("--within", metavar="NETWORK", help="It has no connection that this one has not.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            metavar="N:M",
            help="Of M neighbouring inputs of a unit (at each tap of a kernel), at most N are connected: 2:4.",
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(
            "--density", metavar="SHARE", help="At most this share of all possible connections, 0 to 1, rounded up."
        ),
    ] = None,
    constant_fan_in: Annotated[
        bool, typer.Option("--constant-fan-in", help="Units of a layer that have inputs have equally many.")
    ] = False,
    no_collapse: Annotated[
        bool,
        typer.Option("--no-collapse", help="Each layer has a connection on a path from the inputs to the outputs."),
    ] = False,
    only: OnlyOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Whether networks still keep to what they were made for; exit 1 where a rule is broken.

    For pipelines that fine-tune, merge an adapter or export: is it still the mask? The exit status is 0 where every
    rule is kept, 1 where one is broken, 2 where that cannot be told.
    """
    from topostrata.errors import TopostrataError
    from topostrata.measures.rules import check as checked

    refs = [ref for ref in (*network, same_as, within) if ref is not None]
    try:
        if not any((same_as, within, pattern, density is not None, constant_fan_in, no_collapse)):
            raise typer.BadParameter("expected a rule, such as --as w0@50, --pattern 2:4 or --no-collapse, found none")
        check_reading(reading, refs)
        models = {ref: _model(ref, store, reading) for ref in (same_as, within) if ref is not None}
        results = {
            label: checked(
                topology,
                same_as=models.get(same_as or ""),
                within=models.get(within or ""),
                pattern=pattern,
                density=density,
                constant_fan_in=constant_fan_in,
                no_collapse=no_collapse,
                layers=only,
            )
            for label, topology in _read(network, store, reading)
        }
    except TopostrataError as error:
        report(error, as_json=json_)
        raise typer.Exit(2) from error
    if json_:
        answer({"passed": all(result.passed for result in results.values()), "networks": _as_json(results)})
    else:
        _show(results)
    if not all(result.passed for result in results.values()):
        raise typer.Exit(1)


def _read(refs: list[str], store: str | None, reading: Reading) -> list[tuple[str, Topology]]:
    from topostrata.refs import is_path

    return networks(refs, store, reading if any(is_path(ref) for ref in refs) else NOTHING_SAID)


def _model(ref: str, store: str | None, reading: Reading) -> Topology:
    models = _read([ref], store, reading)
    if len(models) > 1:
        raise typer.BadParameter(f"{ref!r}: expected one network to compare with, found {len(models)}")
    return models[0][1]


def _as_json(results: dict[str, Checked]) -> list[dict[str, Any]]:
    from topostrata.service.answers.shape import as_json

    return [{"network": label, "passed": result.passed, **as_json(result)} for label, result in results.items()]


def _show(results: dict[str, Checked]) -> None:
    for label, result in results.items():
        rules = ", ".join(result.rules)
        if result.passed:
            show(f"{label}: {rules}: kept in {counted(len(result.layers), 'layer')}")
            continue
        show(f"{label}: {rules}: broken in {counted(len(result.broken), 'place')}")
        rows = [
            [fault.rule, fault.layer or "all", fault.expected, fault.found, fault.count, _where(fault)]
            for fault in result.broken
        ]
        show(table(["rule", "layer", "expected", "found", "times", "first at"], rows))


def _where(fault: BrokenRule) -> str | None:
    if fault.target is None:
        return None
    if fault.source is None:
        return f"target {fault.target}"
    return f"source {fault.source}, target {fault.target}" + (f", tap {fault.tap}" if fault.tap else "")
