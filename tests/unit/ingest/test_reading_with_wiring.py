"""Any file can be read with a wiring: arrays are matched by name, and what is missing or left over is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import scipy.sparse as sp

from tests.epochs import matrix, run_directory
from topostrata.distance.nnstd import nnstd
from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.reading import read
from topostrata.topology import Mask, Topology, Wiring

RANDOM = np.random.default_rng(13)


def mask(*shape: int, density: float = 0.3) -> np.ndarray:
    return RANDOM.random(shape) < density


def save(path: Path, arrays: dict[str, Any]) -> Path:
    """A state dict."""
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def only(path: Path, wiring: Wiring, **options: Any) -> Topology:
    (frame,) = read(path, wiring=wiring, **options)
    return frame.topology


CHAIN = Wiring.chain([6, 5, 4], names=["fc1", "fc2"])


def test_masks_win_whatever_the_wrapper(tmp_path: Path) -> None:
    """Names match without module., _orig_mod., .weight and _mask; the weights beside a mask are not looked at."""
    masks = [mask(5, 6), mask(4, 5)]
    path = save(
        tmp_path / "net.safetensors",
        {
            "module._orig_mod.fc1.weight_mask": masks[0],
            "module._orig_mod.fc1.weight_orig": np.ones((5, 6), np.float32),
            "module._orig_mod.fc2.weight": masks[1].astype(np.float32),
            "module._orig_mod.fc2.bias": np.ones(4, np.float32),
        },
    )
    topology = only(path, CHAIN)
    assert topology == CHAIN.place({"fc1": masks[0], "fc2": masks[1]}, orientation="out-in")


def test_one_prefix_of_all_names_may_be_missing(tmp_path: Path) -> None:
    """A wiring of the inner module reads a file of the whole, and the prefix is said."""
    masks = [mask(5, 6), mask(4, 5)]
    path = save(tmp_path / "net.safetensors", {"encoder.net.fc1.weight": masks[0], "encoder.net.fc2.weight": masks[1]})
    (frame,) = read(path, wiring=CHAIN)
    assert frame.topology == CHAIN.place({"fc1": masks[0], "fc2": masks[1]}, orientation="out-in")
    assert any("'encoder.net.'" in note for note in frame.notes)


def test_all_names_that_are_missing_are_in_one_error(tmp_path: Path) -> None:
    """And those that are left over beside them."""
    path = save(tmp_path / "net.safetensors", {"fc1.weight": mask(5, 6), "head.weight": mask(2, 4)})
    wiring = Wiring.chain([6, 5, 4, 3], names=["fc1", "fc2", "fc3"])
    with pytest.raises(InvalidInputError, match=r"missing 'fc2', 'fc3'; left over in the file: 'head.weight'.*inspect"):
        read(path, wiring=wiring)


def test_layers_may_be_left_out(tmp_path: Path) -> None:
    """What no layer of the wiring has is named, and the rest is read."""
    path = save(
        tmp_path / "n.safetensors", {"fc1.weight": mask(5, 6), "fc2.weight": mask(4, 5), "aux.weight": mask(9, 9)}
    )
    (frame,) = read(path, wiring=CHAIN)
    assert len(frame.topology) == 2
    assert any("'aux.weight'" in note for note in frame.notes)


def test_the_order_of_axes_follows_from_the_shapes(tmp_path: Path) -> None:
    """A wiring has the widths, so an npz of either order is read; squares alone do not tell."""
    masks: dict[str, Any] = {"fc1": mask(6, 5), "fc2": mask(5, 4)}
    turned: dict[str, Any] = {key: array.T for key, array in masks.items()}
    for name, arrays in (("in", masks), ("out", turned)):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    assert only(tmp_path / "in.npz", CHAIN) == only(tmp_path / "out.npz", CHAIN) == CHAIN.place(masks)
    square = Wiring.chain([4, 4], names=["fc"])
    named: dict[str, Any] = {"fc.weight": mask(4, 4)}
    np.savez(tmp_path / "square.npz", **named)
    with pytest.raises(InvalidInputError, match=r"fit both ways.*--orientation"):
        only(tmp_path / "square.npz", square)
    assert only(tmp_path / "square.npz", square, orientation="out-in").nnz


def test_attention_with_its_queries_keys_and_values_side_by_side(tmp_path: Path) -> None:
    """q, k and v are parts of one parameter, the head is tied with the embedding: as docs/wiring.md has it."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "wiring.md").read_text(encoding="utf-8")
    text = page.split("## 5. Attention")[1].split("```toml\n")[1].split("```")[0]
    wiring = Wiring.from_toml(text)
    arrays = {"wte.weight": mask(50, 48), "c_attn": mask(48, 144), "proj": mask(48, 48)}
    path = save(tmp_path / "net.safetensors", {f"transformer.{name}": array for name, array in arrays.items()})
    topology = only(path, wiring)
    assert topology["k"].nnz == np.count_nonzero(arrays["c_attn"][:, 48:96])
    assert topology["head"].nnz == topology["wte"].nnz == np.count_nonzero(arrays["wte.weight"])
    assert topology.nnz == sum(np.count_nonzero(array) for array in arrays.values())


@pytest.mark.parametrize("order", ["oihw", "hwio"])
def test_a_residual_network_with_convolutions(tmp_path: Path, order: str) -> None:
    """Kernels in torch's order and in that of Keras are the same topology."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "wiring.md").read_text(encoding="utf-8")
    wiring = Wiring.from_toml(page.split("## 3. A residual stream")[1].split("```toml\n")[1].split("```")[0])
    kernels = {"stem": mask(64, 3, 3, 3), "conv1": mask(64, 64, 3, 3), "conv2": mask(64, 64, 3, 3)}
    linear = mask(10, 64)
    if order == "hwio":
        stored = {name: kernel.transpose(2, 3, 1, 0) for name, kernel in kernels.items()} | {"fc": linear.T}
    else:
        stored = kernels | {"fc": linear}
    path = save(tmp_path / "net.safetensors", stored)
    assert only(path, wiring) == wiring.place({**kernels, "fc": linear}, orientation="out-in")


def test_a_run_is_read_with_the_path_of_a_wiring(tmp_path: Path) -> None:
    """Every epoch is put into the same wiring; bias rows are told from the widths, as without one."""
    truth = run_directory(tmp_path / "run")
    (tmp_path / "net.toml").write_text(Wiring.chain([6, 5, 4, 3]).to_toml())
    frames = list(read(tmp_path / "run", wiring=tmp_path / "net.toml"))
    assert {frame.step: frame.topology for frame in frames} == truth


def test_a_wiring_that_is_none(tmp_path: Path) -> None:
    """A path without a text says so, before the file is looked at."""
    with pytest.raises(InvalidInputError, match=r"gone.toml: expected a wiring .*inspect FILE --write"):
        read(tmp_path / "net.npz", wiring=tmp_path / "gone.toml")
    with pytest.raises(InvalidInputError, match="expected layers or a wiring, found both"):
        read(tmp_path / "net.npz", wiring=CHAIN, layers=["fc1"])


def test_sparse_matrices_are_placed_by_their_pattern_or_value(tmp_path: Path) -> None:
    """A stored zero is none, unless it is said to be one: with a wiring as without."""
    first = sp.csr_array(([0.0, 1.0], ([0, 1], [1, 2])), shape=(6, 5))
    first.data[0] = 0.0
    second = matrix(5, 4)
    parts: dict[str, Any] = {
        f"{name}.{part}": value
        for name, layer in (("fc1", sp.csr_array(first)), ("fc2", sp.csr_array(second)))
        for part, value in (
            ("indptr", layer.indptr), ("indices", layer.indices), ("shape", layer.shape), ("data", layer.data)
        )
    }  # fmt: skip
    np.savez(tmp_path / "net.npz", **parts)
    counts = {zeros: only(tmp_path / "net.npz", CHAIN, zeros=zeros)["fc1"].nnz for zeros in (None, "absent", "present")}
    assert counts == {None: 1, "absent": 1, "present": 2}


SECTIONS = {"chain": "## 1.", "convolutions": "## 2.", "residual stream": "## 3.", "depthwise": "## 4."}


def weights_of(topology: Topology) -> dict[str, np.ndarray]:
    """The layers as torch stores them: targets x sources, with the taps as a kernel where a layer has a square of them."""
    stored = {}
    for layer in topology:
        dense = np.zeros((layer.target.size, layer.shape.local_sources, layer.taps), bool)
        dense.reshape(-1)[layer.mask.cells] = True
        side = round(layer.taps**0.5)
        kernel = layer.taps > 1 and layer.name != "fc1"
        shape = (*dense.shape[:2], side, side) if kernel else (dense.shape[0], -1)
        stored[f"module.{layer.name}.weight"] = dense.reshape(shape)
    return stored


@pytest.mark.parametrize("section", SECTIONS)
def test_a_relabelled_network_is_the_same_network_through_files(tmp_path: Path, section: str) -> None:
    """Its free units in other places: the file gives the relabelled topology, and plain networks have distance 0."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "wiring.md").read_text(encoding="utf-8")
    wiring = Wiring.from_toml(page.split(SECTIONS[section])[1].split("```toml\n")[1].split("```")[0])
    masks = {
        layer.name: Mask(
            layer.local_sources, layer.target.size, np.flatnonzero(mask(layer.possible, density=0.1)), layer.taps
        )
        for layer in wiring
    }
    network = wiring.place(masks)
    copy = network.relabelled({axis.name: RANDOM.permutation(axis.size) for axis in wiring.axes if not axis.fixed})
    read_back = [
        only(save(tmp_path / f"{name}.safetensors", weights_of(topology)), wiring)
        for name, topology in (("a", network), ("b", copy))
    ]
    assert read_back == [network, copy]
    if wiring.beyond_format_1 is None:
        assert nnstd(*read_back).nnstd == 0
