"""Flax's msgpack files, packed here as Flax packs them (tests/torch has Flax itself), and JaxPruner's masks in them."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

import topostrata as ts
from topostrata.errors import InvalidInputError, LimitError, MissingExtraError, TopostrataError
from topostrata.ingest.formats import run_directory
from topostrata.ingest.formats.limits import DEFAULT, Limits
from topostrata.ingest.inspection import inspect

KERNELS = {"Dense_0": (6, 5), "Dense_1": (5, 5), "Dense_2": (5, 3)}


def array(values: Any, dtype: str | None = None, code: int = 1) -> msgpack.ExtType:
    """An array as Flax packs it; ``dtype`` is the name that its numbers have."""
    return msgpack.ExtType(code, msgpack.packb((values.shape, dtype or values.dtype.name, values.tobytes())))


def kernels(seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {name: (rng.random(shape) < 0.4).astype("f4") for name, shape in KERNELS.items()}


def params(weights: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: {"kernel": array(w), "bias": array(np.zeros(w.shape[1], "f4"))} for name, w in weights.items()}


def written(path: Path, tree: Any) -> Path:
    path.write_bytes(msgpack.packb(tree, strict_types=True))
    return path


def only(path: Path, **options: Any) -> ts.Topology:
    (frame,) = ts.read(path, **options)
    return frame.topology


def cells(topology: ts.Topology) -> list[list[int]]:
    return [layer.mask.cells.tolist() for layer in topology]


def expected(weights: dict[str, NDArray[Any]]) -> ts.Topology:
    return ts.Topology.from_masks([w != 0 for w in weights.values()], names=list(weights))


def test_a_tree_of_parameters_is_a_network(tmp_path: Path) -> None:
    """Rows are sources, the names tell the order, and the file is known by its suffix or its beginning."""
    tree = {"params": params(kernels())}
    for name in ("net.msgpack", "net.flax", "checkpoint_100"):
        topology = only(written(tmp_path / name, tree))
        assert cells(topology) == cells(expected(kernels()))
        assert [layer.name for layer in topology] == list(KERNELS)


def test_a_training_state_is_its_parameters(tmp_path: Path) -> None:
    """Moments of the optimiser and the step are no layers."""
    moments = {"count": array(np.int32(7)), "mu": {"params": params(kernels(1))}, "nu": {"params": params(kernels(2))}}
    tree = {
        "step": 7, "params": {"params": params(kernels())}, "opt_state": {"0": moments, "1": {}}, "rate": array(np.float32(0.1), code=3),
        "none": None, "about": "a text",
    }  # fmt: skip
    path = written(tmp_path / "state.msgpack", tree)
    assert cells(only(path)) == cells(expected(kernels()))
    with run_directory.opened(path, DEFAULT) as opened:
        assert opened.numbers == {"step": 7, "rate": pytest.approx(0.1)}
        assert [left.name for left in opened.left_out] == ["about"]


@pytest.mark.parametrize(
    ("dtype", "bits", "values"),
    [
        ("bfloat16", np.array([0x3F80, 0x8000, 0xC000], "<u2"), [1.0, 0.0, -2.0]),
        ("float8_e4m3fn", np.array([0x38, 0x80, 0xC0], "u1"), [1.0, 0.0, -2.0]),
        ("float16", np.array([1, 0, -2], "<f2"), [1.0, 0.0, -2.0]),
        ("int4", np.array([1, 0, -2], "i1"), [1, 0, -2]),
        ("bool", np.array([True, False, True]), [1, 0, 1]),
    ],
)
def test_every_dtype_of_jax_has_its_values(dtype: str, bits: NDArray[Any], values: list[float], tmp_path: Path) -> None:
    """What NumPy does not know arrives as float32 of the same value."""
    path = written(tmp_path / "net.msgpack", {"params": {"Dense_0": {"kernel": array(bits.reshape(1, 3), dtype)}}})
    with run_directory.opened(path, DEFAULT) as opened:
        kernel = opened.arrays["params.Dense_0.kernel"]
        assert (kernel.dtype, kernel.shape) == (dtype, (1, 3))
        assert np.asarray(kernel.read()).tolist() == [values]


def test_an_array_in_pieces_is_one_array(tmp_path: Path) -> None:
    """Flax cuts what is larger than 1 GiB."""
    weight = kernels()["Dense_0"]
    flat = weight.reshape(-1)
    pieces = {
        "__msgpack_chunked_array__": True, "shape": {"0": 6, "1": 5}, "chunks": {"0": array(flat[:13]), "1": array(flat[13:])},
    }  # fmt: skip
    tree = {"params": {"Dense_0": {"kernel": pieces}, "Dense_1": {"kernel": array(np.eye(5))}}}
    assert cells(only(written(tmp_path / "net.msgpack", tree)))[0] == cells(expected(kernels()))[0]


def state_of_jaxpruner(*, packed: bool) -> dict[str, Any]:
    """A training state whose optimiser is wrapped: dense weights, masks of two layers, the third is not masked."""
    masks: dict[str, Any] = {
        name: {"kernel": array(np.packbits(w != 0) if packed else (w != 0)), "bias": None}
        for name, w in kernels().items()
        if name != "Dense_2"
    }
    weights = {name: w + 1 if name != "Dense_2" else w for name, w in kernels().items()}
    sparse = {
        "masks": {"params": {**masks, "Dense_2": {"kernel": None, "bias": None}}}, "inner_state": {"0": {"mu": params(kernels(5))}},
        "target_sparsities": {"params": {"Dense_0": {"kernel": 0.6}}}, "count": array(np.int32(3)),
    }  # fmt: skip
    return {"params": {"params": params(weights)}, "opt_state": sparse}


@pytest.mark.parametrize("packed", [False, True])
def test_masks_of_jaxpruner_win_over_the_weights(packed: bool, tmp_path: Path) -> None:
    """They lie in the state of the optimiser, bit-packed or not; a layer without a mask has its weights."""
    path = written(tmp_path / "state.msgpack", state_of_jaxpruner(packed=packed))
    assert cells(only(path)) == cells(expected(kernels()))
    roles = {one.name: one.role for one in inspect(path).arrays if one.taken}
    assert roles == {
        "masks.params.Dense_0.kernel": "mask",
        "masks.params.Dense_1.kernel": "mask",
        "params.params.Dense_2.kernel": "weight",
    }


def test_a_relabelled_copy_has_distance_0(tmp_path: Path) -> None:
    """Units in other places are other matrices and the same network."""
    rng = np.random.default_rng(1)
    first, second = rng.permutation(5), rng.permutation(5)
    weights = kernels()
    moved = {
        "Dense_0": weights["Dense_0"][:, first],
        "Dense_1": weights["Dense_1"][first][:, second],
        "Dense_2": weights["Dense_2"][second],
    }
    original = only(written(tmp_path / "a.msgpack", {"params": params(weights)}))
    copy = only(written(tmp_path / "b.msgpack", {"params": params(moved)}))
    assert original != copy
    assert ts.nnstd(original, copy).nnstd == 0


def test_a_box_around_one_array_is_looked_through(tmp_path: Path) -> None:
    """``nnx`` keeps variables as ``{"value": array}``."""
    tree = {f"linear{k}": {"kernel": {"value": array(w)}} for k, w in enumerate(kernels().values())}
    path = written(tmp_path / "net.msgpack", tree)
    assert [one.name for one in inspect(path).arrays] == ["linear0.kernel", "linear1.kernel", "linear2.kernel"]
    assert len(only(path)) == 3


LIES = {
    "fewer bytes than its shape": {"a": msgpack.ExtType(1, msgpack.packb(((1000, 1000), "float32", b"1234")))},
    "a negative shape": {"a": msgpack.ExtType(1, msgpack.packb(((-1, 4), "float32", b"")))},
    "a shape without end": {"a": msgpack.ExtType(1, msgpack.packb(((2**61, 2**61, 0), "float32", b"")))},
    "no array": {"a": msgpack.ExtType(1, b"\xc1")},
    "a shape of texts": {"a": msgpack.ExtType(1, msgpack.packb((("4",), "float32", b"")))},
    "keys that are no names": {b"\0": 1},
    "a name of two lines": {"a\nb": 1},
    "pieces of other sizes": {"a": {"__msgpack_chunked_array__": True, "shape": {"0": 9}, "chunks": {"0": array(np.eye(2))}}},
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_one_clear_error(lie: str, tmp_path: Path) -> None:
    """What does not fit together is refused by the name of the file."""
    path = written(tmp_path / "net.msgpack", LIES[lie])
    with pytest.raises(InvalidInputError, match=r"net\.msgpack: ") as caught:
        list(ts.read(path))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\xa1a" + b"\x91" * 5000,
        b"\x81\xa1a\xdd" + struct.pack(">I", 2**32 - 1),
        b"\x81\xa1a\xdf" + struct.pack(">I", 2**31),
        b"\x81\xa1a\xc9" + struct.pack(">I", 2**32 - 1) + b"\1",
        b"\x81\xa1a\xdb" + struct.pack(">I", 2**32 - 1),
        b"\x81\xa1a\x9f" + b"\x80" * 300_000,
        b"\x81\xa1a\x90" + b"more",
        b"",
    ],
)
def test_bombs_cost_nothing(data: bytes, tmp_path: Path) -> None:
    """Lengths beyond the file, nesting without end, a million empty parts."""
    (tmp_path / "net.msgpack").write_bytes(data)
    with pytest.raises(TopostrataError, match=r"net\.msgpack: expected"):
        list(ts.read(tmp_path / "net.msgpack"))


def test_damaged_files_give_one_clear_error(tmp_path: Path) -> None:
    """1,000 mutations: an error of ours that begins with the file, or a file that is sound still."""
    golden = msgpack.packb({"params": params(kernels()), "step": 3, "names": ["a", "b"]})
    path, messages = tmp_path / "net.msgpack", list[str]()
    for seed in range(1000):
        rng = random.Random(seed)
        data = bytearray(golden)
        for _ in range(rng.choice([1, 2, 8])):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([1, 4])] = rng.choice([b"\xff", rng.randbytes(4)])
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
        try:
            with run_directory.opened(path, DEFAULT) as opened:
                for stored in opened.arrays.values():
                    stored.read()
        except TopostrataError as error:
            messages.append(error.message)
    assert [message for message in messages if not message.startswith(str(path)) or "\n" in message] == []
    assert len(messages) > 200


def test_limits_hold(tmp_path: Path) -> None:
    """The size of the file and the number of arrays."""
    path = written(tmp_path / "net.msgpack", {"params": params(kernels())})
    for limits in (Limits(total_bytes=100), Limits(members=2)):
        with pytest.raises(LimitError):
            only(path, limits=limits)


def test_without_msgpack_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install says what to install."""
    path = written(tmp_path / "net.msgpack", {"params": params(kernels())})
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(MissingExtraError, match=r"a Flax file needs the extra \[flax\]"):
        only(path)
