"""What is prepared of a topology: once, kept with it, and no longer than it is there."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from tests.unit.distance.networks import random_network
from topostrata.distance import colours, prepared, sets
from topostrata.distance.alignments import Alignment
from topostrata.distance.colours import Structure
from topostrata.distance.nnstd import nnstd
from topostrata.distance.plan import Plan, plan_of
from topostrata.distance.prepared import prepare
from topostrata.topology import Topology

Work = list[str]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """What is prepared, in order: sets and colours."""
    done: Work = []
    sets_of, colour = sets.sets_of, colours.colour

    def counted_sets(*arguments: object) -> object:
        done.append("sets")
        return sets_of(*arguments)  # type: ignore[arg-type]

    def counted_colours(structure: Structure) -> object:
        done.append("colours")
        return colour(structure)

    monkeypatch.setattr(prepared, "sets_of", counted_sets)
    monkeypatch.setattr(colours, "colour", counted_colours)
    return done


def chain(seed: int, *, density: float = 0.2) -> Topology:
    return random_network(np.random.default_rng(seed), [9, 12, 11, 4], density)


@pytest.mark.parametrize("alignment", ["overlap", "canonical", "reference", "refined"])
def test_the_second_call_prepares_nothing(work: Work, alignment: Alignment) -> None:
    """Neither sets nor colours are made again of a topology that was compared before, with whatever it is compared."""
    a, b, c = chain(1), chain(2), chain(3)
    first = nnstd(a, b, alignment=alignment)
    nnstd(a, c, alignment=alignment)
    assert work
    work.clear()
    assert nnstd(a, b, alignment=alignment) == first
    nnstd(b, c, alignment=alignment)
    assert work == []


def test_alignments_share_what_is_prepared(work: Work) -> None:
    """Sets and colours are the same for all of them."""
    a, b = chain(1), chain(2)
    nnstd(a, b, alignment="overlap")
    work.clear()
    others: tuple[Alignment, ...] = ("canonical", "reference", "refined", "identity")
    for alignment in others:
        nnstd(a, b, alignment=alignment)
    assert "sets" not in work


def test_no_colours_where_nothing_is_tied(work: Work) -> None:
    """Where every unit has one best partner, nothing asks for colours."""
    steps = np.triu(np.ones((6, 6)))
    fewer = steps.copy()
    fewer[0, 5] = 0
    a, b = (Topology.from_masks([mask, np.ones((6, 2))]) for mask in (steps, fewer))
    distance = nnstd(a, b, alignment="canonical")
    assert (distance.ambiguous, distance.canonical) == (0, True)
    assert work
    assert "colours" not in work


def test_what_is_prepared_goes_with_its_topology() -> None:
    """Nothing keeps a topology that nobody else has, and what was prepared of it goes at once."""
    kept = prepared._Kept(10**9)
    topology = chain(7)
    kept.get(topology, plan_of(topology.wiring))
    assert (len(kept._of), kept._bytes > 0) == (1, True)
    del topology
    gc.collect()
    assert (len(kept._of), kept._bytes) == (0, 0)


def test_the_oldest_go_where_memory_is_full() -> None:
    """The bytes that are kept stay below the limit, the two that are compared apart."""
    networks = [chain(seed, density=0.5) for seed in range(6)]
    plan = plan_of(networks[0].wiring)
    each = prepare(networks[0]).nbytes
    kept = prepared._Kept(3 * each + each // 2)
    first = [kept.get(network, plan) for network in networks]
    assert kept._bytes <= 3 * each + each // 2
    assert kept.get(networks[5], plan) is first[5]
    assert kept.get(networks[0], plan) is not first[0]


def test_each_order_of_layers_is_prepared_by_itself() -> None:
    """With and without fixed outputs a topology has two plans, hence two preparations, each found again."""
    topology = chain(3)
    ways = [prepare(topology, fix_output=fixed) for fixed in (True, False)]
    assert ways[0] is not ways[1]
    assert [prepare(topology, fix_output=fixed) for fixed in (True, False)] == ways


def test_sets_are_those_of_the_connections() -> None:
    """Sorted elements by unit, the holders of each element, and the least size among them: with taps and sums too."""
    for taps, residual in ((1, False), (3, False), (1, True)):
        topology = random_network(np.random.default_rng(5), [5, 6, 7, 4], 0.4, taps=taps, residual=residual)
        made = prepare(topology)
        plan: Plan = made.plan
        for space, entering in enumerate(plan.entering):
            fan_in = made.fan_in[space]
            elements: list[set[int]] = [set() for _ in range(made.sizes[space])]
            for q, k in enumerate(entering):
                sources, targets, at = made.layers[k].shape.units_of(made.layers[k].mask.cells)
                for source, target, tap in zip(sources.tolist(), targets.tolist(), at.tolist(), strict=True):
                    elements[target].add(fan_in.offset[q] + source * fan_in.taps[q] + tap)
            for unit, wanted in enumerate(elements):
                assert fan_in.keys[fan_in.ptr[unit] : fan_in.ptr[unit + 1]].tolist() == sorted(wanted)
            for k in range(fan_in.elements):
                holders = [u for u, members in enumerate(elements) if k in members]
                assert fan_in.holders[fan_in.back[k] : fan_in.back[k + 1]].tolist() == holders
                assert fan_in.smallest[k] == min((len(elements[u]) for u in holders), default=2**31)


def test_colours_that_were_first_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads may compute them at once: compiled code has the addresses of those that it was given."""
    network = prepare(Topology.from_masks([np.eye(4), np.ones((4, 2))]))
    compute = colours.colour
    first: list[Any] = []

    def meanwhile(structure: Structure) -> Any:
        if not first:
            first.append(None)
            first[0] = network.colours  # another thread is quicker
        return compute(structure)

    monkeypatch.setattr(colours, "colour", meanwhile)
    assert network.colours is first[0]


@pytest.mark.parametrize("alignment", ["canonical", "overlap", "reference", "refined"])
def test_lists_made_anew_are_those_that_are_kept(alignment: Alignment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense layers whose sets are listed whenever they are needed give the distance of sets that are kept."""
    networks = [chain(seed, density=0.7) for seed in (1, 2)]
    expected = nnstd(*networks, alignment=alignment)
    monkeypatch.setattr(sets, "_MANY", 0)
    renewed = [chain(seed, density=0.7) for seed in (1, 2)]
    assert all(part.lists.kept is None for part in prepare(renewed[0]).fan_in[1:3])
    assert nnstd(*renewed, alignment=alignment) == expected


def test_lists_stay_where_they_are_once_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and holders of dense layers are other arrays at each call, with the same entries, until they are kept."""
    monkeypatch.setattr(sets, "_MANY", 0)
    part = prepare(chain(1, density=0.7)).fan_in[1]
    keys, holders = part.keys, part.holders
    assert part.keys is not keys
    assert part.keep().keys is part.keys
    assert part.turned((1,)).holders is part.keys
    assert (part.keys.tolist(), part.holders.tolist()) == (keys.tolist(), holders.tolist())
