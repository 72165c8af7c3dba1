"""Arrays in their places: orientations, kernels, groups, parts, orders; what is missing, left over or of another shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from tests.histories import connections
from tests.wirings import MODELS, labelled
from topostrata.errors import InvalidTopologyError
from topostrata.topology import Axis, LayerShape, Mask, Part, Space, Topology, Wiring

RANDOM = np.random.default_rng(0)


def one_layer(**more: Any) -> Wiring:
    """A layer of three taps between four and five units."""
    return Wiring((LayerShape("l", labelled("x", 4), labelled("y", 5), 3, **more),))


def told(kernel: np.ndarray) -> set[tuple[int, int, int]]:
    """The connections of an array (sources, taps, targets), from its entries."""
    return {(s, k, t) for s, k, t in zip(*(index.tolist() for index in np.nonzero(kernel)), strict=True)}


def test_every_orientation_of_one_kernel_is_the_same_layer() -> None:
    """torch's convolution and transposed convolution, Keras' kernel and the two matrices hold the same connections."""
    kernel = RANDOM.random((4, 3, 5)) < 0.4  # source, tap, target
    stored: list[tuple[Any, Any]] = [
        (kernel.transpose(2, 0, 1), "out-in"),
        (kernel.transpose(0, 2, 1), "in-out"),
        (kernel.transpose(1, 0, 2), "hwio"),
        (kernel.reshape(12, 5), "in-out"),
        (kernel.reshape(12, 5).T, "out-in"),
        (sp.csr_array(kernel.reshape(12, 5)), "in-out"),
        (kernel.transpose(2, 0, 1).reshape(5, 4, 3, 1), "out-in"),
    ]
    for array, orientation in stored:
        placed = one_layer().place({"l": array}, orientation=orientation)
        assert connections(placed["l"].mask) == told(kernel), orientation
        stated = one_layer(part=Part("p", orientation=orientation)).place({"p": array})
        assert stated.digest == placed.digest


def test_groups_are_read_from_both_kinds_of_convolution() -> None:
    """A convolution stores the sources of one group, a transposed one the targets of one group."""
    group = Axis("g", 2)
    source, target = Space("s", (group, Axis("n", 2))), Space("t", (group, Axis("m", 3)))
    whole = np.zeros((4, 6, 2), dtype=bool)  # source, target, tap; nothing between the groups
    for g in range(2):
        whole[2 * g : 2 * g + 2, 3 * g : 3 * g + 3] = RANDOM.random((2, 3, 2)) < 0.5
    wiring = Wiring((LayerShape("l", source, target, 2, groups=2),))
    usual = np.concatenate([whole[2 * g : 2 * g + 2, 3 * g : 3 * g + 3] for g in range(2)], axis=1).transpose(1, 0, 2)
    transposed = np.concatenate([whole[2 * g : 2 * g + 2, 3 * g : 3 * g + 3] for g in range(2)], axis=0)
    for array, orientation in ((usual, "out-in"), (transposed, "in-out")):
        layer = wiring.place({"l": array}, orientation=orientation)["l"]  # type: ignore[arg-type]
        sources, targets, taps = layer.shape.units_of(layer.mask.cells)
        assert set(zip(sources.tolist(), targets.tolist(), taps.tolist(), strict=True)) == told(whole)
        assert layer.density == whole.sum() / 24


def test_an_order_of_axes_is_undone() -> None:
    """A flatten with the channels last is the layer of a flatten with the channels first."""
    kernel = RANDOM.random((4, 3, 5)) < 0.4
    last = one_layer(part=Part("w", order=("taps", "x"))).place({"w": kernel.transpose(1, 0, 2).reshape(12, 5)})
    first = one_layer().place({"l": kernel.reshape(12, 5)})
    assert last.digest == first.digest


def test_parts_are_cut_out_of_one_parameter() -> None:
    """q, k and v side by side, in and out, are three layers; so are the segments that a concatenation is read in."""
    x, spaces = labelled("x", 3), [Space(name, 2) for name in "qkv"]
    matrix = RANDOM.random((3, 6)) < 0.5
    cut = [Part("qkv", targets=(2 * k, 2 * k + 2)) for k in range(3)]
    wiring = Wiring(tuple(LayerShape(s.name, x, s, part=part) for s, part in zip(spaces, cut, strict=True)))
    for array, orientation in ((matrix, "in-out"), (matrix.T, "out-in")):
        placed = wiring.place({"qkv": array}, orientation=orientation)  # type: ignore[arg-type]
        for k, layer in enumerate(placed):
            assert np.array_equal(np.asarray(layer.mask), matrix[:, 2 * k : 2 * k + 2])
    net = MODELS["densenet"]()
    arrays = net.arrays(RANDOM)
    placed = net.wiring.place(arrays, orientation="out-in")
    whole = arrays["transition0"][:, :, 0, 0].T
    parts = [np.asarray(layer.mask) for layer in placed if layer.name.startswith("transition0[")]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_range_of_sources_counts_sources_or_columns() -> None:
    """Two segments of a kernel are cut alike from a convolution's weight and from the matrix of its columns."""
    kernel = RANDOM.random((7, 3, 5)) < 0.4  # source, tap, target
    ends, target = [labelled("a", 4), labelled("b", 3)], labelled("y", 5)
    stored: list[tuple[Any, Any]] = [(kernel.transpose(2, 0, 1), "out-in"), (kernel.reshape(21, 5), "in-out")]
    for unit in (1, 3):
        ranges = [(0, 4 * unit), (4 * unit, 7 * unit)]
        wiring = Wiring(
            tuple(
                LayerShape(s.name, s, target, 3, part=Part("w", sources=r)) for s, r in zip(ends, ranges, strict=True)
            )
        )
        for array, orientation in stored:
            placed = wiring.place({"w": array}, orientation=orientation)
            assert connections(placed["a"].mask) == told(kernel[:4])
            assert connections(placed["b"].mask) == told(kernel[4:])


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({}, "missing 'l0', 'l1', left over none"),
        ({"l0": np.ones((3, 4)), "l1": np.ones((4, 2)), "bias": np.ones(2)}, "missing none, left over 'bias'"),
        ({"l0": np.ones((3, 4)), "l1": np.ones((2, 4))}, r"layer 'l1': expected shape \(4, 2\) \(in-out: hidden1 x output\), found \(2, 4\) \(it fits turned around: orientation='out-in'\)"),
        ({"l0": np.ones((3, 5)), "l1": np.ones((4, 2))}, r"layer 'l0': expected shape \(3, 4\) \(in-out: input x hidden1\), found \(3, 5\)"),
        ({"l0": np.ones(12), "l1": np.ones((4, 2))}, r"layer 'l0': expected shape .*, found \(12,\)"),
        ({"l0": np.ones((3, 4, 2)), "l1": np.ones((4, 2))}, r"layer 'l0': expected shape \(3, 4, 1 taps\)"),
        ({"l0": np.full((3, 4), np.nan), "l1": np.ones((4, 2))}, "layer 'l0': mask: expected finite values, found nan"),
        ({"l0": Mask(3, 4, np.array([0]), 2), "l1": np.ones((4, 2))}, "layer 'l0': expected a mask of 3 x 4 units and 1 taps, found 3 x 4 and 2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_wiring_is_named(arrays: dict[str, Any], says: str) -> None:
    """The layer, the shape expected and the shape found; what is missing and what is left over."""
    with pytest.raises(InvalidTopologyError, match=says):
        Wiring.chain([3, 4, 2]).place(arrays)


def test_a_part_that_no_layer_has_is_refused() -> None:
    """Where q and k are taken and v is forgotten, connections would be lost in silence."""
    x = labelled("x", 3)
    layers = [LayerShape(n, x, Space(n, 2), part=Part("qkv", targets=(2 * k, 2 * k + 2))) for k, n in enumerate("qk")]
    with pytest.raises(InvalidTopologyError, match=r"parameter 'qkv': expected parts that make up all its 18 entries"):
        Wiring(tuple(layers)).place({"qkv": np.ones((3, 6))})
    with pytest.raises(InvalidTopologyError, match=r"layer 'k' \(parameter 'qkv'\): expected shape \(3, >= 4\)"):
        Wiring(tuple(layers[1:])).place({"qkv": np.ones((3, 2))})


def test_a_chain_comes_from_a_dictionary_and_in_either_orientation() -> None:
    """Names and order of a dict are those of the layers; torch's weights chain as out-in, and the error says so."""
    first, second = RANDOM.random((3, 4)) < 0.5, RANDOM.random((4, 2)) < 0.5
    plain = Topology.from_masks([first, second], names=["fc1", "fc2"])
    assert Topology.from_masks({"fc1": first, "fc2": second}) == plain
    assert Topology.from_masks({"fc1": first.T, "fc2": sp.coo_array(second.T)}, orientation="out-in") == plain
    assert Topology.from_masks(plain.to_masks()) == plain
    with pytest.raises(InvalidTopologyError, match=r"they chain turned around: .* say orientation='out-in'"):
        Topology.from_masks([first.T, second.T])
    with pytest.raises(InvalidTopologyError, match=r"they chain turned around: .* say orientation='in-out'"):
        Topology.from_masks([first, second], orientation="out-in")
    for masks, names in (([first, first], None), ([np.eye(2)] * 2, ["same"] * 2)):
        with pytest.raises(InvalidTopologyError) as caught:
            Topology.from_masks(masks, names)
        assert caught.value.hint is None
    with pytest.raises(InvalidTopologyError, match="names: expected none beside masks that have names"):
        Topology.from_masks({"fc1": first}, names=["fc1"])


def test_a_mask_is_an_array() -> None:
    """`np.asarray(mask)` is the boolean matrix of sources (with taps) and targets."""
    matrix = RANDOM.random((6, 4)) < 0.5
    mask = Mask.from_matrix(matrix, taps=2)
    assert np.array_equal(np.asarray(mask), matrix)
    assert np.asarray(mask, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="holds no dense array"):
        np.array(mask, copy=False)


def test_blocks_and_diagonals_count_by_value() -> None:
    """BSR and DIA matrices store zeros of their own, which are no connections whatever `zeros` says."""
    matrix = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 3, 4]])
    for stored in (sp.bsr_array(matrix, blocksize=(2, 2)), sp.dia_array(matrix)):
        assert np.array_equal(np.asarray(Mask.from_matrix(stored)), matrix != 0)


def test_a_tied_layer_follows_an_owner_that_has_the_name_of_their_parameter() -> None:
    """``place(to_masks())`` gives the topology again where the parameter is called like the layer that comes first."""
    tokens, logits, stream = labelled("tokens", 6), labelled("logits", 6), Space("stream", 4)
    wiring = Wiring(
        (
            LayerShape("embed", tokens, stream, part=Part("embed", orientation="in-out")),
            LayerShape("head", stream, logits, part=Part("embed", orientation="out-in")),
        )
    )
    topology = wiring.place({"embed": RANDOM.random((6, 4)) < 0.5})
    assert list(topology.to_masks()) == ["embed"]
    assert wiring.place(topology.to_masks()) == topology
