"""Write docs/cli.md, the reference of the command line and of the settings: ``python docs/make_cli.py``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, ParameterInfo

from topostrata.service.cli.main import app
from topostrata.settings import PREFIX, Settings

TARGET = Path(__file__).with_name("cli.md")

_HEAD = """\
# The command line

This page is made from the help of the verbs by `python docs/make_cli.py`; `topostrata VERB -h` shows the same.

* A snapshot is named by a **ref**: `RUN@STEP`, `RUN@first`, `RUN@last`, or `RUN` for its last one. A glob such as
  `'w*@last'` or `'w0@*'` names a set of them; quote it, so that the shell leaves it alone.
* What holds a `/` or begins with a dot is a **path** to files: `./a.npz`, `DIR/epoch_050`, `DIR@50`.
* The answer goes to stdout, as tables or with `--json` as one JSON document. Progress, notes and errors go to stderr;
  with `--json` an error is a JSON document too. A table that is too wide for the terminal is laid on its side. Into a
  pipe lines are as long as they are.
* The exit status is 0 when the work is done, 1 when it failed, 2 when the command was not understood, and 130 after
  Ctrl-C.
"""

_SETTINGS = """\
## Settings

Settings are read from the environment. An option beats its setting. Any other name that begins with `TOPOSTRATA_` is an
error. `topostrata doctor` shows the settings in force.

| setting | default | what it is |
| --- | --- | --- |
"""


@dataclass(frozen=True)
class Verb:
    """A verb as it is typed, and the function behind it."""

    name: str
    function: Callable[..., Any]

    @property
    def summary(self) -> str:
        """The first sentence of its help, without the full stop."""
        return self.text.split("\n")[0].split(". ")[0].rstrip(".")

    @property
    def text(self) -> str:
        """Its help."""
        return inspect.getdoc(self.function) or ""

    def parameters(self) -> Iterator[Parameter]:
        """Its arguments and options, in order."""
        hints = get_type_hints(self.function, include_extras=True)
        for name, parameter in inspect.signature(self.function).parameters.items():
            kind, *about = get_args(hints[name]) or (hints[name],)
            info = next((note for note in about if isinstance(note, ParameterInfo)), None)
            if info is not None:
                yield Parameter(name.strip("_"), kind, info, parameter.default)


@dataclass(frozen=True)
class Parameter:
    """An argument or an option of a verb."""

    name: str
    kind: Any
    info: ParameterInfo
    default: Any

    @property
    def is_argument(self) -> bool:
        """Whether it is told by its place."""
        return isinstance(self.info, ArgumentInfo)

    @property
    def required(self) -> bool:
        """Whether the verb needs it."""
        return self.default is inspect.Parameter.empty

    @property
    def words(self) -> str:
        """What is typed."""
        if self.is_argument:
            word = (self.info.metavar or self.name.upper()) + ("..." if "list" in str(self.kind) else "")
            return word if self.required else f"[{word}]"
        declared = [self.info.default, *(self.info.param_decls or ())]  # Typer takes the first for a default
        names = [name for name in declared if isinstance(name, str)]
        option = self.name.replace("_", "-")
        if self.kind is bool:
            return ", ".join(names or [f"--{option}", f"--no-{option}"])
        return f"{', '.join(names or [f'--{option}'])} {self.info.metavar or '|'.join(choices(self.kind))}"

    def line(self) -> str:
        """Its entry in the reference."""
        notes = []
        if self.required and not self.is_argument:
            notes.append("required")
        if self.kind is bool:
            notes += ["default: yes"] if self.default is True else []
        elif self.default not in {inspect.Parameter.empty, None}:
            notes.append(f"default: {self.default.value if isinstance(self.default, Enum) else self.default}")
        if self.info.min is not None:
            notes.append(f"{self.info.min:g} {'or more' if self.info.max is None else f'to {self.info.max:g}'}")
        return f"* `{self.words}`: {self.info.help}" + (f" [{'; '.join(notes)}]" if notes else "")


def choices(kind: Any) -> list[str]:
    """The values that an option of fixed values takes."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return [str(member) for member in kind]
    return [value for member in get_args(kind) for value in choices(member)]


def verbs(of: typer.Typer = app, prefix: str = "") -> Iterator[Verb]:
    """Every verb, those of groups as ``engine status``."""
    for command in of.registered_commands:
        assert command.callback is not None
        yield Verb(prefix + (command.name or command.callback.__name__), command.callback)
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield from verbs(group.typer_instance, f"{prefix}{group.name} ")


def section(verb: Verb) -> str:
    """What the reference says of a verb."""
    parameters = list(verb.parameters())
    usage = [parameter.words for parameter in parameters if parameter.is_argument or parameter.required]
    optional = any(not parameter.is_argument and not parameter.required for parameter in parameters)
    call = " ".join(["topostrata", verb.name, *usage, *(["[OPTIONS]"] if optional else [])])
    lines = "\n".join(parameter.line() for parameter in parameters)
    return f"## {verb.name}\n\n    {call}\n\n{verb.text}\n" + (f"\n{lines}\n" if lines else "")


def settings() -> str:
    """The table of the settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default in {None, ""} else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |\n")
    return _SETTINGS + "".join(rows)


def reference() -> str:
    """The page as text."""
    contents = "".join(f"| [{verb.name}](#{verb.name.replace(' ', '-')}) | {verb.summary} |\n" for verb in verbs())
    table = (
        f"| verb | what it does |\n| --- | --- |\n{contents}| [settings](#settings) | What can be set from outside |\n"
    )
    root = "`topostrata --version` shows the version; `topostrata -h` and `topostrata help VERB` show the help.\n"
    return "\n".join([_HEAD, root, table, *(section(verb) for verb in verbs()), settings()])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
