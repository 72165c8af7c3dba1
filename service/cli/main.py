"""``topostrata VERB``: all verbs, and the exit status after an error."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperGroup

from topostrata.errors import Code, InvalidInputError, LimitError, TopostrataError
from topostrata.service.cli import (
    check,
    core,
    cypher,
    demo,
    distance,
    evolution,
    inspect,
    jobs,
    lifecycle,
    lineage,
    matching,
    measures,
    metrics,
    moments,
    operation,
    related,
    runs,
    sync,
    token,
    transfer,
)
from topostrata.service.cli.output import OWN_PROCESS, drop_answers, report, say, tell_of_compiling

_NAME = "topostrata"
_INTERRUPTED = 130
_UsageError: Any = typer.BadParameter.__base__  # of whichever click Typer brings
_MENDS = {
    errno.ENOSPC: "free some space on the disk, then run the command again",
    errno.EDQUOT: "free some of your quota, then run the command again",
    errno.EACCES: "let this user read and write it, or name another file",
    errno.EROFS: "name a file on a disk that can be written",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EAGAIN: "raise the limit of processes and threads (ulimit -u)",
    errno.ENAMETOOLONG: "name a file with a shorter name",
}
# Without a file's name they come from stdout: who writes a file says which (files.py).
_OF_WRITING = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
_MISUSE = {Code.INVALID_REF, Code.SETTINGS}


class Verbs(TyperGroup):
    """The verbs. Help shows the names of arguments only: Typer would add their Python types."""

    def get_command(self, *arguments: Any) -> Any:
        """The verb of a name, or None."""
        command = super().get_command(*arguments)
        for verb in (command, *getattr(command, "commands", {}).values()):
            for parameter in verb.params if verb is not None else ():
                if isinstance(parameter, TyperArgument):
                    parameter.display_type_rich = lambda **_: ""  # type: ignore[method-assign]
        return command


app = typer.Typer(
    name=_NAME,
    cls=Verbs,
    help="An archive of how sparse neural networks' wiring evolves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    runs,
    metrics,
    moments,
    inspect,
    distance,
    matching,
    evolution,
    measures,
    lineage,
    related,
    core,
    check,
    cypher,
    transfer,
    sync,
    lifecycle,
    operation,
    jobs,
    token,
    demo,
):
    group.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from topostrata import __version__

        typer.echo(f"{_NAME} {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """An archive of how sparse neural networks' wiring evolves."""


@app.command(name="help")
def help_(
    verb: Annotated[list[str] | None, typer.Argument(metavar="VERB", help="A verb, such as push.")] = None,
) -> None:
    """Show the help of a verb, or of all."""
    app([*(verb or []), "--help"], prog_name=_NAME)


def main() -> None:
    """Run the command line: exit 0 when done, 1 when it failed, 2 when the command was not understood."""
    if sys.stdout is None:  # closed by the parent process: nobody reads the answer
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    OWN_PROCESS.set(True)
    tell_of_compiling()
    as_json = "--json" in sys.argv
    try:
        status = app(
            prog_name=_NAME, standalone_mode=not as_json
        )  # else Typer tells in words what it did not understand
        sys.exit(status if isinstance(status, int) else 0)
    except TopostrataError as error:
        report(error, as_json=as_json)
        sys.exit(2 if error.code in _MISUSE else 1)
    except _UsageError as error:
        verb = getattr(getattr(error, "ctx", None), "command_path", _NAME)
        report(InvalidInputError(error.format_message(), hint=f"`{verb} --help` says what it takes"), as_json=True)
        sys.exit(2)
    except typer.Abort:
        report(InvalidInputError("not confirmed: nothing was done", hint="--yes does not ask"), as_json=True)
        sys.exit(1)
    except OSError as error:
        report(_told(error), as_json=as_json)
        sys.exit(1)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        report(
            LimitError("expected to start a thread, found no room for one more", hint=_MENDS[errno.EAGAIN]),
            as_json=as_json,
        )
        sys.exit(1)
    except SystemExit as ended:  # typer has caught the interrupt
        if ended.code == _INTERRUPTED:
            say("interrupted; what was stored stays stored, and it is safe to run the command again")
        raise


def _told(error: OSError) -> InvalidInputError:
    """What the system refused, of which file, and what to do."""
    reason = error.strerror or str(error)
    if error.filename is None and error.errno in _OF_WRITING:
        drop_answers()  # the work is done, but its answer cannot be written
        return InvalidInputError(f"the answer cannot be written: {reason}")
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return InvalidInputError(f"{where}{reason}", hint=_MENDS.get(error.errno or 0))


if __name__ == "__main__":
    main()
