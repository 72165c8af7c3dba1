"""Pushes that are acknowledged before their connections are drawn: who draws them, in which order, and what is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.histories import History, random_history
from tests.pushed import assert_projected, assert_snapshots, lifetimes
from tests.stores import Target, tell
from topostrata.archive import Archive
from topostrata.errors import Cancelled, ConflictError, CorruptError, InvalidInputError, NotFoundError
from topostrata.ingest import projection, repair
from topostrata.ingest.projection import Projector
from topostrata.runs import Connections

NEVER = threading.Event()


def push_later(archive: Archive, run: str, history: History) -> None:
    """Push all snapshots of a history, whose connections wait then."""
    for step, topology in history.snapshots:
        assert archive.push(run, step, topology, connections="later") == "added"


def before_batch(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Any]) -> list[Any]:
    """Write one connection a batch, and do something once before the batch of this number; gives what came of it."""
    write, batches, results = Projector._write, iter(range(10_000)), []

    def acting(self: Projector, batch: Any) -> None:
        if next(batches) == number:
            results.append(act())
        write(self, batch)

    monkeypatch.setattr(projection, "_BATCH", 1)
    monkeypatch.setattr(Projector, "_write", acting)
    return results


def test_what_waits_becomes_the_graph_of_a_normal_push(archive: Archive) -> None:
    """The snapshots are there at once, their connections after ``project``, which does nothing the second time."""
    history = random_history(21, most=4, snapshots=4)
    push_later(archive, "w0", history)
    assert_snapshots(archive, "w0", history, history.steps)
    assert {(lag.projection, lag.projected_step) for lag in archive.unprojected()} == {("follow", None)}
    assert archive.drawer.waiting() == ["w0"]
    assert archive.push("w0", history.steps[-1], history.at(history.steps[-1]), connections="later") == "unchanged"
    with pytest.raises(NotFoundError, match="'nowhere'"):
        archive.project(["w0", "nowhere"])
    assert archive.project("w0") == ["w0"]
    assert_projected(archive, "w0", history)
    assert (archive.project(), archive.drawer.waiting(), list(archive.verify())) == ([], [], [])
    for step, topology in history.snapshots:
        archive.push("w1", step, topology)
    for layer in history.layers:
        assert set(lifetimes(archive, "w0", layer.name)) == set(lifetimes(archive, "w1", layer.name))


def test_the_next_normal_push_draws_what_waits(archive: Archive) -> None:
    """And so does the same snapshot again; then nothing waits. What is not projected never waits."""
    history = random_history(22, most=4, snapshots=3)
    push_later(archive, "w0", History(history.seed, history.snapshots[:2]))
    archive.push("w0", *history.snapshots[2])
    push_later(archive, "w1", history)
    assert archive.push("w1", *history.snapshots[2]) == "unchanged"
    for run in ("w0", "w1"):
        assert_projected(archive, run, history)
    archive.push("w2", *history.snapshots[0], projection="none", connections="later")
    assert archive.drawer.waiting() == []


def test_a_damaged_run_keeps_no_other_waiting(archive: Archive, target: Target) -> None:
    """All others are drawn, then the damage is told; a run by its name is told of at once."""
    damaged, sound = (random_history(seed, most=4, snapshots=1) for seed in (28, 29))
    for run, history in (("a", sound), ("b", damaged), ("c", sound)):
        push_later(archive, run, history)
    digest = next(iter(damaged.at(damaged.steps[0]).to_masks().values())).digest
    tell(archive, "MATCH (m:Mask {digest: $digest}) SET m.data = $data", digest=digest, data=b"damaged")
    with target.open() as other:
        for runs in (None, "b"):
            with pytest.raises(CorruptError, match=r"^run 'b': mask .* checksum"):
                other.project(runs)
        assert {layer.run for layer in other.unprojected()} == {"b"}


def test_runs_take_turns(archive: Archive) -> None:
    """Who waits longest is drawn first; one that is pushed while it is drawn waits again behind the others.

    A removed run waits until it is brought back.
    """
    history = random_history(23, most=4, snapshots=2)
    first, second = history.snapshots
    for run in ("b", "a", "c"):
        archive.push(run, *first, connections="later")
    archive.remove_runs(["a"])
    with pytest.MonkeyPatch.context() as patch:
        pushed = before_batch(patch, 1, lambda: archive.push("b", *second, connections="later"))
        assert archive.drawer.draw_next(NEVER) == "b"
    assert pushed == ["added"]
    assert archive.drawer.waiting() == ["c", "b"]
    archive.bring_back(["a"])
    assert [archive.drawer.draw_next(NEVER) for _ in range(4)] == ["a", "c", "b", None]
    assert archive.unprojected() == []
    for layer in history.layers:
        assert set(lifetimes(archive, "b", layer.name)) == history.lifetimes(layer.name)
    assert list(archive.verify()) == []


def test_who_looks_for_work_leaves_a_run_that_is_drawn_alone(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two who draw what waits never work on one run; who asks for it by name takes it over, and is not in vain."""
    history = random_history(24, most=4, snapshots=2)
    push_later(archive, "w0", history)
    with target.open() as other:
        results = before_batch(monkeypatch, 2, lambda: other.drawer.draw_next(NEVER))
        assert archive.drawer.draw_next(NEVER) == "w0"
        assert results == [None]
        assert_projected(archive, "w0", history)
        push_later(archive, "w1", history)
        results = before_batch(monkeypatch, 2, lambda: other.project("w1"))
        assert archive.drawer.draw_next(NEVER) == "w1"
        assert results == [["w1"]]
    for layer in history.layers:
        assert set(lifetimes(archive, "w1", layer.name)) == history.lifetimes(layer.name)
    assert (archive.unprojected(), list(archive.verify())) == ([], [])


def test_who_is_told_to_stop_leaves_the_rest_to_the_next(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches; the next goes on at once. Who dies is waited for a minute, by the clock of the database."""
    history = random_history(25, most=4, snapshots=3)
    push_later(archive, "w0", history)
    stop = threading.Event()

    def die() -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        before_batch(patch, 2, stop.set)
        with pytest.raises(Cancelled):
            archive.drawer.draw_next(stop)
    assert archive.drawer.waiting() == ["w0"]
    with monkeypatch.context() as patch:
        before_batch(patch, 2, die)
        with pytest.raises(RuntimeError, match="killed"):
            archive.drawer.draw_next(NEVER)
    with target.open() as other:
        assert (other.drawer.waiting(), other.drawer.draw_next(NEVER)) == ([], None)
        tell(other, "MATCH (r:Run {id: 'w0'}) SET r.drawn_until = r.drawn_until - 60000 RETURN r.id AS id")
        assert other.drawer.draw_next(NEVER) == "w0"
        assert_projected(other, "w0", history)
        assert list(other.verify()) == []


def test_a_purged_run_draws_nothing_into_the_next_of_its_name(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever draws the connections of the one is no projector of the other, whatever they counted."""
    old = random_history(27, most=5, snapshots=2)
    new = History(old.seed, old.snapshots[1:])
    push_later(archive, "w0", old)

    def purge() -> None:
        monkeypatch.setattr(projection, "_BATCH", 15_000)  # fewer batches than the old one had
        with target.open() as other:
            other.remove_runs(["w0"])
            other.purge_runs(["w0"])
            other.push("w0", *new.snapshots[0])

    before_batch(monkeypatch, 2, purge)
    archive.drawer.draw_next(NEVER)
    with target.open() as other:
        assert_projected(other, "w0", new)
        assert list(other.verify()) == []


@pytest.mark.parametrize("connections", ["now", "later"])
def test_rebuild_takes_nothing_away_that_others_draw(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch, connections: Connections
) -> None:
    """It goes on where they only say that something waits; where they draw, it stops and says so."""
    history = random_history(29, most=5, snapshots=3)
    for step, topology in history.snapshots[:2]:
        archive.push("w0", step, topology)
    drop, pages = repair._drop, iter(range(10_000))

    def dropping(*values: Any) -> None:
        if next(pages) == 1:
            with target.open() as other:
                other.push("w0", *history.snapshots[2], connections=connections)
                assert other.drawer.draw_next(NEVER) is None
        drop(*values)

    with monkeypatch.context() as patch:
        patch.setattr(repair, "_NEURONS", 1)
        patch.setattr(repair, "_drop", dropping)
        if connections == "now":
            with pytest.raises(ConflictError, match="expected nobody else to draw its connections"):
                archive.rebuild("w0")
        else:
            archive.rebuild("w0")
    with target.open() as other:
        assert_projected(other, "w0", history)
        assert list(other.verify()) == []


def test_another_word_is_refused_and_nothing_written(archive: Archive) -> None:
    """Before anything else is looked at; and what is refused for another reason leaves nothing that waits."""
    history = random_history(26, most=4, snapshots=2)
    step, topology = history.snapshots[0]
    with pytest.raises(InvalidInputError, match="connections: expected now or later, found 'soon'"):
        archive.push("w0", step, topology, connections="soon")  # type: ignore[arg-type]
    assert archive.runs() == []
    archive.push("w0", step, topology)
    with pytest.raises(ConflictError, match="nothing was written"):
        archive.push("w0", step, history.snapshots[1][1], connections="later")
    assert archive.drawer.waiting() == []
