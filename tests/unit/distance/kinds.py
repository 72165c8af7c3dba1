"""Small networks of every kind that a wiring can be, at widths that are drawn: what real architectures are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from tests.unit.distance.networks import rewired
from tests.wirings import Network, labelled, random_network, random_permutations
from topostrata.topology import Axis, LayerShape, Part, Space, Topology

Draw = Callable[[int, int], int]  # a width between two limits


def residual(draw: Draw) -> Network:
    """Two blocks on a stream, then a second stream that a shortcut and a block enter."""
    net, stream, wider = Network(), Space("stream", draw(2, 6)), Space("wider", draw(2, 6))
    net.conv("stem", labelled("image", 3), stream, 2)
    for k in range(2):
        inner = Space(f"inner{k}", draw(2, 5))
        net.linear(f"block{k}.1", stream, inner)
        net.linear(f"block{k}.2", inner, stream)
    inner = Space("inner2", draw(2, 5))
    net.linear("block2.1", stream, inner)
    net.linear("block2.2", inner, wider)
    net.linear("shortcut", stream, wider)
    net.linear("fc", wider, labelled("classes", 3))
    return net


def depthwise(draw: Draw) -> Network:
    net, stream = Network(), Space("stream", draw(2, 5))
    net.conv("stem", labelled("image", 2), stream, 2)
    for k in range(2):
        wide = Space(f"wide{k}", draw(2, 6))
        net.linear(f"expand{k}", stream, wide)
        net.conv(f"depthwise{k}", wide, wide, 2, groups=wide.size)
        net.linear(f"project{k}", wide, stream)
    net.linear("fc", stream, labelled("classes", 3))
    return net


def recurrent(draw: Draw) -> Network:
    net, below = Network(), labelled("input", 4)
    for k in range(2):
        hidden = Space(f"hidden{k}", draw(2, 5))
        net.parts(f"ih{k}", below, {f"{k}.i{gate}": hidden for gate in "ab"})
        net.parts(f"hh{k}", hidden, {f"{k}.h{gate}": hidden for gate in "ab"})
        below = hidden
    net.linear("fc", below, labelled("classes", 3))
    return net


def grouped(draw: Draw) -> Network:
    """Two grouped convolutions on one axis of groups; the second one also loops."""
    net, group = Network(), Axis("group", draw(2, 3))
    wide, narrow = Space("wide", (group, Axis("n", draw(1, 4)))), Space("narrow", (group, Axis("m", draw(1, 3))))
    net.linear("stem", labelled("image", 4), wide)
    net.conv("grouped", wide, narrow, 2, groups=group.size)
    net.conv("loop", narrow, narrow, 1, groups=group.size)
    net.linear("fc", narrow, labelled("classes", 3))
    return net


def heads(draw: Draw) -> Network:
    net, stream = Network(), Space("stream", draw(2, 5))
    net.linear("embed", labelled("tokens", 5), stream)
    head, qk, vo = Axis("heads", draw(1, 3)), Axis("qk", draw(1, 3)), Axis("v_dim", draw(1, 3))
    spaces = {"q": Space("q", (head, qk)), "k": Space("k", (head, qk)), "v": Space("v", (head, vo))}
    net.parts("qkv", stream, spaces)
    net.linear("proj", spaces["v"], stream)
    net.linear("head", stream, labelled("classes", 4))
    return net


def grouped_queries(draw: Draw) -> Network:
    """Rotary positions, two heads of keys, several queries each; the output projection reads each value for each."""
    net, stream = Network(), Space("stream", draw(2, 5))
    net.linear("embed", labelled("tokens", 5), stream)
    kv, group, dims = Axis("kv", draw(1, 3)), Axis("group", draw(1, 3)), Axis("dims", draw(1, 3))
    rotary = Axis("rotary", 2, fixed=True)
    value = Space("v", (kv, dims))
    net.linear("q", stream, Space("q", (kv, group, rotary)))
    net.linear("k", stream, Space("k", (kv, rotary)))
    net.linear("v", stream, value)
    part = Part("o", order=("kv", "group", "dims"))
    net.linear("o", value, stream, group.size, tap_axes=(group,), part=part)
    net.linear("head", stream, labelled("classes", 4))
    return net


def shared(draw: Draw) -> Network:
    """Two spaces that are multiplied unit by unit: one axis, entered at once; then the same units in another order."""
    net, axis, other = Network(), Axis("units", draw(2, 5)), Axis("n", draw(1, 3))
    gate, up, pairs = Space("gate", (axis,)), Space("up", (axis,)), Space("pairs", (axis, other))
    net.linear("gate", labelled("input", 4), gate)
    net.linear("up", labelled("input", 4), up)
    net.linear("spread", gate, pairs)
    net.linear("down", Space("turned", (other, axis)), labelled("classes", 3))
    net.linear("side", up, labelled("classes", 3))
    return net


def tied(draw: Draw) -> Network:
    net, stream, wide = Network(), Space("stream", draw(2, 6)), Space("wide", draw(2, 5))
    net.layers.append(
        LayerShape("embed", labelled("tokens", 5), stream, part=Part("embed.weight", orientation="in-out"))
    )
    net.parameters["embed.weight"] = (5, stream.size)
    net.linear("up", stream, wide)
    net.linear("down", wide, stream)
    net.layers.append(
        LayerShape("head", stream, labelled("logits", 5), part=Part("embed.weight", orientation="out-in"))
    )
    return net


KINDS: dict[str, Callable[[Draw], Network]] = {
    function.__name__: function
    for function in (residual, depthwise, recurrent, grouped, heads, grouped_queries, shared, tied)
}


def drawn(rng: np.random.Generator, kind: str) -> Network:
    """A network of that kind at random widths."""
    return KINDS[kind](lambda low, high: int(rng.integers(low, high + 1)))


def shuffled(rng: np.random.Generator, topology: Topology) -> Topology:
    """The same network with its units in other places: any symmetry of its wiring."""
    return topology.relabelled(random_permutations(rng, topology.wiring))


@st.composite
def pairs_of(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> tuple[Topology, Topology]:
    """Two comparable networks of one kind: related or independent, of equal or unequal widths."""
    rng, kind = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from(kinds))
    density, other = draw(st.sampled_from([0.1, 0.3, 0.6, 1.0])), draw(st.sampled_from([0.1, 0.3, 0.6]))
    net = drawn(rng, kind)
    first = net.topology(rng, density)
    relation = draw(st.sampled_from(["rewired", "independent", "relabelled", "other widths"]))
    if relation == "rewired":
        return first, rewired(rng, first, 0.3)
    if relation == "relabelled":
        return first, shuffled(rng, first)
    return first, (net if relation == "independent" else drawn(rng, kind)).topology(rng, other)


@st.composite
def anything(draw: st.DrawFn) -> tuple[Topology, Topology]:
    """Two networks of one wiring that may have everything that a wiring can say."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    net = random_network(rng)
    densities = [draw(st.sampled_from([0.1, 0.3, 0.6, 1.0])) for _ in range(2)]
    first, second = (net.topology(rng, density) for density in densities)
    return first, shuffled(rng, first) if draw(st.booleans()) else second
