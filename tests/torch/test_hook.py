"""The hook on torch modules: masks wherever pruning and parametrizations keep them, and no trace left behind."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from topostrata.errors import InvalidTopologyError
from topostrata.ingest.hook import sources
from topostrata.ingest.hook.run import init
from topostrata.ingest.hook.spool import SpooledMetrics, SpooledSnapshot, read
from topostrata.measures.gradients import gradient_flow
from topostrata.topology import Topology, Wiring


class Masked(nn.Module):
    """A parametrization that masks, as those of torch.ao.pruning and sparsimony do."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


class Network(nn.Module):
    """Two layers of an order of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(inputs).relu())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def topology(source: object, wiring: Wiring | None = None, **options: object) -> Topology:
    reading = sources.read(source, **options)  # type: ignore[arg-type]
    assert isinstance(reading, sources.Reading)
    return sources.assemble(reading, wiring)


def test_pruned_modules_are_read() -> None:
    """A layer without a mask has all its connections, the mask of a bias is none."""
    model = Network()
    prune.random_unstructured(model.fc1, "weight", 0.5)
    prune.random_unstructured(model.fc1, "bias", 0.5)
    assert topology(model) == Topology.from_masks(
        {"fc1.weight": model.fc1.weight_mask, "fc2.weight": torch.ones(3, 5)}, orientation="out-in"
    )


def test_masks_of_parametrizations_are_read() -> None:
    """Several on one weight act one after the other."""
    model = Network()
    first, second = torch.rand(5, 6) < 0.5, torch.rand(5, 6) < 0.7
    parametrize.register_parametrization(model.fc1, "weight", Masked(first))
    parametrize.register_parametrization(model.fc1, "weight", Masked(second))
    assert topology(model)["fc1.weight"].mask.nnz == int((first & second).sum())


def test_wrapped_modules_are_read() -> None:
    """Compiled, and wrapped to run in parallel."""
    model = Network()
    prune.random_unstructured(model.fc1, "weight", 0.5)
    plain = topology(model)
    assert topology(torch.compile(model)) == plain
    assert topology(nn.DataParallel(model)) == plain


def test_a_sequence_of_linear_layers_is_a_chain() -> None:
    """Of whatever widths; other modules need a wiring where widths repeat."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 5), nn.ReLU()), nn.Linear(5, 3))
    prune.random_unstructured(model[0], "weight", 0.5)
    assert [layer.name for layer in topology(model)] == ["0.weight", "2.0.weight", "3.weight"]


@pytest.mark.parametrize("tied", ["layer", "weight"])
def test_a_sequence_that_uses_a_layer_twice_needs_a_wiring(tied: str) -> None:
    """The parameter stands once among the model's: as a chain the network would be one layer short."""
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    second.weight = first.weight
    model = nn.Sequential(nn.Linear(6, 5), first, nn.ReLU(), first if tied == "layer" else second, nn.Linear(5, 3))
    prune.random_unstructured(model[0], "weight", 0.5)
    with pytest.raises(InvalidTopologyError, match="expected a wiring"):
        topology(model)


def test_whole_numbers_other_than_0_and_1_are_no_masks() -> None:
    """Quantised weights, or masks with eight entries to a byte."""
    with pytest.raises(InvalidTopologyError, match="expected 0 and 1, found other values"):
        topology([torch.tensor([[255, 3]], dtype=torch.uint8)])


def test_masks_beside_a_model_and_a_wiring_are_read_by_name() -> None:
    """The names are those of the parameters, with or without their ``.weight``; a convolution needs a wiring."""
    mask = torch.rand(5, 6) < 0.5
    wiring = Wiring.chain([6, 5, 3], ["fc1", "fc2"])
    assert topology(Network(), wiring, masks={"fc1.weight": mask}).nnz == int(mask.sum()) + 15


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.bfloat16, torch.float64])
def test_tensors_of_every_kind_are_read(dtype: torch.dtype) -> None:
    """Dense in any type, and sparse."""
    mask = torch.rand(6, 5) < 0.5
    expected = Topology.from_masks([mask.numpy(), np.ones((5, 3))])
    assert topology([mask.to(dtype), torch.ones(5, 3).to_sparse_coo()]) == expected


def test_recording_changes_nothing_of_the_training(tmp_path: Path) -> None:
    """The weights are the same to the bit; the model can be saved and copied, and has no hooks."""

    def train(record: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model = Network()
        prune.random_unstructured(model.fc1, "weight", 0.5)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with init("w0", mode="offline" if record else "disabled", spool=tmp_path) as run:
            for step in range(5):
                optimizer.zero_grad()
                model(torch.randn(8, 6)).square().mean().backward()
                optimizer.step()
                run.log(model, step=step, metrics={"norm": model.fc2.weight.norm()})
            model.zero_grad(set_to_none=True)
            model(torch.zeros(1, 6)).sum().backward()
        torch.save(model.state_dict(), tmp_path / "model.pt")
        assert not model._backward_hooks
        assert not model._forward_hooks
        return {name: value.clone() for name, value in model.state_dict().items()}

    plain, recorded = train(record=False), train(record=True)
    assert all(torch.equal(plain[name], recorded[name]) for name in plain)
    (file,) = tmp_path.glob("*.spool")
    assert sum(isinstance(entry.value, SpooledSnapshot) for entry in read(file)) == 5
    assert copy.deepcopy(Network()) is not None


def test_the_gradient_flow_of_a_training_is_recorded(tmp_path: Path) -> None:
    """Of a pruned model between backward and step, scaled as it is; what is recorded is what was measured."""
    model = Network()
    prune.random_unstructured(model.fc1, "weight", 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    expected = []
    with init("w0", mode="offline", spool=tmp_path) as run:
        for step in range(3):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(8, 6)).square().mean()).backward()
            expected.append(gradient_flow(model, scale=256.0).as_metrics())
            run.log_gradient_flow(nn.DataParallel(model), step=step, scale=scaler)
            scaler.step(optimizer)
            scaler.update()
        run.log_gradient_flow(Network(), step=9)  # no backward
        assert run.flush()
        assert dict(run.counts.troubles) == {"flow-invalid-input": 1}
    (file,) = tmp_path.glob("*.spool")
    records = [entry.value for entry in read(file) if isinstance(entry.value, SpooledMetrics)]
    assert [(record.metrics, record.layer_metrics) for record in records] == expected
    assert set(expected[0][1]) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert expected[0][1]["fc1.weight"]["active"] == 15
