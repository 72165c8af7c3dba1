"""Directories of snapshots: which of their entries is which step, and which only look like one.

``epoch_010/``, ``step_10/``, ``checkpoint-2000/``, ``epoch_000.npz``, ``epoch=9-step=1000.ckpt``, or whatever
``step_from`` says. A snapshot is a directory with one layer per file, a directory with one network, a checkpoint of
Orbax (whose manager calls a step by its number alone), or a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats import registry
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.layer_files import children, has_layer_files, read_layer_files
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.orbax_directory import tree_in
from topostrata.refs import MAX_STEP

_WORDS = "step|steps|global_step|iter|iteration|checkpoint|ckpt|snapshot|mask|masks"
_KEYED = re.compile(r"(?:^|[-_.])(?P<key>epoch|step)=(?P<number>\d+)(?=$|[-_.])", re.ASCII | re.IGNORECASE)
_NAMED = re.compile(rf"(?:.*@|(?:.*[_.-])?(?P<word>{_WORDS}|epoch)[_-]?)(?P<number>\d+)", re.ASCII | re.IGNORECASE)
_LOOKS = re.compile(r"epoch|step|iter|checkpoint|ckpt|snapshot", re.IGNORECASE)
_NETWORKS = (
    "model.safetensors.index.json", "pytorch_model.bin.index.json", "model.safetensors", "pytorch_model.bin",
)  # fmt: skip
_BESIDE = re.compile(r"(?:optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer_state).*")
_MOST_CONFIG = 1_000_000
_SHARD = re.compile(r".+-\d+-of-\d+\.\w+")


@dataclass(frozen=True, slots=True)
class Step:
    """One snapshot of a directory: where it lies, its step, and its epoch where the name says one."""

    path: Path
    number: int | None
    epoch: int | None = None


def step_of(path: Path, step_from: str | None = None) -> Step:
    """The step that a name says: 50 for ``epoch_050``, 1000 for ``epoch=9-step=1000.ckpt``; None for other names."""
    name = _stem(path)
    if step_from is not None:
        return Step(path, _by_pattern(path, step_from))
    keyed = {match["key"].lower(): _number(path, match["number"]) for match in _KEYED.finditer(name)}
    if keyed:
        return Step(path, keyed.get("step", keyed.get("epoch")), keyed.get("epoch"))
    match = _NAMED.fullmatch(name)
    if match is None:
        numbered = name.isdecimal() and path.is_dir() and tree_in(path) is not None
        return Step(path, _number(path, name) if numbered else None)
    number = _number(path, match["number"])
    return Step(path, number, number if (match["word"] or "").lower() == "epoch" else None)


def steps_in(directory: Path, step_from: str | None = None) -> tuple[list[Step], list[str]]:
    """The snapshots of a directory in their order, and the names of what looks like one and is not taken."""
    by_number: dict[int, Step] = {}
    passed: list[str] = []
    for path in children(directory):
        if _SHARD.fullmatch(path.name):
            continue
        step = step_of(path, step_from) if path.is_dir() or _readable(path) else Step(path, None)
        if step.number is None:
            if _looks_like_a_snapshot(path):
                passed.append(path.name)
            continue
        other = by_number.setdefault(step.number, step)
        if other is not step:
            raise InvalidInputError(
                f"{directory}: expected every epoch once, found epoch {step.number} twice: "
                f"{other.path.name} and {path.name}"
            )
    return [by_number[number] for number in sorted(by_number)], passed


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """The arrays of one snapshot: a file, a directory of layers or with one network, and its config; Orbax."""
    if path.is_dir() and has_layer_files(path):
        yield read_layer_files(path, limits)
        return
    network = network_in(path) if path.is_dir() else path
    if network is None and (tree := tree_in(path)) is not None:
        with registry.ORBAX.open(tree, limits) as file:
            yield file
        return
    if network is None:
        raise InvalidInputError(
            f"{path}: expected layer files weight_l0.npz, weight_l1.npz, ..., or a network in one file, found neither",
            hint=registry.hint(),
        )
    with registry.format_of(network).open(network, limits) as file:
        yield replace(file, config=_config(network.with_name("config.json")))


def network_in(directory: Path) -> Path | None:
    """The file of a directory that holds its network; None where there is none, an error where there are several."""
    files = [path for path in children(directory) if path.is_file() and _readable(path)]
    for name in _NETWORKS:
        if directory / name in files:
            return directory / name
    files = [path for path in files if not _BESIDE.fullmatch(path.name) and not _SHARD.fullmatch(path.name)]
    if len(files) > 1:
        raise InvalidInputError(
            f"{directory}: expected one network, found {', '.join(path.name for path in files[:8])}",
            hint=f"name one of them: {directory / files[0].name}; where each is a step, --step-from 'REGEX' says which",
        )
    return files[0] if files else None


def _config(path: Path) -> dict[str, Any]:
    """What a ``config.json`` says; nothing where there is none, or it is no such file."""
    try:
        with path.open("rb") as stream:
            config = json.loads(stream.read(_MOST_CONFIG))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _readable(path: Path) -> bool:
    return path.name.lower().endswith(registry.suffixes())


def _looks_like_a_snapshot(path: Path) -> bool:
    if path.is_dir():
        return bool(_LOOKS.search(path.name)) or has_layer_files(path) or tree_in(path) is not None
    return _readable(path) or bool(_LOOKS.match(path.name))


def _by_pattern(path: Path, pattern: str) -> int | None:
    try:
        match = re.search(pattern, path.name)
        text = match[1] if match else None
    except (re.error, IndexError) as error:
        raise InvalidInputError(
            f"--step-from {pattern}: expected a regular expression whose first group is the step, found: {error}",
            hint=r"for example --step-from 'run_(\d+)'",
        ) from error
    if text is None:
        return None
    if not text.isdecimal():
        raise InvalidInputError(f"{path}: expected a step in the first group of --step-from {pattern}, found {text!r}")
    return _number(path, text)


def _number(path: Path, text: str) -> int:
    if len(text) > 18 or int(text) > MAX_STEP:
        raise InvalidInputError(f"{path}: expected an epoch of at most {MAX_STEP}, found {text[:40]}")
    return int(text)


def _stem(path: Path) -> str:
    if path.is_dir():
        return path.name
    suffix = next((suffix for suffix in registry.suffixes() if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)] if suffix else path.stem


def names(steps: Sequence[Step]) -> str:
    """The steps for a message."""
    shown = ", ".join(str(step.number or 0) for step in steps[:10])
    return shown + (", ..." if len(steps) > 10 else "")
