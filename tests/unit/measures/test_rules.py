"""Rules that a network may break, against slow plain definitions on networks of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from tests.wirings import MODELS
from topostrata.errors import InvalidInputError, NotComparableError
from topostrata.layers import Layer
from topostrata.measures.rules import BrokenRule, check
from topostrata.topology import Mask, Topology

KINDS = ["mlp", "vgg11", "mobilenet_v2", "gpt2", "lstm"]


def network(kind: str, seed: int = 0) -> Topology:
    return MODELS[kind]().topology(np.random.default_rng(seed))


def own(topology: Topology) -> Iterator[Layer]:
    """Tied layers once."""
    return (layer for layer in topology.layers if layer.name not in topology.wiring.shared_with)


def moved(topology: Topology, name: str, cells: np.ndarray) -> Topology:
    """The network with other connections in one layer."""
    masks = topology.to_masks()
    old = masks[name]
    return topology.wiring.place(masks | {name: Mask(old.n_source, old.n_target, cells, old.taps)})


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_network_keeps_all_that_it_is_compared_with(kind: str) -> None:
    """Itself, under its own names and others."""
    topology = network(kind)
    assert check(topology, same_as=topology, within=topology).passed


@pytest.mark.parametrize("kind", KINDS)
def test_one_connection_more_and_one_missing_are_found_where_they_are(kind: str) -> None:
    """Named by layer, source, target and tap; `within` sees only the one that is more."""
    topology = network(kind)
    layer = next(y for y in own(topology) if 1 < y.nnz < y.shape.possible and y.shape.source.size > 1)
    cells = layer.mask.cells
    free = np.setdiff1d(np.arange(layer.shape.possible), cells)[-1]
    other = moved(topology, layer.name, np.sort(np.append(cells[1:], free)))
    (broken,) = check(other, same_as=topology).broken
    at = min(int(cells[0]), int(free))
    source, target, tap = (int(unit[0]) for unit in layer.shape.units_of(np.array([at])))
    where = (source, target, tap)
    assert broken == BrokenRule("same as", layer.name, f"{layer.nnz} connections", "1 more, 1 missing", 2, *where)
    (broken,) = check(other, within=topology).broken
    source, target, tap = (int(unit[0]) for unit in layer.shape.units_of(np.array([free])))
    assert (broken.found, broken.source, broken.target, broken.tap) == ("1 more", source, target, tap)
    fewer = moved(topology, layer.name, cells[1:])
    assert check(fewer, within=topology).passed
    assert check(fewer, same_as=topology).broken[0].found == "1 missing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", ["1:2", "2:4", "3:5", "0:1"])
def test_groups_that_are_too_full_are_those_of_a_loop(kind: str, pattern: str) -> None:
    """Counted connection by connection; the first is named."""
    topology = network(kind)
    most, group = map(int, pattern.split(":"))
    expected = {}
    for layer in own(topology):
        groups: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
        for source, target, tap in zip(*map(np.ndarray.tolist, layer.shape.units_of(layer.mask.cells)), strict=True):
            place = (target, tap, source % layer.shape.local_sources // group)
            groups.setdefault(place, []).append((source, target, tap))
        full = [members for members in groups.values() if len(members) > most]
        if full:
            expected[layer.name] = (len(full), *full[0][0], f"{len(full[0])} of {group}")
    broken = check(topology, pattern=pattern).broken
    assert {y.layer: (y.count, y.source, y.target, y.tap, y.found) for y in broken} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_uneven_fan_in_is_that_of_a_count(kind: str) -> None:
    """How many units differ from what most have, and the first of them; units without inputs are left out."""
    topology = network(kind)
    expected = {}
    for layer in own(topology):
        fan_in = [n for n in layer.mask.fan_in.tolist() if n]
        usual = min(Counter(fan_in).items(), key=lambda item: (-item[1], item[0]))[0] if fan_in else 0
        others = [unit for unit, n in enumerate(layer.mask.fan_in.tolist()) if n not in {0, usual}]
        if others:
            expected[layer.name] = (len(others), others[0])
    broken = check(topology, constant_fan_in=True).broken
    assert {y.layer: (y.count, y.target) for y in broken} == expected
    even = np.zeros((6, 5), dtype=bool)
    even[:2, :4] = True
    assert check(Topology.from_masks([even]), constant_fan_in=True).passed


def test_density_is_of_all_connections_rounded_up() -> None:
    """3 of 10 in each of two layers: 0.3 is kept, less is not, and the densest layer is named."""
    masks = [np.zeros((5, 2), dtype=bool), np.zeros((2, 5), dtype=bool)]
    masks[0][:3, 0] = masks[1][0, :3] = True
    topology = Topology.from_masks(masks)
    assert check(topology, density=0.3).passed
    assert check(topology, density=0.21).passed  # 3 of 10, rounded up
    (broken,) = check(topology, density=0.2).broken
    assert (broken.layer, broken.expected, broken.count) == (None, "at most 4 connections", 2)
    assert "'l0'" in broken.found
    masks[1][0, 3] = True
    assert check(Topology.from_masks(masks), density=0.3, layers="l0").passed


def test_a_layer_collapses_when_nothing_passes_it() -> None:
    """It has no connection, or none that lies on a path: then the layers beside it have none on a path either."""
    full = np.ones((3, 3), dtype=bool)
    left, right = full.copy(), full.copy()
    left[:, 1:] = False  # only unit 0 of the hidden space is entered
    right[0] = False  # and only the others are read
    broken = check(Topology.from_masks([left, right]), no_collapse=True).broken
    assert [(y.layer, y.found) for y in broken] == [("l0", "none of its 3"), ("l1", "none of its 6")]
    broken = check(Topology.from_masks([full, np.zeros((3, 3), dtype=bool)]), no_collapse=True).broken
    assert [(y.layer, y.found) for y in broken] == [("l0", "none of its 9"), ("l1", "no connection")]
    assert check(Topology.from_masks([full, full]), no_collapse=True).passed


def test_what_cannot_be_looked_at_is_refused() -> None:
    """No rule, patterns and densities that are none, other layers."""
    topology = network("mlp")
    with pytest.raises(InvalidInputError, match="expected a rule, found none"):
        check(topology)
    for pattern in ("4:2", "2", "2:4:8", "-1:4", "0:0", "2:2000"):
        with pytest.raises(InvalidInputError, match="expected N:M"):
            check(topology, pattern=pattern)
    for density in (-0.1, 1.5, float("nan")):
        with pytest.raises(InvalidInputError, match="expected a share from 0 to 1"):
            check(topology, density=density)
    with pytest.raises(InvalidInputError, match="found 'absent'"):
        check(topology, no_collapse=True, layers="absent")
    with pytest.raises(NotComparableError, match="expected a network of the same layers"):
        check(topology, same_as=network("vgg11"))


def test_layers_of_other_sizes_are_told_by_their_sizes() -> None:
    """An export that is wider is no error of the question: it breaks the rule."""
    small, large = (Topology.from_masks([np.ones((2, n)), np.ones((n, 2))]) for n in (3, 4))
    broken = check(large, same_as=small).broken
    assert [(y.layer, y.expected, y.found) for y in broken] == [
        ("l0", "2 -> 3 units, 1 taps, 1 groups", "2 -> 4 units, 1 taps, 1 groups"),
        ("l1", "3 -> 2 units, 1 taps, 1 groups", "4 -> 2 units, 1 taps, 1 groups"),
    ]
