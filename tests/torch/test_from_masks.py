"""Masks and weights as torch keeps them, read by a product that does not import torch."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from topostrata.errors import InvalidTopologyError
from topostrata.topology import Mask, Topology

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel"),
]

WEIGHT = torch.tensor([[1.0, 0.0], [0.0, -2.0], [0.0, 3.0], [0.5, 0.0]])
DIGEST = Mask(4, 2, np.array([0, 3, 5, 6])).digest

DENSE: dict[str, Callable[[], Tensor]] = {
    "float32": lambda: WEIGHT,
    "float64": WEIGHT.double,
    "float16": WEIGHT.half,
    "bfloat16": WEIGHT.bfloat16,
    "float8_e4m3fn": lambda: WEIGHT.to(torch.float8_e4m3fn),
    "float8_e5m2": lambda: WEIGHT.to(torch.float8_e5m2),
    "float8_e4m3fnuz": lambda: WEIGHT.to(torch.float8_e4m3fnuz),
    "float8_e5m2fnuz": lambda: WEIGHT.to(torch.float8_e5m2fnuz),
    "int8": lambda: (WEIGHT * 2).to(torch.int8),
    "bool": lambda: WEIGHT != 0,
    "not contiguous": lambda: WEIGHT.T.contiguous().T,
    "with a gradient": lambda: WEIGHT.clone().requires_grad_(),
    "a parameter": lambda: nn.Parameter(WEIGHT),
    "quantised": lambda: torch.quantize_per_tensor(WEIGHT, 0.1, 3, torch.qint8),
    "quantised by channel": lambda: torch.quantize_per_channel(
        WEIGHT, torch.tensor([0.1, 0.2]), torch.tensor([3, 0]), 1, torch.qint8
    ),
}
SPARSE: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": lambda dense: dense.to_sparse(),
    "csr": lambda dense: dense.to_sparse_csr(),
    "csc": lambda dense: dense.to_sparse_csc(),
    "bsr": lambda dense: dense.to_sparse_bsr((2, 2)),
    "bsc": lambda dense: dense.to_sparse_bsc((2, 2)),
}


@pytest.mark.parametrize("kind", DENSE)
def test_a_dense_tensor_of_every_kind_is_a_mask(kind: str) -> None:
    """Its values that are not 0 are the connections, whatever the type that holds them; its rows are sources."""
    assert Mask.from_matrix(DENSE[kind]()).digest == DIGEST


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool], ids=str)
@pytest.mark.parametrize("layout", SPARSE)
def test_a_sparse_tensor_of_every_layout_is_a_mask(layout: str, dtype: torch.dtype) -> None:
    """The zeros that fill up a block are no connections, although they are stored."""
    assert Mask.from_matrix(SPARSE[layout](WEIGHT).to(dtype)).digest == DIGEST


@pytest.mark.parametrize("layout", ["coo", "csr", "csc"])
def test_a_stored_zero_counts_as_the_caller_says(layout: str) -> None:
    """As in SciPy: in a mask every stored entry is a connection, in weights a stored zero is none."""
    stored = SPARSE[layout](WEIGHT)
    values = stored._values() if layout == "coo" else stored.values()
    values[0] = 0.0
    assert Mask.from_matrix(stored).nnz == 4
    assert Mask.from_matrix(stored, zeros="absent").nnz == 3


def test_an_entry_that_is_named_twice_is_one_connection() -> None:
    """A COO tensor that nobody has coalesced, where the values of one place cancel."""
    twice = torch.sparse_coo_tensor(
        torch.tensor([[0, 0, 1], [1, 1, 0]]), torch.tensor([1.0, -1.0, 1.0]), (2, 2), check_invariants=True
    )
    assert Mask.from_matrix(twice).digest == Mask(2, 2, np.array([1, 2])).digest


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: WEIGHT.to("meta"), ["meta"]),
        (lambda: WEIGHT.to(torch.complex64), ["complex64"]),
        (WEIGHT.to_mkldnn, ["mkldnn"]),
        (lambda: torch.full((4, 2), float("nan"), dtype=torch.bfloat16), ["finite", "nan"]),
        (lambda: torch.zeros(4), [r"shape \(4,\)"]),
        (lambda: torch.zeros(4, 2, 3, 3), [r"shape \(4, 2, 3, 3\)"]),
        (lambda: torch.zeros(4, 2, 3).to_sparse(), [r"shape \(4, 2, 3\)"]),
    ],
    ids=["meta", "complex", "mkldnn", "nan", "vector", "convolution", "sparse cube"],
)  # fmt: skip
def test_a_tensor_that_is_no_mask_is_refused_by_its_layer(make: Callable[[], Tensor], says: list[str]) -> None:
    """The error names the layer and what was found, and is one of ours."""
    with pytest.raises(InvalidTopologyError) as refused:
        Topology.from_masks([WEIGHT, make()], ["fc1", "fc2"])
    assert refused.value.message.startswith("layer 'fc2': ")
    for text in says:
        assert re.search(text, str(refused.value))


def perceptron() -> nn.Sequential:
    """784-300-100-10, pruned by magnitude to a tenth."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    with torch.no_grad():
        for weight in weights(model).values():
            weight[torch.rand_like(weight) < 0.9] = 0.0
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The weight of each linear layer by its name, as torch stores it: rows are targets."""
    return {name: part.weight for name, part in model.named_modules() if isinstance(part, nn.Linear)}


def test_weights_in_torch_s_own_order_are_taken_when_one_says_so() -> None:
    """`orientation="out-in"` reads a dict of weights as `nn.Linear` stores them; it is the transpose, layer by layer."""
    layers = weights(perceptron())
    topology = Topology.from_masks(layers, orientation="out-in")
    assert [layer.name for layer in topology.layers] == ["0", "2", "4"]
    assert [space.size for space in topology.spaces] == [784, 300, 100, 10]
    transposed = Topology.from_masks([weight.T for weight in layers.values()])
    assert topology.digest == transposed.digest
    assert topology.nnz == sum(int(weight.count_nonzero()) for weight in layers.values())
    sparse = {name: weight.detach().to_sparse_csr() for name, weight in layers.items()}
    assert Topology.from_masks(sparse, orientation="out-in").digest == topology.digest


def test_weights_that_chain_only_the_other_way_round_get_the_hint() -> None:
    """A forgotten or a wrong orientation is answered with the one that makes it right."""
    with pytest.raises(InvalidTopologyError) as refused:
        Topology.from_masks(weights(perceptron()))
    assert "'2'" in refused.value.message
    assert "out-in" in str(refused.value.hint)
    with pytest.raises(InvalidTopologyError) as refused:
        Topology.from_masks([weight.T for weight in weights(perceptron()).values()], orientation="out-in")
    assert "in-out" in str(refused.value.hint)


def test_weights_that_chain_neither_way_get_no_such_hint() -> None:
    """The hint is given where it helps."""
    with pytest.raises(InvalidTopologyError) as refused:
        Topology.from_masks([torch.ones(3, 4), torch.ones(5, 6)])
    assert "orientation" not in str(refused.value.hint)


def test_masks_go_back_into_torch() -> None:
    """`to_masks` gives what was put in, and `torch.from_numpy` takes it."""
    layers = weights(perceptron())
    topology = Topology.from_masks(layers, orientation="out-in")
    masks = topology.to_masks()
    assert Topology.from_masks(masks).digest == topology.digest
    for name, weight in layers.items():
        dense = torch.from_numpy(np.asarray(topology[name].mask))
        assert torch.equal(dense.T != 0, weight != 0)


def test_the_product_does_not_import_torch() -> None:
    """Reading, validating and naming need NumPy and SciPy only, although torch is installed here."""
    code = (
        "import sys, numpy as np, topostrata as ts\n"
        "ts.Topology.from_masks([np.eye(3)]); import topostrata.service.cli.main\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
