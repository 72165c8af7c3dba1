"""A file read with a wiring: each layer finds its array by name, as it is or by a rule that is said.

The rule: wrappers are stripped (``module.``, ``model.``, ``_orig_mod.``, ``state_dict.``), and what says that an array
is a weight or a mask (``.weight``, ``_orig``, ``_mask``); masks win over weights. One prefix that all names of the file
have may be missing in the wiring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.ingest.formats.array_file import ArrayFile, AxisOrder
from topostrata.ingest.formats.cells import check_values, kept, read_within
from topostrata.ingest.formats.options import Options
from topostrata.ingest.formats.roles import ArrayRole, axes_of_names, roles_of, stem_of
from topostrata.ingest.formats.stored import Entries, StoredArray
from topostrata.memory import beside
from topostrata.topology import LayerShape, Topology, Wiring

_LISTED = 12
_PER_CONNECTION = 64  # bytes that placing takes at its peak, measured


def place(file: ArrayFile, wiring: Wiring, options: Options) -> tuple[Topology, tuple[str, ...]]:
    """The topology that a file has in this wiring, and what was matched by a rule or left over, in words.

    Raises ``InvalidInputError`` with every name that is missing and every name that is left over.
    """
    roles = roles_of(file.arrays)
    matched, notes = match(file, wiring, roles)
    axes, extra = _axes(file, wiring, matched, options)
    arrays: dict[str, Any] = {}
    for key, role in matched.items():
        where = f"{file.at(role.name)}: array {role.name!r}"
        with beside(sum(map(_bytes, arrays.values()))):
            arrays[key] = _matrix(role.array, axes, extra, _stated(wiring, key), options, where)
    options.limits.check(file.where, layers=len(wiring))
    try:
        topology = wiring.place(arrays, orientation="out-in", zeros="present")
    except InvalidTopologyError as error:
        raise InvalidInputError(f"{file.where}: {error.message}", hint=error.hint) from error
    options.limits.check(file.where, connections=topology.nnz)
    return topology, notes


def match(file: ArrayFile, wiring: Wiring, roles: Sequence[ArrayRole]) -> tuple[dict[str, ArrayRole], tuple[str, ...]]:
    """The array of each parameter of the wiring, by the parameter's name."""
    layers: dict[str, LayerShape] = {}
    for layer in wiring:
        layers.setdefault(_key(layer), layer)
    prefix = _common_prefix(layers, roles)
    matched = {key: role for key in layers if (role := _find(key, prefix, roles)) is not None}
    missing = [
        repr(key) if key == layers[key].name else f"{layers[key].name!r} (parameter {key!r})"
        for key in layers
        if key not in matched
    ]
    taken = {role.name for role in matched.values()} | {role.stem for role in matched.values()}
    left = [repr(role.name) for role in roles if role.holds_layer and role.name not in taken and role.stem not in taken]
    if missing:
        raise InvalidInputError(
            f"{file.where}: expected an array for each layer of the wiring, missing {_some(missing)}; "
            f"left over in the file: {_some(left) or 'none'}",
            hint="names match as they are, or without module., model., .weight, _orig, _mask; "
            "`topostrata inspect FILE` lists the file's",
        )
    flat = [(key, role.array.shape) for key, role in matched.items() if len(role.array.shape) < 2]
    if flat:
        raise InvalidInputError(
            f"{file.where}: parameter {flat[0][0]!r}: expected an array of at least 2 axes, found shape {flat[0][1]}"
        )
    notes = [f"left over in the file, no layer of the wiring: {_some(left)}"] if left else []
    renamed = [f"{key} is {role.name}" for key, role in matched.items() if role.name != key]
    if renamed:
        notes.append(f"matched by the rule of names: {_some(renamed)}")
    if prefix:
        notes.append(f"names of the file begin with {prefix!r}, which the wiring leaves out")
    return matched, tuple(notes)


def _find(key: str, prefix: str, roles: Sequence[ArrayRole]) -> ArrayRole | None:
    exact = next((role for role in roles if role.name in {key, prefix + key}), None)
    original = exact is not None and (exact.name.endswith("_orig") or ".original" in exact.name)
    if exact is not None and (exact.role == "mask" or original):
        return exact
    stem = exact.stem if exact is not None else prefix + stem_of(key)
    masks = [role for role in roles if role.role == "mask" and role.holds_layer and role.stem == stem]
    if masks or exact is not None:
        return masks[0] if masks else exact
    return next((role for role in roles if role.holds_layer and role.stem == stem), None)


def _common_prefix(layers: Mapping[str, LayerShape], roles: Sequence[ArrayRole]) -> str:
    """What all layers of the file have before the names of the wiring; empty where names match without it."""
    stems = {role.stem for role in roles if role.holds_layer}
    wanted = {stem_of(key) for key in layers}
    if wanted & stems or any(role.name in layers for role in roles):
        return ""
    prefixes = {stem.removesuffix(want) for want in wanted for stem in stems if stem.endswith("." + want)}
    fitting = [prefix for prefix in sorted(prefixes) if all(prefix + want in stems for want in wanted)]
    return fitting[0] if len(fitting) == 1 else ""


def _axes(file: ArrayFile, wiring: Wiring, matched: Mapping[str, ArrayRole], options: Options) -> tuple[AxisOrder, int]:
    """The order of axes, and how many rows are a bias, that the shapes of all parameters leave."""
    open_layers = [layer for layer in wiring if layer.part is None or layer.part.orientation is None]
    open_layers = [layer for layer in open_layers if _key(layer) in matched]
    usual = axes_of_names(list(matched.values())) or file.axes
    able: tuple[AxisOrder, ...] = ("in-out", "out-in")
    if options.axes is not None:
        able = (options.axes,)
    elif file.sure:
        able = (file.axes,)
    if not open_layers:
        return usual, 0
    extras = {"none": (0,), "last-row": (1,), "auto": (0, 1)}[options.bias]
    fitting = [
        (axes, extra)
        for extra in extras
        for axes in able
        if extra == 0 or axes == "in-out"
        if all(_fits(layer, matched[_key(layer)].array.shape, axes, extra) for layer in open_layers)
    ]
    if len({axes for axes, _ in fitting}) < 2:
        return fitting[0] if fitting else (options.axes or usual, extras[0])
    if options.axes is None and usual != file.axes and file.axes == "in-out":
        raise InvalidInputError(
            f"{file.where}: expected shapes or names that tell the order of axes, found layers that fit both ways",
            hint="say --orientation out-in or --orientation in-out, or the orientation of each part in the wiring",
        )
    return usual, next(extra for axes, extra in fitting if axes == usual)


def _fits(layer: LayerShape, shape: tuple[int, ...], axes: AxisOrder, extra: int) -> bool:
    part = layer.part
    if len(shape) == 2:
        n_source, sources, targets = layer.local_sources * layer.taps, shape[0], shape[1]
        if axes == "out-in":
            sources, targets = targets, sources
    else:
        kernel = shape[2:] if axes == "out-in" else shape[:-2]
        if extra or math.prod(kernel) != layer.taps:
            return False
        n_source, sources, targets = layer.local_sources, shape[1], shape[0]
        if axes == "in-out":
            sources, targets = shape[-2], shape[-1]
    enough = sources - extra == n_source if part is None or part.sources is None else sources >= part.sources[1]
    return enough and (
        targets == layer.target.size if part is None or part.targets is None else targets >= part.targets[1]
    )


def _matrix(array: StoredArray, axes: AxisOrder, extra: int, stated: bool, options: Options, where: str) -> Any:
    """The array as ``Wiring.place`` takes it: out-in, unless the wiring states how it lies."""
    values = read_within(array, options.limits, where=where, per_connection=_PER_CONNECTION)
    turned = (len(array.shape) - 1, len(array.shape) - 2, *range(len(array.shape) - 2))
    if isinstance(values, Entries):
        check_values(values.values.dtype, values.values, lambda at: values.positions[at].tolist(), where=where)
        positions, shape = kept(values, array, options.zeros), array.shape
        if not stated and axes == "in-out":
            shape = (shape[0] - extra, *shape[1:])
            positions = positions[positions[:, 0] < shape[0]][:, turned]
            shape = tuple(shape[axis] for axis in turned)
        return sp.coo_array((np.ones(len(positions), bool), tuple(positions.T)), shape=shape)
    check_values(values.dtype, values, lambda at: [int(i) for i in np.unravel_index(at, values.shape)], where=where)
    if stated or axes == "out-in":
        return values
    return (values[:-1] if extra else values).transpose(turned)


def _bytes(array: Any) -> int:
    return array.nbytes if isinstance(array, np.ndarray) else 17 * int(array.nnz)  # two indices and a truth value


def _key(layer: LayerShape) -> str:
    return layer.name if layer.part is None else layer.part.parameter


def _stated(wiring: Wiring, key: str) -> bool:
    """Whether the wiring says how a parameter lies."""
    return any(layer.part is not None and layer.part.orientation for layer in wiring if _key(layer) == key)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
