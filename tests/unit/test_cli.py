"""The command line as a whole: its version, its help, its reference, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import topostrata
from topostrata.service.cli.main import app
from topostrata.settings import PREFIX, Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"

INTERRUPTED = """
import sys
from topostrata.service.cli import main
@main.app.command()
def stop() -> None:
    raise KeyboardInterrupt
sys.argv = ["topostrata", "stop"]
main.main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "topostrata.service.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def verbs(group: Any = None, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb as it is typed, and its command."""
    group = group or typer.main.get_command(app)
    for name in group.commands:
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            yield from verbs(command, *path, name)
        else:
            yield (*path, name), command


def test_an_interrupted_verb_says_how_to_go_on() -> None:
    """Ctrl-C: 130, as a shell has it, one line on stderr, nothing on stdout."""
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr == "interrupted; what was stored stays stored, and it is safe to run the command again\n"


def test_what_is_not_understood_is_json_where_json_is_wanted() -> None:
    """On stderr, with the verb's help as what to do; without `--json` in words; the exit status is 2 in both."""
    for arguments, words in (
        (("nnstd",), "Missing argument 'A'"),
        (("nnstd", "a", "b", "--alignment", "none"), "'none' is not one of"),
        (("ls", "--limitless"), "--limitless"),
        (("related", "w0@1", "w1@1", "--tests", "0"), "--tests"),
        (("serves",), "No such command 'serves'"),
        (("core", "a", "b", "--at-least", "2"), "together, found one"),
    ):
        ran = run(*arguments, "--json")
        assert (ran.returncode, ran.stdout) == (2, ""), arguments
        problem = json.loads(ran.stderr)["error"]
        assert problem["code"] == "invalid-input"
        assert words in problem["message"], problem
        assert "--help` says what it takes" in problem["hint"]
        plain = run(*arguments)
        assert (plain.returncode, plain.stdout) == (2, "")
        assert plain.stderr.startswith("Usage: topostrata")
    helped = run("ls", "--json", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("Usage: topostrata ls")


def test_the_version_is_shown() -> None:
    """`topostrata --version` gives the name and the version, and exit status 0."""
    ran = run("--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"topostrata {topostrata.__version__}\n", "")


@pytest.mark.parametrize("verb", [(), ("ls",), ("engine",), ("engine", "stop")])
def test_help_is_found_in_every_way(verb: tuple[str, ...]) -> None:
    """`VERB -h`, `VERB --help` and `help VERB` show the same."""
    usage = f"Usage: {' '.join(('topostrata', *verb))} "
    shown = {run(*verb, "--help").stdout, run(*verb, "-h").stdout, run("help", *verb).stdout}
    assert len(shown) == 1
    assert shown.pop().startswith(usage)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has a disk that is full")
def test_what_the_system_refuses_is_told_as_what_it_is() -> None:
    """A file's name stands before the reason; an answer that cannot be written is one; with `--json` both are JSON."""
    name = "a" * 300
    ran = run("inspect", name)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"error: {name}: File name too long\n  try: name a file with a shorter name\n"
    problem = json.loads(run("inspect", name, "--json").stderr)["error"]
    assert problem["message"] == f"{name}: File name too long"
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "topostrata.service.cli.main", "--version"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "error: the answer cannot be written: No space left on device\n")


def test_help_of_what_is_no_verb_is_misuse() -> None:
    """`help NOTHING` ends as `NOTHING` does: exit status 2, the reason on stderr."""
    ran = run("help", "nothing")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "No such command 'nothing'" in ran.stderr


def test_help_names_values_by_words() -> None:
    """What stands for a value is a word in capitals or the list of its values, never a type of Python."""
    for path, command in verbs():
        context = command.make_context(" ".join(path), [], resilient_parsing=True)
        text = command.get_help(context)
        typed = re.findall(r"^ +(?:\S+ )?(<[^>]*>)", text, flags=re.MULTILINE)
        assert [value for value in typed if "|" not in value] == [], path
        assert re.findall(r"\b(TEXT|INTEGER|FLOAT|PATH|RANGE)\b", text) == [], path


def test_every_verb_that_reads_takes_a_moment() -> None:
    """All that answer about runs have `--as-of`, and none that writes, looks after an archive or lists moments."""
    reading = {
        "ls", "show", "metrics", "flow", "nnstd", "distances", "match", "align", "edits", "evolution", "history",
        "survival", "connections", "structure", "measures", "lineage", "timeline", "related", "core", "check",
        "cypher", "export",
    }  # fmt: skip
    options = {path[0]: {name for option in command.params for name in option.opts} for path, command in verbs()}
    assert {verb for verb, names in options.items() if "--as-of" in names} == reading


@pytest.mark.checkout
def test_the_reference_is_up_to_date() -> None:
    """docs/cli.md is what `python docs/make_cli.py` writes."""
    spec = importlib.util.spec_from_file_location("make_cli", DOCS / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    make_cli = importlib.util.module_from_spec(spec)
    sys.modules["make_cli"] = make_cli  # where a dataclass looks its module up
    spec.loader.exec_module(make_cli)
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == make_cli.reference(), "run docs/make_cli.py"


@pytest.mark.checkout
def test_the_reference_is_complete() -> None:
    """docs/cli.md has a section for each verb with all its arguments and options, and a row for each setting."""
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## ([a-z ]+)\n(.*?)(?=^## )", text, flags=re.MULTILINE | re.DOTALL))
    assert list(sections) == [" ".join(path) for path, _ in verbs()]
    for path, command in verbs():
        entries = [word for entry in re.findall(r"^\* `([^`]+)`", sections[" ".join(path)], re.MULTILINE) for word in
                   re.split(r"[ ,]+", entry)]  # fmt: skip
        options = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
        missing = [name for name in options if name.startswith("-") and name not in {*entries, "-h", "--help"}]
        assert missing == [], path
        arguments = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
        assert [name for name in arguments if name not in " ".join(entries)] == [], path
    settings = re.findall(rf"^\| `({PREFIX}\w+)`", text, flags=re.MULTILINE)
    assert settings == [PREFIX + name.upper() for name in Settings.model_fields]
