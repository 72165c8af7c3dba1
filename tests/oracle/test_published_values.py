"""NNSTD of the reference networks, against values computed independently (PROVENANCE.md)."""

from __future__ import annotations

import numpy as np
import pytest

from topostrata.distance.pairwise import distances
from topostrata.topology import Topology


def test_reference_agrees_with_the_published_procedure(
    reference_topologies: dict[str, Topology], expected: dict[str, np.ndarray]
) -> None:
    """All 15 x 15 pairs, every layer, in both directions."""
    names = [str(name) for name in expected["names"]]
    matrix = distances([reference_topologies[n] for n in names], labels=names, alignment="reference")
    assert matrix.layers == pytest.approx(expected["greedy_scipy_ties"], abs=1e-9)
    assert matrix.layers[:, :, 0] == pytest.approx(expected["layer0"], abs=1e-9)
    assert matrix.nnstd == pytest.approx(expected["greedy_scipy_ties"].mean(axis=2), abs=1e-9)
