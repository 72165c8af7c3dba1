"""What distances promise on every kind of wiring: residual streams, self-loops, groups, heads, shared axes, tied layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.distance.kinds import KINDS, anything, drawn, pairs_of, shuffled
from tests.unit.distance.networks import rewired
from tests.wirings import MODELS, Network, labelled
from topostrata.distance.alignments import Alignment
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import nnstd
from topostrata.distance.pairwise import distances
from topostrata.distance.plan import plan_of
from topostrata.errors import NotComparableError
from topostrata.topology import Axis, LayerShape, Mask, Space, Topology, Wiring

KNOWING: tuple[Alignment, ...] = ("overlap", "canonical", "refined", "identity")
LABEL_FREE = KNOWING[:3]
EITHER = st.one_of(pairs_of(), anything())


@given(EITHER)
@settings(max_examples=150)
def test_the_distance_of_a_network_to_itself_is_zero(pair: tuple[Topology, Topology]) -> None:
    """A network of any kind is at distance 0 from itself."""
    for alignment in KNOWING:
        assert nnstd(pair[0], pair[0], alignment=alignment).nnstd == 0.0


@given(EITHER, st.booleans())
@settings(max_examples=200)
def test_swapping_the_networks_changes_no_bit(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """The distance of two networks of any kind is symmetric to the bit."""
    a, b = pair
    for alignment in KNOWING:
        forth = nnstd(a, b, alignment=alignment, fix_output=fix_output)
        back = nnstd(b, a, alignment=alignment, fix_output=fix_output)
        assert [row.distance for row in forth.layers] == [row.distance for row in back.layers]
        assert [row.ambiguous for row in forth.layers] == [row.ambiguous for row in back.layers]


@given(EITHER, st.integers(0, 2**32))
@settings(max_examples=300)
def test_no_symmetry_of_the_wiring_changes_a_canonical_distance(pair: tuple[Topology, Topology], seed: int) -> None:
    """To the bit."""
    rng = np.random.default_rng(seed)
    for alignment in LABEL_FREE:
        distance = nnstd(*pair, alignment=alignment)
        if distance.canonical:
            again = nnstd(*(shuffled(rng, topology) for topology in pair), alignment=alignment)
            assert [row.distance for row in again.layers] == [row.distance for row in distance.layers]
            assert [row.ambiguous for row in again.layers] == [row.ambiguous for row in distance.layers]


@given(EITHER, st.integers(0, 2**32))
@settings(max_examples=200)
def test_a_relabelled_copy_is_at_zero_where_the_result_says_canonical(
    pair: tuple[Topology, Topology], seed: int
) -> None:
    """A copy with its units renamed is at distance 0 wherever the result is canonical."""
    copy = shuffled(np.random.default_rng(seed), pair[0])
    for alignment in LABEL_FREE:
        distance = nnstd(pair[0], copy, alignment=alignment)
        assert distance.nnstd == 0.0 or not distance.canonical


@given(EITHER, st.booleans())
@settings(max_examples=200)
def test_the_matching_explains_the_value(pair: tuple[Topology, Topology], fix_output: bool) -> None:
    """Recomputed from the units that were matched, row by row, with Python sets."""
    for alignment in KNOWING:
        distance = nnstd(*pair, alignment=alignment, fix_output=fix_output)
        if not any(layer.tap_axes for layer in pair[0].layers):
            assert [row.distance for row in distance.layers] == recomputed(*pair, distance.matching)
        assert all(0.0 <= row.distance <= 1.0 for row in distance.layers)
        assert distance.nnstd == math.fsum(row.distance for row in distance.layers) / len(distance.layers)


@pytest.mark.parametrize("density", [0.2, 0.6])
@pytest.mark.parametrize("name", MODELS)
def test_architectures_are_canonical_and_their_relabelled_copies_at_zero(name: str, density: float) -> None:
    """With sparse and with dense layers; nothing is held; a copy with some connections moved is near, not at zero."""
    rng = np.random.default_rng(11)
    topology = MODELS[name]().topology(rng, density)
    copy, near = nnstd(topology, shuffled(rng, topology)), nnstd(topology, rewired(rng, topology, 0.1))
    far = nnstd(topology, MODELS[name]().topology(rng, density))
    assert (copy.nnstd, copy.canonical, copy.held) == (0.0, True, ())
    assert 0 < near.nnstd < far.nnstd


@pytest.mark.parametrize("kind", ["heads", "grouped", "shared"])
def test_joint_matches_are_the_best_of_all(kind: str) -> None:
    """The fan-in cost of the spaces that are matched first, against every symmetry of their axes."""
    rng = np.random.default_rng(3)
    for _ in range(15):
        net = drawn(rng, kind)
        a, b = net.topology(rng, 0.5), net.topology(rng, 0.5)
        plan = plan_of(a.wiring)
        problem = next(problem for problem in plan.problems if not problem.plain)
        distance = nnstd(a, b, alignment="canonical")
        spaces = [plan.spaces[s].name for s in problem.spaces]
        choices = every_match(plan.contexts, problem.spaces)
        best = min(cost_of(a, b, spaces, distance.matching, match) for match in choices)
        chosen = [distance.matching[name].tolist() for name in spaces]
        assert cost_of(a, b, spaces, distance.matching, chosen) == best


def test_a_row_is_a_stage() -> None:
    """Named by its entries and self-loops; the first read closes a stage, and a stage of tied layers has no row."""
    rng = np.random.default_rng(0)
    names = {kind: [row.name for row in nnstd(*[drawn(rng, kind).topology(rng)] * 2).layers] for kind in KINDS}
    assert names["residual"] == [
        *("stem", "block0.1", "block0.2", "block1.1", "block1.2", "block2.1", "shortcut+block2.2", "fc")
    ]
    assert names["recurrent"] == ["0.ia+0.ib+0.ha+0.hb", "1.ia+1.ib+1.ha+1.hb", "fc"]
    assert names["tied"] == ["embed", "up", "down"]


def test_a_self_loop_counts_under_the_match_of_the_entries() -> None:
    """B is A with its two units exchanged; its loop goes the other way round: 1 of 2 elements of one unit differs."""
    net = Network()
    hidden = Space("hidden", 2)
    net.linear("in", labelled("input", 2), hidden)
    net.linear("loop", hidden, hidden)
    a = net.wiring.place({"in": np.eye(2), "loop": np.array([[1, 0], [0, 0]])}, orientation="out-in")
    b = net.wiring.place({"in": np.eye(2)[::-1], "loop": np.array([[0, 0], [0, 1]])}, orientation="out-in")
    c = net.wiring.place({"in": np.eye(2)[::-1], "loop": np.array([[1, 0], [0, 0]])}, orientation="out-in")
    assert nnstd(a, b).nnstd == 0.0
    assert [row.distance for row in nnstd(a, c).layers] == [0.5]
    assert [row.name for row in nnstd(a, c).layers] == ["in+loop"]


def test_units_that_a_self_loop_tells_apart_are_no_twins() -> None:
    """Three units without other connections: the one with a loop is another one, and the value stays unique."""
    net = Network()
    hidden = Space("hidden", 3)
    net.linear("in", labelled("input", 1), hidden)
    net.linear("loop", hidden, hidden)
    for loop in ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]], np.ones((3, 3)), np.eye(3)):
        a = net.wiring.place({"in": np.zeros((3, 1)), "loop": np.array(loop)}, orientation="out-in")
        for seed in range(6):
            distance = nnstd(a, shuffled(np.random.default_rng(seed), a))
            assert (distance.nnstd, distance.canonical) == (0.0, True)


def test_groups_keep_their_sources_apart() -> None:
    """The first source of one group is not the first of the other: in B the groups read each other's pattern."""
    group = Axis("group", 2)
    wide, narrow = Space("wide", (group, Axis("n", 2))), Space("narrow", (group, Axis("m", 1)))
    shapes = (LayerShape("in", labelled("input", 4), wide), LayerShape("grouped", wide, narrow, groups=2))
    first = np.eye(4)
    a = Wiring(shapes).place({"in": first, "grouped": np.array([[1, 0], [0, 1]])}, orientation="out-in")
    b = Wiring(shapes).place({"in": first, "grouped": np.array([[0, 1], [1, 0]])}, orientation="out-in")
    assert [row.distance for row in nnstd(a, b).layers] == [0.0, 1.0]
    assert nnstd(a, b, alignment="identity").layers[1].distance == 1.0


def test_what_nothing_tells_apart_is_held_and_said(tmp_path: Path) -> None:
    """A stream that is read before it is entered, a space that only its own loop enters, and three levels of axes."""
    stream, inner, alone = Space("stream", 3), Space("inner", 2), Space("alone", 2)
    late = Network()
    late.linear("up", stream, inner)
    late.linear("down", inner, stream)
    loop = Network()
    loop.linear("loop", alone, alone)
    loop.linear("out", alone, labelled("output", 2))
    deep = Network()
    deep.linear("in", labelled("input", 3), Space("deep", [Axis(name, 2) for name in "abc"]))
    rng = np.random.default_rng(0)
    for net, names in ((late, ("stream",)), (loop, ("alone",)), (deep, ("deep",))):
        a, b = net.topology(rng, 0.5), net.topology(rng, 0.5)
        distance = nnstd(a, b)
        assert (distance.held, distance.canonical) == (names, False)
        matrix = distances([a, b])
        assert matrix.held == names
        matrix.to_npz(tmp_path / "d.npz")
        assert DistanceMatrix.from_npz(tmp_path / "d.npz").held == names
        assert nnstd(a, b, alignment="identity").held == distances([a, b], alignment="identity").held == ()
        units = distance.matching[names[0]].tolist()
        assert units == list(range(len(units)))


def test_tied_layers_count_once() -> None:
    """Two networks that differ in the tied parameter alone differ in one row."""
    rng = np.random.default_rng(1)
    net = drawn(rng, "tied")
    a = net.topology(rng, 0.5)
    masks = a.to_masks()
    mask = masks["embed"]
    masks["embed"] = Mask(mask.n_source, mask.n_target, np.setdiff1d(np.arange(mask.size), mask.cells))
    distance = nnstd(a, a.wiring.place(masks), alignment="identity")
    assert [row.distance for row in distance.layers] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("alignment", ["reference"])
@pytest.mark.parametrize(("kind", "words"), [("residual", "a residual stream"), ("depthwise", "a self-loop|residual")])
def test_alignments_that_do_not_know_a_kind_refuse_it_by_name(alignment: str, kind: str, words: str) -> None:
    """An alignment that is not defined for a kind of network refuses it and names the kind."""
    topology = drawn(np.random.default_rng(0), kind).topology(np.random.default_rng(0))
    with pytest.raises(NotComparableError, match=f"{alignment} alignment: .*({words})"):
        nnstd(topology, topology, alignment=alignment)  # type: ignore[arg-type]


def test_chance_levels_are_those_of_units_matched_one_by_one() -> None:
    """With densities kept a self-loop or heads are refused by name; degrees are kept in every kind of wiring."""
    rng = np.random.default_rng(2)
    topology = {kind: drawn(rng, kind).topology(rng) for kind in ("residual", "recurrent", "heads")}
    rows = nnstd(topology["residual"], topology["residual"], chance="density").layers
    assert all(row.chance is not None for row in rows)
    for kind, words in (("recurrent", "'0.ha', a self-loop"), ("heads", "several axes")):
        with pytest.raises(NotComparableError, match=words):
            nnstd(topology[kind], topology[kind], chance="density")
        in_place = nnstd(topology[kind], topology[kind], alignment="identity", chance="density")
        matched = nnstd(topology[kind], topology[kind], chance="degrees")
        assert all(row.chance is not None for row in (*in_place.layers, *matched.layers))


def recomputed(a: Topology, b: Topology, matching: Mapping[str, np.ndarray]) -> list[float]:
    """The rows' distances of one matching, from the connections themselves."""
    values = []
    plan = plan_of(a.wiring)
    layers = [(a.layers[k], b[a.layers[k].name]) for k in plan.order]
    for row in plan.rows:
        name = plan.spaces[row.space].name
        partner = matching[name].tolist()
        width = layers[row.layers[0]][1].target.size
        sets_a: list[set[object]] = [set() for _ in partner]
        sets_b: list[set[object]] = [set() for _ in range(width)]
        for q in row.layers:
            x, y = layers[q]
            images = matching[x.source.name]
            for f, t, tap in zip(x.sources.tolist(), x.targets.tolist(), x.mask.tap_indices.tolist(), strict=True):
                sets_a[t].add((q, int(images[f]), tap) if images[f] >= 0 else ("alone", q, f, tap))
            for f, t, tap in zip(y.sources.tolist(), y.targets.tolist(), y.mask.tap_indices.tolist(), strict=True):
                sets_b[t].add((q, f, tap))
        terms = [
            len(sets_a[i] ^ sets_b[j]) / len(sets_a[i] | sets_b[j]) if sets_a[i] | sets_b[j] else 0.0
            for i, j in enumerate(partner)
            if j >= 0
        ]
        terms += [1.0] * (len(partner) + width - 2 * len(terms))
        values.append(math.fsum(terms) / len(terms))
    return values


def every_match(contexts: tuple[tuple[tuple[int, int], ...], ...], spaces: tuple[int, ...]) -> list[list[list[int]]]:
    """All matches of some spaces that share their first axis: an order of it, and of the inner axes at each index."""
    sizes = {axis: size for s in spaces for axis, size in contexts[s]}
    outer = contexts[spaces[0]][0][0]
    inner = [axis for axis in sizes if axis != outer]
    orders = [list(itertools.product(itertools.permutations(range(sizes[x])), repeat=sizes[outer])) for x in inner]
    matches = []
    for heads in itertools.permutations(range(sizes[outer])):
        for chosen in itertools.product(*orders):
            inside = dict(zip(inner, chosen, strict=True))
            match = []
            for s in spaces:
                if len(contexts[s]) == 1:
                    match.append(list(heads))
                else:
                    x = contexts[s][1][0]
                    match.append([h * sizes[x] + j for k, h in enumerate(heads) for j in inside[x][k]])
            matches.append(match)
    return matches


def cost_of(
    a: Topology, b: Topology, spaces: list[str], matching: Mapping[str, np.ndarray], match: list[list[int]]
) -> Fraction:
    """The exact sum of the fan-in distances of some spaces' units, by the layers that enter them but no loops."""
    total = Fraction(0)
    for name, partner in zip(spaces, match, strict=True):
        sets: list[list[set[object]]] = []
        for topology in (a, b):
            units: list[set[object]] = [set() for _ in partner]
            for layer in topology.layers:
                if layer.target.name == name != layer.source.name:
                    images = matching[layer.source.name] if topology is a else np.arange(layer.source.size)
                    for f, t in zip(layer.sources.tolist(), layer.targets.tolist(), strict=True):
                        units[t].add((layer.name, int(images[f])))
            sets.append(units)
        for i, j in enumerate(partner):
            union = sets[0][i] | sets[1][j]
            total += Fraction(len(sets[0][i] ^ sets[1][j]), len(union)) if union else 0
    return total
