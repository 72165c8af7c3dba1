"""A network in one file: npz of any kind, safetensors, and our own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import scipy.sparse as sp

from tests.epochs import matrix
from topostrata.errors import InvalidInputError
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.formats.reading import Frame, read
from topostrata.topology import Topology
from topostrata.words import FileOrientation


def test_layers_follow_the_natural_order_of_their_names(tmp_path: Path) -> None:
    """``fc2`` comes before ``fc10``, and the suffix ``.weight`` is no part of a name."""
    arrays: dict[str, Any] = {
        "fc10": matrix(4, 2).toarray(),
        "fc2": matrix(3, 4).toarray(),
        "fc1.weight": matrix(6, 3).toarray(),
    }
    np.savez(tmp_path / "net.npz", **arrays)
    (frame,) = read(tmp_path / "net.npz")
    assert frame.topology == Topology.from_masks(
        [arrays["fc1.weight"], arrays["fc2"], arrays["fc10"]], ["fc1", "fc2", "fc10"]
    )
    assert (frame.step, frame.epoch, frame.metrics) == (0, None, {})


def test_targets_by_sources_is_read_when_told(tmp_path: Path) -> None:
    """A file of targets x sources is refused with the option that reads it, and is read with it."""
    arrays = [matrix(6, 3).toarray(), matrix(3, 4).toarray()]
    np.savez(tmp_path / "net.npz", a=arrays[0].T, b=np.asfortranarray(arrays[1].T))
    with pytest.raises(InvalidInputError, match=r"in-out: 4-3-6 units; or out-in: 6-3-4 units.*--orientation out-in"):
        next(read(tmp_path / "net.npz"))
    (frame,) = read(tmp_path / "net.npz", orientation="out-in")
    assert frame.topology == Topology.from_masks(arrays, ["a", "b"])


def test_a_bias_row_shows_in_the_shapes(tmp_path: Path) -> None:
    """One row more than the layer before has units is a bias row, and is left out."""
    arrays = [matrix(6, 3, bias=True).toarray(), matrix(3, 4, bias=True).toarray()]
    np.savez(tmp_path / "net.npz", l0=arrays[0], l1=arrays[1])
    (frame,) = read(tmp_path / "net.npz")
    assert frame.topology == Topology.from_masks([array[:-1] for array in arrays])


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        (("a", "b"), [(2, 2), (3, 3)]),
        (("l0", "l1"), [(2, 2), (3, 3)]),
        (("l0", "l1"), [(2, 2), (3, 2)]),
        (("a", "b"), [(7, 3), (4, 5)]),
    ],
)
def test_a_bias_row_that_only_the_chain_asks_for(
    tmp_path: Path, names: tuple[str, str], shapes: list[tuple[int, int]]
) -> None:
    """Where the names give no order, or the other order of axes chains as well, it is asked."""
    arrays = {name: np.ones(shape) for name, shape in zip(names, shapes, strict=True)}
    np.savez(tmp_path / "net.npz", **arrays)  # type: ignore[arg-type]  # numpy's stubs want its own option
    with pytest.raises(InvalidInputError, match=r"only if the last row of each matrix is a bias.*--bias last-row"):
        read(tmp_path / "net.npz")
    (frame,) = read(tmp_path / "net.npz", bias="last-row")
    assert [layer.source.size for layer in frame.topology] == [shapes[0][0] - 1, shapes[1][0] - 1]


def test_a_fortran_ordered_matrix_is_the_same_matrix(tmp_path: Path) -> None:
    """The order of the values in memory makes no difference."""
    arrays = [matrix(6, 3).toarray(), matrix(3, 4).toarray()]
    np.savez(tmp_path / "net.npz", l0=np.asfortranarray(arrays[0]), l1=np.asfortranarray(arrays[1]))
    assert next(read(tmp_path / "net.npz")).topology == Topology.from_masks(arrays)


def test_scipy_matrices_in_parts(tmp_path: Path) -> None:
    """``NAME.indptr`` or ``NAME_indptr`` and so on are one sparse layer; a missing part is an error."""
    layers = {"fc1": matrix(6, 3), "fc2": matrix(3, 4)}
    parts: dict[str, Any] = {
        f"{name}{separator}{part}": value
        for (name, layer), separator in zip(layers.items(), "._", strict=True)
        for part, value in (
            ("indptr", layer.indptr), ("indices", layer.indices), ("shape", layer.shape), ("data", layer.data)
        )
    }  # fmt: skip
    np.savez(tmp_path / "net.npz", **parts)
    (frame,) = read(tmp_path / "net.npz")
    assert frame.topology == Topology.from_masks(list(layers.values()), list(layers))
    del parts["fc2_shape"]
    np.savez(tmp_path / "net.npz", **parts)
    with pytest.raises(InvalidInputError, match=r"net\.npz: layer 'fc2': .*found no shape"):
        next(read(tmp_path / "net.npz"))


def test_one_scipy_matrix_is_a_network_of_one_layer(tmp_path: Path) -> None:
    """A file that ``save_npz`` wrote is one layer, and needs the option ``bias``."""
    layer = matrix(6, 3)
    sp.save_npz(tmp_path / "mask.npz", layer)
    with pytest.raises(InvalidInputError, match="--bias none or --bias last-row"):
        next(read(tmp_path / "mask.npz"))
    (frame,) = read(tmp_path / "mask.npz", bias="none")
    assert frame.topology == Topology.from_masks([layer])


def test_an_archive_without_a_layer(tmp_path: Path) -> None:
    """A file that has no matrix is an error."""
    np.savez(tmp_path / "net.npz", bias=np.ones(3))
    with pytest.raises(InvalidInputError, match=r"net\.npz: expected at least one layer, found none"):
        next(read(tmp_path / "net.npz"))


def test_nan_in_a_dense_layer_is_placed(tmp_path: Path) -> None:
    """The error names the layer and the row and column of the value."""
    bad = matrix(6, 3).toarray()
    bad[4, 1] = np.nan
    np.savez(tmp_path / "net.npz", l0=bad, l1=matrix(3, 2).toarray())
    with pytest.raises(InvalidInputError, match=r"net\.npz: layer 'l0': expected finite values, found nan at \[4, 1\]"):
        next(read(tmp_path / "net.npz"))


@pytest.mark.parametrize(
    ("name", "step"),
    [("step_20", 20), ("w0@50", 50), ("net-epoch-007", 7), ("resnet18", 0), ("w0", 0), ("epoch10", 10)],
)
def test_a_step_in_the_name_is_the_step(tmp_path: Path, name: str, step: int) -> None:
    """``step_20``, ``w0@50`` and ``net-epoch-007`` give a step; other digits in a name do not."""
    np.savez(tmp_path / f"{name}.npz", l0=np.eye(3))
    assert next(read(tmp_path / f"{name}.npz", bias="none")).step == step


def write_bf16(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """BF16 is the upper half of a float32; NumPy has no such dtype, so the file is put together from its parts."""
    import json

    header, body = {}, b""
    for name, array in arrays.items():
        data = (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_])
def test_linear_layers_are_targets_by_sources(tmp_path: Path, dtype: type) -> None:
    """A safetensors file is read as PyTorch writes it, in every dtype that NumPy has."""
    masks = [matrix(6, 3).toarray() != 0, matrix(3, 4).toarray() != 0]
    tensors = {"fc1.weight": masks[0].T, "fc2.weight": masks[1].T, "fc1.bias": np.ones(3)}
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array.astype(dtype)) for name, array in tensors.items()},
        tmp_path / "model.safetensors",
    )
    (frame,) = read(tmp_path / "model.safetensors")
    assert frame.topology == Topology.from_masks(masks, ["fc1", "fc2"])


def test_bf16_needs_no_torch(tmp_path: Path) -> None:
    """BF16 is read without torch, and its infinities are found."""
    masks = [matrix(6, 3).toarray(), matrix(3, 4).toarray()]
    path = tmp_path / "model.safetensors"
    write_bf16(path, {"a": masks[0].T * -0.5, "b": masks[1].T})
    assert next(read(path)).topology == Topology.from_masks(masks, ["a", "b"])
    masks[1][2, 3] = np.inf
    write_bf16(path, {"a": masks[0].T, "b": masks[1].T})
    with pytest.raises(InvalidInputError, match=r"layer 'b': expected finite values, found inf at \[3, 2\]"):
        next(read(path))


def test_the_mask_of_torch_prune_is_the_topology(tmp_path: Path) -> None:
    """``weight_mask`` decides, and ``weight_orig`` is ignored."""
    mask, weights = matrix(6, 3).toarray() != 0, np.ones((3, 6), np.float32)
    safetensors.numpy.save_file(
        {
            "fc1.weight_orig": weights,
            "fc1.weight_mask": np.ascontiguousarray(mask.T.astype(np.float32)),
            "fc2.weight": np.ones((2, 3), np.float32),
        },
        tmp_path / "pruned.safetensors",
    )
    (frame,) = read(tmp_path / "pruned.safetensors")
    assert frame.topology == Topology.from_masks([mask, np.ones((3, 2))], ["fc1", "fc2"])


def test_one_layer_of_a_state_dict_has_no_bias_row(tmp_path: Path) -> None:
    """PyTorch keeps a bias in a tensor of its own, so a single layer needs no option."""
    safetensors.numpy.save_file({"fc.weight": np.ones((2, 3), np.float32)}, tmp_path / "one.safetensors")
    assert [space.size for space in next(read(tmp_path / "one.safetensors")).topology.spaces] == [3, 2]


def test_convolutions_have_taps_and_flatten_channel_major(tmp_path: Path) -> None:
    """A kernel position is a tap, and the flattened input of a linear layer counts channels first."""
    rng = np.random.default_rng(7)
    conv1, conv2 = rng.random((4, 2, 3, 3)) < 0.3, rng.random((5, 4, 2, 2)) < 0.3
    linear = rng.random((3, 5 * 6)) < 0.3  # out x (channels * positions)
    tensors = {"conv1.weight": conv1, "conv2.weight": conv2, "fc.weight": linear}
    safetensors.numpy.save_file({k: v.astype(np.float32) for k, v in tensors.items()}, tmp_path / "cnn.safetensors")
    (frame,) = read(tmp_path / "cnn.safetensors")
    layers = frame.topology.layers
    assert [(layer.name, layer.source.size, layer.target.size, layer.taps) for layer in layers] == [
        ("conv1", 2, 4, 9), ("conv2", 4, 5, 4), ("fc", 5, 3, 6),
    ]  # fmt: skip
    out, channel, row, col = (int(i) for i in np.argwhere(conv1)[-1])
    assert channel * 9 + row * 3 + col in layers[0].mask.keys_of(out)
    unit, flat = (int(i) for i in np.argwhere(linear)[0])
    assert flat in layers[2].mask.keys_of(unit)
    assert frame.topology.nnz == conv1.sum() + conv2.sum() + linear.sum()


def test_a_kernel_of_jax_has_its_channels_last(tmp_path: Path) -> None:
    """With the orientation ``in-out`` a kernel of JAX gives the topology of the same kernel in PyTorch's order."""
    kernel = np.random.default_rng(7).random((3, 3, 2, 4)) < 0.3
    orders: list[tuple[str, Any, FileOrientation]] = [
        ("jax", kernel, "in-out"),
        ("torch", kernel.transpose(3, 2, 0, 1), "out-in"),
    ]
    for name, array, orientation in orders:
        safetensors.numpy.save_file(
            {"conv": np.ascontiguousarray(array), "out": np.ones((4, 4), bool)}, tmp_path / f"{name}.safetensors"
        )
        assert next(read(tmp_path / f"{name}.safetensors", orientation=orientation)).topology.nnz == kernel.sum() + 16
    jax = next(read(tmp_path / "jax.safetensors", orientation="in-out"))
    assert jax.topology == next(read(tmp_path / "torch.safetensors")).topology


def test_layers_that_do_not_chain_are_listed(tmp_path: Path) -> None:
    """The error names the layer that does not fit and all shapes; a bias row is for plain matrices only."""
    tensors = {"conv.weight": np.ones((4, 2, 3, 3), np.float32), "fc.weight": np.ones((3, 30), np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "cnn.safetensors")
    with pytest.raises(InvalidInputError, match=r"chain only where rows are sources.*conv 2 x 4 \(9 taps\), fc 30 x 3"):
        next(read(tmp_path / "cnn.safetensors"))
    with pytest.raises(InvalidInputError, match="plain matrices with --bias last-row"):
        next(read(tmp_path / "cnn.safetensors", bias="last-row", orientation="in-out"))


def test_two_arrays_for_one_layer(tmp_path: Path) -> None:
    """Two tensors that could be the layer's weights are an error that names both."""
    tensors = {"fc.weight": np.ones((2, 3), np.float32), "fc.kernel": np.ones((2, 3), np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "two.safetensors")
    with pytest.raises(InvalidInputError, match=r"layer 'fc': expected one array, found 'fc\.\w+' and"):
        next(read(tmp_path / "two.safetensors"))


def test_our_own_file_is_read_with_its_epoch_and_metrics(tmp_path: Path) -> None:
    """A snapshot file in either container gives its topology, epoch and metrics, and the step of its name."""
    topology = Topology.from_masks([matrix(6, 3), matrix(3, 2)])
    for name in ("w0@30.npz", "w0@30.safetensors"):
        snapshot_file.write(tmp_path / name, topology, epoch=1.5, metrics={"loss": 0.25})
        assert list(read(tmp_path / name)) == [Frame(30, topology, 1.5, {"loss": 0.25}, tmp_path / name)]


def test_arrays_of_numpy_have_one_order_of_axes_whatever_pickles_them(tmp_path: Path) -> None:
    """``np.save`` and ``pickle.dump`` of one dictionary of NumPy and SciPy arrays give one network."""
    content: Any = {"fc1": np.eye(2, 3), "fc2": matrix(3, 2)}
    np.save(tmp_path / "net.npy", content, allow_pickle=True)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(content))
    (expected,), (frame,) = read(tmp_path / "net.npy"), read(tmp_path / "net.pkl")
    assert frame.topology == expected.topology == Topology.from_masks(content)
