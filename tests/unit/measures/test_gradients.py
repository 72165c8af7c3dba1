"""Gradient flow: a network by hand, another implementation, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from topostrata.errors import InvalidInputError
from topostrata.measures.gradients import GradientFlow, gradient_flow

# One sample, squared error, y = w2 relu(W1 x), x = (1, 2), target 1; row = target unit. h = (3, 1), y = 5, dC/dy = 8.
# dC/dw2 = 8 h; dC/dW1 = 8 w2_i x_j; masks take out W1[1, 0], whose weight is 0.
W1, W2 = np.array([[1.0, 1.0], [0.0, 0.5]]), np.array([[1.0, 2.0]])
BY_HAND = {"fc1": [[8.0, 16.0], [16.0, 32.0]], "fc2": [[24.0, 8.0]]}
MASKS = {"fc1": [[1, 1], [0, 1]]}


def test_a_network_by_hand() -> None:
    """The norms of each parameter, their means, and the norm of everything with the masked weight in it."""
    flow = gradient_flow(BY_HAND, MASKS)
    fc1, fc2 = flow.parameters
    assert (fc1.flow_1, fc1.flow_2, fc1.active, fc1.size) == (56, math.sqrt(8**2 + 16**2 + 32**2), 3, 4)
    assert (fc2.flow_1, fc2.flow_2, fc2.active, fc2.size) == (32, math.sqrt(24**2 + 8**2), 2, 2)
    assert flow.egf_1 == (56 + 32) / 2
    assert flow.egf_2 == pytest.approx((math.sqrt(1344) + math.sqrt(640)) / 2, rel=1e-15)
    assert flow.egf_1_per_weight == pytest.approx((56 / 3 + 32 / 2) / 2, rel=1e-15)
    assert flow.egf_2_per_weight == pytest.approx((math.sqrt(1344) / 3 + math.sqrt(640) / 2) / 2, rel=1e-15)
    assert flow.gradient_norm_1 == 72 + 32
    assert flow.gradient_norm_2 == pytest.approx(math.sqrt(1600 + 640), rel=1e-15)


def test_the_network_by_hand_is_differentiated_rightly() -> None:
    """Its gradients are what finite differences of its cost give, the masked weight's included."""

    def cost(w1: np.ndarray, w2: np.ndarray) -> float:
        return float(((w2 @ np.maximum(w1 @ [1.0, 2.0], 0))[0] - 1) ** 2)

    step = 1e-6
    for name, weights in {"fc1": W1, "fc2": W2}.items():
        for at in np.ndindex(weights.shape):
            moved = [weights.copy(), weights.copy()]
            moved[0][at] += step
            moved[1][at] -= step
            up, down = (cost(w, W2) if name == "fc1" else cost(W1, w) for w in moved)
            assert (up - down) / (2 * step) == pytest.approx(np.array(BY_HAND[name])[at], rel=1e-6)


def independent(gradients: dict[str, np.ndarray], masks: dict[str, np.ndarray], *, biases: bool) -> dict[str, float]:
    """The same numbers from the definitions, with NumPy's norms of whole vectors."""
    chosen = [name for name in gradients if biases or gradients[name].ndim > 1]
    whole = np.concatenate([gradients[name].astype(np.float64).ravel() for name in gradients])
    numbers: dict[str, float] = {}
    for p in (1, 2):
        masked = {n: (gradients[n].astype(np.float64) * masks.get(n, 1)).ravel() for n in chosen}
        active = {n: masks[n].sum() if n in masks else gradients[n].size for n in chosen}
        norms = {n: np.linalg.norm(masked[n], p) for n in chosen}
        numbers[f"egf_{p}"] = float(np.mean(list(norms.values())))
        numbers[f"egf_{p}_per_weight"] = float(np.mean([norms[n] / active[n] for n in chosen]))
        numbers[f"gradient_norm_{p}"] = float(np.linalg.norm(whole, p))
    return numbers


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("biases", [False, True])
def test_another_implementation_agrees(dtype: str, *, biases: bool) -> None:
    """Layers larger than a block, kernels, dense ones, biases; the sums are of float64 whatever the gradients are."""
    random = np.random.default_rng(3)
    shapes = {"conv": (16, 8, 3, 3), "big": (300, 500), "dense": (20, 30), "bias": (20,), "norm.weight": (20,)}
    gradients = {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    masks = {name: random.random(shapes[name]) < 0.1 for name in ("conv", "big", "bias")}
    flow = gradient_flow(gradients, masks, biases=biases)
    for name, value in independent(gradients, masks, biases=biases).items():
        assert getattr(flow, name) == pytest.approx(value, rel=1e-12), name


def test_gradients_that_vanish_and_explode_are_squared_in_float64() -> None:
    """Squares of 1e-30 and 1e30 are none in float32."""
    flow = gradient_flow([np.full((2, 2), 1e-30, "float32"), np.full((2, 2), 1e30, "float32")])
    assert [p.flow_2 for p in flow.parameters] == pytest.approx([2e-30, 2e30], rel=1e-6)


def test_masks_are_read_in_every_form() -> None:
    """Boolean, numbers, sparse, as a list beside a list, and on an object that keeps masks by name."""

    class Masking:
        masks = MASKS

    plain = gradient_flow(BY_HAND, MASKS)
    mask = np.array(MASKS["fc1"])
    for form in (mask.astype(bool), mask.astype("float32"), sp.csr_array(mask), sp.coo_array(mask)):
        assert gradient_flow(BY_HAND, {"fc1": form, "fc2": None}) == plain
    assert gradient_flow(BY_HAND, Masking()) == plain
    listed = gradient_flow(list(BY_HAND.values()), [mask, None])
    assert [replace(p, name="") for p in listed.parameters] == [replace(p, name="") for p in plain.parameters]


def test_a_parameter_without_active_weights_adds_nothing() -> None:
    """It counts as a parameter, with a flow of 0 and 0 for each weight."""
    flow = gradient_flow(BY_HAND, {"fc1": np.zeros((2, 2))})
    assert (flow.parameters[0].flow_2, flow.egf_1, flow.egf_1_per_weight) == (0, 16, 8)


def test_a_parameter_without_a_gradient_is_missing() -> None:
    """It is named and not counted."""
    flow = gradient_flow({**BY_HAND, "frozen": None}, MASKS)
    assert flow == replace(gradient_flow(BY_HAND, MASKS), missing=("frozen",))


def test_the_scale_of_the_loss_is_divided_out() -> None:
    """Norms of gradients of a loss that was multiplied by 1024."""
    scaled = {name: 1024 * np.array(values) for name, values in BY_HAND.items()}
    assert gradient_flow(scaled, MASKS, scale=1024) == gradient_flow(BY_HAND, MASKS)


def test_what_is_not_finite_is_shown() -> None:
    """A gradient that overflowed has a norm that is not finite."""
    flow = gradient_flow({"fc": [[math.inf, 1.0]], "other": [[1.0, 2.0]]})
    assert math.isinf(flow.egf_1)
    assert flow.parameters[1].flow_1 == 3


@pytest.mark.parametrize(
    ("gradients", "masks", "scale", "message"),
    [
        ({}, None, 1, "expected gradients, found none in 0 parameters"),
        ({"a": None}, None, 1, "found none in 1 parameters"),
        ({"b": [1.0]}, None, 1, "two or more dimensions, found only those of b"),
        (BY_HAND, {"fc3": [[1]]}, 1, "mask 'fc3': expected one of the parameters fc1, fc2"),
        (BY_HAND, {"fc2": [[1], [0]]}, 1, r"'fc2': expected a mask of the gradient's shape \(1, 2\), found \(2, 1\)"),
        (BY_HAND, {"fc2": [[0.5, 1]]}, 1, "'fc2': expected a mask of 0 and 1, found 1 other values"),
        (BY_HAND, 3, 1, "masks: expected a dictionary or list"),
        (3, None, 1, "expected gradients by the names of their parameters or a torch module, found int"),
        ({"fc": [["a", "b"]]}, None, 1, "'fc': expected numbers"),
        (BY_HAND, None, 0, "scale: expected a number above 0"),
        (BY_HAND, None, "x", "scale: expected a number above 0"),
    ],
)
def test_what_is_none_is_refused(gradients: object, masks: object, scale: object, message: str) -> None:
    """No gradients, masks of nothing, of another shape or of other values than 0 and 1, a scale that is none."""
    with pytest.raises(InvalidInputError, match=message):
        gradient_flow(gradients, masks, scale=scale)


def test_equal_inputs_are_equal_values() -> None:
    """It is a value that can be compared and cannot be changed."""
    flow = gradient_flow(BY_HAND, MASKS)
    assert flow == gradient_flow(BY_HAND, MASKS)
    assert isinstance(flow, GradientFlow)
    with pytest.raises(AttributeError):
        flow.egf_1 = 0.0  # type: ignore[misc]
