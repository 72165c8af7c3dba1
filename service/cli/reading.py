"""The options of verbs that read files: what a person may say where a file does not tell."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.registry import help_text
from topostrata.service.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from topostrata.ingest.formats.reading import ReadOptions
    from topostrata.topology import Wiring

_SAID = 8  # layers and notes that are shown, not counted


class BiasRow(StrEnum):
    """Whether the last row of each matrix is a bias."""

    AUTO = "auto"
    LAST_ROW = "last-row"
    NONE = "none"


class StoredZeros(StrEnum):
    """What a stored zero of a sparse matrix is."""

    ABSENT = "absent"
    PRESENT = "present"


class Axes(StrEnum):
    """The order of a matrix's or kernel's axes."""

    IN_OUT = "in-out"
    OUT_IN = "out-in"
    OIHW = "oihw"
    HWIO = "hwio"


class Picture(StrEnum):
    """How a linear layer reads a picture."""

    CHANNELS_FIRST = "channels-first"
    CHANNELS_LAST = "channels-last"


SourceArgument = Annotated[Path, typer.Argument(metavar="SOURCE", help=help_text())]
WiringOption = Annotated[
    Path | None,
    typer.Option("--wiring", metavar="FILE", help="Which layer feeds which: a text file (docs/wiring.md)."),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers", metavar="NAMES", help="The arrays that are layers, in the order of execution: 'a,b,c'; or globs."
    ),
]
OrientationOption = Annotated[
    Axes | None,
    typer.Option(
        "--orientation",
        help="Rows are sources (in-out; kernels hwio) or targets (out-in, oihw). [default: what the file tells]",
    ),
]
FlattenOption = Annotated[
    Picture | None,
    typer.Option("--flatten", help="How a linear layer reads a picture. [default: what the file tells]"),
]
BiasOption = Annotated[BiasRow, typer.Option("--bias", help="Is the last row of each matrix a bias?")]
HeadsOption = Annotated[
    str | None,
    typer.Option(
        "--heads",
        metavar="NUMBER",
        help="Heads of an attention; 'unknown' holds its units by index. [default: what config.json tells]",
    ),
]
ZerosOption = Annotated[
    StoredZeros | None,
    typer.Option(
        "--zeros", help="Is a stored zero a connection? [default: no; in sparse float parameters of torch: yes]"
    ),
]
StepFromOption = Annotated[
    str | None,
    typer.Option("--step-from", metavar="REGEX", help="Its first group is the step in the name of a file."),
]


def read_options(
    wiring: Path | None,
    layers: str | None,
    orientation: Axes | None,
    flatten: Picture | None,
    bias: BiasRow,
    zeros: StoredZeros | None,
    heads: str | None,
    step_from: str | None,
) -> ReadOptions:
    """The options as ``topostrata.read`` takes them."""
    return {
        "wiring": wiring,
        "layers": [name.strip() for name in layers.split(",") if name.strip()] if layers else (),
        "orientation": orientation.value if orientation else None,
        "flatten": flatten.value if flatten else None,
        "bias": bias.value,
        "zeros": zeros.value if zeros else None,
        "heads": _heads(heads),
        "step_from": step_from,
    }


def _heads(heads: str | None) -> int | Literal["unknown"] | None:
    if heads is None:
        return None
    if heads == "unknown":
        return "unknown"
    if not heads.isdecimal() or len(heads) > 9:
        raise InvalidInputError(f"--heads: expected a number from 1 on, or unknown, found {heads[:40]!r}")
    return int(heads)


def wiring_text(wiring: Wiring) -> str:
    """A wiring in a line: layers with their widths, taps and groups."""
    parts = []
    for layer in wiring:
        more = f", {layer.taps} taps" if layer.taps > 1 else ""
        more += f", {layer.groups} groups" if layer.groups > 1 else ""
        parts.append(f"{layer.name} {layer.source.size}-{layer.target.size}{more}")
    beyond = f"; and {len(parts) - _SAID} more" if len(parts) > _SAID else ""
    return "; ".join(parts[:_SAID]) + beyond


def tell(wiring: Wiring | None, evidence: Iterable[str], notes: Iterable[str]) -> None:
    """Say on stderr how files were read: the layers, how that is known, and what was left out."""
    if wiring is not None:
        say(f"read as {wiring_text(wiring)}")
    for reason in evidence:
        say(f"  {reason}")
    notes = list(notes)
    for note in notes[:_SAID]:
        say(f"note: {note}")
    if len(notes) > _SAID:
        say(f"note: and {len(notes) - _SAID} more; `topostrata inspect` shows them")


def reading_answer(wiring: Wiring | None, evidence: Iterable[str], notes: Iterable[str]) -> dict[str, Any]:
    """The same as JSON."""
    layers = [
        {
            "name": layer.name,
            "source": layer.source.name,
            "target": layer.target.name,
            "n_source": layer.source.size,
            "n_target": layer.target.size,
            "taps": layer.taps,
            "groups": layer.groups,
            "parameter": layer.part.parameter if layer.part else None,
        }
        for layer in wiring or ()
    ]
    return {"layers": layers, "evidence": list(evidence), "notes": list(notes)}
