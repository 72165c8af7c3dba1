"""The traced wiring of real models: it says all their symmetries, and no more."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import topostrata as ts
from tests import wirings
from tests.torch.libraries import IS_NEWEST
from tests.torch.models import MODELS, Example, LeNet, gpt2, lenet, mlp, pruned
from tests.torch.relabelling import relabelled_state, traced
from topostrata.errors import InvalidInputError, InvalidTopologyError, TopostrataError
from topostrata.ingest.hook.tracing.trace import TraceReport, trace_first_batch, trace_report
from topostrata.topology import Topology, Wiring

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")

# Free axes by size of the models that are not written by hand.
FREE_AXES = {
    "resnet50": {4: 7, 8: 8, 16: 13, 32: 7, 64: 1, 128: 1},
    "bert": {3: 2, 8: 4, 24: 2, 40: 2},
    # Exact would be more: both halves of what is shuffled are called one axis, which is less than is true.
    "shufflenet_v2": {4: 2, 6: 2, 8: 5, 12: 2, 16: 2, 40: 1},
    "swin": {2: 2, 4: 2, 8: 8, 16: 1, 32: 1, 64: 2, 128: 2},
    "pruned": {6: 1, 16: 1, 84: 1, 120: 1},
    "parametrized": {6: 1, 16: 1, 84: 1, 120: 1},
    "bare": {9: 1},
    "encoder": {3: 2, 8: 4, 24: 1, 40: 2},
}
ROUNDING = {"llama": 1e-5}  # its norms compute in single precision


def randomised(name: str) -> Example:
    """All weights and statistics random, in double precision, so that no symmetry comes from equal values."""
    torch.manual_seed(0)
    example = MODELS[name]()
    example.model.double().eval()
    example.args = tuple(x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in example.args)
    with torch.no_grad():
        for parameter in example.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for buffer_name, buffer in example.model.named_buffers():
            if buffer.is_floating_point() and "mask" not in buffer_name:
                buffer.add_(torch.rand_like(buffer) * 0.3)
    return example


def output(example: Example, state: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        result = torch.func.functional_call(example.model, state, example.args, example.named)
    return getattr(result, "logits", result)


def free_axes(wiring: Wiring) -> dict[int, int]:
    return dict(Counter(axis.size for axis in wiring.axes if not axis.fixed))


@pytest.mark.parametrize("name", MODELS)
def test_the_symmetries_of_a_traced_wiring_are_those_of_the_model(name: str) -> None:
    """Units that change places as the wiring allows leave the output as it was; a parameter moved alone does not."""
    example = randomised(name)
    seen, reading = traced(example)
    random_state = np.random.default_rng(1)
    permutations = wirings.random_permutations(random_state, reading.wiring)
    state = relabelled_state(example, seen, reading, permutations)
    expected = output(example, {})
    scale = float(expected.abs().max())
    rounding = ROUNDING.get(name, 1e-11)
    assert float((output(example, state) - expected).abs().max()) < rounding * scale
    old = dict(example.model.named_parameters())
    moved = [p for p in seen.parameters if old[p].dim() > 1 and not torch.equal(state[p], old[p])]
    alone = [
        float((output(example, {p: state[p]}) - expected).abs().max()) / scale
        for p in random_state.permutation(moved)[:5]
    ]
    assert min(alone) > 100 * rounding


@pytest.mark.parametrize("name", MODELS)
def test_a_traced_wiring_has_the_free_axes_of_the_model(name: str) -> None:
    """What is interchangeable is found, not only nothing wrong: fixing everything would pass every relabelling."""
    example = MODELS[name]()
    report = trace_report(example.model, example.args, example.named)
    assert free_axes(report.wiring) == (FREE_AXES | wirings.FREE_AXES)[name]
    assert (report.unknown, report.unused, report.unplaced) == ({}, (), {})
    data_decide = name == "bert" and not IS_NEWEST  # in the transformers that goes with it
    assert (report.mode, report.left_out) == ("real" if data_decide else "fake", "")
    assert report.wiring.normal_order == tuple(range(len(report.wiring)))
    assert Wiring.from_toml(report.wiring.to_toml()) == report.wiring
    assert set(report.fixed) == {axis.name for axis in report.wiring.axes if axis.fixed}


@pytest.mark.parametrize("name", MODELS)
def test_a_real_pass_shows_what_a_fake_one_does(name: str) -> None:
    """The wiring does not depend on whether there are data."""
    model, args, named = _called(MODELS[name]())
    assert trace_report(model, args, named, mode="real").wiring == trace_report(model, args, named).wiring


@pytest.mark.parametrize("name", [name for name in MODELS if name in wirings.MODELS])
def test_a_traced_wiring_is_the_one_written_by_hand(name: str) -> None:
    """The same masks in both give one digest, which covers axes, groups, ties, and every connection."""
    by_hand = wirings.MODELS[name]()
    example = MODELS[name]()
    wiring = ts.trace(example.model, example.args)
    assert (len(wiring), len(wiring.spaces)) == wirings.COUNTS[name]
    topology = by_hand.topology(np.random.default_rng(0))
    topology = Topology(tuple(topology.layers[k] for k in topology.wiring.normal_order))
    partners = topology.wiring.counterparts(wiring)
    masks = {wiring.layers[k].name: layer.mask for k, layer in zip(partners, topology, strict=True)}
    assert wiring.place({n: mask for n, mask in masks.items() if n not in wiring.shared_with}).digest == topology.digest


def test_parts_are_named_as_the_parameters_of_the_model() -> None:
    """The masks of a model go into its wiring by the names that the model gives them."""
    model = mlp().model
    wiring = ts.trace(model, torch.randn(3, 10))
    masks = {name: torch.rand(p.shape) < 0.5 for name, p in model.named_parameters() if p.dim() > 1}
    topology = wiring.place(masks)
    assert [layer.name for layer in topology] == ["0", "2", "4"]
    assert topology == Topology(Wiring.from_toml(wiring.to_toml()).place(masks).layers)
    assert topology["2"].nnz == int(masks["2.weight"].sum())


def test_a_pruned_model_has_the_wiring_of_the_model() -> None:
    """Pruning and parametrizations store a weight under other names, and change no name of the wiring."""
    whole = trace_report(*_called(lenet())).wiring
    assert trace_report(*_called(pruned())).wiring == whole
    assert trace_report(*_called(MODELS["parametrized"]())).wiring == whole


def test_wrappers_are_looked_through() -> None:
    """torch.compile gives the wiring of the module inside, and nothing is compiled."""
    example = lenet()
    expected = ts.trace(example.model, example.args)
    assert ts.trace(torch.compile(example.model, backend="eager"), example.args) == expected
    nested = nn.Sequential(torch.compile(nn.Linear(3, 4), backend="eager"), nn.ReLU(), nn.Linear(4, 2))
    assert free_axes(ts.trace(nested, torch.randn(1, 3))) == {4: 1}


class Unknown(nn.Module):
    """An operation that mixes the units, and a layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.never = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.fft.fft(torch.relu(self.first(x))).real)


def test_an_unknown_operation_fixes_what_it_touches_and_is_named() -> None:
    """So is a layer that the forward pass does not use: a warning says both."""
    with pytest.warns(UserWarning, match="never.weight") as warned:
        wiring = ts.trace(Unknown(), torch.randn(2, 4))
    assert "_fft_r2c" in str(warned[0].message)
    assert free_axes(wiring) == {}
    assert [layer.name for layer in wiring] == ["first", "last"]


class Deciding(nn.Module):
    """The data decide what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.other = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional_dropout(self.norm(self.first(x)))
        return self.last(hidden) if hidden.abs().sum() >= 0 else self.other(hidden)


def functional_dropout(x: Tensor) -> Tensor:
    return nn.functional.dropout(x, 0.3, training=True)


def test_where_the_data_decide_the_real_pass_answers() -> None:
    """It leaves buffers, random state and weights as they were, and says which branch was not taken."""
    model = Deciding()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    report = trace_report(model, (torch.randn(5, 4),))
    state_after_input = torch.get_rng_state()
    assert (report.mode, report.unused) == ("real", ("other.weight", "other.bias"))
    assert free_axes(report.wiring) == {6: 1}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    torch.set_rng_state(state)
    torch.randn(5, 4)
    assert torch.equal(torch.get_rng_state(), state_after_input)
    with pytest.raises(InvalidInputError, match="fake: DataDependent"):
        ts.trace(model, torch.randn(5, 4), mode="fake")


class Outside(nn.Module):
    """Leaves torch between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.from_numpy(np.sort(torch.relu(self.first(x)).numpy())) + x.sum())


def test_what_leaves_torch_is_fixed() -> None:
    """Units whose values go through NumPy are not called interchangeable."""
    assert free_axes(trace_report(Outside(), (torch.randn(2, 4),)).wiring) == {}


class Collecting(nn.Module):
    """Writes into zeros step by step, adds in place, keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.RNNCell(4, 6), nn.Linear(6, 3)
        self.calls = 0
        self.trail: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hidden, outputs = torch.zeros(len(x), 6), torch.zeros(len(x), x.shape[1], 6)
        for t in range(x.shape[1]):
            hidden = self.cell(x[:, t], hidden)
            outputs[:, t] = hidden
            self.trail.append(hidden)
        return self.last(outputs)


def test_what_is_written_into_zeros_is_followed() -> None:
    """The last layer reads the units of the cell, and neither its counter nor its list knows of the trace."""
    model = Collecting()
    wiring = ts.trace(model, torch.randn(2, 5, 4))
    assert [(layer.source.name, layer.target.name) for layer in wiring][-1] == ("cell.weight_ih", "last")
    assert free_axes(wiring) == {6: 1}
    assert (model.calls, model.trail) == (0, [])


def test_units_of_one_channel_are_told_apart() -> None:
    """A picture of one channel, a bottleneck of one unit and an output of one are three spaces."""
    wiring = ts.trace(
        nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1), nn.Linear(1, 3), nn.Linear(3, 1)), torch.randn(2, 1)
    )
    assert [(layer.source.name, layer.target.name) for layer in wiring] == [
        ("input", "0"), ("0", "2"), ("2", "3"), ("3", "4"),
    ]  # fmt: skip


class Normed(nn.Module):
    """Attention whose queries are normed with one scale for all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).view(len(x), -1, 2, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(nn.functional.scaled_dot_product_attention(self.norm(q), k, v).transpose(1, 2).flatten(2))


def test_an_inner_axis_that_all_heads_share_is_fixed() -> None:
    """A wiring would order it differently in each head; one scale for all heads does not allow that."""
    report = trace_report(Normed(), (torch.randn(2, 3, 8),))
    assert free_axes(report.wiring) == {2: 1, 4: 1}
    assert [why for why in report.fixed.values() if "not ordered by" in why] == ["not ordered by q/0 everywhere"]


class Fused(nn.Module):
    """Queries, keys and values side by side within each head, as in GPT-NeoX; then a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.qkv, self.out = nn.Conv2d(4, 8, 1, groups=2), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).view(len(x), -1, 2, 12).transpose(1, 2).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_what_lies_side_by_side_below_an_axis_is_fixed_and_its_heads_are_free() -> None:
    """No range of rows holds the queries of all heads, so that their inner places keep their order."""
    wiring = ts.trace(Fused(), torch.randn(2, 4, 3, 3))
    assert free_axes(wiring) == {4: 1, 2: 1}
    assert {layer.name: [(axis.size, axis.fixed) for axis in layer.target.axes] for layer in wiring} == {
        "first": [(2, True), (4, False)],
        "qkv": [(2, False), (12, True)],
        "out": [(3, True)],
    }


def test_a_model_without_weights_is_refused() -> None:
    """The error says what was expected."""
    with pytest.raises(InvalidTopologyError, match="at least one parameter that meets"):
        ts.trace(nn.Sequential(nn.ReLU()), torch.randn(2, 3))
    with pytest.raises(InvalidInputError, match=r"Sequential: expected a forward pass .* fake: RuntimeError"):
        ts.trace(mlp().model, torch.randn(2, 3))


def test_hooks_of_users_do_not_run() -> None:
    """A counter in a hook sees the calls of the training only."""
    model, calls = mlp().model, []
    model[0].register_forward_hook(lambda *_: calls.append("hook"))
    model[2].register_forward_pre_hook(lambda *_: calls.append("pre-hook"))
    everywhere = nn.modules.module.register_module_forward_hook(lambda *_: calls.append("global"))
    try:
        ts.trace(model, torch.randn(3, 10))
        assert calls == []
        model(torch.randn(3, 10))
        assert len(calls) == 2 + 6
    finally:
        everywhere.remove()


TRAINED: dict[str, Callable[[], Example]] = {
    "lenet": lenet,
    "resnet18": MODELS["resnet18"],
    "gpt2": gpt2,
    "lstm": MODELS["lstm"],
    "pruned": pruned,
    "deciding": lambda: Example(Deciding(), (torch.randn(5, 4),)),
    "spectral": MODELS["parametrized"],
}


def trained(
    make: Callable[[], Example], callback: Callable[[Any], None] | None, compiled: bool = False
) -> list[Tensor]:
    """Losses and weights of three steps."""
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(0)
    example = make()
    model = torch.compile(example.model, backend="eager") if compiled else example.model
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    if callback is not None:
        trace_first_batch(model, callback)
    losses = []
    for _ in range(3):
        result = model(*example.args, **example.named)
        loss = getattr(result, "logits", result).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    assert not example.model._forward_pre_hooks
    return [*losses, *(value.detach() for value in example.model.state_dict().values()), torch.rand(3)]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch, at a broken graph
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_training_is_the_same_to_the_bit(name: str, compiled: bool) -> None:
    """Losses, weights, statistics and the random state after three steps are those without the hook."""
    if name == "gpt2" and compiled and not IS_NEWEST:
        pytest.skip(f"torch {torch.__version__} does not compile the GPT-2 of the transformers that goes with it")
    reports: list[TraceReport | TopostrataError] = []
    with_hook = trained(TRAINED[name], reports.append, compiled)
    without = trained(TRAINED[name], None, compiled)
    assert all(torch.equal(a, b) for a, b in zip(with_hook, without, strict=True))
    [report] = reports
    assert isinstance(report, TraceReport)
    assert report.unknown == {}


def test_what_fails_in_the_hook_is_never_raised_into_training() -> None:
    """A model that cannot be traced gives the callback an error; what the callback raises is a warning."""
    reports: list[TraceReport | TopostrataError] = []
    relu = nn.Sequential(nn.ReLU())
    trace_first_batch(relu, reports.append)
    assert torch.equal(relu(torch.ones(2)), torch.ones(2))
    assert isinstance(reports[0], InvalidTopologyError)

    def fails(_: object) -> None:
        raise ValueError("mine")

    model = mlp().model
    trace_first_batch(model, fails)
    with pytest.warns(UserWarning, match="mine"):
        model(torch.randn(3, 10))
    assert not model._forward_pre_hooks


def test_a_trace_can_be_called_off() -> None:
    """The handle removes the hook before the first batch."""
    model = mlp().model
    reports: list[object] = []
    trace_first_batch(model, reports.append).remove()
    model(torch.randn(3, 10))
    assert reports == []


def test_a_model_on_no_device_is_traced() -> None:
    """Parameters on the meta device have shapes, and nothing else is needed."""
    with torch.device("meta"):
        model = LeNet()
    assert free_axes(ts.trace(model, torch.empty(2, 1, 28, 28, device="meta"))) == FREE_AXES["pruned"]


def test_without_torch_the_error_says_how_to_install_it() -> None:
    """`ts.trace` is there without torch, and importing it loads none."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import topostrata as ts\n"
        "try: ts.trace(None, ())\n"
        "except ts.InvalidInputError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "install torch, or write the wiring by hand" in ran.stdout


def _called(example: Example) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    return example.model, example.args, example.named
