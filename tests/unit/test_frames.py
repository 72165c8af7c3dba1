"""Answers as pandas data frames."""

from __future__ import annotations

import numpy as np

from topostrata.distance.pairwise import distances
from topostrata.evolution.between import Evolution, between
from topostrata.evolution.history import follow
from topostrata.evolution.survival import kaplan_meier, survival
from topostrata.frames import frame
from topostrata.topology import Mask, Topology

MASKS = [Mask(2, 2, np.array(cells)) for cells in ([0, 1], [1, 2], [1, 2])]


def test_a_frame_without_rows_has_its_columns() -> None:
    """Nothing to tell is told in the right columns."""
    assert list(frame([], ("a", "b")).columns) == ["a", "b"]


def test_evolution_survival_and_estimates_as_frames() -> None:
    """A row for each layer, snapshot, age."""
    layer = between("l0", MASKS)
    table = Evolution("w0", 0, 2, "w0", (layer,)).to_pandas()
    assert table.loc[0, "survived"] == layer.survived == 1
    history = follow("l0", enumerate(MASKS))
    assert survival(history).to_pandas()["survived"].tolist() == [2, 1, 1]
    assert kaplan_meier(history).to_pandas()["age"].tolist() == [1]


def test_distances_as_a_frame_and_as_a_graph() -> None:
    """Labels on both sides; an edge for each pair, in both directions where the alignment has two."""
    topologies = [Topology.from_masks([mask]) for mask in MASKS]
    matrix = distances(topologies, labels=["a", "b", "c"], alignment="identity")
    table = matrix.to_pandas()
    assert table.loc["a", "b"] == matrix.nnstd[0, 1]
    assert list(table.index) == list(table.columns) == ["a", "b", "c"]
    graph = matrix.to_networkx()
    assert graph.number_of_edges() == 3
    assert graph["a"]["b"]["distance"] == matrix.nnstd[0, 1]
    published = distances(topologies, alignment="reference").to_networkx()
    assert (published.is_directed(), published.number_of_edges()) == (True, 6)
