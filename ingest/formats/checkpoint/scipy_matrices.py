"""SciPy matrices in a pickle: their parts are NumPy arrays, put together as the class's name says."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.checkpoint.described import NumpyArray, Opaque
from topostrata.ingest.formats.checkpoint.meanings import whole_numbers
from topostrata.ingest.formats.checkpoint.tensors import compressed, read_array
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.stored import Entries, LeftOut, StoredArray, diagonals, summed

_CLASS = re.compile(r"scipy\.sparse\.(?:_?\w+\.)?([a-z]{3})_(?:matrix|array)")
_PARTS = {
    "csr": ("indptr", "indices", "data"),
    "csc": ("indptr", "indices", "data"),
    "bsr": ("indptr", "indices", "data"),
    "coo": ("row", "col", "data"),
    "dia": ("offsets", "data"),
}


def scipy_matrix(described: Opaque, name: str, *, where: str, limits: Limits) -> StoredArray | LeftOut | None:
    """The matrix that an object of SciPy is; None if it is no matrix of SciPy."""
    match = _CLASS.fullmatch(described.name)
    if match is None:
        return None
    form, state = match[1], described.state
    what = f"a SciPy matrix of format {form}"
    if form not in _PARTS:
        return LeftOut(name, what, "this format is not read: save matrix.tocsr()")
    if not isinstance(state, dict):
        return LeftOut(name, what, "its parts are not in the file")
    parts = dict(state)
    coordinates = parts.get("coords")
    if form == "coo" and type(coordinates) is tuple and len(coordinates) == 2:
        parts["row"], parts["col"] = coordinates
    arrays = [parts.get(part) for part in _PARTS[form]]
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
    *index, values = (read_array(array, where=where, limits=limits) for array in arrays)
    limits.check(where, connections=values.size)
    if any(part.dtype.kind not in "iu" or part.ndim != 1 for part in index):
        raise InvalidInputError(f"{where}: expected indices of one axis and whole numbers, found others")
    if values.ndim != {"bsr": 3, "dia": 2}.get(form, 1):
        raise InvalidInputError(f"{where}: expected the values of a {form} matrix, found shape {values.shape}")
    if form == "dia":
        return diagonals(index[0], values, shape, where=where)
    if form != "coo":
        return compressed(form, index[0], index[1], values, shape, where=where)
    if not len(index[0]) == len(index[1]) == len(values):
        raise InvalidInputError(
            f"{where}: expected as many values as indices ({len(index[0]):,}, {len(index[1]):,}), found {len(values):,}"
        )
    return summed(np.stack(index, axis=1).astype(np.int64), values, shape, where=where)
