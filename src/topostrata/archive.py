"""The archive as one object: it opens the store and hands each question to the room that answers it."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from topostrata.errors import InvalidInputError
from topostrata.refs import Ref
from topostrata.runs import (
    Change,
    Connections,
    LayerMetrics,
    Parent,
    Run,
    Snapshot,
    Status,
)
from topostrata.settings import Settings, load_settings
from topostrata.store.opening import open_store, prepare
from topostrata.store.past import Past
from topostrata.upkeep import Upkeep

if TYPE_CHECKING:
    from topostrata.frames import Table
    from topostrata.ingest.formats.reading import ReadOptions
    from topostrata.ingest.load import Outcome
    from topostrata.ingest.pushing import CheckedFiles, Pushed
    from topostrata.ingest.transfer import Exported, Moved
    from topostrata.projections import Projection
    from topostrata.runs import RunState, Unprojected
    from topostrata.store.bolt_gate import BoltAccess
    from topostrata.store.graph import GraphStore
    from topostrata.topology import Topology


_PASTS = 4  # moments whose later changes are remembered: of 60,000 some 50 MB


def _unheard(_done: int, _total: int) -> None:
    """Progress that nobody follows."""


class Archive(Upkeep):
    """Runs, their snapshots and all that can be asked of them. Use it as a context manager, or call ``close``.

    ``topostrata.open`` gives one. Threads may share it; a process that was forked opens its own. Where a snapshot is
    asked for, a ref as text (``"w0@5"``, ``"w0@last"``, ``"w0"``), a ``Ref``, a ``Snapshot`` or what ``recorded`` gives
    names it; the last two are not asked for again. Any method may raise ``StoreUnavailableError`` where the database
    does not answer.

    >>> archive.has_run("w0")
    True
    """

    def __init__(self, store: GraphStore, settings: Settings) -> None:
        super().__init__(store)
        self.settings = settings
        self._past_of = lru_cache(maxsize=_PASTS)(Past)
        prepare(store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database. An embedded engine that nobody uses stops after a while.

        >>> other = archive.reopened()
        >>> other.location == archive.location
        True
        """
        self._store.close()

    def reopened(self) -> Archive:
        """The same archive, remembering nothing: every mask is read and checked again. It lives as long as this one.

        >>> archive.reopened().topology("w0@5") == archive.topology("w0@5")
        True
        """
        return Archive(self._store, self.settings)

    def at(self, moment: int) -> Archive:
        """The archive as it was at an earlier moment, to be asked only; it lives as long as this one.

        A moment is the number of changes that had been acknowledged: ``moment`` gives that of now, ``changes`` tells
        what came when. The answers stay as they are, whatever is pushed, tagged, renamed or removed afterwards.
        Distances that it computes are not kept. What only the graph of now can answer raises ``InvalidInputError``
        (Cypher ``QueryRefusedError``), as does what would write, a moment to come, and one from which runs were purged.

        >>> before = archive.moment()
        >>> archive.create_run("x10")
        >>> archive.at(before).has_run("x10"), archive.at(archive.moment()).has_run("x10")
        (False, True)
        """
        from topostrata.store.pinned import PinnedStore

        return Archive(PinnedStore(self._store, moment, self._past_of), self.settings)

    def moment(self) -> int:
        """The moment of the last change, which ``at`` takes: how many were acknowledged until now.

        >>> archive.moment() == archive.changes()[-1].moment
        True
        """
        return self._runs.moment()

    def changes(self, since: int = 0, *, limit: int | None = None) -> list[Change]:
        """What was changed after a moment, in the order of acknowledgement; all of it from the first by default.

        What one transaction changed has one moment, and is given whole, if it goes beyond the ``limit`` too. What an
        archive held before it counted is not among them. Raises ``InvalidInputError`` for a moment below 0.

        >>> before = archive.moment()
        >>> archive.create_run("x11", tags=["new"])
        >>> [(change.moment - before, change.kind, change.ref) for change in archive.changes(before)]
        [(1, 'run', 'x11')]
        """
        return self._runs.changes(since, limit)

    @property
    def location(self) -> str:
        """Where the archive is: a directory, or the address of a server.

        >>> Path(archive.location).is_dir()
        True
        """
        return self._store.location

    # Writing

    def create_run(
        self,
        run: str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        status: Status = "open",
        created_at: datetime | None = None,
    ) -> None:
        """Make a run before its first snapshot, to say more of it than ``push`` does.

        ``name`` is the id by default, ``config`` anything that JSON can hold, ``created_at`` now by default. A parent
        is a snapshot that is in the archive, and how this run departed from it.

        Raises ``ConflictError`` where there is a run of that id (``update_run`` adds to one), ``LineageCycleError``
        where it would descend from itself, ``NotFoundError`` for a parent that is not there, ``InvalidRefError`` for an
        id and ``InvalidInputError`` for a tag, config or status that is none. Then nothing is written.

        >>> archive.create_run("x0", config={"lr": 0.1}, tags=["seed:3"], parents=[Parent("w0", 5, "fork")])
        >>> archive.run("x0").parents
        (Parent(run='w0', step=5, how='fork'),)
        """
        self._loader.create_run(
            run, name=name, config=config, tags=tags, parents=parents, status=status, created_at=created_at
        )

    def update_run(
        self,
        run: str,
        *,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        status: Status | None = None,
        name: str | None = None,
        without_tags: Iterable[str] = (),
        without_parents: Iterable[Ref] = (),
        expected: Run | None = None,
        dry_run: bool = False,
    ) -> bool:
        """Add tags and parents to a run or take them away, set its status and name; gives whether that changed it.

        ``expected`` is the run as the caller read it, where nobody else may have changed it since.
        Raises ``NotFoundError`` for a run or parent that is not there, ``ConflictError`` for a parent that it has by
        another ``how``, ``LineageCycleError`` where it would descend from itself, ``ChangedError`` where it is not the
        ``expected`` one. Then nothing is written, nor is it with ``dry_run``.

        >>> archive.create_run("x1")
        >>> archive.update_run("x1", tags=["kept"], status="finished"), archive.update_run("x1", tags=["kept"])
        (True, False)
        """
        return self._loader.update_run(
            run,
            tags=tags,
            parents=parents,
            status=status,
            name=name,
            without_tags=without_tags,
            without_parents=[(ref.run, ref.step) for ref in without_parents],
            expected=expected,
            dry_run=dry_run,
        )

    def push(
        self,
        run: str,
        step: int,
        topology: Topology,
        *,
        epoch: float | None = None,
        metrics: Mapping[str, float] | None = None,
        layer_metrics: LayerMetrics | None = None,
        recorded_at: datetime | None = None,
        projection: Projection = "all",
        connections: Connections = "now",
    ) -> Outcome:
        """Store one snapshot: ``"added"``, or ``"unchanged"`` where the same one was there.

        A run that is not there yet is made. It is on the disk when this returns. ``metrics`` are finite numbers, at
        most 64; new ones are added to a snapshot that is there. ``layer_metrics`` are such numbers of single layers, at
        most 64 for each. ``projection`` says which layers' connections are written into the graph for Cypher:
        ``"all"``, ``"none"``, a list of layers, or ``"last 50"`` for what lived at the newest 50 snapshots (a quarter
        more of them at most); the first snapshot of a run decides for all. To draw them is most of a push: with
        ``connections="later"`` it returns before, and they wait for ``project``, for a service on the archive, which
        draws them by itself, or for the next push of the run.

        Raises ``ConflictError`` for another topology or metric at a recorded step or for another wiring than the run
        has, ``StepOrderError`` for a step before the last one (fork the run instead), ``InvalidInputError`` for metrics
        that are none and another word for ``connections``, ``NotFoundError`` for layers that the topology has not. Then
        nothing is written.

        >>> import topostrata as ts
        >>> topology = ts.Topology.from_masks([[[1, 0], [1, 1]]])
        >>> archive.push("x2", 0, topology, metrics={"loss": 0.5}), archive.push("x2", 0, topology)
        ('added', 'unchanged')
        >>> archive.push("x2", 1, topology, layer_metrics={"l0": {"gradient_norm": 0.25}})
        'added'
        """
        return self._loader.push(
            run,
            step,
            topology,
            epoch=epoch,
            metrics=metrics,
            layer_metrics=layer_metrics,
            recorded_at=recorded_at,
            projection=projection,
            connections=connections,
        )

    def push_metrics(
        self,
        run: str,
        step: int,
        metrics: Mapping[str, float] | None = None,
        *,
        layer_metrics: LayerMetrics | None = None,
        epoch: float | None = None,
        recorded_at: datetime | None = None,
    ) -> Outcome:
        """Store numbers of a run at a step, whether it has a snapshot there or not: ``"added"`` or ``"unchanged"``.

        ``layer_metrics`` are those of layers and parameters by name; also biases and norms, which are no layers of a
        wiring, have names here. New ones are added to those that are there. Steps may come in any order. A run that is
        not there yet is made.

        Raises ``ConflictError`` for another value of a recorded metric, ``InvalidInputError`` for metrics that are none
        and where there are none. Then nothing is written.

        >>> of_layers = {"l0": {"flow_2": 0.75}, "l0.bias": {"flow_2": 0.1}}
        >>> archive.push_metrics("x7", 7, {"egf_2": 0.5}, layer_metrics=of_layers)
        'added'
        """
        return self._loader.push_metrics(
            run, step, metrics, layer_metrics=layer_metrics, epoch=epoch, recorded_at=recorded_at
        )

    def push_files(
        self,
        path: str | os.PathLike[str] | CheckedFiles,
        run: str,
        *,
        steps: Iterable[int] = (),
        parents: Iterable[Parent] = (),
        tags: Iterable[str] = (),
        projection: Projection = "all",
        connections: Connections = "now",
        progress: Callable[[int, int], None] = _unheard,
        **options: Unpack[ReadOptions],
    ) -> Pushed:
        """Store the snapshots of a file or directory in a run, with its tags and parents.

        All of them are read once before anything is written, so that a bad file half-way leaves nothing half pushed;
        files that ``check_files`` has read are not read for that again. ``steps`` are those to push, all by default;
        for a single file its step. A new run knows its parents from the start; one that is there gains them once its
        snapshots fit. ``projection`` and ``connections`` are those of ``push``, ``options`` those of
        ``topostrata.read`` (``wiring``, ``layers``, ``orientation``, ...); ``progress`` is called with (done, total).

        Raises what ``read``, ``push`` and ``update_run`` raise, and ``NotFoundError`` for a layer to project that the
        files have not.

        >>> import numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/step_7.npz", l0=np.eye(3, dtype=bool))
        ...     pushed = archive.push_files(f"{folder}/step_7.npz", "x3", bias="none", tags=["from-file"])
        >>> pushed.snapshots
        (PushedSnapshot(step=7, outcome='added', nnz=3),)
        """
        from topostrata.ingest.pushing import CheckedFiles, check_files, push_files

        files = path
        if not isinstance(files, CheckedFiles):
            files = check_files(files, steps=steps, **options)
        return push_files(
            self,
            files,
            run,
            parents=parents,
            tags=tags,
            projection=projection,
            connections=connections,
            progress=progress,
        )

    def keep_measures(
        self,
        patterns: Iterable[Ref | Snapshot | str] | Ref | Snapshot | str,
        *,
        spectra: bool = True,
        progress: Callable[[int, int], None] = _unheard,
    ) -> list[Ref]:
        """Store the measures of snapshots as their metrics and those of their layers; gives those that have new ones.

        The numbers are those of ``measures``, ``explored`` among them, by the same names; those of parts as
        ``ramanujan_gap``. A metric that a snapshot has stays as it is. Raises what ``expand`` and ``push`` raise.

        >>> archive.keep_measures("w1@*", spectra=False)
        [Ref(run='w1', step=10), Ref(run='w1', step=20)]
        >>> archive.snapshot("w1@20").metrics["active_rate"], archive.snapshot("w1@20").layer_metrics["l1"]["fan_in_cv"]
        (1.0, 0.3333333333333333)
        """
        from topostrata.measures.panel import new_metrics

        refs = self.expand(patterns)
        changed = []
        for done, ref in enumerate(refs, start=1):
            (entry,) = self.recorded(ref)
            snapshot = entry.snapshot
            metrics, layer_metrics = new_metrics(self.measures(entry, spectra=spectra), snapshot)
            if metrics or layer_metrics:
                self.push(
                    snapshot.run, snapshot.step, self.topology(entry), metrics=metrics, layer_metrics=layer_metrics
                )
                changed.append(ref)
            progress(done, len(refs))
        return changed

    # Cypher

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Table:
        """The answer to a Cypher query that only reads; ``limit`` rows at most, within ``timeout_s`` seconds.

        docs/cypher.md says what stands in the graph. The defaults are the settings ``query_rows`` and
        ``query_timeout_s``. What is not projected is not seen: ``unprojected`` lists it. Two queries run at once in a
        process. It is asked once, even where it breaks the connection.

        Raises ``QueryRefusedError`` for a query that would write, ``InvalidQueryError`` for one that does not parse or
        lacks a parameter, ``LimitError`` for one that takes too long, whose answer is larger than 32 MiB or that broke
        the database, ``Cancelled`` once ``cancel`` is set.

        >>> archive.cypher("MATCH (s:Snapshot {run: $run}) RETURN s.step AS step ORDER BY step", {"run": "w0"}).rows
        [[0], [5], [10]]
        """
        limit = self.settings.query_rows if limit is None else limit
        timeout_s = self.settings.query_timeout_s if timeout_s is None else timeout_s
        if limit < 1 or not 0 < timeout_s < math.inf:
            raise InvalidInputError(f"cypher: expected limit and timeout above 0, found {limit} and {timeout_s}")
        return self._store.query(query, parameters or {}, limit=limit, timeout_s=timeout_s, cancel=cancel)

    def states(self) -> dict[str, RunState]:
        """How far each run has come, by id: cheap, for those who look again and again.

        >>> archive.states()["w0"].last_step
        10
        """
        return self._runs.states()

    def unprojected(self) -> list[Unprojected]:
        """The layers whose connections are not in the graph at all steps of their run: what Cypher does not see.

        >>> import topostrata as ts
        >>> archive.push("x4", 0, ts.Topology.from_masks([[[1, 0], [1, 1]]]), projection="none")
        'added'
        >>> [(layer.run, layer.layer, layer.projection) for layer in archive.unprojected()]
        [('x4', 'l0', 'off')]
        """
        return self._runs.unprojected()

    def py2neo(self) -> Any:
        """A connected ``py2neo.Graph`` for scripts that want one; needs ``[py2neo]``, which is at its end of life.

        What it asks is neither checked nor bounded as ``cypher`` is; see ``topostrata.store.py2neo_graph``. Raises
        ``MissingExtraError`` where py2neo is not installed.
        """
        from topostrata.store.py2neo_graph import py2neo_graph

        return py2neo_graph(self._store)

    def bolt(self) -> AbstractContextManager[BoltAccess]:
        """Address and account by which any Bolt client reads an embedded archive, for as long as the context lasts.

        The password is made for this once, the account can only read, and both are gone at the end, with all
        connections. What is asked is neither checked nor bounded as ``cypher`` is, but by the engine's minute for a
        statement. Raises ``InvalidInputError`` on a server.

        >>> import neo4j
        >>> with archive.bolt() as to, neo4j.GraphDatabase.driver(to.uri, auth=(to.user, to.password)) as driver:
        ...     driver.execute_query("MATCH (r:Run {id: 'w0'}) RETURN r.last_step", database_=to.database).records
        [<Record r.last_step=10>]
        """
        from topostrata.store.bolt_gate import opened_gate

        return opened_gate(self._store)

    # Whole runs on the move

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        runs: Iterable[str] | str | None = None,
        progress: Callable[[int, int], None] = _unheard,
    ) -> Exported:
        """Write runs (all by default) and all that they descend from to one file (docs/export-file.md).

        The file stands under its name when everything in it is on the disk; a file of that name is replaced. Equal
        runs give equal bytes. Raises ``NotFoundError`` for a run that is not there, ``InvalidInputError`` where the
        file cannot be written.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = archive.export(f"{folder}/w1.zip", runs=["w1"])
        >>> exported.runs, exported.snapshots
        (('w0', 'w1'), 5)
        """
        from topostrata.ingest import transfer

        return transfer.export(self, Path(path), runs=runs, progress=progress)

    def import_(
        self,
        path: str | os.PathLike[str],
        *,
        runs: Iterable[str] | str | None = None,
        progress: Callable[[int, int], None] = _unheard,
    ) -> Moved:
        """Bring runs of an exported file (all by default) into this archive. What is there already stays.

        A backup is such a file: its runs come without what is kept beside them, removed ones where they are named or
        others descend from them. The whole file is checked before a word is written. One that was interrupted goes on
        where it was when started again. Raises ``InvalidInputError`` for a file that is damaged, ``ConflictError``
        where the archive holds another run or snapshot of the same name.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = archive.export(f"{folder}/w1.zip", runs=["w1"])
        ...     moved = archive.import_(f"{folder}/w1.zip")
        >>> moved.snapshots, moved.added
        (5, 0)
        """
        from topostrata.ingest import transfer

        return transfer.import_(Path(path), self, runs=runs, progress=progress)

    def restore(self, path: str | os.PathLike[str], *, progress: Callable[[int, int], None] = _unheard) -> Moved:
        """Make this archive, which has no other runs, what ``backup`` wrote; interrupted, it goes on when begun again.

        The whole file is checked before a word is written, and at the end all of it is read back and compared. Raises
        ``ConflictError`` where there are other runs, ``InvalidInputError`` for a file that is damaged or no backup.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     backed_up = archive.backup(f"{folder}/all.zip")
        ...     moved = archive.restore(f"{folder}/all.zip")
        >>> moved.snapshots == backed_up.snapshots, moved.added
        (True, 0)
        """
        from topostrata.ingest.backup import restore

        return restore(Path(path), self._store, self, progress=progress)

    def copy_to(
        self,
        target: Archive,
        *,
        runs: Iterable[str] | str | None = None,
        progress: Callable[[int, int], None] = _unheard,
    ) -> Moved:
        """Bring runs (all by default) and all that they descend from into another archive; see ``import_``.

        Raises ``ConflictError`` where the other archive holds another run or snapshot of the same name,
        ``InvalidInputError`` where it is this one.

        >>> archive.copy_to(archive)
        Traceback (most recent call last):
        ...
        topostrata.errors.InvalidInputError: ...
        """
        from topostrata.ingest import transfer

        if target.location == self.location:
            raise InvalidInputError(f"expected two archives, found {self.location} twice")
        return transfer.copy(self, target, runs=runs, progress=progress)


def open_archive(
    store: str | os.PathLike[str] | None = None, *, create: bool = True, settings: Settings | None = None
) -> Archive:
    """Open the archive in a directory or on a Neo4j server (``neo4j://``, ``bolt://``, ``neo4j+s://``).

    ``store`` defaults to ``TOPOSTRATA_STORE``, then to ``.topostrata`` in the working directory. ``create=False``
    refuses a directory that holds no archive. ``settings`` are those of the environment by default.

    Raises ``NotFoundError`` where there is no archive and none may be made, ``StoreUnavailableError``, ``EngineError``,
    ``MissingExtraError`` and ``UnsupportedFormatError`` where it cannot be opened here.

    >>> import topostrata as ts
    >>> with ts.open(archive.location, create=False) as same:
    ...     same.has_run("w0")
    True
    """
    settings = settings or load_settings()
    opened = open_store(os.fspath(store) if store is not None else settings.store, settings, create=create)
    try:
        return Archive(opened, settings)
    except BaseException:
        opened.close()
        raise
