"""Where training code keeps its masks: arrays, torch modules, ``Masking`` objects, schedulers, trees.

Torch is not imported: what an object is, is told by what it has.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import prod
from operator import mul
from typing import Any

import numpy as np

from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.ingest.hook import copying
from topostrata.ingest.hook.copying import Copied
from topostrata.ingest.hook.tracing.forward import unwrap
from topostrata.ingest.hook.tracing.reading import plain_name, without_wrappers
from topostrata.topology import Mask, Orientation, Topology, Wiring

_OF_WEIGHT = {"mask", "_weight_mask"}  # buffers beside a parameter `weight`


@dataclass(frozen=True, slots=True)
class Reading:
    """What was logged, copied: arrays by name, in order.

    ``chain`` says whether their order is the network's: a list or dictionary states it, a ``Sequential`` has it; other
    objects have one of their own. ``parameters`` are the shapes of all weights of a model, in order; one
    without a mask has all its connections. ``turned`` are those with the other orientation.
    """

    arrays: Mapping[str, Copied]
    orientation: Orientation
    chain: bool
    parameters: Mapping[str, tuple[int, ...]]
    from_weights: bool = False
    turned: frozenset[str] = frozenset()

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return sum(copying.nbytes_of(copied) for copied in self.arrays.values())


def read(
    source: Any,
    masks: Mapping[str, Any] | None = None,
    *,
    orientation: Orientation | None = None,
    from_weights: bool = False,
) -> Reading | Topology:
    """Copy the masks of what was logged.

    ``source`` is a ``Topology``, a list or dictionary of arrays (rows = sources unless ``orientation`` says otherwise;
    kernels as height, width, sources, targets in nested dictionaries, as those of Flax), a state of optax that has
    masks, or an object of torch: a module, an optimizer with masks, a ``Masking`` or a list of them, a scheduler with
    ``backward_masks`` (rows = targets). ``masks`` states them beside a model or its parameters, by their names; packed
    ones (a bit for each entry) take their shapes from there. ``from_weights`` takes every weight that is not 0 as a
    connection where there are no masks. Raises ``InvalidTopologyError``.
    """
    if isinstance(source, Topology):
        return source
    source = unwrap(source)
    if masks is None and (state := _sparse_state(source)) is not None:
        source, masks = getattr(source, "params", None), state.masks
    if masks is not None:
        return _stated(source, masks, orientation)
    if is_module(source):
        return _from_module(source, orientation or "out-in", from_weights=from_weights)
    listed = isinstance(source, list | tuple)
    if isinstance(source, Mapping) or (listed and not (source and all(map(_is_masking, source)))):
        return _of_tree(source, {}, orientation, from_weights=from_weights)
    return _of_object(source, orientation or "out-in")


def _stated(source: Any, masks: Mapping[str, Any], orientation: Orientation | None) -> Reading:
    """Masks beside what they are of: a module, a tree of parameters, or nothing."""
    if is_module(source):
        return _copied(dict(masks), _parameters(source), orientation or "out-in", turned=_turned(source))
    shapes = {name: _shape_of(leaf) for name, leaf in _leaves(source) if len(_shape_of(leaf)) > 1}
    return _of_tree(masks, shapes, orientation)


def _of_object(source: Any, orientation: Orientation) -> Reading:
    """The masks of what trains a module beside it."""
    if hasattr(source, "backward_masks"):
        return _copied(*_of_scheduler(source), orientation)
    if _is_masking(source) or isinstance(source, list | tuple):
        return _copied(_of_heads(source if isinstance(source, list | tuple) else [source]), {}, orientation)
    if hasattr(source, "param_groups") and isinstance(getattr(source, "state", None), Mapping):
        return _copied(*_of_optimizer(source), orientation)
    raise InvalidTopologyError(
        "log: expected a Topology, a list or dictionary of arrays, a torch module or an object with masks or "
        f"backward_masks, found {type(source).__name__}"
    )


def needs_wiring(reading: Reading) -> bool:
    """Whether neither the order of what was copied is the network's, nor the sizes leave no choice."""
    try:
        _check_order(reading)
    except InvalidTopologyError:
        return True
    return False


def assemble(reading: Reading, wiring: Wiring | None, left_out: Container[str] = ()) -> Topology:
    """The topology of what was copied: placed in the wiring, or chained where that needs no guess.

    ``left_out`` are parameters that are known to be in no layer of the wiring. Raises ``InvalidTopologyError``.
    """
    if wiring is None:
        _check_order(reading)
    arrays: dict[str, Any] = {name: np.ones(shape, dtype=bool) for name, shape in reading.parameters.items()}
    for name, copied in reading.arrays.items():
        arrays[name] = copying.array_of(copied)
    if wiring is not None:
        arrays = {name: array for name, array in arrays.items() if name not in left_out}
        return wiring.place(_keyed(arrays, reading, wiring), orientation=reading.orientation)
    for name in reading.turned:
        arrays[name] = arrays[name].T
    plain = "in-out" if reading.orientation == "hwio" else reading.orientation
    return Topology.from_masks(arrays, orientation=plain)


def placed(reading: Reading | Topology, wiring: Wiring) -> dict[str, Mask]:
    """The masks of those layers of a wiring of which arrays were copied; tied layers have those of their owners.

    Raises ``InvalidTopologyError`` for an array of which the wiring knows nothing.
    """
    if isinstance(reading, Topology):
        return {layer.name: layer.mask for layer in reading}
    keys = {y.name: y.name if y.part is None else y.part.parameter for y in wiring if y.name not in wiring.shared_with}
    wanted = {*keys, *keys.values()}
    arrays: dict[str, Any] = {_short(name, wanted): array for name, array in reading.arrays.items()}
    present = [y for y in wiring if y.name in keys and (y.name in arrays or keys[y.name] in arrays)]
    arrays = {name: copying.array_of(copied) for name, copied in arrays.items()}
    none = np.empty(0, dtype=np.int64)
    for y in wiring:
        if y.name in keys and y not in present:
            arrays[y.name] = Mask(y.local_sources, y.target.size, none, y.taps)
    topology = wiring.place(arrays, orientation=reading.orientation)
    return {y.name: topology[y.name].mask for y in present}


def model_of(source: Any) -> Any:
    """The torch module that an object is or belongs to, as a scheduler or a ``Masking`` does; None where none is."""
    places = (source, *(getattr(source, name, None) for name in ("model", "module")))
    lists = (modules for modules in [getattr(source, "modules", None)] if isinstance(modules, list))
    return next((place for place in (*places, *(m[0] for m in lists if len(m) == 1)) if is_module(place)), None)


def module(source: Any) -> Any:
    """The torch module that it is. Raises ``InvalidInputError`` for anything else."""
    if not is_module(source):
        raise InvalidInputError(f"watch: expected a torch module, found {type(source).__name__}")
    return source


def is_module(source: Any) -> bool:
    """Whether the object is a torch module, by what it has."""
    return hasattr(source, "named_modules") and hasattr(source, "named_parameters")


def _is_masking(source: Any) -> bool:
    """Whether the object keeps masks by the names of parameters, as those of the ITOP family do."""
    return isinstance(getattr(source, "masks", None), Mapping)


def _from_module(module: Any, orientation: Orientation, *, from_weights: bool) -> Reading:
    masks, shapes = dict(masks_of_module(module)), _parameters(module)
    if not masks:
        if not from_weights:
            raise InvalidTopologyError(
                f"log: expected masks in the {type(module).__name__}, found none",
                hint="masks={parameter: mask} states them; init(from_weights=True) takes every weight that is not 0",
            )
        masks = {name: parameter for name, parameter in module.named_parameters() if parameter.dim() > 1}
    else:
        from_weights = False
    chain, turned = _is_sequence(module), _turned(module)
    return _copied(masks, shapes, orientation, chain=chain, from_weights=from_weights, turned=turned)


def masks_of_module(module: Any) -> Iterator[tuple[str, Any]]:
    """The masks of a module's parameters, wherever pruning and parametrizations keep them: these themselves."""
    for place, inner in module.named_modules():
        if ".parametrizations." in f".{place}.":
            continue
        prefix = plain_name(f"{place}." if place else "")
        buffers, parameters = inner._buffers, inner._parameters  # noqa: SLF001 - what torch itself reads
        for name, buffer in buffers.items():
            parameter = "weight" if name in _OF_WEIGHT else name.removesuffix("_mask")
            weight = parameters.get(f"{parameter}_orig", parameters.get(parameter))
            if buffer is not None and parameter != name and weight is not None and buffer.shape == weight.shape:
                yield prefix + parameter, buffer
        if _is_kept_plainly(inner):
            yield f"{prefix}weight", inner.weight_mask
        for name, steps in getattr(inner, "parametrizations", {}).items():
            masks = [step.mask for step in steps if hasattr(getattr(step, "mask", None), "detach")]
            if masks:
                yield prefix + name, reduce(mul, masks)
        for name, parameter in parameters.items():
            if parameter is not None and str(parameter.layout) != "torch.strided":
                yield prefix + name, parameter


def _is_kept_plainly(module: Any) -> bool:
    """Whether a mask is a plain attribute of the module: those of CHT's layers, sources x targets as their weights."""
    mask, weight = vars(module).get("weight_mask"), module._parameters.get("weight")  # noqa: SLF001
    return hasattr(mask, "detach") and weight is not None and mask.shape == weight.shape


def _turned(module: Any) -> frozenset[str]:
    """The parameters that lie the other way around than those of torch."""
    plainly = (place for place, inner in module.named_modules() if _is_kept_plainly(inner))
    return frozenset(plain_name(f"{place}.weight" if place else "weight") for place in plainly)


def _parameters(module: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a module's weights, by the names that their masks have."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in module.named_parameters():
        plain, shape = plain_name(name), tuple(parameter.shape)
        if len(shape) > 1 and prod(shape) >= prod(shapes.get(plain, ())):  # of a weight and its norm the weight
            shapes[plain] = shape
    return shapes


def mask_name(parameter: str) -> str:
    """The name that the mask of a module's parameter has; each of several factors of a weight keeps its own."""
    return without_wrappers(parameter) if re.search(r"\.original\d$|_v$", parameter) else plain_name(parameter)


def masks_by_name(source: Any) -> dict[str, Any]:
    """The masks themselves that a dictionary, list, ``Masking`` object or scheduler has, by their names; None has none.

    Raises ``InvalidInputError`` for anything else.
    """
    if source is None:
        return {}
    if isinstance(source, list | tuple) and not (source and all(map(_is_masking, source))):
        return {f"l{k}": mask for k, mask in enumerate(source)}
    if isinstance(source, Mapping):
        return {str(name): mask for name, mask in source.items()}
    if hasattr(source, "backward_masks"):
        return _of_scheduler(source)[0]
    if _is_masking(source) or isinstance(source, list | tuple):
        return _of_heads(source if isinstance(source, list | tuple) else [source])
    raise InvalidInputError(
        "masks: expected a dictionary or list of arrays or an object with masks or backward_masks, "
        f"found {type(source).__name__}"
    )


def _is_sequence(module: Any) -> bool:
    """Whether the order of the parameters is the order of execution: linear layers in nested ``Sequential``.

    Not where one is used twice: a parameter stands once among the model's.
    """
    weights = [id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False) if parameter.dim() > 1]
    if len(set(weights)) < len(weights):
        return False
    for place, inner in module.named_modules():
        if f".{place}.".find(".parametrizations.") >= 0:
            continue
        children = [name for name in inner._modules if name != "parametrizations"]  # noqa: SLF001
        kind = type(inner).__name__.removeprefix("Parametrized")
        if children and kind != "Sequential":
            return False
        weighty = any(parameter.dim() > 1 for parameter in inner.parameters(recurse=False))
        if weighty and kind != "Linear":
            return False
    return True


def _of_heads(maskings: Sequence[Any]) -> dict[str, Any]:
    """The masks of several ``Masking`` objects, each with its number where they use the same names."""
    names = [name for masking in maskings for name in masking.masks]
    numbered = len(set(names)) < len(names)
    return {
        f"{k}.{name}" if numbered else name: mask
        for k, masking in enumerate(maskings)
        for name, mask in masking.masks.items()
    }


def _of_scheduler(scheduler: Any) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Masks in the order of ``W``, by the names that the scheduler's model has for those parameters."""
    weights = list(getattr(scheduler, "W", []))
    model = unwrap(getattr(scheduler, "model", None))
    named = model.named_parameters() if is_module(model) else ()
    names = {id(parameter): plain_name(name) for name, parameter in named}
    masks, shapes = {}, _parameters(model) if names else {}
    for k, mask in enumerate(scheduler.backward_masks):
        weight = weights[k] if k < len(weights) else None
        name = names.get(id(weight), f"l{k}")
        masks[name] = mask
        if weight is not None:
            shapes[name] = tuple(weight.shape)
    return masks, shapes


def _of_optimizer(optimizer: Any) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The masks that an optimizer keeps with the state of each parameter, by the ``names`` of its groups."""
    masks: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for group in optimizer.param_groups:
        names = list(group.get("names") or ())
        for k, parameter in enumerate(group["params"]):
            name = names[k] if len(names) == len(group["params"]) else f"l{len(masks)}"
            masks[name] = optimizer.state.get(parameter, {}).get("mask")
            if parameter.dim() > 1:
                shapes[name] = tuple(parameter.shape)
    return masks, shapes


def _sparse_state(source: Any, depth: int = 6) -> Any:
    """The state of JaxPruner in that of an optax transformation or of a training, None where there is none."""
    if isinstance(getattr(source, "masks", None), Mapping) and hasattr(source, "target_sparsities"):
        return source
    inner = [getattr(source, name, None) for name in ("opt_state", "inner_state", "inner_states")]
    if isinstance(source, tuple):
        inner += source
    elif isinstance(source, Mapping) and depth < 6:
        inner += source.values()
    found = (_sparse_state(part, depth - 1) for part in inner if part is not None and depth)
    return next((state for state in found if state is not None), None)


def _of_tree(
    masks: Any, shapes: Mapping[str, tuple[int, ...]], orientation: Orientation | None, *, from_weights: bool = False
) -> Reading:
    """The masks of a list or dictionary, whose order is stated; or of a nested one, whose order says nothing."""
    nested = isinstance(masks, Mapping) and any(isinstance(value, Mapping) for value in masks.values())
    if nested or shapes:
        return _copied(dict(_leaves(masks)), shapes, orientation or "hwio", from_weights=from_weights)
    return _copied(masks_by_name(masks), {}, orientation or "in-out", chain=True, from_weights=from_weights)


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of nested dictionaries and lists by their paths."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, f"{prefix}/{name}" if prefix else str(name))
    elif isinstance(tree, list | tuple) and prefix and not _shape_of(tree):
        for k, value in enumerate(tree):
            yield from _leaves(value, f"{prefix}/{k}")
    elif prefix:
        yield prefix, tree


def _shape_of(leaf: Any) -> tuple[int, ...]:
    return tuple(getattr(leaf, "shape", ()))


def _copied(
    masks: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    orientation: Orientation,
    *,
    chain: bool = False,
    from_weights: bool = False,
    turned: frozenset[str] = frozenset(),
) -> Reading:
    arrays: dict[str, Copied] = {}
    for name, mask in masks.items():
        if mask is None:
            continue
        try:
            copied = copying.copy(mask, shapes.get(name), from_weights=from_weights)
        except InvalidTopologyError as error:
            raise InvalidTopologyError(f"layer {name!r}: {error.message}", hint=error.hint) from None
        shape = copying.shape_of(copied)
        if name in shapes and shape != shapes[name] and not isinstance(copied, Mask):
            raise InvalidTopologyError(
                f"layer {name!r}: expected a mask of its parameter's shape {shapes[name]}, found {shape}"
            )
        if len(shape) > 1:  # a bias is no connection
            arrays[name] = copied
    if not arrays:
        raise InvalidTopologyError("log: expected at least one mask of a matrix or kernel, found none")
    others = turned & arrays.keys() if orientation == "out-in" else frozenset[str]()
    return Reading(arrays, orientation, chain, shapes, from_weights, others)


def _keyed(arrays: Mapping[str, Any], reading: Reading, wiring: Wiring) -> dict[str, Any]:
    """The arrays by the names that the wiring has for them; weights of the model that it does not know are left out."""
    keys = {layer.name if layer.part is None else layer.part.parameter for layer in wiring}
    said = {y.part.parameter for y in wiring if y.part is not None and y.part.orientation is not None}
    wanted = keys | {y.name for y in wiring}
    keyed = {}
    for name, array in arrays.items():
        key = _short(name, wanted)
        if key in wanted or name in reading.arrays:
            keyed[key] = array.T if name in reading.turned and key not in said else array
    return keyed


def _short(name: str, wanted: set[str]) -> str:
    short = name.removesuffix("/kernel").removesuffix(".weight")
    return short if name not in wanted and short in wanted else name


def _check_order(reading: Reading) -> None:
    """Whether the order is the network's, or the sizes leave no choice.

    They leave none where matrices chain in their order and no two spaces have one size.
    """
    if reading.chain:
        return
    named = {**reading.parameters, **{name: copying.shape_of(copied) for name, copied in reading.arrays.items()}}
    shapes = [
        shape
        if isinstance(reading.arrays.get(name), Mask) or (reading.orientation == "out-in") is (name in reading.turned)
        else shape[::-1]
        for name, shape in named.items()
    ]
    plain = all(len(shape) == 2 for shape in shapes)
    chains = plain and all(before[1] == after[0] for before, after in pairwise(shapes))
    widths = [shapes[0][0], *(shape[-1] for shape in shapes)]
    if not chains or len(set(widths)) < len(widths):
        names = ", ".join(list(named)[:6])
        raise InvalidTopologyError(
            f"log: expected a wiring for {names}: their sizes alone do not tell which layer feeds which",
            hint="run.watch(model) traces it; init(wiring=...) states it: Wiring.chain, or Wiring.from_toml for a file",
        )
