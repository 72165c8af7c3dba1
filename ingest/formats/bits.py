"""Masks as bits: a row a target unit, a bit a possible input, the highest bit of a byte first (``numpy.packbits``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.topology import LayerShape, Mask, Topology

_SET = np.array([value.bit_count() for value in range(256)], np.uint8)  # bits that are set in each byte


def packed_shape(layer: LayerShape) -> tuple[int, int]:
    """Rows and bytes of a row: each target unit's keys, eight to a byte, the last byte of a row filled with zeros."""
    return layer.target.size, -(-layer.local_sources * layer.taps // 8)


def size(topology: Topology) -> int:
    """How many bytes the bits of all masks take, those of tied layers once."""
    tied = topology.wiring.shared_with
    return sum(math.prod(packed_shape(layer.shape)) for layer in topology if layer.name not in tied)


def pack(mask: Mask) -> NDArray[np.uint8]:
    """The bits of a mask, of shape (n_target, ceil(n_source * taps / 8)).

    >>> pack(Mask(n_source=9, n_target=2, cells=np.array([0, 8, 17])))
    array([[128, 128],
           [  0, 128]], dtype=uint8)
    """
    width = -(-mask.stride // 8)
    packed = np.zeros(mask.n_target * width, np.uint8)
    if mask.nnz:
        place, bit = mask.targets * width + mask.keys // 8, (128 >> (mask.keys % 8)).astype(np.uint8)
        begins = np.flatnonzero(np.diff(place, prepend=-1))
        packed[place[begins]] = np.bitwise_or.reduceat(bit, begins)
    return packed.reshape(mask.n_target, width)


def count(packed: NDArray[np.uint8]) -> int:
    """How many bits are set."""
    return int(_SET[packed].sum(dtype=np.int64))


def check(packed: NDArray[Any], layer: LayerShape, where: str) -> NDArray[np.uint8]:
    """The array, which is refused where it holds no bits of this layer."""
    if packed.dtype != np.uint8 or packed.shape != packed_shape(layer):
        raise InvalidInputError(
            f"{where}: expected uint8 of shape {packed_shape(layer)}, found {packed.dtype} of shape {packed.shape}"
        )
    beyond = 0xFF >> ((layer.local_sources * layer.taps - 1) % 8 + 1)
    if packed.size and (packed[:, -1] & beyond).any():
        raise InvalidInputError(f"{where}: expected zeros after the last bit of each row, found bits that are set")
    return packed


def unpack(packed: NDArray[np.uint8], layer: LayerShape) -> Mask:
    """The mask of such bits, which ``check`` has seen; memory goes by its connections, not by what could be one."""
    width = packed.shape[1]
    occupied = np.flatnonzero(packed)
    byte, bit = np.nonzero(np.unpackbits(packed.reshape(-1)[occupied, None], axis=1))
    place = occupied[byte]
    stride = layer.local_sources * layer.taps
    cells = place // width * stride + place % width * 8 + bit
    return Mask(layer.local_sources, layer.target.size, cells, layer.taps)
