"""Gradient flow of torch models: where masks are, and what is measured by the loops that change gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, parametrize, prune
from torch.nn.utils.parametrizations import weight_norm

from tests.torch.libraries import since
from topostrata.errors import InvalidInputError
from topostrata.measures.gradients import GradientFlow, gradient_flow

INPUTS = torch.linspace(-1, 1, 32 * 6).reshape(32, 6)
TARGETS = torch.arange(32) % 3


class Masked(nn.Module):
    """A parametrization that masks, as those of torch.ao.pruning and sparsimony do."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


class Network(nn.Module):
    """Two layers, a norm between."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1 = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.norm(self.fc1(inputs)).relu())


def cost(model: nn.Module, inputs: torch.Tensor = INPUTS, targets: torch.Tensor = TARGETS) -> torch.Tensor:
    return nn.functional.cross_entropy(model(inputs), targets)


def mask(rows: int, columns: int) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(1)) < 0.5


def close(a: GradientFlow, b: GradientFlow, rel: float = 1e-5) -> bool:
    """Whether all numbers of both agree, parameter by parameter."""
    numbers = [
        [flow.egf_1, flow.egf_2, flow.egf_1_per_weight, flow.egf_2_per_weight]
        + [x for p in flow.parameters for x in (p.active, p.flow_1, p.flow_2)]
        for flow in (a, b)
    ]
    return [p.name for p in a.parameters] == [p.name for p in b.parameters] and numbers[0] == pytest.approx(
        numbers[1], rel=rel
    )


def test_a_model_is_what_its_arrays_are() -> None:
    """Masks beside a model whose masked weights have gradients; the norm of all is what torch clips by."""
    model, masks = Network(), {"fc1.weight": mask(5, 6)}
    cost(model).backward()
    arrays = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    flow = gradient_flow(model, masks)
    assert close(flow, gradient_flow(arrays, {"fc1.weight": masks["fc1.weight"].numpy()}), rel=1e-12)
    assert [p.name for p in flow.parameters if p.counted] == ["fc1.weight", "fc2.weight"]
    assert [p.name for p in gradient_flow(model, masks, biases=True).parameters if not p.counted] == []
    assert flow.gradient_norm_2 == pytest.approx(float(clip_grad_norm_(model.parameters(), 1e9)), rel=1e-6)


def test_masks_of_the_model_are_found() -> None:
    """Pruned, parametrized, wrapped and compiled: the same flow as with the mask stated beside a dense model."""
    chosen = mask(5, 6)
    dense = Network()
    with torch.no_grad():
        dense.fc1.weight.mul_(chosen)
    cost(dense).backward()
    expected = gradient_flow(dense, {"fc1.weight": chosen.float()})

    pruned, parametrized = Network(), Network()
    prune.custom_from_mask(pruned.fc1, "weight", chosen)
    parametrize.register_parametrization(parametrized.fc1, "weight", Masked(chosen))
    for model in (pruned, parametrized):
        cost(model).backward()
        for source in (model, nn.DataParallel(model), torch.compile(model)):
            flow = gradient_flow(source)
            by_name = sorted(flow.parameters, key=lambda p: p.name)
            assert close(replace(flow, parameters=tuple(by_name)), replace(
                expected, parameters=tuple(sorted(expected.parameters, key=lambda p: p.name))
            ))  # fmt: skip


def test_where_the_mask_is_in_the_forward_pass_masked_weights_have_no_gradient() -> None:
    """So the norm of the whole gradient holds none of theirs; a dense model that is masked beside holds them."""
    pruned, dense, chosen = Network(), Network(), mask(5, 6)
    prune.custom_from_mask(pruned.fc1, "weight", chosen)
    with torch.no_grad():
        dense.fc1.weight.mul_(chosen)
    for model in (pruned, dense):
        cost(model).backward()
    inside, beside = gradient_flow(pruned), gradient_flow(dense, {"fc1.weight": chosen})
    first = next(p for p in inside.parameters if p.name == "fc1.weight")
    assert first.flow_2 == first.gradient_norm_2
    assert inside.gradient_norm_2 < beside.gradient_norm_2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64])
def test_every_type_of_number_is_reduced_in_float64(dtype: torch.dtype) -> None:
    """Against NumPy on the same values; a kernel in another memory order with a mask in the usual one."""
    values = torch.randn(64, 32, 3, 3, dtype=dtype, generator=torch.Generator().manual_seed(2))
    chosen = torch.rand(64, 32, 3, 3) < 0.2
    flow = gradient_flow({"conv": values.to(memory_format=torch.channels_last)}, {"conv": chosen})
    wide = values.to(torch.complex128 if dtype.is_complex else torch.float64).numpy()
    assert flow.egf_1 == pytest.approx(np.abs(wide * chosen.numpy()).sum(), rel=1e-6 if dtype.is_complex else 1e-12)
    assert flow.egf_2 == pytest.approx(np.linalg.norm(wide * chosen.numpy()), rel=1e-6 if dtype.is_complex else 1e-12)
    assert flow.parameters[0].active == int(chosen.sum())


def test_sparse_parameters_and_gradients_are_read() -> None:
    """A sparse parameter's entries are its mask, stored zeros among them; rows of an embedding are a gradient."""
    places = torch.tensor([[0, 1, 1], [0, 0, 2]])
    weight = torch.sparse_coo_tensor(places, torch.tensor([2.0, 0.0, 1.0]), (2, 3), check_invariants=True).coalesce()
    model = nn.Module()
    model.weight = nn.Parameter(weight)
    values = torch.tensor([3.0, 4.0, -1.0])
    model.weight.grad = torch.sparse_coo_tensor(places, values, (2, 3), check_invariants=True)
    parameter = gradient_flow(model).parameters[0]
    assert (parameter.active, parameter.size, parameter.flow_1) == (3, 6, 8)
    embedding = nn.Embedding(10, 4, sparse=True)
    embedding(torch.tensor([1, 1, 3])).sum().backward()
    parameter = gradient_flow(embedding).parameters[0]
    assert (parameter.active, parameter.flow_1, parameter.flow_2) == (40, 12, np.sqrt(20))


def test_a_tied_parameter_counts_once_and_a_frozen_one_not() -> None:
    """L is the number of parameters that have a gradient; one that was not reached is named."""
    model = Network()
    model.fc2.weight.requires_grad_(False)
    model.again = nn.Linear(6, 5)
    model.again.weight = model.fc1.weight
    cost(model).backward()
    flow = gradient_flow(model)
    assert [p.name for p in flow.parameters if p.counted] == ["fc1.weight"]
    assert flow.missing == ("again.bias",)


def test_weights_in_two_factors_count_as_they_are_stored() -> None:
    """A weight norm has a parameter of magnitudes and one of directions, which have gradients of their own."""
    model = nn.Sequential(weight_norm(nn.Linear(6, 3)))
    cost(model).backward()
    names = [p.name for p in gradient_flow(model).parameters]
    assert names == ["0.bias", "0.parametrizations.weight.original0", "0.parametrizations.weight.original1"]


def test_accumulated_gradients_are_what_is_measured() -> None:
    """After the last of two halves it is the flow of the whole batch, after the first that of a half."""
    whole, halves = Network(), Network()
    cost(whole).backward()
    (cost(halves, INPUTS[:16], TARGETS[:16]) / 2).backward()
    assert not close(gradient_flow(halves), gradient_flow(whole))
    (cost(halves, INPUTS[16:], TARGETS[16:]) / 2).backward()
    assert close(gradient_flow(halves), gradient_flow(whole))


def test_clipped_gradients_are_what_is_measured() -> None:
    """Before clipping it is the whole flow, after it the clipped one, in the same proportion."""
    model = Network()
    cost(model).backward()
    before = gradient_flow(model)
    clip_grad_norm_(model.parameters(), before.gradient_norm_2 / 4)
    assert gradient_flow(model).egf_2 == pytest.approx(before.egf_2 / 4, rel=1e-4)


def test_the_scale_of_a_scaler_is_divided_out() -> None:
    """Scaled or unscaled already, a ``GradScaler`` says which; after its step it is too late, which is said."""
    plain, scaled = Network(), Network()
    cost(plain).backward()
    expected = gradient_flow(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    optimizer = torch.optim.SGD(scaled.parameters(), lr=0.1)
    scaler.scale(cost(scaled)).backward()
    assert gradient_flow(scaled).egf_2 == pytest.approx(4096 * expected.egf_2, rel=1e-5)
    assert close(gradient_flow(scaled, scale=scaler), expected)
    assert close(gradient_flow(scaled, scale=scaler.get_scale()), expected)
    scaler.unscale_(optimizer)
    assert close(gradient_flow(scaled, scale=scaler), expected)
    scaler.step(optimizer)
    with pytest.raises(InvalidInputError, match="and stepped none, found the stages STEPPED"):
        gradient_flow(scaled, scale=scaler)
    scaler.update()
    off = torch.amp.GradScaler("cpu", enabled=False)
    off.scale(cost(plain)).backward()
    assert gradient_flow(plain, scale=off).egf_2 == pytest.approx(2 * expected.egf_2, rel=1e-5)


def flow_of_rank(rank: int, folder: str) -> None:
    """What one of two processes measures, written into a file."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Network())
    part = slice(16 * rank, 16 * rank + 16)
    cost(model, INPUTS[part], TARGETS[part]).backward()
    torch.save(gradient_flow(model).egf_2, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def flow_of_second_rank(_index: int, folder: str) -> None:
    flow_of_rank(1, folder)


def test_of_several_processes_it_is_the_mean_gradient(tmp_path: Path) -> None:
    """Each process of a ``DistributedDataParallel`` has the flow of the whole batch, which one process has alone."""
    other = torch.multiprocessing.spawn(flow_of_second_rank, (str(tmp_path),), nprocs=1, join=False)
    flow_of_rank(0, str(tmp_path))
    while not other.join():
        pass
    model = Network()
    cost(model).backward()
    flows = [torch.load(tmp_path / str(rank), weights_only=True) for rank in (0, 1)]
    assert flows == pytest.approx([gradient_flow(model).egf_2] * 2, rel=1e-5)


@since("public DTensor and fully_shard")
def test_sharded_gradients_are_refused(tmp_path: Path) -> None:
    """A process has a part of each; the message says how to gather them."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        part = distribute_tensor(torch.ones(4, 2), init_device_mesh("cpu", (1,)), [Shard(0)])
        with pytest.raises(InvalidInputError, match="'fc': expected a whole gradient, found one that is sharded"):
            gradient_flow({"fc": part})
        assert gradient_flow({"fc": part.full_tensor()}).egf_1 == 8
    finally:
        torch.distributed.destroy_process_group()


def test_nothing_is_left_in_the_model() -> None:
    """Gradients, masks and parameters are what they were, to the bit."""
    model, masks = Network(), {"fc1.weight": mask(5, 6).float()}
    cost(model).backward()
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in model.named_parameters()}
    unchanged = masks["fc1.weight"].clone()
    gradient_flow(model, masks)
    assert all(torch.equal(p, before[n][0]) and torch.equal(p.grad, before[n][1]) for n, p in model.named_parameters())
    assert torch.equal(masks["fc1.weight"], unchanged)
