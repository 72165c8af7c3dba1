"""Where libraries keep their masks: the real ones where they install here, else what stands in names its source.

The stand-ins have the attributes, types, shapes and names that the source has, and nothing of its code.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import topostrata as ts
from tests.torch.libraries import library
from tests.torch.models import MODELS
from topostrata.errors import InvalidTopologyError
from topostrata.ingest.hook import sources
from topostrata.topology import Topology, Wiring

FIRST, SECOND = (torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5 for shape in ((5, 6), (3, 5)))
EXPECTED = Topology.from_masks([FIRST, SECOND], orientation="out-in")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def network() -> nn.Module:
    """Two layers whose sizes tell their order."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.fc2(self.fc1(inputs).relu())

    return Network()


def assembled(source: Any, wiring: Wiring | None = None, **options: Any) -> Topology:
    reading = sources.read(source, **options)
    assert isinstance(reading, sources.Reading)
    return sources.assemble(reading, wiring)


def digests(topology: Topology) -> list[str]:
    return [layer.mask.digest for layer in topology]


# Real libraries


def test_sparsimony_keeps_a_mask_in_a_parametrization() -> None:
    """Which its SET changes in place: what is read is of the moment."""
    library("sparsimony")
    dst = importlib.import_module("sparsimony.dst.set")
    schedulers = importlib.import_module("sparsimony.schedulers.base")
    distributions = importlib.import_module("sparsimony.distributions.base")
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = dst.SET(
        schedulers.ConstantScheduler(pruning_ratio=0.5, t_end=10, delta_t=1),
        distributions.UniformDistribution(),
        optimizer,
        sparsity=0.5,
    )
    sparsifier.prepare(model, [{"tensor_fqn": "fc1.weight"}, {"tensor_fqn": "fc2.weight"}])

    def masks() -> list[torch.Tensor]:
        return [layer.parametrizations.weight[0].mask.clone() for layer in (model.fc1, model.fc2)]

    before = sources.read(model)
    assert isinstance(before, sources.Reading)
    expected = Topology.from_masks(masks(), orientation="out-in")
    model(torch.randn(4, 6)).square().sum().backward()
    optimizer.step()
    sparsifier.step()
    after = Topology.from_masks(masks(), orientation="out-in")
    assert digests(sources.assemble(before, None)) == digests(expected)
    assert digests(assembled(model)) == digests(after) != digests(expected)


def test_rigl_torch_keeps_a_list_in_the_order_of_its_weights() -> None:
    """The first layer is None and has all its connections."""
    library("rigl_torch")
    rigl = importlib.import_module("rigl_torch.RigL")
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = rigl.RigLScheduler(
        model, optimizer, dense_allocation=0.5, ignore_linear_layers=False, T_end=100, delta=2
    )
    dense, *masks = scheduler.backward_masks
    assert dense is None
    assert sources.model_of(scheduler) is model
    topology = assembled(scheduler)
    assert [layer.name for layer in topology] == ["0.weight", "2.weight", "4.weight"]
    assert digests(topology) == digests(Topology.from_masks([torch.ones(5, 6), *masks], orientation="out-in"))


def test_torch_ao_pruning_keeps_fake_sparsity() -> None:
    """A parametrization, of the sparsifier that torch itself has."""
    pruning = importlib.import_module("torch.ao.pruning")
    model = network()
    sparsifier = pruning.WeightNormSparsifier(sparsity_level=0.5, sparse_block_shape=(1, 1), zeros_per_block=1)
    sparsifier.prepare(model, [{"tensor_fqn": "fc1.weight"}, {"tensor_fqn": "fc2.weight"}])
    sparsifier.step()
    masks = [layer.parametrizations.weight[0].mask for layer in (model.fc1, model.fc2)]
    assert 0 < int(masks[0].sum()) < 30
    assert digests(assembled(model)) == digests(Topology.from_masks(masks, orientation="out-in"))


# Stand-ins


class SparseState(NamedTuple):
    """jaxpruner/base_updater.py at 14f9762 (2024): the state that wraps that of an optax transformation."""

    masks: Any
    inner_state: Any = None
    target_sparsities: Any = None
    count: Any = None


class TrainState(NamedTuple):
    """flax.training.train_state.TrainState, as far as it is looked at."""

    params: Any
    opt_state: Any


@pytest.mark.parametrize("packed", [False, True])
def test_jaxpruner_keeps_masks_in_the_state_of_optax(packed: bool) -> None:
    """As JAX makes them: sorted by name, sources x targets; packed to bits; None is a layer with all its connections."""
    jax = library("jax")
    optax, jnp = importlib.import_module("optax"), jax.numpy
    sizes = {"a_out": (5, 3), "b_in": (6, 5), "c_last": (3, 2)}
    params = {"net": {name: {"kernel": jnp.ones(size), "bias": jnp.ones(size[1])} for name, size in sizes.items()}}
    wiring = Wiring.chain([6, 5, 3, 2], ["net/b_in", "net/a_out", "net/c_last"])
    masks = {name: {"kernel": None, "bias": None} for name in sizes}
    for name, mask in (("b_in", FIRST), ("a_out", SECOND)):
        array = jnp.array(mask.T.numpy(), dtype=jnp.uint8)
        masks[name]["kernel"] = jnp.packbits(array) if packed else array
    inner = optax.adam(1e-3).init(params)
    state = (optax.EmptyState(), SparseState({"net": masks}, inner, {"net": {}}, jnp.zeros([], jnp.int32)))
    expected = Topology.from_masks([FIRST.T, SECOND.T, np.ones((3, 2))])
    for source, options in ((TrainState(params, state), {}), (params, {"masks": {"net": masks}})):
        assert digests(assembled(source, wiring, **options)) == digests(expected)
    if packed:
        with pytest.raises(InvalidTopologyError, match="as packed masks have"):
            sources.read(state)
    else:
        partial = Wiring.chain([6, 5, 3], ["net/b_in", "net/a_out"])
        assert digests(assembled(state, partial)) == digests(EXPECTED)
    with pytest.raises(InvalidTopologyError, match="expected a wiring for net/a_out/kernel"):
        assembled(TrainState(params, state))


def test_kernels_of_flax_are_read_as_they_lie() -> None:
    """Height, width, sources, targets: the same connections as torch's, whose kernels lie the other way around."""
    wiring = ts.trace(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 3)), torch.randn(1, 2, 3, 3))
    conv, linear = torch.rand(4, 2, 3, 3) < 0.5, torch.rand(3, 4) < 0.5
    masks = {"0": {"kernel": conv.permute(2, 3, 1, 0).numpy()}, "2": {"kernel": linear.T.numpy()}}
    turned = Wiring.from_toml(wiring.to_toml().replace("0.weight", "0/kernel").replace("2.weight", "2/kernel"))
    turned = Wiring.from_toml(turned.to_toml().replace(', orientation = "out-in"', ""))
    expected = wiring.place({"0.weight": conv, "2.weight": linear}, orientation="out-in")
    assert digests(assembled(masks, turned)) == digests(expected)


class SparseLayer(nn.Module):
    """CHT's layer of 2024 (Cannistraci-Hebb-training): weight and mask are sources x targets, the mask no buffer."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(mask.shape))
        self.weight_mask = mask.float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, self.weight * self.weight_mask)


def test_the_older_layers_of_cht_keep_a_plain_attribute() -> None:
    """Beside layers of torch, which lie the other way around; with and without a wiring."""
    model = nn.Sequential(SparseLayer(FIRST.T), nn.ReLU(), nn.Linear(5, 3))
    expected = digests(Topology.from_masks([FIRST.T, np.ones((5, 3))]))
    assert digests(assembled(model)) == expected
    assert digests(assembled(model, ts.trace(model, torch.randn(2, 6)))) == expected
    assert digests(assembled(model, Wiring.chain([6, 5, 3], ["0", "2"]))) == expected
    model[0].weight_mask = torch.zeros(6, 5)  # replaced at each update
    assert assembled(model)["0.weight"].nnz == 0


class MaskedLinear(nn.Linear):
    """TurboPrune's LinearMask, and a layer under a pruning modifier of llm-compressor: a buffer ``mask``."""

    def __init__(self, mask: torch.Tensor, name: str) -> None:
        super().__init__(*reversed(mask.shape))
        self.register_buffer(name, mask.float())


@pytest.mark.parametrize("name", ["mask", "_weight_mask", "weight_mask"])
def test_masks_that_are_buffers_beside_a_weight_are_read(name: str) -> None:
    """TurboPrune and llm-compressor, ModelOpt 0.47, Cerebras (cerebras/pytorch/sparse/base.py 2.10: ``<param>_mask``)."""
    model = nn.Sequential(MaskedLinear(FIRST, name), nn.ReLU(), MaskedLinear(SECOND, name))
    assert digests(assembled(model)) == digests(EXPECTED)
    other = nn.Sequential(nn.Linear(6, 5))
    other[0].register_buffer("mask", torch.ones(5))  # of something else
    with pytest.raises(InvalidTopologyError, match="expected masks in the Sequential, found none"):
        sources.read(other)


class MaskOptimizer(torch.optim.SGD):
    """cbsparse (Cerebras, 2021), StaticMaskOptimizer: masks in the state, ``names`` beside ``params`` in the groups."""

    def __init__(self, groups: list[dict[str, Any]], masks: dict[torch.Tensor, torch.Tensor]) -> None:
        super().__init__(groups, 0.1)
        for parameter, mask in masks.items():
            self.state[parameter]["mask"] = mask.float()
            self.state[parameter]["fired_mask"] = torch.ones_like(parameter)


def test_cbsparse_keeps_masks_in_the_optimizer() -> None:
    """By tensor; a parameter without one has all its connections."""
    model = network()
    names, parameters = zip(*model.named_parameters(), strict=True)
    groups = [{"params": list(parameters), "names": list(names)}]
    optimizer = MaskOptimizer(groups, {model.fc1.weight: FIRST, model.fc2.weight: SECOND})
    topology = assembled(optimizer)
    assert [layer.name for layer in topology] == ["fc1.weight", "fc2.weight"]
    assert digests(topology) == digests(EXPECTED)
    assert assembled(MaskOptimizer(groups, {model.fc1.weight: FIRST})).nnz == int(FIRST.sum()) + 15
    with pytest.raises(InvalidTopologyError, match="at least one mask"):
        sources.read(torch.optim.SGD(model.parameters(), 0.1))


def test_masks_of_a_masking_are_found_by_name() -> None:
    """ITOP family: a dictionary of floats, replaced at each update; NeuroTrails has a list of them."""
    masking = SimpleNamespace(masks={"fc1.weight": FIRST.float(), "fc2.weight": SECOND.float()}, modules=[network()])
    assert digests(assembled(masking)) == digests(EXPECTED)
    assert sources.model_of(masking) is masking.modules[0]


@pytest.mark.filterwarnings("ignore:Sparse (CSR|CSC) tensor support is in beta")
@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_parameters_are_masks(layout: str) -> None:
    """What is stored is a connection, also where it is 0: grown links begin there."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    for layer, mask in zip(model, (FIRST, SECOND), strict=True):
        weight = getattr(mask.double(), layout)()
        weight.values().zero_() if layout != "to_sparse_coo" else weight._values().zero_()
        layer.weight = nn.Parameter(weight)
    assert digests(assembled(model)) == digests(EXPECTED)


# What is put around modules


def pruned() -> nn.Module:
    model = network()
    prune.custom_from_mask(model.fc1, "weight", FIRST)
    prune.custom_from_mask(model.fc2, "weight", SECOND)
    return model


@pytest.fixture
def process_group(tmp_path: Path) -> Any:
    """A group of one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_wrapped_modules_are_read_under_their_own_names(process_group: None) -> None:
    """DistributedDataParallel, FSDP (fully_shard), compiled as a whole and in part, in each other."""
    expected = assembled(pruned())
    parallel = nn.parallel.DistributedDataParallel(pruned())
    partly = pruned()
    partly.fc1 = torch.compile(partly.fc1, backend="eager")
    for model in (parallel, torch.compile(parallel, backend="eager"), partly):
        assert assembled(model) == expected
    wiring = ts.trace(partly, torch.randn(2, 6))
    assert [layer.name for layer in wiring] == ["fc1", "fc2"]
    assert digests(assembled(partly, wiring)) == digests(expected)


def test_sharded_modules_are_read(process_group: None) -> None:
    """FSDP shards parameters, and leaves the masks that are buffers whole."""
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this torch has no fully_shard")
    mesh = importlib.import_module("torch.distributed.device_mesh").init_device_mesh("cpu", (1,))
    model = network()
    for layer, mask in ((model.fc1, FIRST), (model.fc2, SECOND)):
        layer.register_buffer("weight_mask", mask.float())
        fsdp.fully_shard(layer, mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    assert type(model.fc1.weight).__name__ == "DTensor"
    with pytest.raises(
        InvalidTopologyError, match=r"sharded over several processes \(DTensor\) \(hand over `mask.full"
    ):
        ts.Topology.from_masks([model.fc1.weight])
    assert digests(assembled(model)) == digests(EXPECTED)
    wiring = ts.trace(model, torch.randn(2, 6))
    assert digests(assembled(model, wiring)) == digests(EXPECTED)


def test_nested_and_shared_layers_are_read() -> None:
    """A layer that is used twice has its mask once; its wiring says where it is used again."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.block = nn.Linear(4, 6), nn.ModuleDict({"inner": nn.Linear(6, 6)})
            self.last = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inner = self.block["inner"]
            return self.last(inner(inner(self.first(x).relu()).relu()))

    model = Shared()
    prune.random_unstructured(model.block["inner"], "weight", 0.5)
    topology = assembled(model, ts.trace(model, torch.randn(2, 4)))
    assert topology["block.inner"].nnz == 18


def test_a_model_of_transformers_is_read() -> None:
    """Pruned GPT-2, whose Conv1D lies the other way around: the traced wiring knows how each parameter lies."""
    example = MODELS["gpt2"]()
    name, layer = next((n, m) for n, m in example.model.named_modules() if n.endswith("mlp.c_fc"))
    prune.random_unstructured(layer, "weight", 0.75)
    wiring = ts.trace(example.model, {"input_ids": example.args[0], **example.named})
    topology = assembled(example.model, wiring)
    assert topology[name].nnz == int(layer.weight_mask.sum())
