"""A match from elsewhere, by weights, activations or hand: once checked, it takes the place of an alignment."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.distance.common import axes
from topostrata.distance.partners import Partners
from topostrata.distance.plan import Plan
from topostrata.errors import InvalidInputError

Ints = NDArray[np.int64]

_HINT = "entry i is the unit of B that unit i of A is, so that `B[entry]` lists B's units in A's order"


def read_partners(path: str | os.PathLike[str]) -> dict[str, Ints]:
    """The index arrays in a file, by the names in it: an npz file, or a JSON object of lists.

    Raises ``InvalidInputError`` for a file that is neither or cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(f"{folder}/found.json").write_text('{"hidden1": [1, 0]}')
    ...     read_partners(f"{folder}/found.json")
    {'hidden1': array([1, 0])}
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            begin = file.read(2)
        if begin == b"PK":
            with np.load(path, allow_pickle=False) as arrays:
                entries: Any = {name: arrays[name] for name in arrays.files}
        else:
            entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"{path}: expected a file that can be read: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"{path}: expected an npz file or a JSON object of index arrays, found neither"
        ) from error
    if not isinstance(entries, dict) or not entries:
        raise InvalidInputError(f"{path}: expected an index array for each hidden space by its name, found none")
    try:
        return {name: _whole(name, array) for name, array in entries.items()}
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error.message}", hint=error.hint) from error


def checked(a: Plan, b: Plan, partners: Mapping[str, Any]) -> dict[int, Ints]:
    """The partners of all contexts, from index arrays by the names of A's spaces, or of the layers that enter them.

    Spaces that share all their axes with others may be left out, and so may those that are compared by index. Raises
    ``InvalidInputError`` for names that are none, for arrays that are no permutations, for those that take the units of
    an axis apart, and where a space has none.
    """
    known: dict[int, Ints] = {}
    for name, array in partners.items():
        s = _space(a, name)
        if s in known:
            raise InvalidInputError(f"partners: expected one index array for space {a.spaces[s].name!r}, found two")
        sizes = zip(a.contexts[s], b.contexts[s], strict=True)
        known[s] = _permutation(
            name,
            _whole(name, array),
            a.spaces[s].size,
            b.spaces[s].size,
            math.prod(min(m, n) for (_, m), (_, n) in sizes),
        )
        if a.fixed[s] and not np.array_equal(known[s], np.arange(a.spaces[s].size)):
            raise InvalidInputError(
                f"partners of {name!r}: expected units in place, found others: the units of this space have an order "
                "of their own",
                hint="leave it out",
            )
    in_axes = Partners(a, b)
    in_axes.put(axes(a, b, known))
    missing = [space.name for s, space in enumerate(a.spaces) if s not in in_axes]
    if missing:
        raise InvalidInputError(
            f"partners: expected an index array for each space whose units are interchangeable, missing "
            f"{', '.join(missing)}",
            hint=_HINT,
        )
    for s, array in known.items():
        if not np.array_equal(in_axes[s], array):
            apart = " x ".join(axis.name for axis in a.spaces[s].axes)
            raise InvalidInputError(
                f"partners of {a.spaces[s].name!r}: expected units that move together along the axes {apart}, as in "
                "all spaces that have them, found some that do not"
            )
    return dict(in_axes)


def _space(a: Plan, name: str) -> int:
    """The space of that name, or the one that the layer of that name enters."""
    for s, space in enumerate(a.spaces):
        if space.name == name:
            return s
    for k, shape in enumerate(a.shapes):
        if shape.name == name:
            return a.layers[k][1]
    raise InvalidInputError(
        f"partners: expected the names of A's spaces {', '.join(space.name for space in a.spaces)}, found {name!r}"
    )


def _whole(name: str, array: Any) -> Ints:
    try:
        numbers = np.asarray(array)
    except ValueError:
        numbers = np.zeros((0, 0))
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise InvalidInputError(
            f"partners of {name!r}: expected a flat array of whole numbers, found {numbers.dtype} of shape "
            f"{numbers.shape}",
            hint=_HINT,
        )
    return numbers.astype(np.int64)


def _permutation(name: str, array: Ints, size_a: int, size_b: int, pairs: int) -> Ints:
    matched = array[array >= 0]
    what = f"a permutation of the {size_b} units" if size_a == size_b == pairs else f"{pairs} pairs of units"
    wrong = ""
    if len(array) != size_a:
        wrong = f"{len(array)} entries where A has {size_a} units"
    elif array.size and (array.min() < -1 or array.max() >= size_b):
        wrong = f"{array[(array < -1) | (array >= size_b)][0]}"
    elif len(np.unique(matched)) < len(matched):
        numbers, times = np.unique(matched, return_counts=True)
        wrong = f"unit {numbers[times > 1][0]} more than once"
    elif len(matched) < pairs:
        wrong = f"{len(array) - len(matched)} units without a partner"
    if wrong:
        raise InvalidInputError(f"partners of {name!r}: expected {what}, found {wrong}", hint=_HINT)
    return array
