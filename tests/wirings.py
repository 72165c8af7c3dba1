"""Real architectures as wirings written by hand, at tiny widths, with the shapes of their stored parameters.

They are the models of the table that the type was made for: what torch and transformers build, traced and counted. The
expected counts of free axes stand in ``FREE_AXES`` (size -> how many), those of layers and spaces in ``COUNTS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from topostrata.topology import Axis, LayerShape, Part, Space, Topology, Wiring


@dataclass
class Network:
    """A wiring under construction, and the shape of each parameter as its library stores it (torch: targets first)."""

    layers: list[LayerShape] = field(default_factory=list)
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def linear(self, name: str, source: Space, target: Space, taps: int = 1, **more: object) -> None:
        """A linear layer: ``taps`` positions of each source unit side by side."""
        self.layers.append(LayerShape(name, source, target, taps, **more))  # type: ignore[arg-type]
        self.parameters[name] = (target.size, source.size * taps)

    def conv(self, name: str, source: Space, target: Space, kernel: int = 3, groups: int = 1) -> None:
        """A two-dimensional convolution."""
        self.layers.append(LayerShape(name, source, target, kernel * kernel, groups))
        self.parameters[name] = (target.size, source.size // groups, kernel, kernel)

    def parts(self, parameter: str, source: Space, targets: dict[str, Space], *, in_out: bool = False) -> None:
        """One parameter whose targets are several layers' side by side: q, k and v, or the gates of a recurrent unit."""
        at = 0
        for name, target in targets.items():
            part = Part(parameter, targets=(at, at + target.size), orientation="in-out" if in_out else "out-in")
            self.layers.append(LayerShape(name, source, target, part=part))
            at += target.size
        self.parameters[parameter] = (source.size, at) if in_out else (at, source.size)

    def segments(self, parameter: str, sources: list[Space], target: Space, kernel: int = 1) -> None:
        """A convolution that reads several spaces side by side, as after a concatenation."""
        at = 0
        for source in sources:
            part = Part(parameter, sources=(at, at + source.size))
            self.layers.append(LayerShape(f"{parameter}[{source.name}]", source, target, kernel * kernel, part=part))
            at += source.size
        self.parameters[parameter] = (target.size, at, kernel, kernel)

    @property
    def wiring(self) -> Wiring:
        return Wiring(tuple(self.layers))

    def arrays(self, random: np.random.Generator, density: float = 0.3) -> dict[str, NDArray[np.bool_]]:
        """A random mask for every parameter."""
        return {name: random.random(shape) < density for name, shape in self.parameters.items()}

    def topology(self, random: np.random.Generator, density: float = 0.3) -> Topology:
        """The wiring with random masks."""
        return self.wiring.place(self.arrays(random, density), orientation="out-in")


def labelled(name: str, size: int) -> Space:
    return Space(name, size, labelled=True)


def mlp() -> Network:
    net, sizes = Network(), [10, 24, 32, 5]
    spaces = [Space(f"s{k}", n, labelled=k in {0, 3}) for k, n in enumerate(sizes)]
    for k in range(3):
        net.linear(f"fc{k}", spaces[k], spaces[k + 1])
    return net


def lenet() -> Network:
    net = Network()
    image, c1, c2, f1, f2 = labelled("image", 1), Space("c1", 6), Space("c2", 16), Space("f1", 120), Space("f2", 84)
    net.conv("conv1", image, c1, 5)
    net.conv("conv2", c1, c2, 5)
    net.linear("fc1", c2, f1, 25)
    net.linear("fc2", f1, f2)
    net.linear("fc3", f2, labelled("classes", 10))
    return net


def vgg11() -> Network:
    net, space = Network(), labelled("image", 3)
    for k, width in enumerate([4, 8, 16, 16, 32, 32, 32, 32]):
        below, space = space, Space(f"conv{k}", width)
        net.conv(f"features.{k}", below, space)
    for k, width in enumerate([64, 64]):
        below, space = space, Space(f"fc{k}", width)
        net.linear(f"classifier.{k}", below, space, 1 if k else 49)
    net.linear("classifier.2", space, labelled("classes", 10))
    return net


def resnet18(width: int = 4, classes: int = 10) -> Network:
    net, stream = Network(), Space("stream1", width)
    net.conv("conv1", labelled("image", 3), stream, 7)
    for k in range(1, 5):
        for block in range(2):
            at = f"layer{k}.{block}"
            below = stream
            if k > 1 and block == 0:
                stream = Space(f"stream{k}", width * 2 ** (k - 1))
            inner = Space(f"{at}.inner", stream.size)
            net.conv(f"{at}.conv1", below, inner)
            net.conv(f"{at}.conv2", inner, stream)
            if below is not stream:
                net.conv(f"{at}.downsample", below, stream, 1)
    net.linear("fc", stream, labelled("classes", classes))
    return net


def mobilenet_v2() -> Network:
    net, stream = Network(), Space("stem", 8)
    net.conv("stem", labelled("image", 3), stream)
    table = [(1, 4, 1), (6, 6, 2), (6, 8, 3), (6, 10, 4), (6, 12, 3), (6, 14, 3), (6, 16, 1)]
    for k, (expansion, width, blocks) in enumerate(table):
        for block in range(blocks):
            at, below = f"block{k}.{block}", stream
            if block == 0:
                stream = Space(f"stream{k}", width)
            wide = below if expansion == 1 else Space(f"{at}.wide", below.size * expansion)
            if wide is not below:
                net.conv(f"{at}.expand", below, wide, 1)
            net.conv(f"{at}.depthwise", wide, wide, 3, groups=wide.size)
            net.conv(f"{at}.project", wide, stream, 1)
    last = Space("last", 40)
    net.conv("last", stream, last, 1)
    net.linear("classifier", last, labelled("classes", 10))
    return net


def densenet() -> Network:
    net, start = Network(), Space("start", 16)
    net.conv("stem", labelled("image", 3), start)
    for k, (blocks, width) in enumerate([(3, 20), (3, 22), (2, 0)]):
        segments = [start]
        for block in range(blocks):
            at = f"dense{k}.{block}"
            neck, growth = Space(f"{at}.neck", 32), Space(f"{at}.growth", 8)
            net.segments(f"{at}.conv1", segments, neck)
            net.conv(f"{at}.conv2", neck, growth)
            segments = [*segments, growth]
        if width:
            start = Space(f"transition{k}", width)
            net.segments(f"transition{k}", segments, start)
    net.segments("classifier", segments, labelled("classes", 10))
    return net


def gpt2(blocks: int = 3, heads: int = 4, dims: int = 12, vocabulary: int = 50) -> Network:
    net, stream = Network(), Space("stream", heads * dims)
    tokens, logits = labelled("tokens", vocabulary), labelled("logits", vocabulary)
    net.layers.append(LayerShape("wte", tokens, stream, part=Part("wte.weight", orientation="in-out")))
    net.layers.append(
        LayerShape("wpe", labelled("positions", 16), stream, part=Part("wpe.weight", orientation="in-out"))
    )
    net.parameters |= {"wte.weight": (vocabulary, stream.size), "wpe.weight": (16, stream.size)}
    for k in range(blocks):
        at = f"h.{k}"
        head, qk, vo = Axis(f"{at}.heads", heads), Axis(f"{at}.qk", dims), Axis(f"{at}.v", dims)
        spaces = {f"{at}.q": (head, qk), f"{at}.k": (head, qk), f"{at}.v": (head, vo)}
        net.parts(f"{at}.c_attn", stream, {name: Space(name, axes) for name, axes in spaces.items()}, in_out=True)
        net.linear(f"{at}.attn.c_proj", net.layers[-1].target, stream)
        wide = Space(f"{at}.mlp", 4 * stream.size)
        net.linear(f"{at}.mlp.c_fc", stream, wide)
        net.linear(f"{at}.mlp.c_proj", wide, stream)
    net.layers.append(LayerShape("lm_head", stream, logits, part=Part("wte.weight", orientation="out-in")))
    return net


def llama(blocks: int = 2, kv: int = 2, groups: int = 3, dims: int = 8, mlp: int = 80, vocabulary: int = 50) -> Network:
    """Grouped queries, rotary positions (which fix the dims of q and k), gated units, a tied embedding."""
    net, stream = Network(), Space("stream", kv * groups * dims)
    tokens, logits = labelled("tokens", vocabulary), labelled("logits", vocabulary)
    net.layers.append(LayerShape("embed", tokens, stream, part=Part("embed.weight", orientation="in-out")))
    net.parameters["embed.weight"] = (vocabulary, stream.size)
    rotary = Axis("rotary", dims, fixed=True)
    for k in range(blocks):
        at = f"layers.{k}"
        head, group, vo = Axis(f"{at}.kv", kv), Axis(f"{at}.group", groups), Axis(f"{at}.v_dim", dims)
        value, wide = Space(f"{at}.v", (head, vo)), Space(f"{at}.mlp", mlp)
        net.linear(f"{at}.q_proj", stream, Space(f"{at}.q", (head, group, rotary)))
        net.linear(f"{at}.k_proj", stream, Space(f"{at}.k", (head, rotary)))
        net.linear(f"{at}.v_proj", stream, value)
        part = Part(f"{at}.o_proj", order=(head.name, group.name, vo.name))
        net.linear(f"{at}.o_proj", value, stream, groups, tap_axes=(group,), part=part)
        net.linear(f"{at}.gate_proj", stream, wide)
        net.linear(f"{at}.up_proj", stream, wide)
        net.linear(f"{at}.down_proj", wide, stream)
    net.layers.append(LayerShape("lm_head", stream, logits, part=Part("embed.weight", orientation="out-in")))
    return net


def vit(blocks: int = 3, heads: int = 3, dims: int = 8) -> Network:
    net, stream = Network(), Space("stream", heads * dims)
    net.conv("patch_embed", labelled("image", 3), stream, 4)
    for k in range(blocks):
        at = f"blocks.{k}"
        head, qk, vo = Axis(f"{at}.heads", heads), Axis(f"{at}.qk", dims), Axis(f"{at}.v_dim", dims)
        spaces = {f"{at}.q": (head, qk), f"{at}.k": (head, qk), f"{at}.v": (head, vo)}
        net.parts(f"{at}.qkv", stream, {name: Space(name, axes) for name, axes in spaces.items()})
        net.linear(f"{at}.proj", net.layers[-1].target, stream)
        wide = Space(f"{at}.mlp", 4 * stream.size)
        net.linear(f"{at}.fc1", stream, wide)
        net.linear(f"{at}.fc2", wide, stream)
    net.linear("head", stream, labelled("classes", 10))
    return net


def recurrent(gates: str) -> Network:
    """Two layers of an LSTM (gates ``ifgo``) or a GRU (``rzn``)."""
    net, below = Network(), Space("embedded", 16)
    net.linear("embed", labelled("input", 7), below)
    for k in range(2):
        hidden = Space(f"hidden{k}", 24)
        net.parts(f"weight_ih_l{k}", below, {f"l{k}.i{gate}": hidden for gate in gates})
        net.parts(f"weight_hh_l{k}", hidden, {f"l{k}.h{gate}": hidden for gate in gates})
        below = hidden
    net.linear("fc", below, labelled("classes", 5))
    return net


def lstm() -> Network:
    return recurrent("ifgo")


def gru() -> Network:
    return recurrent("rzn")


def shared_linear() -> Network:
    """A square layer that is used several times in a row."""
    net, hidden = Network(), Space("hidden", 32)
    net.linear("first", labelled("input", 6), hidden)
    net.linear("shared", hidden, hidden)
    net.linear("last", hidden, labelled("output", 4))
    return net


def shufflenet() -> Network:
    """Grouped convolutions with the channels shuffled between them: the same two axes, read in the other order."""
    net = Network()
    group, mixed, out = Axis("group", 3), Axis("mixed", 4), Axis("out", 2)
    wide = Space("wide", (group, Axis("wide_dim", 5)))
    narrow, shuffled, grouped = (
        Space("narrow", (group, mixed)),
        Space("shuffled", (mixed, group)),
        Space("out", (mixed, out)),
    )
    net.conv("stem", labelled("image", 3), wide)
    net.conv("gconv1", wide, narrow, 1, groups=3)
    net.conv("depthwise", shuffled, shuffled, 3, groups=12)
    net.conv("gconv2", shuffled, grouped, 1, groups=4)
    net.linear("fc", grouped, labelled("classes", 10))
    return net


def lora() -> Network:
    """A linear layer with a low-rank addition beside it."""
    net, inputs, hidden, rank = Network(), labelled("input", 10), Space("hidden", 12), Space("rank", 3)
    net.linear("fc1", inputs, hidden)
    net.linear("lora_A", inputs, rank)
    net.linear("lora_B", rank, hidden)
    net.linear("fc2", hidden, labelled("output", 4))
    return net


def unet() -> Network:
    """Skips by concatenation, a transposed convolution, and an end that makes channels into pixels."""
    net = Network()
    outer, inner, up, joint = Space("outer", 6), Space("inner", 8), Space("up", 6), Space("joint", 6)
    channels = Axis("channels", 3)
    net.conv("down1", labelled("image", 3), outer)
    net.conv("down2", outer, inner)
    net.layers.append(LayerShape("up", inner, up, 4, part=Part("up.weight", orientation="in-out")))
    net.parameters["up.weight"] = (8, 6, 2, 2)
    net.segments("joint", [up, outer], joint, 3)
    net.conv("spread", joint, Space("spread", (channels, Axis("pixel", 4, fixed=True))), 1)
    net.conv("last", Space("pixels", (channels,)), labelled("output", 2), 1)
    return net


def resnet_gn(width: int = 8, groups: int = 2) -> Network:
    """Group norm: channels may change places within a group, and whole groups with each other."""
    net = Network()

    def channels(name: str) -> Space:
        return Space(name, (Axis(f"{name}.group", groups), Axis(f"{name}.channel", width // groups)))

    stream = channels("stream")
    net.conv("stem", labelled("image", 3), stream)
    for block in range(2):
        inner = channels(f"{block}.inner")
        net.conv(f"{block}.conv1", stream, inner)
        net.conv(f"{block}.conv2", inner, stream)
    net.linear("fc", stream, labelled("classes", 10))
    return net


def mixtral(experts: int = 3) -> Network:
    """The gated units of several experts between one stream, and a router that knows the experts by their order."""
    net, stream = Network(), Space("stream", 8)
    net.linear("embed", labelled("tokens", 10), stream)
    net.linear("router", stream, labelled("experts", experts))
    for expert in range(experts):
        wide = Space(f"{expert}.wide", 6)
        net.linear(f"{expert}.gate", stream, wide)
        net.linear(f"{expert}.up", stream, wide)
        net.linear(f"{expert}.down", wide, stream)
    net.linear("head", stream, labelled("logits", 10))
    return net


MODELS: dict[str, Callable[[], Network]] = {
    function.__name__: function
    for function in (
        mlp, lenet, vgg11, resnet18, mobilenet_v2, densenet, gpt2, llama, vit, lstm, gru, shared_linear, shufflenet, lora,
        unet, resnet_gn, mixtral,
    )
}  # fmt: skip

# Free axes by size, as the traced models have them (at the widths above).
FREE_AXES: dict[str, dict[int, int]] = {
    "mlp": {24: 1, 32: 1},
    "lenet": {6: 1, 16: 1, 84: 1, 120: 1},
    "vgg11": {4: 1, 8: 1, 16: 2, 32: 4, 64: 2},
    "resnet18": {4: 3, 8: 3, 16: 3, 32: 3},
    "mobilenet_v2": {4: 1, 6: 1, 8: 2, 10: 1, 12: 1, 14: 1, 16: 1, 24: 1, 36: 2, 48: 3, 60: 4, 72: 3, 84: 3, 40: 1},
    "densenet": {8: 8, 32: 8, 16: 1, 20: 1, 22: 1},
    "gpt2": {4: 3, 12: 6, 48: 1, 192: 3},
    "llama": {2: 2, 3: 2, 8: 2, 48: 1, 80: 2},
    "vit": {3: 3, 8: 6, 24: 1, 96: 3},
    "lstm": {16: 1, 24: 2},
    "gru": {16: 1, 24: 2},
    "shared_linear": {32: 1},
    "shufflenet": {3: 1, 5: 1, 4: 1, 2: 1},
    "lora": {12: 1, 3: 1},
    "unet": {6: 3, 8: 1, 3: 1},
    "resnet_gn": {2: 3, 4: 3},
    "mixtral": {8: 1, 6: 3},
}

# Layers and spaces.
COUNTS: dict[str, tuple[int, int]] = {
    "mlp": (3, 4),
    "lenet": (5, 6),
    "vgg11": (11, 12),
    "resnet18": (21, 14),
    "mobilenet_v2": (53, 27),
    "densenet": (35, 21),
    "gpt2": (21, 16),
    "llama": (16, 11),
    "vit": (20, 15),
    "lstm": (18, 5),
    "gru": (14, 5),
    "shared_linear": (3, 3),
    "shufflenet": (5, 6),
    "lora": (4, 4),
    "unet": (7, 8),
    "resnet_gn": (6, 5),
    "mixtral": (12, 7),
}


def random_permutations(random: np.random.Generator, wiring: Wiring) -> dict[str, NDArray[np.int64]]:
    """A random symmetry of a wiring: inner axes in another order at each index of the axes that allow it."""
    permutations = {}
    for axis in wiring.axes:
        if axis.fixed:
            continue
        outer = tuple(other.size for other in wiring.within[axis.name])
        rows = [random.permutation(axis.size) for _ in range(math.prod(outer))]
        permutations[axis.name] = np.array(rows, dtype=np.int64).reshape((*outer, axis.size))
    return permutations


def random_network(random: np.random.Generator) -> Network:
    """Spaces of one to three axes that they may share, residual streams, self-loops, groups, taps: all that can be said."""
    axes = [
        Axis(f"a{k}", int(random.integers(1, 4)), fixed=bool(random.random() < 0.3))
        for k in range(random.integers(2, 6))
    ]
    spaces = []
    for k in range(int(random.integers(2, 6))):
        chosen = random.permutation(len(axes))[: int(random.integers(1, min(4, len(axes) + 1)))]
        spaces.append(Space(f"s{k}", [axes[int(c)] for c in chosen]))
    net = Network()
    for k in range(int(random.integers(1, 9))):
        source, target = (spaces[int(random.integers(len(spaces)))] for _ in range(2))
        groups, joint = 1, 1
        for mine, other in zip(source.axes, target.axes, strict=False):
            if mine != other:
                break
            joint *= mine.size
            groups = joint if random.random() < 0.5 else groups
        outside = [axis for axis in axes if axis not in source.axes]
        tap_axes = tuple(outside[:1]) if outside and random.random() < 0.3 else ()
        taps = tap_axes[0].size if tap_axes else int(random.integers(1, 4))
        layer = LayerShape(f"l{k}", source, target, taps, groups, tap_axes)
        net.layers.append(layer)
        net.parameters[layer.name] = (target.size, layer.local_sources * taps)
    return net
