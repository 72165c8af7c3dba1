"""A client of a Topostrata service that sends snapshots, on the standard library alone."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from topostrata.errors import (
    ConflictError,
    InvalidInputError,
    LimitError,
    SettingsError,
    StepOrderError,
    StoreUnavailableError,
    TopostrataError,
)
from topostrata.ingest.formats import snapshot_file
from topostrata.ingest.hook.spool import SpooledMetrics, SpooledSnapshot

_TIMEOUT_S = 30.0
_MOST_ANSWER = 2**20  # bytes of an answer that are read
_REFUSALS: dict[int, type[TopostrataError]] = {
    400: InvalidInputError,
    409: ConflictError,
    413: LimitError,
    422: InvalidInputError,
}


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """The service at a URL, ``http://HOST:PORT``, and the token that it wants to see.

    Raises ``SettingsError`` for a URL that is none and where the token is not the one, ``StoreUnavailableError`` where
    the service does not answer or says that it cannot now, ``ConflictError`` and ``StepOrderError`` where the archive
    holds something else, ``LimitError`` for a snapshot that is too large.
    """

    url: str
    token: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            fits = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) and not parts.query
        except ValueError:
            fits = False
        if not fits or parts.username is not None:
            raise SettingsError("store: expected http://HOST:PORT or https://HOST of a Topostrata service")

    def put_snapshot(self, run: str, snapshot: SpooledSnapshot) -> Literal["added", "unchanged"]:
        """Store one snapshot."""
        body = BytesIO()
        snapshot_file.write(
            body,
            snapshot.topology,
            epoch=snapshot.epoch,
            metrics=snapshot.metrics,
            recorded_at=snapshot.recorded_at,
        )
        status, answer = self._ask("PUT", _path(run, snapshot.step), body.getvalue())
        if status in {200, 201}:
            # A login page or a proxy says 200, too; what counts as sent is deleted here.
            if _document(answer).get("digest") != snapshot.topology.digest:
                raise StoreUnavailableError(
                    f"{self.url}: expected a Topostrata service's answer with the snapshot's digest, found another",
                    hint="does something else answer at this URL?",
                )
            return "added" if status == 201 else "unchanged"
        raise _error(status, answer, f"{run}@{snapshot.step}")

    def put_metrics(self, run: str, metrics: SpooledMetrics) -> Literal["added", "unchanged"]:
        """Store numbers of a run at a step."""
        document = {
            "epoch": metrics.epoch,
            "recorded_at": metrics.recorded_at.isoformat(),
            "metrics": dict(metrics.metrics),
            "layer_metrics": {layer: dict(numbers) for layer, numbers in metrics.layer_metrics.items()},
        }
        path = f"/v1/runs/{quote(run, safe='')}/metrics/{metrics.step}"
        status, answer = self._ask("PUT", path, json.dumps(document).encode(), kind="application/json")
        if status in {200, 201}:
            if _document(answer).get("step") != metrics.step:  # as of a snapshot
                raise StoreUnavailableError(
                    f"{self.url}: expected a Topostrata service's answer with the step, found another",
                    hint="does something else answer at this URL?",
                )
            return "added" if status == 201 else "unchanged"
        raise _error(status, answer, f"{run}@{metrics.step}")

    def has_snapshot(self, run: str, step: int) -> bool:
        """Whether the archive behind the service has this snapshot."""
        status, answer = self._ask("GET", _path(run, step))
        if status not in {200, 404}:
            raise _error(status, answer, f"{run}@{step}")
        return status == 200

    def _ask(
        self, method: str, path: str, body: bytes | None = None, *, kind: str = "application/x-npz"
    ) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = kind
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = connect(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(_MOST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise StoreUnavailableError(
                f"{self.url}: the service does not answer: {error or type(error).__name__}"
            ) from error
        finally:
            connection.close()


def _path(run: str, step: int) -> str:
    return f"/v1/runs/{quote(run, safe='')}/snapshots/{step}"


def _error(status: int, answer: bytes, what: str) -> TopostrataError:
    problem = _document(answer)
    said = str(problem.get("detail") or problem.get("title") or http.client.responses.get(status, "no reason"))[:500]
    if status in {401, 403}:
        return SettingsError(
            f"the service refuses the token: {said}",
            hint="TOPOSTRATA_API_TOKEN or token= is the one it was started with",
        )
    code = problem.get("code")
    if code == "step-order":
        return StepOrderError(f"{what}: the service refuses it: {said}")
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
