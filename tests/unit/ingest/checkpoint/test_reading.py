"""Golden checkpoints of real torch and NumPy, read without either's unpickler."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from topostrata.errors import InvalidInputError, LimitError
from topostrata.ingest.formats.checkpoint.described import ABSENT
from topostrata.ingest.formats.checkpoint.reading import Checkpoint
from topostrata.ingest.formats.limits import Limits
from topostrata.ingest.formats.stored import Entries, StoredArray

GOLDEN = Path(__file__).resolve().parents[3] / "data" / "checkpoints"
DATA = GOLDEN / "torch-2.15.0"
OLDER = sorted(path for version in ("1.13.1", "2.4.1") for path in (GOLDEN / f"torch-{version}").iterdir())
WEIGHT = np.array([[0.0, 1.5, 0.0], [-2.0, 0.0, 0.5]])
MASK = WEIGHT != 0


def dense(array: StoredArray) -> NDArray[Any]:
    values = array.read()
    if isinstance(values, Entries):
        filled = np.zeros(array.shape, values.values.dtype)
        filled[tuple(values.positions.T)] = values.values
        return filled
    return values


def arrays_of(name: str, folder: Path = DATA) -> dict[str, NDArray[Any]]:
    """All arrays of a golden file but those that are shapes only."""
    with Checkpoint(folder / name, where=name) as checkpoint:
        return {n: dense(a) for n, a in checkpoint.arrays.items() if a.place != ABSENT}


def of_pickle(content: Any, protocol: int = 4) -> Checkpoint:
    return Checkpoint(pickle.dumps(content, protocol), where="x.pkl")


FLOATS = {
    "float64": "float64",
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "float32",
    "complex128": "complex128",
    "complex64": "complex64",
    "complex32": "complex64",
    "float8_e4m3fn": "float32",
    "float8_e5m2": "float32",
    "float8_e4m3fnuz": "float32",
    "float8_e5m2fnuz": "float32",
}
INTEGERS = ["int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]


@pytest.mark.parametrize(("name", "arrives_as"), FLOATS.items())
def test_every_float_has_its_value(name: str, arrives_as: str) -> None:
    """What NumPy has no dtype for comes as float32 (complex64) of the same value."""
    values = arrays_of("dtypes.pt")[name]
    assert values.dtype == arrives_as
    np.testing.assert_array_equal(values, WEIGHT)


@pytest.mark.parametrize("name", INTEGERS)
def test_every_integer_has_its_value(name: str) -> None:
    """Truncated as torch does it; unsigned ones hold the absolute value, bool what is not 0."""
    values = arrays_of("dtypes.pt")[name]
    assert values.dtype == name
    expected = MASK if name == "bool" else np.abs(WEIGHT) if name.startswith("uint") else WEIGHT
    np.testing.assert_array_equal(values, expected if name == "bool" else np.trunc(expected))


def test_a_float_without_zero_has_powers_of_two() -> None:
    """e8m0 holds the scales of microscaling formats."""
    assert arrays_of("dtypes.pt")["float8_e8m0fnu"].tolist() == [[1.0, 2.0, 0.5], [4.0, 1.0, 0.25]]


@pytest.mark.parametrize("file", ["sparse.pt", "legacy_sparse.pt"])
def test_every_sparse_layout_has_its_entries(file: str) -> None:
    """COO with duplicates is summed, a hybrid's dense axis is spread out, blocks are counted by value."""
    square = np.zeros((4, 4))
    square[0, 2], square[1, 3] = 1, 2
    for name, values in arrays_of(file).items():
        row = {"coo_hybrid": [[0, 0, 0], [-2, 0, 0.5]], "coo_stored_zero": [[0, 1.5, 0], [0, 0, 0]]}.get(name, WEIGHT)
        np.testing.assert_array_equal(values, square if name in {"bsr", "bsc"} else row, err_msg=name)


def test_a_zero_stored_in_a_sparse_tensor_is_an_entry() -> None:
    """A grown connection starts at 0: the pattern is there to be taken, or not."""
    with Checkpoint(DATA / "sparse.pt", where="sparse.pt") as checkpoint:
        entries = checkpoint.arrays["coo_stored_zero"].read()
        assert isinstance(entries, Entries)
        assert entries.positions.tolist() == [[0, 0], [0, 1]]
        assert entries.values.tolist() == [0.0, 1.5]
        blocks = checkpoint.arrays["bsr"].read()
        assert isinstance(blocks, Entries)
        assert blocks.positions.tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("name", ["qint8", "quint8", "qint32", "channels", "float_channels"])
def test_a_quantised_tensor_is_zero_at_its_zero_point(name: str) -> None:
    """The stored integer of a weight of 0 is the zero point, which is not 0."""
    np.testing.assert_array_equal(arrays_of("quantised.pt")[name], WEIGHT)


def test_views_are_what_they_show() -> None:
    """Slices, transposes and expanded tensors share storages; conjugates are only marked."""
    values, whole = arrays_of("views.pt"), np.arange(24.0).reshape(2, 3, 4)
    expected = {
        "whole": whole,
        "slice": whole[1, ::2, 1:],
        "transposed": whole.transpose(2, 1, 0),
        "expanded": [[1, 1, 1], [0, 0, 0]],
        "channels_last": np.arange(16.0).reshape(1, 4, 2, 2),
        "scalar": 5,
        "empty": np.zeros((0, 3)),
        "conjugate": [1 - 2j, 3 + 4j],
        "negative": [-2, 4],
        "parameter": WEIGHT,
    }
    assert list(values) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(values[name], array, err_msg=name)


def test_a_meta_tensor_is_a_shape_without_numbers() -> None:
    """It is listed; reading it says what is missing."""
    with Checkpoint(DATA / "views.pt", where="views.pt") as checkpoint:
        meta = checkpoint.arrays["meta"]
        assert (meta.shape, meta.dtype, meta.place) == ((1000, 1000), "float32", ABSENT)
        with pytest.raises(InvalidInputError, match=r"views\.pt: array 'meta': expected numbers, found a meta tensor"):
            meta.read()


STATE_DICT = ["steps", "fc1.weight", "fc1.bias", "block.0.weight", "block.0.bias"]


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("state_dict.pt", "PyTorch checkpoint"),
        ("no_checksums.pt", "PyTorch checkpoint"),
        ("legacy.pt", "PyTorch legacy checkpoint"),
        ("state_dict.pkl", "pickle"),
    ],
)
def test_one_state_dict_is_the_same_in_every_container(file: str, kind: str) -> None:
    """Zip, zip without checksums, legacy stream, plain pickle."""
    with Checkpoint(DATA / file, where=file) as checkpoint:
        assert checkpoint.kind == kind
        assert list(checkpoint.arrays) == STATE_DICT
        assert checkpoint.left_out == ()
    values = arrays_of(file)
    np.testing.assert_array_equal(values["fc1.weight"], WEIGHT)
    assert values["block.0.weight"].tolist() == [[0, 1], [2, 0]]
    assert values["steps"] == 7


@pytest.mark.parametrize("file", ["model.pt", "script.pt"])
def test_a_whole_model_has_the_names_of_its_state_dict(file: str) -> None:
    """A mask that is a plain attribute comes too; TorchScript makes no difference between buffers."""
    values = arrays_of(file)
    assert set(STATE_DICT) | {"fc1_mask"} == set(values) - {"causal"}
    np.testing.assert_array_equal(values["fc1.weight"], WEIGHT)
    np.testing.assert_array_equal(values["fc1_mask"], MASK)


def test_a_buffer_that_state_dict_leaves_out_is_left_out() -> None:
    """GPT-2's causal mask would look like a layer."""
    with Checkpoint(DATA / "model.pt", where="model.pt") as checkpoint:
        assert [(part.name, part.what) for part in checkpoint.left_out] == [("causal", "a buffer")]


def test_a_training_checkpoint_is_flattened_by_the_documented_rule() -> None:
    """State dict, optimiser and masks by dotted names, numbers beside them, settings named as left out."""
    with Checkpoint(DATA / "training.pt", where="training.pt") as checkpoint:
        names = list(checkpoint.arrays)
        assert [name for name in names if name.startswith("state_dict.")] == [
            f"state_dict.model.{name}" for name in STATE_DICT
        ]
        assert "optimizer_states.0.state.0.momentum_buffer" in names
        assert names[-2:] == ["mask_dict.fc1/kernel:0", "mask_dict.names with spaces [1]"]
        assert checkpoint.numbers == {"epoch": 9, "global_step": 1000}
        assert [(part.name, part.what) for part in checkpoint.left_out] == [
            ("hyper_parameters", "an object of argparse.Namespace")
        ]
        for name in names[-2:]:
            np.testing.assert_array_equal(dense(checkpoint.arrays[name]), MASK)


@pytest.mark.parametrize("path", OLDER, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_older_versions_of_torch_wrote_the_same(path: Path) -> None:
    """What torch 1.13 and 2.4 could write has the same names, dtypes and numbers as torch 2.15 gives it."""
    older, newest = arrays_of(path.name, path.parent), arrays_of(path.name)
    assert older
    assert list(older) == [name for name in newest if name in older]
    if path.parent.name == "torch-1.13.1":
        # It does not save that a tensor is a conjugate or negative, and loads the plain numbers itself.
        newest |= {"conjugate": np.array([1 + 2j, 3 - 4j], np.complex64), "negative": np.array([2, -4], np.float32)}
    for name, values in older.items():
        assert values.dtype == newest[name].dtype, name
        np.testing.assert_array_equal(values, newest[name], err_msg=name)


def test_the_oldest_form_is_read() -> None:
    """Before torch 0.1.10 a checkpoint was a tar, with storages that are parts of others."""
    values = arrays_of("before_0_1_10.pt")
    assert list(values) == ["weight", "row"]
    np.testing.assert_array_equal(values["weight"], WEIGHT)
    np.testing.assert_array_equal(values["row"], WEIGHT[1])


def test_pruned_layers_have_weight_and_mask() -> None:
    """torch.nn.utils.prune keeps the original beside its mask."""
    values = arrays_of("pruned.pt")
    assert list(values) == ["bias", "weight_orig", "weight_mask"]
    np.testing.assert_array_equal(values["weight_mask"], MASK)


def test_rigls_mask_records_are_read() -> None:
    """A pickled dictionary of lists in a .npy: any byte order, any order of axes."""
    values = arrays_of("mask_records.npy")
    assert list(values) == ["0.0", "0.1", "100.0", "100.1"]
    for name, expected in zip(values, (MASK, WEIGHT, MASK.T, WEIGHT), strict=True):
        np.testing.assert_array_equal(values[name], expected)
        assert values[name].dtype.isnative


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickled_scipy_matrices_are_put_together(protocol: int) -> None:
    """CSR, CSC, COO, BSR and DIA; LIL is named."""
    file = f"numpy_protocol_{protocol}.pkl"
    values = arrays_of(file)
    assert list(values) == ["csr", "csc", "coo", "bsr", "dia", "array"]
    for name, array in values.items():
        np.testing.assert_array_equal(array, WEIGHT, err_msg=name)
    with Checkpoint(DATA / file, where=file) as checkpoint:
        assert [(part.name, part.why) for part in checkpoint.left_out] == [
            ("lil", "this format is not read: save matrix.tocsr()")
        ]
        assert checkpoint.numbers == {"number": 2.5}


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_arrays_read_as_numpy_reads_them(protocol: int) -> None:
    """All dtypes of numbers, both byte orders, both orders of axes, empty and 0-dimensional, in every protocol."""
    random = np.random.default_rng(5)
    content: dict[str, NDArray[Any]] = {}
    for code in ("?", "i1", "u1", "<i2", ">i2", "<u4", ">i8", "<f2", ">f4", "<f8", "<c8", ">c16"):
        array = random.integers(0, 3, (3, 4)).astype(code)
        content |= {code: array, f"{code} F": np.asfortranarray(array), f"{code} slice": array[::2, 1:]}
        content |= {f"{code} empty": array[:0], f"{code} one": array[0, 0:1].reshape(())}
    content["long"] = random.integers(0, 256, 9000).astype(np.uint8)
    with of_pickle(content, protocol) as checkpoint:
        assert list(checkpoint.arrays) == list(content)
        for name, array in content.items():
            values = dense(checkpoint.arrays[name])
            assert values.dtype == array.dtype.newbyteorder("="), name
            np.testing.assert_array_equal(values, array, err_msg=name)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("container", ["matrix", "array"])
def test_random_scipy_matrices_read_as_scipy_reads_them(form: str, container: str) -> None:
    """200 matrices of each format, duplicates and room behind the last entry among them."""
    random = np.random.default_rng(11)
    kind = getattr(sp, f"coo_{container}")
    for _ in range(40):
        rows, columns = 2 * random.integers(1, 5, 2)
        count = int(random.integers(0, 12))
        at = (random.integers(0, rows, count), random.integers(0, columns, count))
        matrix = kind((random.integers(-2, 3, count).astype(float), at), shape=(rows, columns))
        if form != "coo":
            matrix = matrix.asformat(form)
        with of_pickle(matrix) as checkpoint:
            (array,) = checkpoint.arrays.values()
            assert array.layout == form
            np.testing.assert_array_equal(dense(array), matrix.toarray())


def test_nested_content_is_named_as_the_rule_says() -> None:
    """Dictionaries by key, lists by position, objects by attribute, tuples as keys, numbers in decimal."""
    eye = np.eye(2)
    content = {
        "net": OrderedDict(fc1=[eye, (eye, None)]),
        3: {("a", 1): eye},
        "counts": defaultdict(None, x=eye),
        "": {"unnamed": eye},
        "settings": SimpleNamespace(mask=eye, lr=0.1),
        "objects": np.array([None, {"deep": eye}], dtype=object),
        "text": "no array",
        "days": np.array(["2020-01-01"], dtype="M8[D]"),
    }
    with of_pickle(content) as checkpoint:
        assert list(checkpoint.arrays) == [
            "net.fc1.0",
            "net.fc1.1.0",
            "3.(a, 1)",
            "counts.x",
            "unnamed",
            "settings.mask",
            "objects.1.deep",
        ]
        assert [(part.name, part.what) for part in checkpoint.left_out] == [
            ("settings", "an object of types.SimpleNamespace"),
            ("days", "an array of dtype M8, shape (1,)"),
        ]


def test_a_name_that_comes_twice_is_said() -> None:
    """The first array has the name; the second is named as left out."""
    with of_pickle({"a.b": np.eye(2), "a": {"b": np.eye(3)}}) as checkpoint:
        assert [(a.name, a.shape) for a in checkpoint.arrays.values()] == [("a.b", (2, 2))]
        assert [(part.name, part.why) for part in checkpoint.left_out] == [("a.b", "another array has this name")]


def test_shared_layers_have_all_their_names() -> None:
    """Tied weights are one array under two names, as state_dict() has it; a circle is said."""
    layer: dict[str, Any] = {"w": np.eye(2)}
    content: dict[str, Any] = {"encoder": layer, "decoder": layer}
    content["itself"] = content
    with of_pickle(content) as checkpoint:
        assert list(checkpoint.arrays) == ["encoder.w", "decoder.w"]
        assert [(part.name, part.why) for part in checkpoint.left_out] == [("itself", "it contains itself")]


def test_a_plain_npy_is_one_array() -> None:
    """numpy.save of an array needs no pickle."""
    buffer = io.BytesIO()
    np.save(buffer, np.asfortranarray(WEIGHT))
    with Checkpoint(buffer.getvalue(), where="w.npy") as checkpoint:
        assert checkpoint.kind == "NumPy array"
        np.testing.assert_array_equal(dense(checkpoint.arrays["array"]), WEIGHT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^x\.pt: expected a checkpoint, found an empty file$"),
        (b"version https://git-lfs.github.com/spec/v1\n", "found a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html>", "found HTML or XML"),
        (b"\x1f\x8b\x08", "found a gzip file .unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "found an HDF5 file"),
        (b"PK\x03\x04", "expected the end of a zip file, found none"),
        (b"hello world", "expected a sound pickle|expected an operation"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(data: bytes, message: str) -> None:
    """The error says what the file is instead, and what to do."""
    with pytest.raises(InvalidInputError, match=message):
        Checkpoint(data, where="x.pt")


def test_an_archive_of_arrays_is_no_checkpoint() -> None:
    """An .npz under another name is told from a checkpoint by what it lacks."""
    buffer = io.BytesIO()
    np.savez(buffer, fc1=WEIGHT)
    with pytest.raises(InvalidInputError, match=r"has one member data\.pkl, found 0 among 1 members \('fc1\.npy'\)"):
        Checkpoint(buffer.getvalue(), where="x.pt")


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    """The file's name and why it cannot be read."""
    with pytest.raises(InvalidInputError, match=r"nothing\.pt: expected a readable file, found: No such file"):
        Checkpoint(tmp_path / "nothing.pt", where="nothing.pt")


def test_limits_hold_before_numbers_are_read() -> None:
    """Bytes, arrays and connections are counted from headers."""
    with pytest.raises(LimitError, match="at most 100 bytes unpacked"):
        Checkpoint(DATA / "sparse.pt", where="x", limits=Limits(total_bytes=100))
    with pytest.raises(LimitError, match="at most 2 members"):
        Checkpoint(DATA / "sparse.pt", where="x", limits=Limits(members=2))
    with (
        Checkpoint(DATA / "sparse.pt", where="x", limits=Limits(connections=2)) as checkpoint,
        pytest.raises(LimitError, match="array 'csr': expected at most 2 connections"),
    ):
        checkpoint.arrays["csr"].read()
