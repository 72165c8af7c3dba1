"""Files of Keras: ``.keras``, ``.weights.h5``, the ``.h5`` of before Keras 3; and any other HDF5 file. Needs h5py.

Kernels are ``(sources, targets)`` and ``(height, width, sources, targets)``. The three that differ are turned into
these: a transposed convolution stores ``(height, width, targets, sources)``; a depthwise one ``(height, width, sources,
multiplier)``, whose target ``source * multiplier + m`` reads one source; a separable one is a depthwise one, then a
pointwise one. Which layer is which, and their order, the configuration tells; a file of weights alone tells the class
by its path, because Keras numbers layers of one class in their order: ``dense``, ``dense_1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.array_file import ArrayFile
from topostrata.ingest.formats.checkpoint.windows import Window
from topostrata.ingest.formats.checkpoint.zip_file import members_of, record
from topostrata.ingest.formats.hdf5_file import Hdf5, hdf5
from topostrata.ingest.formats.keras_config import KNOWN, VARIABLES, KerasLayer, KerasModel, keras_model
from topostrata.ingest.formats.limits import MIB, Limits
from topostrata.ingest.formats.matrix_files import one_error
from topostrata.ingest.formats.naming_schemes import natural
from topostrata.ingest.formats.stored import StoredArray

_MAX_CONFIG = 64 * MIB
_VARIABLE = re.compile(r"(?P<holder>.*)/vars/(?P<number>\d{1,6})")
_NUMBERED = re.compile(r"(?P<kind>.+?)(?:_(?P<number>\d{1,9}))?")
_KINDS = {re.sub(r"(?<=\w)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", kind).lower(): kind for kind in KNOWN}


@dataclass(frozen=True, slots=True)
class _Named:
    """An array with the name that a person knows, the class of its layer, and that layer's place in the model."""

    array: StoredArray
    name: str
    kind: str
    place: tuple[Any, ...]


@contextmanager
def read_keras(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """A ``.keras`` file: its configuration and its weights."""
    where = str(path)
    with one_error(where):
        stream = path.open("rb")
    with stream:
        with one_error(where):
            whole = Window.whole(stream, where=where)
            members = members_of(whole)
            limits.check(where, members=len(members), total_bytes=whole.size)
            missing = [name for name in ("config.json", "model.weights.h5") if name not in members]
            if missing:
                raise InvalidInputError(
                    f"{where}: expected config.json and model.weights.h5, as Keras writes them, found no {missing[0]}"
                )
            config = record(whole, members["config.json"])
            if config.size > _MAX_CONFIG:
                raise LimitError(f"{where}: config.json: expected at most {_MAX_CONFIG:,} bytes, found {config.size:,}")
            model = keras_model(config.read(0, config.size), where=f"{where}: config.json")
            weights = record(whole, members["model.weights.h5"])
        with hdf5(weights, limits=limits) as content:
            with one_error(where):
                file = _weights(content, where, model)
            yield file


@contextmanager
def read_hdf5(path: Path, limits: Limits) -> Iterator[ArrayFile]:
    """An ``.h5`` file: what Keras 3 or an earlier one wrote, or arrays by name."""
    where = str(path)
    with one_error(where):
        stream = path.open("rb")
    with stream, hdf5(Window.whole(stream, where=where), limits=limits) as content:
        with one_error(where):
            root = next((group for group in ("model_weights", "") if _is_legacy(content, group)), None)
            if any(_VARIABLE.fullmatch(name) for name in content.arrays):
                file = _weights(content, where, None)
            elif root is not None:
                file = _legacy(content, where, root)
            else:
                file = ArrayFile(where, content.arrays, "in-out", left_out=content.left_out)
        yield file


def _weights(content: Hdf5, where: str, model: KerasModel | None) -> ArrayFile:
    """What Keras 3 stores: the variables of each layer by number, in a group that knows the name of its layer."""
    layers = {layer.name: (k, layer) for k, layer in enumerate(model.layers)} if model else {}
    named = [_of_number(array, content, layers) for array in content.arrays.values()]
    ordered = model is not None
    if not ordered:  # the one list of layers that every model has stands in the order of definition
        kinds = {one.kind for one in named if len(one.array.shape) > 1 and one.kind}
        ordered = kinds <= {"Dense"} and all(
            one.array.name.startswith(("layers/", "optimizer/")) for one in named if len(one.array.shape) > 1
        )
    return _file(content, where, named, model or KerasModel((), _not_followed(content)), ordered=ordered)


def _not_followed(content: Hdf5) -> str | None:
    """A layer that is no chain's, by the class that its path tells; each has a group, with weights or without."""
    for path in content.groups:
        *_, parent, key, last = ("", "", *path.split("/"))
        inside = path.removesuffix("/vars") + "/layers"
        if last == "vars" and parent == "layers" and inside not in content.groups and not _kind(key):
            name = content.text("name", path) or key
            return f"layer {name!r} of class {key!r}, through which units are not followed"
    return None


def _kind(key: str) -> str:
    """The class of a layer that Keras named by itself: ``conv2d_1`` is a ``Conv2D``."""
    match = _NUMBERED.fullmatch(key)
    return _KINDS.get(match["kind"], "") if match else ""


def _of_number(array: StoredArray, content: Hdf5, layers: Mapping[str, tuple[int, KerasLayer]]) -> _Named:
    match = _VARIABLE.fullmatch(array.name)
    if match is None or match["holder"].split("/")[0] == "optimizer":
        return _Named(array, array.name, "", _last(array.name))
    holder, number = match["holder"], int(match["number"])
    told = content.text("name", f"{holder}/vars") or ""
    key = _NUMBERED.fullmatch(holder.split("/")[-1])
    kind = _kind(holder.split("/")[-1])
    place: tuple[Any, ...] = (1, natural(holder + ("" if key and key["number"] else "_0")))
    if told in layers:
        at, layer = layers[told]
        kind, place = layer.kind, (0, at)
    variables = VARIABLES.get(kind, ("kernel",) if len(array.shape) > 1 else ())
    variable = variables[number] if number < len(variables) else f"vars/{number}"
    return _Named(array, f"{told or holder}/{variable}", kind, (*place, number))


def _last(name: str) -> tuple[Any, ...]:
    return (2, natural(name))


def _is_legacy(content: Hdf5, root: str) -> bool:
    return root in content.groups and "layer_names" in content.groups[root].texts


def _legacy(content: Hdf5, where: str, root: str) -> ArrayFile:
    """What Keras wrote before version 3: a group per layer, in it arrays with names."""
    text = content.text("model_config")
    model = keras_model(text, where=f"{where}: model_config") if text else None
    layers = {layer.name: layer for layer in model.layers} if model else {}
    names = [layer.name for layer in model.layers] if model else []
    names += [name for name in content.groups[root].texts["layer_names"] if name not in names]
    places = {name: k for k, name in enumerate(names)}
    named = []
    for array in content.arrays.values():
        inside = array.name.removeprefix(f"{root}/" if root else "")
        parts = inside.split("/")
        if inside == array.name and root:
            name = re.sub(r"^optimizer_weights/", "optimizer/", inside)
            named.append(_Named(array, name, "", _last(name)))
            continue
        layer = next((part for part in reversed(parts[:-1]) if part in places), parts[0])
        variable = parts[-1].removesuffix(":0")
        kind = layers[layer].kind if layer in layers else _kind(layer)
        if variable == "kernel" and kind.startswith("Depthwise"):
            variable = "depthwise_kernel"
        named.append(_Named(array, f"{layer}/{variable}", kind, (0, places.get(layer, len(places)), _rank(variable))))
    return _file(content, where, named, model or KerasModel((), None), ordered=model is not None, in_order=True)


def _rank(variable: str) -> int:
    order = ("depthwise_kernel", "pointwise_kernel", "kernel")
    return order.index(variable) if variable in order else len(order)


def _file(
    content: Hdf5, where: str, named: list[_Named], model: KerasModel, *, ordered: bool, in_order: bool = False
) -> ArrayFile:
    arrays: dict[str, StoredArray] = {}
    for one in sorted(named, key=lambda one: list(one.place)):
        name = one.name if one.name not in arrays else one.array.name
        arrays[name] = _turned(replace(one.array, name=name, place=f"{one.array.name}, {one.array.place}"), one.kind)
    return ArrayFile(
        where,
        arrays,
        "in-out",
        sure=True,
        in_order=ordered or in_order,
        ordered=ordered,
        branches=model.branches,
        flatten=model.flatten,
        left_out=content.left_out,
    )


def _turned(array: StoredArray, kind: str) -> StoredArray:
    """The array with its axes as those of other kernels."""
    if len(array.shape) < 3:
        return array
    *kernel, sources, targets = array.shape
    if array.name.endswith("/depthwise_kernel"):
        return replace(array, shape=(*kernel, 1, sources * targets), read=partial(_reshaped, array))
    if kind.endswith("Transpose"):
        return replace(array, shape=(*kernel, targets, sources), read=partial(_swapped, array))
    return array


def _reshaped(array: StoredArray) -> NDArray[Any]:
    return np.asarray(array.read()).reshape(*array.shape[:-2], 1, -1)


def _swapped(array: StoredArray) -> NDArray[Any]:
    return np.asarray(array.read()).swapaxes(-1, -2)
