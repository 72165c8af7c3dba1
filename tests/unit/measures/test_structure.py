"""The shape of one snapshot, by hand and against plain walks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.histories import connections, random_history
from tests.wirings import MODELS
from topostrata.measures.structure import gini, structure
from topostrata.topology import LayerShape, Part, Space, Topology, Wiring


def test_degrees_of_a_small_network() -> None:
    """Two inputs, three hidden units, one output: means, spread, hubs and dead units by hand."""
    measured = structure(Topology.from_masks([[[1, 1, 0], [1, 0, 0]], [[1], [0], [1]]]))
    spaces = {space.name: space for space in measured.spaces}
    hidden = spaces["hidden1"]
    assert hidden.fan_in is not None
    assert hidden.fan_in.histogram.tolist() == [1, 1, 1]
    assert hidden.fan_in.mean == 1
    assert hidden.fan_in.cv == pytest.approx(np.sqrt(2 / 3))
    assert hidden.fan_in.gini == pytest.approx(4 / 9)
    assert hidden.fan_in.dead == (2,)
    assert [(hub.unit, hub.connections) for hub in hidden.fan_in.hubs] == [(0, 2), (1, 1)]
    assert hidden.fan_out is not None
    assert hidden.fan_out.dead == (1,)
    assert spaces["input"].fan_in is None
    assert spaces["output"].fan_out is None
    # Only unit 0 of the hidden ones has inputs and outputs: two connections into it, one out of it.
    assert [(layer.connections, layer.effective) for layer in measured.layers] == [(3, 2), (2, 1)]
    assert measured.layers[0].effective_density == 2 / 6


def test_gini_knows_its_ends() -> None:
    """0 for equal values, (n - 1) / n for all with one, nothing for nothing."""
    assert gini(np.array([3, 3, 3])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
    assert gini(np.array([0, 0])) is None


@pytest.mark.parametrize("seed", range(40))
def test_effective_connections_lie_on_a_path(seed: int) -> None:
    """On random networks, residual sums among them: a connection counts when some walk from input to output uses it."""
    topology = random_history(seed, snapshots=1).snapshots[0][1]
    edges = [
        ((layer.source.name, source), (layer.target.name, target), layer.name)
        for layer in topology.layers
        for source, _, target in connections(layer.mask)
    ]
    targets = {layer.target.name for layer in topology.layers}
    sources = {layer.source.name for layer in topology.layers}
    start = {(s.name, i) for s in topology.spaces if s.name not in targets for i in range(s.size)}
    end = {(s.name, i) for s in topology.spaces if s.name not in sources for i in range(s.size)}
    for _ in topology.spaces:
        start |= {b for a, b, _ in edges if a in start}
        end |= {a for a, b, _ in edges if b in end}
    expected = {y.name: sum(a in start and b in end and n == y.name for a, b, n in edges) for y in topology.layers}
    assert {layer.name: layer.effective for layer in structure(topology).layers} == expected


@pytest.mark.parametrize("name", MODELS)
def test_effective_connections_of_every_kind_of_network(name: str) -> None:
    """A walk along connections, later layers after earlier ones and self-loops of a space in any order, finds the same.

    Tied layers count once, where either place lies on a way from an input to an output.
    """
    topology = MODELS[name]().topology(np.random.default_rng(1), 0.08)
    wiring = topology.wiring
    edges = [
        (k, (layer.source.name, s), (layer.target.name, t), wiring.shared_with.get(layer.name, layer.name))
        for k, layer in enumerate(topology.layers)
        for s, t in zip(layer.sources.tolist(), layer.targets.tolist(), strict=True)
    ]
    entered = {layer.target.name for layer in wiring if not layer.loops}
    read = {layer.source.name for layer in wiring if not layer.loops}
    loops = {k: layer.source.name for k, layer in enumerate(wiring.layers) if layer.loops}

    def walked(start: list[int], *, ahead: bool) -> set[int]:
        at: dict[tuple[str, int], list[int]] = {}
        for e, (_, source, target, _) in enumerate(edges):
            at.setdefault(source if ahead else target, []).append(e)
        seen, waiting = set(start), list(start)
        while waiting:
            k, source, target, _ = edges[waiting.pop()]
            for e in at.get(target if ahead else source, ()):
                other = edges[e][0]
                follows = other > k if ahead else other < k
                if e not in seen and (follows or (k in loops and loops.get(other) == loops[k])):
                    seen.add(e)
                    waiting.append(e)
        return seen

    forward = walked([e for e, edge in enumerate(edges) if edge[1][0] not in entered], ahead=True)
    backward = walked([e for e, edge in enumerate(edges) if edge[2][0] not in read], ahead=False)
    measured = structure(topology)
    masks = topology.to_masks()
    assert [(layer.name, layer.connections) for layer in measured.layers] == [(n, m.nnz) for n, m in masks.items()]
    if not wiring.shared_with:
        counts = Counter(edges[e][3] for e in forward & backward)
        assert {layer.name: layer.effective for layer in measured.layers} == {n: counts[n] for n in masks}
    for space, answer in zip(topology.spaces, measured.spaces, strict=True):
        out = Counter(edge[1][1] for edge in edges if edge[1][0] == space.name)
        dead = None if answer.fan_out is None else answer.fan_out.dead
        read_at_all = any(layer.source == space for layer in wiring)
        assert dead == (tuple(u for u in range(space.size) if u not in out) if read_at_all else None)


def test_what_enters_a_stream_late_reaches_only_those_that_read_it_later() -> None:
    """The block's result in unit 1 of the stream does not go back into the block, but on to the output."""
    image, stream, inner = Space("image", 1, labelled=True), Space("stream", 2), Space("inner", 2)
    layers = (
        LayerShape("stem", image, stream),
        LayerShape("conv1", stream, inner),
        LayerShape("conv2", inner, stream),
        LayerShape("fc", stream, Space("classes", 1, labelled=True)),
    )
    masks = {"stem": [[1, 0]], "conv1": [[1, 0], [0, 1]], "conv2": [[0, 1], [0, 0]], "fc": [[0], [1]]}
    measured = structure(Wiring(layers).place({name: np.array(mask) for name, mask in masks.items()}))
    assert {layer.name: layer.effective for layer in measured.layers} == {"stem": 1, "conv1": 1, "conv2": 1, "fc": 1}


def test_a_tied_connection_counts_where_either_of_its_places_lies_on_a_path() -> None:
    """Token 0 feeds unit 0, which feeds class 0; token 1 feeds unit 1, whose only way out is the tied one to class 1."""
    tokens, stream = Space("tokens", 2, labelled=True), Space("stream", 2)
    layers = (
        LayerShape("embed", tokens, stream, part=Part("wte", orientation="in-out")),
        LayerShape("head", stream, Space("logits", 2, labelled=True), part=Part("wte", orientation="out-in")),
    )
    measured = structure(Wiring(layers).place({"wte": np.eye(2)}))
    assert [(layer.name, layer.connections, layer.effective) for layer in measured.layers] == [("embed", 2, 2)]
    assert [space.fan_out.dead if space.fan_out else None for space in measured.spaces] == [(), (), None]
