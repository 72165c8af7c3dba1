"""Where spooled snapshots go: an archive that is opened here, or a service that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from topostrata.archive import Archive, open_archive
from topostrata.errors import ConflictError, NotFoundError
from topostrata.ingest.hook.spool import RunHead, SpooledMetrics, SpooledSnapshot
from topostrata.locations import is_service
from topostrata.projections import projection_in
from topostrata.refs import Ref
from topostrata.runs import Parent, Status
from topostrata.service.client import Client
from topostrata.settings import Settings

Outcome = Literal["added", "unchanged"]
Tell = Callable[[str, str], None]  # kind, message

_TIMEOUT_S = 30.0
_MOST_NAMES = 1000
_LONGEST_ID = 128  # characters


def numbered(run: str, suffix: str = "") -> Iterator[str]:
    """Ids for a run that cannot have its own: ``run``, ``run-2``, ``run-3``, ..., each with the suffix before it."""
    for k in range(1, _MOST_NAMES):
        end = suffix + (f"-{k}" if k > 1 else "")
        yield run[: _LONGEST_ID - len(end)] + end


def open_destination(store: str, settings: Settings) -> Destination:
    """The destination of that name: the URL of a service, else what ``topostrata.open`` takes."""
    if is_service(store):
        # A sender tries again by itself, and keeps what is not sent: it need not wait.
        return Destination(Client(store, timeout_s=_TIMEOUT_S, retries=0, settings=settings), settings)
    return Destination(open_archive(store, settings=settings), settings)


class Destination:
    """An archive in a directory, on a Neo4j server, or behind a service."""

    def __init__(self, archive: Archive, settings: Settings) -> None:
        self._archive = archive
        self._reopened: set[str] = set()
        self._projection = projection_in(settings.projection)
        self.location = archive.location

    def begin(self, head: RunHead, tell: Tell) -> str:
        """Make the run, or go on with it."""
        for run in numbered(head.run) if head.resume == "never" else [head.run]:
            if not self._archive.has_run(run):
                if head.resume == "must":
                    tell("resume", f"run {run}: expected it in the archive (resume='must'), found none; it is made")
                if self._create(run, head, head.parents):
                    return run
            if head.resume != "never":
                self._archive.update_run(run, tags=head.tags, parents=head.parents)
                return run
            if self._archive.run(run).created_at == head.created_at:  # made from this spool
                return run
            tell("renamed", f"run {run}: the archive has one (resume='never'); the snapshots go to another")
        raise ConflictError(f"run {head.run!r}: expected an id that is free, found none")

    def has(self, run: str, step: int) -> bool:
        """Whether the archive holds this snapshot."""
        try:
            self._archive.snapshot(Ref(run, step))
        except NotFoundError:
            return False
        return True

    def last_step(self, run: str) -> int | None:
        """The step of the run's last snapshot, None where it has none."""
        return self._archive.run(run).last_step

    def push(self, run: str, snapshot: SpooledSnapshot) -> Outcome:
        """Store one snapshot."""
        outcome = self._archive.push(
            run,
            snapshot.step,
            snapshot.topology,
            epoch=snapshot.epoch,
            metrics=snapshot.metrics,
            layer_metrics=snapshot.layer_metrics,
            recorded_at=snapshot.recorded_at,
            projection=self._projection,
        )
        if outcome == "added" and run not in self._reopened:
            self._archive.update_run(run, status="open")
            self._reopened.add(run)
        return outcome

    def push_metrics(self, run: str, metrics: SpooledMetrics) -> Outcome:
        """Store numbers of the run at a step."""
        return self._archive.push_metrics(
            run,
            metrics.step,
            metrics.metrics,
            layer_metrics=metrics.layer_metrics,
            epoch=metrics.epoch,
            recorded_at=metrics.recorded_at,
        )

    def begin_fork(self, fork: str, run: str, step: int, head: RunHead) -> None:
        """Make the fork, descended from the last snapshot before that step."""
        before = self._before(run, step)
        parents = head.parents if before is None else (before,)
        if not self._archive.has_run(fork):
            self._create(fork, head, parents)

    def end(self, run: str, status: Status) -> None:
        """Set the run's status."""
        self._archive.update_run(run, status=status)

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()

    def _before(self, run: str, step: int) -> Parent | None:
        """The last snapshot before a step, of the run or of those that it descends from."""
        passed: set[str] = set()
        while run not in passed:
            passed.add(run)
            steps = [snapshot.step for snapshot in self._archive.snapshots(run) if snapshot.step < step]
            if steps:
                return Parent(run, steps[-1], "fork")
            run = next((parent.run for parent in self._archive.run(run).parents), run)
        return None

    def _create(self, run: str, head: RunHead, parents: Sequence[Parent]) -> bool:
        """Make a run; False where another sender has just made it."""
        try:
            self._archive.create_run(
                run, name=head.name, config=head.config, tags=head.tags, parents=parents, created_at=head.created_at
            )
        except ConflictError:
            if not self._archive.has_run(run):
                raise
            return False
        return True
