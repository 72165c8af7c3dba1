"""Networks as named arrays: a multi-layer ``.npz``, or a state dict in ``.safetensors``.

Every array of two or more axes is a layer; vectors (biases, norms) are not. Layers follow each other in the natural
order of their names (``fc2`` before ``fc10``). A name loses what says that it is a weight: ``fc1.weight`` and
``weight_fc1`` are the layer ``fc1``. Where a layer has a mask (``fc1.weight_mask`` as torch.nn.utils.prune
writes it, or ``fc1.mask``) the mask is the topology, and its weights are not looked at. An npz may also hold SciPy
matrices in parts: ``fc1.indptr``, ``fc1.indices``, ``fc1.shape``, ``fc1.data``, and ``fc1.format`` where it is not CSR.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.file_layers import (
    SCIPY_MEMBERS,
    FileLayer,
    Orientation,
    dense_cells,
    dense_shape,
    scipy_part,
)
from topostrata.ingest.formats.safe_npz import SafeNpz
from topostrata.ingest.formats.safe_tensors import SafeTensors
from topostrata.topology import Zeros

_NAME = re.compile(
    r"(?P<prefix>(?:weights?|mask)_)?(?P<layer>.+?)(?P<suffix>(?:[._](?:weights?|kernel))?(?:[._](?:mask|orig))?)",
    re.IGNORECASE,
)


def parts_of_npz(npz: SafeNpz, *, zeros: Zeros | None, orientation: Orientation) -> list[FileLayer]:
    """The layers of a multi-layer archive, in the natural order of their names; shapes only."""
    sparse = {name.removesuffix("indptr") for name in npz.names if re.fullmatch(r".+[._]indptr", name)}
    for prefix in sorted(sparse):
        missing = [name for name in ("indices", "shape", "data") if prefix + name not in npz]
        if missing:
            raise InvalidInputError(
                f"{npz.where}: layer {prefix[:-1]!r}: expected {prefix}indptr, indices, shape and data, "
                f"found no {', '.join(missing)}"
            )
    in_parts = {prefix + part for prefix in sparse for part in SCIPY_MEMBERS}
    dense = [name for name in npz.names if name not in in_parts]
    shapes = {name: npz.header(name).shape for name in dense}
    found: dict[str, FileLayer] = {}
    for layer, name in _choose([name for name in dense if len(shapes[name]) >= 2], npz.where).items():
        n_source, n_target, taps = dense_shape(shapes[name], orientation)
        load = partial(_dense, npz, name, layer, orientation)
        found[layer] = FileLayer(layer, n_source, n_target, load, taps, kernel=len(shapes[name]) > 2)
    for layer, name in _choose([prefix[:-1] for prefix in sparse], npz.where).items():
        if layer in found:
            raise InvalidInputError(f"{npz.where}: layer {layer!r}: expected it once, found it dense and sparse")
        prefix = next(p for p in sparse if p[:-1] == name)
        found[layer] = scipy_part(npz, layer, zeros=zeros, orientation=orientation, prefix=prefix)
    return [found[layer] for layer in sorted(found, key=natural)]


def parts_of_safetensors(tensors: SafeTensors, *, orientation: Orientation) -> list[FileLayer]:
    """The layers of a state dict, in the natural order of their names; shapes only."""
    names = [name for name, tensor in tensors.tensors.items() if len(tensor.shape) >= 2]
    parts: list[FileLayer] = []
    for layer, name in sorted(_choose(names, tensors.where).items(), key=lambda item: natural(item[0])):
        shape = tensors.tensors[name].shape
        n_source, n_target, taps = dense_shape(shape, orientation)
        load = partial(_dense, tensors, name, layer, orientation)
        parts.append(FileLayer(layer, n_source, n_target, load, taps, kernel=len(shape) > 2))
    return parts


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``fc2`` before ``fc10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _dense(source: SafeNpz | SafeTensors, name: str, layer: str, orientation: Orientation) -> NDArray[np.int64]:
    return dense_cells(source.array(name), orientation=orientation, where=f"{source.where}: layer {layer!r}")


def _choose(names: Iterable[str], where: str) -> dict[str, str]:
    """Per layer the array that holds its topology: its mask where it has one."""
    masks: dict[str, str] = {}
    weights: dict[str, str] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        layer, dress = (match["layer"], f"{match['prefix'] or ''}{match['suffix']}") if match else (name, "")
        kind = masks if "mask" in dress.lower() else weights
        if layer in kind:
            raise InvalidInputError(f"{where}: layer {layer!r}: expected one array, found {kind[layer]!r} and {name!r}")
        kind[layer] = name
    return {**weights, **masks}
