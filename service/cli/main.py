"""``stratigraph VERB``: the verbs, and how their errors end."""

from __future__ import annotations

import os
import sys

import typer

from stratigraph.errors import Code, StratigraphError
from stratigraph.service.cli import answers, demo, descent, evolving, moving, serving, snapshots
from stratigraph.service.cli.output import report

_MISUSE = {Code.INVALID_REF, Code.SETTINGS}
_BROKEN_PIPE = 141  # as a shell says it: 128 + SIGPIPE

app = typer.Typer(
    name="stratigraph",
    help="An archive of how sparse neural networks' wiring evolves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (snapshots, answers, evolving, descent, moving, serving, demo):
    group.register(app)


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    """What holds for all verbs."""
    if version:
        from stratigraph import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line: exit 0 when done, 1 when it failed, 2 when it was asked wrongly."""
    try:
        app()
    except StratigraphError as error:
        report(error, as_json="--json" in sys.argv)
        sys.exit(2 if error.code in _MISUSE else 1)
    except BrokenPipeError:  # `stratigraph ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
