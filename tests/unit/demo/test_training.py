"""The demo's training: honest gradients, SET as the papers describe it, and the story that the archive is to tell."""

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.service.demo.training import (
    Bools,
    Digits,
    Floats,
    Network,
    Recorded,
    Rewire,
    _Learner,
    erdos_renyi,
    family,
    grow,
    load_digits,
    loss_and_gradients,
    prune,
    train,
)
from topostrata.topology import Topology

SPARSE, OUTPUT = slice(0, 3), 3


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits()


@pytest.fixture(scope="module")
def story(digits: Digits) -> dict[str, list[Recorded]]:
    """Three of the family, the static and the dense network, trained as the demo trains them but for fewer epochs."""
    started = family(seed=5, networks=3)
    plans: list[tuple[Network, Rewire]] = [(network, "set") for network in started]
    plans += [(replace(started[0], run="static"), "static"), (replace(started[0], run="dense"), "dense")]
    return {network.run: list(train(network, digits, epochs=12, rewire=rewire)) for network, rewire in plans}


def dense(topology: Topology) -> list[Floats]:
    return [layer.mask.to_csc().toarray().astype(np.float64) for layer in topology.layers]


def unit_distances(a: Floats, b: Floats) -> Floats:
    """Jaccard distances of the fan-in sets of all units of a and b, as papers.md section 1 writes them."""
    common = a.T @ b
    union = a.sum(axis=0)[:, None] + b.sum(axis=0)[None, :] - common
    distances: Floats = np.divide(union - common, union, out=np.zeros_like(union), where=union > 0)
    return distances


def identity_distance(a: Topology, b: Topology) -> float:
    return float(np.mean([np.diag(unit_distances(x, y)).mean() for x, y in zip(dense(a), dense(b), strict=True)]))


def greedy_distance(a: Topology, b: Topology) -> float:
    """NNSTD as published: layer by layer, rows of b in the order of the match before."""
    order, distances = np.arange(a.layers[0].source.size), []
    for x, y in zip(dense(a), dense(b), strict=True):
        costs = unit_distances(x, y[order])
        rows, order = linear_sum_assignment(costs)
        distances.append(costs[rows, order].mean())
    return float(np.mean(distances))


def alive(mask: Bools) -> set[int]:
    return set(np.flatnonzero(mask).tolist())


# The family


def test_the_start_network_is_sparse_with_exactly_epsilon_times_the_units_and_has_a_dense_output() -> None:
    """w0's layers hold 7 * (n_in + n_out) connections each, the last all of them."""
    (start,) = family(networks=1)
    assert [int(mask.sum()) for mask in start.masks] == [7 * (64 + 120), 7 * 240, 7 * 240, 120 * 10]
    assert start.topology.nnz <= 6_000


def test_each_network_of_the_family_is_one_percent_of_the_connections_away_from_the_one_before() -> None:
    """In each sparse layer round(1 %) connections left and as many came, at places that were free; the output stays."""
    for before, after in pairwise(family(seed=1)):
        for a, b in zip(before.masks[SPARSE], after.masks[SPARSE], strict=True):
            moved = round(0.01 * int(a.sum()))
            assert (len(alive(a) - alive(b)), len(alive(b) - alive(a))) == (moved, moved)
        assert after.masks[OUTPUT].all()


def test_connections_that_did_not_move_keep_their_weights_and_absent_ones_have_none() -> None:
    """A network differs from its parent in the moved connections alone."""
    before, after = family(seed=1, networks=2)
    for a, b, x, y in zip(before.masks, after.masks, before.weights, after.weights, strict=True):
        assert np.array_equal(x[a & b], y[a & b])
        assert not y[~b].any()
        assert sorted(x[a].tolist()) == sorted(y[b].tolist())


def test_a_network_does_not_depend_on_how_many_follow_it() -> None:
    """Every network has generators of its own."""
    for a, b in zip(family(seed=2, networks=2), family(seed=2, networks=4), strict=False):
        assert a.topology == b.topology


def test_another_seed_gives_another_family() -> None:
    """The seed reaches the wiring and the weights."""
    (a,), (b,) = family(seed=1, networks=1), family(seed=2, networks=1)
    assert a.topology != b.topology
    assert not np.array_equal(a.weights[OUTPUT], b.weights[OUTPUT])


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"networks": 0}, {"perturb": 0.0}, {"perturb": 1.0}, {"epsilon": 0.0}, {"epsilon": 100.0}]
)
def test_a_family_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """Also an epsilon that would make a sparse layer full."""
    with pytest.raises(InvalidInputError, match="expected"):
        family(**wrong)  # type: ignore[arg-type]


# SET


def test_pruning_removes_exactly_the_smallest_positive_and_the_negative_closest_to_zero() -> None:
    """Of five positive and five negative weights, zeta = 0.4 takes the two weakest of each; absent ones stay absent."""
    weights = np.array([[0.1, -0.2, 0.3, -0.4, 0.5, 0.0], [-0.1, 0.2, -0.3, 0.4, -0.5, 0.0]])
    mask = weights != 0
    assert weights[mask & ~prune(weights, mask, 0.4)].tolist() == [0.1, -0.2, -0.1, 0.2]
    assert not prune(weights, mask, 0.4)[~mask].any()


def test_pruning_compares_weights_of_one_sign_only() -> None:
    """Weak negative weights do not save strong positive ones: each sign loses its own share."""
    weights = np.array([[-0.01, -0.02, -0.03, -0.04, 5.0, 6.0, 7.0, 8.0]])
    assert weights[~prune(weights, weights != 0, 0.25)].tolist() == [-0.01, 5.0]


def test_a_connection_whose_weight_is_zero_is_a_connection_and_the_first_to_go() -> None:
    """The mask says what exists, not the weight."""
    weights = np.array([[0.0, 1.0, 2.0, 0.0]])
    mask = np.array([[True, True, True, False]])
    assert prune(weights, mask, 0.34).tolist() == [[False, True, True, False]]


def test_growing_adds_the_number_asked_for_at_free_places_only() -> None:
    """Nothing that exists is lost or counted twice."""
    mask = np.eye(6, dtype=bool)
    grown = grow(mask, 10, np.random.default_rng(0))
    assert grown.sum() == 16
    assert grown[mask].all()


def test_erdos_renyi_places_are_random_but_their_number_is_exact() -> None:
    """Two draws differ, their counts do not."""
    rng = np.random.default_rng(0)
    a, b = erdos_renyi(20, 30, 2.0, rng), erdos_renyi(20, 30, 2.0, rng)
    assert (a.sum(), b.sum()) == (100, 100)
    assert (a != b).any()


def test_set_keeps_the_number_of_connections_of_every_layer(story: dict[str, list[Recorded]]) -> None:
    """As many grow as are removed."""
    counts = {tuple(layer.nnz for layer in r.topology.layers) for w in ("w0", "w1", "w2") for r in story[w]}
    assert counts == {(1288, 1680, 1680, 1200)}


def test_set_rewires_between_two_epochs_at_most_the_fraction_zeta(story: dict[str, list[Recorded]]) -> None:
    """After epoch 1 the sparse layers change at each epoch, by nearly 30 %: some that were pruned grow again at once."""
    for before, after in pairwise(story["w0"][1:]):
        for a, b in zip(before.topology.layers[SPARSE], after.topology.layers[SPARSE], strict=True):
            died = np.setdiff1d(a.mask.cells, b.mask.cells).size
            assert 0.2 * a.nnz < died <= 0.3 * a.nnz + 1


def test_the_first_epoch_trains_the_wiring_the_network_started_with(story: dict[str, list[Recorded]]) -> None:
    """Rewiring comes between epochs, so an accuracy always belongs to the wiring it was trained with."""
    assert story["w0"][0].topology == story["w0"][1].topology != story["w0"][2].topology


def test_a_dense_layer_is_never_rewired() -> None:
    """A layer with all its connections has nowhere to grow: SET leaves the output's weights alone, too."""
    (start,) = family(networks=1)
    learner = _Learner(start, learning_rate=0.1, momentum=0.9, weight_decay=5e-4)
    learner.rewire(0.5, np.random.default_rng(0))
    changed = [not np.array_equal(a, b) for a, b in zip(learner.weights, start.weights, strict=True)]
    assert changed == [True, True, True, False]


def test_static_and_dense_networks_never_change(story: dict[str, list[Recorded]]) -> None:
    """The static one keeps w0's start; the dense one has every connection of the same widths."""
    assert {r.topology for r in story["static"]} == {story["w0"][0].topology}
    assert {r.topology.density for r in story["dense"]} == {1.0}
    assert story["dense"][0].topology.wiring == story["w0"][0].topology.wiring
    assert story["dense"][0].topology.nnz <= 40_000


def test_absent_connections_weigh_nothing_however_long_one_trains(digits: Digits) -> None:
    """Before and after rewiring weights and momentum are 0 outside the mask; what has grown starts small, not at 0."""
    (start,) = family(networks=1)
    learner = _Learner(start, learning_rate=0.1, momentum=0.9, weight_decay=5e-4)
    rng = np.random.default_rng(0)
    for _ in range(2):
        learner.learn(digits.train, digits.train_classes, 32, 1.0, rng)
        old = [mask.copy() for mask in learner.masks]
        for mask, weights in zip(learner.masks, learner.weights, strict=True):
            assert not weights[~mask].any()
        learner.rewire(0.3, rng)
        for mask, before, weights, speed in zip(
            learner.masks, old, learner.weights, learner._weight_speed, strict=True
        ):
            assert not weights[~mask].any()
            assert not speed[~mask].any()
            assert not speed[mask & ~before].any()
            assert (weights[mask & ~before] != 0).all()
            assert (np.abs(weights[mask & ~before]) < 0.3).all()


# Training


def test_gradients_agree_with_finite_differences() -> None:
    """Every weight and bias of a small network, in float64, central differences of width 2e-6."""
    rng = np.random.default_rng(3)
    widths = (5, 7, 6, 4)
    weights = [rng.normal(size=shape) for shape in pairwise(widths)]
    biases = [rng.normal(size=width) for width in widths[1:]]
    inputs, classes = rng.normal(size=(8, 5)), rng.integers(0, 4, 8)
    _, weight_slopes, bias_slopes = loss_and_gradients(weights, biases, inputs, classes)
    for values, slopes in zip([*weights, *biases], [*weight_slopes, *bias_slopes], strict=True):
        for at in np.ndindex(values.shape):
            losses = []
            for shift in (1e-6, -1e-6):
                values[at] += shift
                losses.append(loss_and_gradients(weights, biases, inputs, classes)[0])
                values[at] -= shift
            assert slopes[at] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_the_loss_of_equal_outputs_is_the_logarithm_of_the_number_of_classes() -> None:
    """A network of zeros knows nothing: ln 10."""
    loss, _, _ = loss_and_gradients([np.zeros((4, 10))], [np.zeros(10)], np.ones((3, 4)), np.array([0, 5, 9]))
    assert loss == pytest.approx(np.log(10))


def test_very_large_outputs_do_not_overflow() -> None:
    """The softmax is shifted by its largest output."""
    loss, slopes, _ = loss_and_gradients([np.eye(10) * 1e4], [np.zeros(10)], np.eye(10), np.arange(10))
    assert loss == 0
    assert np.isfinite(slopes[0]).all()


def test_the_digits_are_held_out_by_a_fixed_split(digits: Digits) -> None:
    """500 for the test, 1,297 to learn from, no digit in both, the same at each call, pixels in [0, 1]."""
    assert digits.train.shape == (1297, 64)
    assert digits.test.shape == (500, 64)
    assert digits.train.dtype == np.float32
    assert (digits.train.min(), digits.train.max()) == (0, 1)
    assert np.array_equal(load_digits().test_classes, digits.test_classes)
    assert not {row.tobytes() for row in digits.train} & {row.tobytes() for row in digits.test}


def test_epochs_are_recorded_from_zero_and_only_the_start_has_no_loss(story: dict[str, list[Recorded]]) -> None:
    """Epoch 0 is the network as it started."""
    for run, recorded in story.items():
        assert [(r.run, r.epoch) for r in recorded] == [(run, epoch) for epoch in range(13)]
        assert [r.epoch for r in recorded if r.loss is None] == [0]
        assert all(0 <= r.accuracy <= 1 for r in recorded)


def test_the_same_seed_trains_the_same_masks(digits: Digits) -> None:
    """Again from the start: same wiring, same accuracy, and the start network is untouched by its training."""
    (start,) = family(seed=4, networks=1)
    first, again = list(train(start, digits, epochs=3)), list(train(start, digits, epochs=3))
    (anew,) = family(seed=4, networks=1)
    assert first == again == list(train(anew, digits, epochs=3))


def test_networks_train_independently_of_each_other(digits: Digits) -> None:
    """Trained alone or in turns with another, w1 comes out the same: no generator is shared."""
    a, b = family(seed=4, networks=2)
    turns = list(zip(train(a, digits, epochs=2), train(b, digits, epochs=2), strict=True))
    assert [r for _, r in turns] == list(train(b, digits, epochs=2))


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"batch": 0}, {"zeta": 1.0}, {"zeta": -0.1}])
def test_training_that_cannot_be_is_refused_at_the_call(wrong: dict[str, float], digits: Digits) -> None:
    """Not at the first epoch asked for."""
    (start,) = family(networks=1)
    with pytest.raises(InvalidInputError, match="expected epochs"):
        train(start, digits, **wrong)  # type: ignore[arg-type]


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message holds the command that installs it."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[demo\]'"):
        load_digits()


# The story


def test_all_networks_reach_about_the_same_accuracy(story: dict[str, list[Recorded]]) -> None:
    """From guessing to well over 90 % in a dozen epochs, SET, static and dense alike."""
    assert all(recorded[0].accuracy < 0.3 for recorded in story.values())
    ends = [recorded[-1].accuracy for recorded in story.values()]
    assert min(ends) > 0.94
    assert max(ends) - min(ends) < 0.03


@pytest.mark.parametrize("distance", [identity_distance, greedy_distance])
def test_distances_grow_from_hundredths_to_several_tenths(
    distance: Callable[[Topology, Topology], float], story: dict[str, list[Recorded]]
) -> None:
    """Neighbours start 1 to 3 hundredths apart and end far apart, though every one trained well."""
    for a, b in (("w0", "w1"), ("w1", "w2")):
        assert 0.01 < distance(story[a][0].topology, story[b][0].topology) < 0.03
        assert distance(story[a][-1].topology, story[b][-1].topology) > 0.3


def test_gradual_pruning_ends_at_the_density_of_the_network(digits: Digits) -> None:
    """From all connections to as many as the sparse network has, two thirds through; none returns, and it learns."""
    network = family(seed=9, networks=1)[0]
    records = list(train(network, digits, epochs=9, rewire="prune"))
    masks = [[layer.mask for layer in record.topology.layers] for record in records]
    assert all(mask.nnz == mask.size for mask in masks[1])
    assert [mask.nnz for mask in masks[7]] == [int(mask.sum()) for mask in network.masks]
    for before, after in pairwise(masks):
        assert all(np.isin(now.cells, old.cells).all() for old, now in zip(before, after, strict=True))
    assert records[-1].accuracy > 0.9


def test_the_weakest_connections_are_pruned() -> None:
    """Of the weights that a layer has the largest stay, whatever their sign; an absent one never comes back."""
    mask = np.array([[True, True, True, False]])
    weights = np.array([[0.1, -0.3, 0.2, 0.0]], dtype=np.float32)
    learner = _Learner(Network("w0", (mask,), (weights,), 0, 0), 0.1, 0.9, 0.0)
    learner.thin([0.5])
    assert learner.masks[0].tolist() == [[False, True, True, False]]
    assert learner.weights[0].tolist() == [[0.0, pytest.approx(-0.3), pytest.approx(0.2), 0.0]]
