"""The thread that takes copies out of a bounded queue, writes them to the spool and has them sent; and how it fails.

Nothing here raises into training and nothing waits for a disk, an archive or a network. What goes wrong is said once
for each kind, then counted. The sender is a process of its own, so that training shares no interpreter with a database
driver, and what a job that is killed has spooled is still sent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from topostrata.errors import InvalidTopologyError, LimitError, TopostrataError
from topostrata.ingest.hook import sources, traced, turnover
from topostrata.ingest.hook.spool import RunHead, SpooledMetrics, SpooledSnapshot, SpoolWriter
from topostrata.ingest.hook.traced import TracedWiring
from topostrata.ingest.hook.turnover import Update
from topostrata.runs import LayerMetrics, Status
from topostrata.topology import Topology, Wiring

logger = logging.getLogger("topostrata.hook")

_NICE = 10  # the steps by which the thread that records stands back
_TICK = 0.5  # seconds between two looks at what the sender says
_NUMBER_BYTES = 200  # a number with its name, roughly
_MOST_SENDERS = 4  # of a spool, one after the other where something kills them
_AWAITED = (
    "snapshots wait in memory for the wiring, which the model's next forward pass gives, and none was seen yet: give "
    "run.watch(...) what the training calls, or init(wiring=...); a function that is compiled as a whole shows none"
)


@dataclass(frozen=True, slots=True)
class Logged:
    """One call of ``log``: what was copied in it. Without a reading it is numbers of the run at a step."""

    step: int
    reading: sources.Reading | Topology | None
    recorded_at: datetime
    epoch: float | None
    metrics: Mapping[str, float]
    number: int = 0  # how many calls there were
    update: Update | None = None
    layer_metrics: LayerMetrics = field(default_factory=dict)
    nbytes: int = field(init=False)  # the memory that it takes in the queue

    def __post_init__(self) -> None:
        size = _NUMBER_BYTES * (len(self.metrics) + sum(map(len, self.layer_metrics.values())))
        size += 0 if self.update is None else self.update.nbytes
        if isinstance(self.reading, Topology):
            size += sum(int(layer.mask.cells.nbytes) for layer in self.reading)
        elif self.reading is not None:
            size += self.reading.nbytes
        object.__setattr__(self, "nbytes", size)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a run's snapshots go: the spool, and the sender's environment where there is to be a sender."""

    head: RunHead
    spool: Path
    spool_bytes: int
    queue_bytes: int
    wiring: Wiring | None = None
    sender: Mapping[str, str] | None = None


class Troubles:
    """What went wrong, by kind: said once, then counted."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._lock = threading.RLock()  # a signal's handler may log in the midst of this
        self.counts: Counter[str] = Counter()

    def say(self, kind: str, message: str) -> None:
        """Say it where it is the first of its kind."""
        with self._lock:
            self.counts[kind] += 1
            first = self.counts[kind] == 1
        if first:
            self.tell(message)

    def tell(self, message: str, level: int = logging.WARNING) -> None:
        """Say it without counting it."""
        with contextlib.suppress(Exception):  # of a handler that the training set up
            logger.log(level, "run %s: %s", self._run, message)


def _stand_back() -> None:
    """Let this thread, and the sender that it starts, have what the training leaves of the processors.

    A library that computes on all cores waits for the slowest of its threads: beside one that takes a core it loses
    more than that takes.
    """
    if sys.platform == "linux":  # where threads have priorities of their own
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _NICE))


class Recorder:
    """Writes one run to its spool, behind the training loop's back."""

    def __init__(self, plan: Plan, troubles: Troubles) -> None:
        self._plan, self._troubles = plan, troubles
        self._queue: deque[Logged] = deque()
        self._saving: tuple[Logged, ...] = ()  # what the thread has taken out of it
        # Ctrl-C may come at any moment of the caller's thread: what the lock guards is changed by one call, and the
        # lock itself is taken, since the ``__enter__`` of a condition is Python, within which it would stay taken.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._wiring = plan.wiring
        self._traced: TracedWiring | None = None
        self._awaited = False  # a wiring, which the model's next forward pass gives
        self._found: TracedWiring | None = None
        self._settled = False  # whether that is all that can be found
        self._waiting: list[Logged] = []  # for it, in the order of their steps
        self._refusal: InvalidTopologyError | None = None
        self._previous: tuple[int, Topology] | None = None  # the number of its call, and the last snapshot
        self._writer: SpoolWriter | None = None
        self._is_wired = False  # whether the wiring is written there
        self._sender: subprocess.Popen[bytes] | None = None
        self._senders = 0
        self._heard = b""
        self._ending: Status | None = None
        self._released = threading.Event()
        self._written = threading.Event()
        self.saved = 0
        self.last_saved: int | None = None
        self._thread = threading.Thread(target=self._work, name="topostrata-recorder", daemon=True)
        self._thread.start()

    @property
    def spool(self) -> Path | None:
        """The spool's file, once there is one."""
        writer = self._writer
        return None if writer is None else writer.path

    def is_of(self, plan: Plan) -> bool:
        """Whether it writes the same run, for the same store into the same directory."""
        ours, theirs = self._plan.head, plan.head
        return (ours.run, ours.store, self._plan.spool) == (theirs.run, theirs.store, plan.spool)

    def put(self, logged: Logged) -> None:
        """Queue a copy. Where the disk is so slow that the queue is full it is not recorded: training does not wait."""
        with self._lock:
            there = [*self._queue, *self._waiting, *self._saving]
            if not there or sum(other.nbytes for other in there) + logged.nbytes <= self._plan.queue_bytes:
                self._queue.append(logged)
                self._changed.notify_all()
                return
            reason = "those that wait for the wiring fill the memory" if self._waiting else "the disk is too slow"
        self._troubles.say("queue-full", f"step {logged.step} is not recorded: {reason} for this pace")

    def await_wiring(self) -> bool:
        """Keep what is logged from now on until ``wire`` is called; gives whether a wiring is needed at all."""
        with self._lock:
            self._awaited = self._awaited or (self._wiring is None and self._traced is None)
            return self._awaited

    def wire(self, found: TracedWiring | None) -> None:
        """The wiring that was waited for; None where it will not come."""
        with self._lock:
            self._found, self._settled = found, True
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until what was logged is on the disk; gives whether it is.

        What waits for a wiring is not waited for: the forward pass that gives it comes from the thread that would wait.
        """
        end = time.monotonic() + timeout
        with self._lock:
            return (
                self._changed.wait_for(
                    lambda: not (self._queue or self._saving or self._settled), max(0.0, end - time.monotonic())
                )
                and not self._waiting
            )

    def end(self, status: Status) -> None:
        """Nothing more will be logged: what is queued is written, then how the run ended. The first word counts."""
        with self._lock:
            self._ending = self._ending or status
            self._changed.notify_all()

    def finish(self, status: Status, timeout: float) -> None:
        """Write what is queued, let the sender send, for so many seconds; then let go of both."""
        end = time.monotonic() + timeout
        self.end(status)
        self._written.wait(timeout)
        sender = self._sender
        if sender is not None:
            try:
                sender.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._troubles.say("not-sent", "the archive did not take everything in time")
        self._released.set()
        self._thread.join(max(0.1, end - time.monotonic()))
        spool = self.spool
        if spool is not None and spool.exists():
            level = logging.INFO if self._plan.sender is None else logging.WARNING  # offline it is what was wanted
            self._troubles.tell(f"snapshots wait in {spool}; send them with: {self._command()}", level)

    def abandon(self) -> None:
        """In a process that was forked: this is its parent's business, as is the lock on the spool."""
        if self._writer is not None:
            self._writer.close()

    def _command(self) -> str:
        store = self._plan.head.store
        destination = "" if store is None else f" --store {shlex.quote(store)}"
        return f"topostrata sync {shlex.quote(str(self.spool))}{destination}"

    def _work(self) -> None:
        _stand_back()
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._queue or self._settled or self._ending, _TICK)
                logged = self._queue.popleft() if self._queue else None
                self._saving = () if logged is None else (logged,)
                ending, settled = self._ending, self._settled
            # What was logged before the wiring came, and is seen together with it only now, waited for it all the same.
            waits = logged is not None and self._keep_waiting(logged)
            if settled or (ending is not None and logged is None):
                self._settle()
            if logged is not None and not waits:
                self._save_or_say(logged)
            with self._lock:
                self._saving = ()
                self._changed.notify_all()
            self._guarded(self._listen, "the sender cannot be heard")
            if logged is None and ending is not None:
                break
        writer = self._writer
        if writer is not None:
            self._guarded(lambda: writer.end(ending), "the end of the run is not recorded")
        self._written.set()
        while not self._released.wait(_TICK):
            self._guarded(self._listen, "the sender cannot be heard")
        self._guarded(self._listen, "the sender cannot be heard")
        if self._sender is not None and self._sender.stdout is not None:
            self._sender.stdout.close()
        if writer is not None:
            writer.close()

    def _keep_waiting(self, logged: Logged) -> bool:
        """Whether it waits for its wiring."""
        if not self._awaited or not isinstance(logged.reading, sources.Reading):
            return False
        with self._lock:
            self._waiting.append(logged)
        if len(self._waiting) > 1:
            self._troubles.say("wiring-awaited", _AWAITED)
        return True

    def _settle(self) -> None:
        """Save what waited, with the wiring that was found or that of the run's earlier job, or as far as it goes.

        Where the two differ nothing is saved from now on.
        """
        if self._awaited and self._wiring is None:
            self._guarded(
                lambda: self._take_wiring(self._found), "the traced wiring is not remembered for the next job"
            )
        with self._lock:
            self._found, self._settled, self._awaited = None, False, False
            waited, self._waiting = self._waiting, []
            self._saving = (*self._saving, *waited)
        if waited and self._wiring is None:
            self._troubles.say("no-wiring", f"no forward pass gave the wiring for which {len(waited)} snapshots waited")
        for logged in waited:
            self._save_or_say(logged)

    def _take_wiring(self, found: TracedWiring | None) -> None:
        plan = self._plan
        before = traced.load(plan.spool, plan.head)
        self._traced = found or before
        self._wiring = None if self._traced is None else self._traced.wiring
        if found is not None and before is not None:
            try:
                traced.check_same(plan.spool, plan.head.run, before.wiring, found.wiring)
            except InvalidTopologyError as error:
                self._refusal = error
        elif found is not None:
            traced.save(plan.spool, plan.head, found)

    def _save_or_say(self, logged: Logged) -> None:
        self._guarded(lambda: self._save(logged), f"step {logged.step} is not recorded")

    def _save(self, logged: Logged) -> None:
        record = self._record(logged)
        for _ in range(2):
            if self._writer is None:
                self._open(record.topology.wiring if isinstance(record, SpooledSnapshot) else None)
            assert self._writer is not None  # noqa: S101 - opened or raised
            if isinstance(record, SpooledMetrics):
                self._writer.metrics(record)
            else:
                if not self._is_wired:  # it began with numbers alone
                    self._write_wiring(self._writer, record.topology.wiring)
                self._writer.snapshot(record)
            if self._writer.path.exists():
                if isinstance(record, SpooledSnapshot):
                    self.saved, self.last_saved = self.saved + 1, logged.step
                return
            # By a sender on a node that does not see the lock, or by hand: no disk has what is written from now on.
            self._troubles.say("spool-deleted", f"somebody deleted {self._writer.path}; another is begun")
            self._writer.close()
            self._writer, self._is_wired = None, False

    def _record(self, logged: Logged) -> SpooledSnapshot | SpooledMetrics:
        reading = logged.reading
        if reading is None:
            return SpooledMetrics(logged.step, logged.recorded_at, logged.epoch, logged.metrics, logged.layer_metrics)
        if self._refusal is not None:
            raise self._refusal
        if isinstance(reading, Topology):
            topology = reading
        else:
            topology = sources.assemble(reading, self._wiring, self._traced.left_out if self._traced else ())
        if self._wiring is not None and topology.wiring != self._wiring:
            raise InvalidTopologyError(
                "a run's layers never change: expected those of its first snapshot, found others",
                hint="start another run with this one as its parent",
            )
        of_layers = self._turnover(logged, topology)
        return SpooledSnapshot(logged.step, topology, logged.recorded_at, logged.epoch, logged.metrics, of_layers)

    def _turnover(self, logged: Logged, topology: Topology) -> LayerMetrics:
        """What the update did to each layer; nothing where nobody says, or where what is said cannot be."""
        follows = self._previous is not None and logged.number == self._previous[0] + 1
        previous = self._previous[1] if self._previous is not None and follows else None
        self._previous = (logged.number, topology)
        if logged.update is None:
            return {}
        try:
            return turnover.of_layers(logged.update, topology, previous)
        except Exception as error:  # noqa: BLE001 - the masks are recorded all the same
            self._troubles.say("turnover", f"step {logged.step} is recorded without its turnover: {error}")
            return {}

    def _open(self, wiring: Wiring | None) -> None:
        plan = self._plan
        writer = SpoolWriter(plan.spool, plan.head, most_bytes=plan.spool_bytes)
        try:
            if wiring is not None:
                self._write_wiring(writer, wiring)
        except BaseException:
            writer.close()
            writer.path.unlink(missing_ok=True)
            raise
        self._writer, self._senders = writer, 0
        if plan.sender is not None:
            self._guarded(lambda: self._start_sender(writer.path, plan.sender or {}), "the sender cannot be started")

    def _write_wiring(self, writer: SpoolWriter, wiring: Wiring) -> None:
        writer.wiring(wiring)
        self._wiring, self._is_wired = wiring, True

    def _start_sender(self, spool: Path, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-P", "-m", "topostrata.service.cli.main", "sync", str(spool), "--watch", "--json"]
        if self._plan.head.store is not None:
            command += ["--store", self._plan.head.store]
        self._sender = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C is for the training; the sender ends when the spool is let go of
        )
        assert self._sender.stdout is not None  # noqa: S101 - a pipe
        os.set_blocking(self._sender.stdout.fileno(), False)
        self._senders, self._heard = self._senders + 1, b""
        # It outlives ``finish`` where the archive is away; who does not wait for it leaves a zombie for the job's life.
        threading.Thread(target=self._sender.wait, name="topostrata-sender", daemon=True).start()

    def _listen(self) -> None:
        """What the sender has to say, a line of JSON each; and whether it is still there."""
        if self._sender is None or self._sender.stdout is None or self._sender.stdout.closed:
            return
        status = self._sender.returncode
        while data := self._sender.stdout.read(65536):
            self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event.get("kind") != "sent":
                message = str(event["message"]).removeprefix(f"run {self._plan.head.run}: ")
                self._troubles.say(str(event["kind"]), message)
        if status is not None and self._ending is None:
            self._replace_sender(status)

    def _replace_sender(self, status: int) -> None:
        """It ended before the run: start another where it was killed, and say so where that does not help."""
        assert self._sender is not None  # noqa: S101 - it ended
        assert self._sender.stdout is not None  # noqa: S101 - a pipe
        assert self._writer is not None  # noqa: S101 - a sender has a spool
        self._sender.stdout.close()
        again = status < 0 and self._senders < _MOST_SENDERS
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        then = "another is started" if again else f"snapshots wait in the spool; send them with: {self._command()}"
        if again:
            self._start_sender(self._writer.path, self._plan.sender or {})
        self._troubles.say("sender-restarted" if again else "sender-ended", f"the sender {how}; {then}")

    def _guarded(self, work: Callable[[], object], consequence: str) -> None:
        try:
            work()
        except LimitError as error:
            self._troubles.say("spool-full", f"{consequence}: {error}")
        except TopostrataError as error:
            self._troubles.say(str(error.code), f"{consequence}: {error}")
        except OSError as error:
            self._troubles.say(f"os-{error.errno}", f"{consequence}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - never a harm to training
            self._troubles.say(type(error).__name__, f"{consequence}: {type(error).__name__}: {error}")
