"""Writes golden checkpoints with real torch, into a folder of its version: python tests/torch/golden_checkpoints.py."""

from __future__ import annotations

import argparse
import io
import pickle
import struct
import sys
import tarfile
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn.utils import prune

# Exact in every floating-point format that has a zero.
WEIGHT = [[0.0, 1.5, 0.0], [-2.0, 0.0, 0.5]]
MASK = [[False, True, False], [True, False, True]]
POWERS = [[1.0, 2.0, 0.5], [4.0, 1.0, 0.25]]


class Net(nn.Module):
    """Two layers, a mask as a plain attribute, a buffer that state_dict() leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3, 2)
        self.block = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("causal", torch.ones(4, 4), persistent=False)
        self.fc1_mask = torch.tensor(MASK)
        with torch.no_grad():
            self.fc1.weight.copy_(torch.tensor(WEIGHT))
            self.fc1.bias.zero_()
            self.block[0].weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
            self.block[0].bias.fill_(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A forward pass, which TorchScript compiles."""
        return self.block(self.fc1(x))


def dtypes() -> dict[str, Any]:
    """The weights in every dtype that this torch can hold and save."""
    weight = torch.tensor(WEIGHT)
    names = (
        "float64 float32 float16 bfloat16 complex128 complex64 complex32 int64 int32 int16 int8 uint64 uint32 uint16 "
        "uint8 bool float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu"
    )
    content = {}
    for name in names.split():
        dtype = getattr(torch, name, None)
        if dtype is not None:
            values = torch.tensor(POWERS) if name == "float8_e8m0fnu" else weight
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # complex32 is called experimental
                # Unsigned integers have no -2: they take the absolute value.
                content[name] = (values.abs() if name.startswith("uint") else values).to(dtype)
    return {name: tensor for name, tensor in content.items() if can_save(tensor)}


def can_save(tensor: torch.Tensor) -> bool:
    """Whether this torch can write it: 1.13 cannot save complex32 and blocks, nor 2.4 uint64, though they have them."""
    try:
        torch.save(tensor, io.BytesIO())
    except (KeyError, RuntimeError):
        return False
    return True


def sparse() -> dict[str, Any]:
    """The weights in every sparse layout."""
    weight = torch.tensor(WEIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that sparse CSR is in beta
        content = {
            "coo": weight.to_sparse(),
            "coo_twice": torch.sparse_coo_tensor([[0, 0, 1, 1], [1, 1, 0, 2]], [1.0, 0.5, -2.0, 0.5], (2, 3)),
            "coo_hybrid": torch.sparse_coo_tensor([[1]], [[-2.0, 0.0, 0.5]], (2, 3)),
            "coo_stored_zero": torch.sparse_coo_tensor([[0, 0], [0, 1]], [0.0, 1.5], (2, 3)),
            "csr": weight.to_sparse_csr(),
            "csc": weight.to_sparse_csc(),
        }
        square = torch.zeros(4, 4)
        square[:2, 2:] = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        content["bsr"] = square.to_sparse_bsr((2, 2))
        content["bsc"] = square.to_sparse_bsc((2, 2))
    return {name: tensor for name, tensor in content.items() if can_save(tensor)}


def quantised() -> dict[str, Any]:
    """The weights quantised per tensor and per channel."""
    weight, scale = torch.tensor(WEIGHT), torch.tensor([0.5, 0.25], dtype=torch.float64)
    zero_point = torch.tensor([0, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions call quantised tensors deprecated
        return {
            "qint8": torch.quantize_per_tensor(weight, 0.5, 3, torch.qint8),
            "quint8": torch.quantize_per_tensor(weight, 0.5, 10, torch.quint8),
            "qint32": torch.quantize_per_tensor(weight, 0.25, -2, torch.qint32),
            "channels": torch.quantize_per_channel(weight, scale, zero_point, 0, torch.qint8),
            "float_channels": torch.quantize_per_channel(
                torch.tensor(WEIGHT), scale.float(), torch.tensor([1.0, 8.0]), 0, torch.quint8
            ),
        }


def views() -> dict[str, Any]:
    """Tensors that are views: of each other's storage, in other orders, of one number many times."""
    whole = torch.arange(24.0).reshape(2, 3, 4)
    number = torch.tensor([1 + 2j, 3 - 4j])
    return {
        "whole": whole,
        "slice": whole[1, ::2, 1:],
        "transposed": whole.transpose(0, 2),
        "expanded": torch.tensor([[1.0], [0.0]]).expand(2, 3),
        "channels_last": torch.arange(16.0).reshape(1, 4, 2, 2).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(5),
        "empty": torch.zeros(0, 3),
        "conjugate": number.conj(),
        "negative": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
        "parameter": nn.Parameter(torch.tensor(WEIGHT)),
        "meta": torch.zeros(1000, 1000, device="meta"),
    }


def pruned() -> dict[str, Any]:
    """A state dict of torch.nn.utils.prune."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(WEIGHT))
        layer.bias.zero_()
    prune.custom_from_mask(layer, "weight", torch.tensor(MASK).float())
    return dict(layer.state_dict())


def training() -> dict[str, Any]:
    """What a training loop or Lightning writes: a state dict among settings and the optimiser's state."""
    model = Net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return {
        "epoch": 9,
        "global_step": 1000,
        "state_dict": OrderedDict((f"model.{name}", value) for name, value in model.state_dict().items()),
        "optimizer_states": [optimiser.state_dict()],
        "hyper_parameters": argparse.Namespace(density=0.5, seed=1, name="two words"),
        "mask_dict": {"fc1/kernel:0": torch.tensor(MASK), "names with spaces [1]": np.array(MASK)},
    }


def state_dict() -> dict[str, Any]:
    """Two layers and a buffer."""
    return dict(Net().state_dict())


SAMPLES = (dtypes, sparse, quantised, views, pruned, training, state_dict)


def write_tar(path: Path) -> None:
    """The form before torch 0.1.10, by hand: no torch of today writes it, but it loads it."""
    numbers = np.array(WEIGHT, "<f4")
    storages = io.BytesIO()
    pickle.dump(1, storages, 2)
    pickle.dump((11, "cpu", torch.FloatStorage), storages, 2)
    storages.write(struct.pack("<q", numbers.size) + numbers.tobytes())
    pickle.dump([(12, 11, 3, 3)], storages, 2)  # storage 12 is the second row of 11
    tensors = io.BytesIO()
    pickle.dump(2, tensors, 2)
    for key, storage, shape, strides in ((21, 11, (2, 3), (3, 1)), (22, 12, (3,), (1,))):
        pickle.dump((key, storage, torch.FloatTensor), tensors, 2)
        tensors.write(struct.pack("<i4x", len(shape)))
        tensors.write(struct.pack(f"<{2 * len(shape) + 1}q", *shape, *strides, 0))

    class Keys(pickle.Pickler):
        def persistent_id(self, value: Any) -> str | None:
            return str(value.key) if isinstance(value, argparse.Namespace) else None

    program = io.BytesIO()
    content = OrderedDict(weight=argparse.Namespace(key=21), row=argparse.Namespace(key=22))
    Keys(program, 2).dump(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, member in (("storages", storages), ("tensors", tensors), ("pickle", program)):
            info = tarfile.TarInfo(name)
            info.size = len(member.getvalue())
            archive.addfile(info, io.BytesIO(member.getvalue()))
    path.write_bytes(packed.getvalue()[: archive.offset])


def write(folder: Path) -> None:
    """All files; those that a version cannot write are named on stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        torch.save(sample(), folder / f"{sample.__name__}.pt")
    torch.save(Net(), folder / "model.pt")
    torch.save(Net().state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(sparse(), folder / "legacy_sparse.pt", _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is called deprecated
        torch.jit.save(torch.jit.script(Net()), folder / "script.pt")
    write_tar(folder / "before_0_1_10.pt")
    (folder / "state_dict.pkl").write_bytes(pickle.dumps(Net().state_dict()))
    set_options = getattr(torch.serialization, "set_crc32_options", None)
    if set_options is None:
        sys.stderr.write("this torch always writes checksums: no no_checksums.pt\n")
    else:
        set_options(False)
        torch.save(Net().state_dict(), folder / "no_checksums.pt")
        set_options(True)
    records = {0: [np.array(MASK), np.array(WEIGHT, ">f4")], 100: [np.array(MASK).T, np.asfortranarray(WEIGHT)]}
    np.save(folder / "mask_records.npy", records, allow_pickle=True)  # type: ignore[arg-type]  # as RigL does
    matrix = sp.csr_matrix(np.array(WEIGHT))
    formats = {form: matrix.asformat(form) for form in ("csr", "csc", "coo", "bsr", "dia", "lil")}
    for protocol in (0, 2, 5):
        data = pickle.dumps({**formats, "array": np.array(WEIGHT), "number": np.float64(2.5)}, protocol)
        (folder / f"numpy_protocol_{protocol}.pkl").write_bytes(data)


if __name__ == "__main__":
    version = torch.__version__.split("+")[0]
    golden = Path(__file__).resolve().parents[1] / "data" / "checkpoints" / f"torch-{version}"
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else golden)
