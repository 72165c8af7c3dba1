"""Timelines: two runs beside each other, and a run and its own past."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from topostrata.distance.nnstd import nnstd
from topostrata.distance.null_model import Chance
from topostrata.errors import InvalidInputError
from topostrata.lineage.timelines import Point, Timeline, between_runs, own_past
from topostrata.topology import Mask, Topology


def identity(a: Topology, b: Topology) -> tuple[float, None]:
    return nnstd(a, b, alignment="identity").nnstd, None


def far(a: Topology, b: Topology) -> float:
    return identity(a, b)[0]


def history(seed: int, steps: list[int], moved: int = 4) -> list[tuple[int, Topology]]:
    """A run of which each snapshot has some connections elsewhere than the one before."""
    rng = np.random.default_rng(seed)
    cells = np.sort(rng.choice(400, 60, replace=False))
    snapshots = []
    for step in steps:
        snapshots.append((step, Topology.from_masks([Mask(20, 20, cells)])))
        remaining = np.delete(cells, rng.choice(60, moved, replace=False))
        free = np.setdiff1d(np.arange(400), cells)
        cells = np.sort(np.append(remaining, rng.choice(free, moved, replace=False)))
    return snapshots


def test_two_runs_are_compared_at_each_step_that_both_have() -> None:
    """Steps that only one run recorded are passed over, wherever they lie."""
    a, b = history(1, [0, 1, 2, 5, 9]), history(2, [1, 3, 5, 9, 12, 13])
    line = between_runs(iter(a), iter(b), identity, names=("a", "b"))
    assert [(p.step, p.other_step) for p in line.points] == [(1, 1), (5, 5), (9, 9)]
    assert [p.distance for p in line.points] == [far(dict(a)[step], dict(b)[step]) for step in (1, 5, 9)]
    assert {p.chance for p in line.points} == {None}


def test_runs_that_start_alike_diverge() -> None:
    """Two runs from one topology, each rewired on its own, move apart; read backwards they converge."""
    start = history(3, [0])[0][1]
    a = [(0, start), *history(4, [1, 2, 3])]
    apart = between_runs(
        [(0, start), *((s, _mixed(start, t, s)) for s, t in a[1:])], [(s, start) for s, _ in a], identity
    )
    assert apart.course == "diverging"
    assert apart.trend == 1
    assert apart.closest == apart.points[0]
    back = Timeline("a", "b", apart.points[::-1])
    assert (back.course, back.trend) == ("converging", -1)
    assert back.change == pytest.approx(-(apart.change or 0))


def _mixed(base: Topology, target: Topology, parts: int) -> Topology:
    """Of the first network all but the first ``5 * parts`` units, whose inputs are the second's."""
    a, b = (t.layers[0].mask.to_csc().toarray() for t in (base, target))
    return Topology.from_masks([np.hstack([b[:, : 5 * parts], a[:, 5 * parts :]])])


@pytest.mark.parametrize(
    ("distances", "trend", "course"),
    [
        ([], None, None),
        ([0.3], None, None),
        ([0.3, 0.3], 0, "neither"),
        ([0.1, 0.3, 0.1, 0.3, 0.1], 0, "neither"),
        ([0.1, 0.3, 0.2, 0.4], 4 / 6, "diverging"),
        ([0.9, 0.3, 0.2, 0.3], -3 / 6, "converging"),
    ],
)
def test_a_course_has_a_name_only_where_it_is_clear(
    distances: list[float], trend: float | None, course: str | None
) -> None:
    """Distances that go up and down tell neither; a single one tells nothing."""
    line = Timeline("a", "b", tuple(Point(k, k, distance) for k, distance in enumerate(distances)))
    assert line.trend == trend
    assert line.course == course
    assert line.change == (distances[-1] - distances[0] if distances else None)


def test_the_closest_is_the_earliest_of_the_smallest() -> None:
    """Where two steps are equally close, the first of them is named; without common steps there is none."""
    line = Timeline("a", "b", tuple(Point(k, k, distance) for k, distance in enumerate([0.4, 0.2, 0.2])))
    assert line.closest == Point(1, 1, 0.2)
    assert between_runs(history(5, [0, 2]), history(5, [1, 3]), identity).closest is None


def test_a_run_moves_away_from_its_start() -> None:
    """Without a lag every snapshot is compared with the first."""
    run = history(6, [0, 10, 20, 30])
    past = own_past(lambda: run, identity, name="w0")
    assert [(p.step, p.other_step) for p in past.points] == [(10, 0), (20, 0), (30, 0)]
    assert [p.distance for p in past.points] == [far(t, run[0][1]) for _, t in run[1:]]
    assert (past.a, past.b, past.course) == ("w0", "w0", "diverging")


def test_a_lag_counts_recorded_snapshots() -> None:
    """With a lag each snapshot is compared with the one so many snapshots before it."""
    run = history(7, [0, 10, 25, 30, 70])
    past = own_past(lambda: run, identity, lag=2)
    assert [(p.step, p.other_step) for p in past.points] == [(25, 0), (30, 10), (70, 25)]
    assert [p.distance for p in past.points] == [far(run[k][1], run[k - 2][1]) for k in (2, 3, 4)]
    assert own_past(lambda: run, identity, lag=5).points == ()
    assert own_past(list, identity).points == ()


def test_the_chance_level_stands_beside_the_distance() -> None:
    """A run that was rewired at random altogether is as far from its start as independent layers would be."""

    def with_chance(a: Topology, b: Topology) -> tuple[float, Chance | None]:
        distance = nnstd(a, b, alignment="identity", chance="degrees")
        return distance.nnstd, distance.chance

    run = [*history(8, [0, 1, 2], moved=4), (3, history(99, [0])[0][1])]
    past = own_past(lambda: run, with_chance)
    near, _, lost = past.points
    assert near.chance is not None
    assert lost.chance is not None
    assert near.distance < 0.3 < near.chance
    assert lost.distance == pytest.approx(lost.chance, abs=0.06)
    assert near.z is not None
    assert lost.z is not None
    assert near.z < -5
    assert abs(lost.z) < 3


def test_histories_are_not_collected() -> None:
    """However long the history and the lag, few topologies are alive at a time."""
    alive = 0
    most = 0

    class Counted(Topology):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def one_by_one() -> Iterator[tuple[int, Topology]]:
        nonlocal alive, most
        for step in range(40):
            counted = Counted(history(9, [0])[0][1].layers)
            alive += 1
            most = max(most, alive)
            yield step, counted
            del counted

    own_past(one_by_one, identity, lag=20)
    own_past(one_by_one, identity)
    between_runs(one_by_one(), one_by_one(), identity)
    assert most <= 6
    assert alive == 0


def test_steps_that_do_not_grow_are_refused() -> None:
    """A history out of order would pair the wrong snapshots."""
    run = history(10, [0, 5, 5])
    with pytest.raises(InvalidInputError, match="history of 'b': expected steps that grow, found 5 after 5"):
        between_runs(history(10, [0, 5, 7]), run, identity)
    with pytest.raises(InvalidInputError, match="at least 1 snapshot, found 0"):
        own_past(lambda: run, identity, lag=0)
