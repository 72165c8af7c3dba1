"""What a pickle describes, written down: tensors, arrays, and objects of classes that are never made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topostrata.ingest.formats.checkpoint.windows import Span, Window

ABSENT = "not in the file"


@dataclass(frozen=True, slots=True)
class Global:
    """The dotted name of a class or function; it is never looked up."""

    name: str


@dataclass(slots=True, eq=False)
class Opaque:
    """An object of a class, or a call of a function, that was only written down."""

    name: str
    args: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """An array whose numbers are not read, and why."""

    what: str
    why: str


@dataclass(slots=True, eq=False)
class Storage:
    """Numbers end to end, on which tensors are views. ``window`` is None until the container says where they lie.

    ``dtype`` is None where the storage's class is unknown: then no tensor on it is read. ``base`` is the storage of
    which this one is a part, with the entry at which it begins.
    """

    key: str
    kind: str
    dtype: str | None
    length: int
    window: Window | None = None
    big_endian: bool = False
    base: tuple[Storage, int] | None = None

    @property
    def root(self) -> tuple[Storage, int]:
        """The storage of which this one is a part (itself, where it is whole), and the entry at which it begins."""
        offset, root = 0, self
        while root.base is not None:
            root, further = root.base
            offset += further
        return root, offset


@dataclass(frozen=True, slots=True, eq=False)
class Quantiser:
    """``value = (stored - zero_point) * scale``, per tensor or along an axis (then both are tensors)."""

    scheme: str
    scale: Any
    zero_point: Any
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A strided view: entry ``i`` lies at ``offset + sum(i * strides)`` of the storage, counted in entries.

    A meta tensor has no storage: its shape is known, its numbers are not in the file.
    """

    storage: Storage | None
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    quantiser: Quantiser | None = None
    conjugate: bool = False
    negative: bool = False

    @property
    def place(self) -> str:
        """Where its storage lies, for people."""
        window = self.storage.root[0].window if self.storage else None
        return window.place if window else ABSENT


@dataclass(frozen=True, slots=True, eq=False)
class SparseTensor:
    """A tensor in a sparse layout: COO has one part (indices), the compressed layouts have pointers and indices."""

    layout: str
    parts: tuple[Tensor, ...]
    values: Tensor
    shape: tuple[int, ...]


@dataclass(slots=True, eq=False)
class DtypeOf:
    """A NumPy dtype of the pickle; None where it is one we do not read."""

    name: str
    dtype: np.dtype[Any] | None


@dataclass(slots=True, eq=False)
class NumpyArray:
    """A NumPy array of the pickle: first only known to be one, filled when its state comes.

    An array of Python objects has them in ``data`` as a list, in C order.
    """

    shape: tuple[int, ...] = ()
    dtype: DtypeOf | None = None
    fortran_order: bool = False
    data: bytes | Span | list[Any] | None = None


def text(value: Any) -> str | None:
    """A short text as Python 2 and 3 write it, or None."""
    if isinstance(value, str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None
