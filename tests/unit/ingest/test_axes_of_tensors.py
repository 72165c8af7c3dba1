"""Labels of dimensions: what views, slices and concatenations make of them, without a tensor."""

from __future__ import annotations

import numpy as np
import pytest

from topostrata.ingest.hook.tracing.axes_of_tensors import (
    Dim,
    Label,
    atoms,
    factors,
    fix,
    fixed,
    free,
    is_fixed,
    narrow,
    product_of,
    regroup,
    sum_of,
    unify,
)
from topostrata.ingest.hook.tracing.labels import Stored


def sizes(dim: Dim) -> list[int]:
    return [label.size for label in factors(dim)]


def test_a_view_splits_an_axis_and_the_way_back_is_the_same_axes() -> None:
    """48 units as 4 heads x 12 places, and together again."""
    units = free(48)
    heads, places = regroup(units, [4, 12])
    assert (sizes(heads), sizes(places), sizes(units)) == ([4], [12], [4, 12])
    assert regroup(heads + places, [48]) == [factors(units)]


def test_a_view_that_cuts_across_axes_fixes_only_what_it_cuts() -> None:
    """6 x 4 seen as 4 x 6 has no common factors in order; 5 before it stays free."""
    five, six, four = free(5), free(6), free(4)
    regroup(five + six + four, [5, 8, 3])
    assert (is_fixed(five), is_fixed(six), is_fixed(four)) == (False, True, True)


def test_a_concatenation_is_cut_where_its_parts_meet() -> None:
    """Two parts side by side are read back as themselves, and a slice elsewhere makes new parts."""
    a, b = free(3), free(5)
    joint = [sum_of([product_of(a), product_of(b)])]
    assert narrow([joint], 0, 0, 3) == [factors(a)]
    assert narrow([joint], 0, 3, 8) == [factors(b)]
    assert [sizes(dim) for dim in narrow([joint], 0, 0, 5)] == [[5]]
    assert [label.size for label in atoms(b)] == [2, 3]


def test_axes_that_meet_are_one_and_fixed_together() -> None:
    """Also where one of them is a product, or both are sums with other boundaries."""
    units, heads, places = free(6), free(2), free(3)
    unify(units, heads + places)
    fix(units, "test")
    assert is_fixed(heads)
    assert is_fixed(places)
    early, late = free(7), free(7)
    narrow([early], 0, 0, 2)
    narrow([late], 0, 0, 4)
    unify(early, late)
    assert [label.size for label in atoms(early)] == [2, 2, 3]
    assert list(atoms(early)) == list(atoms(late))


def test_reading_at_an_index_ties_nothing() -> None:
    """The queries and the keys of a view as 3 x heads x places are two axes each."""
    three, heads, places = regroup(free(24), [3, 2, 4])
    queries, keys = (narrow([three, heads, places], 0, k, k + 1)[1:] for k in (0, 1))
    assert is_fixed(three)
    assert not {id(label) for dim in queries for label in dim} & {id(label) for dim in keys for label in dim}
    assert narrow([three, heads, places], 0, 0, 1)[1:] == queries


def test_axes_of_different_sizes_are_refused() -> None:
    """A rule that says so is wrong; what it touches is fixed by the caller."""
    with pytest.raises(ValueError, match="found 6 and 5"):
        unify(free(6), free(5))


def test_an_axis_that_holds_itself_is_fixed() -> None:
    """The sum of an axis and another that is as long as the axis would never end."""
    units = Label(4)
    parts = narrow([[units]], 0, 0, 2)[0], narrow([[units]], 0, 2, 4)[0]
    unify(parts[0], parts[1])
    assert len({id(label) for label in atoms([units])}) == 1
    assert not is_fixed([units])


@pytest.mark.parametrize("why", ["input", "output"])
def test_a_fixed_axis_says_why(why: str) -> None:
    """What meets it is fixed for the same reason."""
    units = free(3)
    unify(units, fixed(3, why))
    assert [label.why for label in atoms(units)] == [why]


def test_where_a_view_of_a_weight_is_stored() -> None:
    """Transposed, sliced, seen in heads: the places are those of NumPy in the flat parameter."""
    weight = np.arange(48).reshape(6, 8)
    stored = Stored.whole("weight", weight.shape).permuted([1, 0])
    part = stored.narrowed(0, 2, 6)
    assert part is not None
    viewed = part.viewed([2, 2, 6])
    assert viewed is not None
    expected = weight.T[2:6].reshape(2, 2, 6)
    places = viewed.offset + viewed.places([0, 1])[:, None] + viewed.places([2])
    assert np.array_equal(places, expected.reshape(4, 6))
    assert stored.viewed([3, 16]) is None
