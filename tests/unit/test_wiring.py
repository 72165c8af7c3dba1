"""Wirings of real architectures and random ones: what they count, what their digests cover, how their units move."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wirings import (
    COUNTS,
    FREE_AXES,
    MODELS,
    Network,
    gpt2,
    labelled,
    llama,
    random_network,
    random_permutations,
    resnet18,
)  # fmt: skip
from topostrata import order, wiring_text
from topostrata.errors import InvalidInputError, InvalidTopologyError, NotComparableError
from topostrata.topology import Axis, Layer, LayerShape, Mask, Part, Space, Stage, Topology, Wiring

seeds = st.integers(0, 2**32 - 1)
models = pytest.mark.parametrize("name", list(MODELS))


def renamed(topology: Topology) -> Topology:
    """The same network with other names for its layers, spaces and axes."""
    axes = {a.name: Axis(f"axis of {a.name}", a.size, a.fixed) for a in topology.wiring.axes}
    spaces = {s.name: Space(f"space {s.name}", [axes[a.name] for a in s.axes]) for s in topology.spaces}

    def part(layer: Layer) -> Part | None:
        order = () if layer.part is None else [axes[a].name if a in axes else a for a in layer.part.order]
        return layer.part and dataclasses.replace(layer.part, order=tuple(order))

    return Topology(
        tuple(
            dataclasses.replace(
                layer,
                part=part(layer),
                name=f"other {layer.name}",
                source=spaces[layer.source.name],
                target=spaces[layer.target.name],
                tap_axes=tuple(axes[a.name] for a in layer.tap_axes),
            )
            for layer in topology
        )
    )


def independent(layer: LayerShape, after: LayerShape) -> bool:
    """Whether two neighbours may change places without a change of meaning; look-alikes keep their order."""
    joined = layer.target.name == after.source.name or after.target.name == layer.source.name
    sizes = [([a.size for a in y.source.axes], [a.size for a in y.target.axes], y.taps) for y in (layer, after)]
    return sizes[0] != sizes[1] and (layer.loops or after.loops or not joined)


def rewritten(random: np.random.Generator, topology: Topology) -> Topology:
    """The network with independent neighbours in another order of writing."""
    layers = list(topology.layers)
    for _ in range(4 * len(layers)):
        k = int(random.integers(len(layers)))
        if k and independent(layers[k - 1].shape, layers[k].shape):
            layers[k - 1], layers[k] = layers[k], layers[k - 1]
    return Topology(tuple(layers))


def moved(wiring: Wiring, axes: tuple[Axis, ...], unit: int, permutations: dict[str, np.ndarray]) -> int:
    """The new place of a unit, axis by axis, from the definition."""
    index: dict[str, int] = {}
    for axis in reversed(axes):
        unit, index[axis.name] = divmod(unit, axis.size)
    new = 0
    for axis in axes:
        at = index[axis.name]
        if axis.name in permutations:
            outer = tuple(index[other.name] for other in wiring.within[axis.name])
            at = int(permutations[axis.name][(*outer, at)])
        new = new * axis.size + at
    return new


def connections(topology: Topology) -> set[tuple[str, int, int, int]]:
    """Layer, source unit, tap, target unit of every connection, from the definition of a cell."""
    connected = set()
    for layer in topology:
        local, width = layer.source.size // layer.groups, layer.target.size // layer.groups
        for cell in layer.mask.cells.tolist():
            target, key = divmod(cell, local * layer.taps)
            connected.add((layer.name, key // layer.taps + target // width * local, key % layer.taps, target))
    return connected


def slowly_relabelled(topology: Topology, permutations: dict[str, np.ndarray]) -> set[tuple[str, int, int, int]]:
    connected = set()
    wiring = topology.wiring
    for name, source, tap, target in connections(topology):
        layer = topology[name]
        row = (*layer.source.axes, *(layer.tap_axes or (Axis("plain taps", layer.taps, fixed=True),)))
        there = moved(wiring, row, source * layer.taps + tap, permutations)
        connected.add((name, *divmod(there, layer.taps), moved(wiring, layer.target.axes, target, permutations)))
    return connected


@models
def test_a_model_has_the_layers_spaces_and_axes_of_its_architecture(name: str) -> None:
    """Counts of layers, spaces and free axes are those that tracing the real model found."""
    wiring = MODELS[name]().wiring
    assert (len(wiring), len(wiring.spaces)) == COUNTS[name]
    assert Counter(axis.size for axis in wiring.axes if not axis.fixed) == FREE_AXES[name]


@models
def test_connections_and_possible_connections_are_those_of_the_parameters(name: str) -> None:
    """nnz, possible and density are plain counts over the stored arrays, each parameter once, whatever the groups."""
    net = MODELS[name]()
    arrays = net.arrays(np.random.default_rng(0))
    topology = net.wiring.place(arrays, orientation="out-in")
    size = sum(array.size for array in arrays.values())
    count = sum(int(np.count_nonzero(array)) for array in arrays.values())
    assert (topology.nnz, topology.wiring.possible) == (count, size)
    assert topology.density == count / size


@models
def test_a_model_comes_back_from_its_text_and_its_document(name: str) -> None:
    """TOML and JSON hold all of a wiring."""
    wiring = MODELS[name]().wiring
    assert Wiring.from_toml(wiring.to_toml()) == wiring
    document = json.loads(json.dumps(wiring_text.document(wiring.layers)))
    assert Wiring(wiring_text.from_document(document, "here")) == wiring


@models
def test_masks_are_placed_and_taken_out_again(name: str) -> None:
    """`place` of `to_masks` is the topology, tied layers and all."""
    topology = MODELS[name]().topology(np.random.default_rng(1))
    assert topology.wiring.place(topology.to_masks()) == topology


@models
def test_the_digest_of_a_model_is_free_of_names_and_of_the_way_of_writing(name: str) -> None:
    """Other names, and independent layers in another order, give the same digest; a connection less another one."""
    random = np.random.default_rng(2)
    topology = MODELS[name]().topology(random)
    assert renamed(topology).digest == topology.digest
    other = rewritten(random, topology)
    if topology.wiring.beyond_format_1 is not None:
        assert other.digest == topology.digest
    ordered = [[t.layers[k].name for k in t.wiring.normal_order] for t in (topology, other)]
    assert ordered[0] == ordered[1]
    owner = next(y for y in topology if y.nnz and y.name not in topology.wiring.shared_with.values())
    less = dataclasses.replace(
        owner, mask=Mask(owner.mask.n_source, owner.mask.n_target, owner.mask.cells[1:], owner.taps)
    )
    assert Topology(tuple(less if y is owner else y for y in topology)).digest != topology.digest


@models
def test_a_relabelled_model_is_what_the_definition_says(name: str) -> None:
    """Every connection goes where its units go, heads with their own orders of dims; the way back restores the network."""
    random = np.random.default_rng(3)
    topology = MODELS[name]().topology(random, 0.05)
    permutations = random_permutations(random, topology.wiring)
    other = topology.relabelled(permutations)
    assert connections(other) == slowly_relabelled(topology, permutations)
    assert other.wiring == topology.wiring


@given(seeds)
@settings(deadline=None)
def test_random_wirings_keep_every_rule(seed: int) -> None:
    """Text round trip, digest free of names and writing, relabelling by definition: on wirings of every kind."""
    random = np.random.default_rng(seed)
    topology = random_network(random).topology(random, 0.4)
    wiring = topology.wiring
    assert Wiring.from_toml(wiring.to_toml()) == wiring
    assert wiring.place(topology.to_masks()) == topology
    assert renamed(topology).digest == topology.digest
    permutations = random_permutations(random, wiring)
    other = topology.relabelled(permutations)
    assert connections(other) == slowly_relabelled(topology, permutations)
    for layer in topology:
        sources, targets, taps = layer.shape.units_of(layer.mask.cells)
        assert layer.shape.cells_of(sources, targets, taps).tolist() == layer.mask.cells.tolist()
        assert layer.fan_out.tolist() == np.bincount(sources, minlength=layer.source.size).tolist()


def attention(arrays: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """A grouped-query attention block and a gated unit, as LLaMA computes them (without rotation: q and k are fixed)."""
    kv, groups, dims = 2, 3, 8
    x = arrays["embed.weight"][tokens]
    q = (x @ arrays["layers.0.q_proj"].T).reshape(-1, kv, groups, dims)
    k, v = ((x @ arrays[f"layers.0.{name}_proj"].T).reshape(-1, kv, dims) for name in "kv")
    scores = np.einsum("ikgd,jkd->kgij", q, k)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("kgij,jkd->ikgd", weights / weights.sum(-1, keepdims=True), v)
    x = x + mixed.reshape(len(tokens), -1) @ arrays["layers.0.o_proj"].T
    gated = np.tanh(x @ arrays["layers.0.gate_proj"].T) * (x @ arrays["layers.0.up_proj"].T)
    x = x + gated @ arrays["layers.0.down_proj"].T
    logits: np.ndarray = x @ arrays["embed.weight"].T
    return logits


def stored(topology: Topology, net: Network) -> dict[str, np.ndarray]:
    """The masks as the library stores its weights, worked out here for the layers of `llama`."""
    weights = {}
    for layer in topology:
        if layer.name in topology.wiring.shared_with:
            continue
        dense = np.asarray(layer.mask)
        key = layer.part.parameter if layer.part else layer.name
        if layer.tap_axes:
            kv, groups, dims = 2, 3, 8
            dense = dense.reshape(kv, dims, groups, -1).transpose(0, 2, 1, 3).reshape(kv * dims * groups, -1)
        weights[key] = (dense if key == "embed.weight" else dense.T).astype(float)
        assert weights[key].shape == net.parameters[key]
    return weights


def test_a_relabelled_attention_computes_the_same() -> None:
    """Grouped queries, values and gates in other places: the outputs are equal; with one layer moved alone they are not."""
    random = np.random.default_rng(4)
    net = llama(blocks=1)
    topology = net.topology(random, 0.3)
    tokens = random.integers(50, size=6)
    before = attention(stored(topology, net), tokens)
    permutations = random_permutations(random, topology.wiring)
    other = topology.relabelled(permutations)
    assert np.allclose(attention(stored(other, net), tokens), before, atol=1e-9)
    masks = topology.to_masks() | {"layers.0.v_proj": other["layers.0.v_proj"].mask}
    assert not np.allclose(attention(stored(topology.wiring.place(masks), net), tokens), before, atol=1e-3)


def test_the_stages_of_a_residual_stream_lie_between_its_reads() -> None:
    """ResNet: the stem matches the stream, each block enters it again; a downsampled stream has two layers at first."""
    wiring = MODELS["resnet18"]().wiring
    named = {
        space: [[wiring.layers[k].name for k in stage.entries] for stage in stages]
        for space, stages in wiring.stages.items()
    }
    assert named["stream1"] == [["conv1"], ["layer1.0.conv2"], ["layer1.1.conv2"]]
    assert named["stream2"] == [["layer2.0.conv2", "layer2.0.downsample"], ["layer2.1.conv2"]]
    assert named["classes"] == [["fc"]]


def test_self_loops_belong_to_the_open_stage_and_do_not_match() -> None:
    """A recurrent layer, before or after the layers from below, changes neither stages nor ranks."""
    x, h, y = labelled("x", 2), Space("h", 3), labelled("y", 2)
    into, loop, out = LayerShape("into", x, h), LayerShape("loop", h, h), LayerShape("out", h, y)
    assert order.stages([into, loop, out])["h"] == (Stage((0,), (1,)),)
    assert order.stages([loop, into, out])["h"] == (Stage((1,), (0,)),)
    assert order.ranks([into, loop, out]) == order.ranks([loop, into, out]) == {"h": 0, "y": 1}


def test_a_stream_whose_beginning_is_unknown_has_an_empty_first_stage() -> None:
    """Where a space is read before anything enters it, nothing tells its units apart: it has no rank."""
    stream, wide = Space("stream", 4), Space("wide", 8)
    wiring = Wiring((LayerShape("up", stream, wide), LayerShape("down", wide, stream)))
    assert wiring.stages["stream"] == (Stage(()), Stage((1,)))
    assert wiring.ranks == {"wide": 0}
    assert wiring.axis_ranks == {"wide": 0}


def test_axes_are_matched_at_their_first_space() -> None:
    """Heads are known from q, k and v at once; the query groups from q alone; what only fixed axes number has no rank."""
    wiring = llama(blocks=1).wiring
    assert {name: wiring.axis_ranks[f"layers.0.{name}"] for name in ("kv", "group", "v_dim")} == {
        "kv": 1, "group": 1, "v_dim": 1,
    }  # fmt: skip
    assert wiring.axis_ranks["stream"] == 0
    assert wiring.axis_ranks["layers.0.mlp"] == 3
    assert "rotary" not in wiring.axis_ranks
    assert [a.name for a in wiring.within["layers.0.group"]] == ["layers.0.kv"]
    assert [a.name for a in wiring.within["layers.0.v_dim"]] == ["layers.0.kv"]
    shuffled = MODELS["shufflenet"]().wiring.within
    assert shuffled["mixed"] == shuffled["group"] == ()


def test_tied_layers_are_one_set_of_connections() -> None:
    """GPT-2's head has the transposed mask of its embedding, is counted once, and cannot have another."""
    topology = MODELS["gpt2"]().topology(np.random.default_rng(5))
    assert topology.wiring.shared_with == {"lm_head": "wte"}
    assert np.array_equal(np.asarray(topology["lm_head"].mask), np.asarray(topology["wte"].mask).T)
    assert "lm_head" not in topology.to_masks()
    other = Layer.of(topology["lm_head"].shape, topology["lm_head"].shape.empty())
    with pytest.raises(InvalidTopologyError, match="'lm_head': expected the connections of layer 'wte'"):
        Topology((*topology.layers[:-1], other))


def tiny(**changed: dict[str, Any]) -> Topology:
    """Two groups of two sources, of which the targets feed back."""
    group, wide = Axis("g", 2), Axis("w", 2)
    source, target = Space("s", (group, Axis("n", 2))), Space("t", (group, wide))
    layers = [
        Layer("grouped", source, target, Mask(2, 4, np.array([0, 3, 7])), groups=2),
        Layer("back", target, source, Mask(4, 4, np.array([1, 5, 15]))),
        Layer("loop", target, target, Mask(4, 4, np.array([2]))),
    ]
    return Topology(tuple(dataclasses.replace(y, **changed.get(y.name, {})) for y in layers))


def test_the_digests_of_version_2_never_change() -> None:
    """Digests are stored for ever: these networks have these, in every version."""
    assert tiny().digest == "7889c338d3d08a0300ad6fcbe6818d14dc8f5baed3466ac2343f48111062dbfc"
    net = llama(blocks=1)
    random = np.random.Generator(np.random.PCG64(7))
    arrays = {name: (random.integers(0, 4, shape) == 0) for name, shape in net.parameters.items()}
    assert (
        net.wiring.place(arrays, orientation="out-in").digest
        == "9632ad82cf3c74f10bf98b780929a73d971a6eea541cdb6903ba99cb2cd4eabf"
    )


def test_groups_axes_and_ties_are_part_of_the_digest() -> None:
    """The same cells with other groups, fixed axes, shared axes or ties are another network."""
    fixed = Space("s", (Axis("g", 2), Axis("n", 2, fixed=True)))
    apart = Space("s", (Axis("g", 2), Axis("w", 2)))
    plain = tiny(grouped={"groups": 1, "mask": Mask(4, 4, np.array([0, 3, 7]))})
    digests = {tiny().digest, plain.digest}
    for space in (fixed, apart):
        digests.add(tiny(grouped={"source": space}, back={"target": space}).digest)
    x, h, y = Space("x", 2), Space("h", 2), Space("y", 2)
    diagonal = Mask(2, 2, np.array([0, 3]))
    for part in (None, Part("p")):
        first, again = Layer("a", x, h, diagonal, part=part), Layer("b", x, h, diagonal, part=part)
        digests.add(Topology((first, again, Layer("c", h, x, diagonal), Layer("d", x, y, diagonal))).digest)
    assert len(digests) == 6


def test_all_that_is_fixed_is_one_labelled_space() -> None:
    """Rows and columns of pixels, both fixed, are the same space as their product: format 1 says it."""
    rows, columns = Axis("rows", 2, fixed=True), Axis("columns", 3, fixed=True)
    image, pixels, hidden = Space("image", (rows, columns)), Space("pixels", 6, labelled=True), Space("h", 2)
    mask = Mask(6, 2, np.array([0, 5, 7]))
    of_image, of_pixels = Topology((Layer("a", image, hidden, mask),)), Topology((Layer("a", pixels, hidden, mask),))
    assert image.labelled
    assert of_image.digest == of_pixels.digest
    assert (of_image.wiring.format, of_pixels.wiring.format) == (2, 1)


def test_a_space_without_axes_has_one_unit() -> None:
    """A scalar is a labelled space of one unit."""
    scalar = Space("scalar", ())
    assert (scalar.size, scalar.labelled, scalar.axes) == (1, True, ())
    assert Topology((Layer("a", labelled("x", 2), scalar, Mask(2, 1, np.array([1]))),)).density == 0.5


X, H = Space("x", 4), Space("h", 6)
G = Axis("g", 2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Axis("", 2), "axis: expected a printable name"),
        (lambda: Axis("a", 0), "axis 'a': expected at least 1 unit, found 0"),
        (lambda: Space("s", [G, G]), "space 's': expected every axis once, found g, g"),
        (lambda: Space("s", [G], labelled=True), "space 's': expected labelled beside a size only"),
        (lambda: Space("s", [Axis("a", 2**40), Axis("b", 2**40)]), "space 's': expected at most"),
        (lambda: LayerShape("l", X, H, groups=2), r"layer 'l': expected 'x' and 'h' to begin with the same axes, of 2"),
        (lambda: LayerShape("l", X, H, groups=0), "layer 'l': expected groups >= 1, found 0"),
        (lambda: LayerShape("l", X, H, 3, tap_axes=(G,)), "layer 'l': expected 2 taps, as its tap axes have, found 3"),
        (lambda: LayerShape("l", Space("s", [G]), H, 2, tap_axes=(G,)), "layer 'l': expected every axis once in its"),
        (lambda: Layer("l", Space("s", [G, Axis("n", 2)]), Space("t", [G]), Mask(4, 2, np.array([])), 2), r"2 x 2 units .*in 2 groups.*found 4 x 2"),
        (lambda: Wiring(()), "at least one layer"),
        (lambda: Wiring((LayerShape("l", X, H), LayerShape("m", Space("z", [Axis("x", 4, fixed=True)]), H))), r"layer 'm': expected Axis\(name='x', size=4, fixed=False\)"),
        (lambda: Part("p", targets=(3, 3)), r"part of 'p': targets: expected \(first, beyond the last\)"),
        (lambda: Part("p", orientation="oi"), "part of 'p': orientation: expected one of in-out, out-in, hwio, found 'oi'"),  # type: ignore[arg-type]
        (lambda: LayerShape("l", X, H, part=Part("p", targets=(0, 5))), r"layer 'l': part of 'p': expected 6 targets, found \(0, 5\)"),
        (lambda: LayerShape("l", X, H, part=Part("p", sources=(0, 5))), r"layer 'l': part of 'p': expected 4 sources"),
        (lambda: LayerShape("l", X, H, 2, part=Part("p", order=("x",))), "layer 'l': part of 'p': order: expected the axes x, taps"),
        (lambda: LayerShape("l", X, H, 2, part=Part("p", sources=(0, 4), order=("taps", "x"))), "layer 'l': part of 'p': expected a range of 8 columns"),
        (lambda: Wiring((LayerShape("l", X, H, part=Part("p", targets=(0, 6))), LayerShape("m", X, H, part=Part("p", targets=(5, 11))))), "layers 'l' and 'm': expected parts of 'p' that are the same or apart"),
        (lambda: Wiring((LayerShape("l", X, H, part=Part("p")), LayerShape("m", H, X, part=Part("p", orientation="out-in")))), "layer 'm': expected an orientation in every part of 'p' or in none"),
        (lambda: Wiring((LayerShape("l", X, H, part=Part("p")), LayerShape("m", Space("z", 4), H, part=Part("p")))), "layer 'm': expected the same part of 'p' as layer 'l' with the same axes"),
        (lambda: Wiring.chain([3, 2], names=["a", "b"]), "expected a name for each of 1 layers, found 2"),
    ],
)  # fmt: skip
def test_a_wiring_that_breaks_a_rule_is_refused(make: object, says: str) -> None:
    """The error names the layer, space or axis, what was expected and what was found."""
    with pytest.raises(InvalidTopologyError, match=says):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("permutations", "says"),
    [
        ({"nothing": np.arange(2)}, "axis 'nothing': expected one of the free axes"),
        ({"image": np.arange(3)}, "axis 'image': expected one of the free axes"),
        ({"group": np.arange(2)}, r"axis 'group': expected a permutation of shape \(3,\), found \(2,\)"),
        ({"out": np.zeros(2, int)}, "axis 'out': expected every index from 0 to 1 once"),
        ({"wide_dim": np.zeros((4, 5), int)}, r"axis 'wide_dim': expected a permutation of shape \(3, 5\) or \(5,\)"),
    ],
)
def test_what_is_no_symmetry_is_refused(permutations: dict[str, np.ndarray], says: str) -> None:
    """Only free axes move, by permutations of their size, per index only of the axes before them everywhere."""
    with pytest.raises(InvalidInputError, match=says):
        MODELS["shufflenet"]().topology(np.random.default_rng(0)).relabelled(permutations)


def test_a_wiring_is_looked_up_by_layer() -> None:
    """Iteration, length, membership and indexing by name, on wirings and topologies."""
    net = MODELS["lenet"]()
    topology = net.topology(np.random.default_rng(0))
    for value in (net.wiring, topology):
        assert [layer.name for layer in value] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
        assert len(value) == 5
        assert "conv2" in value
        assert "conv3" not in value
        assert value["fc1"].taps == 25
        with pytest.raises(KeyError):
            value["conv3"]


def test_what_a_plain_network_needs_is_said_by_format_1() -> None:
    """Chains, sums and taps stay plain; every other model says what it has beyond them."""
    kinds = {name: MODELS[name]().wiring.beyond_format_1 for name in MODELS}
    plain = {name for name, kind in kinds.items() if kind is None}
    assert plain == {"mlp", "lenet", "vgg11", "densenet", "lora"}
    first_words = Counter((kind or "plain").split(" (")[0] for kind in kinds.values())
    assert first_words == Counter(
        {"plain": 5, "a residual stream": 7, "a self-loop": 3, "groups": 1, "several axes": 1}
    )


def late_downsample() -> Wiring:
    """ResNet-18, but that the downsampled stream is added after the second block has read it."""
    layers = list(resnet18().wiring.layers)
    late = next(k for k, layer in enumerate(layers) if layer.name == "layer2.0.downsample")
    return Wiring((*layers[:late], layers[late + 1], layers[late], *layers[late + 2 :]))


@models
def test_the_counterparts_of_a_network_under_other_names_are_its_own_layers(name: str) -> None:
    """By name where the names are equal, whatever the order; by the normal order where they are not."""
    random = np.random.default_rng(6)
    topology = MODELS[name]().topology(random)
    other = rewritten(random, topology)
    for there, prefix in ((other, ""), (renamed(other), "other ")):
        partners = topology.wiring.counterparts(there.wiring)
        assert [there.layers[k].name for k in partners] == [prefix + layer.name for layer in topology]


def test_networks_of_other_widths_correspond() -> None:
    """Free axes may have other sizes, the groups of a depthwise layer with them; fixed ones may not."""
    assert resnet18(4).wiring.counterparts(resnet18(6).wiring) == tuple(range(21))
    assert gpt2(2).wiring.counterparts(renamed(gpt2(2, 2, 8).topology(np.random.default_rng(0))).wiring) == tuple(
        range(15)
    )
    wide = [Space("wide", n) for n in (4, 6)]
    depthwise = [Wiring((LayerShape("in", labelled("x", 2), s), LayerShape("dw", s, s, 9, s.size))) for s in wide]
    assert depthwise[0].counterparts(depthwise[1]) == (0, 1)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: resnet18(4, classes=7).wiring, r"'fc' \(stream4\(32\) -> classes\(=10\)\) where .* classes\(=7\)"),
        (lambda: gpt2().wiring, "expected 21 layers in both networks, found 21|found 'conv1'"),
        (lambda: MODELS["mlp"]().wiring, "expected 21 layers in both networks, found 3"),
        (late_downsample, "the layers into 'stream2' stand in another order"),
    ],
)
def test_wirings_that_are_not_one_are_told_apart(other: Callable[[], Wiring], says: str) -> None:
    """The error shows the first two layers that do not correspond."""
    with pytest.raises(NotComparableError, match=says):
        resnet18().wiring.counterparts(other())


def test_other_ties_are_another_wiring() -> None:
    """The same layers with and without a tied embedding do not correspond."""
    tied = gpt2(1).wiring
    loose = Wiring(tuple(dataclasses.replace(y, part=None) if y.name == "lm_head" else y for y in tied))
    with pytest.raises(NotComparableError, match=r"'wte' .*other layers are tied with it"):
        tied.counterparts(loose)


@models
def test_a_topology_goes_through_pickle(name: str) -> None:
    """Worker processes get the same network, and copies are equal."""
    topology = MODELS[name]().topology(np.random.default_rng(0))
    assert len({topology.wiring, pickle.loads(pickle.dumps(topology)).wiring}) == 1  # hashed, as comparisons do
    other = pickle.loads(pickle.dumps(topology))
    assert other == topology
    assert "_hash" not in vars(other.wiring)  # that of a text is its process's own
    assert copy.deepcopy(topology) == topology


def test_levels_do_not_depend_on_the_way_of_writing() -> None:
    """All orders of writing a diamond of layers that keep its meaning give one normal order."""
    x, a, b, y = labelled("x", 2), Space("a", 3), Space("b", 4), labelled("y", 2)
    layers = [LayerShape("xa", x, a), LayerShape("xb", x, b), LayerShape("ay", a, y), LayerShape("by", b, y)]
    orders = set()
    for written in itertools.permutations(layers):
        names = [layer.name for layer in written]
        if names.index("xa") < names.index("ay") and names.index("xb") < names.index("by"):
            orders.add(tuple(names[k] for k in order.normal_order(written)))
    assert orders == {("xa", "xb", "ay", "by")}
