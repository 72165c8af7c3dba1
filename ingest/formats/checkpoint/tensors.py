"""Numbers of tensors and arrays: from bytes in the file to NumPy, each cost checked before it is paid.

A view may name an entry many times (stride 0): four bytes of storage can describe a tensor of any size. So a dense form
may have at most ``_FREE`` entries more than its storage holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.checkpoint.described import NumpyArray, Quantiser, SparseTensor, Storage, Tensor
from topostrata.ingest.formats.checkpoint.windows import Span, Window
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.small_floats import FLOAT8, from_bfloat16, from_float8
from topostrata.ingest.formats.stored import Entries, check_shape, compressed_positions, diagonals, native, summed

# torch's dtype -> NumPy's for the bits that are stored.
DTYPES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "u2",
    "complex128": "c16",
    "complex64": "c8",
    "complex32": "f2",  # two of them
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint64": "u8",
    "uint32": "u4",
    "uint16": "u2",
    "uint8": "u1",
    "bool": "u1",
    "qint8": "i1",
    "quint8": "u1",
    "qint32": "i4",
    **dict.fromkeys(FLOAT8, "u1"),
}
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}
SCIPY_PARTS = {  # the indices of each of SciPy's formats, by the names of its parts; ``data`` stands beside them
    "csr": ("indptr", "indices"),
    "csc": ("indptr", "indices"),
    "bsr": ("indptr", "indices"),
    "coo": ("row", "col"),
    "dia": ("offsets",),
}
_FREE = 1 << 22
_MIB = 1 << 20


def itemsize(dtype: str) -> int:
    """Bytes of one entry."""
    return 4 if dtype == "complex32" else np.dtype(DTYPES[dtype]).itemsize


def read_tensor(tensor: Tensor, *, where: str, limits: Limits) -> NDArray[Any]:
    """The numbers of a dense tensor, as torch would show them."""
    stored = native(_strided(tensor, where=where, limits=limits))
    quantised = tensor.quantiser is not None or tensor.dtype in {"qint8", "quint8", "qint32"}
    values = _dequantised(stored, tensor, where, limits) if quantised else _values(stored, tensor)
    if tensor.conjugate:
        values = np.conjugate(values)
    return -values if tensor.negative else values


def read_sparse(sparse: SparseTensor, *, where: str, limits: Limits) -> Entries:
    """The entries of a sparse tensor."""
    limits.check_entries(where, math.prod(sparse.values.shape))
    values = read_tensor(sparse.values, where=f"{where}: values", limits=limits)
    parts = [read_tensor(part, where=f"{where}: indices", limits=limits) for part in sparse.parts]
    if sparse.layout == "coo":
        return summed(*_of_coordinates(parts[0], values, len(sparse.shape), where), sparse.shape, where=where)
    if len(sparse.shape) != 2 or values.ndim != (3 if sparse.layout in {"bsr", "bsc"} else 1):
        raise InvalidInputError(
            f"{where}: expected a {sparse.layout} tensor of 2 axes, found shape {sparse.shape}",
            hint="batches of compressed tensors are not read: save tensor.to_sparse_coo()",
        )
    return compressed(sparse.layout, parts[0], parts[1], values, sparse.shape, where=where)


def compressed(
    layout: str,
    pointers: NDArray[Any],
    minor: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, ...],
    *,
    where: str,
) -> Entries:
    """The entries of a CSR, CSC, BSR or BSC matrix; ``values`` of the block layouts are (blocks, height, width)."""
    by_row = layout in {"csr", "bsr"}
    height, width = values.shape[1:] if values.ndim == 3 else (1, 1)
    if height < 1 or width < 1 or shape[0] % height or shape[1] % width:
        raise InvalidInputError(f"{where}: expected blocks that fill shape {shape}, found {height} x {width}")
    n_major = shape[0] // height if by_row else shape[1] // width
    if len(pointers) != n_major + 1:
        raise InvalidInputError(f"{where}: expected {n_major + 1:,} pointers, found {len(pointers):,}")
    major, minor = compressed_positions(pointers, minor, n_major, where=where)
    if len(values) < len(major):
        raise InvalidInputError(f"{where}: expected {len(major):,} values, found {len(values):,}")
    values = values[: len(major)]
    row, column = (major, minor) if by_row else (minor, major)
    if values.ndim == 3:
        block, row_in_block, column_in_block = np.nonzero(values)  # zeros fill blocks up
        values = values[block, row_in_block, column_in_block]
        row, column = row[block] * height + row_in_block, column[block] * width + column_in_block
    return summed(np.stack([row, column], axis=1), values, shape, where=where)


def matrix_entries(
    form: str, index: Sequence[NDArray[Any]], values: NDArray[Any], shape: tuple[int, int], *, where: str
) -> Entries:
    """The entries of a SciPy matrix of format ``form``, given the arrays that ``SCIPY_PARTS`` names for it."""
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


def read_array(array: NumpyArray, *, where: str, limits: Limits) -> NDArray[Any]:
    """The numbers of a pickled NumPy array."""
    dtype = array.dtype.dtype if array.dtype else None
    if dtype is None:
        raise InvalidInputError(f"{where}: expected an array of numbers, found one that was never filled")
    check_shape(array.shape, dtype.itemsize, where=where)
    limits.check(where, total_bytes=math.prod(array.shape) * dtype.itemsize)
    limits.check_memory(where, 2 * math.prod(array.shape) * dtype.itemsize)
    data = array.data.read() if isinstance(array.data, Span) else array.data
    if not isinstance(data, bytes) or len(data) != math.prod(array.shape) * dtype.itemsize:
        raise InvalidInputError(f"{where}: expected as many bytes as the shape says, found others")
    return native(np.frombuffer(data, dtype)).reshape(array.shape, order="F" if array.fortran_order else "C")


def _strided(tensor: Tensor, *, where: str, limits: Limits) -> NDArray[Any]:
    """The stored bits in the tensor's shape; complex32 with an axis more, for its two parts."""
    if tensor.storage is None:
        raise InvalidInputError(
            f"{where}: expected numbers, found a meta tensor, which is a shape without numbers",
            hint="save the model after its weights were loaded",
        )
    window, length = _window(tensor.storage, where)
    width, count = itemsize(tensor.dtype), math.prod(tensor.shape)
    check_shape(tensor.shape, width, where=where)
    limits.check(where, total_bytes=count * width)
    dtype = np.dtype(DTYPES[tensor.dtype]).newbyteorder(">" if tensor.storage.big_endian else "<")
    shape = (*tensor.shape, 2) if tensor.dtype == "complex32" else tensor.shape
    if count == 0:
        return np.zeros(shape, dtype)
    if count > max(length // width, _FREE):
        raise LimitError(
            f"{where}: expected at most as many entries as are stored ({length // width:,}), found a view of {count:,}",
            hint="save tensor.clone() instead of an expanded tensor",
        )
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if (last + 1) * width > length:
        raise InvalidInputError(
            f"{where}: expected a view inside its storage of {length:,} bytes, found one up to byte "
            f"{(last + 1) * width:,}",
            hint="is the file cut off or damaged?",
        )
    data = window.read(tensor.offset * width, (last + 1 - tensor.offset) * width)
    strides = [step * width if n > 1 else width for n, step in zip(tensor.shape, tensor.strides, strict=True)]
    if tensor.dtype == "complex32":
        strides.append(dtype.itemsize)
    view: NDArray[Any] = np.ndarray(shape, dtype, data, 0, strides)
    return view


def _window(storage: Storage, where: str) -> tuple[Window, int]:
    """Where the numbers of a storage lie, and how many bytes they are."""
    root, offset = storage.root
    if root.window is None:
        raise InvalidInputError(
            f"{where}: expected numbers in the file, found none for storage {storage.key[:40]!r}",
            hint="is the file cut off?",
        )
    if root is storage:
        return root.window, root.window.size
    width = itemsize(storage.dtype or "uint8")
    return root.window.window(offset * width, storage.length * width), storage.length * width


def _values(stored: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == "bool":
        return stored.astype(np.bool_)
    if tensor.dtype == "bfloat16":
        return from_bfloat16(stored)
    if tensor.dtype in FLOAT8:
        return from_float8(stored, tensor.dtype)
    if tensor.dtype == "complex32":
        values = np.empty(tensor.shape, np.complex64)
        values.real, values.imag = stored[..., 0], stored[..., 1]
        return values
    return stored


def _dequantised(stored: NDArray[Any], tensor: Tensor, where: str, limits: Limits) -> NDArray[np.float32]:
    quantiser = tensor.quantiser
    if quantiser is None:
        raise InvalidInputError(f"{where}: expected scale and zero point of a quantised tensor, found none")
    scale = _parameter(quantiser.scale, quantiser, stored.shape, where, limits).astype(np.float32)
    zero_point = _parameter(quantiser.zero_point, quantiser, stored.shape, where, limits)
    shifted = stored.astype(np.float32) - zero_point.astype(np.float32)
    return shifted * scale


def _parameter(value: Any, quantiser: Quantiser, shape: tuple[int, ...], where: str, limits: Limits) -> NDArray[Any]:
    if not isinstance(value, Tensor):
        if type(value) not in {int, float} or quantiser.scheme != "per_tensor_affine" or abs(value) > 2.0**64:
            raise InvalidInputError(f"{where}: expected a number for scheme {quantiser.scheme[:40]!r}, found another")
        return np.array(value)
    if value.quantiser is not None:
        raise InvalidInputError(f"{where}: expected a plain tensor of scales or zero points, found a quantised one")
    axis = quantiser.axis
    numbers = read_tensor(value, where=f"{where}: scale", limits=limits)
    if type(axis) is not int or not 0 <= axis < len(shape) or numbers.shape != (shape[axis],):
        raise InvalidInputError(
            f"{where}: expected one scale and zero point per index of axis {axis}, found shape {numbers.shape}"
        )
    return numbers.reshape([-1 if k == axis else 1 for k in range(len(shape))])


def _of_coordinates(
    indices: NDArray[Any], values: NDArray[Any], n_axes: int, where: str
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Positions and values of a COO tensor; the dense axes behind the sparse ones of a hybrid become positions too."""
    if indices.ndim != 2 or indices.dtype.kind not in "iu" or len(indices) + max(values.ndim - 1, 0) != n_axes:
        raise InvalidInputError(
            f"{where}: expected indices and values for {n_axes} axes, found shapes {indices.shape} and {values.shape}"
        )
    if values.ndim < 1 or len(values) != indices.shape[1]:
        raise InvalidInputError(f"{where}: expected {indices.shape[1]:,} values, found shape {values.shape}")
    positions = indices.T.astype(np.int64)
    if values.size == 0:  # the dense axes of no entries may be of any length
        return np.zeros((0, n_axes), np.int64), values.reshape(-1)
    if values.ndim > 1:
        behind = np.indices(values.shape[1:], dtype=np.int64).reshape(values.ndim - 1, -1).T
        positions = np.concatenate(
            [np.repeat(positions, len(behind), axis=0), np.tile(behind, (len(positions), 1))], axis=1
        )
    return positions, values.reshape(-1)
