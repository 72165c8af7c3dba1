"""Snapshots from files: one way into every format that Topostrata reads.

========================================  ==================================================================
a directory of epochs                     ``DIR/epoch_EEE/weight_l<k>.npz``, ``DIR/testacc.txt`` beside them
one epoch directory                       ``weight_l<k>.npz``, SciPy matrices, rows = sources
``.npz`` with several arrays              one layer per array, rows = sources; see ``named_arrays``
``.safetensors``                          a state dict or masks, rows = targets; see ``named_arrays``
Topostrata's own file                    ``.npz`` or ``.safetensors``; see ``snapshot_file``
========================================  ==================================================================

What a matrix's last row is (``bias``) is told from how the layers chain; see ``parts``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, get_args

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats import epochs as epoch_files
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.epochs import Epoch
from topostrata.ingest.formats.file_layers import (
    SCIPY_MEMBERS,
    Bias,
    FileLayer,
    Orientation,
    Plan,
    assemble,
    plan,
    scipy_part,
)
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.ingest.formats.named_arrays import parts_of_npz, parts_of_safetensors
from topostrata.ingest.formats.safe_npz import SafeNpz
from topostrata.ingest.formats.safe_tensors import SafeTensors
from topostrata.ingest.formats.snapshot_file import SnapshotFile
from topostrata.refs import PathRef, Step
from topostrata.topology import Topology, Zeros

__all__ = [
    "DEFAULT",
    "Bias",
    "Frame",
    "Limits",
    "Orientation",
    "SnapshotFile",
    "read",
    "read_one",
    "read_snapshot_bytes",
]

LAYOUTS = (
    "known are a directory of epoch_<N>/weight_l<k>.npz, one such epoch directory, a .npz with one array per layer, "
    "a .safetensors file, and a snapshot that Topostrata exported"
)
_STEP_IN_NAME = re.compile(r"(?:.*@|(?:.*[_.-])?(?:step|epoch)[_-]?)(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Frame:
    """One snapshot read from files."""

    step: int
    topology: Topology
    epoch: float | None
    metrics: dict[str, float]
    source: Path
    layer_metrics: dict[str, dict[str, float]] = field(default_factory=dict)


def read(
    path: str | os.PathLike[str],
    *,
    bias: Bias = "auto",
    zeros: Zeros | None = None,
    limits: Limits = DEFAULT,
    orientation: Orientation | None = None,
) -> Iterator[Frame]:
    """The snapshots of a file or directory, in the order of their steps, one in memory at a time.

    All that names and shapes can tell (an epoch twice, a layer file missing, layers that do not chain) is checked
    before this returns, so that a push does not stop half-way for it.

    ``bias``: whether the last row of each matrix is a bias, which is dropped. ``zeros``: what a stored zero of a sparse
    matrix is; by default no connection among weights, a connection in a mask (bool or integer); in a dense array a
    zero never is a connection. ``orientation``: of ``.npz`` arrays (default in-out) and tensors (default out-in).

    Raises ``InvalidInputError`` for what is not there or not one of the formats, ``LimitError`` for what is larger than
    ``limits``, ``InvalidTopologyError`` for layers that do not chain.

    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/step_7.npz", l0=np.eye(3, dtype=bool), l1=np.ones((3, 2), dtype=bool))
    ...     frames = list(read(f"{folder}/step_7.npz"))
    >>> [(frame.step, frame.topology.nnz) for frame in frames]
    [(7, 9)]
    """
    path = Path(path)
    options = _Options(bias, zeros, limits, orientation)
    if path.is_dir():
        return _read_epochs(_epochs(path), options)
    return _read_file(path, options)


def read_one(
    path_ref: PathRef,
    *,
    bias: Bias = "auto",
    zeros: Zeros | None = None,
    limits: Limits = DEFAULT,
    orientation: Orientation | None = None,
) -> Frame:
    """One snapshot: ``DIR@50``, ``DIR@first``, ``DIR`` (its last), ``DIR/epoch_050`` or a file."""
    path, options = path_ref.path, _Options(bias, zeros, limits, orientation)
    if path.is_dir():
        return next(_read_epochs([_choose(_epochs(path), path_ref.step, path)], options))
    frame = next(_read_file(path, options))
    if isinstance(path_ref.step, int) and path_ref.step != frame.step:
        raise InvalidInputError(
            f"{path}: expected step {path_ref.step}, found a file of one snapshot, step {frame.step}",
            hint="leave @STEP away",
        )
    return frame


def read_snapshot_bytes(data: bytes | BinaryIO, *, limits: Limits = DEFAULT) -> SnapshotFile:
    """Topostrata's own npz or safetensors body, as ``PUT /v1/runs/{run}/snapshots/{step}`` takes it."""
    return snapshot_file.read(data, limits=limits)


@dataclass(frozen=True, slots=True)
class _Options:
    bias: Bias
    zeros: Zeros | None
    limits: Limits
    orientation: Orientation | None

    def __post_init__(self) -> None:
        for name, found, known in (
            ("bias", self.bias, get_args(Bias)),
            ("zeros", self.zeros, (None, *get_args(Zeros))),
            ("orientation", self.orientation, (None, *get_args(Orientation))),
        ):
            if found not in known:
                raise InvalidInputError(f"{name}: expected one of {', '.join(map(str, known))}, found {found!r}")


def _epochs(path: Path) -> list[Epoch]:
    found = epoch_files.epochs_in(path)
    if not found and (one := epoch_files.epoch_at(path)):
        found = [one]
    if not found:
        raise InvalidInputError(f"{path}: expected epoch directories or layer files, found neither", hint=LAYOUTS)
    return found


def _choose(epochs: list[Epoch], step: Step, path: Path) -> Epoch:
    if step == "first":
        return epochs[0]
    if step == "last":
        return epochs[-1]
    for epoch in epochs:
        if (epoch.number or 0) == step:
            return epoch
    held = ", ".join(str(epoch.number or 0) for epoch in epochs[:10]) + (", ..." if len(epochs) > 10 else "")
    raise InvalidInputError(f"{path}: expected an epoch {step}, found {held}")


def _read_epochs(epochs: list[Epoch], options: _Options) -> Iterator[Frame]:
    fitted = epoch_files.fit(epochs, bias=options.bias, limits=options.limits)
    accuracies = epoch_files.accuracies(epochs[0].directory.parent) if epochs[0].number is not None else []
    return (_frame_of(epoch, fitted, accuracies, options) for epoch in epochs)


def _frame_of(epoch: Epoch, fitted: Plan, accuracies: list[float], options: _Options) -> Frame:
    topology = epoch_files.topology_of(epoch, fitted, zeros=options.zeros, limits=options.limits)
    if epoch.number is None:
        return Frame(0, topology, None, {}, epoch.directory)
    metrics = {epoch_files.METRIC: accuracies[epoch.number]} if epoch.number < len(accuracies) else {}
    return Frame(epoch.number, topology, float(epoch.number), metrics, epoch.directory)


def _read_file(path: Path, options: _Options) -> Iterator[Frame]:
    if not path.is_file():
        raise InvalidInputError(f"{path}: expected a file or directory, found none", hint=LAYOUTS)
    if path.suffix == ".safetensors":
        return (_frame(path, _read_safetensors(path, options)) for _ in range(1))
    if path.suffix == ".npz" or _begins_as_zip(path):
        return (_frame(path, _read_npz(path, options)) for _ in range(1))
    raise InvalidInputError(f"{path}: expected a .npz or .safetensors file, found another", hint=LAYOUTS)


def _frame(path: Path, found: SnapshotFile) -> Frame:
    match = _STEP_IN_NAME.fullmatch(path.stem)
    return Frame(int(match[1]) if match else 0, found.topology, found.epoch, found.metrics, path, found.layer_metrics)


def _read_npz(path: Path, options: _Options) -> SnapshotFile:
    orientation = options.orientation or "in-out"
    with SafeNpz(path, where=str(path), limits=options.limits) as npz:
        if snapshot_file.MEMBER in npz:
            return snapshot_file.read_npz(npz, limits=options.limits)
        if {"shape", "data"} <= set(npz.names) <= SCIPY_MEMBERS:
            parts = [scipy_part(npz, "l0", zeros=options.zeros, orientation=orientation)]
        else:
            parts = parts_of_npz(npz, zeros=options.zeros, orientation=orientation)
        return SnapshotFile(_assemble(parts, path, options))


def _read_safetensors(path: Path, options: _Options) -> SnapshotFile:
    with SafeTensors(path, where=str(path), limits=options.limits) as tensors:
        if snapshot_file.MEMBER in tensors.metadata:
            return snapshot_file.read_safetensors(tensors, limits=options.limits)
        parts = parts_of_safetensors(tensors, orientation=options.orientation or "out-in")
        if len(parts) == 1 and options.bias == "auto":
            # State dicts keep biases in vectors of their own, so one matrix is no riddle here.
            options = replace(options, bias="none")
        return SnapshotFile(_assemble(parts, path, options))


def _assemble(parts: list[FileLayer], path: Path, options: _Options) -> Topology:
    fitted = plan(parts, bias=options.bias, where=str(path), limits=options.limits)
    return assemble(parts, fitted, where=str(path), limits=options.limits)


def _begins_as_zip(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(2) == b"PK"
    except OSError as error:
        raise InvalidInputError(f"{path}: expected a readable file, found: {error.strerror}") from error
