"""A perceptron whose weights are masked: the sparse and the dense network of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import MissingExtraError
from topostrata.experiments.settings import Setting

try:
    import torch
    from torch.nn import functional
except ImportError:  # the extra [torch]; doctests and readers of this module need none
    torch = None

if TYPE_CHECKING:
    from torch import Tensor

# A network's generators are seeded by seed, width and purpose; the minibatches are the same for the two of a pair.
_MASK, _WEIGHTS, _BATCHES = 1, 2, 3


def generator(setting: Setting, purpose: int) -> np.random.Generator:
    """The random numbers of one purpose: the same minibatches for both networks, masks and weights of their own."""
    own = 0 if purpose == _BATCHES else 1 + (setting.kind == "dense")
    return np.random.default_rng((setting.seed, setting.dense_width, purpose, own))


def batches(setting: Setting) -> np.random.Generator:
    """The order of examples, the same for both networks of a pair."""
    return generator(setting, _BATCHES)


def draw_masks(setting: Setting, features: int, classes: int) -> list[NDArray[np.bool_]]:
    """A mask of shape (sources, targets) for each layer, with exactly its capacity at places drawn without weights."""
    rng = generator(setting, _MASK)
    masks = []
    for shape, active in zip(setting.shapes(features, classes), setting.capacities(features, classes), strict=True):
        mask = np.zeros(shape, dtype=bool)
        mask.flat[rng.choice(mask.size, active, replace=False)] = True
        masks.append(mask)
    return masks


def draw_weights(setting: Setting, masks: list[NDArray[np.bool_]]) -> list[NDArray[np.float32]]:
    """Weights where the masks are; their spread is that of the dense network, sqrt(2 / its fan-in), for both.

    So the sparse network does not gain from the fan-in that its width would give it (He et al. 2015 for the spread).
    """
    rng = generator(setting, _WEIGHTS)
    weights = []
    for k, mask in enumerate(masks):
        fan_in = setting.dense_width if k else mask.shape[0]
        layer = np.zeros(mask.shape, dtype=np.float32)
        layer[mask] = rng.normal(0, np.sqrt(2 / fan_in), int(mask.sum()))
        weights.append(layer)
    return weights


@dataclass
class Network:
    """A masked perceptron. ``weights`` are tensors of shape (sources, targets), 0 where ``masks`` are 0.

    Only ``clear_masked`` keeps the gradients of masked weights from the optimiser; until then they are there to be
    measured. ``unit_parameters`` gives biases, and batch norm its scales and shifts; without them the two networks of a
    pair have as many trainable numbers.
    """

    setting: Setting
    masks: list[Tensor]
    weights: list[Tensor]
    slopes: list[Tensor]
    shifts: list[Tensor]
    scales: list[Tensor]
    running: list[tuple[Tensor, Tensor]]

    @classmethod
    def drawn(cls, setting: Setting, features: int, classes: int) -> Network:
        """The network before training."""
        if torch is None:
            raise MissingExtraError("training the networks of a comparison", "torch")
        masks = draw_masks(setting, features, classes)
        weights = draw_weights(setting, masks)
        widths = [mask.shape[1] for mask in masks]
        inner = widths[:-1]
        return cls(
            setting,
            [torch.from_numpy(mask) for mask in masks],
            [torch.from_numpy(layer).requires_grad_() for layer in weights],
            [torch.full((1,), 0.25, requires_grad=True) for _ in inner] if setting.activation == "prelu" else [],
            [torch.zeros(n, requires_grad=True) for n in widths] if setting.unit_parameters else [],
            [torch.ones(n, requires_grad=True) for n in inner]
            if setting.unit_parameters and setting.has("batch_norm")
            else [],
            [(torch.zeros(n), torch.ones(n)) for n in inner] if setting.has("batch_norm") else [],
        )

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [*self.weights, *self.slopes, *self.shifts, *self.scales]

    def __call__(self, inputs: Tensor, *, training: bool) -> Tensor:
        """The scores of the classes, one row an example."""
        units = inputs
        for k, weights in enumerate(self.weights):
            entered = units @ weights
            if k == len(self.weights) - 1:
                return entered + self.shifts[k] if self.shifts else entered
            shift = self.shifts[k] if self.shifts else None
            if self.running:
                mean, variance = self.running[k]
                scale = self.scales[k] if self.scales else None
                entered = functional.batch_norm(entered, mean, variance, scale, shift, training=training)
            elif shift is not None:
                entered = entered + shift
            active = self._activation(k, entered)
            units = units + active if k and self.setting.has("skip") else active
        raise AssertionError

    def _activation(self, k: int, entered: Tensor) -> Tensor:
        match self.setting.activation:
            case "relu":
                return functional.relu(entered)
            case "prelu":
                return functional.prelu(entered, self.slopes[k])
            case "silu":
                return functional.silu(entered)
            case "sigmoid":
                return torch.sigmoid(entered)
            case "tanh":
                return torch.tanh(entered)

    def clear_masked(self) -> None:
        """Set the gradients of masked weights to 0, so that no optimiser moves them."""
        for weights, mask in zip(self.weights, self.masks, strict=True):
            if weights.grad is not None:
                weights.grad.mul_(mask)
