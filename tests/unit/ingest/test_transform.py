"""From topologies to births and deaths: against plain Python sets, on random histories."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.histories import History, connections, random_history
from topostrata.ingest import transform
from topostrata.topology import Axis, LayerShape, Mask, Space

seeds = st.integers(0, 2**32 - 1)


def connected(shape: LayerShape, cells: np.ndarray) -> set[tuple[int, int, int]]:
    sources, targets, taps = (column.tolist() for column in shape.units_of(cells))
    return set(zip(sources, taps, targets, strict=True))


def masks(history: History, layer: str) -> list[tuple[int, Mask]]:
    return [(step, topology[layer].mask) for step, topology in history.snapshots]


@given(seeds)
def test_births_and_deaths_are_the_differences_of_sets(seed: int) -> None:
    """Between successive snapshots: died = before - after, born = after - before."""
    history = random_history(seed, snapshots=4)
    for layer in history.layers:
        shape, before = layer.shape, layer.shape.empty()
        for _, after in masks(history, layer.name):
            died, born = transform.changes(before, after)
            assert connected(shape, died) == connections(before) - connections(after)
            assert connected(shape, born) == connections(after) - connections(before)
            before = after


@given(seeds, st.integers(1, 7))
def test_groups_hold_every_cell_once_and_no_chunk_is_too_large(seed: int, size: int) -> None:
    """Cut into chunks and grouped by source neuron, births and deaths name exactly the cells that went in."""
    layer = random_history(seed, snapshots=1).layers[0]
    shape, cells = layer.shape, layer.mask.cells
    born: list[tuple[str, str, int]] = []
    keys: list[int] = []
    for chunk in transform.chunks(cells, shape, size):
        assert 0 < chunk.size <= size
        targets, groups = transform.groups("r", shape, chunk, 5)
        assert len(set(targets)) == len(targets)
        assert len({str(g[0]) for g in groups}) == len(groups), "one group for each source"
        born += [(str(g[0]), targets[row[0] - 5], row[1]) for g in groups for row in g[2]]  # type: ignore[attr-defined]
        keys += [row[2] for g in groups for row in g[2]]  # type: ignore[attr-defined]
    expected = connections(layer.mask)
    a, b = f"r/{shape.source.name}/", f"r/{shape.target.name}/"
    assert sorted(born) == sorted((f"{a}{s}", f"{b}{t}", tap) for s, tap, t in expected)
    assert len(set(keys)) == len(keys), "a layer's connections share no key"
    assert all(0 <= key < transform.KEYS for key in keys)


def test_a_small_layer_is_grouped_as_the_graph_takes_it() -> None:
    """One literal: two sources, two taps."""
    shape = LayerShape("y", Space("x", 2), Space("h", 2), 2)
    cells = next(transform.chunks(np.array([0, 3, 4, 7]), shape, 10))
    k = 970_316_218  # of the digest of "w0/y"
    assert transform.groups("w0", shape, cells, 0) == (
        ["w0/h/0", "w0/h/1"],
        [["w0/x/0", "y", [[0, 0, k], [1, 0, k + 4]]], ["w0/x/1", "y", [[0, 1, k + 3], [1, 1, k + 7]]]],
    )


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_what_is_done_already_is_left_out(cells: set[int], done: set[int]) -> None:
    """``without`` is the difference of sets and keeps the order."""
    left = transform.without(np.array(sorted(cells), dtype=np.int64), np.array(sorted(done), dtype=np.int64))
    assert left.tolist() == sorted(cells - done)


@given(seeds)
def test_lifetimes_are_those_that_the_snapshots_tell(seed: int) -> None:
    """Every life once, with its birth and its death, sorted by cell and birth, regrown connections among them."""
    history = random_history(seed)
    for layer in history.layers:
        shape = layer.shape
        lives = transform.lifetimes(shape, masks(history, layer.name))
        order = list(zip(lives.cells.tolist(), lives.born.tolist(), strict=True))
        assert order == sorted(set(order))
        sources, targets, taps = (column.tolist() for column in shape.units_of(lives.cells))
        lifetimes = {
            ((s, tap, t), born, None if died < 0 else died)
            for s, tap, t, born, died in zip(
                sources, taps, targets, lives.born.tolist(), lives.died.tolist(), strict=True
            )
        }
        assert lifetimes == history.lifetimes(layer.name)


def test_a_layer_without_snapshots_has_no_lifetimes() -> None:
    """An empty history is not an error."""
    lives = transform.lifetimes(LayerShape("y", Space("x", 2), Space("h", 2)), [])
    assert (lives.cells.size, lives.born.size, lives.died.size) == (0, 0, 0)


def test_neurons_of_a_space_with_axes_have_an_index_along_each() -> None:
    """The flat index counts the innermost axis first; property names are the last words of the axes' names."""
    space = Space("q", [Axis("h.0.heads", 3), Axis("h.0.dims", 2)])
    rows = transform.neuron_rows(space, 1, 4)
    assert rows == [
        [1, {"heads": 0, "dims": 1}],
        [2, {"heads": 1, "dims": 0}],
        [3, {"heads": 1, "dims": 1}],
        [4, {"heads": 2, "dims": 0}],
    ]


def test_axes_whose_names_are_no_properties_of_their_own_are_numbered() -> None:
    """A name that is taken, that cannot stand in Cypher or that two axes share is ``axis_`` with the place."""
    names = ["a.id", "x y", "left.dims", "right.dims", "heads", "axis_0"]
    space = Space("s", [Axis(name, 2) for name in names])
    assert transform.axis_properties(space) == ["axis_0", "axis_1", "axis_2", "axis_3", "heads", "axis_5"]
