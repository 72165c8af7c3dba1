"""The verb that looks into files before anything is pushed: inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.output import JsonFlag, answer, say, show, table
from topostrata.service.cli.reading import Reading, SourceArgument, reading_answer, with_reading

if TYPE_CHECKING:
    from topostrata.ingest.inspection import Inspection


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(name="inspect")(with_reading(inspect_files))


def inspect_files(
    source: SourceArgument,
    reading: Reading,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write the wiring to this text file, to be edited.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Show what is in a file and how it would be read; nothing is stored."""
    from topostrata.files import whole
    from topostrata.ingest.inspection import inspect

    inspection = inspect(source, **reading)
    if json_:
        answer(inspection_answer(inspection))
    else:
        _show(inspection)
    if write is not None:
        text = inspection.to_toml()
        with whole(write) as draft:
            draft.write_text(text, encoding="utf-8")
        say(f"wrote {write}" + (": a draft to edit, see docs/wiring.md" if inspection.question else ""))


def inspection_answer(inspection: Inspection) -> dict[str, Any]:
    """What was seen, as JSON."""
    from topostrata.service.answers.shape import as_json

    return {
        "path": inspection.path,
        "steps": list(inspection.steps),
        "arrays": [as_json(array) for array in inspection.arrays],
        "read": None
        if inspection.question
        else reading_answer(inspection.wiring, inspection.evidence, inspection.notes),
        "question": inspection.question,
        "way_out": inspection.way_out,
    }


def _show(inspection: Inspection) -> None:
    if inspection.steps:
        shown = ", ".join(map(str, inspection.steps[:12])) + (", ..." if len(inspection.steps) > 12 else "")
        show(f"{inspection.path}: {len(inspection.steps)} snapshots, steps {shown}; the first:")
    if inspection.arrays:
        rows = [
            [
                array.name,
                " x ".join(map(str, array.shape)),
                array.dtype if array.layout == "dense" else f"{array.dtype} {array.layout}",
                array.density,
                array.stored_zeros if array.layout != "dense" else None,
                array.role,
                array.why,
                array.layer if array.taken else None,
            ]
            for array in inspection.arrays
        ]
        show(table(["array", "shape", "type", "density", "stored zeros", "role", "because", "read as layer"], rows))
    if inspection.question is not None:
        show("nothing would be read:", f"  {inspection.question}")
        if inspection.way_out:
            show(f"  try: {inspection.way_out}")
        return
    if inspection.wiring is not None:
        rows = [
            [
                layer.name,
                f"{layer.source.name} {layer.source.size}",
                f"{layer.target.name} {layer.target.size}",
                layer.taps,
                layer.groups,
            ]
            for layer in inspection.wiring
        ]
        show("would be read as", table(["layer", "from", "to", "taps", "groups"], rows))
    show(*(f"  {reason}" for reason in inspection.evidence), *(f"note: {note}" for note in inspection.notes))
