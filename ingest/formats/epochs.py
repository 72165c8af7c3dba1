"""Directories of epochs, as the SET scripts leave them.

``DIR/epoch_EEE/weight_l<k>.npz`` hold the layers, ``DIR/testacc.txt`` the accuracies. Each matrix is SciPy's,
rows = sources. Line e of ``testacc.txt`` (from 0) is the accuracy after epoch e.
What has other names is ignored.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.file_layers import (
    SCIPY_MEMBERS,
    Bias,
    FileLayer,
    Plan,
    assemble,
    plan,
    scipy_part,
    scipy_shape,
)
from topostrata.ingest.formats.limits import MIB, Limits
from topostrata.ingest.formats.safe_npz import SafeNpz
from topostrata.refs import MAX_STEP
from topostrata.topology import Topology, Zeros

METRIC = "accuracy"

_EPOCH = re.compile(r"epoch_(\d+)", re.ASCII)
_LAYER = re.compile(r"weight_l(\d+)\.npz", re.ASCII)
_MAX_ACCURACIES = 16 * MIB


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch directory: its number (None where its name has none) and its layer files by name of the layer."""

    directory: Path
    number: int | None
    files: dict[str, Path]


def epochs_in(directory: Path) -> list[Epoch]:
    """The epochs of a directory, in their order; empty where it holds none."""
    found: dict[int, Path] = {}
    for path in sorted(_children(directory)):
        number = epoch_number(path)
        if number is None or not path.is_dir():
            continue
        if number in found:
            raise InvalidInputError(
                f"{directory}: expected every epoch once, found epoch {number} twice: "
                f"{found[number].name} and {path.name}"
            )
        found[number] = path
    epochs = [Epoch(found[number], number, _layer_files(found[number])) for number in sorted(found)]
    for epoch in epochs:
        if epoch.files.keys() != epochs[0].files.keys():
            raise InvalidInputError(
                f"{epoch.directory}: expected the layers of {epochs[0].directory.name} "
                f"({', '.join(epochs[0].files)}), found {', '.join(epoch.files)}"
            )
    return epochs


def epoch_at(directory: Path) -> Epoch | None:
    """One epoch directory by itself; None where it holds no layer files."""
    if directory.name in {"", ".."}:  # ``.`` and ``..`` do not say their names
        directory = directory.resolve()
    if epoch_number(directory) is None and not any(_LAYER.fullmatch(path.name) for path in _children(directory)):
        return None
    return Epoch(directory, epoch_number(directory), _layer_files(directory))


def epoch_number(directory: Path) -> int | None:
    """The epoch that a directory's name says: 50 for ``epoch_050``."""
    match = _EPOCH.fullmatch(directory.name)
    if match is None:
        return None
    if len(match[1]) > 16 or int(match[1]) > MAX_STEP:
        raise InvalidInputError(f"{directory}: expected an epoch of at most {MAX_STEP}, found {match[1][:40]}")
    return int(match[1])


def fit(epochs: list[Epoch], *, bias: Bias, limits: Limits) -> Plan:
    """How the layers chain, from the shapes in all files; the shapes may not change from epoch to epoch."""
    first: dict[str, tuple[int, int]] = {}
    for epoch in epochs:
        for name, path in epoch.files.items():
            shape = _shape(path, limits)
            if first.setdefault(name, shape) != shape:
                raise InvalidInputError(
                    f"{path}: layer {name!r}: expected {first[name][0]} x {first[name][1]} as in "
                    f"{epochs[0].directory.name}, found {shape[0]} x {shape[1]}",
                    hint="a network whose widths change is another run",
                )
    parts = [_part(name, epochs[0].files[name], shape, None, limits) for name, shape in first.items()]
    return plan(parts, bias=bias, where=str(epochs[0].directory), limits=limits)


def topology_of(epoch: Epoch, fitted: Plan, *, zeros: Zeros | None, limits: Limits) -> Topology:
    """The wiring of one epoch, its files read one after the other."""
    parts = [
        _part(name, path, (n_source + fitted.last_row, n_target), zeros, limits)
        for (name, path), (n_source, n_target, _) in zip(epoch.files.items(), fitted.shapes, strict=True)
    ]
    return assemble(parts, fitted, where=str(epoch.directory), limits=limits)


def accuracies(directory: Path) -> list[float]:
    """The lines of ``testacc.txt``; empty where there is no such file."""
    path = directory / "testacc.txt"
    if not path.is_file():
        return []
    try:
        if path.stat().st_size > _MAX_ACCURACIES:
            raise InvalidInputError(
                f"{path}: expected at most {_MAX_ACCURACIES:,} bytes, found {path.stat().st_size:,}"
            )
        lines = path.read_bytes().decode("utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: expected one number a line, found bytes that are no text") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: expected a readable file, found: {error.strerror}") from error
    values: list[float] = []
    for at, line in enumerate(lines, start=1):
        try:
            value = float(line)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidInputError(f"{path}: line {at}: expected one finite number, found {line[:40]!r}")
        values.append(value)
    return values


def _children(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        raise InvalidInputError(f"{directory}: expected a readable directory, found: {error.strerror}") from error


def _layer_files(directory: Path) -> dict[str, Path]:
    found: dict[int, Path] = {}
    for path in sorted(_children(directory)):
        match = _LAYER.fullmatch(path.name)
        if match is None:
            continue
        number = int(match[1][:18])
        if number in found:
            raise InvalidInputError(
                f"{directory}: expected every layer once, found {found[number].name} and {path.name}"
            )
        found[number] = path
    if not found:
        raise InvalidInputError(f"{directory}: expected layer files weight_l0.npz, weight_l1.npz, ..., found none")
    numbers = sorted(found)
    start = 1 if numbers[0] else 0
    expected = list(range(start, start + len(numbers)))
    if numbers != expected:
        missing = next(number for number in expected if number not in found)
        raise InvalidInputError(
            f"{directory}: expected weight_l0.npz (or weight_l1.npz) and on without gaps, "
            f"found no weight_l{missing}.npz "
            f"beside {', '.join(found[number].name for number in numbers[:8])}"
        )
    return {f"l{number}": found[number] for number in numbers}


def _open(path: Path, limits: Limits) -> SafeNpz:
    npz = SafeNpz(path, where=str(path), limits=limits)
    unknown = set(npz.names) - SCIPY_MEMBERS
    if unknown or not {"shape", "data"} <= set(npz.names):
        npz.close()
        raise InvalidInputError(
            f"{path}: expected a matrix as scipy.sparse.save_npz writes it (format, shape, data, indices, indptr), "
            f"found {', '.join(npz.names[:8])}"
        )
    return npz


def _shape(path: Path, limits: Limits) -> tuple[int, int]:
    with _open(path, limits) as npz:
        return scipy_shape(npz)


def _part(name: str, path: Path, shape: tuple[int, int], zeros: Zeros | None, limits: Limits) -> FileLayer:
    return FileLayer(name, *shape, partial(_cells, name, path, shape, zeros, limits))


def _cells(name: str, path: Path, shape: tuple[int, int], zeros: Zeros | None, limits: Limits) -> NDArray[np.int64]:
    with _open(path, limits) as npz:
        part = scipy_part(npz, name, zeros=zeros, orientation="in-out")
        if (part.n_source, part.n_target) != shape:
            raise InvalidInputError(
                f"{path}: layer {name!r}: expected {shape[0]} x {shape[1]}, found {part.shape}",
                hint="the file changed while it was read",
            )
        return part.load()
