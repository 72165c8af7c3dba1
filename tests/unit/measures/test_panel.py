"""The structure panel on the published networks, by hand, and against slow plain definitions on every kind of network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import minimize_scalar
from scipy.special import zeta

from tests.wirings import MODELS, random_network
from topostrata.errors import InvalidInputError
from topostrata.measures import panel
from topostrata.measures.degrees import FEWEST, assortativity, power_law, variation
from topostrata.measures.panel import measure, over_run
from topostrata.measures.paths import effective_part, effective_paths
from topostrata.measures.spectra import ramanujan
from topostrata.topology import Layer, LayerShape, Mask, Part, Space, Topology, Wiring

# The values of published networks, layers 0 to 2 (3): counted and fitted by another implementation. Its last gap of
# degrees read -1.3974803954; a singular value decomposition of the whole matrix gives what stands here.
PUBLISHED = {
    "e5_s0_w0/epoch_000": {
        "connections": [3772, 3656, 3498, 7840],
        "active_rate": 0.9917355371900827,
        "effective_paths": 797490,
        "effective_connections": [3733, 3540, 3406, 7640],
        "effective_units": [776, 758, 755, 764, 10],
        "fan_in_cv": [0.48688303324048043, 0.4967562810973662, 0.523480295834488],
        "fan_out_cv": [0.46547513117461736, 0.47329560908869234, 0.4841842408287278],
        "assortativity": [-0.006893136988316847, 0.0010472464943755769, -0.018151652746932832],
        "gap": [-0.2604088649, -0.4262477790, -0.3355243343],
        "gap_of_degrees": [-0.8370337399, -1.0237939032, -0.9579068351],
        "laws": [(6.197, 7), (12.186, 10)],
    },
    "e5_s0_w0/epoch_050": {
        "connections": [3701, 3393, 3094, 7840],
        "active_rate": 0.9885568976478067,
        "effective_paths": 790900,
        "effective_connections": [3674, 3252, 3001, 7390],
        "effective_units": [775, 750, 737, 739, 10],
        "fan_in_cv": [0.7320918910571577, 0.6190177882221392, 0.6240900093052156],
        "fan_out_cv": [0.4656224524188803, 0.49806850835711836, 0.5861955585797195],
        "assortativity": [0.009165683931245023, 0.014596047959267, 0.05688512406300878],
        "gap": [-0.8528899771, -0.7456081400, -0.4915439809],
        "gap_of_degrees": [-1.8406231798, -1.5879857463, -1.3973803954],
        "laws": [(3.880, 6), (8.670, 8)],
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_of_published_networks(reference_topologies: dict[str, Topology], name: str) -> None:
    """Every measure is what another implementation found, to 1e-9, spectra to 1e-6."""
    expected = PUBLISHED[name]
    measured = measure(reference_topologies[name])
    layers = measured.layers
    assert [layer.connections for layer in layers] == expected["connections"]
    assert measured.active_rate == pytest.approx(expected["active_rate"], abs=1e-9)
    assert measured.effective_paths == expected["effective_paths"]
    assert [layer.effective_connections for layer in layers] == expected["effective_connections"]
    assert measured.effective_connections == sum(expected["effective_connections"])
    assert [space.effective for space in measured.spaces] == expected["effective_units"]
    for measure_name in ("fan_in_cv", "fan_out_cv", "assortativity"):
        values = [getattr(layer, measure_name) for layer in layers[:3]]
        assert values == pytest.approx(expected[measure_name], abs=1e-9)
    for gap in ("gap", "gap_of_degrees"):
        assert [getattr(layer.ramanujan, gap) for layer in layers[:3]] == pytest.approx(expected[gap], abs=1e-6)
    laws = (layers[0].fan_in_power_law, layers[0].fan_out_power_law)
    assert [(round(law.exponent, 3), law.x_min) for law in laws if law is not None] == expected["laws"]
    assert layers[3].assortativity is None
    assert layers[3].fan_in_power_law is None
    assert layers[3].ramanujan is not None
    assert (layers[3].ramanujan.mu_1, layers[3].ramanujan.mu_2) == (math.sqrt(7840), 0)


def networks() -> Iterator[tuple[str, Topology]]:
    """Every kind of network, and random ones that have all that can be said."""
    for name, model in MODELS.items():
        yield name, model().topology(np.random.default_rng(1), 0.1)
    for seed in range(60):
        random = np.random.default_rng(seed)
        yield f"random {seed}", random_network(random).topology(random, float(random.choice([0.2, 0.5, 1.0])))


NETWORKS = dict(networks())


def connections(layer: Layer) -> list[tuple[int, int, int]]:
    """Its connections as (source, tap, target), worked out from the definitions of a cell and of a group."""
    shape = layer.shape
    local, per_group = layer.source.size // layer.groups, layer.target.size // layer.groups
    triples = []
    for cell in layer.mask.cells.tolist():
        target, key = divmod(cell, local * shape.taps)
        source, tap = divmod(key, shape.taps)
        triples.append((target // per_group * local + source, tap, target))
    return triples


def ends(wiring: Wiring) -> tuple[set[str], set[str]]:
    """The spaces in which paths begin and end, by when they are first and last entered and read."""
    entries: dict[str, list[int]] = {}
    reads: dict[str, list[int]] = {}
    for k, layer in enumerate(wiring.layers):
        if not layer.loops:
            entries.setdefault(layer.target.name, []).append(k)
            reads.setdefault(layer.source.name, []).append(k)
    names = {space.name for space in wiring.spaces}
    never = len(wiring)
    inputs = {
        name
        for name in names
        if min(entries.get(name, [never])) >= min(reads.get(name, [never])) or name not in entries
    }
    outputs = {name for name in names if max(reads.get(name, [-1])) < max(entries.get(name, [0])) or name not in reads}
    return inputs, outputs


@pytest.mark.parametrize("name", NETWORKS)
def test_paths_are_counted_connection_by_connection(name: str) -> None:
    """A path is a row of connections of ever later layers, each from where the one before it ends; loops are refused."""
    topology = NETWORKS[name]
    loops = [layer.name for layer in topology.layers if layer.shape.loops]
    if loops:
        with pytest.raises(InvalidInputError, match=f"self-loops, found layer '{loops[0]}'"):
            effective_paths(topology)
        assert measure(topology, spectra=False).effective_paths is None
        assert "self-loops" in measure(topology, spectra=False).refused["effective_paths"]
        return
    inputs, outputs = ends(topology.wiring)
    leaving: Counter[tuple[str, int]] = Counter()  # paths from a unit onwards, over the layers looked at so far
    total = 0
    for layer in reversed(topology.layers):
        new: Counter[tuple[str, int]] = Counter()
        for source, _, target in connections(layer):
            new[layer.source.name, source] += (layer.target.name in outputs) + leaving[layer.target.name, target]
        leaving += new
        total += sum(count for (space, _), count in new.items() if space in inputs)
    assert effective_paths(topology) == total
    assert measure(topology, spectra=False).effective_paths == total


@pytest.mark.parametrize("name", NETWORKS)
def test_effective_units_are_the_ends_of_effective_connections(name: str) -> None:
    """A unit is effective where an effective connection begins or ends, in any place of a tied layer."""
    topology = NETWORKS[name]
    part = effective_part(topology)
    if topology.wiring.shared_with:
        return
    units = {
        (space, unit)
        for layer in topology.layers
        for (source, _, target), effective in zip(connections(layer), part.connections[layer.name], strict=True)
        if effective
        for space, unit in ((layer.source.name, source), (layer.target.name, target))
    }
    assert {(space, int(u)) for space, flags in part.units.items() for u in np.flatnonzero(flags)} == units


@pytest.mark.parametrize("name", NETWORKS)
def test_degrees_and_spectra_of_every_kind_of_network(name: str) -> None:
    """Variation, assortativity, active rate and gaps agree with plain definitions over listed connections."""
    topology = NETWORKS[name]
    measured = measure(topology)
    owners = [layer for layer in topology.layers if layer.name not in topology.wiring.shared_with]
    assert [layer.name for layer in measured.layers] == [layer.name for layer in owners]
    for layer, answer in zip(owners, measured.layers, strict=True):
        triples = connections(layer)
        k_out, k_in = Counter(s for s, _, _ in triples), Counter(t for _, _, t in triples)
        fan_out = [k_out[s] for s in range(layer.source.size)]
        fan_in = [k_in[t] for t in range(layer.target.size)]
        assert answer.active_rate == len(k_out) / layer.source.size
        if not triples:
            assert (answer.fan_in_cv, answer.fan_out_cv, answer.assortativity, answer.ramanujan) == (None,) * 4
            continue
        assert answer.fan_in_cv == pytest.approx(scipy.stats.variation(fan_in), abs=1e-9)
        assert answer.fan_out_cv == pytest.approx(scipy.stats.variation(fan_out), abs=1e-9)
        pairs = [(k_out[s], k_in[t]) for s, _, t in triples]
        if any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
            assert answer.assortativity is None
        else:
            assert answer.assortativity == pytest.approx(scipy.stats.pearsonr(*zip(*pairs, strict=True))[0], abs=1e-9)
        matrix = np.zeros((layer.source.size * layer.taps, layer.target.size))
        for source, tap, target in triples:
            matrix[source * layer.taps + tap, target] = 1
        mu_1, mu_2 = [*np.linalg.svd(matrix, compute_uv=False), 0.0][:2]
        d_left, d_right = (len(triples) / np.count_nonzero(matrix.any(axis=axis)) for axis in (1, 0))
        assert answer.ramanujan is not None
        assert answer.ramanujan.mu_1 == pytest.approx(mu_1, abs=1e-6)
        assert answer.ramanujan.mu_2 == pytest.approx(mu_2, abs=1e-6)
        assert answer.ramanujan.gap == pytest.approx(2 * math.sqrt(max(mu_1 - 1, 0)) - mu_2, abs=1e-5)
        gap = math.sqrt(d_left - 1) + math.sqrt(d_right - 1) - mu_2
        assert answer.ramanujan.gap_of_degrees == pytest.approx(gap, abs=1e-6)
    out = {(layer.source.name, s) for layer in topology.layers for s, _, _ in connections(layer)}
    into = {(layer.target.name, t) for layer in topology.layers for _, _, t in connections(layer)}
    read = {layer.source.name for layer in topology.layers}
    units = [(space.name, unit) for space in topology.spaces for unit in range(space.size)]
    active = sum(unit in (out if unit[0] in read else into) for unit in units)
    assert measured.active_rate == active / len(units)


def test_spectra_of_wide_layers() -> None:
    """Above the width that is decomposed whole, Lanczos finds the same two values, equal ones in blocks apart too."""
    random = np.random.default_rng(0)
    block = random.random((1300, 1250)) < 0.01
    for matrix in (block, np.kron(np.eye(2), block)):
        layer = Topology.from_masks([matrix]).layers[0]
        values = np.linalg.svd(block.astype(float), compute_uv=False)
        mu = values[:2] if matrix is block else values[[0, 0]]
        measured = ramanujan(layer)
        assert measured is not None
        assert (measured.mu_1, measured.mu_2) == pytest.approx(mu, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_power_laws_are_the_likeliest_and_closest(seed: int) -> None:
    """For each x_min a search of the likelihood, then the distance at every whole degree: the same law comes out."""
    random = np.random.default_rng(seed)
    degree = random.zipf(random.uniform(1.8, 3.5), 300) if seed % 2 else random.poisson(random.uniform(3, 20), 400)
    degree = np.minimum(degree, 500)
    expected = []
    for x_min in np.unique(degree[degree > 0])[:-1].tolist():
        tail = degree[degree >= x_min]
        if tail.size < FEWEST:
            continue
        logarithms = np.log(tail).sum()
        alpha = minimize_scalar(
            lambda a, q=x_min, n=tail.size, s=logarithms: n * np.log(zeta(a, q)) + a * s,
            bounds=(1.005, 100),
            method="bounded",
            options={"xatol": 1e-9},
        ).x
        every = np.arange(x_min, tail.max() + 1)
        shares = np.searchsorted(np.sort(tail), every, side="right") / tail.size
        distance = np.abs(shares - (1 - zeta(alpha, every + 1) / zeta(alpha, x_min))).max()
        expected.append((distance, x_min, alpha, tail.size))
    distance, x_min, alpha, units = min(expected)
    law = power_law(degree)
    assert law is not None
    assert (law.x_min, law.units) == (x_min, units)
    assert law.exponent == pytest.approx(alpha, abs=1e-5)
    assert law.distance == pytest.approx(distance, abs=1e-6)


def test_what_has_no_tail_has_no_power_law() -> None:
    """Units of one degree, fewer than ten units, and none with a connection."""
    assert power_law(np.full(50, 4)) is None
    assert power_law(np.array([1, 2, 3, 4])) is None
    assert power_law(np.zeros(50, dtype=np.int64)) is None


def test_a_tail_too_steep_for_floats_has_no_power_law() -> None:
    """Degrees of 5,000 and 5,001 alone would need an exponent of thousands."""
    assert power_law(np.repeat([5000, 5001], [40, 2])) is None


def test_paths_of_deep_networks_are_exact() -> None:
    """A hundred full layers of ten units: ten to the power of 101 paths, to the last digit."""
    measured = measure(Topology.from_masks([np.ones((10, 10))] * 100), spectra=False)
    assert measured.effective_paths == 10**101
    assert measured.effective_paths_log10 == pytest.approx(101)


def test_a_count_that_nobody_can_print_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of too many digits: the panel has the logarithm, the function of its own all digits."""
    monkeypatch.setattr(panel, "_MOST_DIGITS", 50)
    topology = Topology.from_masks([np.ones((10, 10))] * 60)
    measured = measure(topology, spectra=False)
    assert measured.effective_paths is None
    assert measured.refused == {
        "effective_paths": "effective paths: expected a number of at most 50 digits, found one of 62: "
        "ts.effective_paths gives it"
    }
    assert measured.effective_paths_log10 == pytest.approx(61)
    assert effective_paths(topology) == 10**61


def test_a_stream_that_the_wiring_does_not_fill_has_no_path_without_connections() -> None:
    """Two units pass by the block untouched: only the ways through it are paths, also where the block reads its result."""
    stream, inner = Space("stream", 2), Space("inner", 1)
    wiring = Wiring((LayerShape("a", stream, inner), LayerShape("b", inner, stream)))
    topology = wiring.place({"a": np.array([[1], [1]]), "b": np.array([[1, 1]])})
    assert effective_paths(topology) == 4


def test_tied_layers_are_one_and_effective_in_either_place() -> None:
    """Token 0 feeds unit 0, which feeds class 0: one connection in two places, on one path."""
    tokens, stream = Space("tokens", 2, labelled=True), Space("stream", 2)
    layers = (
        LayerShape("embed", tokens, stream, part=Part("wte", orientation="in-out")),
        LayerShape("head", stream, Space("logits", 2, labelled=True), part=Part("wte", orientation="out-in")),
    )
    measured = measure(Wiring(layers).place({"wte": np.array([[1, 0], [0, 0]])}))
    assert [(layer.name, layer.connections, layer.effective_connections) for layer in measured.layers] == [
        ("embed", 1, 1)
    ]
    assert (measured.connections, measured.effective_units, measured.effective_paths) == (1, 3, 1)
    assert measured.active_rate == 0.5


def test_empty_layers_have_no_measures_but_counts() -> None:
    """Without a connection there is neither spread nor path nor spectrum."""
    layer = Layer("l0", Space("a", 3), Space("b", 2), Mask(3, 2, np.empty(0, dtype=np.int64)))
    measured = measure(Topology((layer,)))
    assert (measured.effective_paths, measured.effective_paths_log10, measured.active_rate) == (0, None, 0)
    assert (variation(layer.fan_in), assortativity(layer), ramanujan(layer)) == (None, None, None)


def test_the_share_that_was_ever_alive_is_added() -> None:
    """`over_run` puts the in-time over-parameterisation beside the layers that it belongs to."""
    measured = measure(Topology.from_masks([np.eye(2), np.eye(2)]))
    added = over_run(measured, {"l0": 0.75, "l1": 0.5}, 0.625)
    assert [layer.explored for layer in added.layers] == [0.75, 0.5]
    assert added.explored == 0.625


def test_numbers_of_copies_and_seeds_are_checked() -> None:
    """Too many copies and a seed below 0 are refused before anything is measured."""
    topology = Topology.from_masks([np.eye(2)])
    for null, seed in ((-1, 0), (1001, 0), (1, -1)):
        with pytest.raises(InvalidInputError, match="expected 0 to 1000 copies and a seed of 0 or above"):
            measure(topology, null=null, seed=seed)


@pytest.mark.parametrize("name", NETWORKS)
def test_measures_of_the_whole_network_are_those_of_its_units(name: str) -> None:
    """Degrees of each unit over all layers at its space, counted connection by connection."""
    topology = NETWORKS[name]
    into: Counter[tuple[str, int]] = Counter()
    out: Counter[tuple[str, int]] = Counter()
    joined = []
    for layer in topology.layers:
        for source, _, target in connections(layer):
            joined.append(((layer.source.name, source), (layer.target.name, target)))
            out[joined[-1][0]] += 1
            into[joined[-1][1]] += 1
    entered = {layer.target.name: layer.target.size for layer in topology.layers}
    read = {layer.source.name: layer.source.size for layer in topology.layers}
    fan_in = np.array([into[space, unit] for space, size in entered.items() for unit in range(size)])
    fan_out = np.array([out[space, unit] for space, size in read.items() for unit in range(size)])
    measured = measure(topology, spectra=False)
    if not joined:
        assert (measured.fan_in_cv, measured.fan_out_cv, measured.assortativity) == (None, None, None)
        return
    assert measured.fan_in_cv == pytest.approx(fan_in.std() / fan_in.mean(), rel=1e-12)
    assert measured.fan_out_cv == pytest.approx(fan_out.std() / fan_out.mean(), rel=1e-12)
    at_sources, at_targets = [out[a] for a, _ in joined], [into[b] for _, b in joined]
    if len(set(at_sources)) == 1 or len(set(at_targets)) == 1:
        assert measured.assortativity is None
    else:
        correlation = scipy.stats.pearsonr(at_sources, at_targets).statistic
        assert measured.assortativity == pytest.approx(correlation, rel=1e-9, abs=1e-12)


def test_of_one_layer_the_network_is_the_layer() -> None:
    """Its CVs and assortativity are the layer's, and there is none where all degrees are the same."""
    topology = Topology.from_masks([[[1, 1, 0], [1, 0, 0], [1, 1, 1]]])
    measured = measure(topology)
    (layer,) = measured.layers
    numbers = (measured.fan_in_cv, measured.fan_out_cv, measured.assortativity)
    assert numbers == (layer.fan_in_cv, layer.fan_out_cv, layer.assortativity)
    full = measure(Topology.from_masks([np.ones((3, 3))]))
    assert (full.fan_in_cv, full.fan_out_cv, full.assortativity) == (0, 0, None)
