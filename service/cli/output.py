"""How a verb answers: the answer on stdout, as a table or as JSON; progress and errors on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from topostrata.archive import Archive
    from topostrata.errors import TopostrataError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH_OR_URI",
        help="Where the archive is: a directory, or neo4j:// or bolt:// of a server. [default: .topostrata]",
    ),
]


class Advance(Protocol):
    """Tells a progress bar how much is done."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """``done`` of ``total`` are done."""


def answer(value: Any) -> None:
    """Print an answer as JSON, on one line where nobody reads along."""
    sys.stdout.write(
        json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, allow_nan=False) + "\n"
    )
    sys.stdout.flush()


def show(*parts: RenderableType) -> None:
    """Print tables, trees and lines for a reader."""
    console = _console(stderr=False)
    for part in parts:
        console.print(part, highlight=False, soft_wrap=isinstance(part, str), markup=False)


def say(text: str) -> None:
    """Say something beside the answer, on stderr."""
    _console(stderr=True).print(text, highlight=False, soft_wrap=True, markup=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> RenderableType:
    """A table; columns of numbers stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    each = [list(row) for row in rows]
    for k, name in enumerate(columns):
        numeric = bool(each) and all(isinstance(row[k], int | float) or row[k] is None for row in each)
        made.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in each:
        made.add_row(*(Text(_cell(value)) for value in row))
    return made


def layers_table(layers: Sequence[Mapping[str, object]], *, without: Sequence[str] = ()) -> RenderableType:
    """The JSON of layers as a table: every column that it has, but for those ``without``."""
    columns = [name for name in layers[0] if name not in without]
    heads = ["layer" if name == "name" else name.replace("_", " ") for name in columns]
    return table(heads, [[layer[name] for name in columns] for layer in layers])


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """A progress bar on stderr, where that is a terminal."""
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
    """The archive that the command works on, closed afterwards."""
    from topostrata.archive import open_archive

    with open_archive(store, create=create) as opened:
        yield opened


def tell_of_compiling() -> None:
    """Let the library's word that it compiles, which takes a while, be heard on stderr."""

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"{record.getMessage()} ...")

    logger = logging.getLogger("topostrata.distance.compiling")
    logger.setLevel(logging.INFO)
    logger.addHandler(Said())


def report(error: TopostrataError, *, as_json: bool) -> None:
    """Print an error on stderr: what is wrong, and what to do."""
    if as_json:
        problem = {"code": str(error.code), "message": error.message, "hint": error.hint}
        sys.stderr.write(json.dumps({"error": problem}, ensure_ascii=False) + "\n")
        return
    say(f"error: {error.message}")
    if error.hint:
        say(f"  try: {error.hint}")


def width() -> int:
    """The characters that a line of the answer may have."""
    return _console(stderr=False).width


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # A pipe has no width: let rows be as long as they are, so that `grep` and `awk` see whole lines.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100_000
    return Console(stderr=stderr, width=width)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}" if abs(value) >= 1000 or value == int(value) else f"{value:.4f}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
