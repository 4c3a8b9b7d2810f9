"""What was measured: counts, and histograms of latency and of its parts.

Histograms are HDR histograms of microseconds, with three significant digits from 1 µs to a minute.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from winnow.v1 import recommendation_pb2

LOWEST_MICROSECONDS, HIGHEST_MICROSECONDS, SIGNIFICANT_DIGITS = 1, 60_000_000, 3

PARTS = ("outside", "gateway", "wait", "queue", "retrieve", "rank")
"""The parts of an answered call, which add up to its latency. `outside`: the client, the network, and calls that the
gateway has not begun. `gateway`: its own work. `wait`: until the request is sent to a stage, together with others.
`queue`: between gateway and stages, the network and the wait for the device. `retrieve`, `rank`: the computation of the
batch that held the query."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


def empty_histogram() -> Any:
    """Return a histogram of microseconds."""
    return HdrHistogram(LOWEST_MICROSECONDS, HIGHEST_MICROSECONDS, SIGNIFICANT_DIGITS)


@dataclass(kw_only=True)
class Measured:
    """What was seen in the measured seconds. Several client processes add up."""

    seconds: float
    answered_count: int = 0
    """OK answers of the requested length, degraded ones included."""
    degraded_count: int = 0
    failures: "Counter[str]" = field(default_factory=Counter)
    """Calls without a usable answer, by gRPC status or `INVALID_ANSWER`."""
    client_cpu_seconds: float = 0.0
    """CPU time of the client processes while they sent, their warm-up included."""
    latency: Any = field(default_factory=empty_histogram)
    parts: dict[str, Any] = field(default_factory=lambda: {part: empty_histogram() for part in PARTS})

    @property
    def rate_per_second(self) -> float:
        """Answers a second."""
        return self.answered_count / self.seconds

    @property
    def goodput_per_second(self) -> float:
        """Answers a second that are not degraded. Every answer that counts came within its deadline."""
        return (self.answered_count - self.degraded_count) / self.seconds

    @property
    def failed_count(self) -> int:
        """Calls without a usable answer."""
        return self.failures.total()

    def milliseconds(self, percentile: str) -> float:
        """Latency at one of PERCENTILES."""
        return float(self.latency.get_value_at_percentile(PERCENTILES[percentile])) / 1000

    def record(self, response: recommendation_pb2.RecommendItemsResponse, microseconds: int, length: int) -> None:
        """Record an answer that took so long. One of another length is a failure, unless `length` is 0."""
        if length and len(response.items) != length:
            self.failures["INVALID_ANSWER"] += 1
            return
        self.answered_count += 1
        self.degraded_count += response.degradation.step != recommendation_pb2.DEGRADATION_STEP_NONE
        self.latency.record_value(max(microseconds, 1))
        for part, value in _parts(response.timing, microseconds).items():
            self.parts[part].record_value(max(value, 1))

    def add(self, other: "Measured") -> None:
        """Add what another client process saw in the same seconds, or the same clients in further seconds."""
        self.answered_count += other.answered_count
        self.degraded_count += other.degraded_count
        self.failures += other.failures
        self.client_cpu_seconds += other.client_cpu_seconds
        self.latency.add(other.latency)
        for part, histogram in self.parts.items():
            histogram.add(other.parts[part])

    def encode(self) -> dict[str, Any]:
        """Return what `decode` reads in another process; histograms do not pickle."""
        return {
            "seconds": self.seconds,
            "answered_count": self.answered_count,
            "degraded_count": self.degraded_count,
            "failures": self.failures,
            "client_cpu_seconds": self.client_cpu_seconds,
            "latency": self.latency.encode(),
            "parts": {part: histogram.encode() for part, histogram in self.parts.items()},
        }

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Measured":
        """Rebuild what `encode` returned."""
        return cls(
            seconds=encoded["seconds"],
            answered_count=encoded["answered_count"],
            degraded_count=encoded["degraded_count"],
            failures=encoded["failures"],
            client_cpu_seconds=encoded["client_cpu_seconds"],
            latency=HdrHistogram.decode(encoded["latency"]),
            parts={part: HdrHistogram.decode(histogram) for part, histogram in encoded["parts"].items()},
        )

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "seconds": round(self.seconds, 3),
            "rate_per_second": round(self.rate_per_second, 2),
            "goodput_per_second": round(self.goodput_per_second, 2),
            "answered_count": self.answered_count,
            "degraded_count": self.degraded_count,
            "failures": dict(self.failures),
            "latency_milliseconds": {name: self.milliseconds(name) for name in PERCENTILES},
            "parts_mean_milliseconds": {
                part: round(float(histogram.get_mean_value()) / 1000, 3) if histogram.get_total_count() else None
                for part, histogram in self.parts.items()
            },
        }


def added_over_time(runs: Iterable[Measured]) -> Measured:
    """Put repeated runs together as if they were one long run."""
    runs = list(runs)
    total = Measured(seconds=sum(run.seconds for run in runs))
    for run in runs:
        total.add(run)
    return total


def _parts(timing: recommendation_pb2.Timing, microseconds: int) -> dict[str, int]:
    """Split the latency of a call into PARTS; not at all where the answer does not say where its time went."""
    if not timing.total_microseconds:
        return {}
    stages = timing.retrieve_microseconds + timing.rank_microseconds
    computation = timing.retrieve_compute_microseconds + timing.rank_compute_microseconds
    return {
        "outside": microseconds - timing.total_microseconds,
        "gateway": timing.total_microseconds - timing.wait_microseconds - stages,
        "wait": timing.wait_microseconds,
        "queue": stages - computation,
        "retrieve": timing.retrieve_compute_microseconds,
        "rank": timing.rank_compute_microseconds,
    }
