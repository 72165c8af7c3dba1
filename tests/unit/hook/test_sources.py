"""Where masks are kept: what a training job logs is copied as it is at that moment, and never guessed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from topostrata.errors import InvalidTopologyError
from topostrata.ingest.hook import sources
from topostrata.topology import Topology, Wiring

RNG = np.random.default_rng(3)
FIRST, SECOND = RNG.random((6, 5)) < 0.5, RNG.random((5, 3)) < 0.5
EXPECTED = Topology.from_masks([FIRST, SECOND])


def read(source: Any, **options: Any) -> Topology:
    reading = sources.read(source, **options)
    return reading if isinstance(reading, Topology) else sources.assemble(reading, None)


@pytest.mark.parametrize(
    "kind",
    [np.asarray, np.float32, np.uint8, np.asfortranarray, sp.csr_array, sp.csc_matrix, sp.coo_array, sp.lil_array],
)
def test_arrays_of_every_kind_are_read(kind: Any) -> None:
    """Booleans, numbers that are 0 and 1, any memory order, sparse matrices in any format."""
    assert read([kind(FIRST), kind(SECOND)]) == EXPECTED
    assert read({"l0": kind(FIRST), "l1": kind(SECOND)}) == EXPECTED
    assert read([kind(FIRST.T), kind(SECOND.T)], orientation="out-in") == EXPECTED


def test_a_topology_is_taken_as_it_is() -> None:
    """It is immutable: nothing is copied."""
    assert read(EXPECTED) is EXPECTED


def test_a_copy_is_of_the_moment() -> None:
    """What training does to its arrays afterwards changes nothing."""
    dense, sparse = FIRST.copy(), sp.csr_array(SECOND)
    reading = sources.read([dense, sparse])
    assert isinstance(reading, sources.Reading)
    dense[:] = True
    sparse.indices[:] = 0
    assert sources.assemble(reading, None) == EXPECTED


def test_a_stored_zero_of_a_sparse_matrix_is_no_connection() -> None:
    """As everywhere in the product."""
    matrix = sp.csr_array(FIRST.astype(float))
    matrix.data[0] = 0
    assert read([matrix, SECOND]).nnz == EXPECTED.nnz - 1


def test_entries_that_a_sparse_matrix_holds_twice_are_summed() -> None:
    """As SciPy does: what cancels is no connection, and what stands twice is one."""
    rows, columns = np.nonzero(FIRST)
    again, cancelled = (rows[0], columns[0]), (rows[1], columns[1])
    values = np.ones(rows.size + 2)
    values[-1] = -1.0
    at = (np.r_[rows, again[0], cancelled[0]], np.r_[columns, again[1], cancelled[1]])
    expected = FIRST.copy()
    expected[cancelled] = False
    doubled = sp.coo_array((values, at), shape=FIRST.shape)
    by_row = sp.csr_array((6, 5))
    order = np.argsort(at[0], kind="stable")
    by_row.data, by_row.indices = values[order], at[1][order].astype(np.int32)
    by_row.indptr = np.searchsorted(at[0][order], np.arange(7)).astype(np.int32)
    for matrix in (doubled, by_row):
        assert read([matrix, SECOND]) == Topology.from_masks([expected, SECOND])


def test_weights_are_no_masks_unless_that_is_said() -> None:
    """A dense array of other values than 0 and 1 is refused; the last resort takes what is not 0."""
    weights = np.where(FIRST, 0.3, 0.0)
    with pytest.raises(InvalidTopologyError, match="layer 'l0': mask: expected 0 and 1, found other values"):
        read([weights, SECOND])
    assert read([weights, SECOND], from_weights=True) == EXPECTED
    weights[0, 0] = np.nan
    with pytest.raises(InvalidTopologyError, match="finite"):
        read([weights, SECOND], from_weights=True)


def test_objects_with_masks_are_read_by_name() -> None:
    """A ``Masking`` of the ITOP family: rows are targets; biases and what is not masked are no layers."""
    masks = {"fc1.weight": np.float32(FIRST.T), "fc1.bias": np.ones(5), "fc2.weight": np.float32(SECOND.T), "fc3": None}
    topology = read(SimpleNamespace(masks=masks))
    assert [layer.mask.digest for layer in topology] == [layer.mask.digest for layer in EXPECTED]
    assert [layer.name for layer in topology] == ["fc1.weight", "fc2.weight"]


def test_a_list_of_maskings_is_one_network() -> None:
    """Names that two of them use carry the number of theirs."""
    heads = [
        SimpleNamespace(masks={"fc.weight": np.float32(FIRST.T)}),
        SimpleNamespace(masks={"fc.weight": SECOND.T * 1.0}),
    ]
    assert [layer.name for layer in read(heads)] == ["0.fc.weight", "1.fc.weight"]


def test_a_scheduler_has_masks_in_the_order_of_its_weights() -> None:
    """One that is None is a layer with all its connections."""
    weights = [np.zeros((5, 6)), np.zeros((3, 5))]
    scheduler = SimpleNamespace(backward_masks=[FIRST.T, None], W=weights)
    assert read(scheduler) == Topology.from_masks([FIRST, np.ones((5, 3))])


def test_what_sizes_do_not_tell_needs_a_wiring() -> None:
    """Two hidden layers of one width could be joined by a sum: objects without an order of their own are refused."""
    square = np.ones((5, 5), dtype=np.float32)
    masking = SimpleNamespace(masks={"a.weight": FIRST.T * 1.0, "b.weight": square, "c.weight": SECOND.T * 1.0})
    with pytest.raises(InvalidTopologyError, match=r"expected a wiring for a\.weight, b\.weight, c\.weight"):
        read(masking)
    reading = sources.read(masking)
    assert isinstance(reading, sources.Reading)
    wiring = Wiring.chain([6, 5, 5, 3], ["a", "b", "c"])
    assert sources.assemble(reading, wiring).nnz == EXPECTED.nnz + 25


def test_what_is_none_of_these_is_named() -> None:
    """So that the message in the log helps."""
    with pytest.raises(InvalidTopologyError, match="found int"):
        read(3)
    with pytest.raises(InvalidTopologyError, match="at least one mask"):
        read({"bias": np.ones(3)})


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64])
def test_whole_numbers_other_than_0_and_1_are_no_masks(kind: Any) -> None:
    """They are quantised weights, or masks with eight entries to a byte, whose shape would be a wrong one."""
    packed = np.packbits(FIRST, axis=1)
    with pytest.raises(InvalidTopologyError, match="expected 0 and 1, found other values"):
        read([kind(packed), np.ones((1, 3))])
