"""Every kind of network that the topology type holds, pushed, drawn, moved and read back on every store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.stores import tell
from tests.wirings import MODELS, Network, gpt2, llama, mobilenet_v2, resnet18
from topostrata.archive import Archive
from topostrata.distance.nnstd import nnstd
from topostrata.errors import ConflictError, InvalidInputError, NotFoundError
from topostrata.ingest.formats.export_file import ExportFile
from topostrata.topology import LayerShape, Topology, Wiring

STEPS = (0, 3, 4, 9)

Life = tuple[int, int, int, int, int | None]  # source unit, target unit, tap, born step, died step


def history(net: Network, seed: int = 0) -> dict[int, Topology]:
    """Snapshots of a network some of whose connections die, are born and come back."""
    random = np.random.default_rng(seed)
    arrays = net.arrays(random, 0.1)
    topologies = {}
    for step in STEPS:
        topologies[step] = net.wiring.place(arrays, orientation="out-in")
        arrays = {name: array ^ (random.random(array.shape) < 0.03) for name, array in arrays.items()}
    return topologies


def units(topology: Topology, layer: str) -> set[tuple[int, int, int]]:
    """The connections of a layer as units of its spaces, counted from the dense array of its mask."""
    shape = topology[layer].shape
    sources, targets = np.nonzero(np.asarray(topology[layer].mask))
    per_group, width = shape.target.size // shape.groups, shape.source.size // shape.groups
    return {
        (key // shape.taps + target // per_group * width, target, key % shape.taps)
        for key, target in zip(sources.tolist(), targets.tolist(), strict=True)
    }


def lives(topologies: dict[int, Topology], layer: str) -> set[Life]:
    """Every life of a layer's connections, as the differences of the snapshots tell it."""
    since: dict[tuple[int, int, int], int] = {}
    told: set[Life] = set()
    for step, topology in topologies.items():
        alive = units(topology, layer)
        told |= {(*cell, since.pop(cell), step) for cell in set(since) - alive}
        since |= dict.fromkeys(alive - set(since), step)
    return told | {(*cell, born, None) for cell, born in since.items()}


def drawn(archive: Archive, run: str) -> dict[str, list[Life]]:
    """The connections in the graph by layer, each as often as it stands there; their ends lie in the layer's spaces."""
    rows = tell(
        archive,
        "MATCH (a:Neuron {run: $run})-[c:CONNECTS]->(b:Neuron) RETURN c.layer AS layer, a.space AS source, b.space AS "
        "target, a.index AS i, b.index AS j, c.tap AS tap, c.born_step AS born, c.died_step AS died",
        run=run,
    )
    wiring = archive.wiring(run)
    by_layer: dict[str, list[Life]] = {}
    for row in rows:
        shape = wiring[row["layer"]]
        assert (row["source"], row["target"]) == (shape.source.name, shape.target.name)
        life = (row["i"], row["j"], row["tap"], row["born"], row["died"])
        by_layer.setdefault(shape.name, []).append(life)
    return by_layer


@pytest.mark.parametrize("name", MODELS)
def test_a_network_of_every_kind_is_held(archive: Archive, name: str) -> None:
    """Snapshots are read back equal, and each life of each connection stands in the graph once, between real units."""
    net = MODELS[name]()
    topologies = history(net)
    for step, topology in topologies.items():
        assert archive.push("r", step, topology) == "added"
    again = archive.reopened()
    assert again.wiring("r") == net.wiring
    assert {step: again.topology(f"r@{step}") for step in STEPS} == topologies
    assert again.unprojected() == []
    in_graph = drawn(archive, "r")
    owners = [layer.name for layer in net.wiring if layer.name not in net.wiring.shared_with]
    for layer in owners:
        assert len(in_graph[layer]) == len(set(in_graph[layer])), layer
        assert set(in_graph[layer]) == lives(topologies, layer), layer
    assert sorted(in_graph) == sorted(owners)
    assert list(again.verify()) == []


@pytest.mark.parametrize("name", MODELS)
def test_a_network_of_every_kind_moves(archive: Archive, tmp_path: Path, name: str) -> None:
    """What is exported and imported under an empty roof is the same run, with its wiring and the metrics of its layers."""
    net = MODELS[name]()
    first, *_ = topologies = list(history(net).values())[:2]
    layer = net.wiring.layers[0].name
    archive.push("r", 0, first, metrics={"loss": 0.5}, layer_metrics={layer: {"gradient_norm": 0.25}})
    archive.push("r", 5, topologies[1])
    archive.export(tmp_path / "r.zip")
    snapshots = archive.snapshots("r")
    for kind in ("Neuron", "Mask", "Snapshot", "Layer", "Run"):
        tell(archive, f"MATCH (n:{kind}) DETACH DELETE n RETURN count(n) AS gone")
    again = archive.reopened()
    moved = again.import_(tmp_path / "r.zip")
    assert (moved.snapshots, moved.added) == (2, 2)
    assert again.snapshots("r") == snapshots
    assert [again.topology(f"r@{step}") for step in (0, 5)] == topologies
    assert again.wiring("r") == net.wiring
    assert again.import_(tmp_path / "r.zip").added == 0
    again.export(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "r.zip").read_bytes()


def test_an_export_has_format_1_as_long_as_that_says_all(archive: Archive, tmp_path: Path) -> None:
    """A plain network is written as before; a residual stream, or a metric of a layer, needs format 2."""
    plain = MODELS["lenet"]().topology(np.random.default_rng(0))
    archive.push("plain", 0, plain)
    archive.push("stream", 0, resnet18().topology(np.random.default_rng(0)))
    formats = {}
    for runs in (["plain"], ["stream"], ["plain", "stream"]):
        archive.export(tmp_path / "runs.zip", runs=runs)
        with ExportFile(tmp_path / "runs.zip") as file:
            formats[tuple(runs)] = file.format
    archive.push("plain", 1, plain, layer_metrics={"fc1": {"x": 1.0}})
    archive.export(tmp_path / "runs.zip", runs=["plain"])
    with ExportFile(tmp_path / "runs.zip") as file:
        assert file.format == 2
    assert formats == {("plain",): 1, ("stream",): 2, ("plain", "stream"): 2}


def test_a_plain_run_stands_in_the_graph_as_it_always_did(archive: Archive) -> None:
    """No property more: Cypher stays as simple as it was for a chain."""
    archive.push("r", 0, MODELS["lenet"]().topology(np.random.default_rng(0)))
    (run,) = tell(archive, "MATCH (r:Run) RETURN keys(r) AS names")
    assert "wiring" not in run["names"]
    layers = tell(archive, "MATCH (y:Layer) RETURN keys(y) AS names")
    assert not {"groups", "shared_with"} & {name for row in layers for name in row["names"]}
    (neuron,) = tell(archive, "MATCH (n:Neuron {id: 'r/f1/3'}) RETURN keys(n) AS names")
    assert sorted(neuron["names"]) == ["id", "index", "run", "space"]
    (snapshot,) = tell(archive, "MATCH (s:Snapshot) RETURN keys(s) AS names")
    assert "has_layer_metrics" not in snapshot["names"]


def test_neurons_have_an_index_along_each_axis_of_their_space(archive: Archive) -> None:
    """Head and dim of an attention can be asked for by name, in all blocks at once."""
    archive.push("r", 0, gpt2(2).topology(np.random.default_rng(0)))
    rows = archive.cypher(
        "MATCH (n:Neuron {run: 'r', space: 'h.1.q'}) RETURN n.index AS i, n.heads AS head, n.qk AS dim ORDER BY i"
    ).rows
    assert rows == [[i, i // 12, i % 12] for i in range(48)]
    count = archive.cypher("MATCH (n:Neuron {run: 'r'}) WHERE n.heads = 3 RETURN count(n) AS neurons").rows
    assert count == [[2 * 3 * 12]]


def test_layers_have_their_groups_and_the_layer_they_are_tied_with(archive: Archive) -> None:
    """Where it says something: a depthwise layer its groups, the tied output its embedding, whose connections it has."""
    archive.push("mobile", 0, mobilenet_v2().topology(np.random.default_rng(0)))
    archive.push("gpt", 0, gpt2(1).topology(np.random.default_rng(0)))
    groups = archive.cypher(
        "MATCH (:Run {id: 'mobile'})-[:HAS_LAYER]->(y:Layer) WHERE y.groups > 1 RETURN y.name AS name, y.groups AS groups "
        "ORDER BY y.position LIMIT 2"
    ).rows
    assert groups == [["block0.0.depthwise", 8], ["block1.0.depthwise", 24]]
    tied = archive.cypher("MATCH (y:Layer) WHERE y.shared_with = 'wte' RETURN y.run AS run, y.name AS name").rows
    assert tied == [["gpt", "lm_head"]]
    assert [(y.name, y.shared_with) for y in archive.layers("gpt") if y.shared_with] == [("lm_head", "wte")]
    with pytest.raises(NotFoundError, match="found 'lm_head'") as caught:
        archive.connections("gpt", "lm_head")
    assert caught.value.hint == "'lm_head' is tied with 'wte', which has its connections: --layer wte"


def test_a_run_keeps_its_wiring(archive: Archive) -> None:
    """Another stream, other groups, other ties are another network; where connections lie in a parameter is not."""
    net = resnet18()
    archive.push("r", 0, net.topology(np.random.default_rng(0)))
    changed = list(net.wiring.layers)
    changed[1] = LayerShape("layer1.0.conv1", changed[1].source, changed[1].target, 25)
    arrays = net.arrays(np.random.default_rng(1)) | {"layer1.0.conv1": np.ones((4, 4, 5, 5))}
    with pytest.raises(
        ConflictError, match=r"'layer1.0.conv1' \(stream1 4 -> layer1.0.inner 4, 9 taps\), found .* 25 taps"
    ):
        archive.push("r", 1, Wiring(tuple(changed)).place(arrays, orientation="out-in"))
    model = gpt2(1)
    archive.push("tied", 0, model.topology(np.random.default_rng(0)))
    head = model.wiring["lm_head"]
    free = [*model.wiring.layers[:-1], LayerShape("lm_head", head.source, head.target)]
    arrays = model.arrays(np.random.default_rng(1)) | {"lm_head": np.ones((50, 48))}
    with pytest.raises(ConflictError, match=r"expected the tied layers \{'lm_head': 'wte'\}, found \{\}"):
        archive.push("tied", 1, Wiring(tuple(free)).place(arrays, orientation="out-in"))
    masks = net.topology(np.random.default_rng(2)).to_masks()
    plain = Wiring(tuple(LayerShape(y.name, y.source, y.target, y.taps) for y in net.wiring))
    assert archive.push("r", 1, plain.place(masks)) == "added"
    with pytest.raises(NotFoundError, match="run 'nowhere': expected it"):
        archive.wiring("nowhere")


@pytest.mark.parametrize("name", ["mobilenet_v2", "llama", "lstm", "shufflenet"])
def test_a_projection_that_was_cut_off_is_completed(archive: Archive, name: str) -> None:
    """Half of the births and deaths of the last step stand there, as a killed projector leaves them: the rest follows."""
    topologies = history(MODELS[name]())
    last, before = STEPS[-1], STEPS[-2]
    for step, topology in topologies.items():
        if step == last:  # the keys by which those that die now are found
            keys = tell(archive, "MATCH (a:Neuron)-[c:CONNECTS]->(b:Neuron) WHERE a.index % 2 = 1 AND c.alive IS NOT NULL "
                        "RETURN a.id AS a, b.id AS b, c.layer AS layer, c.tap AS tap, c.alive AS alive")  # fmt: skip
        archive.push("r", step, topology)
    tell(archive, "MATCH (r:Run {id: 'r'}) SET r.half_written = true RETURN r.id AS id")
    tell(archive, "MATCH (y:Layer {run: 'r'}) WHERE y.projected_step = $last SET y.projected_step = $before "
         "RETURN count(y) AS n", last=last, before=before)  # fmt: skip
    tell(archive, "MATCH (a:Neuron)-[c:CONNECTS]->() WHERE c.born_step = $last AND a.index % 2 = 0 DELETE c "
         "RETURN count(c) AS n", last=last)  # fmt: skip
    tell(archive, "UNWIND $keys AS k MATCH (a:Neuron {id: k.a})-[c:CONNECTS]->(b:Neuron {id: k.b}) "
         "WHERE c.layer = k.layer AND c.tap = k.tap AND c.died_step = $last SET c.died_step = null, c.alive = k.alive "
         "RETURN count(c) AS n", keys=keys, last=last)  # fmt: skip
    again = archive.reopened()
    assert again.push("r", last, topologies[last]) == "unchanged"
    in_graph = drawn(archive, "r")
    for layer in in_graph:
        assert sorted(in_graph[layer], key=repr) == sorted(lives(topologies, layer), key=repr), layer
    assert list(again.verify()) == []


def test_metrics_of_layers_are_kept_beside_those_of_the_snapshot(archive: Archive) -> None:
    """They are read back, seen by Cypher where the layer's mask is joined, added to, and never changed."""
    topology = gpt2(1).topology(np.random.default_rng(0))
    flows: dict[str, dict[str, float]] = {
        "h.0.q": {"gradient_norm": 0.5, "turnover": 0.125},
        "wte": {"gradient_norm": 2},
    }
    archive.push("r", 0, topology, metrics={"loss": 1.5}, layer_metrics=flows)
    archive.push("r", 1, topology)
    assert archive.snapshot("r@0").layer_metrics == flows
    assert [snapshot.layer_metrics for snapshot in archive.reopened().snapshots("r")] == [flows, {}]
    rows = archive.cypher(
        "MATCH (s:Snapshot {id: 'r@0'})-[h:HAS_MASK]->(:Mask) WHERE h.metric_gradient_norm > 0 "
        "RETURN h.layer AS layer, h.metric_gradient_norm AS flow ORDER BY layer"
    ).rows
    assert rows == [["h.0.q", 0.5], ["wte", 2.0]]
    more: dict[str, dict[str, float]] = {"h.0.q": {"turnover": 0.125, "hubs": 3}, "h.0.k": {"hubs": 1}}
    assert archive.push("r", 0, topology, layer_metrics=more) == "unchanged"
    expected = {
        "h.0.k": {"hubs": 1},
        "h.0.q": {"gradient_norm": 0.5, "hubs": 3, "turnover": 0.125},
        "wte": flows["wte"],
    }
    assert archive.snapshot("r@0").layer_metrics == expected
    for wrong, error, match in (
        (
            {"h.0.q": {"hubs": 4}},
            ConflictError,
            r"r@0, layer 'h.0.q': expected metric 'hubs' to be 3.0 as recorded, found 4",
        ),
        ({"h.0.q": {"x": float("nan")}}, InvalidInputError, r"layer 'h.0.q': metric 'x': expected a finite number"),
        ({"h.0.q": {"X": 1.0}}, InvalidInputError, r"layer 'h.0.q': metric 'X'"),
        ({"h.0.q": {f"m{k}": 1.0 for k in range(62)}}, InvalidInputError, "at most 64 metrics, found 65"),
        ({"nowhere": {"x": 1.0}}, NotFoundError, "found 'nowhere'"),
        ({"lm_head": {"x": 1.0}}, InvalidInputError, "'lm_head' is tied with 'wte'"),
    ):
        with pytest.raises(error, match=match):
            archive.push("r", 0, topology, layer_metrics=wrong)
    assert archive.snapshot("r@0").layer_metrics == expected
    assert list(archive.verify()) == []


def test_evolution_counts_tied_layers_once_and_explores_what_groups_allow(archive: Archive) -> None:
    """Each layer that owns its connections has a history, over as many cells as its groups leave."""
    net = llama(1)
    topologies = history(net)
    for step, topology in topologies.items():
        archive.push("r", step, topology)
    told = archive.history("r")
    assert [layer.name for layer in told.layers] == list(topologies[0].to_masks())
    assert told.total.size == net.wiring.possible
    assert told.total.alive.tolist() == [topology.nnz for topology in topologies.values()]
    between = archive.evolution("r", STEPS[0], STEPS[-1])
    first, last = topologies[STEPS[0]], topologies[STEPS[-1]]
    for layer in between.layers:
        alive = units(first, layer.name), units(last, layer.name)
        assert (layer.survived + layer.regrown, layer.died, layer.born) == (
            len(alive[0] & alive[1]), len(alive[0] - alive[1]), len(alive[1] - alive[0]),
        )  # fmt: skip
    mobile = mobilenet_v2()
    archive.push("m", 0, mobile.topology(np.random.default_rng(0)))
    sizes = {layer.name: layer.size for layer in archive.history("m").layers}
    assert sizes == {layer.name: layer.possible for layer in mobile.wiring}


@pytest.mark.parametrize("name", ["resnet18", "llama", "lstm"])
def test_distances_of_a_network_beyond_a_chain_are_kept(archive: Archive, name: str) -> None:
    """A pair, a matrix, the matrix once more from the graph, and the probable ancestry, from stored snapshots."""
    first, *_, last = history(MODELS[name]()).values()
    archive.push("a", 0, first, projection="none")
    archive.push("b", 0, last, projection="none")
    expected = nnstd(first, last, alignment="identity")
    assert archive.nnstd("a", "b", alignment="identity") == expected
    matrix = archive.distances(["*@last"], alignment="identity")
    assert matrix.nnstd.tolist() == [[0, expected.nnstd], [expected.nnstd, 0]]
    assert matrix.layers[0, 1].tolist() == [row.distance for row in expected.layers]
    again = archive.reopened().distances(["*@last"], alignment="identity")
    assert np.array_equal(again.layers, matrix.layers)
    inference = archive.infer(["*@last"], name=None, root="a").inference
    assert [(edge.parent, edge.child, edge.support) for edge in inference.edges] == [("a", "b", None)]
    with pytest.raises(InvalidInputError, match="depth: expected networks of plain layers"):
        archive.infer(["*@last"], name=None, depth=1)
