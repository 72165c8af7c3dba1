"""Spaces, masks, layers and topologies: what they refuse, what they hold, and what their digests cover."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from tests.histories import connections, random_topology, random_wiring
from topostrata.axes import Axis
from topostrata.errors import InvalidInputError, InvalidTopologyError
from topostrata.topology import Layer, Mask, Space, Topology
from topostrata.words import Zeros

seeds = st.integers(0, 2**32 - 1)


def random_one(seed: int) -> Topology:
    random = np.random.default_rng(seed)
    return random_topology(random, random_wiring(random))


def renamed(topology: Topology, prefix: str) -> Topology:
    spaces = {s.name: Space(prefix + s.name, s.size, s.labelled) for s in topology.spaces}
    return Topology(
        tuple(Layer(prefix + y.name, spaces[y.source.name], spaces[y.target.name], y.mask) for y in topology.layers)
    )


def two_layers() -> tuple[Layer, Layer]:
    """Two layers into one space: one of two taps, one empty."""
    x, h = Space("x", 3, labelled=True), Space("h", 2)
    none = np.empty(0, dtype=np.int64)
    return Layer("conv", x, h, Mask(3, 2, np.array([0, 5, 11]), 2)), Layer("skip", x, h, Mask(3, 2, none))


def test_the_digest_of_a_small_chain_never_changes() -> None:
    """Digests are stored for ever: 3-2-1 with four and one connections has these, in every version."""
    topology = Topology.from_masks([[[1, 0], [0, 1], [1, 1]], [[1], [0]]])
    assert topology.digest == "c9ef9e78df345b227ac84892696f73a0578428aa8be5690258e497a5aa098ff7"
    assert topology.layers[0].mask.digest == "aad42aa921da8cea046a705e02af82f4228f873eb3455e221b16132e3bd8821a"


def test_the_digest_with_taps_and_an_empty_layer_never_changes() -> None:
    """The second pinned example: two taps, two layers into one space, one of them empty."""
    topology = Topology(two_layers())
    assert topology.digest == "4e190a6a361efb30bf3524627ee66049af0f4795ec7ab9380832fbc79613a470"
    assert topology.layers[0].mask.digest == "300eb6202f1fd045d7f244c6aafb841a36739eb205466dd46f9d00a14584c1b0"


@given(seeds)
def test_names_are_not_part_of_the_digest(seed: int) -> None:
    """The same wiring under other names has the same digest, but is another topology."""
    topology = random_one(seed)
    other = renamed(topology, "other ")
    assert other.digest == topology.digest
    assert other != topology
    assert hash(other) == hash(topology)


@given(seeds, st.data())
def test_every_connection_is_part_of_the_digest(seed: int, data: st.DataObject) -> None:
    """A connection more or less, anywhere, is another digest, of the mask and of the topology."""
    topology = random_one(seed)
    k = data.draw(st.integers(0, len(topology.layers) - 1))
    layer = topology.layers[k]
    cell = np.array([data.draw(st.integers(0, layer.mask.size - 1))])
    mask = Mask(layer.mask.n_source, layer.mask.n_target, np.setxor1d(layer.mask.cells, cell), layer.taps)
    assert mask.digest != layer.mask.digest
    other = Topology((*topology.layers[:k], dataclasses.replace(layer, mask=mask), *topology.layers[k + 1 :]))
    assert other.digest != topology.digest
    assert other != topology


def test_topologies_of_equal_layers_have_one_wiring() -> None:
    """What follows from a wiring is computed once for all snapshots of a run; other names are another wiring."""
    wirings = [Topology(two_layers()).wiring for _ in range(2)]
    assert wirings[0] is wirings[1]
    assert type(Axis("x", 3, fixed=np.True_).fixed) is bool  # type: ignore[arg-type] # or equal ones would share it
    assert renamed(Topology(two_layers()), "other ").wiring != wirings[0]


def test_labels_sizes_taps_and_joins_are_part_of_the_digest() -> None:
    """The same cells between other spaces, of other taps, or of spaces labelled otherwise, are another wiring."""
    cells = np.array([0, 1])

    def digest(a: Space, b: Space, c: Space, *, taps: int = 1, skip: bool = False) -> str:
        first = Layer("1", a, b, Mask(a.size, b.size, cells, taps))
        second = Layer("2", a if skip else b, c, Mask(a.size if skip else b.size, c.size, cells))
        return Topology((first, second)).digest

    a, b, c = Space("a", 2, labelled=True), Space("b", 2), Space("c", 2, labelled=True)
    digests = [
        digest(a, b, c),
        digest(Space("a", 2), b, c),
        digest(a, Space("b", 2, labelled=True), c),
        digest(a, b, Space("c", 2)),
        digest(Space("a", 3, labelled=True), b, c),
        digest(a, Space("b", 3), c),
        digest(a, b, Space("c", 3, labelled=True)),
        digest(a, b, c, taps=2),
        digest(a, b, c, skip=True),
    ]
    assert len(set(digests)) == len(digests)


def test_a_masks_digest_covers_its_shape_and_taps() -> None:
    """Cell 0 means something else in every shape."""
    cell = np.array([0])
    masks = [Mask(4, 3, cell), Mask(3, 4, cell), Mask(2, 3, cell, 2), Mask(4, 3, cell, 2), Mask(12, 1, cell)]
    assert len({mask.digest for mask in masks}) == len(masks)


@given(seeds)
def test_a_mask_tells_its_connections_in_every_form(seed: int) -> None:
    """Sources, taps, targets, fan-in, fan-out, keys per target and the CSC matrix all tell the same set."""
    for layer in random_one(seed).layers:
        mask = layer.mask
        told = connections(mask)
        lists = (mask.sources.tolist(), mask.tap_indices.tolist(), mask.targets.tolist())
        assert set(zip(*lists, strict=True)) == told
        assert mask.nnz == len(told)
        assert mask.density == len(told) / (mask.n_source * mask.taps * mask.n_target)
        assert mask.fan_in.tolist() == [sum(c[2] == j for c in told) for j in range(mask.n_target)]
        assert mask.fan_out.tolist() == [sum(c[0] == i for c in told) for i in range(mask.n_source)]
        for j in range(mask.n_target):
            assert mask.keys_of(j).tolist() == sorted(s * mask.taps + t for s, t, target in told if target == j)
        again = Mask.from_matrix(mask.to_csc(), taps=mask.taps)
        assert again.digest == mask.digest
        assert Mask.from_csc(mask.n_source, mask.n_target, mask.indptr, mask.keys, taps=mask.taps).digest == mask.digest


@given(seeds)
def test_a_topology_adds_up_its_layers(seed: int) -> None:
    """nnz, density, spaces and layers by name follow from the layers."""
    topology = random_one(seed)
    assert topology.nnz == sum(len(connections(y.mask)) for y in topology.layers)
    assert topology.density == topology.nnz / sum(y.mask.size for y in topology.layers)
    assert {s.name for s in topology.spaces} == {s.name for y in topology.layers for s in (y.source, y.target)}
    for layer in topology.layers:
        assert topology[layer.name] is layer
    with pytest.raises(KeyError):
        topology["no such layer"]
    assert topology.digest[:12] in repr(topology)


def test_values_cannot_be_changed() -> None:
    """Neither fields nor arrays can be written; the caller's own array may change without harm."""
    mine = np.array([0, 3])
    mask = Mask(2, 2, mine)
    mine[0] = 1
    assert mask.cells.tolist() == [0, 3]
    with pytest.raises(ValueError, match="read-only"):
        mask.cells[0] = 1
    topology = Topology.from_masks([mask])
    for value, name in (
        (mask, "n_source"),
        (topology, "layers"),
        (topology.layers[0], "name"),
        (Space("s", 1), "size"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 1)
    assert isinstance(topology.layers, tuple)


def matrices(dense: np.ndarray) -> dict[str, Any]:
    """The same matrix in every form that is taken."""
    forms: dict[str, Any] = {
        "list": dense.tolist(),
        "bool": dense.astype(bool),
        "float32": dense.astype(np.float32) * -0.5,
        "fortran": np.asfortranarray(dense),
        "uint8": dense.astype(np.uint8),
    }
    for name in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia"):
        forms[name] = getattr(sp, f"{name}_array")(dense)
        forms[name + " matrix"] = getattr(sp, f"{name}_matrix")(dense)
    return forms


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), seeds)
def test_the_same_mask_comes_from_every_kind_of_matrix(n_source: int, n_target: int, taps: int, seed: int) -> None:
    """Rows are sources (source * taps + tap), columns targets, in lists, NumPy and every SciPy format."""
    dense = np.random.default_rng(seed).random((n_source * taps, n_target)) < 0.4
    told = {(r // taps, r % taps, c) for r, c in zip(*(i.tolist() for i in np.nonzero(dense)), strict=True)}
    for name, matrix in matrices(dense.astype(np.int64)).items():
        zeros: Zeros = "absent" if name.startswith(("dia", "bsr")) else "present"  # these store zeros of their own
        assert connections(Mask.from_matrix(matrix, taps=taps, zeros=zeros)) == told, name


def test_stored_zeros_count_as_the_caller_says() -> None:
    """A stored zero is none, unless the pattern is said to be the topology."""
    matrix = sp.csr_array((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    assert connections(Mask.from_matrix(matrix)) == {(1, 0, 1)}
    assert connections(Mask.from_matrix(matrix, zeros="present")) == {(0, 0, 0), (1, 0, 1)}
    assert connections(Mask.from_matrix(matrix, zeros="absent")) == {(1, 0, 1)}
    assert connections(Topology.from_masks([matrix], zeros="absent").layers[0].mask) == {(1, 0, 1)}


@pytest.mark.parametrize("make", [Topology.from_masks, Mask.from_matrix])
@pytest.mark.parametrize("word", [{"orientation": "out_in"}, {"orientation": "hwio"}, {"zeros": "keep"}], ids=str)
def test_a_word_that_means_nothing_is_refused(make: Any, word: dict[str, Any]) -> None:
    """It is not taken for the default: an orientation or a meaning of zeros that there is not."""
    matrix = np.eye(2) if make is Mask.from_matrix else [np.eye(2)]
    with pytest.raises(InvalidInputError, match="expected one of"):
        make(matrix, **word)


def test_duplicate_entries_are_one_connection() -> None:
    """COO matrices may name an entry twice."""
    matrix = sp.coo_array((np.ones(3), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    assert connections(Mask.from_matrix(matrix)) == {(0, 0, 1), (1, 0, 0)}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Space("", 3), ["space", "printable name", "''"]),
        (lambda: Space("a\nb", 3), ["space", r"a\\nb"]),
        (lambda: Space("x" * 201, 3), ["1 to 200"]),
        (lambda: Space("h", 0), ["'h'", "at least 1", "found 0"]),
        (lambda: Mask(0, 1, np.array([])), ["n_source >= 1", "found 0"]),
        (lambda: Mask(1, 1, np.array([]), 0), ["taps >= 1", "found 0"]),
        (lambda: Mask(2, 2, np.array([[0, 1]])), ["flat array", r"\(1, 2\)"]),
        (lambda: Mask(2, 2, np.array([0, 4])), [r"\[0, 4\)", "4 at position 1"]),
        (lambda: Mask(2, 2, np.array([-1, 3])), ["-1 at position 0"]),
        (lambda: Mask(2, 2, np.array([0, 0])), ["strictly increasing", "0 after 0 at position 1"]),
        (lambda: Mask(2, 2, np.array([0, 3, 2])), ["2 after 3 at position 2"]),
        (lambda: Mask(2**31, 2**31, np.array([]), 2), ["possible connections"]),
        (lambda: Mask.from_csc(2, 2, [0, 1], [0]), ["indptr", "3 increasing offsets"]),
        (lambda: Mask.from_csc(2, 2, [0, 2, 1], [0]), ["indptr"]),
        (lambda: Mask.from_csc(2, 2, [0, 1, 2], [0]), ["indices", "2 keys"]),
        (lambda: Mask.from_csc(2, 2, [0, 1, 2], [0, 2]), [r"indices\[1\]", r"\[0, 2\)", "found 2"]),
        (lambda: Mask.from_csc(2, 2, [0, 2, 2], [1, 0]), [r"indices\[1\] of target 0", "0 after 1"]),
        (lambda: Mask.from_matrix(np.zeros(3)), ["matrix", r"\(3,\)"]),
        (lambda: Mask.from_matrix(np.zeros((0, 3))), [r"\(0, 3\)"]),
        (lambda: Mask.from_matrix(np.zeros((3, 2)), taps=2), [r"n_source \* 2", r"\(3, 2\)"]),
        (lambda: Mask.from_matrix(np.array([[1, np.nan]])), ["finite", "nan", r"\[0, 1\]"]),
        (lambda: Mask.from_matrix(sp.csr_array(np.array([[np.inf]]))), ["finite", "inf"]),
        (lambda: Mask.from_matrix([["a"]]), ["boolean or real", "dtype"]),
        (lambda: Layer("y", Space("a", 2), Space("b", 2), Mask(2, 3, np.array([]))), ["'y'", "2 x 2", "2 x 3", "a -> b"]),
        (lambda: Topology(()), ["at least one layer"]),
        (lambda: Topology.from_masks([]), ["at least one layer"]),
        (lambda: Topology.from_masks([np.ones((2, 2)), np.ones((3, 2))]), ["'l1'", "expected 2", "'l0'", "found 3"]),
        (lambda: Topology.from_masks([np.ones((2, 2))], names=["a", "b"]), ["as many names", r"\(1\)", "found 2"]),
        (lambda: Topology.from_masks([np.float64(3)]), ["expected a matrix", "a single number"]),
        (lambda: Topology.from_masks([np.ones((1, 1))] * 2, names=["a", "a"]), ["'a'", "twice"]),
        (lambda: Topology.from_masks([np.ones((1, 1)), [[np.nan]]], names=["a", "b"]), ["'b'", "nan"]),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_with_place_expected_and_found(make: Any, says: list[str]) -> None:
    """Every error of the values names where, what was expected and what was found."""
    with pytest.raises(InvalidTopologyError) as caught:
        make()
    for word in says:
        assert pytest.raises(InvalidTopologyError, match=word).matches(caught.value), (word, str(caught.value))


def test_a_space_is_the_same_in_every_layer() -> None:
    """Two spaces of one name but another size are an error that names the layer and both."""
    first, _ = two_layers()
    other = Layer("z", Space("h", 5), Space("y", 1), Mask(5, 1, np.array([])))
    with pytest.raises(InvalidTopologyError, match=r"'z'.*size=2.*size=5"):
        Topology((first, other))


def test_several_layers_may_enter_one_space() -> None:
    """Residual sums: both layers stand, and the space is counted once."""
    topology = Topology(two_layers())
    assert [space.name for space in topology.spaces] == ["x", "h"]
    assert [(y.name, y.source, y.target, y.taps) for y in topology.wiring] == [
        ("conv", Space("x", 3, labelled=True), Space("h", 2), 2),
        ("skip", Space("x", 3, labelled=True), Space("h", 2), 1),
    ]


@pytest.mark.parametrize("cells", [[0.5, 1.7], ["a"], [True]])
def test_cells_are_whole_numbers(cells: list[object]) -> None:
    """Nothing is rounded in silence."""
    with pytest.raises(InvalidTopologyError, match="expected whole numbers as cells"):
        Mask(3, 3, np.array(cells))


def test_a_space_has_a_whole_number_of_units() -> None:
    """Half a unit is none."""
    with pytest.raises(InvalidTopologyError, match="expected at least 1 unit"):
        Space("input", 2.5)  # type: ignore[arg-type]
