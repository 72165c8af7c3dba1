"""The options of verbs that read files: what a person may say where a file does not tell."""

from __future__ import annotations

from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.registry import help_text
from topostrata.service.cli.output import say
from topostrata.words import Bias, FileOrientation, Flatten, Heads, Zeros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from topostrata.topology import Wiring

Reading = dict[str, Any]  # the options of ``topostrata.read`` by their names

_SAID = 8  # layers and notes that are shown, not counted


SourceArgument = Annotated[Path, typer.Argument(metavar="SOURCE", help=help_text())]


def _read_options(
    wiring: Annotated[
        Path | None,
        typer.Option("--wiring", metavar="FILE", help="Which layer feeds which: a text file (docs/wiring.md)."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="NAMES",
            help="The arrays that are layers, in the order of execution: 'a,b,c'; or globs.",
        ),
    ] = None,
    orientation: Annotated[
        FileOrientation | None,
        typer.Option(
            "--orientation",
            help="Rows are sources (in-out; kernels hwio) or targets (out-in, oihw). [default: what the file tells]",
        ),
    ] = None,
    flatten: Annotated[
        Flatten | None,
        typer.Option("--flatten", help="How a linear layer reads a picture. [default: what the file tells]"),
    ] = None,
    bias: Annotated[Bias, typer.Option("--bias", help="Is the last row of each matrix a bias?")] = "auto",
    zeros: Annotated[
        Zeros | None,
        typer.Option(
            "--zeros", help="Is a stored zero a connection? [default: no; in sparse float parameters of torch: yes]"
        ),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            "--heads",
            metavar="NUMBER",
            help="Heads of an attention; 'unknown' holds its units by index. [default: what config.json tells]",
        ),
    ] = None,
    step_from: Annotated[
        str | None,
        typer.Option("--step-from", metavar="REGEX", help="Its first group is the step in the name of a file."),
    ] = None,
    over_time: Annotated[
        bool,
        typer.Option(
            "--over-time",
            help="One file holds several snapshots: the first axis of each array is time, or names begin with a step. "
            "[steps: an array 'steps' of the file, else --step as often, else 0, 1, 2, ...]",
        ),
    ] = False,
) -> Reading:
    # Each name stands once, as a parameter; what is typed is made a value where the two differ.
    typed = dict(locals())
    names = [name.strip() for name in (layers or "").split(",")]
    return {**typed, "layers": tuple(name for name in names if name), "heads": _heads(heads)}


def _heads(heads: str | None) -> Heads | None:
    if heads is None:
        return None
    if heads == "unknown":
        return "unknown"
    if not heads.isdecimal() or len(heads) > 9:
        raise InvalidInputError(f"--heads: expected a number from 1 on, or unknown, found {heads[:40]!r}")
    return int(heads)


def with_reading(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of ``topostrata.read``, in the place of its parameter ``reading``, which takes them all.

    Typer reads options off a signature, so the verb shows it one in which they stand.
    """
    own = signature(verb, eval_str=True)
    options = signature(_read_options, eval_str=True).parameters
    parameters = []
    for name, parameter in own.parameters.items():
        parameters += list(options.values()) if name == "reading" else [parameter]

    @wraps(verb)
    def command(**arguments: Any) -> None:
        reading = _read_options(**{name: arguments.pop(name) for name in options})
        verb(reading=reading, **arguments)

    command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


NOTHING_SAID = _read_options()


def check_reading(reading: Reading, refs: Sequence[str]) -> None:
    """Raise an error where it is said how files are read, and none is named."""
    from topostrata.refs import is_path

    if reading != NOTHING_SAID and not any(is_path(ref) for ref in refs):
        raise typer.BadParameter(f"expected a file, which reading options are for, found only refs: {', '.join(refs)}")


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
    from topostrata.service.answers.runs import shape_answer

    layers = [
        {**shape_answer(layer), "parameter": layer.part.parameter if layer.part else None} for layer in wiring or ()
    ]
    return {"layers": layers, "evidence": list(evidence), "notes": list(notes)}
