"""The archive behind a Topostrata service: an ``Archive`` whose every question is a request to REST."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from topostrata.errors import (
    ChangedError,
    ConflictError,
    CorruptError,
    InvalidInputError,
    InvalidRefError,
    NotFoundError,
    StoreUnavailableError,
)
from topostrata.refs import MAX_STEP, Ref, check_run_id, check_step
from topostrata.runs import (
    EVERY_RUN,
    ArchiveCounts,
    Change,
    Connections,
    LayerMetrics,
    Parent,
    Run,
    RunFilter,
    RunLayer,
    RunState,
    Snapshot,
    Status,
    StepMetrics,
    Unprojected,
    check_connections,
    check_epoch,
    check_layer_metrics,
    check_metrics,
    check_step_layer_metrics,
    check_tags,
)
from topostrata.service.answers import values
from topostrata.service.answers.values import value_of
from topostrata.service.remote import RemoteAnalysis, texts_of
from topostrata.service.remote_jobs import RemoteJobs
from topostrata.service.transport import JSON, RETRIES, Service, path_of
from topostrata.settings import Settings, load_settings
from topostrata.store.runs import MAX_PAGE, RecordedSnapshot

if TYPE_CHECKING:
    from topostrata.frames import Table
    from topostrata.ingest.lifecycle import Purged, RemovedRun
    from topostrata.ingest.load import Outcome
    from topostrata.projections import Projection
    from topostrata.topology import Topology, Wiring

    AnyRef = Ref | Snapshot | RecordedSnapshot | str
    Patterns = Iterable[Ref | Snapshot | str] | Ref | Snapshot | str

ANSWER_S = 600.0
_NPZ, _TOML = "application/x-npz", "application/toml"
_AT_ONCE = 100  # refs and globs in one URL

T = TypeVar("T")


def _at_home(method: str) -> Any:
    """What is asked of an archive only where it lies."""

    def refused(self: Client, *_: Any, **__: Any) -> Any:
        raise InvalidInputError(
            f"{method}: expected an archive that is opened itself, found one behind the service at {self.location}",
            hint="ask where the service runs: on its own store",
        )

    refused.__name__ = method
    return refused


class Client(RemoteAnalysis):
    """The archive behind the service at a URL, ``http://HOST:PORT`` or ``https://HOST/PATH``; ``topostrata.open`` too.

    It has the methods of ``Archive``, which give the same values and raise the same errors. ``token`` is one of the
    service's, by default that of ``TOPOSTRATA_API_TOKEN``. An answer may take ``timeout_s`` seconds to begin. What may
    be asked twice without harm is asked again up to ``retries`` times where the network or the service failed, after
    half a second, then twice as long each time, or when the service asks for it (``Retry-After``, up to a minute).
    Threads may share it.

    Only where the archive itself is opened: ``verify``, ``repair``, ``rebuild``, ``gc``, ``migrate``, ``backup``,
    ``restore``, ``bolt``, ``py2neo``, ``stored_nnstd``, and of others ``partners``, ``scheduler``, ``cancel`` of
    ``cypher`` and ``keep`` of ``match``: ``InvalidInputError`` says so. More than 64 snapshots are compared by a job of
    the service, which tells its progress: it goes on where this program ends, and whoever asks for the same again gets
    it. Other bounds of a service's requests raise ``LimitError``.

    Raises ``SettingsError`` for a URL that is none and where the token is not the one; any method may raise
    ``StoreUnavailableError`` where the service does not answer.

    >>> client = Client("http://127.0.0.1:8321")
    >>> client.location
    'http://127.0.0.1:8321'
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = ANSWER_S,
        retries: int = RETRIES,
        settings: Settings | None = None,
    ) -> None:
        # Not the archive's own: there is no store here. What needs one is asked of the service, or refused.
        self.settings = settings or load_settings()
        token = self.settings.api_secret() if token is None else token
        self._service = Service(url, token, timeout_s=timeout_s, retries=retries)

    @override
    def close(self) -> None:
        self._service.close()

    @override
    def reopened(self) -> Client:
        return self  # which remembers nothing

    @override
    def at(self, moment: int) -> Client:
        view = copy(self)
        view._service = self._service.at(moment)  # noqa: SLF001 - of the same class
        view.moment()  # whether it can be asked about
        return view

    @override
    def moment(self) -> int:
        return int(self._service.value(dict[str, Any], path_of("changes"), since=MAX_STEP, limit=1)["moment"])

    @override
    def changes(self, since: int = 0, *, limit: int | None = None) -> list[Change]:
        changes: list[Change] = []
        while limit is None or len(changes) < limit:
            most = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(changes))
            after = changes[-1].moment if changes else since
            page = self._service.value(dict[str, Any], path_of("changes"), since=after, limit=most)
            changes += [value_of(Change, entry) for entry in page["changes"]]
            if page["next"] is None:
                break
        return changes

    @property
    @override
    def location(self) -> str:
        return self._service.url

    # Writing

    @override
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
        document = {
            **_change(tags, parents),
            "name": name,
            "config": None if config is None else dict(config),
            "status": status,
            "created_at": None if created_at is None else created_at.isoformat(timespec="milliseconds"),
        }
        answer = self._service.send("PUT", path_of("runs", check_run_id(run)), document=document)
        self._service.read(Run, answer)
        if answer.status == 200 and not answer.repeated:
            raise ConflictError(f"run {run!r}: expected no run of this id, found one")

    @override
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
        path, tag = path_of("runs", check_run_id(run)), None
        if expected is not None:
            answer = self._service.send("GET", path)
            tag = answer.headers.get("etag")
            if expected != self._service.read(Run, answer):
                raise ChangedError(f"run {run!r}: expected it as it was read, found it changed since")
        document = {
            **_change(tags, parents),
            "status": status,
            "name": name,
            "without_tags": list(without_tags),
            "without_parents": [{"parent": ref.run, "step": ref.step} for ref in without_parents],
        }
        answer = self._service.send("PATCH", path, {"dry_run": dry_run}, document=document, match=tag)
        self._service.read(Run, answer)
        return answer.headers.get(values.CHANGED.lower()) == "true"

    @override
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
        from topostrata.ingest.formats import snapshot_file
        from topostrata.projections import names_of

        path = path_of("runs", check_run_id(run), "snapshots", check_step(step))
        body = BytesIO()
        snapshot_file.write(
            body,
            topology,
            epoch=check_epoch(epoch),
            metrics=check_metrics(metrics),
            layer_metrics=check_layer_metrics(layer_metrics),
            recorded_at=recorded_at,
        )
        names = names_of(projection)
        query: dict[str, Any] = {"projection": names} if names else {}
        if check_connections(connections):
            query["connections"] = connections
        answer = self._service.send("PUT", path, query, body=body.getvalue(), media=_NPZ)
        stored = self._service.read(Snapshot, answer)
        if stored.digest != topology.digest:  # what counts as sent is deleted by those who send
            raise StoreUnavailableError(
                f"{self.location}: expected the digest {topology.digest} in the answer, found {stored.digest[:80]}"
            )
        return "added" if answer.status == 201 else "unchanged"

    @override
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
        document = {
            "epoch": check_epoch(epoch),
            "recorded_at": None if recorded_at is None else recorded_at.isoformat(),
            "metrics": check_metrics(metrics),
            "layer_metrics": check_step_layer_metrics(layer_metrics),
        }
        path = path_of("runs", check_run_id(run), "metrics", check_step(step))
        answer = self._service.send("PUT", path, document=document)
        self._service.read(StepMetrics, answer)
        return "added" if answer.status == 201 else "unchanged"

    # Runs and snapshots

    @override
    def runs(self, only: RunFilter = EVERY_RUN) -> list[Run]:
        return _all(lambda after: self.runs_page(after=after, only=only), "", lambda run: run.id)

    @override
    def runs_page(self, *, limit: int = MAX_PAGE, after: str = "", only: RunFilter = EVERY_RUN) -> list[Run]:
        query = {
            "tag": only.tags,
            "status": only.status,
            "step_from": only.step_from,
            "step_to": only.step_to,
            "metric": only.metric,
            "at_least": only.at_least,
            "at_most": only.at_most,
        }
        return self._page(Run, path_of("runs"), "runs", limit, after or None, **query)

    @override
    def run(self, run: str) -> Run:
        try:
            check_run_id(run)
        except InvalidRefError as error:
            raise NotFoundError(
                f"run {run!r:.160}: expected it in the archive, found none: no run has such an id"
            ) from error
        return self._service.value(Run, path_of("runs", run))

    @override
    def has_run(self, run: str) -> bool:
        try:
            self.run(run)
        except NotFoundError:
            return False
        return True

    @override
    def snapshots(self, run: str) -> list[Snapshot]:
        return _all(lambda after: self.snapshots_page(run, after=after), -1, lambda snapshot: snapshot.step)

    @override
    def snapshots_page(self, run: str, *, limit: int = MAX_PAGE, after: int = -1) -> list[Snapshot]:
        cursor = None if after < 0 else after
        return self._page(Snapshot, path_of("runs", run, "snapshots"), "snapshots", limit, cursor)

    @override
    def metrics(self, run: str, *, metric: str | None = None, layer: str | None = None) -> list[StepMetrics]:
        return _all(
            lambda after: self.metrics_page(run, metric=metric, layer=layer, after=after), -1, lambda entry: entry.step
        )

    @override
    def metrics_page(
        self, run: str, *, metric: str | None = None, layer: str | None = None, limit: int = MAX_PAGE, after: int = -1
    ) -> list[StepMetrics]:
        return self._metrics_page(run, limit, after, metric=metric, layer=layer)

    @override
    def step_metrics(self, run: str) -> Iterator[StepMetrics]:
        after = -1
        while page := self._metrics_page(run, MAX_PAGE, after, of_snapshots=False):
            yield from page
            after = page[-1].step

    def _metrics_page(self, run: str, limit: int, after: int, **query: Any) -> list[StepMetrics]:
        cursor = None if after < 0 else after
        return self._page(StepMetrics, path_of("runs", run, "metrics"), "metrics", limit, cursor, **query)

    def _page(self, kind: type[T], path: str, name: str, limit: int, cursor: str | int | None, **query: Any) -> list[T]:
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInputError(f"limit: expected 1 to {MAX_PAGE}, found {limit}")
        page = self._service.value(dict[str, Any], path, limit=limit, cursor=cursor, **query)
        return [value_of(kind, entry) for entry in page[name]]

    @override
    def snapshot(self, ref: Ref | str) -> Snapshot:
        run, step = self._place(ref)
        return self._service.value(Snapshot, path_of("runs", run, "snapshots", step))

    @override
    def expand(self, patterns: Patterns) -> list[Ref]:
        texts = texts_of(patterns)
        parts = [texts[at : at + _AT_ONCE] for at in range(0, len(texts), _AT_ONCE)]
        entries = [entry for part in parts for entry in self._recorded(part)]
        return list(dict.fromkeys(Ref(entry.snapshot.run, entry.snapshot.step) for entry in entries))

    @override
    def recorded(self, *refs: AnyRef) -> list[RecordedSnapshot]:
        known = {ref.snapshot.id: ref for ref in refs if isinstance(ref, RecordedSnapshot)}
        names = [self._fixed(ref) for ref in refs]
        missing = [name for name in dict.fromkeys(names) if name not in known]
        for at in range(0, len(missing), _AT_ONCE):
            try:
                entries = self._recorded(missing[at : at + _AT_ONCE])
            except InvalidRefError:
                for name in missing:
                    self.snapshot(name)  # says which is not there, and what is
                raise
            known |= {entry.snapshot.id: entry for entry in entries}
        return [known[name] for name in names]

    def _recorded(self, refs: Sequence[str]) -> list[RecordedSnapshot]:
        return self._service.value(list[RecordedSnapshot], path_of("snapshots"), refs=refs)

    @override
    def layers(self, run: str) -> tuple[RunLayer, ...]:
        try:
            return self._service.value(tuple[RunLayer, ...], path_of("runs", run, "layers"))
        except NotFoundError:
            return ()

    @override
    def wiring(self, run: str) -> Wiring:
        from topostrata.topology import Wiring

        answer = self._service.send("GET", path_of("runs", run, "wiring"), accept=_TOML)
        return Wiring.from_toml(answer.body.decode())

    @override
    def topology(self, ref: AnyRef) -> Topology:
        from topostrata.ingest.formats.reading import read_snapshot_bytes

        run, step = self._place(ref)
        answer = self._service.send("GET", path_of("runs", run, "snapshots", step, "topology"), accept=_NPZ)
        topology = read_snapshot_bytes(answer.body).topology
        if topology.digest not in answer.headers.get("etag", ""):
            raise CorruptError(
                f"{run}@{step}: expected the topology {answer.headers.get('etag', '')[:80]}, found {topology.digest}"
            )
        return topology

    @override
    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Table:
        from topostrata.frames import Table

        self._refuse("cypher", cancel=cancel)
        document = {"query": query, "parameters": dict(parameters or {}), "limit": limit, "timeout_s": timeout_s}
        answer = json.loads(self._service.send("POST", path_of("cypher"), document=document, accept=JSON).body)
        return Table(tuple(answer["columns"]), answer["rows"], answer["truncated"])

    @override
    def states(self) -> dict[str, RunState]:
        return {run.id: RunState(run.last_step, run.status) for run in self.runs()}

    @override
    def unprojected(self) -> list[Unprojected]:
        return self._service.value(list[Unprojected], path_of("unprojected"))

    @override
    def counts(self) -> ArchiveCounts:
        return self._service.value(ArchiveCounts, path_of("stats"))

    # Runs that are taken away

    @override
    def removed_runs(self) -> list[RemovedRun]:
        from topostrata.ingest.lifecycle import RemovedRun

        return self._service.value(dict[str, list[RemovedRun]], path_of("removed"))["runs"]

    @property
    @override
    def jobs(self) -> RemoteJobs:
        return RemoteJobs(self._service)

    @override
    def remove_runs(self, runs: Iterable[str], *, dry_run: bool = False) -> list[str]:
        hidden = {removed.run for removed in self.removed_runs()}
        names = [run for run in dict.fromkeys(runs) if run not in hidden]
        if names:
            self._service.send("DELETE", path_of("runs", names[0]), {"also": names[1:], "dry_run": dry_run})
        return names

    @override
    def bring_back(self, runs: Iterable[str], *, dry_run: bool = False) -> None:
        names = list(runs)
        if names:
            self._service.send("POST", path_of("removed", names[0]), {"also": names[1:], "dry_run": dry_run})

    @override
    def purge_runs(self, runs: Iterable[str], *, dry_run: bool = False) -> Purged:
        from topostrata.ingest.lifecycle import Purged

        names = list(runs)
        if not names:
            return Purged((), 0, 0, 0, 0, 0, (), dry_run)
        path, query = path_of("removed", names[0]), {"also": names[1:]}
        purged = self._service.read(Purged, self._service.send("DELETE", path, {**query, "dry_run": True}))
        if dry_run:
            return purged
        self.remove_runs(names)  # once nothing is against it
        return self._service.read(Purged, self._service.send("DELETE", path, query, once=True))

    @override
    def engine_version(self) -> str:
        return self._service.value(dict[str, str], path_of("engine"))["version"]

    verify = _at_home("verify")
    repair = _at_home("repair")
    rebuild = _at_home("rebuild")
    project = _at_home("project")
    drawer = property(_at_home("drawer"))
    gc = _at_home("gc")
    migrate = _at_home("migrate")
    stored_nnstd = _at_home("stored_nnstd")
    bolt = _at_home("bolt")
    backup = _at_home("backup")
    restore = _at_home("restore")
    py2neo = _at_home("py2neo")


def _change(tags: Iterable[str], parents: Iterable[Parent]) -> dict[str, Any]:
    descent = [{"parent": before.run, "step": before.step, "how": before.how} for before in parents]
    return {"tags": check_tags(tags), "parents": descent}


def _all(page: Callable[[Any], list[T]], first: Any, place: Callable[[T], Any]) -> list[T]:
    """The entries of all pages, each of which begins after the last entry of the one before."""
    entries = page(first)
    if len(entries) < MAX_PAGE:
        return entries
    while more := page(place(entries[-1])):
        entries += more
    return entries
