"""What networks have in common: core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topostrata.distance.alignments import DEFAULT
from topostrata.service.cli.distance import AlignOption, OnlyOption
from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.networks import networks
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, say, show, table
from topostrata.service.cli.reading import Reading, with_reading

if TYPE_CHECKING:
    from rich.console import RenderableType

    from topostrata.measures.core import Core


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(with_moment(with_reading(core)))


def core(
    refs: Annotated[
        list[str], typer.Argument(metavar="REF...", help="Refs or globs ('w*@last'), or paths (DIR@50, a file).")
    ],
    reading: Reading,
    alignment: AlignOption = DEFAULT,
    only: OnlyOption = None,
    draws: Annotated[
        int,
        typer.Option("--draws", metavar="COUNT", min=0, max=1000, help="Degree-kept copies that give chance; 0: none."),
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", min=0, help="Which copies.")] = 0,
    at_least: Annotated[
        int | None,
        typer.Option("--at-least", metavar="COUNT", min=1, help="With --out: what so many networks have, or more."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write that network (.npz, .safetensors): a mask to train on."),
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """How many connections are in exactly k of n networks: core, shell and pan-network.

    Units are matched with those of the first network (--alignment identity: they are in place). Beside each count
    stands that of random networks of the same degrees, which are matched as well.
    """
    from topostrata.files import check_target
    from topostrata.ingest.formats import snapshot_file
    from topostrata.measures.core import core as core_of
    from topostrata.service.answers.measures import core_answer

    if (at_least is None) != (out is None):
        raise typer.BadParameter("expected --at-least and --out together, found one of them")
    if out is not None and check_target(out).suffix not in {".npz", ".safetensors"}:
        raise typer.BadParameter(f"{out}: expected a file .npz or .safetensors, found the suffix {out.suffix!r}")
    named = networks(refs, store, reading)
    if at_least is not None and at_least > len(named):
        raise typer.BadParameter(f"--at-least: expected 1 to {len(named)} networks, found {at_least}")
    result = core_of([topology for _, topology in named], alignment=alignment, layers=only, draws=draws, seed=seed)
    if at_least is not None and out is not None:
        snapshot_file.write(out, result.at_least(at_least))
        say(f"wrote {out}")
    if json_:
        answer(core_answer([label for label, _ in named], result))
    else:
        first = f"; units as in {named[0][0]}" if alignment != "identity" else ""
        chance = f", chance by {draws} draws, seed {seed}" if draws else ""
        show(f"connections in exactly k of {len(named)} networks, alignment {alignment}{first}{chance}", _table(result))


def _table(result: Core) -> RenderableType:
    """A row for each k at which there is a connection, from the core down."""
    heads = ["k"]
    columns: list[list[int]] = [[result.networks - k for k in range(result.networks)]]
    for layer in result.layers:
        heads.append(layer.name)
        columns.append(list(reversed(layer.exactly)))
        if layer.chance is not None:
            heads.append("by chance")
            columns.append([round(mean) for mean in reversed(layer.chance)])  # of several draws; JSON has the fractions
    rows = [row for row in zip(*columns, strict=True) if any(row[1:])]
    return table(heads, [*rows, ["all", *map(sum, columns[1:])]])
