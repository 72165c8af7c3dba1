"""Several writers at once: each step is stored once, nobody follows the same snapshot twice, the projection is right."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.histories import History, random_history
from tests.pushed import assert_projected, assert_snapshots, push, violations
from tests.stores import Target, tell
from tests.writer import Orders, Writer
from topostrata.archive import Archive
from topostrata.errors import ConflictError, LineageCycleError, StepOrderError
from topostrata.ingest import projection
from topostrata.ingest.load import Loader
from topostrata.runs import Parent


def at_once(*works: Callable[[], object]) -> list[object]:
    """Do all of it in threads that start together; gives what each returned, or the error that it raised."""
    results: list[object] = [None] * len(works)
    start = threading.Barrier(len(works))

    def work(k: int) -> None:
        start.wait()
        try:
            results[k] = works[k]()
        except Exception as error:  # noqa: BLE001 - handed to the test
            results[k] = error

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def assert_whole(target: Target, run: str, history: History) -> None:
    """A client that knows nothing finds the history, once, in one line, projected; and nothing amiss."""
    with target.open() as reader:
        assert_snapshots(reader, run, history, history.steps)
        assert_projected(reader, run, history)
        assert violations(reader) == []
        followed = tell(reader, "MATCH (:Snapshot {run: $run})-[n:NEXT]->() RETURN count(n) AS n", run=run)
        assert followed == [{"n": len(history.steps) - 1}]


@pytest.mark.parametrize("seed", range(4))
def test_two_clients_that_take_turns_write_one_run(archive: Archive, target: Target, seed: int) -> None:
    """What each remembers of the run is old after every turn of the other; the run is whole all the same."""
    history = random_history(500 + seed, snapshots=7)
    with target.open() as other:
        for turn, (step, topology) in enumerate(history.snapshots):
            writer = (archive, other)[turn % 3 > 0]
            assert writer.push("w0", step, topology) == "added"
    assert_whole(target, "w0", history)


def test_two_clients_push_every_step_one_after_the_other(archive: Archive, target: Target) -> None:
    """Whoever comes second finds it there."""
    history = random_history(510, snapshots=5)
    with target.open() as other:
        for step, topology in history.snapshots:
            assert (archive.push("w0", step, topology), other.push("w0", step, topology)) == ("added", "unchanged")
    assert_whole(target, "w0", history)


def test_a_run_that_was_removed_and_made_anew_is_not_taken_for_the_old_one(archive: Archive, target: Target) -> None:
    """A client that remembers masks and layers of a run notices that it is another one now."""
    old, new = random_history(520, snapshots=3), random_history(521, snapshots=3)
    push(archive, "w0", old)
    with target.open() as other:
        for kind in ("Run", "Snapshot", "Layer"):
            tell(other, f"MATCH (n:{kind}) DETACH DELETE n")
        tell(other, "MATCH (n:Mask) DETACH DELETE n")
        tell(other, "MATCH (n:Neuron) DETACH DELETE n")
    assert push(archive, "w0", new) == ["added"] * 3
    assert_whole(target, "w0", new)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("writers", [2, 4])
def test_threads_that_push_the_same_run_at_once_store_each_step_once(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch, seed: int, writers: int
) -> None:
    """Exactly one of them added each step; small batches let their projections meet as well."""
    monkeypatch.setattr(projection, "_BATCH", 4)
    history = random_history(530 + seed, snapshots=5, most=5)
    clients = [target.open() for _ in range(writers)]
    try:
        outcomes = at_once(*(lambda c=client: push(c, "w0", history) for client in clients))
    finally:
        for client in clients:
            client.close()
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)], outcomes
    for at in range(len(history.steps)):
        told = Counter(outcome[at] for outcome in outcomes if isinstance(outcome, list))
        # A commit whose answer was lost is found done when it is tried again: then nobody says "added".
        assert told["added"] <= 1
        assert set(told) <= {"added", "unchanged"}
    assert_whole(target, "w0", history)


def test_processes_that_push_the_same_run_at_once_store_each_step_once(archive: Archive, target: Target) -> None:
    """The same between processes."""
    history = random_history(541, snapshots=6)
    writers = [Writer(target, Orders("w0", 541, 6, batch=5)) for _ in range(3)]
    try:
        for writer in writers:
            writer.begin()
        for writer in writers:
            assert writer.end_within(120)
            assert writer.process.returncode == 0
        outcomes = [writer.said() for writer in writers]
    finally:
        for writer in writers:
            writer.close()
    for at, step in enumerate(history.steps):
        assert {told[at][0] for told in outcomes} == {step}
        assert Counter(told[at][1] for told in outcomes)["added"] <= 1
    assert_whole(target, "w0", history)


def test_nobody_follows_the_same_snapshot_twice(archive: Archive, target: Target) -> None:
    """Clients that push different next steps at once: all that is stored stands in one line, the rest is refused."""
    first = random_history(550, snapshots=1)
    step, topology = first.snapshots[0]
    archive.push("w0", step, topology)
    clients = [target.open() for _ in range(4)]
    try:
        loaders = [Loader(client._store, client._masks) for client in clients]
        outcomes = at_once(
            *(lambda y=loader, k=k: y.acknowledge("w0", step + 1 + k, topology) for k, loader in enumerate(loaders))
        )
    finally:
        for client in clients:
            client.close()
    assert {type(outcome) for outcome in outcomes} <= {str, StepOrderError}
    stored = [step, *(step + 1 + k for k, outcome in enumerate(outcomes) if outcome == "added")]
    assert len(stored) > 1
    archive.push("w0", stored[-1], topology)
    assert_whole(target, "w0", History(0, tuple((s, topology) for s in stored)))


def test_two_topologies_for_one_step_at_once_are_one_snapshot_and_one_conflict(
    archive: Archive, target: Target
) -> None:
    """Whoever is second is told so, and nothing of his stays."""
    history = random_history(560, snapshots=4)
    (_, a), (_, b) = history.snapshots[0], next(s for s in history.snapshots if s[1] != history.snapshots[0][1])
    with target.open() as first, target.open() as other:
        outcomes = at_once(lambda: first.push("w0", 3, a), lambda: other.push("w0", 3, b))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictError", "str"]
    assert any(isinstance(outcome, ConflictError) for outcome in outcomes)
    assert_whole(target, "w0", History(0, ((3, a if outcomes[0] == "added" else b),)))


def test_two_that_would_close_a_cycle_together_do_not(archive: Archive, target: Target) -> None:
    """Each alone would be right: one of them is refused."""
    topology = random_history(570, snapshots=1).snapshots[0][1]
    for run in ("a", "b"):
        archive.push(run, 0, topology)
    with target.open() as first, target.open() as other:
        outcomes = at_once(
            lambda: first.update_run("a", parents=[Parent("b", 0, "fork")]),
            lambda: other.update_run("b", parents=[Parent("a", 0, "fork")]),
        )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LineageCycleError", "bool"]
    assert any(isinstance(outcome, LineageCycleError) for outcome in outcomes)
    assert violations(archive) == []


def test_different_runs_at_once_share_masks_without_harm(archive: Archive, target: Target) -> None:
    """The same history as four runs in four clients: every mask is stored once, every run is whole."""
    history = random_history(580, snapshots=5)
    clients = [target.open() for _ in range(4)]
    try:
        outcomes = at_once(*(lambda c=c, k=k: push(c, f"w{k}", history) for k, c in enumerate(clients)))
    finally:
        for client in clients:
            client.close()
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)], outcomes
    for k in range(4):
        assert_whole(target, f"w{k}", history)
    masks = {layer.mask.digest for _, topology in history.snapshots for layer in topology.layers}
    assert archive.counts().masks == len(masks)
