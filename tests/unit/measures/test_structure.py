"""The shape of one snapshot, by hand and against plain walks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.histories import connections, random_history
from topostrata.measures.structure import gini, structure
from topostrata.topology import Topology


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
