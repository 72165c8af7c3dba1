"""One training of a comparison, from its setting to what the archive keeps of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topostrata.experiments.network import Network, batches
from topostrata.experiments.settings import Data, Setting
from topostrata.measures.gradients import GradientFlow, gradient_flow
from topostrata.topology import LayerShape, Space, Topology, Wiring

try:
    import torch
    from torch.nn import functional
except ImportError:  # the extra [torch]; Network.drawn says so
    torch = None

if TYPE_CHECKING:
    from torch import Tensor

MOMENTS = 11  # evenly spread over training, as the paper averages the flow


@dataclass(frozen=True, slots=True)
class Moment:
    """The network after so many epochs: how good it is, and how the gradients of the next minibatch flow."""

    epoch: int
    step: int
    metrics: dict[str, float]
    layer_metrics: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Trained:
    """A whole training: the wiring, which does not change, and its moments."""

    setting: Setting
    topology: Topology
    moments: tuple[Moment, ...]


def measured_epochs(epochs: int) -> list[int]:
    """The epochs at whose beginning the flow is measured: 11 evenly spaced ones, or all where there are fewer.

    >>> measured_epochs(50)
    [0, 5, 10, 15, 20, 24, 29, 34, 39, 44, 49]
    """
    return sorted({round(epoch) for epoch in np.linspace(0, epochs - 1, min(MOMENTS, epochs))})


def train(setting: Setting, data: Data) -> Trained:
    """Train one network; the same setting and data give the same numbers on one machine.

    A moment has ``accuracy`` on the test examples and, but for the last one, the training ``loss`` and gradient flow of
    the epoch's first minibatch, before the optimiser moves anything.
    """
    threads = torch.get_num_threads() if torch is not None else 1
    features, classes = data.train.shape[1], int(data.train_classes.max()) + 1
    network = Network.drawn(setting, features, classes)
    torch.set_num_threads(1)  # so that sums have one order; a study has a process for each core
    try:
        return Trained(setting, _topology(network), tuple(_moments(network, data)))
    finally:
        torch.set_num_threads(threads)


def _moments(network: Network, data: Data) -> Iterator[Moment]:
    setting = network.setting
    optimiser, order = _optimiser(network), batches(setting)
    inputs, wanted = _tensors(data.train, data.train_classes)
    questions, answers = _tensors(data.test, data.test_classes)
    measured, step = set(measured_epochs(setting.epochs)), 0
    for epoch in range(setting.epochs):
        parts = torch.from_numpy(order.permutation(len(inputs))).split(setting.batch)
        accuracy = _accuracy(network, questions, answers) if epoch in measured else None
        for k, part in enumerate(parts):
            if len(part) < 2:
                continue  # batch norm needs two examples
            optimiser.zero_grad()
            loss = functional.cross_entropy(network(inputs[part], training=True), wanted[part])
            loss.backward()
            if k == 0 and accuracy is not None:
                yield _moment(epoch, step, accuracy, float(loss.detach()), _flow(network))
            network.clear_masked()
            optimiser.step()
            step += 1
    yield _moment(setting.epochs, step, _accuracy(network, questions, answers), None, None)


def _moment(epoch: int, step: int, accuracy: float, loss: float | None, flow: GradientFlow | None) -> Moment:
    """What is no finite number is not there: a training that diverged has no flow."""
    metrics = {"accuracy": accuracy}
    layers: dict[str, dict[str, float]] = {}
    if loss is not None and flow is not None:
        metrics |= {"loss": loss, "egf_1": flow.egf_1, "egf_2": flow.egf_2}
        metrics |= {"gradient_norm_1": flow.gradient_norm_1, "gradient_norm_2": flow.gradient_norm_2}
        layers = {p.name: _finite({"flow_1": p.flow_1, "flow_2": p.flow_2}) for p in flow.parameters}
    return Moment(epoch, step, _finite(metrics), layers)


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _flow(network: Network) -> GradientFlow:
    names = [f"l{k}" for k in range(len(network.weights))]
    gradients = {name: layer.grad for name, layer in zip(names, network.weights, strict=True)}
    return gradient_flow(gradients, dict(zip(names, network.masks, strict=True)))


def _accuracy(network: Network, questions: Tensor, answers: Tensor) -> float:
    with torch.no_grad():
        return float((network(questions, training=False).argmax(dim=1) == answers).double().mean())


def _tensors(examples: Any, classes: Any) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(np.asarray(examples, np.float32)), torch.as_tensor(np.asarray(classes, np.int64))


def _topology(network: Network) -> Topology:
    masks = [mask.numpy() for mask in network.masks]
    if not network.setting.has("skip"):
        return Topology.from_masks(masks)
    # A layer between hidden units adds to the units that it reads, so all hidden units are those of one space.
    (features, width), (_, classes) = masks[0].shape, masks[-1].shape
    stream = Space("stream", width)
    sources = [Space("input", features, labelled=True), *[stream] * (len(masks) - 1)]
    targets = [*[stream] * (len(masks) - 1), Space("output", classes, labelled=True)]
    layers = [LayerShape(f"l{k}", *spaces) for k, spaces in enumerate(zip(sources, targets, strict=True))]
    return Wiring(tuple(layers)).place({f"l{k}": mask for k, mask in enumerate(masks)})


def _optimiser(network: Network) -> torch.optim.Optimizer:
    setting = network.setting
    rate = {"lr": setting.learning_rate}
    decay = setting.weight_decay if setting.has("l2") else 0.0
    match setting.optimiser:
        case "sgd":
            return torch.optim.SGD(network.parameters, weight_decay=decay, **rate)
        case "momentum":
            return torch.optim.SGD(network.parameters, momentum=0.9, weight_decay=decay, **rate)
        case "adagrad":
            return torch.optim.Adagrad(network.parameters, weight_decay=decay, **rate)
        case "rmsprop":
            return torch.optim.RMSprop(network.parameters, weight_decay=decay, **rate)
        case "adam":
            return torch.optim.Adam(network.parameters, weight_decay=decay, **rate)
        case "adamw":
            return torch.optim.AdamW(network.parameters, weight_decay=decay, **rate)
