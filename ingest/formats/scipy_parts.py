"""SciPy matrices in the parts that ``scipy.sparse.save_npz`` writes: CSR, CSC, COO, BSR and DIA.

What the parts claim is compared before the long ones are unpacked: the ends of ``indptr`` with the lengths in the heads
of ``indices`` and ``data``, and both with the limits.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.checkpoint.tensors import SCIPY_PARTS, matrix_entries
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.safe_npz import SafeNpz
from topostrata.ingest.formats.stored import Entries, StoredArray, native

PARTS = frozenset({"format", "shape", "data", "indices", "indptr", "row", "col", "coords", "offsets", "_is_array"})
_SHOWN = 8


def scipy_array(npz: SafeNpz, name: str, prefix: str, limits: Limits) -> StoredArray:
    """The matrix whose parts are ``<prefix>data`` and so on, its entries not yet read."""
    at = f"{npz.where}: layer {name!r}"
    form = npz.text(f"{prefix}format") if f"{prefix}format" in npz else "csr"
    if form not in SCIPY_PARTS:
        raise InvalidInputError(
            f"{at}: expected a SciPy matrix in format {', '.join(SCIPY_PARTS)}, found {form[:20]!r}",
            hint="save matrix.tocsr() instead",
        )
    missing = [part for part in ("shape", "data", *SCIPY_PARTS[form]) if prefix + part not in npz]
    if missing:
        raise InvalidInputError(
            f"{at}: expected {', '.join(SCIPY_PARTS[form])}, shape and data of a {form} matrix, "
            f"found no {', '.join(missing)}"
        )
    shape = npz.array(f"{prefix}shape", kinds="iu")
    if shape.shape != (2,) or bool(np.any(shape < 0)):
        shown = shape.tolist() if shape.size <= _SHOWN else f"{shape.size:,} numbers"
        raise InvalidInputError(f"{npz.where}: member '{prefix}shape': expected 2 axes, found {shown}")
    dtype = npz.header(f"{prefix}data").dtype.name
    read = partial(_read, npz, form, prefix, (int(shape[0]), int(shape[1])), at, limits)
    return StoredArray(name, (int(shape[0]), int(shape[1])), dtype, form, f"members '{prefix}...'", read)


def _read(npz: SafeNpz, form: str, prefix: str, shape: tuple[int, int], at: str, limits: Limits) -> Entries:
    _check_sizes(npz, form, prefix, shape, at, limits)
    index = [native(npz.array(prefix + part, kinds="iu", ndim=1)) for part in SCIPY_PARTS[form]]
    values = native(npz.array(f"{prefix}data", ndim={"bsr": 3, "dia": 2}.get(form, 1)))
    return matrix_entries(form, index, values, shape, where=at)


def _check_sizes(npz: SafeNpz, form: str, prefix: str, shape: tuple[int, int], at: str, limits: Limits) -> None:
    """Bound the entries by the limits, and by what the matrix can hold, before they are unpacked."""
    count = npz.header(f"{prefix}data").size
    if form in {"csr", "csc"}:
        pointers = npz.array(f"{prefix}indptr", kinds="iu", ndim=1)
        count = int(pointers[-1]) if pointers.size else 0
        held = npz.header(f"{prefix}indices").size
        if not 0 <= count <= held:
            raise InvalidInputError(
                f"{npz.where}: member '{prefix}indices': expected {count:,} (the last of indptr), found {held:,}"
            )
    limits.check_entries(at, count)
    if form in {"csr", "csc"} and count > shape[0] * shape[1]:
        raise InvalidInputError(
            f"{at}: expected at most {shape[0] * shape[1]:,} entries in a matrix of {shape[0]} x {shape[1]}, "
            f"found {count:,}"
        )
