"""Prometheus metrics: one object a process, handed to whatever measures. docs/operations.md names every one of them."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

_log = structlog.get_logger(__name__)

# Bounds of latency histograms in seconds: gRFC A66's, cut to what a call with a deadline of seconds can take.
LATENCY_BOUNDS = (
    0.0003, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05,
    0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10,
)  # fmt: skip
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Everything a service counts. A registry of its own, so that tests and processes do not share state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "winnow_requests", "Calls that ended, by status.", ["method", "code"], registry=registry
        )
        self.request_seconds = Histogram(
            "winnow_request_seconds", "Time from a call's arrival in its handler to its end.", ["method"],
            buckets=LATENCY_BOUNDS, registry=registry,
        )  # fmt: skip
        self.requests_in_flight = Gauge("winnow_requests_in_flight", "Calls under way.", registry=registry)
        self.step_seconds = Histogram(
            "winnow_step_seconds", "Time that a step of the request path took, for all requests of its batch.",
            ["step", "outcome"], buckets=LATENCY_BOUNDS, registry=registry,
        )  # fmt: skip
        self.queue_wait_seconds = Histogram(
            "winnow_queue_wait_seconds", "How long the first of a batch had waited for it.", ["queue"],
            buckets=LATENCY_BOUNDS, registry=registry,
        )  # fmt: skip
        self.batch_size = Histogram(
            "winnow_batch_size", "Queries that left together.", ["queue"], buckets=BATCH_BOUNDS, registry=registry
        )
        self.batch_seconds = Histogram(
            "winnow_batch_seconds", "How long a batch was under way.", ["queue"],
            buckets=LATENCY_BOUNDS, registry=registry,
        )  # fmt: skip
        self.queued = Gauge("winnow_queued", "Queries waiting for a batch.", ["queue"], registry=registry)
        self.shed = Counter(
            "winnow_shed", "Work rejected because it could not be done in time.", ["queue"], registry=registry
        )
        self.expired = Counter(
            "winnow_expired", "Work whose deadline passed before it was computed.", ["queue"], registry=registry
        )
        self.stage_retries = Counter(
            "winnow_stage_retries", "Stage calls that were made a second time.", ["stage"], registry=registry
        )
        self.stage_failures = Counter(
            "winnow_stage_failures", "Stage calls without a usable answer.", ["stage", "code"], registry=registry
        )
        self.degraded = Counter(
            "winnow_degraded", "Answers that fell short of the full chain.", ["step", "reason"], registry=registry
        )
        self.unknown_ids = Counter(
            "winnow_unknown_ids", "Item ids of requests that the release does not know.", ["field"], registry=registry
        )
        self.candidates_left_unranked = Counter(
            "winnow_candidates_left_unranked",
            "Retrieved candidates that were not ranked, for want of time or of the ranking stage.",
            registry=registry,
        )
        self.release_in_use = Gauge(
            "winnow_release_in_use", "1 for the release that new requests are answered from.", ["release_id"],
            registry=registry,
        )  # fmt: skip
        self.releases_held = Gauge("winnow_releases_held", "Releases in memory.", registry=registry)
        self.release_loads = Counter(
            "winnow_release_loads", "Releases loaded or refused.", ["outcome"], registry=registry
        )
        self.release_load_seconds = Gauge(
            "winnow_release_load_seconds", "How long the newest release took to verify, load and check.",
            registry=registry,
        )  # fmt: skip
        self.index_recall = Gauge(
            "winnow_index_recall", "Recall of the release's index against exact search, as measured when it was made.",
            ["release_id"], registry=registry,
        )  # fmt: skip
        self.event_loop_lag_seconds = Gauge(
            "winnow_event_loop_lag_seconds", "How much later than asked the event loop woke up, last time.",
            registry=registry,
        )  # fmt: skip

    def queue(self, name: str) -> "QueueMetrics":
        """The metrics of one batcher."""
        return QueueMetrics(self, name)

    @contextmanager
    def serve(self, host: str, port: int) -> Iterator[None]:
        """Offer the metrics over HTTP on a port of their own; port 0 offers none."""
        if not port:
            yield
            return
        server, thread = start_http_server(port, addr=host, registry=self.registry)
        _log.info("metrics", address=f"http://{host}:{port}/metrics")
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    async def watch_event_loop(self, interval_seconds: float = 1.0) -> None:
        """Measure, for ever, how late the event loop is."""
        while True:
            asked = time.perf_counter() + interval_seconds
            await asyncio.sleep(interval_seconds)
            self.event_loop_lag_seconds.set(max(0.0, time.perf_counter() - asked))


class QueueMetrics:
    """What one batcher counts; children of the labelled metrics, looked up once."""

    def __init__(self, metrics: Metrics, queue: str) -> None:
        self.wait_seconds = metrics.queue_wait_seconds.labels(queue)
        self.batch_size = metrics.batch_size.labels(queue)
        self.batch_seconds = metrics.batch_seconds.labels(queue)
        self.queued = metrics.queued.labels(queue)
        self.shed = metrics.shed.labels(queue)
        self.expired = metrics.expired.labels(queue)
