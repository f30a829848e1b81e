"""What /metrics shows, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from zelo.serve.dialects import ROUTES

PATHS = {*ROUTES, "/", "/health", "/metrics", "/v1/models", "/api/queries", "/api/query", "/api/document", "/openapi.json"}
"""Every other path is counted as "other": names that clients make up must not grow the memory."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """Counters of one server."""

    def __init__(self, version: str, model: str) -> None:
        """Make them in a registry of their own."""
        self._registry = CollectorRegistry()
        self._requests = Counter("zelo_requests", "Requests answered.", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "zelo_request_seconds", "From the first byte to the last.", ["path"], buckets=SECONDS, registry=self._registry
        )
        self._documents = Counter("zelo_documents_scored", "Documents scored.", registry=self._registry)
        self._batch_documents = Histogram("zelo_batch_documents", "Documents of a batch.", buckets=COUNTS, registry=self._registry)
        self._batch_requests = Histogram("zelo_batch_requests", "Requests of a batch.", buckets=COUNTS, registry=self._registry)
        self._batch_seconds = Histogram("zelo_batch_seconds", "Scoring of a batch.", buckets=SECONDS, registry=self._registry)
        Gauge("zelo_info", "Version and model.", ["version", "model"], registry=self._registry).labels(version, model).set(1)
        ProcessCollector(registry=self._registry)

    def watch_queue(self, requests: Callable[[], float], tokens: Callable[[], float]) -> None:
        """Show what is waiting."""
        Gauge("zelo_queue_requests", "Requests that wait for a batch.", registry=self._registry).set_function(requests)
        Gauge("zelo_queue_tokens", "Tokens, estimated, that wait or are being scored.", registry=self._registry).set_function(tokens)

    def finished(self, path: str, status: int, seconds: float) -> None:
        """Count a request; status 499: the client left."""
        path = path if path in PATHS else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, requests: int, documents: int, seconds: float) -> None:
        """Count a batch."""
        self._documents.inc(documents)
        self._batch_requests.observe(requests)
        self._batch_documents.observe(documents)
        self._batch_seconds.observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Return the page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
