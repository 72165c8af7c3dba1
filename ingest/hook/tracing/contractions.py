"""What operations with weights do to labels: products, convolutions, attention, norms, embeddings.

A weight that meets an activation is a layer: what is summed over is its source, what stays of the weight its target.
"""

from __future__ import annotations

from topostrata.ingest.hook.tracing.axes_of_tensors import Dim, factors, fix, fixed, regroup, unify
from topostrata.ingest.hook.tracing.calls import Call, Contraction, Rule
from topostrata.ingest.hook.tracing.labels import Labels, fixed_labels, joined
from topostrata.ingest.hook.tracing.rules import RULES, unknown


def product(call: Call) -> list[Labels]:
    """All of linear, matmul and einsum ends here: matrices, batches of them, vectors, with a bias added or not."""
    bias = call.tensor(0) if call.name in {"addmm", "baddbmm", "addmv", "addbmm"} else None
    left, right = call.tensor(int(bias is not None)), call.tensor(1 + int(bias is not None))
    batched = left.rank == 3
    summed = max(right.rank - 2, 0)
    if batched:
        _meet(call, (left, left.dims[0]), (right, right.dims[0]))
    _meet(call, (left, left.dims[-1]), (right, right.dims[summed]))
    dims = [*left.dims[:-1], *right.dims[summed + 1 :]]
    shape = call.shapes[0]
    result = joined(shape, dims, [left, right])
    if bias is not None:
        for back in range(-bias.rank, 0):
            if bias.shape[back] == shape[back]:
                unify(bias.dims[back], dims[back])
    batch = (0,) if batched else ()
    if _is_layer(right, left):
        _contract(call, right, left, (summed,), (*batch, *range(summed + 1, right.rank)))
    elif _is_layer(left, right):
        _contract(call, left, right, (left.rank - 1,), (*batch, *range(left.rank - 2, left.rank - 1)))
    else:
        call.multiplied |= left.names | right.names
    return [result]


def dot(call: Call) -> list[Labels]:
    """Two vectors that are summed over."""
    left, right = call.tensor(0), call.tensor(1)
    unify(left.dims[0], right.dims[0])
    return [joined((), [], [left, right])]


def convolution(call: Call) -> list[Labels]:
    """The kernel and the places of the picture are positions; groups are the first factor of both channels."""
    tensor, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    transposed, groups = call.arg(6, "transposed", False), call.arg(8, "groups", 1)
    channels = 1 if tensor.rank == weight.rank else 0
    for dim in weight.dims[2:]:
        fix(dim, "kernel")
    for dim in tensor.dims[channels + 1 :]:
        fix(dim, "position")
    shape = call.shapes[0]
    source_dim, target_dim = (0, 1) if transposed else (1, 0)
    if groups == 1:
        source, target = weight.dims[source_dim], weight.dims[target_dim]
        unify(source, tensor.dims[channels])
    else:
        outer, source = regroup(tensor.dims[channels], [groups, tensor.shape[channels] // groups])
        whole = weight.dims[0]
        weight_outer, inner = regroup(whole, [groups, weight.shape[0] // groups])
        unify(outer, weight_outer)
        unify(source, inner if transposed else weight.dims[1])
        source = factors(outer) + factors(source)
        target = factors(outer) + factors(weight.dims[1] if transposed else inner)
    if bias is not None:
        unify(bias.dims[0], target)
    dims = [*tensor.dims[:channels], factors(target), *(fixed(n, "position") for n in shape[channels + 1 :])]
    if _is_layer(weight, tensor):
        call.contractions.append(
            Contraction(
                weight, source, target, (source_dim,), (target_dim,), tuple(range(2, weight.rank)), groups, reads=tensor
            )
        )
    else:
        call.multiplied |= tensor.names | weight.names
    return [joined(shape, dims, [tensor, weight])]


def embedding(call: Call) -> list[Labels]:
    """Entries are looked up by their number, which is a source that no layer enters."""
    weight, indices = call.tensor(0), call.tensor(1)
    fix(weight.dims[0], "vocabulary")
    indices.fix("an index")
    if weight.kind == "parameter":
        call.contractions.append(Contraction(weight, weight.dims[0], weight.dims[1], (0,), (1,), by_index=True))
    return [Labels(call.shapes[0], [*indices.dims, weight.dims[1]])]


def embedding_bag(call: Call) -> list[Labels]:
    """An embedding whose entries are added up, bag by bag."""
    result = embedding(call)[0]
    shape = call.shapes[0]
    results = [Labels(shape, [fixed(shape[0], "position"), result.dims[-1]])]
    return results + [fixed_labels(other, "index of a bag") for other in call.shapes[1:]]


def batch_norm(call: Call) -> list[Labels]:
    """Scales, shifts and statistics are numbered as the channels."""
    tensor = call.tensor(0)
    for k in range(1, 5):
        values = call.optional(k)
        if values is not None:
            unify(values.dims[0], tensor.dims[1])
    channels = tensor.shape[1]
    rest = [
        Labels(shape, [tensor.dims[1]]) if shape == (channels,) else fixed_labels(shape, "statistics")
        for shape in call.shapes[1:]
    ]
    return [Labels(tensor.shape, tensor.dims), *rest]


def layer_norm(call: Call) -> list[Labels]:
    """Scales and shifts are numbered as the last dimensions."""
    tensor = call.tensor(0)
    for k in (2, 3):
        values = call.optional(k)
        if values is not None:
            for back in range(-values.rank, 0):
                unify(values.dims[back], tensor.dims[back])
    rest = [
        tensor.like(shape, [dim if n != 1 else [] for dim, n in zip(tensor.dims, shape, strict=False)])
        for shape in call.shapes[1:]
    ]
    return [tensor.like(tensor.shape, tensor.dims), *rest]


def group_norm(call: Call) -> list[Labels]:
    """Channels are groups x channels of a group."""
    tensor, groups = call.tensor(0), call.args[6]
    channels = tensor.shape[1]
    if groups not in {1, channels}:
        regroup(tensor.dims[1], [groups, channels // groups])
    for k in (1, 2):
        values = call.optional(k)
        if values is not None:
            unify(values.dims[0], tensor.dims[1])
    rest = [fixed_labels(shape, "statistics") for shape in call.shapes[1:]]
    return [Labels(tensor.shape, tensor.dims), *rest]


def attention(call: Call) -> list[Labels]:
    """Queries meet keys in their last dimension, scores meet values; with fewer keys, queries are keys x group."""
    query, key, value = (call.tensor(k) for k in range(3))
    if query.rank < 3:
        return unknown(call)
    heads, fewer = query.shape[-3], key.shape[-3]
    outer = query.dims[-3] if heads == fewer else regroup(query.dims[-3], [fewer, heads // fewer])[0]
    call.meetings += [(query.dims[-1], key.dims[-1]), (key.dims[-2], value.dims[-2])]
    call.meetings += [(outer, key.dims[-3]), (key.dims[-3], value.dims[-3])]
    for k in range(query.rank - 3):
        call.meetings += [(query.dims[k], key.dims[k]), (query.dims[k], value.dims[k])]
    rest = [fixed_labels(shape, "statistics") for shape in call.shapes[1:]]
    return [Labels(call.shapes[0], [*query.dims[:-1], value.dims[-1]]), *rest]


def weight_norm(call: Call) -> list[Labels]:
    """A weight by its direction and its length, for each target or for each source."""
    direction, length = call.tensor(0), call.tensor(1)
    for dim, other, size in zip(direction.dims, length.dims, length.shape, strict=True):
        if size != 1:
            unify(dim, other)
    result = joined(direction.shape, direction.dims, [direction, length])
    return [result, *(length.like(shape, length.dims) for shape in call.shapes[1:])]


def _meet(call: Call, left: tuple[Labels, Dim], right: tuple[Labels, Dim]) -> None:
    """Two activations that meet are numbered alike, and stay the units of two spaces."""
    if left[0].kind == right[0].kind == "activation":
        call.meetings.append((left[1], right[1]))
    else:
        unify(left[1], right[1])


def _is_layer(weight: Labels, tensor: Labels) -> bool:
    return weight.kind == "parameter" and (tensor.kind == "activation" or tensor.blank)


def _contract(
    call: Call, weight: Labels, reads: Labels, source_dims: tuple[int, ...], target_dims: tuple[int, ...]
) -> None:
    """A batch that the weight is only repeated for is no dimension of its target."""
    if weight.stored is not None:
        strides = weight.stored.strides
        target_dims = tuple(k for k in target_dims if any(stride for _, stride in strides[k]) or weight.shape[k] == 1)
    source = [label for k in source_dims for label in weight.dims[k]]
    target = [label for k in target_dims for label in weight.dims[k]]
    call.contractions.append(Contraction(weight, source, target, source_dims, target_dims, reads=reads))


ALL_RULES: dict[str, Rule] = dict(RULES)
for _rule, _names in (
    (product, "mm bmm addmm baddbmm mv addmv"),
    (dot, "dot vdot"),
    (convolution, "convolution"),
    (embedding, "embedding"),
    (embedding_bag, "_embedding_bag _embedding_bag_forward_only"),
    (
        batch_norm,
        (
            "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_with_update "
            "_batch_norm_no_update cudnn_batch_norm batch_norm"
        ),
    ),
    (layer_norm, "native_layer_norm layer_norm _fused_rms_norm rms_norm"),
    (group_norm, "native_group_norm"),
    (
        attention,
        (
            "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
            "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention scaled_dot_product_attention "
            "_scaled_dot_product_attention_math _scaled_dot_product_fused_attention_overrideable "
            "_scaled_dot_product_attention_math_for_mps"
        ),
    ),
    (weight_norm, "_weight_norm_interface _weight_norm"),
):
    ALL_RULES |= dict.fromkeys(_names.split(), _rule)
