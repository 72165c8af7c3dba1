"""Which layer feeds which is evident, or the file is refused with the option that decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import scipy.sparse as sp

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.reading import Frame, read
from topostrata.ingest.inspection import inspect
from topostrata.topology import Topology, Wiring

RANDOM = np.random.default_rng(17)


def mask(*shape: int) -> np.ndarray:
    return RANDOM.random(shape) < 0.3


def weights(*shape: int) -> np.ndarray:
    return mask(*shape) * RANDOM.normal(size=shape).astype(np.float32)


def npz(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def tensors(path: Path, arrays: dict[str, Any]) -> Path:
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def one(path: Path, **options: Any) -> Frame:
    (frame,) = read(path, **options)
    return frame


def names(path: Path, **options: Any) -> list[str]:
    return [layer.name for layer in one(path, **options).topology]


@pytest.mark.parametrize(
    "spelling",
    ["mask_dict.{}.weight", "masks.{}.weight", "{}_mask", "{}.mask", "{}.weight_mask", "mask_{}", "module.{}._weight_mask",
     "{}.parametrizations.weight.0.mask", "masks/{}/kernel", "mask.{}"],
)  # fmt: skip
def test_masks_win_over_weights_of_the_same_layer(tmp_path: Path, spelling: str) -> None:
    """Whatever the spelling, the mask is the topology and the weights beside it are left out and named."""
    masks = {name: mask(10, 10) for name in ("fc1", "fc2")}
    arrays = {spelling.format(name): array for name, array in masks.items()}
    arrays |= {f"{name}.weight": weights(10, 10) for name in masks}
    frame = one(tensors(tmp_path / "net.safetensors", arrays))
    assert [(layer.name, layer.nnz) for layer in frame.topology] == [(name, int(m.sum())) for name, m in masks.items()]
    assert any("'fc1.weight'" in note for note in frame.notes)


@pytest.mark.parametrize(
    "beside",
    ["exp_avg.fc1.weight", "optimizer.state.fc1.momentum_buffer", "ema_model.fc1.weight", "swa_model.module.fc1.weight",
     "fired_masks.fc1.weight", "fc1.weight_orig", "grads.fc1.weight"],
)  # fmt: skip
def test_what_is_no_layer_is_left_out(tmp_path: Path, beside: str) -> None:
    """State of the optimiser, averages and records have the shape of layers, and are none."""
    arrays = {
        "fc1.weight_mask" if "orig" in beside else "fc1.weight": mask(8, 8),
        "fc2.weight": mask(8, 8),
        beside: weights(8, 8),
    }
    frame = one(tensors(tmp_path / "net.safetensors", arrays))
    assert [layer.name for layer in frame.topology] == ["fc1", "fc2"]
    assert any(beside in note for note in frame.notes)


def test_masks_that_are_numbered_beside_weights(tmp_path: Path) -> None:
    """m0 and m1 mask w0 and w1."""
    arrays = {"w0": weights(6, 6), "m0": mask(6, 6), "w1": weights(6, 6), "m1": mask(6, 6)}
    frame = one(npz(tmp_path / "net.npz", arrays))
    assert [(layer.name, layer.nnz) for layer in frame.topology] == [
        ("w0", int(arrays["m0"].sum())), ("w1", int(arrays["m1"].sum())),
    ]  # fmt: skip


def test_masks_whose_names_are_not_those_of_weights(tmp_path: Path) -> None:
    """Then it is asked which arrays are layers."""
    arrays = {"fc1.weight": weights(6, 6), "fc2.weight": weights(6, 6), "masks.0": mask(6, 6), "masks.1": mask(6, 6)}
    path = tensors(tmp_path / "net.safetensors", arrays)
    with pytest.raises(
        InvalidInputError, match=r"expected masks with the names of their weights.*--layers 'masks.0,masks.1'"
    ):
        read(path)
    assert names(path, layers=["masks.0", "masks.1"]) == ["0", "1"]
    assert names(path, layers=["masks.*"]) == ["0", "1"]


def test_words_that_no_scheme_orders_are_asked_about(tmp_path: Path) -> None:
    """The alphabet is no evidence; the order of definition is, where it is not sorted."""
    arrays = {"alpha.weight": mask(7, 7), "beta.weight": mask(7, 7)}
    with pytest.raises(
        InvalidInputError, match=r"found two: first alpha -> beta; second beta -> alpha.*--layers 'alpha"
    ):
        read(tensors(tmp_path / "net.safetensors", arrays))
    path = npz(tmp_path / "net.npz", {"beta": mask(7, 7), "alpha": mask(7, 7)})
    assert names(path) == ["beta", "alpha"]
    assert names(path, layers=["alpha", "beta"]) == ["alpha", "beta"]


def test_names_and_definition_that_disagree(tmp_path: Path) -> None:
    """Both chain, so it is asked."""
    path = npz(tmp_path / "net.npz", {"fc2": mask(5, 5), "fc1": mask(5, 5)})
    with pytest.raises(InvalidInputError, match="by the names fc1 -> fc2; by the order in the file fc2 -> fc1"):
        read(path)


def test_kernels_whose_axes_nothing_tells(tmp_path: Path) -> None:
    """3 x 3 kernels chain in both orders; names of torch or Keras decide, else it is asked."""
    shapes = [(8, 3, 3, 3), (16, 8, 3, 3), (32, 16, 3, 3)]
    kernels = [mask(*shape) for shape in shapes]
    path = npz(tmp_path / "net.npz", {f"conv{k}": kernel for k, kernel in enumerate(kernels)})
    with pytest.raises(InvalidInputError, match=r"out-in: 3-8-16-32 units with 9 taps.*--orientation out-in"):
        read(path)
    assert one(path, orientation="oihw").topology.spaces[-1].size == 32
    assert one(path, orientation="hwio").topology.spaces[-1].size == 3
    named = npz(tmp_path / "torch.npz", {f"conv{k}.weight": kernel for k, kernel in enumerate(kernels)})
    assert one(named).topology == one(path, orientation="oihw").topology
    keras = npz(
        tmp_path / "keras.npz", {f"conv{k}/kernel": kernel.transpose(2, 3, 1, 0) for k, kernel in enumerate(kernels)}
    )
    assert one(keras).topology == one(named).topology


def test_a_square_matrix_with_a_name_of_torch_in_an_npz(tmp_path: Path) -> None:
    """The format says in-out, the names say out-in: it is asked."""
    path = npz(tmp_path / "net.npz", {"fc1.weight": mask(5, 5), "fc2.weight": mask(5, 5)})
    with pytest.raises(InvalidInputError, match="--orientation out-in"):
        read(path)
    assert one(path, orientation="out-in").topology.nnz


def test_pictures_are_flattened_as_the_framework_does(tmp_path: Path) -> None:
    """Channels first in torch, last in Keras; the same network from either file; asked where nothing tells."""
    conv, linear = mask(4, 2, 3, 3), mask(5, 4 * 6)
    torch = tensors(tmp_path / "torch.safetensors", {"conv1.weight": conv, "fc1.weight": linear})
    last = linear.reshape(5, 4, 6).transpose(0, 2, 1).reshape(5, 24)
    arrays = {"conv1/kernel": conv.transpose(2, 3, 1, 0), "fc1/kernel": last.T}
    keras = one(npz(tmp_path / "keras.npz", arrays)).topology
    assert keras == one(torch).topology
    nameless = npz(tmp_path / "net.npz", {"conv1": arrays["conv1/kernel"], "fc1": arrays["fc1/kernel"]})
    with pytest.raises(InvalidInputError, match=r"layer 'fc1': .*4 channels at 6 positions.*--flatten channels-last"):
        read(nameless, orientation="in-out")
    assert one(nameless, orientation="in-out", flatten="channels-last").topology == keras
    assert one(nameless, orientation="in-out", flatten="channels-first").topology != keras


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"layers.0.self_attn.q_proj.weight": (8, 8), "layers.0.self_attn.k_proj.weight": (8, 8)}, "attention"),
        ({"layer1.0.conv1.weight": (8, 8, 3, 3), "layer1.0.conv2.weight": (8, 8, 3, 3)}, "residual blocks"),
        ({"rnn.weight_ih_l0": (8, 8), "rnn.weight_hh_l0": (8, 8)}, "recurrent"),
        ({"blocks.0.mlp.fc1.weight": (8, 8), "blocks.1.mlp.fc1.weight": (8, 8)}, "blocks whose results are added"),
        ({"layers.0.mlp.gate_proj.weight": (8, 8), "layers.0.mlp.up_proj.weight": (8, 8)}, "a gate"),
        ({"transformer.wte.weight": (8, 8), "head.weight": (8, 8)}, "an embedding"),
        ({"weight_ih_l0": (8, 8), "weight_hh_l0": (8, 8)}, "recurrent"),
        ({"features.conv0.weight": (8, 3, 3, 3), "features.denseblock1.denselayer1.conv1.weight": (8, 8, 1, 1)}, "dense"),
        ({"features.0.0.weight": (8, 3, 4, 4), "features.1.0.block.0.weight": (8, 1, 7, 7)}, "blocks whose result"),
        ({"stage2.0.branch1.2.weight": (8, 8, 1, 1), "stage2.0.branch2.0.weight": (8, 8, 1, 1)}, "branches"),
        ({"features.3.squeeze.weight": (8, 8, 1, 1), "features.3.expand3x3.weight": (8, 8, 3, 3)}, "branches"),
        ({"down1.weight": (8, 3, 3, 3), "up1.weight": (8, 8, 3, 3)}, "a way down and a way up"),
        ({"a.se.conv_reduce.weight": (2, 8, 1, 1), "a.se.conv_expand.weight": (8, 2, 1, 1)}, "squeeze and excitation"),
    ],
)  # fmt: skip
def test_networks_that_are_no_chain_are_not_chained(tmp_path: Path, more: dict[str, Any], word: str) -> None:
    """What chains is not therefore the network: names of attention, shortcuts and gates ask for a wiring."""
    path = tensors(tmp_path / "net.safetensors", {name: mask(*shape) for name, shape in more.items()})
    with pytest.raises(InvalidInputError, match=rf"expected layers that follow each other, found .*{word}.*--wiring"):
        read(path)
    assert len(names(path, layers=list(more))) == 2


def test_a_block_that_widens_and_narrows_again_is_asked_about(tmp_path: Path) -> None:
    """Names may tell nothing: MobileNetV2's block is known by its shapes; one that narrows to another width is a chain."""
    block = {"layers.0.weight": mask(12, 4, 1, 1), "layers.1.weight": mask(12, 1, 3, 3)}
    residual = tensors(tmp_path / "a.safetensors", {**block, "layers.2.weight": mask(4, 12, 1, 1)})
    with pytest.raises(InvalidInputError, match=r"inverted residual blocks \('layers.0'\).*--wiring"):
        read(residual)
    assert len(names(residual, layers=["layers.0", "layers.1", "layers.2"])) == 3
    assert len(names(tensors(tmp_path / "b.safetensors", {**block, "layers.2.weight": mask(6, 12, 1, 1)}))) == 3


def test_scales_of_units_are_no_layers(tmp_path: Path) -> None:
    """A layer scale of ConvNeXt has three axes and joins no units."""
    path = tensors(tmp_path / "net.safetensors", {"0.weight": mask(4, 3), "1.layer_scale": mask(4, 1, 1)})
    assert [(array.name, array.role) for array in inspect(path).arrays][1] == ("1.layer_scale", "norm")


def test_an_array_that_holds_no_numbers_is_left_out(tmp_path: Path) -> None:
    """Complex numbers, dates and records are no layers; objects may be masks, so they are left out where that is said."""
    layers = {"l0": mask(8, 6), "l1": mask(6, 4)}
    beside = {"fft": np.ones((3, 3), complex), "day": np.zeros(2, "M8[D]"), "record": np.zeros(2, [("a", "i4")])}
    assert names(npz(tmp_path / "plain.npz", {**layers, **beside})) == ["l0", "l1"]
    path = npz(tmp_path / "objects.npz", {**layers, "masks": np.array([{"a": 1}], object)})
    with pytest.raises(InvalidInputError, match=r"'masks': .*found Python objects.*--layers 'l0,l1'"):
        read(path)
    assert "Python objects" in str(inspect(path).question)
    assert names(path, layers=["l0", "l1"]) == ["l0", "l1"]
    wiring = inspect(path, layers=["l0", "l1"]).wiring
    assert [layer.name for layer in one(path, wiring=wiring).topology] == ["l0", "l1"]


def test_layers_are_chosen_by_name_and_glob(tmp_path: Path) -> None:
    """In the order that is said, whatever the names say; the order inside a glob follows from them."""
    arrays = {
        "a.weight": mask(4, 6),
        "b.1.weight": mask(4, 4),
        "b.0.weight": mask(4, 4),
        "c.weight": mask(2, 4),
        "d": mask(9, 9),
    }
    path = tensors(tmp_path / "net.safetensors", arrays)
    assert names(path, layers=["a", "b.*", "c"]) == ["a", "b.0", "b.1", "c"]
    square = tensors(tmp_path / "square.safetensors", {f"b.{k}": mask(4, 4) for k in range(3)} | {"a": mask(4, 4)})
    assert names(square, layers=["b.[12]", "b.0", "a"]) == ["b.1", "b.2", "b.0", "a"]
    assert names(square, layers=["b.*", "a"]) == ["b.0", "b.1", "b.2", "a"]
    assert inspect(square, layers=["b.*", "a"]).evidence[1] == "the order is the one you said, and that of the names"
    with pytest.raises(InvalidInputError, match=r"--layers x: expected the name of an array.*'a.weight'"):
        read(path, layers=["x"])


def test_grouped_convolutions_share_the_axis_of_their_groups(tmp_path: Path) -> None:
    """A convolution in two groups between two full ones: 8 -> 8 channels, each group sees its own 4."""
    arrays = {"conv1.weight": mask(8, 3, 3, 3), "conv2.weight": mask(8, 4, 3, 3), "conv3.weight": mask(6, 8, 1, 1)}
    topology = one(tensors(tmp_path / "net.safetensors", arrays)).topology
    assert [layer.groups for layer in topology] == [1, 2, 1]
    assert [space.size for space in topology.spaces] == [3, 8, 8, 6]
    assert topology.nnz == sum(np.count_nonzero(array) for array in arrays.values())
    out, channel = (int(i) for i in np.argwhere(arrays["conv2.weight"])[-1][:2])
    assert out // 4 * 4 + channel in topology["conv2"].sources[topology["conv2"].targets == out]


def test_the_wiring_that_inspect_writes_reads_the_file_alike(tmp_path: Path) -> None:
    """Layers, taps, groups, flattening and the order of axes are all in it."""
    arrays = {"conv1/kernel": mask(3, 3, 2, 4), "conv2/kernel": mask(3, 3, 1, 4), "fc1/kernel": mask(24, 5)}
    path = npz(tmp_path / "net.npz", arrays)
    topology = one(path).topology
    written = Wiring.from_toml(inspect(path).to_toml())
    assert one(path, wiring=written).topology.digest == topology.digest


def test_inspect_shows_every_array_and_a_draft_where_it_asks(tmp_path: Path) -> None:
    """Role, density and stored zeros of each; the question and a wiring to edit."""
    path = tensors(
        tmp_path / "n.safetensors", {"q_proj.weight": mask(4, 4), "k_proj.weight": mask(4, 4), "n.bias": np.ones(3)}
    )
    inspection = inspect(path)
    assert inspection.question is not None
    assert "attention" in inspection.question
    assert [array.role for array in inspection.arrays] == ["bias", "weight", "weight"]
    draft = inspection.to_toml()
    assert draft.startswith("# A draft")
    assert [layer.name for layer in Wiring.from_toml(draft)] == ["k_proj", "q_proj"]


def test_layers_without_connections_and_dense_ones_are_said(tmp_path: Path) -> None:
    """A mask of zeros, and a layer that is full although others are sparse."""
    arrays = {
        "fc1.weight": np.zeros((4, 4), bool),
        "fc2.weight": np.ones((4, 4), bool),
        "fc3.weight": np.eye(4, dtype=bool),
    }
    notes = one(tensors(tmp_path / "net.safetensors", arrays)).notes
    assert any("without a connection: fc1" in note for note in notes)
    assert any("dense, although others are sparse: fc2" in note for note in notes)


def test_one_matrix_is_one_topology_whatever_the_door(tmp_path: Path) -> None:
    """Every layout of SciPy, dense arrays and files of each: the same mask."""
    dense = np.zeros((4, 6), np.float32)
    dense[1, 2] = dense[3, 5] = dense[0, 0] = 1.5
    coo = sp.coo_array(([1.0, -1.0, 1.5, 1.5, 1.5], ([2, 2, 1, 3, 0], [2, 2, 2, 5, 0])), shape=(4, 6))
    expected = Topology.from_masks([dense])
    for form in ("csr", "csc", "coo", "bsr", "dia"):
        matrix: Any = coo if form == "coo" else sp.csr_array(dense).asformat(form)
        assert Topology.from_masks([matrix]) == expected, form
        sp.save_npz(tmp_path / f"{form}.npz", matrix)
        assert one(tmp_path / f"{form}.npz", bias="none").topology == expected, form


def test_packed_masks_are_not_taken_for_layers(tmp_path: Path) -> None:
    """Eight entries to a byte: another shape than the weights, or a name that says so."""
    packed = np.packbits(mask(8, 8), axis=1)
    path = tensors(tmp_path / "net.safetensors", {"fc1.weight": weights(8, 8), "fc1.weight_mask": packed})
    with pytest.raises(
        InvalidInputError, match=r"mask 'fc1.weight_mask': expected the shape of 'fc1.weight', 8 x 8.*unpackbits"
    ):
        read(path)
    arrays = {"fc1.weight": mask(8, 8), "fc2.weight": mask(8, 8), "fc2.weight_packed": packed}
    frame = one(tensors(tmp_path / "packed.safetensors", arrays))
    assert [layer.name for layer in frame.topology] == ["fc1", "fc2"]
    assert any("fc2.weight_packed" in note for note in frame.notes)


VGG_11 = [(0, 3, 8), (4, 8, 16), (8, 16, 32), (11, 32, 32), (15, 32, 64), (18, 64, 64), (22, 64, 64), (25, 64, 64)]


def test_a_vgg_11_of_torchvision(tmp_path: Path) -> None:
    """Features with batch norms, then a classifier that reads 7 x 7 positions."""
    arrays: dict[str, Any] = {f"features.{k}.weight": mask(out, source, 3, 3) for k, source, out in VGG_11}
    arrays |= {f"features.{k + 1}.{part}": np.ones(out, np.float32) for k, _, out in VGG_11
               for part in ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
    arrays |= {
        "classifier.0.weight": mask(20, 64 * 49),
        "classifier.3.weight": mask(20, 20),
        "classifier.6.weight": mask(10, 20),
    }
    topology = one(tensors(tmp_path / "vgg.safetensors", arrays)).topology
    assert [space.size for space in topology.spaces] == [3, 8, 16, 32, 32, 64, 64, 64, 64, 20, 20, 10]
    assert topology["classifier.0"].taps == 49
    assert topology.nnz == sum(np.count_nonzero(a) for name, a in arrays.items() if a.ndim > 1)


def test_keras_numbers_layers_from_the_second_on(tmp_path: Path) -> None:
    """``dense`` comes before ``dense_1``, however they are sorted; other words are not known to be so."""
    paths = ("layers/dense_1/vars/0", "layers/dense_2/vars/0", "layers/dense/vars/0")
    arrays = {path: mask(5, 5) for path in sorted(paths)}
    read_names = names(npz(tmp_path / "net.npz", arrays))
    assert read_names == ["layers.dense.vars.0", "layers.dense_1.vars.0", "layers.dense_2.vars.0"]
    flax = {f"params/Dense_{k}/kernel": mask(5, 5) for k in (0, 1, 10, 2)}
    assert names(npz(tmp_path / "flax.npz", flax)) == ["Dense_0", "Dense_1", "Dense_2", "Dense_10"]
    with pytest.raises(InvalidInputError, match="found two"):
        read(tensors(tmp_path / "net.safetensors", {"alpha.weight": mask(5, 5), "alpha_1.weight": mask(5, 5)}))


UNKNOWN = {
    "stem.weight": (8, 3, 7, 7),
    "layer1.0.conv1.weight": (8, 8, 3, 3),
    "layer1.0.conv2.weight": (8, 8, 3, 3),
    "layer1.0.se.fc1.weight": (2, 8),
    "layer1.0.se.fc2.weight": (8, 2),
    "layer1.0.attn_mask": (8, 8),
    "out.weight": (10, 8),
}


def test_a_network_of_no_known_family_gets_a_draft_of_all_its_layers(tmp_path: Path) -> None:
    """The question says what the names tell; the draft has every layer with its widths, and no buffer."""
    path = tensors(tmp_path / "net.safetensors", {name: mask(*shape) for name, shape in UNKNOWN.items()})
    inspection = inspect(path)
    assert inspection.question is not None
    assert "which layer feeds which is not in the file" in inspection.question
    assert "--wiring" in str(inspection.way_out)
    draft = Wiring.from_toml(inspection.to_toml())
    assert len(draft) == 6
    assert {layer.part.parameter for layer in draft if layer.part} == set(UNKNOWN) - {"layer1.0.attn_mask"}


def test_an_array_without_units_is_no_layer(tmp_path: Path) -> None:
    """A layer that has an axis of length 0, before a convolution too, is refused by name, with the way out."""
    np.savez(tmp_path / "net.npz", fc1=np.ones((0, 3)), conv=np.ones((2, 0, 3, 3)), fc2=np.ones((3, 2)))
    with pytest.raises(
        InvalidInputError, match=r"layer 'fc1': expected at least 1 source and 1 target, found shape 0 x 3"
    ):
        list(read(tmp_path / "net.npz"))
    assert next(read(tmp_path / "net.npz", layers=["fc2"], bias="none")).topology.nnz == 6


def test_what_a_push_would_refuse_an_inspection_says(tmp_path: Path) -> None:
    """Values that are not finite are seen when the numbers are read: the inspection reads them."""
    np.savez(tmp_path / "net.npz", fc1=np.full((6, 4), np.nan), fc2=np.ones((4, 3)))
    inspection = inspect(tmp_path / "net.npz")
    assert inspection.question is not None
    assert "layer 'fc1': expected finite values, found nan at [0, 0]" in inspection.question
    assert inspection.way_out == "did the training diverge?"


def test_a_text_is_no_archive_that_was_cut_off(tmp_path: Path) -> None:
    """Only what begins as a zip is suspected to be cut off."""
    whole = tmp_path / "net.npz"
    np.savez(whole, fc1=np.ones((3, 3)))
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(InvalidInputError, match="found no end of a zip archive"):
        list(read(whole))
    whole.write_text("hello", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"expected an \.npz archive, found another file"):
        list(read(whole))
