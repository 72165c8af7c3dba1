"""Checkpoints as torch itself reads them: every container, dtype and layout, to the bit."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.testing._internal.two_tensor import TwoTensor

from tests.torch import golden_checkpoints as maker
from tests.torch.libraries import since
from topostrata.ingest.formats.checkpoint.reading import Checkpoint
from topostrata.ingest.formats.safe_tensors import SafeTensors
from topostrata.ingest.formats.shards import Shards, index_of
from topostrata.ingest.formats.stored import Entries, StoredArray

# torch's own loading of quantised tensors warns of what it uses.
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")

# torch 2.15 writes these in its legacy format and cannot load them again.
NOT_IN_LEGACY = {"complex32", "uint64", "uint32", "uint16"} | {name for name in dir(torch) if name.startswith("float8")}


SAMPLES = {sample.__name__: sample for sample in maker.SAMPLES}


def as_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """The dense form of a tensor, in the dtype in which we hand it out."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype == torch.bfloat16 or "float8" in str(tensor.dtype):
        tensor = tensor.to(torch.float32)
    if tensor.dtype == torch.complex32:
        tensor = tensor.to(torch.complex64)
    return np.asarray(tensor.resolve_conj().resolve_neg().numpy())


def dense(array: StoredArray) -> NDArray[Any]:
    values = array.read()
    if isinstance(values, Entries):
        filled = np.zeros(array.shape, values.values.dtype)
        filled[tuple(values.positions.T)] = values.values
        return filled
    return values


def tensors_of(content: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of nested dictionaries and lists, under the names of the documented rule."""
    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, (dict, list, tuple)):
        for key, part in content.items() if isinstance(content, dict) else enumerate(content):
            yield from tensors_of(part, f"{name}.{key}" if name else str(key))


def assert_as_torch(path: Path, content: Any) -> None:
    """Same names, shapes, dtypes and numbers, in the same order."""
    expected = dict(tensors_of(content))
    with Checkpoint(path, where=path.name) as checkpoint:
        arrays = {name: array for name, array in checkpoint.arrays.items() if name in expected}
        assert list(arrays) == list(expected)
        for name, tensor in expected.items():
            array = arrays[name]
            assert array.shape == tuple(tensor.shape), name
            assert array.dtype == str(tensor.dtype).removeprefix("torch."), name
            if tensor.device.type != "meta":
                ours, theirs = dense(array), as_numpy(tensor)
                assert ours.dtype == theirs.dtype, name
                np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.parametrize("stem", SAMPLES)
def test_a_zip_checkpoint_reads_as_torch_reads_it(stem: str, tmp_path: Path) -> None:
    """Every sample, saved by torch.save in its own form."""
    path = tmp_path / f"{stem}.pt"
    torch.save(SAMPLES[stem](), path)
    assert_as_torch(path, torch.load(path, weights_only=False))


@pytest.mark.parametrize("stem", SAMPLES)
def test_a_legacy_checkpoint_reads_as_torch_reads_it(stem: str, tmp_path: Path) -> None:
    """Every sample in the form of before 1.6; what torch cannot load again from it is left away."""
    content = {name: value for name, value in SAMPLES[stem]().items() if name not in NOT_IN_LEGACY}
    path = tmp_path / f"{stem}.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert_as_torch(path, torch.load(path, weights_only=False))


def test_dtypes_that_torch_cannot_load_from_its_legacy_form_are_read(tmp_path: Path) -> None:
    """complex32, uint16 to uint64 and float8 are in the file, and come out as they went in."""
    content = {name: value for name, value in maker.dtypes().items() if name in NOT_IN_LEGACY}
    path = tmp_path / "legacy.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert_as_torch(path, content)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("stem", ["state_dict", "sparse", "pruned"])
def test_a_plain_pickle_of_tensors_reads_as_python_reads_it(stem: str, protocol: int, tmp_path: Path) -> None:
    """pickle.dump of a state dict holds a legacy checkpoint per tensor."""
    path = tmp_path / "state.pkl"
    path.write_bytes(pickle.dumps(SAMPLES[stem](), protocol))
    assert_as_torch(path, pickle.loads(path.read_bytes()))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_model_has_the_names_of_its_state_dict(legacy: bool, tmp_path: Path) -> None:
    """Parameters, buffers and modules as state_dict() names them; a mask kept as an attribute comes too."""
    path = tmp_path / "model.pt"
    model = maker.Net()
    torch.save(model, path, _use_new_zipfile_serialization=not legacy)
    with Checkpoint(path, where="model") as checkpoint:
        assert sorted(checkpoint.arrays) == sorted([*model.state_dict(), "fc1_mask"])
        for name, tensor in model.state_dict().items():
            np.testing.assert_array_equal(dense(checkpoint.arrays[name]), tensor.numpy())
        assert [part.name for part in checkpoint.left_out] == ["causal"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_a_torchscript_archive_has_the_names_of_its_module(tmp_path: Path) -> None:
    """torch.jit.save writes the module's attributes; buffers are buffers to it, persistent or not."""
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(maker.Net()), path)
    script = torch.jit.load(path)
    with Checkpoint(path, where="script") as checkpoint:
        assert checkpoint.kind == "TorchScript archive"
        assert {*script.state_dict()} <= {*checkpoint.arrays}
        for name, tensor in script.state_dict().items():
            np.testing.assert_array_equal(dense(checkpoint.arrays[name]), tensor.numpy())


def test_a_big_endian_checkpoint_reads_as_torch_reads_it(tmp_path: Path) -> None:
    """The record `byteorder` says how the numbers lie; a file of another machine is the same file."""
    content = {"float32": torch.tensor(maker.WEIGHT), "int64": torch.arange(5), "bfloat16": torch.ones(3).bfloat16()}
    here, there = tmp_path / "here.pt", tmp_path / "there.pt"
    torch.save(content, here)
    widths = dict(zip(("data/0", "data/1", "data/2"), (4, 8, 2), strict=True))
    with zipfile.ZipFile(here) as little, zipfile.ZipFile(there, "w") as big:
        for info in little.infolist():
            data, record = little.read(info), info.filename.split("/", 1)[1]
            if record == "byteorder":
                data = b"big"
            elif width := widths.get(record):
                data = np.frombuffer(data, f"V{width}").view(f"u{width}").byteswap().tobytes()
            big.writestr(info.filename, data)
    assert_as_torch(there, content)
    assert_as_torch(there, torch.load(there, weights_only=True))


def test_the_oldest_form_reads_as_torch_reads_it(tmp_path: Path) -> None:
    """A tar as torch before 0.1.10 wrote it; torch of today still loads it."""
    path = tmp_path / "old.pt"
    maker.write_tar(path)
    assert_as_torch(path, torch.load(path, weights_only=False))


@since("set_crc32_options")
def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    """torch can be told to leave checksums away."""
    path = tmp_path / "plain.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(maker.pruned(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_as_torch(path, torch.load(path))


def test_every_pattern_of_the_small_floats_has_torchs_value(tmp_path: Path) -> None:
    """All 256 patterns of each 8-bit format and all 65,536 of bfloat16 and float16, NaN and infinities among them."""
    content = {
        name: torch.arange(256).to(torch.uint8).view(getattr(torch, name))
        for name in dir(torch)
        if name.startswith("float8")
    }
    content |= {
        name: torch.arange(65536).to(torch.uint16).view(getattr(torch, name)) for name in ("bfloat16", "float16")
    }
    path = tmp_path / "patterns.pt"
    torch.save(content, path)
    assert_as_torch(path, content)


def test_random_views_of_one_storage_read_as_torch_reads_them(tmp_path: Path) -> None:
    """300 views by as_strided, some with stride 0, some that overlap themselves, all inside their storage."""
    random = np.random.default_rng(7)
    storage = torch.arange(200, dtype=torch.int32)
    content: dict[str, torch.Tensor] = {}
    while len(content) < 300:
        shape = random.integers(1, 5, size=random.integers(0, 5)).tolist()
        strides = random.integers(0, 30, size=len(shape)).tolist()
        offset = int(random.integers(0, 100))
        if offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) < 200:
            content[f"view{len(content)}"] = storage.as_strided(shape, strides, offset)
    path = tmp_path / "views.pt"
    torch.save(content, path)
    assert_as_torch(path, content)


@since("float4_e2m1fn_x2")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_what_has_no_plain_numbers_is_left_out_by_name(tmp_path: Path) -> None:
    """Nested tensors, 4-bit floats and tensors of other classes are named with a reason; the rest of the file is read."""
    content = {
        "weight": torch.tensor(maker.WEIGHT),
        "float4": torch.zeros(2, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "two": TwoTensor(torch.ones(2), torch.zeros(2)),
    }
    path = tmp_path / "odd.pt"
    torch.save(content, path)
    with Checkpoint(path, where="odd") as checkpoint:
        assert list(checkpoint.arrays) == ["weight"]
        assert [part.name for part in checkpoint.left_out] == ["float4", "nested", "two"]


@since("float8_e8m0fnu")
def test_every_pattern_of_float8_in_safetensors_has_torchs_value(tmp_path: Path) -> None:
    """What the safetensors library writes from torch, bfloat16 beside it."""
    content = {
        name: torch.arange(256).to(torch.uint8).view(getattr(torch, name))
        for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz")
    }
    content["bfloat16"] = torch.arange(65536).to(torch.uint16).view(torch.bfloat16)
    path = tmp_path / "patterns.safetensors"
    save_file(content, path)
    with SafeTensors(path, where="patterns") as tensors:
        for name, array in tensors.arrays.items():
            assert array.dtype == name
            np.testing.assert_array_equal(dense(array), as_numpy(content[name]), err_msg=name)


def test_a_shard_of_a_state_dict_leads_to_all_of_it(tmp_path: Path) -> None:
    """Two .bin files and their index are one state dict."""
    state = SAMPLES["state_dict"]()
    names, files = list(state), ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    weight_map = {name: files[k % 2] for k, name in enumerate(names)}
    for file in files:
        torch.save({name: state[name] for name in names if weight_map[name] == file}, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    index = index_of(tmp_path / files[0])
    assert index is not None
    arrays = Shards(index, where="index").arrays
    assert list(arrays) == names
    for name, tensor in state.items():
        np.testing.assert_array_equal(dense(arrays[name]), tensor.numpy())
