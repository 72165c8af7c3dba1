"""``topostrata VERB``: the verbs, and how their errors end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from topostrata.errors import Code, TopostrataError
from topostrata.service.cli import cypher, demo, distance, evolution, lineage, operation, runs, transfer
from topostrata.service.cli.output import report, say, tell_of_compiling

_INTERRUPTED = 130
_MISUSE = {Code.INVALID_REF, Code.SETTINGS}

app = typer.Typer(
    name="topostrata",
    help="An archive of how sparse neural networks' wiring evolves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (runs, distance, evolution, lineage, cypher, transfer, operation, demo):
    group.register(app)


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    """What holds for all verbs."""
    if version:
        from topostrata import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line: exit 0 when done, 1 when it failed, 2 when it was asked wrongly."""
    if sys.stdout is None:  # closed by who started us: there is nobody to answer
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    tell_of_compiling()
    try:
        app()
    except TopostrataError as error:
        report(error, as_json="--json" in sys.argv)
        sys.exit(2 if error.code in _MISUSE else 1)
    except OSError as error:
        # What was asked is done; it cannot be told. Nothing more must be written, by Python's own last flush neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        say(f"error: the answer cannot be written: {error.strerror}")
        sys.exit(1)
    except SystemExit as ended:  # typer has caught the interrupt
        if ended.code == _INTERRUPTED:
            say("interrupted; what the archive was told already is not done again")
        raise


if __name__ == "__main__":
    main()
