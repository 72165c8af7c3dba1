"""The names of a pickle that mean an array, a storage or a dictionary; all others stay names.

A meaning takes the arguments that the stream holds and gives a description. What the arguments must look like is
what ``torch._utils`` (the ``_rebuild_*`` functions, torch 0.1 to 2.15) and ``numpy`` (``_reconstruct``, ``_frombuffer``
and ``scalar``) write.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol

import numpy as np

from topostrata.ingest.formats.checkpoint.described import (
    DtypeOf,
    Global,
    NumpyArray,
    Opaque,
    Quantiser,
    SparseTensor,
    Storage,
    Tensor,
    Unread,
    text,
)
from topostrata.ingest.formats.checkpoint.tensors import DTYPES
from topostrata.ingest.formats.checkpoint.windows import Span, Window

_MAX_AXES = 64
_DTYPE = re.compile(r"[biufcSUV]\d{1,5}|[O?]8?")
_SPARSE = {"coo": 1, "csr": 2, "csc": 2, "bsr": 2, "bsc": 2}


class Host(Protocol):
    """What a meaning may ask of the machine: pay, fill a dictionary, read a checkpoint in a string."""

    where: str

    def charge(self, size: int) -> None:
        """Pay for memory."""

    def set_items(self, into: Any, flat: list[Any]) -> None:
        """Fill a dictionary from keys and values, one after another."""

    def nested(self, window: Window) -> Any:
        """What a checkpoint inside this one describes."""


def reduce(host: Host, function: Any, arguments: Any) -> Any:
    """What a call would give, if it is one of the few with a meaning; else the call, written down."""
    if not isinstance(function, Global):
        return Opaque("?", arguments)
    meaning = _MEANINGS.get(_NUMPY.sub("numpy.", function.name))
    if meaning is None or type(arguments) is not tuple:
        return Opaque(function.name, arguments)
    return meaning(host, *arguments)


def build(host: Host, target: Any, state: Any) -> None:
    """Give an object its state: arrays are filled; dictionaries and tensors keep what they have."""
    if isinstance(target, Opaque):
        target.state = state
    elif isinstance(target, NumpyArray):
        _, shape, dtype, fortran_order, data = state
        _fill(host, target, shape, dtype, fortran_order is True, data)
    elif isinstance(target, DtypeOf):
        _, order, *parts = state
        if any(part is not None for part in parts[:3]):
            target.dtype = None  # fields, or a shape inside the entry
        elif target.dtype is not None and text(order) in {"<", ">"}:
            target.dtype = target.dtype.newbyteorder(">" if text(order) == ">" else "<")
    elif not isinstance(target, (dict, Tensor, SparseTensor, Unread)):
        raise TypeError("a state of something that has none")


def whole_numbers(values: Any) -> tuple[int, ...]:
    """A shape or strides: a short list of whole numbers that are not negative."""
    if type(values) not in {list, tuple} or len(values) > _MAX_AXES:
        raise TypeError("a shape that is no short list")
    if not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise ValueError("a shape with something else than whole numbers")
    return tuple(values)


def _tensor(
    storage: Any, dtype: str | None, offset: Any, shape: Any, strides: Any, *, metadata: Any = None
) -> Tensor | Unread:
    sizes, steps = whole_numbers(shape), whole_numbers(strides)
    if not isinstance(storage, Storage) or len(sizes) != len(steps):
        raise TypeError("a tensor without a storage, or with other strides than axes")
    (start,) = whole_numbers([offset])
    if dtype not in DTYPES:
        return Unread(f"a tensor of dtype {dtype or storage.kind}, shape {sizes}", "this dtype is not read")
    marks = metadata if type(metadata) is dict else {}
    return Tensor(
        storage, dtype, start, sizes, steps, conjugate=marks.get("conj") is True, negative=marks.get("neg") is True
    )


def _tensor_1(_host: Host, storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor | Unread:
    return _tensor(storage, storage.dtype, offset, shape, strides)


def _tensor_2(
    _host: Host,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: Any = None,
    _hooks: Any = None,
    metadata: Any = None,
) -> Tensor | Unread:
    return _tensor(storage, storage.dtype, offset, shape, strides, metadata=metadata)


def _tensor_3(
    _host: Host,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: Any,
    _hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor | Unread:
    return _tensor(storage, _dtype_name(dtype), offset, shape, strides, metadata=metadata)


def _quantised(
    _host: Host, storage: Any, offset: Any, shape: Any, strides: Any, parameters: Any, *_: Any
) -> Tensor | Unread:
    tensor = _tensor(storage, storage.dtype, offset, shape, strides)
    if isinstance(tensor, Unread):
        return tensor
    scheme, scale, zero_point, *axis = parameters
    quantiser = Quantiser(scheme.name.removeprefix("torch."), scale, zero_point, axis[0] if axis else 0)
    return Tensor(tensor.storage, tensor.dtype, tensor.offset, tensor.shape, tensor.strides, quantiser)


def _meta(_host: Host, dtype: Any, shape: Any, strides: Any, *_: Any) -> Tensor | Unread:
    sizes, name = whole_numbers(shape), _dtype_name(dtype)
    if name not in DTYPES:
        return Unread(f"a tensor of dtype {name}, shape {sizes}", "this dtype is not read")
    return Tensor(None, name, 0, sizes, whole_numbers(strides))


def _sparse(_host: Host, layout: Any, data: Any) -> SparseTensor | Unread:
    name = layout.name.removeprefix("torch.sparse_")
    if name not in _SPARSE:
        return Unread(f"a tensor of layout {name}", "this layout is not read")
    n_parts = _SPARSE[name]
    if len(data) < n_parts + 2:
        raise ValueError("a sparse tensor without all its parts")
    *parts, values, shape = data[: n_parts + 2]
    if isinstance(values, Unread):
        return values
    if not all(isinstance(part, Tensor) for part in (*parts, values)):
        raise TypeError("a sparse tensor whose parts are no tensors")
    return SparseTensor(name, tuple(parts), values, whole_numbers(shape))


def _first(_host: Host, data: Any, *_: Any) -> Any:
    return data


def _of_type(host: Host, function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    described = reduce(host, function, arguments)
    return _wrapper(host, kind) if isinstance(described, Opaque) else described


def _wrapper(_host: Host, kind: Any, *_: Any) -> Unread:
    return Unread(f"a tensor of class {kind.name}", "how this class keeps its numbers is its own affair")


def _nested_tensor(_host: Host, *_: Any) -> Unread:
    return Unread("a nested tensor", "its rows differ in length")


def _from_bytes(host: Host, data: Any) -> Any:
    if isinstance(data, Span):
        return host.nested(data.window)
    return host.nested(Window.whole(BytesIO(data), where=host.where))


def _layout(_host: Host, name: Any) -> Global:
    return Global(text(name) or "?")


def _dictionary(host: Host, pairs: Any = ()) -> dict[Any, Any]:
    items: dict[Any, Any] = {}
    host.charge(20 * len(pairs))
    host.set_items(items, [part for key, value in pairs for part in (key, value)])
    return items


def _default_dictionary(_host: Host, *_: Any) -> dict[Any, Any]:
    return {}


def _set(host: Host, values: Any = ()) -> Opaque:
    host.charge(20 * len(values))
    return Opaque("builtins.set", elements=list(values))


def _encode(host: Host, characters: Any, encoding: Any = "") -> Any:
    if text(encoding) not in {"latin1", "latin-1"} or not isinstance(characters, (str, Span)):
        return Opaque("_codecs.encode", (characters, encoding))
    if isinstance(characters, Span):
        return characters
    host.charge(len(characters))
    return characters.encode("latin-1")


def _empty_bytes(_host: Host, *arguments: Any) -> bytes | Opaque:
    return Opaque("builtins.bytes", arguments) if arguments else b""


def _reconstructed(_host: Host, kind: Any, base: Any, state: Any = None) -> Opaque:
    plain = isinstance(base, Global) and base.name.endswith(".object")
    return Opaque(kind.name if isinstance(kind, Global) else "?", () if plain else (state,))


def _numpy_dtype(_host: Host, code: Any, *_: Any) -> DtypeOf:
    name = (text(code) or "?")[:20]
    plain = name.lstrip("<>|=")
    if not _DTYPE.fullmatch(plain):
        return DtypeOf(name, None)
    try:
        return DtypeOf(name, np.dtype("O" if plain.startswith("O") else name))
    except TypeError:
        return DtypeOf(name, None)


def _numpy_array(_host: Host, kind: Any, *_: Any) -> NumpyArray | Opaque:
    if kind.name.startswith("numpy.") and kind.name.rsplit(".", 1)[-1] in {"ndarray", "matrix", "memmap"}:
        return NumpyArray()
    return Opaque(kind.name)


def _numpy_buffer(host: Host, data: Any, dtype: Any, shape: Any, order: Any) -> NumpyArray:
    array = NumpyArray()
    _fill(host, array, shape, dtype, text(order) == "F", data)
    return array


def _numpy_number(_host: Host, dtype: Any, data: Any = b"") -> Any:
    kind = dtype.dtype if isinstance(dtype, DtypeOf) else None
    number = data.encode("latin-1") if isinstance(data, str) else data
    if kind is None or kind.kind not in "biuf" or kind.itemsize > 8 or not isinstance(number, bytes):
        return Opaque("numpy.scalar")
    return np.frombuffer(number, kind, 1)[0].item()


def _fill(host: Host, array: NumpyArray, shape: Any, dtype: Any, fortran_order: bool, data: Any) -> None:
    sizes = whole_numbers([shape] if type(shape) is int else shape)
    if not isinstance(dtype, DtypeOf):
        raise TypeError("an array without a dtype")
    count, kind = math.prod(sizes), dtype.dtype
    if kind is not None and kind.hasobject:
        if type(data) is not list or len(data) != count:
            raise ValueError("an array of objects with too few or too many of them")
    elif kind is not None:
        if isinstance(data, str):
            host.charge(len(data))
            data = data.encode("latin-1")
        expected = count * kind.itemsize
        if isinstance(data, Span):
            # Text stands for bytes: one or two bytes of UTF-8 for each.
            fits = expected <= data.window.size <= (2 if data.kind == "text" else 1) * expected
        else:
            fits = isinstance(data, bytes) and len(data) == expected
        if not fits:
            raise ValueError("an array with too few or too many bytes")
    array.shape, array.dtype, array.fortran_order, array.data = sizes, dtype, fortran_order, data


def _dtype_name(dtype: Any) -> str:
    if not isinstance(dtype, Global):
        raise TypeError("a tensor without a dtype")
    return dtype.name.removeprefix("torch.")


_NUMPY = re.compile(r"numpy\._?core\.(?:multiarray|numeric)\.")
_MEANINGS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor_1,
    "torch._utils._rebuild_tensor_v2": _tensor_2,
    "torch._utils._rebuild_tensor_v3": _tensor_3,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_numpy": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._utils._rebuild_xla_tensor": _first,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._utils._rebuild_nested_tensor": _nested_tensor,
    "torch._tensor._rebuild_from_type": _of_type,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.tensor._rebuild_from_type": _of_type,
    "torch.Size": _first,
    "torch.serialization._get_layout": _layout,
    "torch.storage._load_from_bytes": _from_bytes,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "_codecs.encode": _encode,
    "builtins.bytes": _empty_bytes,
    "__builtin__.bytes": _empty_bytes,
    **dict.fromkeys(("builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset"), _set),
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    "numpy.dtype": _numpy_dtype,
    "numpy._reconstruct": _numpy_array,
    "numpy._frombuffer": _numpy_buffer,
    "numpy.scalar": _numpy_number,
}
