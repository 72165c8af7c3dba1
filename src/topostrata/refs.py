"""``run@step`` and friends: how snapshots, sets of snapshots and files are named on every face of the product."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from topostrata.errors import InvalidRefError

Step = int | Literal["first", "last"]

MAX_STEP = 2**53 - 1  # the largest integer that JSON readers keep exactly
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,256}")
_STEPS = re.compile(r"[A-Za-z0-9*?\[\]!-]{1,64}")
_FORMS = "expected run, run@STEP, run@first or run@last"


@dataclass(frozen=True, slots=True)
class Ref:
    """One snapshot of one run: a step, or ``first`` / ``last`` of what the run holds when it is asked.

    >>> parse_ref("w0@50"), str(parse_ref("w0"))
    (Ref(run='w0', step=50), 'w0@last')
    """

    run: str
    step: Step = "last"

    def __str__(self) -> str:
        return f"{self.run}@{self.step}"


@dataclass(frozen=True, slots=True)
class PathRef:
    """A topology in files: a file or a directory, and the epoch where the directory holds several."""

    path: Path
    step: Step = "last"

    def __str__(self) -> str:
        return str(self.path) if self.step == "last" else f"{self.path}@{self.step}"


def check_run_id(run: str) -> str:
    """The run's id, or an error that says what ids look like."""
    if not isinstance(run, str) or not _RUN_ID.fullmatch(run):
        raise InvalidRefError(
            f"run id: expected a letter or digit, then up to 127 letters, digits, '.', '_' or '-', found {run!r:.160}"
        )
    return run


def check_step(step: int) -> int:
    """The step as a plain int, or an error: steps are whole numbers (NumPy's too) from 0 to 2**53 - 1."""
    try:
        number = -1 if isinstance(step, bool) else operator.index(step)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_STEP:
        raise InvalidRefError(f"step: expected a whole number from 0 to {MAX_STEP}, found {step!r}")
    return number


def parse_ref(text: str) -> Ref:
    """Read one ref; a bare run means its last snapshot."""
    run, at, step = text.partition("@")
    check_run_id(run)
    return Ref(run, _parse_step(text, step) if at else "last")


def check_run_pattern(pattern: str) -> str:
    """A run's id or a glob of ids, or an error: what is matched with every id of the archive is of bounded length."""
    if not _PATTERN.fullmatch(pattern):
        raise InvalidRefError(f"{pattern[:80]!r}: expected a run or a glob of runs such as 'w*'")
    return pattern


def is_glob(text: str) -> bool:
    """Whether the text stands for a set of snapshots: ``w*@last``, ``w0@*``."""
    return any(c in text for c in "*?[")


def is_path(text: str) -> bool:
    """Whether an argument on the command line is a path: it holds a ``/`` or starts with ``.``; all else is a ref."""
    return "/" in text or text.startswith(".")


def parse_path_ref(text: str) -> PathRef:
    """``DIR``, ``FILE``, ``DIR/epoch_050`` or ``DIR@50``; an ``@`` that belongs to an existing name is left alone."""
    head, at, step = text.rpartition("@")
    if not at or Path(text).exists():
        return PathRef(Path(text))
    return PathRef(Path(head), _parse_step(text, step))


def expand(patterns: Iterable[str], snapshots: Iterable[tuple[str, int]]) -> list[Ref]:
    """The snapshots that the refs and globs name, in the order of the patterns, each once.

    ``snapshots`` are all (run, step) of the archive. A glob may stand for the run, for the step, or both. A ref or
    glob that names nothing is an error: a set that is quietly smaller than asked for would give a wrong picture.
    """
    if isinstance(patterns, str):
        patterns = [patterns]
    steps: dict[str, list[int]] = {}
    for run, step in snapshots:
        steps.setdefault(run, []).append(step)
    refs: dict[Ref, None] = {}
    for pattern in patterns:
        hits = _expand_one(pattern, steps)
        if not hits:
            raise InvalidRefError(
                f"{pattern[:80]!r}: expected at least one snapshot, found none",
                hint=f"the archive holds {_some(sorted(steps))}",
            )
        refs.update(dict.fromkeys(hits))
    return list(refs)


def _expand_one(pattern: str, steps: dict[str, list[int]]) -> list[Ref]:
    run_glob, at, step_text = pattern.partition("@")
    if not _PATTERN.fullmatch(run_glob) or (is_glob(step_text) and not _STEPS.fullmatch(step_text)):
        raise InvalidRefError(f"{pattern[:80]!r}: {_FORMS}, or a glob such as 'w*@last' or 'w0@*'")
    hits: list[Ref] = []
    for run in sorted((r for r in steps if fnmatchcase(r, run_glob)), key=_natural):
        recorded = sorted(steps[run])
        if at and is_glob(step_text):
            hits.extend(Ref(run, s) for s in recorded if fnmatchcase(str(s), step_text))
            continue
        step = _parse_step(pattern, step_text) if at else "last"
        step = recorded[0] if step == "first" else recorded[-1] if step == "last" else step
        if step in recorded:
            hits.append(Ref(run, step))
    return hits


def _parse_step(text: str, step: str) -> Step:
    if step == "first":
        return "first"
    if step == "last":
        return "last"
    if step.isascii() and step.isdigit() and len(step) <= len(str(MAX_STEP)) and int(step) <= MAX_STEP:
        return int(step)
    raise InvalidRefError(f"{text[:80]!r}: {_FORMS}")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _some(runs: list[str], most: int = 5) -> str:
    if not runs:
        return "no runs"
    more = f" and {len(runs) - most} more" if len(runs) > most else ""
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(runs[:most])}{more}"
