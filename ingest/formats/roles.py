"""What each array of a file is for, told from its name and shape: mask, weight, bias, norm, buffer, optimiser, average.

Masks win over the weights of the same *stem*, whatever the spelling: ``mask_dict.fc1.weight``, ``fc1.weight_mask``,
``fc1.parametrizations.weight.0.mask`` and ``module.fc1._weight_mask`` all mask ``fc1``. What is no layer is left out
with the reason, so that it can be said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.array_file import AxisOrder
from topostrata.ingest.formats.stored import StoredArray

Role = Literal["mask", "weight", "original", "bias", "norm", "buffer", "optimiser", "average", "other"]

# What stands around a network's own names: containers of a checkpoint, wrappers of torch, containers of masks.
_WRAPPERS = {
    "state_dict", "model_state_dict", "model_state", "model", "module", "_orig_mod", "params", "mask_dict", "masks",
    "mask", "weight_masks",
}  # fmt: skip
_OPTIMISER = {
    "optimizer", "optimiser", "optim", "opt", "opt_state", "optimizer_states", "optimizer_state_dict", "exp_avg",
    "exp_avg_sq", "max_exp_avg_sq", "momentum", "momentum_buffer", "momentums", "velocity", "velocities", "square_avg",
    "grad", "grads", "gradient", "gradients", "grad_avg",
}  # fmt: skip
_AVERAGES = {
    "ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model_state_dict", "ema_params",
    "params_ema", "shadow", "shadow_params", "swa", "swa_model", "averaged_model", "average_model",
}  # fmt: skip
_BUFFERS = {
    "running_mean", "running_var", "num_batches_tracked", "batch_stats", "position_ids", "token_type_ids", "inv_freq",
    "relative_position_index", "relative_coords_table", "masked_bias", "attention_mask", "attn_mask", "causal_mask",
    "padding_mask", "key_padding_mask", "src_mask", "tgt_mask", "mask_token", "cls_token", "class_token", "dist_token",
    "scale", "zero_point", "weight_scale", "weight_zero_point", "rng_state",
}  # fmt: skip
_RECORDS = {"fired_masks", "fired_mask", "record_mask", "record_masks", "mask_after_removal"}
_KNOWN: tuple[tuple[set[str], Role, str], ...] = (
    (_RECORDS, "buffer", "it records where masks once were"),
    (_OPTIMISER, "optimiser", "it is state of the optimiser"),
    (_AVERAGES, "average", "it is an average over time of the weights"),
    (_BUFFERS, "buffer", "it is no parameter"),
)
_PACKED = re.compile(r"(.*_)?bitmask|(.*_)?packed|(.*_)?compressed|row_offsets|qweight|qzeros")
_POSITIONS = re.compile(r"pos_embed|pos_embedding|position_embeddings?|positional_embedding|wpe|embed_positions")
_NORM = re.compile(r"(.*_)?(layer|batch|group|rms|instance)?_?norms?\d*|bn\d*|ln(_\w+|\d*)|gn\d*", re.IGNORECASE)
_SCALES = {"layer_scale", "layer_scale_parameter", "layerscale", "gamma", "grn"}
_ORIGINAL = re.compile(r"(?P<of>.+)_orig|original\d*")
_MASK = re.compile(r"(?:(?P<of>.+)_)?masks?\d*|masks?_(?P<on>.+)", re.IGNORECASE)
_MASKS = re.compile(r"(\w+_)?masks?|mask_dict")
_PAIR = re.compile(r"m(\d*)")
_WEIGHT = re.compile(r"(?:(?P<of>.+)_)?(?:weights?|kernel)|weights?_(?P<on>.+)|[wW]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ArrayRole:
    """An array, what it is for, the layer that it belongs to (``stem``), and how that is known."""

    array: StoredArray
    role: Role
    stem: str
    why: str

    @property
    def name(self) -> str:
        """The name of the array in its file."""
        return self.array.name

    @property
    def holds_layer(self) -> bool:
        """Whether it can be a layer's connections."""
        return self.role in {"mask", "weight"} and len(self.array.shape) >= 2


def roles_of(arrays: Mapping[str, StoredArray]) -> list[ArrayRole]:
    """The role of every array, in the order of the file.

    >>> import numpy as np
    >>> def array(name, shape):
    ...     return StoredArray(name, shape, "float32", "dense", "", lambda: np.zeros(shape))
    >>> names = {"model.fc1.weight_orig": (3, 4), "model.fc1.weight_mask": (3, 4), "model.fc1.bias": (3,)}
    >>> [(r.role, r.stem) for r in roles_of({n: array(n, s) for n, s in names.items()})]
    [('original', 'fc1'), ('mask', 'fc1'), ('bias', 'fc1')]
    """
    roles = [_role(array, arrays) for array in arrays.values()]
    if not any(role.holds_layer for role in roles):
        roles = [_role(role.array, arrays, lone=True) if role.role == "average" else role for role in roles]
    masked = {role.stem: role.name for role in roles if role.role == "mask" and len(role.array.shape) >= 2}
    return [_beside_masks(role, masked) for role in roles]


def chosen(roles: Iterable[ArrayRole], where: str) -> list[ArrayRole]:
    """The arrays that are layers: per stem its mask where it has one, else its weights; in the order of the file."""
    layers: dict[str, ArrayRole] = {}
    for role in roles:
        if not role.holds_layer:
            continue
        other = layers.setdefault(role.stem, role)
        if other is not role:
            raise InvalidInputError(
                f"{where}: layer {role.stem!r}: expected one array, found {other.name!r} and {role.name!r}",
                hint=f"choose with --layers, for example --layers '{other.name}'",
            )
    return list(layers.values())


def stem_of(name: str) -> str:
    """The layer that an array of this name belongs to: without wrappers, and without what says weight or mask.

    >>> [stem_of(name) for name in ("module.fc1.weight", "mask_dict.fc1.weight", "weight_fc1", "Dense_0/kernel")]
    ['fc1', 'fc1', 'fc1', 'Dense_0']
    """
    return _stem(_tokens(name)) or name


def axes_of_names(layers: Iterable[ArrayRole]) -> AxisOrder | None:
    """The order of axes that files with such names have; None where the names do not tell, or differ."""
    told: set[AxisOrder] = set()
    for layer in layers:
        name = layer.name.lower().removesuffix(":0")
        if name.endswith(("kernel", "kernel_mask", "kernel.mask")):
            told.add("in-out")
        elif any(word in name for word in (".weight", "parametrizations")):
            told.add("out-in")
    return told.pop() if len(told) == 1 else None


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[./:\[\]']+", name.removesuffix(":0")) if token]


def _stem(tokens: list[str]) -> str:
    while len(tokens) > 1 and tokens[0].lower() in _WRAPPERS | _AVERAGES | _RECORDS | _OPTIMISER:
        tokens = tokens[1:]
    if "parametrizations" in tokens:
        at = tokens.index("parametrizations")
        tokens = tokens[:at] + tokens[at + 1 : at + 2]
    for pattern in (_MASK, _ORIGINAL, _WEIGHT):
        last = tokens[-1].lstrip("_") if tokens else ""
        match = pattern.fullmatch(last)
        if match is None:
            continue
        rest = (match.groupdict().get("of") or match.groupdict().get("on") or "").rstrip("_")
        if rest or len(tokens) > 1:
            tokens = [*tokens[:-1], *([rest] if rest else [])]
    if len(tokens) > 1 and tokens[-1] in {"bias", "b"}:
        tokens = tokens[:-1]
    return ".".join(tokens)


def _role(array: StoredArray, arrays: Mapping[str, StoredArray], *, lone: bool = False) -> ArrayRole:
    """``lone``: an average over time of which there is no other copy is what it is an average of."""
    tokens = _tokens(array.name)
    lower = [token.lower() for token in tokens]
    stem = _stem(tokens) or array.name
    role, why = _by_name([word for word in lower if word not in _AVERAGES] if lone else lower, array)
    if role == "weight" and (pair := _PAIR.fullmatch(lower[-1])):
        partner = array.name[: len(array.name) - len(tokens[-1])] + f"w{pair[1]}"
        if partner in arrays and arrays[partner].shape == array.shape:
            role, stem, why = "mask", _stem(_tokens(partner)) or partner, f"it has the shape of {partner!r}"
    return ArrayRole(array, role, stem, why)


def _by_name(lower: list[str], array: StoredArray) -> tuple[Role, str]:
    for known, role, why in _KNOWN:
        word = next((token for token in lower if token in known), None)
        if word is not None:
            return role, f"{word!r}: {why}"
    if array.dtype.startswith(("complex", "str", "bytes", "object", "void")):
        return "other", f"dtype {array.dtype} is neither boolean nor real"
    if _PACKED.fullmatch(lower[-1]):
        return "other", f"{lower[-1]!r}: its entries are packed; unpack them with the library that wrote them"
    return _no_layer(lower, len(array.shape)) or _layer(lower, len(array.shape))


def _no_layer(lower: list[str], ndim: int) -> tuple[Role, str] | None:
    last = lower[-1]
    if last in {"bias", "biases"} or last.startswith("bias_") or last.endswith("_bias") or (last == "b" and ndim < 2):
        return ("bias", "by its name") if ndim < 2 else ("buffer", f"a bias of {ndim} axes is no layer")
    position = next((token for token in lower if _POSITIONS.fullmatch(token)), None)
    if position is not None:
        return "buffer", f"{position!r}: it is added for each position, it joins no units"
    if last in _SCALES:
        return "norm", f"{last!r}: it scales each unit alone"
    norm = next((token for token in lower if _NORM.fullmatch(token)), None)
    if norm is not None and (ndim < 2 or last != "weight"):
        return "norm", f"{norm!r}: a norm works on each unit alone"
    return ("other", f"it has {ndim} axes, a layer has at least 2") if ndim < 2 else None


def _layer(lower: list[str], ndim: int) -> tuple[Role, str]:
    holder = next((token for token in lower[:-1] if _MASKS.fullmatch(token)), None)
    if holder is not None or _MASK.fullmatch(lower[-1].lstrip("_")):
        return "mask", f"{holder or lower[-1]!r} in its name"
    return "weight", f"it has {ndim} axes"


def _beside_masks(role: ArrayRole, masked: Mapping[str, str]) -> ArrayRole:
    """Weights whose mask is there are not looked at."""
    if role.role == "weight" and role.stem in masked:
        return replace(role, role="original", why=f"its mask {masked[role.stem]!r} is the topology")
    return role
