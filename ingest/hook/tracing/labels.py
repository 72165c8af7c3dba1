"""What is known of a tensor during the trace: its labels, what it stems from, and where a weight is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from topostrata.ingest.hook.tracing.axes_of_tensors import Dim, fix, fixed, free

# Parameters and what stems from them alone, buffers and other constants, and what stems from the input.
Kind = Literal["parameter", "constant", "activation"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the elements of a tensor lie in the parameter that it is a view of, or an elementwise function of.

    For each dimension its factors as (size, stride), as NumPy would stride over the flat parameter.
    """

    parameter: str
    strides: tuple[tuple[tuple[int, int], ...], ...]
    offset: int = 0

    @staticmethod
    def whole(parameter: str, shape: Sequence[int]) -> Stored:
        """All of a parameter as it lies."""
        return Stored(parameter, tuple(((size, math.prod(shape[k + 1 :])),) for k, size in enumerate(shape)))

    def permuted(self, order: Sequence[int]) -> Stored:
        """With its dimensions in another order."""
        return Stored(self.parameter, tuple(self.strides[k] for k in order), self.offset)

    def viewed(self, shape: Sequence[int]) -> Stored | None:
        """After a view; None where it cuts across factors."""
        rest = [factor for dim in self.strides for factor in dim if factor[0] != 1]
        strides = []
        for size in shape:
            row, missing = [], size
            while missing > 1:
                width, stride = rest.pop(0)
                if missing % width == 0:
                    row.append((width, stride))
                    missing //= width
                elif width % missing == 0:
                    row.append((missing, stride * (width // missing)))
                    rest.insert(0, (width // missing, stride))
                    missing = 1
                else:
                    return None
            strides.append(tuple(row))
        return Stored(self.parameter, tuple(strides), self.offset)

    def narrowed(self, which: int, start: int, stop: int) -> Stored | None:
        """After a slice of one dimension; None where that dimension has several factors."""
        row = [factor for factor in self.strides[which] if factor[0] != 1]
        if len(row) > 1:
            return None
        stride = row[0][1] if row else 0
        strides = (*self.strides[:which], ((stop - start, stride),), *self.strides[which + 1 :])
        return Stored(self.parameter, strides, self.offset + start * stride)

    def expanded(self, shape: Sequence[int]) -> Stored:
        """After an expansion: what is repeated has stride 0."""
        new = len(shape) - len(self.strides)
        old = [
            row if math.prod(size for size, _ in row) == shape[new + k] else ((shape[new + k], 0),)
            for k, row in enumerate(self.strides)
        ]
        return Stored(self.parameter, (*(((size, 0),) for size in shape[:new]), *old), self.offset)

    def places(self, dims: Sequence[int]) -> NDArray[np.int64]:
        """The place in the flat parameter of each index of some dimensions together, without the offset."""
        places = np.zeros(1, dtype=np.int64)
        for k in dims:
            for size, stride in self.strides[k]:
                places = (places[:, None] + np.arange(size) * stride).reshape(-1)
        return places


class Labels:
    """A tensor, by what its dimensions are numbered.

    ``blank`` tensors have equal elements (zeros, ones): any order of them is the same, so that each use of one has
    labels of its own. ``stored`` is None where a tensor is no view or elementwise function of one parameter.
    ``made_of`` are the tensors that it was computed from.
    """

    __slots__ = ("blank", "dims", "kind", "made_of", "names", "shape", "stored", "used")

    def __init__(
        self,
        shape: Sequence[int],
        dims: Sequence[Dim],
        kind: Kind = "activation",
        *,
        names: frozenset[str] = frozenset(),
        stored: Stored | None = None,
        blank: bool = False,
    ) -> None:
        self.shape = tuple(shape)
        self.dims = list(dims)
        self.kind: Kind = kind
        self.names = names
        self.stored = stored
        self.blank = blank
        self.made_of: list[Labels] = []
        self.used = False

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    def like(self, shape: Sequence[int], dims: Sequence[Dim], stored: Stored | None = None) -> Labels:
        """A view of this tensor."""
        return Labels(shape, dims, self.kind, names=self.names, stored=stored, blank=self.blank)

    def for_use(self) -> Labels:
        """The tensor with labels of its own where it is blank."""
        return self.like(self.shape, [free(size) for size in self.shape]) if self.blank else self

    def fix(self, why: str) -> None:
        """No dimension of it changes its order."""
        for dim in self.dims:
            fix(dim, why)


def fixed_labels(shape: Sequence[int], why: str, kind: Kind = "activation") -> Labels:
    """A tensor whose dimensions all mean something."""
    return Labels(shape, [fixed(size, why) for size in shape], kind)


def joined(shape: Sequence[int], dims: Sequence[Dim], tensors: Sequence[Labels]) -> Labels:
    """The result of an operation: an activation as soon as one of the tensors is; then constants have a fixed order."""
    kinds = {tensor.kind for tensor in tensors if not tensor.blank}
    if "activation" in kinds:
        for tensor in tensors:
            if tensor.kind == "constant" and not tensor.blank:
                tensor.fix("a buffer or constant that meets an activation")
        return Labels(shape, dims)
    kind: Kind = "parameter" if "parameter" in kinds else "constant"
    names = frozenset[str]().union(*(tensor.names for tensor in tensors))
    stored = next((t.stored for t in tensors if t.stored is not None and t.shape == tuple(shape)), None)
    return Labels(shape, dims, kind, names=names, stored=stored, blank=all(tensor.blank for tensor in tensors))
