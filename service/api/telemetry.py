"""What the service counts of itself, for Prometheus; routes are labels by their templates, never by what was asked."""

from __future__ import annotations

from functools import partial
from typing import Any

from topostrata.errors import MissingExtraError
from topostrata.service.api.lanes import Lane, Lanes

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0)


class Telemetry:
    """Counts of one service; without ``prometheus_client`` nothing is counted."""

    def __init__(self, lanes: Lanes) -> None:
        self._registry: Any = None
        try:
            import prometheus_client as prometheus  # noqa: PLC0415 - behind an extra
        except ImportError:
            return
        self._registry = prometheus.CollectorRegistry()
        labels = ("method", "route")
        self._requests = prometheus.Counter(
            "topostrata_requests", "Requests answered.", (*labels, "status"), registry=self._registry
        )
        self._seconds = prometheus.Histogram(
            "topostrata_request_seconds", "How long answers took.", labels, buckets=_SECONDS, registry=self._registry
        )
        waiting = prometheus.Gauge(
            "topostrata_waiting", "Requests that wait for a place.", ("lane",), registry=self._registry
        )
        for lane in Lane:
            waiting.labels(lane).set_function(partial(lanes.waiting, lane))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        if self._registry is not None:
            known = method if method in {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"} else "other"
            self._requests.labels(known, route, str(status)).inc()
            self._seconds.labels(known, route).observe(seconds)

    def text(self) -> bytes:
        """All counts in Prometheus' text format; ``MissingExtraError`` where nothing is counted."""
        if self._registry is None:
            raise MissingExtraError("/metrics", "server")
        from prometheus_client import generate_latest  # noqa: PLC0415

        return bytes(generate_latest(self._registry))
