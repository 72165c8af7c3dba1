"""The archive behind a Topostrata service, as far as senders need it, on the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from time import monotonic
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from topostrata.errors import (
    ConflictError,
    InvalidInputError,
    LimitError,
    LineageCycleError,
    NotFoundError,
    SettingsError,
    StepOrderError,
    StoreUnavailableError,
    TopostrataError,
)
from topostrata.ingest.formats import snapshot_file
from topostrata.locations import SERVICE_SCHEMES, split_uri
from topostrata.refs import Ref
from topostrata.runs import LayerMetrics, Parent, Run, Snapshot, Status
from topostrata.topology import Topology

_TIMEOUT_S = 30.0
_LONGEST_RETRY_S = 600.0  # that a service may ask for; after it one try costs nobody much
_JSON, _NPZ = "application/json", "application/x-npz"
_MOST_ANSWER = 2**24  # bytes of an answer that are read
_REFUSALS: dict[int, type[TopostrataError]] = {
    400: InvalidInputError,
    404: NotFoundError,
    409: ConflictError,
    413: LimitError,
    422: InvalidInputError,
}


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """The service at a URL, ``http://HOST:PORT``, and the token that it wants to see. Its methods are an ``Archive``'s.

    Raises ``SettingsError`` for a URL that is none and where the token is not the one, ``StoreUnavailableError`` where
    the service does not answer or says that it cannot now (while it asks for patience by ``Retry-After`` it is not
    asked again), ``ConflictError`` and ``StepOrderError`` where the archive holds something else, ``NotFoundError`` for
    a parent that is not there, ``LimitError`` for a snapshot that is too large.
    """

    url: str
    token: str | None = None
    _patience: list[float] = field(default_factory=list, repr=False, compare=False)  # until when it wants to rest

    def __post_init__(self) -> None:
        split_uri(self.url, SERVICE_SCHEMES)

    @property
    def location(self) -> str:
        """The URL."""
        return self.url

    def close(self) -> None:
        """There is nothing to let go of."""

    def has_run(self, run: str) -> bool:
        """Whether there is a run of that id."""
        try:
            self.run(run)
        except NotFoundError:
            return False
        return True

    def run(self, run: str) -> Run:
        """What is known of a run."""
        return _read_run(self._answer("GET", _path(run), run, ("run", run)))

    def create_run(
        self,
        run: str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        parents: Iterable[Parent] = (),
        created_at: datetime | None = None,
    ) -> None:
        """Make a run. Where it is there with all of this, nothing changes."""
        document = {
            **_change(tags, parents),
            "name": name,
            "config": None if config is None else dict(config),
            "created_at": None if created_at is None else created_at.isoformat(timespec="milliseconds"),
        }
        self._answer("PUT", _path(run), run, ("run", run), json.dumps(document).encode(), _JSON)

    def update_run(
        self, run: str, *, tags: Iterable[str] = (), parents: Iterable[Parent] = (), status: Status | None = None
    ) -> None:
        """Add tags and parents to a run and set its status."""
        body = json.dumps({**_change(tags, parents), "status": status}).encode()
        self._answer("PATCH", _path(run), run, ("run", run), body, _JSON)

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
    ) -> Literal["added", "unchanged"]:
        """Store one snapshot."""
        body = BytesIO()
        snapshot_file.write(
            body, topology, epoch=epoch, metrics=metrics, layer_metrics=layer_metrics, recorded_at=recorded_at
        )
        status, _ = self._checked(
            "PUT", _path(run, step), f"{run}@{step}", ("digest", topology.digest), body.getvalue(), _NPZ
        )
        return "added" if status == 201 else "unchanged"

    def push_metrics(
        self,
        run: str,
        step: int,
        metrics: Mapping[str, float],
        *,
        layer_metrics: LayerMetrics,
        epoch: float | None = None,
        recorded_at: datetime | None = None,
    ) -> Literal["added", "unchanged"]:
        """Store numbers of a run at a step."""
        document = {
            "epoch": epoch,
            "recorded_at": None if recorded_at is None else recorded_at.isoformat(),
            "metrics": dict(metrics),
            "layer_metrics": {layer: dict(numbers) for layer, numbers in layer_metrics.items()},
        }
        path = f"{_path(run)}/metrics/{step}"
        status, _ = self._checked("PUT", path, f"{run}@{step}", ("step", step), json.dumps(document).encode(), _JSON)
        return "added" if status == 201 else "unchanged"

    def snapshot(self, ref: Ref) -> Snapshot:
        """What is known of a snapshot."""
        assert isinstance(ref.step, int)  # noqa: S101 - senders name steps by number
        return _read_snapshot(self._answer("GET", _path(ref.run, ref.step), str(ref), ("ref", str(ref))))

    def snapshots(self, run: str) -> list[Snapshot]:
        """All snapshots of a run, in the order of their steps."""
        following: str | None = f"{_path(run)}/snapshots"
        snapshots: list[Snapshot] = []
        while following is not None:
            answer = self._answer("GET", following, run)
            snapshots += map(_read_snapshot, answer["snapshots"])
            following = answer["next"]
        return snapshots

    def _answer(self, *request: Any) -> dict[str, Any]:
        return self._checked(*request)[1]

    def _checked(
        self,
        method: str,
        path: str,
        what: str,
        sign: tuple[str, str | int] | None = None,
        body: bytes | None = None,
        media: str = "",
    ) -> tuple[int, dict[str, Any]]:
        """Status and document of an answer that has the ``sign`` of a Topostrata service, or the error it means."""
        status, answer = self._ask(method, path, body, media)
        document = _document(answer)
        if status not in {200, 201}:
            raise _error(status, document, what)
        # A login page or a proxy says 200, too; what counts as sent is deleted here.
        if sign is not None and document.get(sign[0]) != sign[1]:
            raise StoreUnavailableError(
                f"{self.url}: expected a Topostrata service's answer with the {sign[0]} {sign[1]}, found another",
                hint="does something else answer at this URL?",
            )
        return status, document

    def _ask(self, method: str, path: str, body: bytes | None, media: str) -> tuple[int, bytes]:
        left = max(self._patience, default=0.0) - monotonic()
        if left > 0:
            raise StoreUnavailableError(f"{self.url}: the service asks for {left:.0f} s more of patience (Retry-After)")
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Accept": _JSON}
        if body is not None:
            headers["Content-Type"] = media
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            if response.status in {429, 503}:
                self._patience[:] = [monotonic() + _retry_after(response.headers.get("Retry-After"))]
            return response.status, response.read(_MOST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise StoreUnavailableError(
                f"{self.url}: the service does not answer: {error or type(error).__name__}"
            ) from error
        finally:
            connection.close()


def _path(run: str, step: int | None = None) -> str:
    return f"/v1/runs/{quote(run, safe='')}" + ("" if step is None else f"/snapshots/{step}")


def _retry_after(text: str | None) -> float:
    """Seconds from now: the header gives them, or a moment."""
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        seconds = (moment - datetime.now(moment.tzinfo)).total_seconds()
    return min(max(0.0, seconds), _LONGEST_RETRY_S) if seconds == seconds else 0.0  # noqa: PLR0124 - nan


def _change(tags: Iterable[str], parents: Iterable[Parent]) -> dict[str, Any]:
    descent = [{"parent": before.run, "step": before.step, "how": before.how} for before in parents]
    return {"tags": list(tags), "parents": descent}


def _read_run(document: Mapping[str, Any]) -> Run:
    return Run(
        document["run"],
        document["name"],
        document["status"],
        datetime.fromisoformat(document["created_at"]),
        document["config"],
        tuple(document["tags"]),
        tuple(Parent(before["parent"], before["step"], before["how"]) for before in document["parents"]),
        document["snapshots"],
        document["first_step"],
        document["last_step"],
    )


def _read_snapshot(document: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        document["run"],
        document["step"],
        document["digest"],
        document["connections"],
        datetime.fromisoformat(document["recorded_at"]),
        document["epoch"],
        document["metrics"],
        document["layer_metrics"],
    )


def _error(status: int, problem: Mapping[str, Any], what: str) -> TopostrataError:
    said = str(problem.get("detail") or problem.get("title") or http.client.responses.get(status, "no reason"))[:500]
    if status in {401, 403}:
        return SettingsError(
            f"the service refuses the token: {said}",
            hint="TOPOSTRATA_API_TOKEN or token= is the one it was started with",
        )
    code = problem.get("code")
    for kind in (StepOrderError, LineageCycleError):
        if code == kind.code:
            return kind(f"{what}: the service refuses it: {said}")
    if status in _REFUSALS and code not in {None, "unknown-host"}:
        return _REFUSALS[status](f"{what}: the service refuses it: {said}")
    # Anything else comes from a service in trouble, or from what stands before it.
    return StoreUnavailableError(f"{what}: the service does not take it now ({status}): {said}")


def _document(answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
