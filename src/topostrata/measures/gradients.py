"""How much gradient reaches the weights that a sparse network has: effective gradient flow.

A masked weight's gradient says nothing about training, since it moves nothing; so the norm of all gradients is not the
norm of what trains. The effective gradient flow takes the masked ones out, and means over parameters, so that the
largest layer does not decide alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata import matrices
from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.ingest.hook import sources
from topostrata.ingest.hook.tracing.forward import unwrap

# What is recorded of a run and of each of its parameters, by the names of their fields.
_OF_RUN = ("egf_1", "egf_2", "egf_1_per_weight", "egf_2_per_weight", "gradient_norm_1", "gradient_norm_2")
_OF_PARAMETER = ("flow_1", "flow_2", "active", "gradient_norm_1", "gradient_norm_2")

_BLOCK = 2**16  # entries that are widened to float64 at once, so that they stay in the cache
_DEVICE_BLOCK = 2**24


@dataclass(frozen=True, slots=True)
class ParameterFlow:
    """The gradient of one parameter, of which ``active`` of ``size`` entries are not masked.

    ``flow_1`` and ``flow_2`` are the norms of gradient times mask, ``gradient_norm_1`` and ``gradient_norm_2`` those of
    the whole gradient. ``counted`` says whether it is one of those over which EGF is the mean.
    """

    name: str
    size: int
    active: int
    flow_1: float
    flow_2: float
    gradient_norm_1: float
    gradient_norm_2: float
    counted: bool


@dataclass(frozen=True, slots=True)
class GradientFlow:
    """The gradient flow of a network at one moment.

    ``egf_1`` and ``egf_2`` are the means of the counted parameters' ``flow_1`` and ``flow_2``;
    ``egf_1_per_weight`` and ``egf_2_per_weight`` the means of these divided by the active weights of their parameter
    (0 where it has none). ``gradient_norm_1`` and ``gradient_norm_2``, to compare with, are the norms of all gradients
    in one vector, also of masked weights and of what is not counted. ``missing`` are the parameters without a gradient,
    which count nowhere.
    """

    egf_1: float
    egf_2: float
    egf_1_per_weight: float
    egf_2_per_weight: float
    gradient_norm_1: float
    gradient_norm_2: float
    parameters: tuple[ParameterFlow, ...]
    missing: tuple[str, ...] = ()

    def as_metrics(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Those of the network, and those of each parameter by its name, as ``archive.push_metrics`` takes them.

        >>> of_run, of_layers = gradient_flow({"fc1": [[3.0, 4.0]]}).as_metrics()
        >>> of_run["egf_2"], of_layers["fc1"]["flow_2"]
        (5.0, 5.0)
        """
        of_run = {name: float(getattr(self, name)) for name in _OF_RUN}
        return of_run, {p.name: {name: float(getattr(p, name)) for name in _OF_PARAMETER} for p in self.parameters}


class _Named(NamedTuple):
    """Gradients and masks by the names of their parameters, where a mask may be missing."""

    gradients: Mapping[str, Any]
    masks: Mapping[str, Any]


class _Sums(NamedTuple):
    """The sums of a gradient's absolute values and squares, over all entries and over the active ones.

    ``active`` counts these, ``other`` the entries of the mask that are neither 0 nor 1.
    """

    absolute: float
    squares: float
    active_absolute: float
    active_squares: float
    active: float
    other: float


def gradient_flow(gradients: Any, masks: Any = None, *, biases: bool = False, scale: Any = 1.0) -> GradientFlow:
    """The effective gradient flow: the mean over parameters of the norm of gradient times mask, g * m.

    ``gradients`` are arrays or tensors by the names of their parameters, or a torch module, whose ``.grad`` are read as
    they are now: after ``backward``, before the optimizer's step. ``masks`` are by the same names and of the same
    shapes, or a ``Masking`` object or scheduler that has them; those that a module's pruning and parametrizations keep
    are found. A parameter without a mask is dense. Each parameter counts as one, also where it is q, k and v in one.

    EGF_p is the mean of ||g * m||_p over the parameters of two or more dimensions. ``biases=True`` also counts those of
    one: biases, and the scales and shifts of norms. They are listed either way.

    ``scale`` is what the loss was multiplied by: a number, or the ``GradScaler``, which knows whether it has divided
    it out already. Nothing is copied but a block at a time; tensors are reduced on their device.

    Raises ``InvalidInputError`` where there are no gradients, a mask is of no parameter or of another shape or has
    other values than 0 and 1, or the gradients are sharded over processes.

    Source: Tessera, Hooker and Rosman, "Keep the Gradients Flowing" (arXiv 2102.01670).

    >>> gradients = {"fc1": [[3.0, -4.0], [12.0, 1.0]], "fc2": [[2.0, 0.0]], "fc2.bias": [9.0]}
    >>> flow = gradient_flow(gradients, {"fc1": [[1, 1], [1, 0]]})
    >>> flow.egf_1, flow.egf_2, flow.gradient_norm_1
    (10.5, 7.5, 31.0)
    >>> [(p.name, p.active, p.flow_2, p.counted) for p in flow.parameters]
    [('fc1', 3, 13.0, True), ('fc2', 2, 2.0, True), ('fc2.bias', 1, 9.0, False)]
    """
    named = _named(unwrap(gradients), masks)
    divisor = _divisor(scale)
    present = {name: gradient for name, gradient in named.gradients.items() if gradient is not None}
    if not present:
        raise InvalidInputError(
            f"gradient flow: expected gradients, found none in {len(named.gradients)} parameters",
            hint="call it after backward() and before zero_grad()",
        )
    sums = _fetched([_sums(name, gradient, named.masks.get(name)) for name, gradient in present.items()])
    for name, total in zip(present, sums, strict=True):
        if total.other:
            raise InvalidInputError(
                f"gradient flow: {name!r}: expected a mask of 0 and 1, found {int(total.other)} other values"
            )
    parameters = tuple(
        ParameterFlow(
            name,
            math.prod(np.shape(gradient)),
            int(total.active),
            total.active_absolute / divisor,
            math.sqrt(total.active_squares) / divisor,
            total.absolute / divisor,
            math.sqrt(total.squares) / divisor,
            biases or len(np.shape(gradient)) > 1,
        )
        for (name, gradient), total in zip(present.items(), sums, strict=True)
    )
    return _summed(parameters, tuple(name for name in named.gradients if name not in present))


def _summed(parameters: tuple[ParameterFlow, ...], missing: tuple[str, ...]) -> GradientFlow:
    counted = [parameter for parameter in parameters if parameter.counted]
    if not counted:
        names = ", ".join(parameter.name for parameter in parameters[:6])
        raise InvalidInputError(
            f"gradient flow: expected gradients of two or more dimensions, found only those of {names}",
            hint="biases=True counts those of one dimension",
        )

    def mean(value: Callable[[ParameterFlow], float]) -> float:
        return math.fsum(map(value, counted)) / len(counted)

    return GradientFlow(
        mean(lambda p: p.flow_1),
        mean(lambda p: p.flow_2),
        mean(lambda p: p.flow_1 / p.active if p.active else 0.0),
        mean(lambda p: p.flow_2 / p.active if p.active else 0.0),
        math.fsum(p.gradient_norm_1 for p in parameters),
        math.hypot(*(p.gradient_norm_2 for p in parameters)),
        parameters,
        missing,
    )


def _named(gradients: Any, masks: Any) -> _Named:
    if sources.is_module(gradients):
        parameters = {sources.mask_name(name): value for name, value in gradients.named_parameters()}
        named = {name: value.grad for name, value in parameters.items() if value.requires_grad}
        own = dict(sources.masks_of_module(gradients))
        return _Named(named, {**own, **_table(masks, parameters)})
    if isinstance(gradients, list | tuple):
        gradients = {f"l{k}": gradient for k, gradient in enumerate(gradients)}
    if not isinstance(gradients, Mapping):
        raise InvalidInputError(
            "gradient flow: expected gradients by the names of their parameters or a torch module, "
            f"found {type(gradients).__name__}"
        )
    named = {str(name): gradient for name, gradient in gradients.items()}
    return _Named(named, _table(masks, named))


def _table(masks: Any, parameters: Iterable[str]) -> dict[str, Any]:
    """The masks that were stated, by the names of parameters."""
    table = {name: mask for name, mask in sources.masks_by_name(masks).items() if mask is not None}
    names = set(parameters)
    if unknown := [name for name in table if name not in names]:
        known = ", ".join(sorted(names))[:200]
        raise InvalidInputError(f"gradient flow: mask {unknown[0]!r}: expected one of the parameters {known}")
    return table


def _divisor(scale: Any) -> float:
    """What gradients are to be divided by."""
    if hasattr(scale, "get_scale"):
        return _of_scaler(scale)
    try:
        number = float(scale)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InvalidInputError(f"scale: expected a number above 0 or a GradScaler, found {scale!r}")
    return number


def _of_scaler(scaler: Any) -> float:
    """The scale that a ``GradScaler`` has not divided out yet; it keeps what it did for each optimizer until update."""
    states = getattr(scaler, "_per_optimizer_states", {})  # told nowhere else; one that is disabled has none
    stages = {state["stage"].name for state in states.values()}
    if "STEPPED" in stages or len(stages) > 1:
        raise InvalidInputError(
            "scale: expected a GradScaler that has unscaled all of its optimizers or none, and stepped none, "
            f"found the stages {', '.join(sorted(stages))}",
            hint="measure before scaler.step(optimizer)",
        )
    return 1.0 if stages == {"UNSCALED"} else float(scaler.get_scale())


def _sums(name: str, gradient: Any, mask: Any) -> Any:
    """The six sums of a gradient, in an array or in a tensor that stays on its device."""
    if hasattr(gradient, "device_mesh"):
        raise InvalidInputError(
            f"gradient flow: {name!r}: expected a whole gradient, found one that is sharded over processes",
            hint="on every process: {name: p.grad.full_tensor() for name, p in model.named_parameters()}",
        )
    shape, mask = tuple(np.shape(gradient)), None if mask is None else _dense(name, mask)
    if mask is not None and tuple(mask.shape) != shape:
        raise InvalidInputError(
            f"gradient flow: {name!r}: expected a mask of the gradient's shape {shape}, found {tuple(mask.shape)}"
        )
    if hasattr(gradient, "detach"):
        return _of_tensor(gradient.detach(), mask)
    is_sparse = sp.issparse(gradient)
    array = np.asarray(gradient.toarray() if is_sparse else gradient)
    if array.dtype.kind not in "biufc" and "float" not in array.dtype.name:  # such as JAX's bfloat16
        raise InvalidInputError(f"gradient flow: {name!r}: expected numbers, found dtype {array.dtype}")
    return _of_array(array, matrices.from_torch(mask) if hasattr(mask, "detach") else mask)


def _dense(name: str, mask: Any) -> Any:
    """A mask as a dense array or tensor, in which every connection of a sparse one is 1."""
    if hasattr(mask, "detach") and str(mask.layout) == "torch.strided":
        return mask.detach()
    if not hasattr(mask, "detach") and not sp.issparse(mask):
        return np.asarray(mask)
    try:
        indices, shape = matrices.entries(mask)
    except InvalidTopologyError as error:
        raise InvalidInputError(f"gradient flow: {name!r}: {error.message}") from None
    dense = np.zeros(shape, dtype=bool)
    dense[indices] = True
    return dense


def _of_array(gradient: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[np.float64]:
    flat, marks = gradient.reshape(-1), None if mask is None else mask.reshape(-1)
    sums = np.zeros(6)
    for start in range(0, flat.size, _BLOCK):
        block = np.abs(flat[start : start + _BLOCK]).astype(np.float64)
        whole = [block.sum(), block @ block]
        if marks is None:
            sums += [*whole, *whole, block.size, 0]
            continue
        values = marks[start : start + _BLOCK]
        present = values != 0
        block *= present
        other = np.count_nonzero(present) - np.count_nonzero(values == 1)
        sums += [*whole, block.sum(), block @ block, np.count_nonzero(present), other]
    return sums


def _of_tensor(gradient: Any, mask: Any) -> Any:
    import torch

    if gradient.layout != torch.strided:
        gradient = gradient.to_dense()
    device = gradient.device
    wide = torch.float32 if device.type == "mps" else torch.float64  # which that device has not
    size = _BLOCK if device.type == "cpu" else _DEVICE_BLOCK
    marks = None if mask is None else torch.as_tensor(mask, device=device).reshape(-1).split(size)
    sums = torch.zeros(6, dtype=wide, device=device)
    none = torch.zeros((), dtype=wide, device=device)
    for k, part in enumerate(gradient.reshape(-1).split(size)):
        block = part.abs().to(wide)
        whole = [block.sum(), block.dot(block)]
        if marks is None:
            sums += torch.stack([*whole, *whole, none + block.numel(), none])
            continue
        present = marks[k].ne(0)
        active = present.count_nonzero().to(wide)
        other = none if marks[k].dtype == torch.bool else active - marks[k].eq(1).count_nonzero()
        block.mul_(present)
        sums += torch.stack([*whole, block.sum(), block.dot(block), active, other])
    return sums


def _fetched(sums: list[Any]) -> list[_Sums]:
    """The sums as numbers; those on a device come in one transfer."""
    tensors = [row for row in sums if hasattr(row, "detach")]
    if not tensors:
        return [_Sums(*row.tolist()) for row in sums]
    import torch

    first = tensors[0]
    rows = torch.stack([torch.as_tensor(row, dtype=first.dtype, device=first.device) for row in sums])
    return [_Sums(*row) for row in rows.tolist()]
