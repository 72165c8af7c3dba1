"""A layer over a whole run, against plain sets."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.evolution import history as module
from topostrata.evolution.between import between, connection_changes
from topostrata.evolution.history import LayerHistory, follow, total
from topostrata.evolution.survival import ages, kaplan_meier, lifetimes, survival
from topostrata.topology import Mask

SIZE = 24

histories = st.lists(st.tuples(st.integers(1, 9), st.sets(st.integers(0, SIZE - 1))), min_size=1, max_size=8).map(
    lambda drawn: [(sum(d for d, _ in drawn[: k + 1]), cells) for k, (_, cells) in enumerate(drawn)]
)


def mask(cells: set[int]) -> Mask:
    return Mask(4, 3, np.array(sorted(cells), dtype=np.int64), taps=2)


def followed(drawn: list[tuple[int, set[int]]]) -> LayerHistory:
    return follow("l0", ((step, mask(cells)) for step, cells in drawn))


def lives(drawn: list[tuple[int, set[int]]]) -> list[tuple[int, int, int | None]]:
    """Every life as (cell, born step, died step), worked out cell by cell."""
    rows: list[tuple[int, int, int | None]] = []
    for cell in range(SIZE):
        born = None
        for step, cells in drawn:
            if cell in cells and born is None:
                born = step
            elif cell not in cells and born is not None:
                rows.append((cell, born, step))
                born = None
        if born is not None:
            rows.append((cell, born, None))
    return rows


@given(histories)
def test_a_history_counts_what_sets_say(drawn: list[tuple[int, set[int]]]) -> None:
    """Alive, born, died, regrown and explored at each snapshot."""
    layer = followed(drawn)
    ever: set[int] = set()
    before: set[int] = set()
    for k, (step, cells) in enumerate(drawn):
        assert layer.steps[k] == step
        assert layer.alive[k] == len(cells)
        assert layer.born[k] == len(cells - before)
        assert layer.died[k] == len(before - cells)
        assert layer.regrown[k] == len((cells - before) & ever)
        ever |= cells
        assert layer.explored[k] == len(ever)
        before = cells
    assert layer.exploration[-1] == len(ever) / SIZE
    assert layer.always_full == all(len(cells) == SIZE for _, cells in drawn)


@given(histories)
def test_lives_are_the_lifetimes(drawn: list[tuple[int, set[int]]]) -> None:
    """Births and deaths, with how many connections share both."""
    layer = followed(drawn)
    steps = [*layer.steps, None]
    counted = {(steps[b], steps[d]): int(n) for b, d, n in layer.lives.tolist()}
    assert counted == Counter((born, died) for _, born, died in lives(drawn))


@given(histories, st.data())
def test_survival_and_ages_are_what_sets_say(drawn: list[tuple[int, set[int]]], data: st.DataObject) -> None:
    """Forward from a snapshot and backward from one: alive at every snapshot between."""
    layer = followed(drawn)
    k = data.draw(st.integers(0, len(drawn) - 1))
    forward, backward = survival(layer, drawn[k][0]), ages(layer, drawn[k][0])
    for j in range(k, len(drawn)):
        assert forward.survived[j - k] == len(set.intersection(*(cells for _, cells in drawn[k : j + 1])))
    for j in range(k + 1):
        assert backward.older[j] == len(set.intersection(*(cells for _, cells in drawn[j : k + 1])))
    assert forward.steps == tuple(step for step, _ in drawn[k:])
    assert backward.steps == tuple(step for step, _ in drawn[: k + 1])


@given(histories)
def test_survival_agrees_with_evolution_between_two_snapshots(drawn: list[tuple[int, set[int]]]) -> None:
    """The curve's last point is what `evolution` counts as survived; `connection_changes` gives the sets themselves."""
    masks = [mask(cells) for _, cells in drawn]
    layer = between("l0", masks)
    assert survival(followed(drawn)).survived[-1] == layer.survived
    changes = connection_changes(masks)
    first, last = drawn[0][1], drawn[-1][1]
    throughout = set.intersection(*(cells for _, cells in drawn))
    assert set(changes.survived.tolist()) == throughout
    assert set(changes.regrown.tolist()) == (first & last) - throughout
    assert set(changes.died.tolist()) == first - last
    assert set(changes.born.tolist()) == last - first


@given(histories)
def test_lifetimes_are_the_ages_at_death(drawn: list[tuple[int, set[int]]]) -> None:
    """A histogram over all that died."""
    histogram = lifetimes(followed(drawn))
    counted = dict(zip(histogram.age.tolist(), histogram.count.tolist(), strict=True))
    assert counted == Counter(died - born for _, born, died in lives(drawn) if died is not None)


@given(histories, st.booleans())
def test_kaplan_meier_is_the_product_over_the_ages(drawn: list[tuple[int, set[int]]], from_start: bool) -> None:
    """Against the definition, one lifetime at a time."""
    curve = kaplan_meier(followed(drawn), from_start=from_start)
    first, end = drawn[0][0], drawn[-1][0]
    observed = [(b, d) for _, b, d in lives(drawn) if from_start or b > first]
    subjects = [((end if d is None else d) - b, d is not None) for b, d in observed]
    estimate = 1.0
    for k, age in enumerate(sorted({a for a, died in subjects if died})):
        at_risk = sum(a >= age for a, _ in subjects)
        deaths = sum(a == age and died for a, died in subjects)
        estimate *= 1 - deaths / at_risk
        assert curve.ages[k] == age
        assert (curve.at_risk[k], curve.deaths[k]) == (at_risk, deaths)
        assert math.isclose(curve.survival[k], estimate, abs_tol=1e-12)
        assert 0 <= curve.low[k] <= estimate + 1e-12
        assert estimate - 1e-12 <= curve.high[k] <= 1
    assert curve.censored == sum(not died for _, died in subjects)
    assert curve.left_truncated == (0 if from_start else len(drawn[0][1]))


def test_kaplan_meier_of_a_known_example() -> None:
    """Six lifetimes by hand: deaths at ages 1, 1, 2, 3 and two alive at age 3; Greenwood's band on log(-log)."""
    births = [(0, {0, 1, 2, 3, 4, 5}), (1, {2, 3, 4, 5}), (2, {3, 4, 5}), (3, {4, 5})]
    curve = kaplan_meier(followed(births))
    np.testing.assert_allclose(curve.survival, [4 / 6, 3 / 6, 2 / 6])
    assert curve.median == 2
    variance = 2 / (6 * 4)
    width = 1.959963984540054 * math.sqrt(variance) / -math.log(4 / 6)
    np.testing.assert_allclose(curve.low[0], (4 / 6) ** math.exp(width))
    np.testing.assert_allclose(curve.high[0], (4 / 6) ** math.exp(-width))


@given(histories, histories)
def test_layers_add_up(first: list[tuple[int, set[int]]], second: list[tuple[int, set[int]]]) -> None:
    """The total of two layers is the layer that holds both."""
    length = min(len(first), len(second))
    steps = [step for step, _ in first[:length]]
    a = [(s, cells) for s, (_, cells) in zip(steps, first, strict=False)]
    b = [(s, cells) for s, (_, cells) in zip(steps, second, strict=False)]
    both = [
        (s, Mask(4, 6, np.array(sorted(x | {SIZE + c for c in y}), dtype=np.int64), taps=2))
        for (s, x), (_, y) in zip(a, b, strict=True)
    ]
    summed, whole = total([followed(a), followed(b)]), follow("both", both)
    for name in ("alive", "born", "died", "regrown", "explored"):
        np.testing.assert_array_equal(getattr(summed, name), getattr(whole, name))
    assert sorted(summed.lives.tolist()) == sorted(whole.lives.tolist())
    assert summed.size == whole.size


@given(histories)
def test_huge_layers_are_followed_by_sorted_cells(drawn: list[tuple[int, set[int]]]) -> None:
    """Without a flag for every possible connection the counts are the same."""
    flags = followed(drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_FLAGS", 0)
        cells = followed(drawn)
    for name in ("born", "died", "regrown", "explored"):
        np.testing.assert_array_equal(getattr(flags, name), getattr(cells, name))


def test_what_cannot_be_followed_is_refused() -> None:
    """No snapshots, masks of two shapes, a step that is not there."""
    with pytest.raises(InvalidInputError, match="at least one snapshot"):
        follow("l0", [])
    with pytest.raises(InvalidInputError, match="masks of one shape"):
        follow("l0", [(0, mask(set())), (1, Mask(3, 4, np.array([], dtype=np.int64)))])
    with pytest.raises(NotFoundError, match="step 7: expected one of the 1 snapshots"):
        survival(followed([(0, {1})]), 7)
