"""What the service counts of itself, for Prometheus; routes are labels by their templates, never by what was asked."""

from __future__ import annotations

import os
from typing import Any

from topostrata.errors import MissingExtraError
from topostrata.service.api.lanes import Lane, Lanes

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0)


SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the setting of prometheus_client for processes that count together


class Telemetry:
    """Counts of one service, of all its processes together; without ``prometheus_client`` nothing is counted."""

    def __init__(self, lanes: Lanes) -> None:
        self._registry: Any = None
        self._lanes = lanes
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
            "topostrata_waiting",
            "Requests that wait for a place.",
            ("lane",),
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._waiting = {lane: waiting.labels(lane) for lane in Lane}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        if self._registry is not None:
            known = method if method in {"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"} else "other"
            self._requests.labels(known, route, str(status)).inc()
            self._seconds.labels(known, route).observe(seconds)
            self._look()

    def text(self) -> bytes:
        """All counts in Prometheus' text format; ``MissingExtraError`` where nothing is counted."""
        if self._registry is None:
            raise MissingExtraError("/metrics", "server")
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        self._look()
        if SHARED not in os.environ:
            return bytes(generate_latest(self._registry))
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(together))

    def _look(self) -> None:
        """Note how many wait: processes that count together can call each other for nothing."""
        for lane, gauge in self._waiting.items():
            gauge.set(self._lanes.waiting(lane))
