"""How a verb answers: the answer on stdout, as a table or as JSON; progress and errors on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from topostrata.archive import Archive
    from topostrata.errors import TopostrataError
    from topostrata.runs import Unprojected

# Whether the process runs only this command: then leaving out imports can disturb no other code.
OWN_PROCESS = ContextVar("OWN_PROCESS", default=False)
# The earlier moment that the verb is about; None: now.
AS_OF = ContextVar[int | None]("AS_OF", default=None)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH_OR_URI",
        help="Where the archive is: a directory, neo4j:// or bolt:// of a server, or http:// or https:// of a service. "
        "[default: .topostrata]",
    ),
]
PngOption = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Draw it into this file (.png, .svg, .pdf).")
]

GAP = 2  # characters between two columns of a table
_LONGEST_WORD = 20
_UNBOUNDED = 100_000  # characters


class Advance(Protocol):
    """Tells a progress bar how much is done."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """``done`` of ``total`` are done."""


def answer(value: Any) -> None:
    """Print an answer as JSON: indented on a terminal, else on one line. It says the moment, where one was named."""
    if AS_OF.get() is not None:
        value = {**value, "as_of": AS_OF.get()}
    sys.stdout.write(
        json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, allow_nan=False) + "\n"
    )
    sys.stdout.flush()


def drop_answers() -> None:
    """Let go what cannot be written to stdout: Python flushes it at exit, which would fail again with status 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def show(*parts: RenderableType) -> None:
    """Print tables, trees and lines for a reader."""
    console = _console(stderr=False)
    for part in parts:
        console.print(part, highlight=False, soft_wrap=isinstance(part, str), markup=False)


def say(text: str) -> None:
    """Print a note on stderr, beside the answer."""
    _console(stderr=True).print(text, highlight=False, soft_wrap=True, markup=False)


def drawn(picture: str) -> str:
    """A picture in lines, without the characters that the terminal cannot show."""
    encoding = sys.stdout.encoding or "ascii"
    return picture if "utf" in encoding.lower() else picture.translate(str.maketrans("═║╠╚↻", "=|++@"))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> RenderableType:
    """A table with numbers aligned to the right. A table that is too wide for the terminal is transposed."""
    values = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in values]
    numeric = [
        bool(values) and all(isinstance(row[k], int | float) or row[k] is None for row in values)
        for k in range(len(columns))
    ]
    least = [max(map(_least_width, (head, *(row[k] for row in cells)))) for k, head in enumerate(columns)]
    if cells and sum(least) + GAP * len(least) > width():
        return _on_its_side(columns, cells)
    return _grid(columns, cells, least, numeric)


def _on_its_side(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> RenderableType:
    """The transposed table, in several tables below one another if the terminal is too narrow for one."""
    from rich.console import Group

    names = max(map(len, columns))
    widest = max(_least_width(cell) for row in cells for cell in row)
    count = max(1, (width() - names - 2 * GAP) // (widest + GAP))
    blocks = [cells[k : k + count] for k in range(0, len(cells), count)]
    return Group(
        *(
            _grid(
                [columns[0], *(row[0] for row in block)],
                [[name, *(row[k] for row in block)] for k, name in enumerate(columns[1:], start=1)],
                [names, *(widest for _ in block)],
                [False, *(True for _ in block)],
            )
            for block in blocks
        )
    )


def _grid(
    heads: Sequence[str], cells: Sequence[Sequence[str]], least: Sequence[int], right: Sequence[bool]
) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        box=SIMPLE_HEAD, show_header=any(heads), pad_edge=False, padding=(0, GAP - 1, 0, 0)
    )  # the box adds one character
    for head, characters, numeric in zip(heads, _widths(heads, cells, least), right, strict=True):
        grid.add_column(Text(head), justify="right" if numeric else "left", overflow="fold", width=characters)
    for row in cells:
        grid.add_row(*map(Text, row))
    return grid


def _widths(heads: Sequence[str], cells: Sequence[Sequence[str]], least: Sequence[int]) -> list[int]:
    """The width of each column: that of its longest cell, or less if the line would be too long."""
    lines = [text.splitlines() or [""] for column in zip(heads, *cells, strict=True) for text in column]
    longest = [max(map(len, line)) for line in lines]
    rows = len(cells) + 1
    widths = [max(longest[k : k + rows]) for k in range(0, len(longest), rows)]
    excess = sum(widths) + GAP * len(widths) - width()
    while excess > 0:
        k = max(range(len(widths)), key=lambda k: widths[k] - least[k])
        if widths[k] <= least[k]:
            break
        widths[k] -= 1
        excess -= 1
    return widths


def _least_width(text: str) -> int:
    """The characters that a cell needs so that no word of usual length is broken."""
    return min(max(map(len, text.split()), default=0), _LONGEST_WORD)


def layers_table(layers: Sequence[Mapping[str, object]], *, without: Sequence[str] = ()) -> RenderableType:
    """The JSON of layers as a table of all its columns, except those in ``without``."""
    columns = [name for name in layers[0] if name not in without]
    heads = ["layer" if name == "name" else name.replace("_", " ") for name in columns]
    return table(heads, [[layer[name] for name in columns] for layer in layers])


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """A progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)


@contextmanager
def archive(store: str | None, *, create: bool = False) -> Iterator[Archive]:
    """The archive that the command works on, at the moment that ``--as-of`` names, closed afterwards."""
    if OWN_PROCESS.get():
        from topostrata.store.driver import import_driver_alone

        import_driver_alone()
    from topostrata.service.opening import open_archive

    moment = AS_OF.get()
    with open_archive(store, create=create) as opened:
        yield opened if moment is None else opened.at(moment)


def tell_of_compiling() -> None:
    """Show on stderr when the library compiles its kernels, which takes a while."""

    class ToStderr(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"{record.getMessage()} ...")

    logger = logging.getLogger("topostrata.distance.compiling")
    logger.setLevel(logging.INFO)
    logger.addHandler(ToStderr())


def report(error: TopostrataError, *, as_json: bool) -> None:
    """Print an error on stderr: what is wrong, and what to do."""
    if as_json:
        problem = {"code": str(error.code), "message": error.message, "hint": error.hint}
        sys.stderr.write(json.dumps({"error": problem}, ensure_ascii=False) + "\n")
        return
    say(f"error: {error.message}")
    if error.hint:
        say(f"  {error.hint}" if error.hint.startswith("did you mean") else f"  try: {error.hint}")


def counted(number: int, noun: str) -> str:
    """``1 snapshot``, ``2 snapshots``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def projected_extent(layer: Unprojected) -> str:
    """How much of a layer the graph holds, for Cypher to see."""
    where = f"run {layer.run}, layer {layer.layer}"
    if layer.projected_step is None:
        return f"{where}: none of its connections are in the graph"
    start = "" if layer.projected_from is None else f" from step {layer.projected_from} on"
    if layer.projected_step == layer.last_step:
        return f"{where}: connections are in the graph{start}; the masks have those of before (`topostrata evolution`)"
    return (
        f"{where}: connections are in the graph{start} up to step {layer.projected_step}, "
        f"the run goes on to {layer.last_step}"
    )


def width() -> int:
    """The characters that a line of the answer may have."""
    return _console(stderr=False).width


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # A pipe has no width: rows are not wrapped there, so that `grep` and `awk` see whole lines.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _UNBOUNDED
    return Console(stderr=stderr, width=width)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}" if abs(value) >= 1000 or value == int(value) else f"{value:.4f}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
