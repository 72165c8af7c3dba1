"""``projection="last N"``: the graph holds what lived at a run's newest snapshots, whole and true, and says from when on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.histories import History, random_history, sparse_history
from tests.pushed import assert_projected, assert_readable_up_to_projected, assert_window, lifetimes, push
from tests.stores import Target, tell
from topostrata.archive import Archive
from topostrata.errors import InvalidInputError, NotFoundError
from topostrata.ingest import projection, repair
from topostrata.ingest.load import Loader
from topostrata.topology import Topology


def churning(seed: int, snapshots: int) -> History:
    """A run in which a fifth of the connections is replaced at each step."""
    return sparse_history(seed, snapshots=snapshots, widths=[9, 7, 4], density=0.4, churn=0.2)


def push_last(archive: Archive, run: str, history: History, keep: int) -> None:
    """Push all of a history into a run of which the graph keeps so many snapshots."""
    for step, topology in history.snapshots:
        archive.push(run, step, topology, projection=f"last {keep}")


@pytest.mark.parametrize("seed", range(3))
def test_after_every_push_the_graph_has_the_lives_of_the_last_snapshots(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Of random histories and of any number to keep, with statements and transactions of any size."""
    monkeypatch.setattr(projection, "_BATCH", [3, 15_000][seed % 2])
    monkeypatch.setattr(projection, "_WALKED", [5, 100_000][seed % 2])
    keep = [4, 1, 2][seed]
    history = random_history(700 + seed, snapshots=[11, 5, 7][seed], most=4)
    for at, (step, topology) in enumerate(history.snapshots, start=1):
        archive.push("w0", step, topology, projection=f"last {keep}")
        assert_window(archive, "w0", History(history.seed, history.snapshots[:at]), keep)
    with target.open() as fresh:
        assert_readable_up_to_projected(fresh, "w0", history)
        assert list(fresh.verify()) == []
        start = fresh.layers("w0")[0].projected_from
        assert start is not None
        assert {(lag.run, lag.projected_from, lag.projected_step) for lag in fresh.unprojected()} == {
            ("w0", start, history.steps[-1])
        }


def test_a_run_drawn_anew_begins_at_its_last_snapshots_with_true_births(archive: Archive, target: Target) -> None:
    """``rebuild`` draws no step before those to keep, and so does who projects many snapshots at once."""
    history = churning(1, 9)
    push_last(archive, "w0", history, 4)
    archive.rebuild("w0")
    assert_window(archive, "w0", history, 4)
    assert archive.layers("w0")[0].projected_from == history.steps[-4]
    loader = Loader(archive._store, archive._masks)
    for step, topology in history.snapshots:
        loader.acknowledge("w1", step, topology, projection="last 4")
    loader.drawer.project("w1")
    assert_window(archive, "w1", history, 4)
    with target.open() as fresh:
        assert list(fresh.verify()) == []
    oldest = min(born for _, born, _ in lifetimes(archive, "w1", "l0"))
    assert oldest < history.steps[-4], "some live for longer"


@pytest.mark.parametrize("late", [False, True])
def test_what_was_cut_anywhere_is_completed(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Cut before every transaction in turn, of drawing and of taking away, while the run goes on: never a wrong answer."""
    monkeypatch.setattr(projection, "_BATCH", 12)
    monkeypatch.setattr(projection, "_WALKED", 80)
    history = churning(2, 7)
    loader = Loader(archive._store, archive._masks)
    guarded = projection.Projector._guarded
    left = 0

    def cut(self: Any, *args: Any, **options: Any) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("cut")
        left -= 1
        guarded(self, *args, **options)

    snapshots = list(history.snapshots)
    at = 0
    with monkeypatch.context() as patch:
        patch.setattr(projection.Projector, "_guarded", cut)
        for tries in range(1, 400):
            if at < len(snapshots) and (tries % 4 == 1 or late):
                for step, topology in snapshots[at : at + (6 if late else 1)]:
                    loader.acknowledge("w0", step, topology, projection="last 2")
                    at += 1
            left = 1 + tries % 4
            try:
                loader.drawer.project("w0")
            except RuntimeError:
                if tries % 5 == 0:
                    with target.open() as fresh:
                        assert_readable_up_to_projected(fresh, "w0", history)
                        assert list(fresh.verify()) == []
            else:
                if at == len(snapshots):
                    break
    assert_window(archive, "w0", history, 2)
    assert list(archive.verify()) == []


def test_a_client_that_pushes_the_same_again_takes_away_what_was_left(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of what is under way is seen by whoever comes next; until then nothing is damaged."""
    history = churning(3, 4)

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(projection.Projector, "_drop_dead", die)
        with pytest.raises(RuntimeError, match="killed"):
            push_last(archive, "w0", history, 2)
    with target.open() as other:
        assert all(layer.trimming for layer in other.layers("w0"))
        assert list(other.verify()) == []
        step = other.snapshot("w0@last").step
        assert other.push("w0", step, history.at(step)) == "unchanged"
        assert_window(other, "w0", History(0, history.snapshots[:3]), 2)


def test_what_stands_before_the_window_is_damage(archive: Archive) -> None:
    """A life that ended before the window, one that is missing in it, a beginning that is no step: found and mended."""
    history = churning(4, 5)
    push_last(archive, "w0", history, 2)
    early = (
        "MATCH (a:Neuron {id: 'w0/input/0'}) MATCH (b:Neuron {id: 'w0/hidden1/0'}) "
        "CREATE (a)-[:CONNECTS {run: 'w0', layer: 'l0', tap: 0, born_step: 0, died_step: 1}]->(b)"
    )
    for damage in (
        early,
        "MATCH (:Neuron {run: 'w0', space: 'input'})-[c:CONNECTS]->() WITH c LIMIT 1 DELETE c",
        "MATCH (y:Layer {id: 'w0/l0'}) SET y.projected_from = 77",
    ):
        tell(archive, damage)
        assert {(problem.where, problem.cure) for problem in archive.verify()} == {("w0/l0", "rebuild")}
        assert archive.repair() == []
        assert_window(archive, "w0", history, 2)


def test_a_mask_that_is_lost_before_the_window_is_not_made_of_what_is_left(archive: Archive) -> None:
    """The connections of the window do not say what lived before it: that mask is lost, and nothing else is."""
    history = churning(5, 8)
    push_last(archive, "w0", history, 3)
    tell(archive, "MATCH (:Snapshot {id: 'w0@1'})-[h:HAS_MASK {layer: 'l0'}]->() DELETE h")
    left = archive.repair()
    assert ("a mask for each layer", "w0@1") in {(problem.rule, problem.where) for problem in left}
    tell(archive, "MATCH (:Snapshot {id: 'w0@7'})-[h:HAS_MASK {layer: 'l0'}]->() DELETE h")
    assert not {problem.where for problem in archive.repair()} & {"w0@7"}


def test_the_first_snapshot_decides_and_layers_may_have_any_name(archive: Archive) -> None:
    """``last N`` is a text alone; a list names layers, one called ``last 2`` among them, and later pushes change nothing."""
    network = Topology.from_masks({"last 2": np.eye(3)})
    archive.push("w0", 0, network, projection=["last 2"])
    archive.push("w0", 1, Topology.from_masks({"last 2": 1 - np.eye(3)}), projection="last 1")
    archive.push("w0", 2, network)
    assert archive.layers("w0")[0].projected_last is None
    assert_projected(archive, "w0", History(0, tuple((k, archive.topology(f"w0@{k}")) for k in range(3))))


@pytest.mark.parametrize(
    "wrong", ["last 0", "last -3", "last 2.5", "last x", "last 1 2", "last 99999999999999999999999"]
)
def test_a_number_of_snapshots_that_is_none_is_refused(archive: Archive, wrong: str) -> None:
    """One error that says what was expected, and nothing is written."""
    with pytest.raises(InvalidInputError, match="expected 'last N' with a whole number"):
        archive.push("w0", 0, Topology.from_masks([np.eye(2)]), projection=wrong)
    with pytest.raises(NotFoundError, match="'last2'"):
        archive.push("w0", 0, Topology.from_masks([np.eye(2)]), projection="last2")
    assert archive.runs() == []


def test_a_run_that_is_moved_keeps_its_window(archive: Archive, target: Target, tmp_path: Any) -> None:
    """Exported, removed for good and imported again, the graph has the last snapshots of it as before."""
    history = churning(6, 5)
    push_last(archive, "w0", history, 3)
    archive.export(tmp_path / "a.zip")
    archive.remove_runs(["w0"])
    archive.purge_runs(["w0"])
    archive.import_(tmp_path / "a.zip")
    assert_window(archive, "w0", history, 3)
    push(archive, "w0", History(0, (*history.snapshots, (99, history.at(0)))))
    assert_window(archive, "w0", History(0, (*history.snapshots, (99, history.at(0)))), 3)


def test_the_last_snapshots_may_be_drawn_later(archive: Archive) -> None:
    """A run whose first steps were taken away waits for nobody, and one whose connections follow keeps its last ones."""
    history = churning(5, 9)
    push_last(archive, "w0", History(history.seed, history.snapshots[:6]), 2)
    assert [lag.is_behind for lag in archive.unprojected()] == [False, False]
    assert archive.project() == []
    for step, topology in history.snapshots[6:]:
        archive.push("w0", step, topology, connections="later")
    assert [lag.is_behind for lag in archive.unprojected()] == [True, True]
    assert archive.project("w0") == ["w0"]
    assert_window(archive, "w0", history, 2)
    assert archive.project() == []


def test_a_long_wait_never_fills_the_graph(archive: Archive, target: Target) -> None:
    """Many snapshots that wait are drawn a few at a time, so that the limit of relationships stops none of them."""
    history = churning(6, 30)
    archive.push("w0", *history.snapshots[0], projection="last 2")
    for step, topology in history.snapshots[1:]:
        archive.push("w0", step, topology, connections="later")
    every = sum(layer.lifetimes for layer in archive.layers("w0"))
    archive._store.relationship_limit = 4 * every
    assert archive.project() == ["w0"]
    assert {layer.projection for layer in archive.layers("w0")} == {"follow"}
    assert_window(archive, "w0", history, 2)
    with target.open() as fresh:
        assert list(fresh.verify()) == []


@pytest.mark.parametrize("page", [0, 3, 8])
def test_a_rebuild_that_was_cut_is_gone_on_with(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """By the next push: what the cut left in the graph is true, from the step on that the layers still say."""
    history = churning(7, 8)
    push_last(archive, "w0", History(history.seed, history.snapshots[:7]), 2)
    drop, pages = repair._drop, iter(range(10_000))

    def cut(*values: Any) -> None:
        if next(pages) == page:
            raise RuntimeError("cut")
        drop(*values)

    with monkeypatch.context() as patch:
        patch.setattr(repair, "_NEURONS", 2)
        patch.setattr(repair, "_drop", cut)
        with pytest.raises(RuntimeError, match="cut"):
            archive.rebuild("w0")
    with target.open() as fresh:
        fresh.push("w0", *history.snapshots[7])
        assert_window(fresh, "w0", history, 2)
        assert list(fresh.verify()) == []
