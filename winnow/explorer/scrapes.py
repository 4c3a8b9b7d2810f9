"""Reads the metrics endpoints of the services, and what has changed between two looks."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from winnow.metrics_endpoint import MetricsError, check_address, fetch_metrics

# Rates are of the time since the last look, if that is at least this long ago.
SHORTEST_INTERVAL_SECONDS = 1.0

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of one service at one time."""

    seconds: float
    samples: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with these labels; 0 where there are none."""
        wanted = set(labels.items())
        return sum(value for found, value in self.samples.get(name, {}).items() if wanted <= set(found))

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Return the sums of the samples by one of their labels."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self.samples.get(name, {}).items():
            sums[dict(labels).get(label, "")] += value
        return dict(sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a service does now."""

    interval_seconds: float
    requests_per_second: float
    failed_per_second: float
    """Calls that ended with another status than OK."""
    degraded_per_second: float
    shed_per_second: float
    in_flight: float
    releases_held: float
    queued: Mapping[str, float]
    """Waiting queries by queue."""
    mean_milliseconds: float | None
    """Of the calls that ended in the interval; None where none did."""


class Scraper:
    """Reads one endpoint, and keeps the last look at it."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """Raise MetricsError where the address is not one of HTTP."""
        check_address(url)
        self.url = url
        self._timeout_seconds = timeout_seconds
        self._last: Scrape | None = None

    async def rates(self) -> Rates:
        """Compare the endpoint with the last look at it; the first look takes a second. Raises MetricsError."""
        before = self._last or await self._look()
        waited = time.monotonic() - before.seconds
        if waited < SHORTEST_INTERVAL_SECONDS:
            await asyncio.sleep(SHORTEST_INTERVAL_SECONDS - waited)
        self._last = now = await self._look()
        return rates_between(before, now)

    async def _look(self) -> Scrape:
        try:
            return await asyncio.to_thread(self._fetch)
        except ValueError as error:
            self._last = None
            raise MetricsError(str(error) if isinstance(error, MetricsError) else f"{self.url}: {error}") from None

    def _fetch(self) -> Scrape:
        text = fetch_metrics(self.url, self._timeout_seconds)
        seconds = time.monotonic()
        return read_scrape(text, seconds)


def read_scrape(text: str, seconds: float) -> Scrape:
    """Read the text format of Prometheus. What is not a finite number is left out. Raises ValueError."""
    samples: dict[str, dict[Labels, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not math.isfinite(sample.value):
                continue
            samples[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return Scrape(seconds, samples)


def rates_between(before: Scrape, now: Scrape) -> Rates:
    """Say what has changed. A counter that has fallen began again with its process: it counts from 0."""
    interval = max(now.seconds - before.seconds, 1e-3)

    def gained(name: str, **labels: str) -> float:
        later, earlier = now.total(name, **labels), before.total(name, **labels)
        return later - earlier if later >= earlier else later

    ended = gained("winnow_request_seconds_count")
    return Rates(
        interval_seconds=interval,
        requests_per_second=gained("winnow_requests_total") / interval,
        failed_per_second=sum(_failed(before, now, gained)) / interval,
        degraded_per_second=gained("winnow_degraded_total") / interval,
        shed_per_second=gained("winnow_shed_total") / interval,
        in_flight=now.total("winnow_requests_in_flight"),
        releases_held=now.total("winnow_releases_held"),
        queued=now.by_label("winnow_queued", "queue"),
        mean_milliseconds=gained("winnow_request_seconds_sum") / ended * 1_000 if ended else None,
    )


def _failed(before: Scrape, now: Scrape, gained: Callable[..., float]) -> Iterable[float]:
    codes = {*before.by_label("winnow_requests_total", "code"), *now.by_label("winnow_requests_total", "code")}
    return (gained("winnow_requests_total", code=code) for code in codes - {"OK"})
