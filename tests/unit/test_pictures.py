"""Pictures say what they show: steps to scale, rates, names, the scale from 0 to 1; results show themselves in notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.histories import random_history
from tests.unit.distance.networks import random_network
from topostrata.distance.edits import edits
from topostrata.distance.match import match
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import nnstd
from topostrata.distance.pairwise import distances
from topostrata.errors import InvalidInputError
from topostrata.evolution.between import Evolution, between
from topostrata.evolution.history import follow
from topostrata.evolution.stored import Moment, RunHistory
from topostrata.lineage.declared import Lineage
from topostrata.lineage.inferred import Inference, InferredEdge
from topostrata.lineage.timelines import Point, Timeline
from topostrata.runs import Descent
from topostrata.service import plots
from topostrata.service.pictures import Picture
from topostrata.topology import Mask, Topology

STEPS = (50, 100, 150, 190)


def history() -> RunHistory:
    """Two layers at steps that are not equally far apart, the second one always full."""
    rng = np.random.default_rng(0)
    sparse = [(step, Mask.from_matrix(rng.random((20, 10)) < 0.2)) for step in STEPS]
    full = [(step, Mask.from_matrix(np.ones((10, 3)))) for step in STEPS]
    return RunHistory("w$0", tuple(Moment("w$0", s, s) for s in STEPS), (follow("l0", sparse), follow("out", full)))


def axes_of(picture: Picture) -> list[Any]:
    return list(picture.figure.axes)


def test_survival_is_drawn_over_steps() -> None:
    """The axis is that of steps; layers that are always full have no line, and are not in the thick one."""
    survival = history().survival()
    (axes,) = axes_of(plots.survival_curves(survival))
    assert [line.get_xdata().tolist() for line in axes.lines] == [list(STEPS)] * 2
    assert survival.rewired is not None
    assert axes.lines[-1].get_ydata().tolist() == survival.rewired.share.tolist() == survival.layers[0].share.tolist()
    assert [line.get_label() for line in axes.lines] == ["l0", "all that are not always full"]
    assert survival.total.share.tolist() != survival.rewired.share.tolist()


def test_births_are_drawn_per_step() -> None:
    """Between two snapshots, as many a step as there were divided by the steps between; exploration has its own scale."""
    run = history()
    rates, extent = axes_of(plots.births_and_deaths(run))
    born = rates.patches[0].get_data()
    assert born.edges.tolist() == list(STEPS)
    assert born.values.tolist() == (run.layers[0].born[1:] / np.diff(STEPS)).tolist()
    assert extent.lines[0].get_ydata().tolist() == run.layers[0].exploration.tolist()
    assert extent.get_ylim()[1] < 1.2 * run.layers[0].exploration[-1]


def test_a_heat_map_has_names_and_a_scale_that_says_how_far(tmp_path: Path) -> None:
    """Ninety networks have their ninety names; colours go from 0 to 1, whatever the largest distance is."""
    rng = np.random.default_rng(0)
    values = rng.random((90, 90)) / 10
    values = (values + values.T) * (1 - np.eye(90))
    matrix = DistanceMatrix(tuple(f"w{k}@50" for k in range(90)), "overlap", values, values[:, :, None], ("l0",))
    axes = axes_of(plots.clustered_map(matrix, tmp_path / "map.png"))[0]
    assert axes.images[0].get_clim() == (0.0, 1.0)
    assert sorted(text.get_text() for text in axes.get_xticklabels()) == sorted(matrix.labels)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_the_scale_of_a_heat_map_shows_chance() -> None:
    """A band from the lowest to the highest level, and the mean beside it; of each map by its title."""
    networks = [random_network(np.random.default_rng(seed), [6, 8, 8, 4], 0.4) for seed in range(3)]
    matrix = distances(networks, chance="degrees")
    assert matrix.chance is not None
    level = matrix.chance
    for picture, words in (
        (plots.clustered_map(matrix), "chance"),
        (plots.heat_maps({"before": matrix, "after": matrix}), "chance\nafter"),
    ):
        bar = axes_of(picture)[-1]
        band = bar.patches[-1].get_extents().transformed(bar.transData.inverted())
        assert (band.y0, band.y1) == pytest.approx((level.low, level.high))
        assert bar.texts[-1].get_text() == f"{words}\n{level.level:.3f}"
    assert not axes_of(plots.clustered_map(distances(networks)))[-1].texts


def test_descent_says_how_and_when_and_goes_around() -> None:
    """Each arrow has its how and step; one that passes a generation is bent far enough to pass its runs."""
    edges = (Descent("a", 5, "b", "fork"), Descent("b", 7, "c", "resume"), Descent("a", 5, "c", "pruned"))
    (axes,) = axes_of(plots.descent_tree(Lineage(("a", "b", "c"), edges), None))
    texts = {text.get_text() for text in axes.texts}
    assert {"fork @5", "resume @7", "pruned @5"} <= texts
    bends = {
        (text.xyann[0], text.xy[0]): abs(text.arrow_patch.get_connectionstyle().rad)
        for text in axes.texts
        if text.arrow_patch is not None
    }
    assert bends[0.0, 2.0] > 2 * bends[0.0, 1.0]
    inferred = Inference("tree", "overlap", None, (InferredEdge("a", "b", 0.25, 0.1, 0.9, "unknown"),), 10)
    (axes,) = axes_of(plots.descent_tree(None, inferred))
    assert "0.250, 90%" in {text.get_text() for text in axes.texts}
    for neither in (None, Lineage((), ())):
        with pytest.raises(InvalidInputError, match="descent: expected"):
            plots.descent_tree(neither, None)


def test_the_edits_of_one_unit_are_drawn_alone() -> None:
    """Its inputs by their sources, counted; those that no unit of the first network stands for lie behind them."""
    a = Topology.from_masks([np.array([[1], [1], [0]]), np.array([[1, 1]])])
    b = Topology.from_masks([np.array([[1, 1], [0, 0], [1, 0]]), np.array([[1, 1], [1, 0]])])
    result = edits(a, b)
    for unit, words, places in (
        (("hidden1", 0), ["stays: 1", "goes: 1", "comes: 1"], [[0], [1], [2]]),
        (("output", 0), ["stays: 1", "goes: 0", "comes: 1"], [[0], [], [1 + 1]]),  # B's unit 1, behind A's last
    ):
        (axes,) = axes_of(plots.edit_map(result, unit=unit))
        assert [label.get_text() for label in axes.get_yticklabels()] == words
        assert [points.get_offsets()[:, 0].tolist() for points in axes.collections] == places


def results() -> list[Any]:
    """One of each kind of result that shows itself."""
    rng = np.random.default_rng(0)
    a, b = (random_network(rng, [6, 8, 8, 4], 0.4) for _ in range(2))
    run, steps = history(), random_history(5, snapshots=3)
    masks = [steps.at(step).layers[0].mask for step in steps.steps]
    return [
        nnstd(a, b, chance="degrees"),
        DistanceMatrix(("a", "b"), "overlap", np.array([[0, 0.5], [0.5, 0]]), np.zeros((2, 2, 1)), ("l0",)),
        match(a, b),
        edits(a, b),
        Evolution("w0", 0, 5, "w0", (between("l0", masks),)),
        run,
        run.survival(),
        Lineage(("w0", "w1"), (Descent("w0", 0, "w1", "fork"),)),
        Inference("tree", "overlap", None, (InferredEdge("a", "b", 0.5, None, 1.0, "unknown"),), 3),
        Timeline("a", "b", (Point(0, 0, 0.5), Point(5, 5, 0.25, 0.9))),
    ]


@pytest.mark.parametrize("result", results(), ids=lambda result: type(result).__name__)
def test_a_result_shows_itself(result: Any, tmp_path: Path) -> None:
    """As a table of HTML without scripts, as a picture with a file where one is named, and as a data frame."""
    html = result._repr_html_()
    assert html.count("<tr>") >= 2
    assert "<script" not in html
    picture = result.plot(tmp_path / "result.svg")
    assert "<svg" in (tmp_path / "result.svg").read_text(encoding="utf-8")
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert len(result.to_pandas()) >= 1
    with pytest.raises(InvalidInputError, match="expected the name of a picture"):
        result.plot(tmp_path / "result.txt")


def test_names_are_no_markup() -> None:
    """What a user calls a run is shown, not run."""
    shown = Lineage(("<b>", "w1"), (Descent("<script>", 0, "w1", "fork"),))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
