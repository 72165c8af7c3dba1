"""State dicts in several files: index and shards tell the same, or nothing is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.shards import Shards, index_of

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "checkpoints" / "torch-2.15.0"
ARRAYS = {f"layers.{k}.weight": np.full((2, 3), k, np.float32) for k in range(4)}
INDEX = "model.safetensors.index.json"
FILES = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four layers in two shards, as Hugging Face writes them."""
    for file, half in zip(FILES, ((0, 1), (2, 3)), strict=True):
        save_file({f"layers.{k}.weight": ARRAYS[f"layers.{k}.weight"] for k in half}, tmp_path / file)
    write_index(tmp_path, {name: FILES[k // 2] for k, name in enumerate(ARRAYS)})
    return tmp_path


def write_index(folder: Path, weight_map: Any, name: str = INDEX) -> None:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 96}, "weight_map": weight_map}))


def test_all_shards_are_one_state_dict(folder: Path) -> None:
    """Arrays in the order of the index, each from its file."""
    shards = Shards(folder / INDEX, where="index")
    assert list(shards.arrays) == list(ARRAYS)
    for name, array in shards.arrays.items():
        assert array.place.startswith(FILES[int(name.split(".")[1]) // 2])
        values = array.read()
        assert isinstance(values, np.ndarray)
        np.testing.assert_array_equal(values, ARRAYS[name])


def test_shards_of_torch_are_read_too(tmp_path: Path) -> None:
    """pytorch_model.bin.index.json has the same form, its shards are checkpoints."""
    shutil.copy(GOLDEN / "pruned.pt", tmp_path / "pytorch_model-00001-of-00002.bin")
    shutil.copy(GOLDEN / "state_dict.pt", tmp_path / "pytorch_model-00002-of-00002.bin")
    names = {"bias": 1, "weight_orig": 1, "weight_mask": 1}
    names |= dict.fromkeys(["steps", "fc1.weight", "fc1.bias", "block.0.weight", "block.0.bias"], 2)
    index = "pytorch_model.bin.index.json"
    write_index(tmp_path, {name: f"pytorch_model-0000{k}-of-00002.bin" for name, k in names.items()}, index)
    shards = Shards(tmp_path / index, where="index")
    assert list(shards.arrays) == list(names)
    mask = shards.arrays["weight_mask"].read()
    assert isinstance(mask, np.ndarray)
    assert mask.tolist() == [[0, 1, 0], [1, 0, 1]]


def test_a_shard_leads_to_its_index(folder: Path) -> None:
    """One shard of two is a part of a network, which is another network."""
    assert index_of(folder / FILES[0]) == folder / INDEX
    assert index_of(folder / "model.safetensors") is None
    assert index_of(folder / "model-00001-of-00001.safetensors") is None
    (folder / INDEX).unlink()
    with pytest.raises(InvalidInputError, match=r"found shard 1 of 2 without model\.safetensors\.index\.json"):
        index_of(folder / FILES[0])


@pytest.mark.parametrize(
    "file", ["../other.safetensors", "/etc/passwd.safetensors", ".hidden.safetensors", "a\\b.safetensors", "x.npz", 3]
)
def test_an_index_names_files_beside_itself_only(folder: Path, file: Any) -> None:
    """No path leads out of the folder, whatever the index says."""
    write_index(folder, {"layers.0.weight": file})
    with pytest.raises(InvalidInputError, match=r"^index: .*expected the name of a \.safetensors or \.bin file"):
        Shards(folder / INDEX, where="index")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "\ud800"])
def test_what_is_no_index_is_one_error(folder: Path, content: str) -> None:
    """Cut off, of another form, not even text."""
    (folder / INDEX).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidInputError, match=r"^index: expected"):
        Shards(folder / INDEX, where="index")


def test_a_missing_shard_is_named(folder: Path) -> None:
    """A download that is not finished."""
    (folder / FILES[1]).unlink()
    with pytest.raises(InvalidInputError, match=f"^index: expected '{FILES[1]}' beside the index, found none"):
        Shards(folder / INDEX, where="index")


@pytest.mark.parametrize("change", ["missing", "beyond", "swapped"])
def test_index_and_shards_must_tell_the_same(folder: Path, change: str) -> None:
    """A name that its shard lacks, an array that the index does not know, a name in the other shard."""
    weight_map = {name: FILES[k // 2] for k, name in enumerate(ARRAYS)}
    if change == "missing":
        weight_map["layers.9.weight"] = FILES[1]
    elif change == "beyond":
        del weight_map["layers.3.weight"]
    else:
        weight_map["layers.0.weight"] = FILES[1]
    write_index(folder, weight_map)
    with pytest.raises(InvalidInputError, match="to hold what the index says, found it with"):
        Shards(folder / INDEX, where="index")


def test_limits_count_all_shards_together(folder: Path) -> None:
    """Bytes and arrays of the whole."""
    with pytest.raises(LimitError, match="at most 3 members"):
        Shards(folder / INDEX, where="index", limits=Limits(members=3))
    size = (folder / FILES[0]).stat().st_size
    with pytest.raises(LimitError, match="bytes unpacked"):
        Shards(folder / INDEX, where="index", limits=Limits(total_bytes=size + 10))
