"""Masks that are stored eight entries to a byte: unpacked where their shape is known.

Three programs write them. compressed-tensors (``bitmask``, ``sparse-24-bitmask``) says the shape beside the bits, the
lowest bit first, each row padded to whole bytes; the values that are not masked come beside them. JaxPruner and whoever
calls ``packbits`` flatten the mask, the highest bit first: its shape is that of the parameter, where the file holds
both. MaskLLM's ``mask_compressed.npz`` holds no parameters: a wiring states the shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.array_file import ArrayFile, AxisOrder
from topostrata.ingest.formats.roles import ArrayRole, roles_of, stem_of
from topostrata.ingest.formats.stored import Entries, StoredArray, check_shape
from topostrata.topology import Wiring

_BITS = ".bitmask"
_MAX_AXES = 8


def unpacked(file: ArrayFile) -> ArrayFile:
    """The file with its packed masks as masks, where it tells their shapes."""
    arrays = dict(file.arrays)
    for name in file.arrays:
        if name.endswith(_BITS) and len(name) > len(_BITS):
            _join(arrays, name.removesuffix(_BITS), file)
    for mask, weights in _with_parameter(arrays):
        arrays[mask.name] = _flat(mask.array, weights.array.shape, file.at(mask.name))
    return file if arrays == file.arrays else replace(file, arrays=arrays)


def without_shape(arrays: Mapping[str, StoredArray]) -> list[str]:
    """The names of masks that are packed, and of which nothing in the file tells the shape."""
    return [mask.name for mask in _flat_masks(arrays)]


def with_shapes(file: ArrayFile, wiring: Wiring, axes: AxisOrder | None) -> ArrayFile:
    """The file with the masks unpacked whose shapes the wiring states; ``axes`` is what was said about all of them."""
    packed = {name: array for name, array in file.arrays.items() if _is_flat(array)}
    if not packed:
        return file
    arrays = dict(file.arrays)
    for key, shape in _stated_shapes(wiring, axes).items():
        names = [key] if key in packed else [name for name in packed if stem_of(name) == stem_of(key)]
        if len(names) != 1 or (key in file.arrays and key not in packed):
            continue
        array, where = packed[names[0]], f"{file.at(names[0])}: array {names[0]!r}"
        if shape is None:
            raise InvalidInputError(
                f"{where}: expected to know the order of axes of a packed mask, found a wiring that does not state it",
                hint="say --orientation out-in (as in torch) or in-out, or the orientation of each part in the wiring",
            )
        if array.size != -(-math.prod(shape) // 8):
            raise InvalidInputError(
                f"{where}: expected {-(-math.prod(shape) // 8):,} bytes, eight entries of {shape[0]} x {shape[1]} in "
                f"each, found {array.size:,}"
            )
        arrays[names[0]] = _flat(array, shape, file.at(names[0]))
    return replace(file, arrays=arrays)


def _join(arrays: dict[str, StoredArray], name: str, file: ArrayFile) -> None:
    """One tensor of compressed-tensors instead of its parts."""
    bits, sizes, values = (arrays.get(f"{name}.{part}") for part in ("bitmask", "shape", "compressed"))
    if bits is None or sizes is None or values is None or name in arrays:
        return
    where = f"{file.at(bits.name)}: tensor {name!r}"
    shape = _shape(sizes, where)
    if not shape or bits.dtype != "uint8" or bits.shape != (*shape[:-1], -(-shape[-1] // 8)):
        raise InvalidInputError(
            f"{where}: expected a bitmask of a byte for 8 entries of a row of shape {shape}, "
            f"found {bits.dtype} of shape {bits.shape}"
        )
    if values.size > math.prod(shape):
        raise InvalidInputError(f"{where}: expected at most {math.prod(shape):,} values, found {values.size:,}")
    read = partial(_entries, bits, values, arrays.get(f"{name}.row_offsets"), shape, where)
    parts = {f"{name}.{part}" for part in ("bitmask", "shape", "compressed", "row_offsets")}
    if len(sizes.shape) == 2:  # sparse-24-bitmask, which leaves the end of the parameter's name away
        name += ".weight"
    whole = StoredArray(name, shape, values.dtype, "bitmask", bits.place, read)
    joined = [(name, whole) if key == bits.name else (key, array) for key, array in arrays.items()]
    arrays.clear()
    arrays.update((key, array) for key, array in joined if key not in parts)


def _shape(sizes: StoredArray, where: str) -> tuple[int, ...]:
    if (
        sizes.shape not in {(sizes.size,), (sizes.size, 1)}
        or not 0 < sizes.size <= _MAX_AXES
        or not sizes.dtype.startswith(("int", "uint"))
    ):
        raise InvalidInputError(f"{where}: expected a shape of 1 to {_MAX_AXES} whole numbers, found {sizes.shape}")
    shape = tuple(int(length) for length in np.asarray(sizes.read()).reshape(-1))
    if min(shape) < 0:
        raise InvalidInputError(f"{where}: expected a shape, found {shape}")
    check_shape(shape, 1, where=where)
    return shape


def _entries(
    bits: StoredArray, values: StoredArray, offsets: StoredArray | None, shape: tuple[int, ...], where: str
) -> Entries:
    occupied = np.unpackbits(np.asarray(bits.read()), axis=-1, bitorder="little")
    _check_padding(occupied[..., shape[-1] :], where)
    occupied = occupied[..., : shape[-1]]
    counts = np.count_nonzero(occupied, axis=-1).reshape(-1)
    stored = np.asarray(values.read()).reshape(-1)
    if counts.sum() != stored.size:
        raise InvalidInputError(
            f"{where}: expected as many values as bits that are set, {counts.sum():,}, found {stored.size:,}"
        )
    if offsets is not None and not np.array_equal(np.asarray(offsets.read()).reshape(-1), np.cumsum(counts) - counts):
        raise InvalidInputError(f"{where}: expected row_offsets that count the bits of each row, found others")
    return Entries(np.argwhere(occupied).astype(np.int64), stored)


def _with_parameter(arrays: Mapping[str, StoredArray]) -> list[tuple[ArrayRole, ArrayRole]]:
    """Each flat mask with the one parameter of its layer that has as many entries."""
    pairs = []
    flat = _flat_masks(arrays)
    for mask in flat:
        others = [
            role
            for role in roles_of(arrays)
            if role.stem == mask.stem and role.role in {"weight", "original"} and len(role.array.shape) > 1
        ]
        if len(others) == 1 and mask.array.size == -(-others[0].array.size // 8):
            pairs.append((mask, others[0]))
    return pairs


def _flat_masks(arrays: Mapping[str, StoredArray]) -> list[ArrayRole]:
    """The arrays of one axis that are masks by their names, and no mask of a bias."""
    flat = {name for name, array in arrays.items() if _is_flat(array)}
    if not flat:
        return []
    as_matrices = {
        name: replace(array, shape=(*array.shape, 1)) if name in flat else array for name, array in arrays.items()
    }
    masks = [role for role in roles_of(as_matrices) if role.name in flat and role.role == "mask"]
    return [replace(role, array=arrays[role.name]) for role in masks if "bias" not in role.name.lower()]


def _is_flat(array: StoredArray) -> bool:
    return array.dtype == "uint8" and len(array.shape) == 1 and array.layout == "dense"


def _flat(array: StoredArray, shape: tuple[int, ...], where: str) -> StoredArray:
    read = partial(_unpack, array, shape, f"{where}: array {array.name!r}")
    return StoredArray(array.name, shape, "bool", "dense", f"packed, {array.place}", read)


def _unpack(array: StoredArray, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    bits = np.unpackbits(np.asarray(array.read()))
    _check_padding(bits[math.prod(shape) :], where)
    return bits[: math.prod(shape)].reshape(shape).astype(bool)


def _check_padding(padding: NDArray[Any], where: str) -> None:
    if padding.any():
        raise InvalidInputError(
            f"{where}: expected zeros after the last entry of a packed mask, found bits that are set",
            hint="is it packed in another way? Unpack it with the library that wrote it",
        )


def _stated_shapes(wiring: Wiring, axes: AxisOrder | None) -> dict[str, tuple[int, int] | None]:
    """The shape of each parameter of a wiring; None where the order of its axes is not known."""
    shapes: dict[str, tuple[int, int] | None] = {}
    for layer in wiring:
        part = layer.part
        key = part.parameter if part else layer.name
        order = part.orientation if part and part.orientation else axes
        if order is None or (order != "out-in" and layer.taps > 1):
            shapes[key] = None
            continue
        sources = part.sources[1] if part and part.sources else layer.local_sources * layer.taps
        targets = part.targets[1] if part and part.targets else layer.target.size
        shape = (targets, sources) if order == "out-in" else (sources, targets)
        before = shapes.get(key) or (0, 0)
        shapes[key] = max(before[0], shape[0]), max(before[1], shape[1])
    return shapes
