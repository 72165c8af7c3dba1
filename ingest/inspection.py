"""What is in a file and how it would be read: every array with its role, the wiring that follows, or the question."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from topostrata.errors import InvalidInputError, TopostrataError
from topostrata.ingest.families.recognition import OpenQuestionError
from topostrata.ingest.formats import run_directory
from topostrata.ingest.formats.array_file import ArrayFile, AxisOrder
from topostrata.ingest.formats.cells import dims, read_within
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.naming_schemes import natural
from topostrata.ingest.formats.options import Options
from topostrata.ingest.formats.packed import with_shapes
from topostrata.ingest.formats.reading import ReadOptions, not_taken, options_of, steps_of
from topostrata.ingest.formats.roles import ArrayRole, Role, roles_of
from topostrata.ingest.formats.run_directory import Step
from topostrata.ingest.formats.stored import Entries, StoredArray
from topostrata.ingest.over_time import decide, moments
from topostrata.ingest.placed import match, place
from topostrata.topology import LayerShape, Orientation, Part, Space, Wiring


@dataclass(frozen=True, slots=True)
class InspectedArray:
    """One array of a file.

    ``density``: share of entries that are not 0; ``stored_zeros``: zeros that a sparse one stores.

    ``layer`` is the layer that it belongs to by its name, ``taken`` whether it is read as that layer's connections.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    density: float | None
    stored_zeros: int
    role: Role
    why: str
    layer: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a file, and how it would be read.

    ``wiring`` is what follows from it, or a draft to edit where there is a ``question``: then nothing would be read,
    and ``way_out`` says what decides. ``draft_of`` is the family of networks, where only that question is open.
    ``steps`` are those of a directory of snapshots; the first was looked at, and the last for whether they are whole.
    """

    path: str
    steps: tuple[int, ...]
    arrays: tuple[InspectedArray, ...]
    wiring: Wiring | None
    evidence: tuple[str, ...]
    notes: tuple[str, ...]
    question: str | None = None
    way_out: str | None = None
    draft_of: str | None = None

    def to_toml(self) -> str:
        """The wiring as a text file to edit (docs/wiring.md); a draft says so."""
        if self.wiring is None:
            raise InvalidInputError(f"{self.path}: expected layers to write a wiring of, found none")
        if self.question is None:
            return self.wiring.to_toml()
        lines = [
            "A draft: each layer has spaces of its own. Put the layers into the order of execution, give the",
            "spaces that are one space one name, and leave out what is no layer.",
        ]
        if self.draft_of is not None:
            lines = [f"A draft: the wiring of a {self.draft_of}, but for one question."]
        lines += f"{self.question} ({self.way_out})".splitlines()
        return "".join(f"# {line}\n" for line in lines) + self.wiring.to_toml()


def inspect(path: str | os.PathLike[str], **options: Unpack[ReadOptions]) -> Inspection:
    """Look at a file, a snapshot's directory, or the first snapshot of a run's; nothing is stored.

    ``options`` are those of ``read``. Raises ``InvalidInputError`` for what cannot be opened.

    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/net.npz", **{"a.weight": np.eye(4), "b.weight": np.eye(4), "a.bias": np.ones(4)})
    ...     inspection = inspect(f"{folder}/net.npz")
    >>> [(array.name, array.role) for array in inspection.arrays]
    [('a.weight', 'weight'), ('b.weight', 'weight'), ('a.bias', 'bias')]
    >>> inspection.question.split(": ", 1)[1]
    'expected one order of axes in which the layers chain, found two: in-out: 4-4-4 units; or out-in: 4-4-4 units'
    """
    understood = options_of((), **options)
    source = Path(path)
    steps: tuple[int, ...] = ()
    every: list[Step] = []
    passed: list[str] = []
    if source.is_dir():
        every, passed = steps_of(source, understood)
        steps = tuple(step.number for step in every if step.number is not None)
        source = every[0].path
    elif not source.is_file():
        raise InvalidInputError(f"{source}: expected a file or directory, found none")
    with run_directory.opened(source, understood.limits) as file:
        notes = not_taken(passed, reversed(list(_unfinished(every, file.arrays.keys(), understood))))
        if file.snapshot is not None:
            wiring = file.snapshot().topology.wiring
            return Inspection(str(path), steps, (), wiring, ("a snapshot of Topostrata, with its wiring",), notes)
        parts = moments(file, understood)
        return _inspect(next(iter(parts.values()), file), str(path), steps or tuple(parts), notes, understood)


def _unfinished(steps: list[Step], names: AbstractSet[str], options: Options) -> Iterator[str]:
    """Why the last snapshots cannot be read, the last first, up to one that has all arrays; no more are opened."""
    for step in reversed(steps[1:]):
        try:
            with run_directory.opened(step.path, options.limits) as file:
                if not file.arrays.keys() < names:
                    return
                yield f"{step.path}: expected also {', '.join(sorted(names - file.arrays.keys())[:8])}, found none"
        except InvalidInputError as error:
            yield error.message


def _inspect(
    file: ArrayFile, path: str, steps: tuple[int, ...], notes: tuple[str, ...], options: Options
) -> Inspection:
    if options.wiring is not None:
        file = with_shapes(file, options.wiring, options.axes)
    roles = roles_of(file.arrays)
    try:
        if options.wiring is not None:
            _, more = place(file, options.wiring, options)
            taken = {role.name for role in match(file, options.wiring, roles)[0].values()}
            arrays = tuple(_array(role, taken, options.limits) for role in roles)
            return Inspection(path, steps, arrays, options.wiring, ("the wiring is the one you gave",), (*notes, *more))
        reading = decide(file, options)
        reading.topology()  # what a push would refuse only when it reads the numbers, such as NaN
    except TopostrataError as error:
        arrays = tuple(_array(role, set(), options.limits) for role in roles)
        if isinstance(error, OpenQuestionError) and error.draft is not None:
            return Inspection(
                path, steps, arrays, error.draft, (), notes, error.message, error.hint, draft_of=error.family
            )
        draft = _draft([role for role in roles if role.holds_layer], file.axes)
        return Inspection(path, steps, arrays, draft, (), notes, error.message, error.hint)
    arrays = tuple(_array(role, reading.arrays, options.limits) for role in roles)
    return Inspection(path, steps, arrays, reading.wiring, reading.evidence, (*notes, *reading.notes))


def _array(role: ArrayRole, taken: set[str], limits: Limits) -> InspectedArray:
    stored = role.array
    density, zeros = _filled(stored, limits)
    return InspectedArray(
        stored.name,
        stored.shape,
        stored.dtype,
        stored.layout,
        density,
        zeros,
        role.role,
        role.why,
        role.stem,
        stored.name in taken,
    )


def _filled(stored: StoredArray, limits: Limits) -> tuple[float | None, int]:
    """Density and stored zeros; None where the numbers cannot be read."""
    try:
        values = read_within(stored, limits, where=stored.name)
    except TopostrataError:
        return None, 0
    if isinstance(values, Entries):
        filled, zeros = int(np.count_nonzero(values.values)), int(np.count_nonzero(values.values == 0))
    else:
        filled, zeros = int(np.count_nonzero(values)) if values.dtype.kind in "biufc" else 0, 0
    return (filled / stored.size if stored.size else None), zeros


def _draft(layers: Sequence[ArrayRole], axes: AxisOrder) -> Wiring | None:
    """Every layer with spaces of its own, to be joined by a person."""
    shapes: dict[str, LayerShape] = {}
    for role in sorted(layers, key=lambda role: natural(role.stem)):
        if role.stem in shapes and role.role != "mask":
            continue
        n_source, n_target, taps = dims(role.array.shape, axes)
        if min(n_source, n_target, taps) < 1:
            continue
        orientation: Orientation = "hwio" if axes == "in-out" and len(role.array.shape) > 2 else axes
        source, target = Space(f"{role.stem}.in", n_source), Space(f"{role.stem}.out", n_target)
        part = Part(role.name, orientation=orientation)
        shapes[role.stem] = LayerShape(role.stem, source, target, taps, part=part)
    return Wiring(tuple(shapes.values())) if shapes else None
