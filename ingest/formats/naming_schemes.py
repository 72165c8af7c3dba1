"""What the names of layers tell about their order, and about networks that are no chain.

Numbers at the same place count (``fc1`` before ``fc10``, ``layers.0`` before ``layers.1``). Words only tell where they
belong to a known scheme: torchvision's ``features`` before ``classifier``, ResNet's stem before ``layer1``, GPT-NeoX's
``h_to_4h`` before ``4h_to_h``. Keras numbers layers of one class from the second on: ``dense`` before ``dense_1``. The
alphabet tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

# Words of one row come in this order; words of one group are not ordered by it.
_SCHEMES: tuple[tuple[frozenset[str], ...], ...] = tuple(
    tuple(frozenset(group.split()) for group in scheme)
    for scheme in (
        (
            "input inputs stem embed embedding embeddings patch_embed conv_stem conv_proj",
            "conv conv2d convs cnn",
            "features feature backbone body trunk layer layers block blocks stages stage encoder hidden h net",
            "neck bottleneck latent avgpool",
            "decoder",
            "fc fcs linear lin dense mlp classifier classifiers head heads",
            "out output outputs final logits pred predictions lm_head score policy value",
        ),
        ("dense_h_to_4h", "dense_4h_to_h"),
        ("h_to_4h", "4h_to_h"),
        ("c_fc", "c_proj"),
        ("wi wi_0 wi_1", "wo"),
        ("gate_proj up_proj w1 w3", "down_proj w2"),
        ("up up_proj", "down down_proj"),
        ("intermediate", "output"),
        ("fc_in", "fc_out"),
        ("proj_in", "proj_out"),
        ("in_layer", "hidden_layer hidden_layers", "out_layer"),
        ("first", "middle", "last"),
        ("self attention attn self_attn attention_output", "intermediate mlp ffn feed_forward", "output"),
        ("in", "hid", "out"),
        ("input_layer", "hidden_layer", "output_layer"),
    )
)
# What Keras calls layers that nobody named.
_OF_KERAS = {
    "dense", "einsum_dense", "embedding", "conv1d", "conv2d", "conv3d", "conv1d_transpose", "conv2d_transpose",
    "conv3d_transpose", "depthwise_conv1d", "depthwise_conv2d", "separable_conv1d", "separable_conv2d", "simple_rnn",
    "lstm", "gru",
}  # fmt: skip
_NUMBERED = re.compile(r"(\D.*?)(?:_(\d{1,9}))?")
_WORD = re.compile(r"\d+|[^\W\d_]+|[^.\s]", re.UNICODE)

# What is no chain: the words that tell, and what they tell. Searched in names whose parts are joined by dots.
_BRANCHES = (
    (
        re.compile(r"(?:^|[._])(?:[qkvo]_proj|q|k|v|qkv|c_attn|query|key|value|in_proj|query_key_value|kv|to_[qkv])$"),
        "attention, where queries, keys and values are read side by side",
    ),
    (
        re.compile(r"(?:^|[._])(?:attn|attention|self_attn|self_attention|MultiHeadDotProductAttention_\d+)[._]"),
        "attention",
    ),
    (
        re.compile(r"(?:^|\.)(?:downsample|\w*shortcut|skip|identity|skip_connection)(?:\.|$)", re.IGNORECASE),
        "a shortcut",
    ),
    (re.compile(r"(?:^|\.)layer\d+\.\d+\.conv\d+$"), "residual blocks, whose result is added to what they read"),
    (
        re.compile(r"(?:^|\.)features(?:\.\d+)?\.\d+\.(?:conv|block)\."),
        "blocks whose result is added to what they read",
    ),
    (re.compile(r"(?:^|\.)(?:dwconv|pwconv\d*)$"), "blocks whose result is added to what they read"),
    (re.compile(r"(?:^|\.)dense_?layer_?\d+(?:\.|$)"), "dense blocks, whose layers read all layers before them"),
    (
        re.compile(r"(?:^|\.)(?:branch(?:es|_?\w*\d\w*)|expand\dx\d)(?:\.|$)"),
        "branches side by side",
    ),
    (
        re.compile(r"(?:^|\.)(?:se|se_\w+|squeeze_excite|squeeze_excitation)\."),
        "squeeze and excitation, which scales the units that it reads",
    ),
    (
        re.compile(
            r"weight_[ih]h|(?:^|[._])[ih]h(?:_l\d+(?:_reverse)?)?$|(?:^|\.)(?:lstm|gru|rnn)\w*(?:\.|$)|recurrent"
        ),
        "a recurrent layer, which reads itself",
    ),
    (re.compile(r"(?:^|\.)(?:gate_proj|wi_1|w3)$"), "a gate beside the layer that it gates"),
    (
        re.compile(r"(?:^|[._])(?:wte|word_embeddings?|embed_tokens|tok_embeddings|token_embedding|embed_in)(?:\.|$)"),
        "an embedding, whose rows are looked up",
    ),
)
# The halves of a U-Net: what goes up also reads what went down. The lone ``down`` and ``up`` of an adapter are a chain.
_DOWN = re.compile(r"(?:^|\.)down(?:s|_?path|_?blocks?|_?convs?|\w*\d)(?:\.|$)")
_UP = re.compile(r"(?:^|\.)up(?!_proj)\w*(?:\.|$)")
_BLOCK = re.compile(
    r"(?:^|\.)(?:layers?|blocks?|h|encoder|resblocks)\.(\d+)\.(?:mlp|ffn|feed_forward|ff|intermediate)\b"
)


def precedes(name: str, other: str) -> bool | None:
    """Whether one layer comes before another by their names; None where the names do not tell.

    >>> precedes("fc2", "fc10"), precedes("classifier.0", "features.3"), precedes("alpha", "beta")
    (True, False, None)
    >>> precedes("layers.dense.vars.0", "layers.dense_1.vars.0"), precedes("params.Dense_0", "params.Conv_0")
    (True, False)
    """
    first, second = _words(name), _words(other)
    for mine, yours in zip(first, second, strict=False):
        if mine == yours:
            continue
        if mine.isdecimal() and yours.isdecimal():
            return int(mine) < int(yours)
        return _by_scheme(name, other)
    return _by_scheme(name, other)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``fc2`` before ``fc10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def branching(names: Sequence[str]) -> str | None:
    """Why layers of these names are no chain, with the name that tells; None where nothing tells so."""
    blocks: dict[str, str] = {}
    for name in names:
        for pattern, what in _BRANCHES:
            if pattern.search(name):
                return f"{what} ({name!r})"
        if (match := _BLOCK.search(name)) is not None:
            blocks.setdefault(match[1], name)
    down, up = (next((name for name in names if half.search(name)), None) for half in (_DOWN, _UP))
    if down is not None and up is not None:
        return f"a way down and a way up, which may also read what went down ({down!r}, {up!r})"
    if len(blocks) > 1:
        return f"blocks whose results are added to what they read ({', '.join(map(repr, list(blocks.values())[:2]))})"
    return None


@lru_cache(maxsize=4096)
def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name.replace("_", "."))]


def _by_scheme(name: str, other: str) -> bool | None:
    """By the first part of the names in which they differ, numbers behind words apart."""
    for mine, yours in zip(_parts(name), _parts(other), strict=False):
        if mine == yours:
            continue
        numbered = [match for part in (mine, yours) if (match := _NUMBERED.fullmatch(part)) is not None]
        if len(numbered) == 2 and numbered[0][1] == numbered[1][1] in _OF_KERAS:
            return int(numbered[0][2] or 0) < int(numbered[1][2] or 0)
        for scheme in _SCHEMES:
            ranks = [_rank(scheme, part) for part in (mine, yours)]
            if None not in ranks and ranks[0] != ranks[1]:
                return ranks[0] < ranks[1]  # type: ignore[operator]  # None was excluded
        return None
    return None


def _parts(name: str) -> list[str]:
    return [part.lower() for part in re.split(r"[./]", name) if part]


def _rank(scheme: Sequence[frozenset[str]], part: str) -> int | None:
    for known in (part, part.rstrip("0123456789").rstrip("_")):
        for rank, group in enumerate(scheme):
            if known in group:
                return rank
    return None
