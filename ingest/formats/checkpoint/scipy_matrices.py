"""SciPy matrices in a pickle: their parts are NumPy arrays, put together as the class's name says."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

from topostrata.ingest.formats.checkpoint.described import NumpyArray, Opaque
from topostrata.ingest.formats.checkpoint.meanings import whole_numbers
from topostrata.ingest.formats.checkpoint.tensors import SCIPY_PARTS, matrix_entries, read_array
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.stored import Entries, LeftOut, StoredArray

_CLASS = re.compile(r"scipy\.sparse\.(?:_?\w+\.)?([a-z]{3})_(?:matrix|array)")


def scipy_matrix(described: Opaque, name: str, *, where: str, limits: Limits) -> StoredArray | LeftOut | None:
    """The matrix that an object of SciPy is; None if it is no matrix of SciPy."""
    match = _CLASS.fullmatch(described.name)
    if match is None:
        return None
    form, state = match[1], described.state
    what = f"a SciPy matrix of format {form}"
    if form not in SCIPY_PARTS:
        return LeftOut(name, what, "this format is not read: save matrix.tocsr()")
    if not isinstance(state, dict):
        return LeftOut(name, what, "its parts are not in the file")
    parts = dict(state)
    coordinates = parts.get("coords")
    if form == "coo" and type(coordinates) is tuple and len(coordinates) == 2:
        parts["row"], parts["col"] = coordinates
    arrays = [parts.get(part) for part in (*SCIPY_PARTS[form], "data")]
    shape = _shape(parts.get("_shape"))
    if shape is None or not all(isinstance(array, NumpyArray) and array.dtype is not None for array in arrays):
        return LeftOut(name, what, "its parts are not those that SciPy writes")
    values = arrays[-1]
    dtype = values.dtype.dtype if isinstance(values, NumpyArray) and values.dtype else None
    if dtype is None or dtype.kind not in "biufc":
        return LeftOut(name, what, "it holds no numbers")
    read = partial(_read, form, arrays, shape, where=where, limits=limits)
    return StoredArray(name, shape, dtype.name, form, "in the pickle itself", read)


def _shape(described: Any) -> tuple[int, int] | None:
    try:
        rows, columns = whole_numbers(described)
    except (TypeError, ValueError):
        return None
    return rows, columns


def _read(form: str, arrays: list[Any], shape: tuple[int, int], *, where: str, limits: Limits) -> Entries:
    limits.check_entries(where, max(math.prod(array.shape) for array in arrays))
    *index, values = (read_array(array, where=where, limits=limits) for array in arrays)
    return matrix_entries(form, index, values, shape, where=where)
