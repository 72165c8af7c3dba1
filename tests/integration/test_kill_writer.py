"""``kill -9``: of the writer at every point of its work, of the engine and of its supervisor while a client goes on.

Whatever was acknowledged is whole, readers are right at every step that a layer claims, before anything is repaired; and
who pushes the same history again ends with the archive that would stand there without the kill.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.histories import History, random_history
from tests.pushed import (
    assert_projected,
    assert_readable_up_to_projected,
    assert_snapshots,
    assert_window,
    push,
    violations,
)
from tests.stores import Target
from tests.writer import Orders, Writer
from topostrata.archive import Archive
from topostrata.errors import NotFoundError
from topostrata.ingest import projection
from topostrata.store import embedded as engine
from topostrata.store.graph import Transaction

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes by their locks"),
]

SNAPSHOTS, BATCH = 7, 6
KILLS = 14  # at random moments
INTERRUPTS = 8

POINTS = [
    ("runs/lock_run", "after", 1),
    ("runs/lock_run", "after", 4),
    ("runs/create_layers", "after", 1),
    ("masks/put_masks", "after", 2),
    ("runs/create_snapshot", "after", 1),
    ("runs/create_snapshot", "after", 5),
    ("runs/create_snapshot", "after", 3),
    ("projection/take_projection", "before", 1),
    ("projection/take_projection", "before", 4),
    ("projection/take_projection", "after", 2),
    ("projection/create_neurons", "before", 2),
    ("projection/create_neurons", "after", 3),
    ("projection/guard_projection", "before", 1),
    ("projection/guard_projection", "before", 3),
    ("projection/guard_projection", "before", 8),
    ("projection/create_births", "after", 2),
    ("projection/create_births", "after", 6),
    ("projection/set_deaths", "after", 1),
    ("projection/set_deaths", "after", 3),
    ("projection/guard_projection", "after", 4),
    ("projection/move_projected", "before", 2),
    ("projection/move_projected", "after", 3),
]


def eventful(seed: int) -> int:
    """The first seed from this one on whose history has enough connections for every point to be reached."""
    while random_history(seed, snapshots=SNAPSHOTS).snapshots[0][1].nnz < 12 * BATCH:
        seed += 1
    return seed


def stored_steps(archive: Archive, run: str) -> list[int]:
    try:
        return [snapshot.step for snapshot in archive.snapshots(run)]
    except NotFoundError:
        return []


def check_before_repair(target: Target, run: str, history: History, outcomes: list[tuple[int, str]]) -> list[int]:
    """What must hold the moment after a kill, seen by a client that only reads; gives the steps that are stored."""
    with target.open() as reader:
        stored = stored_steps(reader, run)
        done = [step for step, _ in outcomes]
        assert done == history.steps[: len(done)]
        assert stored == history.steps[: len(stored)], "no gap, nothing else"
        assert set(done) <= set(stored), "what was acknowledged is there"
        if stored:
            assert_snapshots(reader, run, history, stored)
            assert_readable_up_to_projected(reader, run, history)
        assert violations(reader) == []
    return stored


def push_again(target: Target, run: str, history: History, stored: list[int]) -> None:
    """A new writer: nothing new up to what is stored, the rest added; then everything is as if nothing had happened."""
    with target.open() as writer:
        outcomes = push(writer, run, history)
        assert outcomes == ["unchanged"] * len(stored) + ["added"] * (len(history.steps) - len(stored))
    with target.open() as reader:
        assert_snapshots(reader, run, history, history.steps)
        assert_projected(reader, run, history)
        assert violations(reader) == []


@pytest.mark.parametrize(("query", "when", "count"), POINTS)
def test_a_writer_killed_at_a_chosen_point_leaves_a_right_archive(
    empty: Target, query: str, when: str, count: int
) -> None:
    """Before and after each statement of acknowledging and of projecting, in the first snapshot and in later ones."""
    seed = eventful(9000 + 100 * POINTS.index((query, when, count)))
    history = random_history(seed, snapshots=SNAPSHOTS)
    orders = Orders("w0", seed, SNAPSHOTS, BATCH, fatal_query=query, fatal_when=when, fatal_count=count)
    writer = Writer(empty, orders)
    try:
        writer.begin()
        assert writer.end_within(60), "the point was never reached"
        assert writer.process.returncode == -signal.SIGKILL, f"seed {seed}: the point was never reached"
        stored = check_before_repair(empty, "w0", history, writer.said())
    finally:
        writer.close()
    push_again(empty, "w0", history, stored)


@pytest.mark.parametrize(
    ("query", "when", "count"),
    [
        ("projection/set_window", "after", 1),
        ("projection/drop_dead", "after", 2),
        ("projection/count_dropped", "before", 1),
        ("projection/count_dropped", "after", 3),
    ],
)
def test_a_writer_killed_while_it_takes_the_past_away_leaves_a_right_archive(
    empty: Target, query: str, when: str, count: int
) -> None:
    """The layers say first from which step on they are whole; the next push takes away what was left, and goes on."""
    seed = eventful(9700)
    history = random_history(seed, snapshots=SNAPSHOTS)
    orders = Orders(
        "w0", seed, SNAPSHOTS, BATCH, projection="last 2", fatal_query=query, fatal_when=when, fatal_count=count
    )
    writer = Writer(empty, orders)
    try:
        writer.begin()
        assert writer.end_within(60), "the point was never reached"
        assert writer.process.returncode == -signal.SIGKILL, f"seed {seed}: the point was never reached"
        stored = check_before_repair(empty, "w0", history, writer.said())
    finally:
        writer.close()
    with empty.open() as other:
        assert push(other, "w0", history)[: len(stored)] == ["unchanged"] * len(stored)
        assert_window(other, "w0", history, 2)
        assert violations(other) == []


def test_writers_killed_at_random_moments_leave_a_right_archive(empty: Target) -> None:
    """Again and again into the same run, each writer beginning at the first snapshot, until it is complete."""
    seed = 77
    random = np.random.default_rng(seed)
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        run, history = f"w{runs}", random_history(seed + runs, snapshots=2 * SNAPSHOTS)
        stored: list[int] = []
        while len(stored) < len(history.steps) and kills < KILLS:
            writer = Writer(empty, Orders(run, seed + runs, 2 * SNAPSHOTS, BATCH))
            try:
                writer.begin()
                kills += not writer.end_within(float(random.uniform(0.02, 0.5)))
                outcomes = writer.said()
            finally:
                writer.close()
            print(f"seed {seed}, run {run}, kill {kills}: {len(stored)} were stored, then said {outcomes}")  # noqa: T201
            again = outcomes[: len(stored)]
            assert all(outcome == "unchanged" for _, outcome in again), "stored before this writer began"
            assert all(outcome == "added" for _, outcome in outcomes[len(stored) :])
            before, stored = stored, check_before_repair(empty, run, history, outcomes)
            assert len(stored) >= len(before)
        push_again(empty, run, history, stored)


class Assassin:
    """Kills a process of the engine when this process sends a query for the n-th time from now."""

    def __init__(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = Path(target.uri)
        self._plan: tuple[str, str, int] | None = None
        self._victim = ""
        self._calls: Counter[str] = Counter()
        self.kills = 0
        run = Transaction.run

        def counted(transaction: Transaction, name: str, /, **parameters: Any) -> Any:
            self._calls[name] += 1
            if self._plan == (name, "before", self._calls[name]):
                self._strike()
            rows = run(transaction, name, **parameters)
            if self._plan == (name, "after", self._calls[name]):
                self._strike()
            return rows

        monkeypatch.setattr(Transaction, "run", counted)

    def plan(self, victim: str, query: str, when: str, count: int) -> None:
        """Once; ``victim`` is ``engine`` or ``supervisor``."""
        self._victim, self._plan = victim, (query, when, count)
        self._calls.clear()

    def _strike(self) -> None:
        self._plan = None
        report = engine.status(self._directory)
        assert report is not None
        os.kill(report[f"{self._victim}_pid"], signal.SIGKILL)
        self.kills += 1


ENGINE_KILLS = [
    ("runs/lock_run", "before", 1),
    ("runs/create_snapshot", "after", 1),
    ("projection/take_projection", "after", 1),
    ("projection/create_births", "after", 2),
    ("projection/move_projected", "after", 1),
]
SUPERVISOR_KILLS = [
    ("runs/create_snapshot", "after", 1),
    ("projection/create_births", "before", 2),
    ("projection/move_projected", "after", 2),
]


@pytest.mark.parametrize(("victim", "points"), [("engine", ENGINE_KILLS), ("supervisor", SUPERVISOR_KILLS)])
def test_a_client_goes_on_by_itself_when_its_engine_is_killed(
    empty: Target, monkeypatch: pytest.MonkeyPatch, victim: str, points: list[tuple[str, str, int]]
) -> None:
    """Every push that meets a kill of the engine, or of its supervisor, returns all the same; nothing is lost."""
    monkeypatch.setattr(projection, "_BATCH", BATCH)
    history = random_history(eventful(4242), snapshots=2 + 2 * len(points))
    assassin = Assassin(empty, monkeypatch)
    with empty.open() as writer:
        for at, (step, topology) in enumerate(history.snapshots):
            if at and at % 2 == 0 and at // 2 <= len(points):
                assassin.plan(victim, *points[at // 2 - 1])
            # A commit whose answer was lost is found done when it is tried again.
            assert writer.push("w0", step, topology) in {"added", "unchanged"}
            if at % 2 == 0:
                with empty.open() as reader:
                    assert_snapshots(reader, "w0", history, history.steps[: at + 1])
        assert assassin.kills == len(points)
    with empty.open() as reader:
        assert_projected(reader, "w0", history)
        assert_readable_up_to_projected(reader, "w0", history)
        assert violations(reader) == []


# An interrupt that strikes between `open` and its `with` leaves the closing to the interpreter, which says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ctrl_c_in_the_midst_of_a_push_leaves_the_archive_usable(empty: Target) -> None:
    """The interrupt is what is raised, what stands is right for a reader, and the same ``Archive`` goes on.

    The driver would go on with the connection that was struck within an answer, and take its rest for the next answer.
    """
    random, caller, armed = np.random.default_rng(7), threading.get_ident(), threading.Event()

    def interrupt(*_: object) -> None:
        if armed.is_set():
            armed.clear()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with empty.open() as archive:
            for k in range(INTERRUPTS):
                run, history = f"w{k}", random_history(500 + k, snapshots=SNAPSHOTS)
                timer = threading.Timer(random.uniform(0.002, 0.1), signal.pthread_kill, (caller, signal.SIGUSR1))
                armed.set()
                timer.start()
                with contextlib.suppress(KeyboardInterrupt):
                    push(archive, run, history)
                    armed.clear()
                timer.join()
                with empty.open() as reader:
                    stored = stored_steps(reader, run)
                    if stored:
                        assert_snapshots(reader, run, history, history.steps[: len(stored)])
                        assert_readable_up_to_projected(reader, run, history)
                push(archive, run, history)
                assert_snapshots(archive, run, history, history.steps)
                assert_projected(archive, run, history)
            assert violations(archive) == []
    finally:
        signal.signal(signal.SIGUSR1, before)
