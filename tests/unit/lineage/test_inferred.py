"""Inferred ancestry: the tree, its margins, its support, its directions."""

from __future__ import annotations

from functools import partial
from itertools import combinations, pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topostrata.distance.alignments import ALIGNMENTS, Alignment
from topostrata.distance.nnstd import nnstd
from topostrata.errors import InvalidInputError
from topostrata.lineage import inferred
from topostrata.lineage import unit_terms as unit_terms_module
from topostrata.lineage.inferred import Compare, Inference, from_distances, infer
from topostrata.lineage.unit_terms import agreement, placement_of, unit_terms
from topostrata.topology import Mask, Topology

identity = partial(nnstd, alignment="identity")
canonical = partial(nnstd, alignment="canonical")
overlap = partial(nnstd, alignment="overlap")
WIDTHS = (12, 20, 20, 4)


def network(rng: np.random.Generator, widths: tuple[int, ...] = WIDTHS, density: float = 0.2) -> Topology:
    return Topology.from_masks([rng.random(shape) < density for shape in pairwise(widths)])


def rewired(rng: np.random.Generator, parent: Topology, share: float) -> Topology:
    """A child: a share of the connections of every layer has moved to free places."""
    masks = []
    for layer in parent.layers:
        cells = layer.mask.cells
        count = max(1, round(share * len(cells)))
        free = np.setdiff1d(np.arange(layer.mask.size), cells)
        remaining = np.delete(cells, rng.choice(len(cells), count, replace=False))
        new = np.sort(np.append(remaining, rng.choice(free, count, replace=False)))
        masks.append(Mask(layer.mask.n_source, layer.mask.n_target, new))
    return Topology.from_masks(masks)


def pruned(rng: np.random.Generator, parent: Topology, share: float) -> Topology:
    return Topology.from_masks(
        [
            Mask(layer.source.size, layer.target.size, layer.mask.cells[rng.random(layer.nnz) >= share])
            for layer in parent.layers
        ]
    )


def relabelled(rng: np.random.Generator, topology: Topology) -> Topology:
    """The same network with its hidden units stored in another order."""
    masks = [layer.mask.to_csc().toarray() for layer in topology.layers]
    for k in range(len(masks) - 1):
        order = rng.permutation(masks[k].shape[1])
        masks[k], masks[k + 1] = masks[k][:, order], masks[k + 1][order]
    return Topology.from_masks(masks)


def chain(rng: np.random.Generator, length: int, share: float = 0.1) -> list[Topology]:
    networks = [network(rng)]
    while len(networks) < length:
        networks.append(rewired(rng, networks[-1], share))
    return networks


def arrows(inference: Inference) -> set[tuple[str, str]]:
    return {(edge.parent, edge.child) for edge in inference.edges}


def random_distances(seed: int, n: int) -> np.ndarray:
    matrix = np.random.default_rng(seed).random((n, n))
    return np.triu(matrix, 1) + np.triu(matrix, 1).T


@pytest.mark.parametrize("epoch", ["000", "010", "050"])
@pytest.mark.parametrize("compare", [identity, canonical], ids=["identity", "canonical"])
def test_the_published_chain_is_found(reference_topologies: dict[str, Topology], epoch: str, compare: Compare) -> None:
    """Each network of the published family stands beside the one it was made from, at epochs 0, 10 and 50."""
    runs = [f"w{k}" for k in range(5)]
    inference = infer(
        [reference_topologies[f"e5_s0_{run}/epoch_{epoch}"] for run in runs], runs, compare, root="w0", samples=50
    )
    assert arrows(inference) == {("w0", "w1"), ("w1", "w2"), ("w2", "w3"), ("w3", "w4")}
    assert inference.method == "arborescence"
    assert [edge.direction for edge in inference.edges] == ["root"] * 4
    assert min(edge.support or 0 for edge in inference.edges) > 0.5
    assert min(edge.margin or 0 for edge in inference.edges) > 0.003


def test_a_chain_is_found_though_hidden_units_are_stored_in_other_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canonical distances do not look at the order of hidden units; identity distances do, and are lost."""
    rng = np.random.default_rng(1)
    networks = [relabelled(rng, topology) for topology in chain(rng, 6)]
    truth = {(f"n{k}", f"n{k + 1}") for k in range(5)}
    labels = [f"n{k}" for k in range(6)]
    inference = infer(networks, labels, canonical, samples=20)
    assert arrows(inference) == truth
    assert inference.alignment == "canonical"
    assert min(edge.support or 0 for edge in inference.edges) > 0.5
    assert arrows(infer(networks, labels, identity, samples=0)) != truth
    monkeypatch.setattr(inferred, "_CELLS", 100)  # resampled a few pairs at a time
    assert infer(networks, labels, canonical, samples=20) == inference


def test_relabelling_hidden_units_changes_no_distance_or_margin_of_the_canonical_tree() -> None:
    """What is said about a family does not depend on how its networks are stored."""
    rng = np.random.default_rng(2)
    networks = chain(rng, 5)
    labels = [f"n{k}" for k in range(5)]
    base = infer(networks, labels, canonical, samples=0)
    variant = infer([relabelled(rng, topology) for topology in networks], labels, canonical, samples=0)
    assert base == variant


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_unit_terms_add_up_to_the_distance(alignment: Alignment) -> None:
    """Layer by layer, the mean of the matched units' terms is the layer's distance, whatever the alignment."""
    rng = np.random.default_rng(3)
    base = network(rng)
    for variant in (rewired(rng, base, 0.3), network(rng), relabelled(rng, base)):
        inference = nnstd(base, variant, alignment=alignment)
        terms = unit_terms(base, variant, inference.matching)
        assert [term.distance.mean() for term in terms.spaces] == pytest.approx(
            [row.distance for row in inference.layers]
        )


@pytest.mark.parametrize("alignment", ["identity", "canonical", "refined"])
@pytest.mark.parametrize("swap", [False, True])
def test_unit_terms_of_unequal_widths_count_lone_units_as_1(alignment: Alignment, swap: bool) -> None:
    """A unit that only one network has is as far as can be, whichever network it is."""
    rng = np.random.default_rng(4)
    base, variant = network(rng, (12, 20, 15, 4)), network(rng, (12, 18, 17, 4))
    base, variant = (variant, base) if swap else (base, variant)
    inference = nnstd(base, variant, alignment=alignment)
    terms = unit_terms(base, variant, inference.matching)
    assert [term.distance.mean() for term in terms.spaces] == pytest.approx([row.distance for row in inference.layers])
    assert [int(((term.ours < 0) | (term.theirs < 0)).sum()) for term in terms.spaces] >= [2, 2, 0]


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_the_tree_is_the_shortest(seed: int, n: int) -> None:
    """No spanning tree is shorter, and the root only says how it is read."""
    matrix = random_distances(seed, n)
    labels = [f"n{k}" for k in range(n)]
    graph = nx.Graph()
    graph.add_weighted_edges_from((labels[i], labels[j], matrix[i, j]) for i, j in combinations(range(n), 2))
    shortest = {frozenset(edge) for edge in nx.minimum_spanning_tree(graph).edges}
    tree = from_distances(labels, matrix, alignment="identity")
    rooted = from_distances(labels, matrix, alignment="identity", root=labels[seed % n])
    assert {frozenset(edge) for edge in arrows(tree)} == {frozenset(edge) for edge in arrows(rooted)} == shortest
    assert nx.is_arborescence(rooted.graph())
    assert rooted.nodes[0] == rooted.root == labels[seed % n]


@given(st.integers(0, 10_000), st.integers(3, 7))
def test_a_margin_is_what_the_tree_grows_by_without_its_edge(seed: int, n: int) -> None:
    """Forbidding an edge and looking again gives a tree that is longer by exactly the margin."""
    matrix = random_distances(seed, n)
    labels = [f"n{k}" for k in range(n)]

    def length(distances: np.ndarray) -> float:
        return sum(edge.distance for edge in from_distances(labels, distances, alignment="identity").edges)

    for edge in from_distances(labels, matrix, alignment="identity").edges:
        without = matrix.copy()
        i, j = labels.index(edge.parent), labels.index(edge.child)
        without[i, j] = without[j, i] = 100
        assert edge.margin == pytest.approx(length(without) - length(matrix))


@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 4))
def test_nobody_descends_from_a_younger_network(seed: int, n: int, ages: int) -> None:
    """With times the tree is the shortest of those whose parents are not younger than their children."""
    rng = np.random.default_rng(seed)
    matrix = random_distances(seed, n)
    labels = [f"n{k}" for k in range(n)]
    times = [0, *rng.integers(0, ages, n - 1).tolist()]
    inference = from_distances(labels, matrix, alignment="identity", root="n0", times=times)
    age = dict(zip(labels, times, strict=True))
    assert all(age[parent] <= age[child] for parent, child in arrows(inference))
    assert nx.is_arborescence(inference.graph())
    allowed = nx.DiGraph()
    allowed.add_weighted_edges_from(
        (labels[i], labels[j], matrix[i, j]) for i in range(n) for j in range(1, n) if i != j and times[i] <= times[j]
    )
    best = nx.minimum_spanning_arborescence(allowed).size("weight")
    assert sum(edge.distance for edge in inference.edges) == pytest.approx(best)
    assert {edge.direction for edge in inference.edges} <= {"root", "time"}
    assert all(edge.margin is None or edge.margin >= 0 for edge in inference.edges)


def test_times_alone_tell_the_root_and_the_directions() -> None:
    """The oldest network is the root; an edge between different ages is directed by time."""
    labels, times = ["c", "a", "b"], [30, 10, 20]
    networks = chain(np.random.default_rng(5), 3)
    inference = infer([networks[2], networks[0], networks[1]], labels, identity, times=times, samples=10)
    assert inference.root == "a"
    assert [(edge.parent, edge.child, edge.direction) for edge in inference.edges] == [
        ("a", "b", "time"),
        ("b", "c", "time"),
    ]
    assert inference.edges[0].margin is None  # nobody else is older than b
    assert inference.edges[1].margin == pytest.approx(
        identity(networks[0], networks[2]).nnstd - identity(networks[1], networks[2]).nnstd
    )


def test_times_that_are_all_the_same_say_nothing() -> None:
    """Networks of one age form an undirected tree."""
    inference = infer(chain(np.random.default_rng(6), 3), ["a", "b", "c"], identity, times=[7, 7, 7], samples=0)
    assert (inference.method, inference.root) == ("tree", None)
    assert {edge.direction for edge in inference.edges} == {"unknown"}


def test_pruning_reveals_the_direction() -> None:
    """A network with a part of another's connections and no others was pruned from it, however units are stored."""
    rng = np.random.default_rng(7)
    networks = [network(rng)]
    networks += [pruned(rng, networks[0], 0.2), pruned(rng, networks[0], 0.3)]
    networks.append(pruned(rng, networks[1], 0.2))
    stranger = rewired(rng, networks[2], 0.05)
    inference = infer([*networks, stranger], ["z", "y", "x", "w", "v"], identity, samples=0)
    known = {(edge.parent, edge.child) for edge in inference.edges if edge.direction == "subset"}
    assert known == {("z", "y"), ("z", "x"), ("y", "w")}
    assert {(edge.parent, edge.child) for edge in inference.edges if edge.direction == "unknown"} == {("v", "x")}
    stored_anew = infer([relabelled(rng, t) for t in networks], ["z", "y", "x", "w"], canonical, samples=0)
    assert ("z", "y", "subset") in {(edge.parent, edge.child, edge.direction) for edge in stored_anew.edges}


def test_support_is_low_where_the_tree_is_a_guess() -> None:
    """Edges of a family come back in the resamples; edges between unrelated networks often do not."""
    rng = np.random.default_rng(8)
    labels = [f"n{k}" for k in range(6)]
    related = infer(chain(rng, 6, 0.15), labels, identity)
    unrelated = infer([network(rng) for _ in range(6)], labels, identity)
    assert min(edge.support or 0 for edge in related.edges) > 0.9
    assert np.mean([edge.support for edge in unrelated.edges]) < 0.7
    assert related.samples == 200


def test_support_of_identity_is_the_bootstrap_of_units() -> None:
    """With one index for all networks a resample is the distance over the drawn units, computed here by hand."""
    rng = np.random.default_rng(9)
    widths = (8, 9, 7)
    networks = [network(rng, widths, 0.4) for _ in range(4)]
    labels = ["a", "b", "c", "d"]
    inference = infer(networks, labels, identity, samples=300, seed=11)
    terms = {
        (i, j): [
            term.distance
            for term in unit_terms(networks[i], networks[j], identity(networks[i], networks[j]).matching).spaces
        ]
        for i, j in combinations(range(4), 2)
    }
    drawing = np.random.default_rng(11)
    draws = [drawing.multinomial(n, np.full(n, 1 / n), 300) for n in widths[1:]]
    seen: dict[tuple[str, str], int] = {}
    for s in range(300):
        matrix = np.zeros((4, 4))
        for (i, j), parts in terms.items():
            matrix[i, j] = matrix[j, i] = np.mean(
                [np.average(part, weights=draw[s]) for part, draw in zip(parts, draws, strict=True)]
            )
        for arrow in arrows(from_distances(labels, matrix, alignment="identity")):
            seen[arrow] = seen.get(arrow, 0) + 1
    assert {(e.parent, e.child): e.support for e in inference.edges} == {
        (e.parent, e.child): seen[e.parent, e.child] / 300 for e in inference.edges
    }


def test_the_order_in_which_networks_are_handed_in_changes_nothing() -> None:
    """Even between networks that are all equally far apart."""
    labels = ["b", "d", "a", "c"]
    matrix = np.ones((4, 4)) - np.eye(4)
    again = from_distances(sorted(labels), matrix, alignment="identity")
    assert from_distances(labels, matrix, alignment="identity") == again
    assert [edge.margin for edge in again.edges] == [0.0] * 3


def test_networks_of_unequal_widths_and_unlike_names_have_an_ancestry() -> None:
    """Hidden spaces may differ in width and all spaces in name; the bootstrap counts a unit without a partner, too."""
    rng = np.random.default_rng(10)
    networks = [network(rng, (12, n, 16, 4)) for n in (20, 22, 18)]
    inference = infer(networks, ["a", "b", "c"], canonical, samples=20)
    assert len(inference.edges) == 2
    assert all(0 <= (edge.support or 0) <= 1 for edge in inference.edges)


def test_topologies_may_be_loaded_late_and_progress_is_told() -> None:
    """Callables are called once each; progress counts the pairs."""
    networks = chain(np.random.default_rng(11), 4)
    told: list[tuple[int, int]] = []
    inference = infer(
        [lambda t=t: t for t in networks],  # type: ignore[misc]
        ["a", "b", "c", "d"],
        identity,
        samples=0,
        progress=lambda done, every: told.append((done, every)),
    )
    assert told == [(k, 6) for k in range(1, 7)]
    assert {edge.support for edge in inference.edges} == {None}
    assert inference.samples == 0


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a"], {}, "two networks or more, found 1"),
        (["a", "b", "a"], {}, "expected each once, found 'a' 2 times"),
        (["a", "b", "c"], {"root": "x"}, "expected one of the networks, found 'x'"),
        (["a", "b", "c"], {"times": [1, 2]}, "one finite number for each of 3 networks"),
        (["a", "b", "c"], {"times": [1, float("nan"), 2]}, "one finite number"),
        (["a", "b", "c"], {"times": [1, 1, 2]}, "one oldest network, found 2: a, b"),
        (["a", "b", "c"], {"times": [1, 2, 3], "root": "b"}, "no network older than the root, found 'a' before 'b'"),
    ],
)
def test_what_cannot_be_a_family_is_refused(labels: list[str], options: dict[str, Any], message: str) -> None:
    """Each refusal says what was expected and what was found."""
    with pytest.raises(InvalidInputError, match=message):
        from_distances(labels, np.zeros((len(labels), len(labels))), alignment="identity", **options)


def test_units_are_in_place_in_a_family_and_renamed_by_relabelling() -> None:
    """The connections alone tell, and the networks out of place are named; so do shapes that differ."""
    rng = np.random.default_rng(13)
    family = chain(rng, 6, 0.2)
    placement = placement_of(family)
    assert (placement.units, placement.by, placement.out_of_place) == ("in-place", "connections", ())
    assert placement.agreement == min(max(agreement(a, b) for b in family if b is not a) for a in family)
    renamed = placement_of([relabelled(rng, topology) for topology in family])
    assert (renamed.units, renamed.out_of_place) == ("renamed", (0, 1, 2, 3, 4, 5))
    assert placement_of([network(rng) for _ in range(6)]).units == "renamed"
    shapes = placement_of([network(rng), network(rng, (12, 21, 20, 4))])
    assert (shapes.units, shapes.by, shapes.agreement) == ("renamed", "shapes", None)


def test_one_network_stored_in_another_order_is_enough_to_match_units() -> None:
    """By index it would hang anywhere; it is named."""
    rng = np.random.default_rng(19)
    family = chain(rng, 6, 0.1)
    family[2] = relabelled(rng, family[2])
    placement = placement_of(family)
    assert (placement.units, placement.out_of_place) == ("renamed", (2,))
    assert placement.agreement is not None
    assert placement.agreement < 5


@pytest.mark.parametrize("epoch", ["000", "010", "050"])
@pytest.mark.parametrize("seed", [None, 21, 22, 23], ids=["in place", "renamed 1", "renamed 2", "renamed 3"])
def test_the_default_finds_the_published_chain(
    reference_topologies: dict[str, Topology], epoch: str, seed: int | None
) -> None:
    """At every epoch, in place by index and renamed by overlap, which the placement tells apart."""
    runs = [f"w{k}" for k in range(5)]
    networks = [reference_topologies[f"e5_s0_{run}/epoch_{epoch}"] for run in runs]
    if seed is not None:
        rng = np.random.default_rng(seed)
        networks = [
            t.relabelled({space.name: rng.permutation(space.size) for space in t.spaces if not space.labelled})
            for t in networks
        ]
    placement = placement_of(networks)
    assert placement.units == ("in-place" if seed is None else "renamed")
    compare = identity if placement.units == "in-place" else overlap
    inference = infer(networks, runs, compare, samples=0)
    assert {frozenset((edge.parent, edge.child)) for edge in inference.edges} == {
        frozenset(pair) for pair in pairwise(runs)
    }


def test_agreement_is_what_shuffling_says() -> None:
    """The number of standard deviations is that of many real shuffles of the hidden units."""
    rng = np.random.default_rng(14)
    base = network(rng)
    variant = rewired(rng, base, 0.3)

    def shared(a: Topology, b: Topology) -> int:
        return sum(len(np.intersect1d(x.mask.cells, y.mask.cells)) for x, y in zip(a.layers, b.layers, strict=True))

    shuffled = np.array([shared(base, relabelled(rng, variant)) for _ in range(400)])
    assert agreement(base, variant) == pytest.approx(
        (shared(base, variant) - shuffled.mean()) / shuffled.std(), rel=0.2
    )
    assert abs(agreement(base, relabelled(rng, variant))) < 4
    assert agreement(Topology.from_masks([np.eye(3)]), Topology.from_masks([np.eye(3)])) == 0


def test_hubs_that_meet_by_chance_are_no_agreement() -> None:
    """Independent networks of strong hubs, dense ones too, never look as if their units were in place."""
    rng = np.random.default_rng(20)

    def hubs(density: float) -> Topology:
        masks = []
        for widths in pairwise((50, 100, 100, 5)):
            chances = np.outer(*(rng.lognormal(0, 1, width) for width in widths))
            masks.append(rng.random(widths) < np.minimum(chances * density / chances.mean(), 0.95))
        return Topology.from_masks(masks)

    values = [agreement(hubs(density), hubs(density)) for density in (0.05, 0.2, 0.5) for _ in range(30)]
    assert max(np.abs(values)) < 4
    assert np.std(values) < 1.3


def test_a_depth_takes_the_first_spaces_only() -> None:
    """At depth 1 the distances are those of the first layer."""
    networks = [network(np.random.default_rng(seed)) for seed in (15, 16, 17)]
    for compare in (canonical, partial(nnstd, alignment="reference")):
        inference = infer(networks, ["0", "1", "2"], compare, depth=1, samples=5)
        assert inference.depth == 1
        for edge in inference.edges:
            a, b = networks[int(edge.parent)], networks[int(edge.child)]
            both = [compare(a, b).layers[0].distance, compare(b, a).layers[0].distance]
            assert edge.distance == pytest.approx(np.mean(both))
    with pytest.raises(InvalidInputError, match="at least 1 space, found 0"):
        infer(networks, ["0", "1", "2"], canonical, depth=0)


def test_there_is_one_label_for_each_network() -> None:
    """Labels and networks are not paired by guessing."""
    with pytest.raises(InvalidInputError, match="one for each of the 3 networks, found 2"):
        infer(chain(np.random.default_rng(12), 3), ["a", "b"], identity)


def test_masks_too_wide_for_a_table_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their cells are looked up in order; terms and agreement are those of a table, to the bit."""
    networks = chain(np.random.default_rng(13), 3)
    same = {space: np.arange(size) for space, size in _sizes(networks[0]).items()}
    answers = []
    for most in (unit_terms_module._TABLE, 0):
        monkeypatch.setattr(unit_terms_module, "_TABLE", most)
        pair = unit_terms(networks[0], networks[2], same)
        answers.append((pair.common, [term.distance.tolist() for term in pair.spaces], agreement(*networks[:2])))
    assert answers[0] == answers[1]
    assert 0 < answers[0][0] < networks[0].nnz


def _sizes(network: Topology) -> dict[str, int]:
    return {space.name: space.size for space in network.wiring.spaces}
