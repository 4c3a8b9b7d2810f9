"""What came of a load: counts, and histograms of where the time went.

Histograms are HDR histograms of microseconds: three significant digits from 1 µs to a minute, whatever is recorded.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

LOWEST_MICROSECONDS, HIGHEST_MICROSECONDS, SIGNIFICANT_DIGITS = 1, 60_000_000, 3

PARTS = ("outside", "edge", "queue", "candidate", "ranking")
"""The parts of an answered call, which add up to its latency. `outside`: the client, the network, and the gateway's
queue of calls not yet begun. `edge`: the gateway's own work. `queue`: between gateway and stages, waiting to be sent,
network, waiting for the device. `candidate`, `ranking`: computation of the batch that held the query."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


def empty_histogram() -> Any:
    """Return a histogram of microseconds."""
    return HdrHistogram(LOWEST_MICROSECONDS, HIGHEST_MICROSECONDS, SIGNIFICANT_DIGITS)


@dataclass(kw_only=True)
class Measured:
    """What was seen in the measured seconds. `Measured` of several client processes add up."""

    seconds: float
    answered_count: int = 0
    """OK answers of the asked length, degraded ones included."""
    degraded_count: int = 0
    failures: "Counter[str]" = field(default_factory=Counter)
    """Calls without a usable answer, by gRPC status or `INVALID_ANSWER`."""
    latency: Any = field(default_factory=empty_histogram)
    parts: dict[str, Any] = field(default_factory=lambda: {part: empty_histogram() for part in PARTS})

    @property
    def rate_per_second(self) -> float:
        """Answers a second."""
        return self.answered_count / self.seconds

    @property
    def goodput_per_second(self) -> float:
        """Answers a second that are not degraded; every answer counted came within its deadline."""
        return (self.answered_count - self.degraded_count) / self.seconds

    @property
    def failed_count(self) -> int:
        """Calls without a usable answer."""
        return self.failures.total()

    def milliseconds(self, percentile: str) -> float:
        """Latency at one of PERCENTILES."""
        return float(self.latency.get_value_at_percentile(PERCENTILES[percentile])) / 1000

    def add(self, other: "Measured") -> None:
        """Add what another client process saw in the same seconds, or the same clients in further seconds."""
        self.answered_count += other.answered_count
        self.degraded_count += other.degraded_count
        self.failures += other.failures
        self.latency.add(other.latency)
        for part, histogram in self.parts.items():
            histogram.add(other.parts[part])

    def encode(self) -> dict[str, Any]:
        """Return what `decode` reads, for another process; histograms do not pickle."""
        return {
            "seconds": self.seconds,
            "answered_count": self.answered_count,
            "degraded_count": self.degraded_count,
            "failures": self.failures,
            "latency": self.latency.encode(),
            "parts": {part: histogram.encode() for part, histogram in self.parts.items()},
        }

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Measured":
        """Rebuild what `encode` gave."""
        return cls(
            seconds=encoded["seconds"],
            answered_count=encoded["answered_count"],
            degraded_count=encoded["degraded_count"],
            failures=encoded["failures"],
            latency=HdrHistogram.decode(encoded["latency"]),
            parts={part: HdrHistogram.decode(histogram) for part, histogram in encoded["parts"].items()},
        )

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
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
    """Put repeated runs together as if they were one long one."""
    runs = list(runs)
    total = Measured(seconds=sum(run.seconds for run in runs))
    for run in runs:
        total.add(run)
    return total
