"""What is told of a projection over REST and by the command line is what was meant, whatever layers are called."""

from __future__ import annotations

import pytest

from topostrata.projections import last_of, layers_in, names_of, projection_of


@pytest.mark.parametrize(
    "projection", ["all", "none", "last 5", ["all"], ["none"], ["last 5"], ["last"], ["l0", "last 5"], ["last five"]]
)
def test_a_projection_comes_back_from_its_names(projection: str | list[str]) -> None:
    """A text keeps its meaning; a list of layers stays one, also where its only layer is called like a word."""
    back = projection_of(names_of(projection))
    assert last_of(back) == last_of(projection)
    assert set(layers_in(back) or ()) == set(layers_in(projection) or ())
    assert (layers_in(back) is None) == (layers_in(projection) is None)
