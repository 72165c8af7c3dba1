"""What operations that move, join or reduce dimensions do to labels; ``contractions`` has those with weights.

An operation without a rule fixes all that it touches. ``rule_of`` finds the rule for the name of an ATen operation.
"""

from __future__ import annotations

from collections.abc import Sequence

from topostrata.ingest.hook.tracing.axes_of_tensors import (
    Dim,
    Label,
    factors,
    fix,
    fixed,
    free,
    is_fixed,
    narrow,
    product_of,
    regroup,
    stacked,
    sum_of,
    unify,
    version_at,
)
from topostrata.ingest.hook.tracing.calls import Call, Rule
from topostrata.ingest.hook.tracing.labels import Labels, fixed_labels, joined

# Names without the underscore of the version in place.
ELEMENTWISE = (
    "native_dropout dropout alpha_dropout _to_copy to clone detach alias contiguous lift_fresh lift_fresh_copy where "
    "masked_fill _softmax _log_softmax _safe_softmax softmax log_softmax gelu silu hardtanh hardswish hardsigmoid "
    "leaky_relu elu relu relu6 prelu mish softplus threshold rsub nan_to_num clamp erf type_as resolve_conj "
    "resolve_neg positive copy isin rand_like randn_like bernoulli normal uniform exponential requires_grad"
)


def unknown(call: Call) -> list[Labels]:
    """All that an operation without a rule touches is fixed."""
    tensors = call.raw_tensors
    for tensor in tensors:
        if not tensor.blank:
            tensor.fix(f"operation without a rule: {call.name}")
    why = f"operation without a rule: {call.name}"
    return [joined(shape, fixed_labels(shape, why).dims, tensors or [fixed_labels((), "")]) for shape in call.shapes]


def elementwise(call: Call) -> list[Labels]:
    """Results are numbered as all arguments are, dimension by dimension from the last."""
    shape = call.shapes[0]
    tensors = call.tensors
    if call.name.endswith("_") and isinstance(call.args[0], Labels):
        tensors[0] = call.args[0]  # written in place: a blank one keeps its labels
    dims: list[Dim] = []
    for k in range(len(shape)):
        back = k - len(shape)
        alike = [t.dims[back] for t in tensors if -back <= t.rank and t.shape[back] == shape[k] != 1]
        for dim in alike[1:]:
            unify(alike[0], dim)
        dims.append(factors(alike[0]) if alike else free(shape[k]))
    result = joined(shape, dims, tensors)
    scalar = all(tensor.blank or tensor.rank == 0 for tensor in tensors)
    result.blank = result.kind == "constant" and scalar and bool(tensors)
    if call.name.rstrip("_") in {"rand_like", "randn_like", "bernoulli", "normal", "uniform", "exponential"}:
        result = Labels(shape, dims)
    return [result if other == shape else fixed_labels(other, call.name) for other in call.shapes]


def view(call: Call) -> list[Labels]:
    """Reshaped: the same factors, grouped otherwise."""
    tensor: Labels = call.args[0]
    shape = call.shapes[0]
    dims = regroup([label for dim in tensor.dims for label in factors(dim)], shape, call.meetings)
    return [tensor.like(shape, dims, tensor.stored and tensor.stored.viewed(shape))]


def permute(call: Call) -> list[Labels]:
    """Dimensions in another order."""
    tensor: Labels = call.args[0]
    if call.name in {"t", "transpose", "transpose_", "t_"}:
        order = list(range(tensor.rank))
        first, second = (call.args[1], call.args[2]) if "transpose" in call.name else (0, -1)
        if order:
            order[first], order[second] = order[second], order[first]
    else:
        order = [dim % tensor.rank for dim in call.args[1]]
    return [
        tensor.like(call.shapes[0], [tensor.dims[k] for k in order], tensor.stored and tensor.stored.permuted(order))
    ]


def expand(call: Call) -> list[Labels]:
    """An expanded dimension is numbered by a label of its own."""
    tensor: Labels = call.args[0]
    shape = call.shapes[0]
    new = len(shape) - tensor.rank
    dims = [free(size) for size in shape[:new]]
    for k, dim in enumerate(tensor.dims):
        dims.append(dim if tensor.shape[k] == shape[new + k] else free(shape[new + k]))
    return [tensor.like(shape, dims, tensor.stored and tensor.stored.expanded(shape))]


def repeat(call: Call) -> list[Labels]:
    """The copies are numbered by a label of their own, outside."""
    tensor: Labels = call.args[0]
    shape = call.shapes[0]
    new = len(shape) - tensor.rank
    dims = [free(size) for size in shape[:new]]
    for k, dim in enumerate(tensor.dims):
        dims.append(free(shape[new + k] // tensor.shape[k]) + factors(dim))
    return [tensor.like(shape, dims)]


def slice_(call: Call) -> list[Labels]:
    """A range, or every n-th index of a dimension."""
    tensor: Labels = call.args[0]
    which = call.dim(call.arg(1, "dim", 0), tensor.rank)
    size = tensor.shape[which]
    start, stop, step = slice(call.arg(2, "start"), call.arg(3, "end"), call.arg(4, "step", 1)).indices(size)
    if step == 1:
        return [_part(tensor, which, start, max(start, stop))]
    dims = [factors(dim) for dim in tensor.dims]
    if size % step == 0 and start < step and stop == size:
        outer, inner = regroup(tensor.dims[which], [size // step, step])
        fix(inner, "read by index")
        dims[which] = [version_at(label, inner[0], start) for label in factors(outer)]
    else:
        fix(dims[which], "slice with a step")
        dims[which] = fixed(call.shapes[0][which], "slice with a step")
    return [tensor.like(call.shapes[0], dims)]


def select(call: Call) -> list[Labels]:
    """One index of a dimension."""
    tensor: Labels = call.args[0]
    return [_at_index(tensor, call.dim(call.args[1], tensor.rank), call.args[2])]


def unbind(call: Call) -> list[Labels]:
    """Every index of a dimension."""
    tensor: Labels = call.args[0]
    which = call.dim(call.arg(1, "dim", 0), tensor.rank)
    return [_at_index(tensor, which, k) for k in range(len(call.shapes))]


def split(call: Call) -> list[Labels]:
    """Ranges side by side."""
    tensor: Labels = call.args[0]
    which = call.dim(call.arg(2, "dim", 0), tensor.rank)
    parts, at = [], 0
    for shape in call.shapes:
        parts.append(_part(tensor, which, at, at + shape[which]))
        at += shape[which]
    return parts


def glu(call: Call) -> list[Labels]:
    """One half of a dimension gates the other."""
    tensor: Labels = call.args[0]
    which = call.dim(call.arg(1, "dim", -1), tensor.rank)
    half = tensor.shape[which] // 2
    parts = [narrow(tensor.dims, which, half * k, half * (k + 1))[which] for k in (0, 1)]
    first = narrow(tensor.dims, which, 0, half)
    for part in parts:
        unify(first[which], part)
    return [tensor.like(call.shapes[0], first)]


def cat(call: Call) -> list[Labels]:
    """What stands side by side is a sum; positions side by side are positions."""
    shape = call.shapes[0]
    tensors = [tensor.for_use() for tensor in call.args[0] if tensor.shape != (0,)]
    which = call.dim(call.arg(1, "dim", 0), len(shape))
    dims: list[Dim] = []
    for k in range(len(shape)):
        rows = [tensor.dims[k] for tensor in tensors]
        if k == which:
            fixed_all = all(is_fixed(row) for row in rows)
            dims.append(fixed(shape[k], "position") if fixed_all else [sum_of([product_of(row) for row in rows])])
            continue
        for row in rows[1:]:
            unify(rows[0], row)
        dims.append(rows[0])
    return [joined(shape, dims, tensors)]


def stack(call: Call) -> list[Labels]:
    """An index, and below it what each tensor had: nothing is tied by stacking alone."""
    tensors = [tensor.for_use() for tensor in call.args[0]]
    which = call.dim(call.arg(1, "dim", 0), len(call.shapes[0]))
    root = Label(1)
    index = Label(len(tensors), why="index of a stack", origin=root)
    dims = [stacked([tensor.dims[k] for tensor in tensors], index, root) for k in range(tensors[0].rank)]
    dims.insert(which, [index] if len(tensors) > 1 else [])
    return [joined(call.shapes[0], dims, tensors)]


def reduce_(call: Call) -> list[Labels]:
    """Dimensions that are summed over are gone; where an index into one is taken, its order counts."""
    tensor = call.tensor(0)
    dims = call.arg(1, "dim")
    if isinstance(dims, bool) or not isinstance(dims, list | tuple | int) or dims == []:
        which = set(range(tensor.rank))
    else:
        which = {call.dim(dim, tensor.rank) for dim in ([dims] if isinstance(dims, int) else dims)}
    if "arg" in call.name or (call.name in {"max", "min", "median", "mode"} and len(call.shapes) > 1):
        for k in which:
            fix(tensor.dims[k], f"an index into it is taken: {call.name}")
    results = []
    for shape in call.shapes:
        left = [dim for k, dim in enumerate(tensor.dims) if k not in which]
        if len(left) != len(shape):
            left = [[] if k in which else dim for k, dim in enumerate(tensor.dims)]
        results.append(tensor.like(shape, left))
    return results


def norm_except(call: Call) -> list[Labels]:
    """Of linalg_vector_norm: as ``reduce_``, but the dimension is the third argument."""
    return reduce_(Call(call.name, [call.args[0], call.arg(2, "dim")], {}, call.shapes))


def position(call: Call) -> list[Labels]:
    """Pooling, upsampling, padding by reflection: the last dimensions are positions."""
    tensor = call.tensor(0)
    count = next((int(text[0]) for text in ("1d", "2d", "3d") if text in call.name), 2)
    for dim in tensor.dims[-count:]:
        fix(dim, "position")
    return [
        tensor.like(shape, [*tensor.dims[:-count], *(fixed(n, "position") for n in shape[-count:])])
        for shape in call.shapes
    ]


def pad(call: Call) -> list[Labels]:
    """Channels of zeros beside others are a summand of their own."""
    tensor = call.tensor(0)
    shape, dims = call.shapes[0], []
    for k, dim in enumerate(tensor.dims):
        back = 2 * (tensor.rank - 1 - k)
        if shape[k] == tensor.shape[k]:
            dims.append(dim)
        elif is_fixed(dim) or min(call.args[1][back : back + 2]) < 0:
            fix(dim, "position")
            dims.append(fixed(shape[k], "position"))
        else:
            before, after = (call.args[1][back], call.args[1][back + 1])
            around = [[Label(width)] if width else [] for width in (before, after)]
            dims.append([sum_of([*around[0], product_of(dim), *around[1]])])
    return [tensor.like(shape, dims)]


def pixel_shuffle(call: Call) -> list[Labels]:
    """Channels are channels x rows x columns."""
    tensor = call.tensor(0)
    at, factor = tensor.rank - 3, call.args[1]
    channels, *inner = regroup(tensor.dims[at], [tensor.shape[at] // factor**2, factor, factor])
    dims = [*tensor.dims[:at], channels]
    for k in (0, 1):
        fix(inner[k], "position")
        fix(tensor.dims[at + 1 + k], "position")
        dims.append(fixed(call.shapes[0][at + 1 + k], "position"))
    return [tensor.like(call.shapes[0], dims)]


def index(call: Call) -> list[Labels]:
    """Read by index tensors: their order counts on both sides."""
    tensor = call.tensor(0)
    indices = [*call.args[1], *[None] * (tensor.rank - len(call.args[1]))]
    shape = call.shapes[0]
    places = [k for k, value in enumerate(indices) if value is not None]
    for k in places:
        fix(tensor.dims[k], "read by an index tensor")
        indices[k].fix("an index")
    width = max(indices[k].rank for k in places)
    at = places[0] if places == list(range(places[0], places[-1] + 1)) else 0
    rest = [dim for k, dim in enumerate(tensor.dims) if indices[k] is None]
    if len(rest) + width != len(shape):  # a mask
        return unknown(call)
    dims = [*rest[:at], *(fixed(n, "read by an index tensor") for n in shape[at : at + width]), *rest[at:]]
    return [_looked_up(tensor, shape, dims, [indices[k] for k in places])]


def gather(call: Call) -> list[Labels]:
    """One dimension is read by an index tensor."""
    tensor = call.tensor(0)
    which = call.dim(call.args[1], tensor.rank)
    shape = call.shapes[0]
    fix(tensor.dims[which], "read by an index tensor")
    others = [value for value in call.args[2:] if isinstance(value, Labels)]
    for value in others:
        value.fix("an index")
    dims = [
        dim if k != which and tensor.shape[k] == shape[k] else fixed(shape[k], "read by an index tensor")
        for k, dim in enumerate(tensor.dims)
    ]
    return [_looked_up(tensor, shape, dims, others)]


def ordered(call: Call) -> list[Labels]:
    """Operations along a dimension whose order counts: cumulative ones, rolls, flips, sorting."""
    tensor = call.tensor(0)
    name = call.name.rstrip("_")
    if name == "roll":
        which = call.arg(2, "dims", []) or list(range(tensor.rank))
    elif name in {"sort", "argsort", "topk"}:
        plain = [value for value in call.args[1:] if isinstance(value, int) and not isinstance(value, bool)]
        dims_named = plain[1:] if name == "topk" else plain
        which = [call.named.get("dim", dims_named[0] if dims_named else -1)]
    else:
        which = call.arg(1, "dim", [])
        which = [which] if isinstance(which, int) else which
    for k in which:
        fix(tensor.dims[k], f"its order counts: {name}")
    places = {k % tensor.rank for k in which}
    return [
        tensor.like(
            shape, [fixed(shape[k], name) if k in places else dim for k, dim in enumerate(tensor.dims)]
        ) if shape != tensor.shape else tensor.like(shape, tensor.dims)
        for shape in call.shapes
    ]  # fmt: skip


def triangle(call: Call) -> list[Labels]:
    """The last two dimensions are compared with each other."""
    tensor = call.tensor(0)
    for dim in tensor.dims[-2:]:
        fix(dim, f"its order counts: {call.name}")
    return [tensor.like(call.shapes[0], tensor.dims)]


def blank(call: Call) -> list[Labels]:
    """Zeros, ones, and what is not written yet."""
    return [Labels(shape, [free(size) for size in shape], "constant", blank=True) for shape in call.shapes]


def sequence(call: Call) -> list[Labels]:
    """Numbers whose order counts."""
    return [fixed_labels(shape, call.name, "constant") for shape in call.shapes]


def noise(call: Call) -> list[Labels]:
    """Random elements are alike in any order, but each is itself wherever it is used."""
    return [Labels(shape, [free(size) for size in shape]) for shape in call.shapes]


def copy_into(call: Call) -> list[Labels]:
    """The source is broadcast over what it is written into."""
    into: Labels = call.args[0]
    source = call.tensor(1)
    for back in range(-min(into.rank, source.rank), 0):
        if into.shape[back] == source.shape[back]:
            unify(into.dims[back], source.dims[back])
    if into.blank:
        return [Labels(into.shape, into.dims, source.kind, names=source.names, blank=source.blank)]
    return [joined(into.shape, into.dims, [into, source])]


def _part(tensor: Labels, which: int, start: int, stop: int) -> Labels:
    shape = (*tensor.shape[:which], stop - start, *tensor.shape[which + 1 :])
    stored = tensor.stored and tensor.stored.narrowed(which, start, stop)
    return tensor.like(shape, narrow(tensor.dims, which, start, stop), stored)


def _at_index(tensor: Labels, which: int, place: int) -> Labels:
    place %= tensor.shape[which]
    part = _part(tensor, which, place, place + 1)
    shape = (*tensor.shape[:which], *tensor.shape[which + 1 :])
    del part.dims[which]
    return part.like(shape, part.dims, part.stored and part.stored.viewed(shape))


def _looked_up(tensor: Labels, shape: Sequence[int], dims: Sequence[Dim], indices: Sequence[Labels]) -> Labels:
    result = tensor.like(shape, dims)
    result.blank = False
    if any(value.kind == "activation" for value in indices):
        result.kind, result.names = "activation", frozenset()
    return result


RULES: dict[str, Rule] = {}
for _rule, _names in (
    (elementwise, ELEMENTWISE),
    (view, "view _unsafe_view reshape _reshape_alias flatten unflatten squeeze unsqueeze"),
    (permute, "permute transpose t"),
    (expand, "expand broadcast_to"),
    (repeat, "repeat"),
    (slice_, "slice"),
    (select, "select"),
    (unbind, "unbind"),
    (split, "split split_with_sizes unsafe_split unsafe_split_with_sizes"),
    (glu, "glu"),
    (cat, "cat concat"),
    (stack, "stack"),
    (reduce_, "sum mean amax amin var std var_mean std_mean prod any all max min logsumexp argmax argmin median mode"),
    (norm_except, "linalg_vector_norm"),
    (
        position,
        (
            "max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d "
            "_adaptive_avg_pool3d adaptive_max_pool2d upsample_nearest1d upsample_nearest2d upsample_bilinear2d "
            "upsample_bicubic2d _upsample_bilinear2d_aa reflection_pad1d reflection_pad2d replication_pad2d"
        ),
    ),
    (pad, "constant_pad_nd"),
    (pixel_shuffle, "pixel_shuffle"),
    (index, "index"),
    (gather, "gather index_select take_along_dim"),
    (ordered, "cumsum cumprod logcumsumexp roll flip sort argsort topk"),
    (triangle, "triu tril"),
    (
        blank,
        (
            "zeros ones full empty new_zeros new_ones new_full new_empty empty_strided new_empty_strided zeros_like "
            "ones_like full_like empty_like zero fill"
        ),
    ),
    (sequence, "arange scalar_tensor linspace eye randint randperm"),
    (noise, "randn rand"),
    (copy_into, "copy_"),
):  # fmt: skip
    RULES |= dict.fromkeys(_names.split(), _rule)


def rule_of(name: str, *, pointwise: bool, rules: dict[str, Rule]) -> Rule | None:
    """The rule of an operation; that of ``add`` for ``add_``, and one for all that work on each element alone."""
    rule = rules.get(name) or (rules.get(name[:-1]) if name.endswith("_") else None)
    return rule or (elementwise if pointwise else None)
