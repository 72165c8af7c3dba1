"""What one training of a comparison is: plain values, which also are the config of its run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError

Kind = Literal["sparse", "dense"]
Optimiser = Literal["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"]
Activation = Literal["relu", "prelu", "silu", "sigmoid", "tanh"]
Regulariser = Literal["none", "batch_norm", "skip", "l2"]

# Steps at which plain networks of a few layers learn digits; a study states its own where they do not suit.
LEARNING_RATES: Mapping[Optimiser, float] = {
    "sgd": 0.1,
    "momentum": 0.02,
    "adagrad": 0.02,
    "rmsprop": 0.001,
    "adam": 0.001,
    "adamw": 0.001,
}


class Data(Protocol):
    """Examples to train and to test on: float arrays of shape (examples, features) and classes from 0 on."""

    @property
    def train(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def train_classes(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def test(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def test_classes(self) -> NDArray[np.int64]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Setting:
    """One network and how it is trained.

    ``dense_width`` is the width of the hidden layers of the dense network, ``sparse_width`` that of the sparse one,
    which has as many active weights in each layer. ``regulariser`` is ``"none"`` or a sum such as ``"batch_norm+l2"``.
    """

    kind: Kind
    dense_width: int
    sparse_width: int
    hidden: int
    optimiser: Optimiser
    regulariser: str
    activation: Activation
    seed: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    unit_parameters: bool

    def __post_init__(self) -> None:
        for name, known in (("kind", Kind), ("optimiser", Optimiser), ("activation", Activation)):
            if getattr(self, name) not in get_args(known):
                expected = ", ".join(get_args(known))
                raise InvalidInputError(f"{name}: expected one of {expected}, found {getattr(self, name)!r}")
        parts = self.regulariser.split("+")
        if (
            not set(parts) <= set(get_args(Regulariser))
            or len(set(parts)) < len(parts)
            or (len(parts) > 1 and "none" in parts)
        ):
            raise InvalidInputError(
                f"regulariser: expected none or a sum of batch_norm, skip and l2, found {self.regulariser!r}"
            )
        if not 1 <= self.dense_width <= self.sparse_width:
            raise InvalidInputError(
                "dense_width: expected 1 to the sparse width, so that the dense layers' weights fit into the sparse "
                f"ones, found {self.dense_width} and {self.sparse_width}"
            )
        for name, least in (("hidden", 1), ("seed", 0), ("epochs", 1), ("batch", 2)):
            if getattr(self, name) < least:
                raise InvalidInputError(f"{name}: expected {least} or more, found {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InvalidInputError(f"{name}: expected a number from 0 on, found {getattr(self, name)}")

    @property
    def width(self) -> int:
        """The width of this network's hidden layers."""
        return self.sparse_width if self.kind == "sparse" else self.dense_width

    def has(self, part: Regulariser) -> bool:
        """Whether the regulariser has this part."""
        return part in self.regulariser.split("+")

    def shapes(self, features: int, classes: int) -> list[tuple[int, int]]:
        """The shape (sources, targets) of each layer."""
        return list(pairwise((features, *[self.width] * self.hidden, classes)))

    def capacities(self, features: int, classes: int) -> list[int]:
        """The active weights of each layer: those of the dense network, for both."""
        return [a * b for a, b in pairwise((features, *[self.dense_width] * self.hidden, classes))]

    def config(self) -> dict[str, Any]:
        """All of it as the config of a run."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
