"""Verbs about which neuron of one network is which of another: match, align, edits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.distance.alignments import DEFAULT
from topostrata.service.cli.distance import (
    AlignOption,
    FirstArgument,
    PartnersOption,
    SecondArgument,
    check_outputs,
    informed_lines,
    partners_in,
    two_networks,
)
from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, layers_table, say, show, table
from topostrata.service.cli.reading import Reading, with_reading

if TYPE_CHECKING:
    from rich.console import RenderableType

    from topostrata.distance.match import Match, SpaceMatch

_MOST_ROWS = 20


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (match, align, edits):
        app.command()(with_moment(with_reading(verb)))


def match(
    a: FirstArgument,
    b: SecondArgument,
    reading: Reading,
    alignment: AlignOption = DEFAULT,
    alignment_file: PartnersOption = None,
    space: Annotated[
        str | None, typer.Option("--space", metavar="SPACE", help="List the units of this space, such as hidden1.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="ROWS", min=1, help="Most units to list.")] = _MOST_ROWS,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write a row for each unit as CSV.")] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the established units in the graph: relationships MATCHES between neurons."),
    ] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Which neuron of one network is which of another.

    For each unit its counterpart, the connections that both have, how many more these are than with the next best
    unit, and whether it is established. A unit with less than that is unknown.
    """
    from topostrata.distance.match import match as matched
    from topostrata.files import check_target
    from topostrata.service.answers.matching import match_answer

    if csv is not None:
        check_target(csv)
    partners = partners_in(alignment_file, alignment)
    with two_networks([a, b], store, reading) as (opened, first, second):
        if opened is not None and first.entry is not None and second.entry is not None:
            result = opened.match(first.entry, second.entry, alignment=alignment, partners=partners, keep=keep)
        elif keep:
            raise typer.BadParameter("expected two refs of the archive, whose neurons are there, found a file")
        else:
            result = matched(first.topology, second.topology, alignment=alignment, partners=partners)
    if space is not None:
        space = result[space].name
    if csv is not None:
        result.to_csv(csv)
        say(f"wrote {csv}")
    if json_:
        answer(match_answer(first.label, second.label, result, space=space))
        return
    title = f"{first.label} to {second.label}, alignment {result.alignment}: NNSTD {result.nnstd:.4f}"
    show(title, f"{result.established:,} of {result.units:,} units are established", _summary(result), *_untold(result))
    if space is not None:
        show(_units(result[space], limit))
        if result[space].width_a > limit:
            say(f"note: these are {limit} of {result[space].width_a} units; --limit shows more, --csv FILE has all")
    if keep:
        say(f"kept: Cypher walks from {first.label} to {second.label} over {result.established:,} neurons")


def align(
    b: Annotated[str, typer.Argument(metavar="B", help="A ref (run@STEP) or a path: the network to put in order.")],
    to: Annotated[str, typer.Option("--to", metavar="A", help="The network whose order it is put in.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="Write it to this file (.npz, .safetensors), for push to read."),
    ],
    reading: Reading,
    alignment: AlignOption = DEFAULT,
    alignment_file: PartnersOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Write a network with its units in the order of another one.

    Unit i of the file is the counterpart of unit i of A, so that the two are compared by index from now on.
    """
    from topostrata.distance.match import align as aligned
    from topostrata.distance.nnstd import nnstd
    from topostrata.errors import InvalidInputError
    from topostrata.files import check_target
    from topostrata.ingest.formats import snapshot_file

    if check_target(out).suffix not in {".npz", ".safetensors"}:
        raise InvalidInputError(f"{out}: expected a file .npz or .safetensors, found the suffix {out.suffix!r}")
    partners = partners_in(alignment_file, alignment)
    with two_networks([to, b], store, reading) as (_, first, second):
        topology = first.topology
        moved = aligned(second.topology, to=topology, alignment=alignment, partners=partners)
    snapshot_file.write(out, moved)
    say(f"wrote {out}")
    distance = nnstd(topology, moved, alignment="identity").nnstd
    if json_:
        answer({"to": first.label, "of": second.label, "file": str(out), "digest": moved.digest, "nnstd": distance})
        return
    show(f"NNSTD {distance:.4f}   {second.label} in the order of {first.label}, unit by unit")


def edits(
    a: FirstArgument,
    b: SecondArgument,
    reading: Reading,
    alignment: AlignOption = DEFAULT,
    alignment_file: PartnersOption = None,
    unit: Annotated[
        str | None,
        typer.Option("--unit", metavar="SPACE:NUMBER", help="Show what becomes of the inputs of this unit: hidden1:3."),
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", metavar="LAYER", help="List the edits of this layer.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="ROWS", min=1, help="Most edits to list.")] = 1000,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all edits as CSV.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE",
            help="Draw them into this file (.png, .svg, .pdf); with --unit, those of the unit.",
        ),
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """What has to be edited to make one network the other.

    The inputs to delete and to insert, for each layer or for one unit. NNSTD is made of them: the mean over all units
    of edits divided by inputs.
    """
    from topostrata.distance.edits import edits as edited
    from topostrata.distance.edits import parse_unit
    from topostrata.service.answers.matching import edits_answer

    chosen = None if unit is None else parse_unit(unit)
    check_outputs({kind: path for kind, path in (("csv", csv), ("png", picture)) if path})
    partners = partners_in(alignment_file, alignment)
    with two_networks([a, b], store, reading) as (_, first, second):
        result = edited(first.topology, second.topology, alignment=alignment, partners=partners)
    said = edits_answer(first.label, second.label, result, unit=chosen, layer=layer, limit=limit)
    if csv is not None:
        result.to_csv(csv)
        say(f"wrote {csv}")
    if picture is not None:
        from topostrata.service.plots import edit_map

        edit_map(result, picture, unit=chosen)
        say(f"wrote {picture}")
    if json_:
        answer(said)
        return
    title = f"{first.label} to {second.label}, alignment {result.alignment}: NNSTD {result.nnstd:.4f}"
    show(
        title,
        f"{result.total:,} edits: {result.deleted:,} to delete, {result.inserted:,} to insert",
        layers_table(said["layers"]),
    )
    if chosen is not None:
        show(*_unit_tables(said["unit"]))
    if layer is not None:
        columns = ["edit", "source", "target", "tap", "source of B", "target of B"]
        show(layer, table(columns, [list(edit.values())[1:] for edit in said["listed"]]))
        if result.layer(layer).deleted + result.layer(layer).inserted > limit:
            say(f"note: these are {limit}; --limit shows more, --csv FILE has all")


def _unit_tables(unit: dict[str, Any]) -> list[RenderableType]:
    kinds = (("keep", "common"), ("delete", "delete"), ("insert", "insert"))
    rows = [[word, *entry.values()] for word, name in kinds for entry in unit[name]]
    title = f"unit {unit['space']}:{unit['unit']}, B's unit {unit['partner']}: distance {unit['distance']:.4f}"
    return [title, table(["input", "layer", "source", "tap", "source of B"], rows)]


def _summary(result: Match) -> RenderableType:
    rows = [
        [
            space.name,
            space.width_a,
            int(space.established.sum()),
            int((~space.established).sum()),
            int((space.common == 0).sum()),
            float(space.common.mean()),
            float(space.margin.mean()),
        ]
        for space in result.spaces
    ]
    return table(
        ["space", "units", "established", "unknown", "nothing in common", "in common, mean", "margin, mean"], rows
    )


def _untold(result: Match) -> list[str]:
    """What is to say of spaces in which nothing is established."""
    lines = [
        f"{space.name}: no more in common than independent networks have, so that all units are unknown"
        for space in result.spaces
        if not space.told
    ]
    return [*lines, *informed_lines(result.distance.informed)]


def _units(space: SpaceMatch, limit: int) -> RenderableType:
    columns = ("partner", "common_in", "common_out", "margin", "score")
    rows = zip(*(getattr(space, name)[:limit].tolist() for name in columns), strict=True)
    known = space.established.tolist()
    listed = [[unit, *row, "established" if known[unit] else "unknown"] for unit, row in enumerate(rows)]
    return table(["unit", "counterpart", "common in", "common out", "margin", "score", ""], listed)
