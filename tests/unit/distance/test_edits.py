"""The edits that make one network another: they explain the distance, and done, they make it 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.distance.kinds import pairs_of
from tests.unit.distance.networks import pairs, rewired
from topostrata.distance.alignments import Alignment
from topostrata.distance.edits import Edits, edits, parse_unit
from topostrata.distance.match import align
from topostrata.distance.nnstd import nnstd
from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.topology import Mask, Topology

EITHER = st.one_of(pairs_of(), pairs())
EXACT: tuple[Alignment, ...] = ("overlap", "canonical", "refined", "identity")


@given(EITHER)
@settings(max_examples=40)
def test_the_edits_are_the_distance(pair: tuple[Topology, Topology]) -> None:
    """Row by row, recomputed from the edits of single units: equal to the bit, in every kind of wiring."""
    a, b = pair
    for alignment in EXACT:
        distance, changed = nnstd(a, b, alignment=alignment), edits(a, b, alignment=alignment)
        assert [row.distance for row in changed.rows] == [row.distance for row in distance.layers]
        assert changed.nnstd == distance.nnstd
        assert [row.name for row in changed.rows] == [row.name for row in distance.layers]
        check_counts(a, b, changed)


def check_counts(a: Topology, b: Topology, changed: Edits) -> None:
    """Units and layers count the same edits, and none is lost: all that A has is kept or deleted, as B's is inserted."""
    assert changed.total == changed.deleted + changed.inserted
    assert changed.common + changed.deleted == a.nnz
    assert changed.common + changed.inserted == b.nnz
    of_units = [sum(int(x.sum()) for row in changed.rows for x in columns(row)) for columns in COLUMNS]
    assert of_units == [changed.common, changed.deleted, changed.inserted]


COLUMNS = (
    lambda row: (row.common,),
    lambda row: (row.deleted,),
    lambda row: (row.inserted, row.added),
)


@given(pairs())
@settings(max_examples=25)
def test_the_reference_is_explained_too(pair: tuple[Topology, Topology]) -> None:
    """Its own sums are rounded in another order: equal but for the last digits."""
    distance, changed = (of(*pair, alignment="reference") for of in (nnstd, edits))
    assert changed.nnstd == pytest.approx(distance.nnstd, abs=1e-13)


def test_edits_that_are_done_make_the_other_network(reference_topologies: dict[str, Topology]) -> None:
    """Deletions taken from A and insertions added give B in A's order; a published pair, by each alignment."""
    a, b = (reference_topologies[f"e5_s0_{name}/epoch_050"] for name in ("w0", "w4"))
    for alignment in EXACT:
        changed = edits(a, b, alignment=alignment)
        assert changed.nnstd == nnstd(a, b, alignment=alignment).nnstd
        masks = {}
        for layer in changed.layers:
            mask = a[layer.name].mask
            ends = np.concatenate([layer.kept, layer.insertions])
            assert (ends >= 0).all()
            cells = np.sort(ends[:, 1] * mask.stride + ends[:, 0])
            masks[layer.name] = Mask(mask.n_source, mask.n_target, cells)
        assert a.wiring.place(masks) == align(b, to=a, alignment=alignment)


def test_one_unit_is_told_input_by_input() -> None:
    """What stays, goes and comes, by A's units and B's; a unit of a layer is that of the space it enters."""
    a = Topology.from_masks([[[1, 0], [1, 1], [0, 1]], [[1], [0]]])
    b = Topology.from_masks([[[0, 1], [1, 0], [1, 1]], [[0], [1]]])
    unit = edits(a, b, partners={"hidden1": [1, 0]}).unit("hidden1", 0)
    named = [[(entry.layer, entry.source) for entry in kind] for kind in (unit.common, unit.delete, unit.insert)]
    assert named == [[("l0", 0)], [("l0", 1)], [("l0", 2)]]
    assert (unit.partner, unit.distance) == (1, 2 / 3)
    changed = edits(a, b, partners={"hidden1": [1, 0]})
    output = changed.unit("l1", 0)
    assert ([entry.source_b for entry in output.common], output.delete, output.insert) == ([1], (), ())
    with pytest.raises(NotFoundError, match="a unit from 0 to 1"):
        changed.unit("hidden1", 2)
    with pytest.raises(NotFoundError, match="expected one of the spaces hidden1, output"):
        changed.unit("input", 0)
    with pytest.raises(NotFoundError, match="expected one of l0, l1"):
        changed.layer("l2")


def test_units_that_only_one_network_has_count_whole() -> None:
    """A wider network: the units that come are edits of distance 1, with the inputs that they bring."""
    a = Topology.from_masks([[[1], [1]], [[1]]])
    b = Topology.from_masks([[[1, 0], [1, 1]], [[1], [1]]])
    changed = edits(a, b)
    assert changed.nnstd == nnstd(a, b).nnstd
    assert changed.rows[0].added.tolist() == [1]
    assert changed.layers[0].insertions.tolist() == [[1, -1, 0, 1, 1]]
    back = edits(b, a)
    assert (back.deleted, back.inserted) == (changed.inserted, changed.deleted)


@pytest.mark.parametrize(
    "text", ["hidden1", ":3", "hidden1:", "hidden1:-1", "hidden1:x", "hidden1:1.5", f"h:{'9' * 30}"]
)
def test_a_unit_is_a_name_and_a_number(text: str) -> None:
    """All else is refused with an example."""
    with pytest.raises(InvalidInputError, match="such as hidden1:3"):
        parse_unit(text)


def test_edits_go_out_as_frames_and_files(tmp_path: Path) -> None:
    """A row an edit, the same in pandas and CSV."""
    rng = np.random.default_rng(0)
    a = Topology.from_masks([rng.random((6, 5)) < 0.5, rng.random((5, 3)) < 0.5])
    changed = edits(a, rewired(rng, a, 0.4), alignment="identity")
    table = changed.to_pandas()
    assert len(table) == changed.total > 0
    assert (table["edit"] == "delete").sum() == changed.deleted
    changed.to_csv(tmp_path / "edits.csv")
    lines = (tmp_path / "edits.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "layer,edit,source,target,tap,source_b,target_b"
    assert [line.split(",")[2] for line in lines[1:]] == [str(source) for source in table["source"]]
