"""Masks as other libraries hold them: SciPy sparse matrices, NumPy arrays and torch tensors.

Torch is not imported. Whatever the container, the answer is the same: the indices of the entries that are connections,
and the shape.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.words import Zeros

Orientation = Literal["in-out", "out-in", "hwio"]

_BY_VALUE = ("bsr", "dia")  # these store whole blocks and diagonals, so that a stored zero says nothing
# What NumPy has no type for, or is slow with, but torch turns into float32 without loss.
_WIDENED = ("torch.bfloat16", "torch.float8", "torch.float16")


def check_words(*, orientation: str | None = "in-out", zeros: str | None = None, kernels: bool = False) -> None:
    """``InvalidInputError`` for a word that means nothing, which would else be taken for the default.

    ``hwio`` is an orientation of arrays that have ``kernels``.
    """
    orientations = [word for word in get_args(Orientation) if kernels or word != "hwio"]
    if orientation not in orientations:
        raise InvalidInputError(f"orientation: expected one of {', '.join(orientations)}, found {orientation!r}")
    if zeros is not None and zeros not in get_args(Zeros):
        raise InvalidInputError(f"zeros: expected one of {', '.join(get_args(Zeros))}, found {zeros!r}")


class Entries(NamedTuple):
    """The connections in an array: one index array per dimension, and the array's shape."""

    indices: tuple[NDArray[np.int64], ...]
    shape: tuple[int, ...]


def entries(matrix: Any, *, zeros: Zeros | None = None) -> Entries:
    """The entries of a sparse matrix, array or tensor that are connections.

    That is every entry that is not 0. A *stored* zero of a sparse matrix is a connection where ``zeros="present"`` (its
    pattern counts) and none where ``"absent"``; None is the rule of docs/formats.md: none, but for the parameters that
    torch stores sparse as floats, where grown connections begin at 0. In formats that store blocks or diagonals it is
    none in any case. Entries stored twice are summed. Raises ``InvalidTopologyError`` for values that are not real and
    finite.
    """
    tensor = hasattr(matrix, "detach")
    if tensor:
        matrix = from_torch(matrix)
    if sp.issparse(matrix):
        return _from_sparse(matrix, zeros, tensor=tensor)
    array = np.asarray(matrix)
    _check_values(array)
    if not array.ndim:
        raise InvalidTopologyError("mask: expected a matrix (sources x targets), found a single number")
    # Several times as fast as ``nonzero`` of an array of several dimensions.
    cells = np.flatnonzero(array if array.dtype == bool else array != 0)
    return Entries(np.unravel_index(cells, array.shape), array.shape)


def default_zeros(dtype: np.dtype[Any], *, tensor: bool = False) -> Zeros:
    """What a stored zero is where nobody says: ``"present"`` in sparse float parameters of torch, else ``"absent"``."""
    return "present" if tensor and dtype.kind == "f" else "absent"


def from_torch(tensor: Any) -> Any:
    """A tensor of any layout, dtype and device as a NumPy array or a SciPy sparse array of the same entries."""
    if tensor.device.type == "meta":
        raise InvalidTopologyError(
            "mask: expected a tensor with values, found one on the meta device",
            hint="load the checkpoint's values first",
        )
    tensor = tensor.detach()
    layout = str(tensor.layout).removeprefix("torch.")
    shape = tuple(tensor.shape)
    if layout == "strided":
        return _values(tensor)
    if layout == "sparse_coo":
        coo = tensor.coalesce()
        if coo.sparse_dim() != len(shape):
            raise InvalidTopologyError("mask: expected a sparse tensor without dense dimensions, found a hybrid one")
        return sp.coo_array((_values(coo.values()), tuple(coo.indices().cpu().numpy())), shape=shape)
    by_row = layout in {"sparse_csr", "sparse_bsr"}
    if not by_row and layout not in {"sparse_csc", "sparse_bsc"}:
        raise InvalidTopologyError(f"mask: expected a strided, COO, CSR, CSC, BSR or BSC tensor, found layout {layout}")
    if len(shape) != 2 or tensor.dense_dim():
        raise InvalidTopologyError(
            f"mask: expected one matrix (sources x targets), found a batch or hybrid of shape {shape}"
        )
    values = _values(tensor.values())
    ptr, indices = (
        (tensor.crow_indices(), tensor.col_indices()) if by_row else (tensor.ccol_indices(), tensor.row_indices())
    )
    parts = (values, indices.cpu().numpy(), ptr.cpu().numpy())
    if layout == "sparse_csr":
        return sp.csr_array(parts, shape=shape)
    if layout == "sparse_csc":
        return sp.csc_array(parts, shape=shape)
    if layout == "sparse_bsr":
        return sp.bsr_array(parts, shape=shape)
    # The transpose of compressed block columns are compressed block rows.
    return sp.bsr_array((values.transpose(0, 2, 1), *parts[1:]), shape=shape[::-1]).T


def _from_sparse(matrix: Any, zeros: Zeros | None, *, tensor: bool) -> Entries:
    zeros = zeros or default_zeros(matrix.dtype, tensor=tensor)
    by_value = zeros == "absent" or matrix.format in _BY_VALUE
    coo = sp.coo_array(matrix, copy=True)
    _check_values(coo.data)
    if matrix.format in {"csr", "csc"}:
        coo.has_canonical_format = matrix.has_canonical_format  # then none stands twice, and nothing is to be sorted
    coo.sum_duplicates()
    keep = coo.data != 0 if by_value else slice(None)
    return Entries(tuple(index[keep].astype(np.int64) for index in coo.coords), tuple(coo.shape))


def _values(tensor: Any) -> NDArray[Any]:
    """The values of a strided tensor in a type that NumPy knows."""
    if hasattr(tensor, "device_mesh"):
        raise InvalidTopologyError(
            "mask: expected a whole tensor, found one that is sharded over several processes (DTensor)",
            hint="hand over `mask.full_tensor()`, called on every process",
        )
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    kind = str(tensor.dtype)
    if kind.startswith(_WIDENED):
        tensor = tensor.float()
    try:
        array: NDArray[Any] = tensor.resolve_neg().cpu().numpy()
    except (TypeError, RuntimeError) as error:
        raise InvalidTopologyError(
            f"mask: expected a tensor of booleans or real numbers, found dtype {kind}",
            hint="hand over `tensor != 0`",
        ) from error
    return array


def _check_values(values: NDArray[Any]) -> None:
    if values.dtype.kind not in "biuf":
        raise InvalidTopologyError(f"mask: expected boolean or real values, found dtype {values.dtype}")
    if values.dtype.kind == "f" and not bool(np.isfinite(values).all()):
        at = np.argwhere(~np.isfinite(values))[0].tolist()
        raise InvalidTopologyError(f"mask: expected finite values, found {values[tuple(at)]} at {at}")
