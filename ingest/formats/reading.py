"""Snapshots from files: one way into every format that Topostrata reads (``registry``).

A file or directory is recognised, its arrays are named, and a wiring puts them in their places: the one that is given,
or the one that names, shapes and format make evident (``ingest.wiring``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats import registry, run_directory, snapshot_file
from topostrata.ingest.formats.accuracies import METRIC, accuracies
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.layer_files import has_layer_files
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.ingest.formats.options import Options
from topostrata.ingest.formats.orbax_directory import tree_in
from topostrata.ingest.formats.packed import with_shapes
from topostrata.ingest.formats.roles import roles_of
from topostrata.ingest.formats.run_directory import Step
from topostrata.ingest.formats.snapshot_file import SnapshotFile
from topostrata.ingest.over_time import decide, moments
from topostrata.ingest.placed import match, place
from topostrata.refs import PathRef
from topostrata.refs import Step as RefStep
from topostrata.topology import Topology, Wiring
from topostrata.words import Bias, FileOrientation, Flatten, Heads, Zeros

__all__ = [
    "DEFAULT",
    "Frame",
    "Limits",
    "Options",
    "ReadOptions",
    "SnapshotFile",
    "read",
    "read_one",
    "read_snapshot_bytes",
]

_SPARSE = 0.5  # a network is sparse where some layer has at most this density

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Frame:
    """One snapshot read from files.

    ``evidence`` says how it is known which layer feeds which, ``notes`` what was left out and what may be wrong.
    """

    step: int
    topology: Topology
    epoch: float | None
    metrics: dict[str, float]
    source: Path
    layer_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    evidence: tuple[str, ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)


class ReadOptions(TypedDict, total=False):
    """The options of ``read`` that say what a file does not tell."""

    bias: Bias
    zeros: Zeros | None
    limits: Limits
    orientation: FileOrientation | None
    flatten: Flatten | None
    layers: Sequence[str]
    wiring: Wiring | str | os.PathLike[str] | None
    heads: Heads | None
    step_from: str | None
    over_time: bool


def read(
    path: str | os.PathLike[str],
    *,
    bias: Bias = "auto",
    zeros: Zeros | None = None,
    limits: Limits = DEFAULT,
    orientation: FileOrientation | None = None,
    flatten: Flatten | None = None,
    layers: Sequence[str] = (),
    wiring: Wiring | str | os.PathLike[str] | None = None,
    heads: Heads | None = None,
    step_from: str | None = None,
    over_time: bool = False,
    steps: Iterable[int] = (),
) -> Iterator[Frame]:
    """The snapshots of a file or directory, in the order of their steps, one in memory at a time.

    All that names and shapes can tell (an epoch twice, a layer file missing, layers that do not chain, two ways to read
    them) is checked before this returns, so that a push does not stop half-way for it. Snapshots at the end of a
    directory that are not whole, because they are being written, are named in the notes of the first frame.

    ``wiring``: which layer feeds which, a ``Wiring`` or the path of its text file; without it, what names, shapes and
    format make evident. ``layers``: names or globs of arrays, in the order of execution. ``orientation``, ``flatten``,
    ``bias``, ``zeros`` and ``heads`` decide what the file does not tell (``Options``; docs/formats.md).
    ``step_from``: a regular expression whose first group is the step in the name of a file or directory. ``over_time``:
    the first axis of each array is time, or a dictionary around the arrays is. ``steps``: of a directory only these; of
    a file over time its steps.

    Raises ``InvalidInputError`` for what is not there, not one of the formats or not evident, ``LimitError`` for what
    is larger than ``limits``.

    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/step_7.npz", l0=np.eye(3, dtype=bool), l1=np.ones((3, 2), dtype=bool))
    ...     frames = list(read(f"{folder}/step_7.npz"))
    >>> [(frame.step, frame.topology.nnz) for frame in frames]
    [(7, 9)]
    """
    path = Path(path)
    options = options_of(
        steps,
        bias=bias,
        zeros=zeros,
        limits=limits,
        orientation=orientation,
        flatten=flatten,
        layers=layers,
        wiring=wiring,
        heads=heads,
        step_from=step_from,
        over_time=over_time,
    )
    if not path.is_dir():
        return _read_file(path, options)
    return _read_steps(path, *steps_of(path, options), options)


def read_one(path_ref: PathRef, **how: Unpack[ReadOptions]) -> Frame:
    """One snapshot: ``DIR@50``, ``DIR@first``, ``DIR`` (its last), ``DIR/epoch_050`` or a file."""
    path = path_ref.path
    options = options_of((), **how)
    if path.is_dir():
        steps, _ = steps_of(path, options)
        chosen = _choose(steps, path_ref.step, path)
        return _frame(chosen, _accuracies(path, steps), options)
    frames = _read_file(path, options)
    frame = next(frames)
    passed = [frame.step]
    for later in frames:
        if path_ref.step in {"first", frame.step}:
            break
        frame = later
        passed.append(frame.step)
    if isinstance(path_ref.step, int) and path_ref.step != frame.step:
        raise InvalidInputError(
            f"{path}: expected step {path_ref.step}, found {'steps' if len(passed) > 1 else 'one snapshot, step'} "
            f"{', '.join(map(str, passed[:10]))}{', ...' if len(passed) > 10 else ''}",
            hint="leave @STEP away" if len(passed) == 1 else f"for example {path}@{passed[-1]}",
        )
    return frame


def read_snapshot_bytes(data: bytes | BinaryIO, *, limits: Limits = DEFAULT) -> SnapshotFile:
    """Topostrata's own npz or safetensors body, as ``PUT /v1/runs/{run}/snapshots/{step}`` takes it."""
    return snapshot_file.read(data, limits=limits)


def options_of(steps: Iterable[int], **how: Unpack[ReadOptions]) -> Options:
    return Options(
        how.get("bias", "auto"),
        how.get("zeros"),
        how.get("orientation"),
        how.get("flatten"),
        tuple(how.get("layers", ())),
        _wiring(how.get("wiring")),
        how.get("heads"),
        how.get("step_from"),
        frozenset(steps),
        how.get("over_time", False),
        how.get("limits", DEFAULT),
    )


def _wiring(wiring: Wiring | str | os.PathLike[str] | None) -> Wiring | None:
    if wiring is None or isinstance(wiring, Wiring):
        return wiring
    try:
        text = Path(wiring).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInputError(
            f"{os.fspath(wiring)}: expected a wiring as docs/wiring.md describes it, found: {reason}",
            hint="`topostrata inspect FILE --write net.toml` writes one to edit",
        ) from error
    return Wiring.from_toml(text, where=os.fspath(wiring))


def steps_of(path: Path, options: Options) -> tuple[list[Step], list[str]]:
    """The snapshots of a directory, or the directory itself where it is one; and what is passed over."""
    steps, passed = run_directory.steps_in(path, options.step_from)
    if steps:
        return steps, passed
    named = path.resolve() if path.name in {"", ".."} else path  # ``.`` and ``..`` do not say their names
    if has_layer_files(path) or run_directory.network_in(path) is not None or tree_in(path) is not None:
        return [run_directory.step_of(named, options.step_from)], []
    if run_directory.step_of(named, options.step_from).number is not None:
        return [run_directory.step_of(named, options.step_from)], []
    also = f", found {', '.join(passed[:8])}, whose names say no step" if passed else ", found neither"
    raise InvalidInputError(
        f"{path}: expected epoch directories or layer files{also}",
        hint=r"say how names tell the step: --step-from 'run_(\d+)'" if passed else registry.hint(),
    )


def _choose(steps: list[Step], wanted: RefStep, path: Path) -> Step:
    if wanted == "first":
        return steps[0]
    if wanted == "last":
        return steps[-1]
    for step in steps:
        if (step.number or 0) == wanted:
            return step
    raise InvalidInputError(f"{path}: expected an epoch {wanted}, found {run_directory.names(steps)}")


def _read_steps(path: Path, steps: list[Step], passed: list[str], options: Options) -> Iterator[Frame]:
    """Every shape is looked at now, every entry when its frame is asked for."""
    every = steps
    itself = steps[0].path.resolve() == path.resolve()  # one snapshot: its step is the one that is told, as a file's is
    if options.steps and not itself:
        missing = options.steps - {step.number or 0 for step in steps}
        if missing:
            raise InvalidInputError(f"{path}: expected epochs {sorted(missing)}, found {run_directory.names(steps)}")
        steps = [step for step in steps if step.number in options.steps]
    steps, unfinished = _whole(steps, options)
    metrics = _accuracies(path, every)
    return _noted((_frame(step, metrics, options) for step in steps), not_taken(passed, unfinished))


def not_taken(passed: Iterable[str], unfinished: Iterable[str]) -> tuple[str, ...]:
    """Notes on what a directory holds and a push leaves: names that say no step, and snapshots that are not whole."""
    return (
        *(f"not taken, its name says no step: {name}" for name in passed),
        *(f"not taken, it is not whole (is it being written?): {reason}" for reason in unfinished),
    )


def _noted(frames: Iterator[Frame], notes: tuple[str, ...]) -> Iterator[Frame]:
    for frame in frames:
        yield replace(frame, notes=(*notes, *frame.notes))
        notes = ()


def _whole(steps: list[Step], options: Options) -> tuple[list[Step], list[str]]:
    """The steps that can be read, and why those after the last of them cannot; a bad one before a good one is an error.

    The layers and their shapes may not change from step to step.
    """
    failed: list[InvalidInputError] = []
    whole: list[Step] = []
    first: Shapes = {}
    for step in steps:
        try:
            shapes = _shapes(step, options, check=not whole)
        except InvalidInputError as error:
            failed.append(error)
            continue
        if whole and shapes.keys() < first.keys():
            failed.append(_other_layers(first, shapes, whole[0], step))
            continue
        if failed:
            raise failed[0]
        if whole:
            _compare(first, shapes, whole[0], step)
        else:
            first = shapes
        whole.append(step)
    if not whole:
        raise failed[0]
    return whole, [error.message for error in failed]


def _shapes(step: Step, options: Options, *, check: bool) -> Shapes:
    """The arrays of a step by name; ``check``: that they can be read as a network is made sure too."""
    with run_directory.opened(step.path, options.limits) as file:
        if check and file.snapshot is None:
            moment = next(iter(moments(file, options).values()), file)
            if options.wiring is None:
                decide(moment, options)
            else:
                moment = with_shapes(moment, options.wiring, options.axes)
                match(moment, options.wiring, roles_of(moment.arrays))
        return {name: array.shape for name, array in file.arrays.items()}


def _compare(first: Shapes, shapes: Shapes, start: Step, step: Step) -> None:
    if shapes.keys() != first.keys():
        raise _other_layers(first, shapes, start, step)
    for name, shape in shapes.items():
        if shape != first[name]:
            raise InvalidInputError(
                f"{step.path}: layer {name!r}: expected {_shown(first[name])} as in {start.path.name}, "
                f"found {_shown(shape)}",
                hint="a network whose widths change is another run",
            )


def _other_layers(first: Shapes, shapes: Shapes, start: Step, step: Step) -> InvalidInputError:
    missing, more = sorted(first.keys() - shapes.keys()), sorted(shapes.keys() - first.keys())
    return InvalidInputError(
        f"{step.path}: expected the layers of {start.path.name} ({', '.join(list(first)[:12])}), "
        f"found {', '.join(list(shapes)[:12])}: missing {', '.join(missing[:8]) or 'none'}, "
        f"besides {', '.join(more[:8]) or 'none'}"
    )


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _accuracies(path: Path, steps: list[Step]) -> dict[int, float]:
    """The accuracies beside the epochs of a run, by epoch."""
    epochs = {step.epoch for step in steps if step.epoch is not None}
    folder = path
    if len(steps) == 1 and steps[0].path.name == (path.resolve() if path.name in {"", ".."} else path).name:
        folder = steps[0].path.parent  # one epoch by itself: its siblings say how the run counts
        epochs |= {step.epoch for step in run_directory.steps_in(folder)[0] if step.epoch is not None}
    return accuracies(folder, epochs)


def _read_file(path: Path, options: Options) -> Iterator[Frame]:
    if not path.is_file():
        raise InvalidInputError(f"{path}: expected a file or directory, found none", hint=registry.hint())
    step = run_directory.step_of(path, options.step_from)
    _shapes(step, options, check=True)
    return _frames_of_file(step, options)


def _frames_of_file(step: Step, options: Options) -> Iterator[Frame]:
    """The frame of a file, or those of one that holds several moments."""
    with run_directory.opened(step.path, options.limits) as file:
        parts = moments(file, options)
        if parts and options.steps:
            if missing := options.steps - parts.keys():
                raise InvalidInputError(f"{step.path}: expected steps {sorted(missing)}, found {sorted(parts)[:10]}")
            parts = {number: parts[number] for number in sorted(options.steps)}
        for number, part in parts.items():
            snapshot, evidence, notes = _snapshot(part, options)
            notes = (*notes, *_suspicious(snapshot.topology))
            yield Frame(number, snapshot.topology, None, {}, step.path, evidence=evidence, notes=notes)
    if not parts:
        yield _frame(step, {}, options)


def _frame(step: Step, metrics: dict[int, float], options: Options) -> Frame:
    with run_directory.opened(step.path, options.limits) as file:
        snapshot, evidence, notes = _snapshot(file, options)
    epoch = snapshot.epoch if snapshot.epoch is not None or step.epoch is None else float(step.epoch)
    measured = {METRIC: metrics[step.epoch]} if step.epoch is not None and step.epoch in metrics else {}
    untold = step.number is None and not options.steps
    if untold and step.path.is_file() and any(letter.isdigit() for letter in step.path.stem):
        notes = (*notes, f"step 0: the name {step.path.name!r} tells no step; say --step N or --step-from 'REGEX'")
    return Frame(
        step.number or 0,
        snapshot.topology,
        epoch,
        {**measured, **snapshot.metrics},
        step.path,
        snapshot.layer_metrics,
        evidence,
        (*notes, *_suspicious(snapshot.topology)),
    )


def _snapshot(file: ArrayFile, options: Options) -> tuple[SnapshotFile, tuple[str, ...], tuple[str, ...]]:
    """What the file holds, how its wiring is known, and notes."""
    if file.snapshot is not None:
        return file.snapshot(), ("a snapshot of Topostrata, with its wiring",), ()
    if options.wiring is not None:
        file = with_shapes(file, options.wiring, options.axes)
        topology, notes = place(file, options.wiring, options)
        return SnapshotFile(topology), ("the wiring is the one you gave",), notes
    reading = decide(file, options)
    return SnapshotFile(reading.topology()), reading.evidence, reading.notes


def _suspicious(topology: Topology) -> list[str]:
    """What a person should look at: layers without a connection, and layers that are full although others are not."""
    empty = [layer.name for layer in topology if layer.nnz == 0]
    full = [layer.name for layer in topology if layer.density == 1]
    sparse = any(layer.density <= _SPARSE for layer in topology)
    notes = [f"layers without a connection: {', '.join(empty[:8])}"] if empty else []
    if full and sparse:
        notes.append(f"layers that are dense, although others are sparse: {', '.join(full[:8])}")
    return notes
