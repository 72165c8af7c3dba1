"""The picture of a wiring, and what other programs draw of it."""

from __future__ import annotations

import networkx as nx
import pytest

from tests.wirings import MODELS, llama, resnet18
from topostrata.service.answers.wiring import dot, graphml, picture
from topostrata.topology import Wiring


def test_a_chain_is_one_line() -> None:
    """Broken between two layers where it is too long."""
    wiring = Wiring.chain([784, 300, 100, 10])
    text = "input 784 (labelled) ═ l0 ═> hidden1 300 ═ l1 ═> hidden2 100 ═ l2 ═> output 10 (labelled)"
    assert picture(wiring) == text
    assert picture(wiring, width=60).replace("\n   ", "") == text


def test_a_residual_stream_is_a_heading_with_its_branches() -> None:
    """Blocks leave the stream and are added to it again."""
    lines = picture(resnet18().wiring).splitlines()
    assert lines[:5] == [
        "image 3 (labelled)",
        " ╚═ conv1 (49 taps) ═> stream1 4",
        "stream1",
        " ╠═ layer1.0.conv1 (9 taps) ═> layer1.0.inner 4 ═ layer1.0.conv2 (9 taps) ═(+)> stream1",
        " ╠═ layer1.1.conv1 (9 taps) ═> layer1.1.inner 4 ═ layer1.1.conv2 (9 taps) ═(+)> stream1",
    ]
    assert lines[-1] == " ╚═ fc ═> classes 10 (labelled)"


def test_an_attention_shows_heads_taps_and_ties() -> None:
    """Axes by the last words of their names; the two halves of a gated unit side by side."""
    lines = picture(llama(1).wiring).splitlines()
    assert lines[2:] == [
        "stream",
        " ╠═ layers.0.q_proj ═> layers.0.q kv 2 x group 3 x rotary 8 (fixed)",
        " ╠═ layers.0.k_proj ═> layers.0.k kv 2 x rotary 8 (fixed)",
        " ╠═ layers.0.v_proj ═> layers.0.v kv 2 x v_dim 8 ═ layers.0.o_proj (taps: group 3) ═(+)> stream",
        " ╠═ layers.0.gate_proj, layers.0.up_proj ═> layers.0.mlp 80 ═ layers.0.down_proj ═(+)> stream",
        " ╚═ lm_head (tied with embed) ═> logits 50 (labelled)",
    ]


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_and_space_stands_in_the_picture_once(name: str) -> None:
    """Each layer has one place; each space is introduced with its units, and its lines keep the width."""
    wiring = MODELS[name]().wiring
    text = picture(wiring)
    words = [word.strip(",") for word in text.split()]
    spaces = {space.name for space in wiring.spaces}
    for layer in wiring:
        if layer.name not in spaces:
            assert words.count(layer.name) == 1, layer.name
    for space in wiring.spaces:
        assert space.name in words
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", MODELS)
def test_graphs_for_other_programs_have_a_node_a_space_and_an_edge_a_layer(name: str) -> None:
    """GraphML is read back by networkx; DOT has as many arrows as layers."""
    wiring = MODELS[name]().wiring
    graph = nx.parse_graphml(graphml(wiring), force_multigraph=True)
    assert set(graph.nodes) == {space.name for space in wiring.spaces}
    edges = {(a, b, data["position"]): data for a, b, data in graph.edges(data=True)}
    assert edges.keys() == {(y.source.name, y.target.name, k) for k, y in enumerate(wiring)}
    assert sum(data["possible"] for data in edges.values() if "shared_with" not in data) == wiring.possible
    assert dot(wiring).count(" -> ") == len(wiring)
    assert dot(wiring).count("style=dashed") == len(wiring.shared_with)
