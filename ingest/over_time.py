"""Several snapshots in one file: a dictionary of step -> masks, or arrays whose first axis is time.

RigL's ``mask_records.npy`` says its steps and is read as it is. An array of three axes may as well be a convolution in
one dimension: that its first axis is time has to be said (``--over-time``). Where both readings are possible and
nothing was said, nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.ingest import wiring
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.options import Options
from topostrata.ingest.formats.roles import ArrayRole, axes_of_names, roles_of
from topostrata.ingest.formats.stored import Entries, StoredArray
from topostrata.ingest.wiring import Reading
from topostrata.refs import MAX_STEP

_RECORD = re.compile(r"(?P<step>\d{1,15})\.(?P<name>\d+)")
_NESTED = re.compile(r"(?P<before>(?:[^.]*\.)*?)(?P<step>\d{1,15})\.(?P<name>.+)")
_STEPS = re.compile(r"(?:.*\.)?(?:global_)?(?:step|iteration|iter|epoch|time)s?", re.IGNORECASE)


def moments(file: ArrayFile, options: Options) -> dict[int, ArrayFile]:
    """The snapshots of a file that holds several, by step; empty where it is one.

    RigL's ``mask_records.npy`` is a dictionary of iteration -> list of masks: its arrays are called ``100.0``,
    ``100.1``, the same of the same shapes at each iteration. ``options.over_time``: dictionaries and lists with names
    around are taken too, and arrays in which every layer has one more axis in front. The steps of those are in an array
    of the file (``steps``, ``epochs``, ...), else ``options.steps``, else their places from 0 on.
    """
    if file.snapshot is not None:
        return {}
    records = _records(file, _NESTED if options.over_time else _RECORD)
    if records or not options.over_time:
        return records
    return _stack(file, options)


def decide(file: ArrayFile, options: Options) -> Reading:
    """``wiring.decide``, but an array whose first axis may be time is not taken for a convolution, nor the reverse."""
    try:
        reading = wiring.decide(file, options)
    except InvalidInputError as error:
        if options.over_time or not _chains_over_time(file, options):
            raise
        hint = f"if the first axis of each array is time, say --over-time; else: {error.hint}"
        raise InvalidInputError(error.message, hint=hint) from None
    kernels = options.orientation in {"hwio", "oihw"} or axes_of_names(_layers(file, options)) is not None
    if options.over_time or kernels or not reading.layers or not all(part.kernel for part in reading.layers):
        return reading
    if not _chains_over_time(file, options):
        return reading
    first = reading.layers[0]
    raise InvalidInputError(
        f"{file.where}: expected to know what the first axis of the arrays is, found two readings: snapshots over "
        f"time, or convolutions such as {first.name!r}, {first.shape}",
        hint="say --over-time, or --orientation hwio (in Keras's and Flax's order) or oihw (in torch's)",
    )


def _records(file: ArrayFile, pattern: re.Pattern[str]) -> dict[int, ArrayFile]:
    """Arrays whose names begin with a step, the same of the same shapes at each."""
    by_step: dict[int, dict[str, StoredArray]] = {}
    befores: set[str] = set()
    for name, array in file.arrays.items():
        match = pattern.fullmatch(name)
        if match is None:
            return {}
        befores.add(match.groupdict().get("before") or "")
        by_step.setdefault(int(match["step"]), {})[match["name"]] = array
    shapes = [{name: array.shape for name, array in arrays.items()} for arrays in by_step.values()]
    if len(shapes) < 2 or len(befores) > 1 or any(other != shapes[0] for other in shapes):
        return {}
    return {step: replace(file, arrays=_renamed(arrays)) for step, arrays in sorted(by_step.items())}


def _renamed(arrays: dict[str, StoredArray]) -> dict[str, StoredArray]:
    names = {name: f"l{name}" if name.isdecimal() else name for name in arrays}
    return {names[name]: replace(array, name=names[name]) for name, array in arrays.items()}


def _stack(file: ArrayFile, options: Options) -> dict[int, ArrayFile]:
    """The snapshots along the first axis."""
    layers = _layers(file, options)
    lengths = {layer.name: layer.array.shape[0] for layer in layers if len(layer.array.shape) > 2}
    flat = [layer.name for layer in layers if layer.name not in lengths]
    if flat or len(set(lengths.values())) != 1:
        shown = ", ".join(f"{layer.name} {' x '.join(map(str, layer.array.shape))}" for layer in layers[:8])
        raise InvalidInputError(
            f"{file.where}: --over-time: expected layers with time as their first axis, as long in each, "
            f"found {shown or 'no layers'}",
            hint="choose the arrays with --layers 'NAME,NAME'",
        )
    count = next(iter(lengths.values()))
    steps = _steps(file, count, options)
    whole = {name: array for name, array in file.arrays.items() if len(array.shape) > 2 and array.shape[0] == count}
    stacks = {name: _Slices(array) for name, array in whole.items()}
    return {
        step: replace(
            file,
            arrays={name: stacks[name].at(k) if name in stacks else array for name, array in file.arrays.items()},
        )
        for k, step in enumerate(steps)
    }


def _layers(file: ArrayFile, options: Options) -> list[ArrayRole]:
    """The arrays that can be layers: those that were chosen, else masks, else weights."""
    roles = [role for role in roles_of(file.arrays) if role.holds_layer]
    if options.layers:
        return [
            role
            for role in roles
            if any(fnmatchcase(name, pattern) for name in (role.name, role.stem) for pattern in options.layers)
        ]
    if options.wiring is not None:
        keys = {layer.part.parameter if layer.part else layer.name for layer in options.wiring}
        chosen = [role for role in roles if role.name in keys or role.stem in keys]
        roles = chosen or roles
    return [role for role in roles if role.role == "mask"] or roles


def _steps(file: ArrayFile, count: int, options: Options) -> list[int]:
    told = [array for name, array in file.arrays.items() if array.shape == (count,) and _STEPS.fullmatch(name)]
    told = [array for array in told if array.dtype.startswith(("int", "uint", "float"))]
    if not told:
        if options.steps and len(options.steps) != count:
            raise InvalidInputError(
                f"{file.where}: --over-time: expected a step for each of the {count:,} snapshots, "
                f"found {len(options.steps):,}",
                hint="give --step as often as there are snapshots, or not at all: then they are numbered from 0",
            )
        return sorted(options.steps) or list(range(count))
    if len(told) > 1:
        raise InvalidInputError(
            f"{file.where}: --over-time: expected one array of steps, found {', '.join(array.name for array in told)}",
            hint="leave all but one out of the file",
        )
    values: Any = np.asarray(told[0].read())
    steps = [int(value) for value in values]
    rises = all(before < after for before, after in pairwise(steps))
    if not rises or steps[0] < 0 or steps[-1] > MAX_STEP or not np.array_equal(values, steps):
        raise InvalidInputError(f"{file.where}: array {told[0].name!r}: expected steps that rise, found {steps[:8]}")
    return steps


class _Slices:
    """An array along its first axis; it is read once."""

    def __init__(self, array: StoredArray) -> None:
        self._array = array
        self._values: NDArray[Any] | Entries | None = None

    def at(self, k: int) -> StoredArray:
        """The array of one snapshot."""
        place = f"{self._array.place}, at {k} of its first axis"
        return replace(self._array, shape=self._array.shape[1:], place=place, read=partial(self._read, k))

    def _read(self, k: int) -> NDArray[Any] | Entries:
        if self._values is None:
            self._values = self._array.read()
        if not isinstance(self._values, Entries):
            part: NDArray[Any] = self._values[k]
            return part
        inside = self._values.positions[:, 0] == k
        return Entries(self._values.positions[inside, 1:], self._values.values[inside])


def _chains_over_time(file: ArrayFile, options: Options) -> bool:
    """Whether the arrays are a network at each moment, if their first axis is time."""
    layers = _layers(file, options)
    if not layers or not _look_stacked(layers):
        return False
    try:
        first = next(iter(_stack(file, replace(options, over_time=True, steps=frozenset())).values()))
        wiring.decide(first, replace(options, bias="none" if len(layers) == 1 else options.bias))
    except InvalidInputError:
        return False
    return True


def _look_stacked(layers: Sequence[ArrayRole]) -> bool:
    """Whether each has one axis more than a matrix (or a kernel of two dimensions), and the same number in front."""
    return (
        all(len(layer.array.shape) > 2 for layer in layers)
        and any(len(layer.array.shape) in {3, 5} for layer in layers)
        and len({layer.array.shape[0] for layer in layers}) == 1
    )
