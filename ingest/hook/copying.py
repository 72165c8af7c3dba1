"""A copy of a mask as it is at the moment: a bit for each entry, or where the entries are if the array is sparse.

Torch is not imported. Nothing of the caller's is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata import matrices
from topostrata.errors import InvalidTopologyError
from topostrata.masks import Mask


class Bits(NamedTuple):
    """A dense array's copy: a bit for each entry, in C order."""

    shape: tuple[int, ...]
    bits: NDArray[np.uint8]

    def array(self) -> NDArray[np.bool_]:
        """The array again."""
        return np.unpackbits(self.bits, count=prod(self.shape)).reshape(self.shape).view(np.bool_)


class Places(NamedTuple):
    """A sparse matrix's copy: where its entries are."""

    shape: tuple[int, ...]
    at: tuple[NDArray[Any], ...]

    def array(self) -> sp.coo_array:
        """The matrix again, with a connection wherever it had an entry."""
        ones: Any = np.ones(self.at[0].size, dtype=bool)
        places: Any = self.at
        matrix = sp.coo_array((ones, places), shape=self.shape)
        matrix.has_canonical_format = True  # none stands twice
        return matrix


Copied = Bits | Places | Mask


def array_of(copied: Copied) -> Any:
    """What was copied, again."""
    return copied if isinstance(copied, Mask) else copied.array()


def shape_of(copied: Copied) -> tuple[int, ...]:
    """The shape of what was copied; of a ``Mask`` its possible inputs and its targets."""
    return (copied.stride, copied.n_target) if isinstance(copied, Mask) else copied.shape


def nbytes_of(copied: Copied) -> int:
    """The memory that a copy takes."""
    if isinstance(copied, Mask):
        return int(copied.cells.nbytes)
    return int(copied.bits.nbytes) if isinstance(copied, Bits) else sum(int(index.nbytes) for index in copied.at)


def copy(mask: Any, shape: tuple[int, ...] | None = None, *, from_weights: bool = False) -> Copied:
    """The entries of an array, sparse matrix or tensor that are connections, copied.

    ``shape`` is that of its parameter, where that is known: masks with eight entries to a byte, as ``packbits`` makes
    them, take theirs from there. Raises ``InvalidTopologyError`` for a dense array of other values than 0 and 1: those
    are weights, whose zeros say little (a link that has just grown is 0), unless ``from_weights`` takes them all the
    same.
    """
    if isinstance(mask, Mask):
        return mask
    if (packed := _packed(mask, shape)) is not None:
        return packed
    dense = not sp.issparse(mask)
    if hasattr(mask, "detach"):
        dense = str(mask.layout) == "torch.strided"
        if dense and mask.device.type not in {"cpu", "meta"}:
            return _of_device(mask.detach(), from_weights=from_weights)
        mask = matrices.from_torch(mask) if dense else mask
    if not dense:
        entries = matrices.entries(mask)
        return Places(entries.shape, entries.indices)
    array = np.asarray(mask)
    if array.dtype.kind not in "biuf":
        raise InvalidTopologyError(f"mask: expected boolean or real values, found dtype {array.dtype}")
    present = array if array.dtype == bool else array != 0
    if array.dtype != bool:
        ones = np.count_nonzero(array == 1)
        _check_values(ones == np.count_nonzero(present), from_weights, lambda: bool(np.isfinite(array).all()))
    return Bits(array.shape, np.packbits(present))


def _packed(mask: Any, shape: tuple[int, ...] | None) -> Bits | None:
    """A mask with eight entries to a byte is a copy but for its shape. None where it is none."""
    flat = len(getattr(mask, "shape", ())) <= 1
    if not flat or not str(getattr(mask, "dtype", "")).endswith("uint8") or hasattr(mask, "detach"):
        return None
    array = np.array(mask)
    size = 0 if shape is None else prod(shape)
    if shape is not None and len(shape) > 1 and array.shape == (-(-size // 8),):
        if size % 8 and array[-1] & (0xFF >> size % 8):
            raise InvalidTopologyError(f"mask: expected {size} bits and zeros after them, found others")
        return Bits(shape, array)
    if array.max(initial=0) > 1:
        raise InvalidTopologyError(
            f"mask: expected 0 and 1, found {array.size} bytes of other values, as packed masks have",
            hint="log(params, masks=...) says the shapes of what is packed; so does a state that has params",
        )
    return None


def _of_device(tensor: Any, *, from_weights: bool) -> Bits:
    """A tensor that lies elsewhere is looked at there, so that a byte an entry comes over, not its values."""
    present = tensor.ne(0)
    if str(tensor.dtype) != "torch.bool":
        binary = bool((present == tensor.eq(1)).all())
        _check_values(binary, from_weights, lambda: bool(tensor.isfinite().all()))
    return Bits(tuple(tensor.shape), np.packbits(present.cpu().numpy()))


def _check_values(binary: bool, from_weights: bool, finite: Callable[[], bool]) -> None:
    if not binary and not from_weights:
        raise InvalidTopologyError(
            "mask: expected 0 and 1, found other values, as weights have",
            hint="log the masks; init(from_weights=True) takes every weight that is not 0 as a connection",
        )
    if not binary and not finite():
        raise InvalidTopologyError("mask: expected finite values, found others")
