"""Spools into the archive: while their jobs run, after these ended, and after they were killed.

A snapshot is sent as often as it takes: one that the archive has changes nothing. Parents come before children. What
the archive holds differently at a step starts a fork of the run, ``<run>-fork-<step>``, so that nothing is lost; the
same spool sent again ends up in the same fork.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from topostrata.errors import (
    ConflictError,
    CorruptError,
    InputError,
    InvalidInputError,
    LimitError,
    MissingExtraError,
    NotFoundError,
    SettingsError,
    StepOrderError,
    TopostrataError,
    UnsupportedFormatError,
)
from topostrata.ingest.hook import spool
from topostrata.ingest.hook.spool import Damage, Entry, RunEnd, RunHead, SpooledMetrics, SpooledSnapshot, SpoolReader
from topostrata.service.destinations import Destination, Outcome, Tell, numbered, open_destination
from topostrata.settings import Settings

_TICK = 0.5  # seconds between two looks at a spool that grows
_LONGEST_PAUSE = 30.0  # seconds between two tries of an archive that does not answer
# What no waiting mends.
_LASTING = {kind.code for kind in (SettingsError, MissingExtraError, UnsupportedFormatError, CorruptError)}


_Sent = SpooledSnapshot | SpooledMetrics  # what goes into the archive, one by one


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What a spool holds, and how far it is sent.

    ``waiting`` snapshots are not sent yet; ``refused`` ones the archive does not take, and ``damaged`` records cannot
    be read. ``live``: its job has it open. ``ended``: its job said that it is done. ``elsewhere`` is the machine of a
    job that did not say so, where that is not this one: whether it runs may not be seen from here.
    """

    path: Path
    run: str
    store: str
    live: bool
    ended: bool = False
    elsewhere: str | None = None
    added: int = 0
    unchanged: int = 0
    waiting: int = 0
    refused: int = 0
    damaged: int = 0
    error: str | None = None
    code: str | None = None

    @property
    def is_sent(self) -> bool:
        """Whether nothing of what is in the spool now is left to send, or was lost."""
        return self.error is None and not (self.waiting or self.refused or self.damaged)

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes into it."""
        return self.ended or not (self.live or self.elsewhere)


@dataclass(slots=True)
class Mark:
    """What is remembered beside a spool, so that it need not be sent again from its beginning.

    The last record that was sent is known by its ``end`` and its ``check``: the job may have taken it back when its
    disk failed, and written another in its place.
    """

    store: str = ""
    end: int = 0
    check: int = 0
    run: str = ""
    step: int = -1  # the last snapshot's
    measured: int = -1  # the last step with metrics


class _Spool:
    """A spool on its way: the record that is next, and what became of those before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = SpoolReader(path)
        self.mark = read_mark(path)
        self.passed = self.mark.end  # up to here it was sent before; 0 once that is passed
        self.head: RunHead | None = None
        self.ended = False
        self.ahead: tuple[int, str] | None = None  # where the snapshot ends that was sent before its turn; and its run
        self.added = self.unchanged = self.refused = self.damaged = 0
        self._next: Entry | None = None
        self._entries: Iterator[Entry] = iter(())

    def peek(self) -> Entry | None:
        """The next record; None where there is none yet."""
        if self._next is None:
            self._next = next(self._entries, None)
        if self._next is None:
            self._entries = self.reader.new()
            self._next = next(self._entries, None)
        return self._next

    def advance(self) -> None:
        """The next record is dealt with."""
        if self._next is not None and self._next.end >= self.passed:
            self.passed = 0
        self._next = None


class Sender:
    """Sends spools, each to the store that it names or to the one that is given. ``tell`` hears what is worth saying.

    Use it as a context manager.
    """

    def __init__(self, settings: Settings, *, store: str | None = None, tell: Tell) -> None:
        self._settings, self._store, self._tell = settings, store, tell
        self._destinations: dict[str, Destination] = {}
        self._spools: dict[Path, _Spool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for destination in self._destinations.values():
            destination.close()
        for opened in self._spools.values():
            opened.reader.close()

    def send(self, path: Path) -> list[SpoolState]:
        """Send what is in a spool, or in all of a directory, now: parents before children."""
        left = spools(path)
        states: dict[Path, SpoolState] = {}
        while left:
            orphans = []
            for file in left:
                states[file] = self._send(file)
                if states[file].code == NotFoundError.code:  # its parent may come with another spool
                    orphans.append(file)
            if len(orphans) == len(left):
                break
            left = orphans
        for state in states.values():
            if state.error is not None:
                self._tell(state.code or "failed", f"run {state.run}: {state.error}")
        return list(states.values())

    def watch(self, path: Path, *, seen: Callable[[list[SpoolState]], None]) -> list[SpoolState]:
        """Send until nothing more can come: a spool until its job has let go of it, a directory for ever."""
        single, pause = not path.is_dir(), _TICK
        while True:
            states = self.send(path)
            seen(states)
            if single and all(
                (state.is_over and not (state.live and state.error)) or state.code in _LASTING for state in states
            ):
                return states
            failed = any(state.error is not None for state in states)
            pause = min(pause * 2, _LONGEST_PAUSE) if failed else _TICK
            end = time.monotonic() + pause
            live = [state.path for state in states if state.live]
            while time.monotonic() < end and all(is_live(file) for file in live):
                time.sleep(_TICK)

    def _send(self, path: Path) -> SpoolState:
        live = is_live(path)  # asked before the last look, so that nothing comes after it
        state = SpoolState(path, spool.run_of(path), self._store or "", live)
        opened: _Spool | None = None
        try:
            opened = self._spools.get(path) or self._spools.setdefault(path, _Spool(path))
            destination = self._deliver(opened, live=live)
        except FileNotFoundError:  # another sender was faster, and everything in it is sent
            return state
        except (TopostrataError, OSError) as error:
            reason = str(error) if isinstance(error, TopostrataError) else f"{path}: {error.strerror or error}"
            code = str(error.code) if isinstance(error, TopostrataError) else f"os-{error.errno}"
            state = replace(state, error=reason, code=code, waiting=0 if opened is None else _waiting(opened))
        else:
            waiting = 0 if opened.peek() is None else _waiting(opened)
            state = replace(state, store=destination.location if destination is not None else "", waiting=waiting)
        if opened is not None:
            head = opened.head
            state = replace(
                state,
                run=opened.mark.run or (state.run if head is None else head.run),
                ended=opened.ended,
                elsewhere=_elsewhere(head, live=live, ended=opened.ended),
                added=opened.added,
                unchanged=opened.unchanged,
                refused=opened.refused,
                damaged=opened.damaged,
            )
            if state.is_over and state.is_sent:
                self._forget(opened)
            elif state.elsewhere and state.is_sent:
                self._tell("elsewhere", f"{opened.path}: {_kept(state)}")
        return state

    def _deliver(self, opened: _Spool, *, live: bool) -> Destination | None:
        """Send all that is whole. Raises at what may go better later; the record stays the next."""
        destination: Destination | None = None
        while (entry := opened.peek()) is not None:
            value = entry.value
            if isinstance(value, RunHead):
                opened.head = value
                destination = self._begin(opened, value, entry)
            destination = destination or self._destination(self._store_of(opened))
            if isinstance(value, _Sent) and entry.end > opened.passed:
                if isinstance(value, SpooledMetrics) and self._is_undecided(opened, destination, value, live=live):
                    break
                if (entry.end, opened.mark.run) != opened.ahead:
                    self._deliver_record(opened, destination, value)
                opened.mark.end, opened.mark.check = entry.end, entry.check
                if isinstance(value, SpooledSnapshot):
                    opened.mark.step = value.step
                else:
                    opened.mark.measured = value.step
                if not opened.refused:  # what was refused is offered again the next time, and all after it
                    write_mark(opened.path, opened.mark)
            elif isinstance(value, RunEnd):
                opened.ended = True
                destination.end(opened.mark.run, value.status)
            elif isinstance(value, Damage):
                opened.damaged += 1
                others = "nothing after it can be" if value.rest else "all other whole records are"
                self._tell(
                    "damaged",
                    f"{opened.path}: {value.message}; {others} sent. `topostrata spool show` lists its records, "
                    f"`topostrata spool clean --all` deletes it",
                )
            opened.advance()
        return destination or (self._destination(self._store_of(opened)) if opened.head else None)

    def _begin(self, opened: _Spool, head: RunHead, entry: Entry) -> Destination:
        destination = self._destination(self._store_of(opened))
        mark = opened.mark
        if mark.store == destination.location and (mark.step < 0 or destination.has(mark.run, mark.step)):
            destination.begin(head, self._tell)
            if mark.step < 0:  # whether metrics are still there is not asked: they are sent again
                mark.end, mark.check, mark.measured, opened.passed = entry.end, entry.check, -1, 0
            return destination
        opened.mark = Mark(destination.location, entry.end, entry.check, destination.begin(head, self._tell))
        opened.passed = 0
        return destination

    def _is_undecided(self, opened: _Spool, destination: Destination, metrics: SpooledMetrics, *, live: bool) -> bool:
        """Whether numbers must wait for the job's first snapshot, which tells if the job went back and begins a fork.

        At a step of which the archive has no numbers, numbers alone do not tell that. The snapshot is sent before them.
        """
        mark = opened.mark
        last = destination.last_step(mark.run) if mark.step < 0 and opened.ahead is None else None
        if last is None or metrics.step > last:
            return False
        entries = (entry for entry in spool.read(opened.path) if isinstance(entry.value, SpooledSnapshot | RunEnd))
        first = next(entries, None)
        if first is not None and isinstance(first.value, SpooledSnapshot):
            self._deliver_record(opened, destination, first.value, since=metrics.step)
            opened.ahead = first.end, mark.run
        return first is None and live

    def _deliver_record(
        self, opened: _Spool, destination: Destination, record: _Sent, *, since: int | None = None
    ) -> None:
        mark = opened.mark
        try:
            outcome = self._pushed(opened, destination, record, record.step if since is None else since)
        except SettingsError:  # nothing is wrong with what is sent
            raise
        except (ConflictError, InputError, LimitError) as error:
            opened.refused += 1
            self._tell(
                "refused",
                f"{mark.run}@{record.step}: the archive does not take it: {error}. It stays in the spool: "
                f"`topostrata spool show {opened.path}`",
            )
            return
        opened.added += outcome == "added"
        opened.unchanged += outcome == "unchanged"

    def _pushed(self, opened: _Spool, destination: Destination, record: _Sent, since: int) -> Outcome:
        """Push into the run; where that holds something else at this step or a later one, into a fork."""
        mark, head = opened.mark, opened.head
        push = destination.push if isinstance(record, SpooledSnapshot) else destination.push_metrics
        last = mark.step if isinstance(record, SpooledSnapshot) else mark.measured
        try:
            return push(mark.run, record)  # type: ignore[arg-type]
        except ConflictError as error:
            # The same step twice from one job is no return to an earlier one.
            if head is None or record.step == last:
                raise
            reason = f"goes back to step {record.step}" if isinstance(error, StepOrderError) else error.message
        for fork in numbered(mark.run, f"-fork-{since}"):
            destination.begin_fork(fork, mark.run, since, head)
            with contextlib.suppress(ConflictError):
                outcome = push(fork, record)  # type: ignore[arg-type]
                from_there = f"from step {since} on it is {fork}; `topostrata lineage {mark.run}` shows both"
                self._tell("forked", f"run {mark.run}: {reason}; {from_there}")
                mark.run = fork
                return outcome
        raise ConflictError(f"run {mark.run!r}: expected an id for a fork at step {record.step}, found none free")

    def _store_of(self, opened: _Spool) -> str:
        return self._store or (opened.head.store if opened.head else None) or self._settings.store

    def _destination(self, store: str) -> Destination:
        if store not in self._destinations:
            self._destinations[store] = open_destination(store, self._settings)
        return self._destinations[store]

    def _forget(self, opened: _Spool) -> None:
        """Everything in it is in the archive."""
        opened.reader.close()
        self._spools.pop(opened.path, None)
        remove(opened.path)


def spools(path: Path) -> list[Path]:
    """The spool, or those of a directory in the order in which they were begun. Raises ``InvalidInputError``."""
    if path.is_dir():
        return sorted(path.glob(f"*{spool.SUFFIX}"), key=_begun)
    if not path.exists():
        raise InvalidInputError(
            f"{path}: expected a spool or a directory of spools, found nothing",
            hint="training jobs leave it in their working directory: .topostrata-spool",
        )
    return [path]


def inspect(path: Path) -> SpoolState:
    """What a spool holds, read through; ``waiting`` is what no archive has, as far as is known."""
    state = SpoolState(path, spool.run_of(path), "", is_live(path))
    mark = read_mark(path)
    try:
        for entry in spool.read(path):
            value = entry.value
            if isinstance(value, RunHead):
                elsewhere = _elsewhere(value, live=state.live, ended=False)
                state = replace(state, run=mark.run or value.run, store=value.store or "", elsewhere=elsewhere)
            elif isinstance(value, _Sent):
                state = replace(state, waiting=state.waiting + (entry.end > mark.end))
                state = replace(state, unchanged=state.unchanged + (entry.end <= mark.end))
            elif isinstance(value, RunEnd):
                state = replace(state, ended=True, elsewhere=None)
            elif isinstance(value, Damage):
                state = replace(state, damaged=state.damaged + 1, error=value.message, code=str(CorruptError.code))
    except CorruptError as error:
        state = replace(state, damaged=1, error=error.message, code=str(error.code))
    except FileNotFoundError:  # another sender was faster, and everything in it is sent
        pass
    except OSError as error:
        state = replace(state, error=f"{path}: {error.strerror or error}", code=f"os-{error.errno}")
    return state


def remove(path: Path) -> None:
    """Delete a spool and what is remembered beside it, drafts of a sender that was killed too."""
    for beside in path.parent.glob(f"{glob.escape(path.name)}.*"):
        beside.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def is_live(path: Path) -> bool:
    """Whether a job has it open; one that is gone is not."""
    try:
        return spool.is_live(path)
    except OSError:
        return False


def read_mark(path: Path) -> Mark:
    """How far a spool is sent; from its beginning where that is not known, or of a record that is there no more."""
    try:
        claim = json.loads(_mark_path(path).read_text(encoding="utf-8"))
        numbers = int(claim["end"]), int(claim["check"])
        if numbers in {(record.end, record.check) for record in spool.outline(path)}:
            steps = int(claim["step"]), int(claim.get("measured", -1))
            return Mark(str(claim["store"]), *numbers, str(claim["run"]), *steps)
    except (OSError, ValueError, TypeError, KeyError, TopostrataError):
        pass
    return Mark()


def write_mark(path: Path, mark: Mark) -> None:
    """Remember it, where the directory can be written."""
    draft = _mark_path(path).with_suffix(f".{os.getpid()}")  # two senders may be at it
    with contextlib.suppress(OSError):
        draft.write_text(json.dumps(asdict(mark)), encoding="utf-8")
        draft.replace(_mark_path(path))


def _mark_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sent")


def _waiting(opened: _Spool) -> int:
    """What is still to be sent, by the heads of its records: the archive may be away for days."""
    with contextlib.suppress(TopostrataError, OSError):
        records = spool.outline(opened.path)
        return sum(record.kind in {"snapshot", "metrics"} and record.end > opened.mark.end for record in records)
    return 0


def _elsewhere(head: RunHead | None, *, live: bool, ended: bool) -> str | None:
    """The machine of a job that may still write, unseen."""
    node = None if head is None else head.node
    return node.host if node is not None and node.is_elsewhere and not (live or ended) else None


def _kept(state: SpoolState) -> str:
    return (
        f"all of it is sent, and it stays: its job on {state.elsewhere} did not say that it is done, and the file "
        "system may not show here whether it runs; `topostrata spool clean --all` deletes it"
    )


def _begun(path: Path) -> tuple[str, str]:
    """When the run of a spool began, as far as it tells."""
    with contextlib.suppress(TopostrataError, OSError):
        for entry in spool.read(path):
            if isinstance(entry.value, RunHead):
                return entry.value.created_at.isoformat(), path.name
    return "", path.name
