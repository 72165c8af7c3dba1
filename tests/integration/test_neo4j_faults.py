"""A hundred faults and more on a real Neo4j: what was acknowledged stays, nothing half written shows, repeating heals.

The faults strike at a random byte of what flows between the archive and the server (``tests/fault_proxy.py``): kill -9 of
the server and of writers, connections cut, reset and delayed. Two writers on one run and deadlocks come without the
proxy. Everything is drawn from a seed. A quarter of the campaign runs with the other tests, all of it by ``make soak``
(``TOPOSTRATA_TEST_SOAK=1``); ``TOPOSTRATA_TEST_FAULTS_TO=docs/reliability.md`` writes the table there.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar, get_args

import numpy as np
import pytest
from neo4j.exceptions import TransientError

from tests import neo4j_server
from tests.fault_proxy import Direction, Fault, FaultProxy, Harm, proxied
from tests.histories import History, sparse_history
from tests.neo4j_server import Neo4jServer
from tests.pushed import assert_projected, assert_readable_up_to_projected, assert_snapshots, violations
from topostrata.archive import Archive, open_archive
from topostrata.errors import ConflictError, StoreUnavailableError
from topostrata.ingest import projection
from topostrata.topology import Topology

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
SEED = 2026
STEPS = 8
WRITE_TO = "TOPOSTRATA_TEST_FAULTS_TO"

# What is done to the connection, how often in each phase and direction; kills of the server are the slow ones.
WHOLE = bool(os.environ.get("TOPOSTRATA_TEST_SOAK"))
PLAN: dict[Harm, int] = (
    {"call": 4, "cut": 5, "reset": 5, "delay": 4, "drop": 2} if WHOLE else dict.fromkeys(get_args(Harm), 1)
)
KILLED_WRITERS = 10 if WHOLE else 3
WRITER_PAIRS = 5 if WHOLE else 1
DEADLOCKS = 4 if WHOLE else 1
LEAST_FAULTS, LEAST_KILLS = (100, 15) if WHOLE else (23, 4)

_NAMES: dict[Harm, str] = {
    "call": "kill -9 of the server, then a restart",
    "cut": "connection closed",
    "reset": "connection reset",
    "delay": "connection silent for a while",
    "drop": "connection silent, then closed without what was sent",
}
_PHASES = ("acknowledging", "projecting")
_DIRECTIONS: tuple[Direction, ...] = ("to server", "to client")

_WRITER = """
import sys
from topostrata.archive import open_archive
from tests.histories import sparse_history
uri, run, seed, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with open_archive(uri) as archive:
    for step, topology in sparse_history(seed, snapshots=steps, widths=(80, 80, 40), density=0.1, churn=0.3).snapshots:
        archive.push(run, step, topology)
        print(step, flush=True)
"""


def history(seed: int) -> History:
    """The snapshots of one run of these tests."""
    return sparse_history(seed, snapshots=STEPS, widths=(80, 80, 40), density=0.1, churn=0.3)


@dataclass
class Tally:
    """What was done to a server, and what came of it."""

    version: str
    seconds: float = 0.0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    snapshots: int = 0
    checks: int = 0


class AbandonedError(Exception):
    """The tests are over, the campaign is not."""


@pytest.fixture(scope="module")
def campaigns(request: pytest.FixtureRequest) -> Iterator[dict[str, Aside[Tally]]]:
    """A campaign against each release that is asked for, side by side: mostly they wait for a server to start."""
    releases = {item.callspec.params["release"] for item in request.session.items if item.path == request.path}  # type: ignore[attr-defined]
    over = threading.Event()
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setattr(projection, "_BATCH", 200)  # several batches a snapshot, so that faults fall between them too
        servers = [
            stack.enter_context(neo4j_server.running(name)) for name in neo4j_server.RELEASES if name in releases
        ]
        fights = {server.name: Aside(partial(fight, server, over), limit_s=1700) for server in servers}
        try:
            yield fights
        finally:
            over.set()
            for campaign in fights.values():
                campaign.wait(60)  # where something hangs, its server goes away now
    fought = [campaign.result() for campaign in fights.values() if campaign.succeeded]
    if fought:
        sys.stderr.write(f"\n{table(fought)}\n")
    if os.environ.get(WRITE_TO) and len(fought) == len(neo4j_server.RELEASES):
        file = ROOT / os.environ[WRITE_TO]
        _, other, rest = file.read_text("utf-8").partition("\n# What may happen to a training job\n")
        file.write_text(document(table(fought)) + other + rest, "utf-8")


class Campaign:
    """Pushes one snapshot after the other through a proxy that strikes, and looks at the server past it."""

    def __init__(self, server: Neo4jServer, proxy: FaultProxy, tally: Tally, over: threading.Event) -> None:
        self.server = server
        self.proxy = proxy
        self.tally = tally
        self.over = over
        self.random = np.random.default_rng(SEED)
        self.writer = self.open()
        self.reader = open_archive(server.uri, settings=server.settings())
        self.runs = 0
        self.run, self.history, self.at = "", history(0), STEPS
        self.bytes = self._measure()

    def open(self) -> Archive:
        """A client that comes by the proxy; a fault may strike while it opens, so that it is asked to open again."""
        uri = f"bolt://127.0.0.1:{self.proxy.port}"
        try:
            return open_archive(uri, settings=self.server.settings())
        except StoreUnavailableError:
            return open_archive(uri, settings=self.server.settings())

    def go_on(self) -> None:
        """Not where nobody waits for the end."""
        if self.over.is_set():
            raise AbandonedError

    def close(self) -> None:
        self.writer.close()
        self.reader.close()

    def strike(self, harm: Harm, phase: str, direction: Direction) -> None:
        """One snapshot, and one fault in that phase of it; again until the fault was reached."""
        while True:
            self.go_on()
            step, topology = self._next()
            fault = Fault(
                harm,
                direction,
                int(self.random.integers(1, self.bytes[phase, direction])),
                delay_s=float(self.random.uniform(0.05, 0.5)),
                call=self._kill_server,
            )
            for part, work in (
                ("acknowledging", lambda: self.writer._loader.acknowledge(self.run, step, topology)),  # noqa: B023
                ("projecting", lambda: self.writer._loader.drawer.project(self.run)),
            ):
                if part == phase:
                    self.proxy.arm(fault)
                self._repeat(work)
                if part == phase:
                    self.proxy.disarm()
            self.tally.snapshots += 1
            self.look()
            if fault.done.is_set():
                self.tally.faults[_NAMES[harm], phase] += 1
                return

    def look(self) -> None:
        """By a client that the faults do not reach: all that was acknowledged is there, whole, and may be read."""
        self._look(self.reader, self.at)
        if self.tally.checks % 10 == 0:
            self._look_anew(self.at)

    def _look(self, reader: Archive, acknowledged: int) -> None:
        self.tally.checks += 1
        stored = [snapshot.step for snapshot in reader.snapshots(self.run)]
        steps = self.history.steps
        assert stored in (steps[:acknowledged], steps[: acknowledged + 1]), (self.run, stored, acknowledged)
        assert_snapshots(reader, self.run, self.history, stored)
        assert_readable_up_to_projected(reader, self.run, self.history)

    def _look_anew(self, acknowledged: int) -> None:
        """The same by a client that remembers nothing, and every rule of the whole archive."""
        with open_archive(self.server.uri, settings=self.server.settings()) as reader:
            self._look(reader, acknowledged)
            assert violations(reader) == []

    def _kill_server(self) -> None:
        """Kill it, start it again, and look before any writer is let in."""
        self.server.restart()
        if self.at > 1:  # else the run may not be there at all
            self._look_anew(self.at - 1)

    def _repeat(self, work: Callable[[], object]) -> None:
        """What a user does: the same again, until it is done."""
        for _ in range(4):
            try:
                work()
            except StoreUnavailableError:
                continue
            return
        work()

    def _next(self) -> tuple[int, Topology]:
        if self.at == STEPS:
            if self.run:
                assert_projected(self.reader, self.run, self.history)
            self.runs += 1
            self.run, self.history, self.at = f"run{self.runs}", history(self.runs), 0
        self.at += 1
        return self.history.snapshots[self.at - 1]

    def _measure(self) -> dict[tuple[str, Direction], int]:
        """How many bytes flow when nothing strikes: in the later snapshots of a run, the first are larger."""
        flown: dict[tuple[str, Direction], int] = {}
        for step, topology in history(0).snapshots[:3]:
            for phase, work in (
                ("acknowledging", lambda: self.writer._loader.acknowledge("measure", step, topology)),  # noqa: B023
                ("projecting", lambda: self.writer._loader.drawer.project("measure")),
            ):
                before = dict(self.proxy.passed)
                work()
                for direction in _DIRECTIONS:
                    flown[phase, direction] = self.proxy.passed[direction] - before[direction]
        return flown


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("release", neo4j_server.RELEASES)
def test_nothing_acknowledged_is_lost(campaigns: dict[str, Aside[Tally]], release: str) -> None:
    """Kills, cuts, resets and delays at random bytes; after each one every acknowledged snapshot is there, whole."""
    faults = campaigns[release].result().faults
    assert faults.total() >= LEAST_FAULTS
    assert sum(count for (what, _), count in faults.items() if what == _NAMES["call"]) >= LEAST_KILLS


def fight(server: Neo4jServer, over: threading.Event) -> Tally:
    """All faults against a server, which is this module's own, to be killed."""
    tally = Tally(neo4j_server.RELEASES[server.name].version)
    began = time.monotonic()
    host, _, port = server.uri.removeprefix("bolt://").partition(":")
    with proxied(host, int(port)) as proxy, closing(Campaign(server, proxy, tally, over)) as campaign:
        strikes = [
            (harm, phase, direction)
            for harm, times in PLAN.items()
            for phase in _PHASES
            for direction in _DIRECTIONS
            for _ in range(times)
        ]
        campaign.random.shuffle(strikes)
        for harm, phase, direction in strikes:
            campaign.strike(harm, phase, direction)
        _kill_writers(campaign)
        _pair_writers(campaign)
        _lock_dead(campaign)
        assert violations(campaign.reader) == []
        assert campaign.reader.unprojected() == []
    tally.seconds = time.monotonic() - began
    return tally


def _kill_writers(campaign: Campaign) -> None:
    """Writers in processes of their own, killed at a random byte; who pushes the same again completes the run."""
    flown = 0
    for number in range(KILLED_WRITERS + 1):  # the first one lives, to be measured
        campaign.go_on()
        run, seed = f"writer{number}", 1000 + number
        before = campaign.proxy.passed["to server"]
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, f"bolt://127.0.0.1:{campaign.proxy.port}", run, str(seed), str(STEPS)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | campaign.server.environment() | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
        )
        if number:
            after = int(campaign.random.integers(flown // 20, flown))
            fault = campaign.proxy.arm(Fault("call", "to server", after, call=process.kill))
        output, _ = process.communicate(timeout=120)
        campaign.proxy.disarm()
        if not number:
            assert process.returncode == 0
            flown = campaign.proxy.passed["to server"] - before
        elif fault.done.is_set():
            campaign.tally.faults["kill -9 of a writer", "any"] += 1
        acknowledged = [int(line) for line in output.split()]
        whole = history(seed)
        with open_archive(campaign.server.uri, settings=campaign.server.settings()) as other:
            assert violations(other) == []
            outcomes = [other.push(run, step, topology) for step, topology in whole.snapshots]
            assert outcomes[: len(acknowledged)] == ["unchanged"] * len(acknowledged)
            assert_snapshots(other, run, whole, whole.steps)
            assert_projected(other, run, whole)
        campaign.tally.snapshots += STEPS


def _pair_writers(campaign: Campaign) -> None:
    """Two writers on one run, and a cut: with the same snapshots both succeed, with others one of them for each step."""
    for number in range(WRITER_PAIRS * 2):
        campaign.go_on()
        rivals = number % 2 == 1
        run = f"pair{number}"
        campaign.proxy.arm(Fault("cut", "to server", int(campaign.random.integers(1, 100_000))))
        seeds = (2000 + number, 3000 + number if rivals else 2000 + number)
        writers = [Aside(partial(_push_all, campaign, run, history(seed), rivals=rivals)) for seed in seeds]
        added = [writer.result() for writer in writers]
        campaign.proxy.disarm()
        stored = {snapshot.step: snapshot.digest for snapshot in campaign.reader.snapshots(run)}
        assert set(stored) == set(added[0]) | set(added[1])
        for mine in added:
            assert mine.items() <= stored.items()
        assert violations(campaign.reader) == []
        assert not [row for row in campaign.reader.unprojected() if row.run == run]
        what = "two writers on one run, with other snapshots" if rivals else "two writers on one run, with the same"
        campaign.tally.faults[what, "any"] += 1
        campaign.tally.snapshots += len(stored)


def _push_all(campaign: Campaign, run: str, whole: History, *, rivals: bool) -> dict[int, str]:
    """The digests of what was acknowledged; only a rival may be told that another was there first."""
    acknowledged = {}
    with campaign.open() as archive:
        for step, topology in whole.snapshots:
            try:
                archive.push(run, step, topology)
            except ConflictError:
                assert rivals
            else:
                acknowledged[step] = topology.digest
    return acknowledged


def _lock_dead(campaign: Campaign) -> None:
    """Somebody holds what a push wants and wants what it holds: the database ends one of them, the push succeeds."""
    for number in range(DEADLOCKS):
        campaign.go_on()
        run = f"dead{number}"
        whole = history(4000 + number)
        campaign.reader.push(run, *whole.snapshots[0])
        step, topology = whole.snapshots[1]
        with campaign.server.driver() as driver, driver.session(database="neo4j") as session:
            transaction = session.begin_transaction()
            transaction.run("CREATE (:Mask {digest: $d})", d=topology.layers[-1].mask.digest).consume()
            writer = Aside(partial(campaign.writer.push, run, step, topology))
            with driver.session(database="neo4j") as watcher:
                deadline = time.monotonic() + 30
                while not watcher.run(_BLOCKED).data():
                    assert time.monotonic() < deadline, "the push never waited"
            with suppress(TransientError):  # the one that the database ended, if it is not the push
                transaction.run("MATCH (r:Run {id: $run}) SET r.guard = 'dead'", run=run).consume()
            transaction.close()
            assert writer.result() == "added"
        assert campaign.reader.topology(f"{run}@{step}") == topology
        campaign.tally.faults["deadlock, ended by the database", "any"] += 1
        campaign.tally.snapshots += 2


class Aside(Generic[T]):
    """Work in a thread of its own; what it raised is raised where its result is asked for."""

    def __init__(self, work: Callable[[], T], *, limit_s: float = 120) -> None:
        self._work = work
        self._ends = time.monotonic() + limit_s
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def succeeded(self) -> bool:
        """Whether it ended with a result."""
        return bool(self._answer)

    def wait(self, seconds: float) -> None:
        """Wait for its end, whatever comes of it, but no longer than that."""
        self._thread.join(timeout=seconds)

    def result(self) -> T:
        self.wait(max(0, self._ends - time.monotonic()))
        if self._error is not None:
            raise self._error
        assert self._answer, "it never ended"
        return self._answer[0]

    def _run(self) -> None:
        try:
            self._answer.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised by result
            self._error = error


_BLOCKED = "SHOW TRANSACTIONS YIELD status WHERE status STARTS WITH 'Blocked' RETURN status"


def table(tallies: list[Tally]) -> str:
    """The faults by kind, a column for each server, as Markdown."""
    kinds = sorted({kind for tally in tallies for kind in tally.faults})
    lines = [
        "| fault | while | " + " | ".join(f"Neo4j {tally.version}" for tally in tallies) + " |",
        "| --- | --- |" + " ---: |" * len(tallies),
    ]
    lines += [
        f"| {what} | {phase} | " + " | ".join(str(tally.faults[what, phase]) for tally in tallies) + " |"
        for what, phase in kinds
    ]
    for name, numbers in (
        ("**faults in all**", [tally.faults.total() for tally in tallies]),
        ("snapshots acknowledged", [tally.snapshots for tally in tallies]),
        ("times that all of the run was read, and was right", [tally.checks for tally in tallies]),
        ("seconds", [round(tally.seconds) for tally in tallies]),
    ):
        lines.append(f"| {name} | | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def document(text: str) -> str:
    """docs/reliability.md: what was done, on what, and the table."""
    return f"""# What a Neo4j server and its network may do to an archive

Faults on a real server, each at a random byte of what flows between the archive and the server, drawn from a seed.
After each of them a client that the faults do not reach reads the run: every acknowledged snapshot is there, its
topology equal to what was pushed, and what a reader asks at any step up to a layer's projected step is answered right.
After each kill that falls later than a run's first snapshot, before any writer is let in, and after every tenth look,
a client that remembers nothing does the same, and `verify` finds nothing in the whole archive. Pushing the same again
completes what was broken off. One wrong answer fails the run. Silence is 0.05 to 0.5 s.
Two writers on one run have a cut between them as well. Both servers are tried at the same time, on the same machine.

Made by `make soak` on
{datetime.now(UTC):%Y-%m-%d}: {platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.

{text}

A full disk, a read-only server, too little memory for a transaction and wrong credentials are each one clear error:
`tests/integration/test_neo4j_errors.py`.
"""
