"""Sparse evolutionary training (SET) on handwritten digits, in plain NumPy: the networks that the demo archives.

Each network of a family differs from the one before in 1 % of its connections (Liu et al. 2020, section 3). All are
trained independently. After every epoch SET removes the weakest connections of each sparse layer and grows as many at
random free places (Mocanu et al. 2018). Static sparse networks, dense ones, and dense ones that are pruned by and by to
the same number of connections can be trained for comparison. Every epoch yields a ``Recorded``: the wiring and its
accuracy on digits that were not trained on.

A layer is a dense array of shape (sources, targets) that is 0 outside its mask: at these sizes a masked BLAS product is
faster than a sparse one, and the arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, MissingExtraError
from topostrata.measures.gradients import GradientFlow, gradient_flow
from topostrata.topology import Topology

Rewire = Literal["set", "static", "dense", "prune"]
Floats = NDArray[Any]  # float32 in training, float64 where gradients are checked against finite differences
Bools = NDArray[np.bool_]

HIDDEN = (120, 120, 120)
FEATURES, CLASSES = 64, 10
TEST_DIGITS = 500

# A generator is seeded by (seed, network, purpose). So the draws of a network do not depend on the number of networks,
# and a static twin sees the same minibatches as its original. No purpose is 0, because NumPy ignores trailing zeros.
_WIRING, _WEIGHTS, _PERTURBATION, _BATCHES, _REWIRING, _DENSE = range(1, 7)
_SPLIT_SEED = 20_200_624  # the split does not depend on the seed of the networks

# A grown weight is drawn with a tenth of the spread of the layer's first weights. It is small, so that it hardly
# changes the outputs, and random, because pruning treats the two signs separately.
_GROWN_SHARE = 0.1

# Gradual pruning is done after so much of the training; the rest lets the weights that are left settle.
_PRUNED_BY = 2 / 3


@dataclass(frozen=True, eq=False)
class Digits:
    """Scikit-learn's digits, always split in the same way: pixels as float32 in [0, 1], classes 0 to 9."""

    train: NDArray[np.float32]
    train_classes: NDArray[np.int64]
    test: NDArray[np.float32]
    test_classes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Network:
    """A network before training: per layer its mask and its weights, both of shape (sources, targets).

    ``seed`` and ``index`` seed its generators: training it twice on one machine gives the same masks.
    """

    run: str
    masks: tuple[Bools, ...]
    weights: tuple[NDArray[np.float32], ...]
    seed: int
    index: int

    @property
    def topology(self) -> Topology:
        """The wiring it starts with."""
        return Topology.from_masks(self.masks)


@dataclass(frozen=True)
class Recorded:
    """One network after one epoch: its wiring, its accuracy on the test digits, its gradient flow, its training loss.

    The accuracy is that of exactly this wiring, because SET rewires after the epoch has been recorded. Epoch 0 is the
    network before training, so it has no loss. The gradients are those of all training digits.
    """

    run: str
    epoch: int
    topology: Topology
    accuracy: float
    loss: float | None
    flow: GradientFlow


def load_digits() -> Digits:
    """The 1,797 digits that scikit-learn contains, 500 of them for testing; nothing is downloaded."""
    try:
        from sklearn.datasets import load_digits as load  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise MissingExtraError("the demo", "demo") from error
    pixels, classes = load(return_X_y=True)
    pixels, classes = (pixels / 16).astype(np.float32), classes.astype(np.int64)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(classes))
    test, rest = order[:TEST_DIGITS], order[TEST_DIGITS:]
    return Digits(pixels[rest], classes[rest], pixels[test], classes[test])


def family(
    seed: int = 2020, networks: int = 5, perturb: float = 0.01, *, epsilon: float = 7.0, hidden: Sequence[int] = HIDDEN
) -> list[Network]:
    """Untrained networks w0, w1, ...: w0 is an Erdos-Renyi graph, each next one differs by ``perturb``.

    A layer of n_in x n_out units has ``epsilon * (n_in + n_out)`` connections at random places; the last layer has all.
    In every sparse layer of w(i+1), that share of w(i)'s connections (rounded, at least one) has moved to places that
    were free in w(i). A moved connection keeps its weight. All other connections and weights are those of w(i).
    """
    if seed < 0 or networks < 1 or not 0 < perturb < 1 or epsilon <= 0:
        raise InvalidInputError(
            "family: expected seed >= 0, networks >= 1, 0 < perturb < 1, epsilon > 0, "
            f"found {seed}, {networks}, {perturb}, {epsilon}"
        )
    wiring, drawing = _generator(seed, 0, _WIRING), _generator(seed, 0, _WEIGHTS)
    widths = (FEATURES, *hidden, CLASSES)
    masks = [erdos_renyi(n_in, n_out, epsilon, wiring) for n_in, n_out in pairwise(widths[:-1])]
    masks.append(np.ones(widths[-2:], dtype=bool))
    members = [Network("w0", tuple(masks), tuple(_draw_weights(mask, drawing) for mask in masks), seed, 0)]
    for index in range(1, networks):
        members.append(_perturbed(members[-1], index, perturb))
    return members


def train(
    network: Network,
    data: Digits,
    *,
    epochs: int = 30,
    rewire: Rewire = "set",
    zeta: float = 0.3,
    run: str | None = None,
    draws: int | None = None,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    batch: int = 32,
) -> Iterator[Recorded]:
    """Train by stochastic gradient descent, recording the start (epoch 0) and every epoch, as ``run`` (network.run).

    ``rewire="set"`` replaces in every sparse layer the fraction ``zeta`` of the connections between two epochs (so not
    after the last), ``"static"`` keeps the mask, ``"dense"`` trains a network of the same widths with all connections
    and weights of its own, and ``"prune"`` such a network of which between two epochs the weakest connections go for
    good, until each layer has as many as the layer of ``network`` (``pruned_density``). The learning rate falls in
    equal steps, from epoch to epoch, to 1 / epochs of its value. Other ``draws`` (``network.index``) give other
    minibatches and rewirings to the same first weights. ``network`` itself does not change.
    """
    if epochs < 0 or batch < 1 or not 0 <= zeta < 1:
        raise InvalidInputError(
            f"train: expected epochs >= 0, batch >= 1, 0 <= zeta < 1, found {epochs}, {batch}, {zeta}"
        )
    start = dense_twin(network) if rewire in {"dense", "prune"} else network
    learner = _Learner(start, learning_rate, momentum, weight_decay)
    return _epochs(
        learner,
        replace(start, run=run or start.run, index=start.index if draws is None else draws),
        data,
        epochs=epochs,
        zeta=zeta if rewire == "set" else 0.0,
        densities=[mask.mean() for mask in network.masks] if rewire == "prune" else None,
        batch=batch,
    )


def _epochs(
    learner: _Learner,
    network: Network,
    data: Digits,
    *,
    epochs: int,
    zeta: float,
    densities: Sequence[float] | None,
    batch: int,
) -> Iterator[Recorded]:
    batches = _generator(network.seed, network.index, _BATCHES)
    rewiring = _generator(network.seed, network.index, _REWIRING)
    topology = network.topology
    flow = learner.flow(data.train, data.train_classes)
    yield Recorded(network.run, 0, topology, learner.accuracy(data.test, data.test_classes), None, flow)
    for epoch in range(1, epochs + 1):
        if zeta and epoch > 1:
            learner.rewire(zeta, rewiring)
            topology = Topology.from_masks(learner.masks)
        if densities is not None and epoch > 1:
            learner.thin([pruned_density(final, epoch - 1, epochs) for final in densities])
            topology = Topology.from_masks(learner.masks)
        pace = 1 - (epoch - 1) / epochs
        loss = learner.learn(data.train, data.train_classes, batch, pace, batches)
        flow = learner.flow(data.train, data.train_classes)
        yield Recorded(network.run, epoch, topology, learner.accuracy(data.test, data.test_classes), loss, flow)


class _Learner:
    """The part of a network that changes: weights, biases, masks, and the momentum of weights and biases."""

    def __init__(self, network: Network, learning_rate: float, momentum: float, weight_decay: float) -> None:
        self.masks = [mask.copy() for mask in network.masks]
        self.weights: list[Floats] = [weights.copy() for weights in network.weights]
        self.biases: list[Floats] = [np.zeros(mask.shape[1], dtype=np.float32) for mask in network.masks]
        self._grown_spread = [_GROWN_SHARE * _spread(mask) for mask in network.masks]
        self._weight_speed = [np.zeros_like(weights) for weights in self.weights]
        self._bias_speed = [np.zeros_like(biases) for biases in self.biases]
        self._learning_rate, self._momentum, self._weight_decay = learning_rate, momentum, weight_decay

    def learn(
        self, inputs: Floats, classes: NDArray[np.int64], batch: int, pace: float, rng: np.random.Generator
    ) -> float:
        """Train for one epoch in a new order, with ``pace`` times the learning rate; return the mean loss."""
        order = rng.permutation(len(classes))
        total = 0.0
        for at in range(0, len(order), batch):
            chosen = order[at : at + batch]
            loss, weight_slopes, bias_slopes = loss_and_gradients(
                self.weights, self.biases, inputs[chosen], classes[chosen]
            )
            total += loss * len(chosen)
            for k, mask in enumerate(self.masks):
                slope = weight_slopes[k]
                slope += self._weight_decay * self.weights[k]
                slope *= mask  # only this enforces the wiring: the weights of absent connections stay 0
                self._step(self.weights[k], self._weight_speed[k], pace * slope)
                self._step(self.biases[k], self._bias_speed[k], pace * bias_slopes[k])
        return total / len(order)

    def _step(self, values: Floats, speed: Floats, slope: Floats) -> None:
        speed *= self._momentum
        speed -= self._learning_rate * slope
        values += speed

    def accuracy(self, inputs: Floats, classes: NDArray[np.int64]) -> float:
        """Share of the inputs whose class has the largest output, 0 to 1."""
        outputs = _activations(self.weights, self.biases, inputs)[-1]
        return float(np.mean(np.argmax(outputs, axis=1) == classes))

    def flow(self, inputs: Floats, classes: NDArray[np.int64]) -> GradientFlow:
        """How the gradients of these inputs flow, by the names of the layers and of their biases."""
        _, weight_slopes, bias_slopes = loss_and_gradients(self.weights, self.biases, inputs, classes)
        slopes = {f"l{k}": slope for k, slope in enumerate(weight_slopes)}
        slopes |= {f"l{k}.bias": slope for k, slope in enumerate(bias_slopes)}
        return gradient_flow(slopes, self.masks)

    def rewire(self, zeta: float, rng: np.random.Generator) -> None:
        """One step of SET in every sparse layer. A full layer has no free places and stays as it is."""
        for k, mask in enumerate(self.masks):
            if mask.all():
                continue
            pruned = prune(self.weights[k], mask, zeta)
            grown = grow(pruned, int(mask.sum()) - int(pruned.sum()), rng)
            new = grown & ~pruned
            self.weights[k][~pruned] = 0
            self.weights[k][new] = rng.normal(0, self._grown_spread[k], int(new.sum()))
            self._weight_speed[k][~pruned] = 0  # a grown connection inherits no momentum from an earlier one
            self.masks[k] = grown

    def thin(self, densities: Sequence[float]) -> None:
        """Keep this share of each layer's possible connections: those of the largest weights, of those that it has."""
        for k, (mask, density) in enumerate(zip(self.masks, densities, strict=True)):
            sizes = np.where(mask, np.abs(self.weights[k]), -1.0)
            gone = np.argsort(sizes, axis=None, kind="stable")[: mask.size - round(density * mask.size)]
            mask.flat[gone] = False
            self.weights[k].flat[gone] = 0
            self._weight_speed[k].flat[gone] = 0


def pruned_density(final: float, epoch: int, epochs: int) -> float:
    """The density after so many epochs of gradual pruning: from 1 to ``final``, fast at first, then ever more slowly.

    ``final + (1 - final) (1 - t)^3``, t going from 0 to 1 in the first two thirds of the training (Zhu and Gupta 2017).

    >>> [round(pruned_density(0.1, epoch, 60), 3) for epoch in (0, 10, 20, 40, 60)]
    [1.0, 0.48, 0.213, 0.1, 0.1]
    """
    t = min(1.0, epoch / (_PRUNED_BY * epochs))
    return final + (1 - final) * (1 - t) ** 3


def loss_and_gradients(
    weights: Sequence[Floats], biases: Sequence[Floats], inputs: Floats, classes: NDArray[np.int64]
) -> tuple[float, list[Floats], list[Floats]]:
    """Mean cross-entropy of a batch, and its gradients by weights (absent ones included) and by biases."""
    layers = _activations(weights, biases, inputs)
    rows = np.arange(len(classes))
    shifted = layers[-1] - layers[-1].max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - shifted[rows, classes]))
    slope = exponentials / sums
    slope[rows, classes] -= 1
    slope /= len(classes)
    weight_slopes, bias_slopes = [], []
    for k in reversed(range(len(weights))):
        weight_slopes.append(layers[k].T @ slope)
        bias_slopes.append(slope.sum(axis=0))
        if k:
            slope = (slope @ weights[k].T) * (layers[k] > 0)
    return loss, weight_slopes[::-1], bias_slopes[::-1]


def _activations(weights: Sequence[Floats], biases: Sequence[Floats], inputs: Floats) -> list[Floats]:
    """The inputs, then the outputs of each layer: rectified, except those of the last layer, which are log-odds."""
    layers = [inputs]
    for k in range(len(weights)):
        outputs = layers[-1] @ weights[k] + biases[k]
        layers.append(outputs if k == len(weights) - 1 else np.maximum(outputs, 0))
    return layers


def prune(weights: Floats, mask: Bools, zeta: float) -> Bools:
    """The mask without the fraction ``zeta`` of its positive weights and of its negative ones that are closest to 0.

    The number is rounded for each sign. A weight of 0 counts as positive. Equal weights are pruned in the order of
    cells.
    """
    pruned = mask.copy()
    for side in (mask & (weights >= 0), mask & (weights < 0)):
        cells = np.flatnonzero(side)
        weakest = np.argsort(np.abs(weights.flat[cells]), kind="stable")
        pruned.flat[cells[weakest[: round(zeta * len(cells))]]] = False
    return pruned


def grow(mask: Bools, connections: int, rng: np.random.Generator) -> Bools:
    """The mask with this many more connections, at places drawn from all free ones, including those just pruned."""
    grown = mask.copy()
    grown.flat[rng.choice(np.flatnonzero(~mask), connections, replace=False)] = True
    return grown


def erdos_renyi(n_in: int, n_out: int, epsilon: float, rng: np.random.Generator) -> Bools:
    """A random mask of shape (n_in, n_out) with exactly ``epsilon * (n_in + n_out)`` connections, rounded."""
    connections = round(epsilon * (n_in + n_out))
    if not 0 < connections < n_in * n_out:
        raise InvalidInputError(
            f"epsilon {epsilon}: expected 1 to {n_in * n_out - 1} connections in a sparse layer of {n_in} x {n_out}, "
            f"found {connections}"
        )
    return grow(np.zeros((n_in, n_out), dtype=bool), connections, rng)


def _perturbed(parent: Network, index: int, share: float) -> Network:
    rng = _generator(parent.seed, index, _PERTURBATION)
    masks, weights = list(parent.masks), list(parent.weights)
    for k, mask in enumerate(parent.masks):
        if mask.all():
            continue
        count = max(1, round(share * int(mask.sum())))
        leaving = rng.choice(np.flatnonzero(mask), count, replace=False)
        taken = rng.choice(np.flatnonzero(~mask), count, replace=False)
        masks[k], weights[k] = mask.copy(), weights[k].copy()
        masks[k].flat[leaving], masks[k].flat[taken] = False, True
        weights[k].flat[taken], weights[k].flat[leaving] = weights[k].flat[leaving], 0
    return Network(f"w{index}", tuple(masks), tuple(weights), parent.seed, index)


def dense_twin(network: Network) -> Network:
    """The network of the same widths with all connections and first weights of its own, as ``train`` makes it."""
    rng = _generator(network.seed, network.index, _DENSE)
    masks = tuple(np.ones_like(mask) for mask in network.masks)
    return replace(network, masks=masks, weights=tuple(_draw_weights(mask, rng) for mask in masks))


def _draw_weights(mask: Bools, rng: np.random.Generator) -> NDArray[np.float32]:
    return (rng.normal(0, _spread(mask), mask.shape) * mask).astype(np.float32)


def _spread(mask: Bools) -> float:
    """He's standard deviation for the connections that exist: sqrt(2 / mean fan-in)."""
    return float(np.sqrt(2 * mask.shape[1] / mask.sum()))


def _generator(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, purpose])
