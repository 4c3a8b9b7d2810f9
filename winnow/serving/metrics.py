"""Prometheus metrics: one object for each process, passed to whatever measures. docs/operations.md lists them all."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, start_http_server

_log = structlog.get_logger(__name__)

# Bounds of latency histograms in seconds: gRFC A66's, cut to what a call with a deadline of seconds can take.
LATENCY_BOUNDS = (
    0.0003, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05,
    0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10,
)  # fmt: skip
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RECALL_BOUNDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 1)


class Metrics:
    """Everything a service counts, in a registry of its own, so that tests share no state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Plain numbers, from which the gauge is read: they change with every request, and a gauge has a lock.
        self.queued_weights: dict[str, int] = defaultdict(int)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        seconds = partial(Histogram, registry=self.registry, buckets=LATENCY_BOUNDS)
        sizes = partial(Histogram, registry=self.registry, buckets=BATCH_BOUNDS)
        summary = partial(Summary, registry=self.registry)

        self.requests = counter("winnow_requests", "Calls that ended, by status.", ["method", "code"])
        self.request_seconds = seconds(
            "winnow_request_seconds", "Time from a call's arrival in its handler to its end.", ["method"]
        )
        self.batch_requests = counter(
            "winnow_batch_requests", "Requests of BatchRecommendItems calls that ended, by status.", ["code"]
        )
        self.requests_in_flight = gauge("winnow_requests_in_flight", "Calls in flight.")
        self.step_seconds = seconds(
            "winnow_step_seconds",
            "Time that a step of the request path took, for all requests of its batch.",
            ["step", "outcome"],
        )
        self.queue_wait_seconds = seconds(
            "winnow_queue_wait_seconds", "How long the first query of a batch waited.", ["queue"]
        )
        self.batch_size = sizes("winnow_batch_size", "Queries in a batch.", ["queue"])
        self.batch_seconds = seconds("winnow_batch_seconds", "How long a batch was in flight.", ["queue"])
        self.queued = gauge("winnow_queued", "Queries that wait to be dispatched.", ["queue"])
        self.shed = counter("winnow_shed", "Work rejected because it could not be done in time.", ["queue"])
        self.expired = counter("winnow_expired", "Work whose deadline passed before there was a result.", ["queue"])
        self.stage_retries = counter(
            "winnow_stage_retries", "Stage calls made a second time: the first one failed or was overdue.", ["stage"]
        )
        self.replica_ejections = counter(
            "winnow_replica_ejections", "How often a replica was left alone because it failed or was late.", ["stage"]
        )
        self.stage_failures = counter(
            "winnow_stage_failures", "Stage calls without a usable answer.", ["stage", "code"]
        )
        self.degraded = counter("winnow_degraded", "Answers that fell short of the full chain.", ["step", "reason"])
        self.unknown_ids = counter(
            "winnow_unknown_ids", "Item ids of requests that the release does not know.", ["field"]
        )
        self.source_candidates = counter(
            "winnow_source_candidates",
            "Candidates of sources beside the network: used, or dropped because they are unknown to the release, "
            "excluded or watched, or filtered out.",
            ["source", "outcome"],
        )
        self.source_failures = counter(
            "winnow_source_failures",
            "Batches that an external source had no usable answer for in time: its status, or CIRCUIT_OPEN.",
            ["source", "reason"],
        )
        self.candidates_left_unranked = counter(
            "winnow_candidates_left_unranked",
            "Retrieved candidates that were not ranked, for lack of time or of an answer from the ranking stage.",
        )
        self.user_events = counter("winnow_user_events", "Events that the store of users has taken, by kind.", ["kind"])
        self.user_store_failures = counter(
            "winnow_user_store_failures",
            "Requests that the store of users had no answer for in time: read, write, delete or close.",
            ["operation", "reason"],
        )
        self.logged_answers = counter(
            "winnow_logged_answers",
            "Answers for the answer log: written, or dropped because the queue was full or the write failed.",
            ["outcome"],
        )
        self.release_in_use = gauge(
            "winnow_release_in_use", "1 for the release that new requests are answered from.", ["release_id"]
        )
        self.releases_held = gauge("winnow_releases_held", "Releases in memory.")
        self.release_loads = counter("winnow_release_loads", "Releases loaded or refused.", ["outcome"])
        self.release_load_seconds = gauge(
            "winnow_release_load_seconds", "How long the newest release took to verify, load and check."
        )
        self.index_recall = gauge(
            "winnow_index_recall", "Recall of the release's index against exact search, as measured when it was made.",
            ["release_id"],
        )  # fmt: skip
        self.release_created_timestamp_seconds = gauge(
            "winnow_release_created_timestamp_seconds", "When the release was made, in seconds since 1970.",
            ["release_id"],
        )  # fmt: skip
        self.index_full_scans = counter(
            "winnow_index_full_scans",
            "Queries for which the lists of an approximate index held too few items, so that all items were scanned.",
        )
        self.live_recall_at_200 = Histogram(
            "winnow_live_recall_at_200",
            "Share of the true best 200 candidates that an approximate index found, of sampled requests.",
            registry=self.registry,
            buckets=RECALL_BOUNDS,
        )
        self.live_recall_dropped = counter(
            "winnow_live_recall_dropped",
            "Sampled requests that were not searched exactly, because another one was being searched.",
        )
        self.experiment_file_invalid = gauge(
            "winnow_experiment_file_invalid", "1 while the file EXPERIMENT cannot be used: GetStatus says why."
        )
        self.experiment_counted_since_seconds = gauge(
            "winnow_experiment_counted_since_seconds",
            "Since when this process counts for the experiment, in seconds since 1970.",
            ["experiment"],
        )
        of_group = ["experiment", "arm", "group"]
        self.experiment_answers = counter(
            "winnow_experiment_answers",
            "Answers of RecommendItems and of batches in an experiment, by arm and by group of users.",
            of_group,
        )
        self.experiment_degraded = counter(
            "winnow_experiment_degraded", "Those of them that fell short of the full chain.", of_group
        )
        self.experiment_seconds = seconds(
            "winnow_experiment_seconds",
            "Time that such an answer took in the gateway; of a shadow, that it would have taken.",
            ["experiment", "arm"],
        )
        self.experiment_events = counter(
            "winnow_experiment_events",
            "Clicks and watches that name such an answer, by the answer's arm.",
            [*of_group, "kind"],
        )
        self.experiment_fallbacks = counter(
            "winnow_experiment_fallbacks",
            "Requests of an arm's users that another release answered: the gateway could not use the arm's (waiting), "
            "or a stage that was asked lacked it (stage).",
            ["experiment", "arm", "reason"],
        )
        self.experiment_shadow_requests = counter(
            "winnow_experiment_shadow_requests",
            "Requests chosen for a shadow: compared, degraded, failed, or dropped because too much was under way.",
            ["experiment", "arm", "outcome"],
        )
        self.experiment_shadow_overlap = summary(
            "winnow_experiment_shadow_overlap",
            "Share of the answer's first 20 items that the shadow's first 20 have too.",
            of_group,
        )
        self.experiment_shadow_rank_correlation = summary(
            "winnow_experiment_shadow_rank_correlation",
            "Kendall's tau of the order of the items that both have, from -1 to 1; where there are two or more.",
            of_group,
        )
        self.event_loop_lag_seconds = gauge(
            "winnow_event_loop_lag_seconds", "How late the event loop woke up, last time."
        )

    def queue(self, name: str) -> "QueueMetrics":
        """The metrics of one batcher."""
        return QueueMetrics(self, name)

    @contextmanager
    def serve(self, host: str, port: int) -> Iterator[None]:
        """Serve the metrics over HTTP on a port of their own; port 0 serves none."""
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
    """What one batcher counts (see BatcherMetrics): children of the labelled metrics, looked up once."""

    def __init__(self, metrics: Metrics, queue: str) -> None:
        self._queue = queue
        self._queued_weights = metrics.queued_weights
        metrics.queued.labels(queue).set_function(lambda: metrics.queued_weights[queue])
        self._wait_seconds = metrics.queue_wait_seconds.labels(queue)
        self._batch_size = metrics.batch_size.labels(queue)
        self.on_completed = metrics.batch_seconds.labels(queue).observe
        self.on_shed = metrics.shed.labels(queue).inc
        self.on_expired = metrics.expired.labels(queue).inc

    def add_queued(self, weight: int) -> None:
        """See BatcherMetrics."""
        self._queued_weights[self._queue] += weight

    def on_dispatched(self, weight: int, wait_seconds: float) -> None:
        """See BatcherMetrics."""
        self._batch_size.observe(weight)
        self._wait_seconds.observe(wait_seconds)
