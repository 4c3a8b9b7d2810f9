"""What gateways have counted for an experiment, read from their metrics."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from winnow.experiments.intervals import Estimate, quantile, ratio_by_group
from winnow.metrics_endpoint import MetricsError
from winnow.release.experiment import USER_GROUP_COUNT

PREFIX = "winnow_experiment_"


def _zeros() -> list[float]:
    return [0.0] * USER_GROUP_COUNT


@dataclass(kw_only=True)
class ArmCounts:
    """What was counted for one arm. Lists have one number for each group of users."""

    answers: list[float] = field(default_factory=_zeros)
    degraded: list[float] = field(default_factory=_zeros)
    events: dict[str, list[float]] = field(default_factory=lambda: defaultdict(_zeros))
    """By kind: click, watch."""
    fallbacks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By reason: waiting, stage."""
    seconds: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    """How many answers took at most so long."""
    shadow_requests: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By outcome: compared, degraded, failed, dropped, waiting."""
    overlap_sum: list[float] = field(default_factory=_zeros)
    overlap_count: list[float] = field(default_factory=_zeros)
    correlation_sum: list[float] = field(default_factory=_zeros)
    correlation_count: list[float] = field(default_factory=_zeros)

    def degraded_share(self) -> Estimate | None:
        """The share of answers that are degraded."""
        return ratio_by_group(self.degraded, self.answers)

    def events_per_answer(self, kind: str) -> Estimate | None:
        """Clicks or watches an answer."""
        return ratio_by_group(self.events.get(kind, _zeros()), self.answers)

    def seconds_quantile(self, share: float) -> Estimate | None:
        """A quantile of the answers' times."""
        return quantile(self.seconds, share)

    def overlap(self) -> Estimate | None:
        """The mean overlap of a shadow's first 20 items."""
        return ratio_by_group(self.overlap_sum, self.overlap_count)

    def rank_correlation(self) -> Estimate | None:
        """The mean rank correlation of a shadow."""
        return ratio_by_group(self.correlation_sum, self.correlation_count, least=-1.0)


@dataclass(frozen=True, kw_only=True)
class ExperimentCounts:
    """What several gateway processes have counted for one experiment."""

    arms: Mapping[str, ArmCounts]
    counted_since: datetime | None
    """When the last of them began to count; None where none does."""
    counting: int
    """How many processes take part."""


def read_counts(experiment: str, scraped: Sequence[str]) -> ExperimentCounts:
    """Add up what each process has counted. Raises MetricsError for a text that is not Prometheus's format."""
    arms: dict[str, ArmCounts] = defaultdict(ArmCounts)
    since: list[datetime] = []
    for text in scraped:
        try:
            samples = [
                (sample.name, sample.labels, sample.value)
                for family in text_string_to_metric_families(text)
                if family.name.startswith(PREFIX)
                for sample in family.samples
                if sample.labels.get("experiment") == experiment
            ]
            for name, labels, value in samples:
                if name == f"{PREFIX}counted_since_seconds":
                    since.append(datetime.fromtimestamp(value, UTC))
                else:
                    _add(arms[labels["arm"]], name.removeprefix(PREFIX), labels, value)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise MetricsError(f"not the metrics of a gateway: {error}") from error
    return ExperimentCounts(
        arms=arms,
        counted_since=max(since, default=None),
        counting=len(since),
    )


def _add(arm: ArmCounts, name: str, labels: Mapping[str, str], value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    by_group = {
        "answers_total": arm.answers,
        "degraded_total": arm.degraded,
        "shadow_overlap_sum": arm.overlap_sum,
        "shadow_overlap_count": arm.overlap_count,
        "shadow_rank_correlation_sum": arm.correlation_sum,
        "shadow_rank_correlation_count": arm.correlation_count,
    }
    if name in by_group:
        by_group[name][_group(labels)] += value
    elif name == "events_total":
        arm.events[labels["kind"]][_group(labels)] += value
    elif name == "fallbacks_total":
        arm.fallbacks[labels["reason"]] += value
    elif name == "seconds_bucket":
        arm.seconds[float(labels["le"])] += value
    elif name == "shadow_requests_total":
        arm.shadow_requests[labels["outcome"]] += value


def _group(labels: Mapping[str, str]) -> int:
    group = int(labels["group"])
    if not 0 <= group < USER_GROUP_COUNT:
        raise ValueError(f"there is no group {group} of users")
    return group


def total(counts: Iterable[float]) -> int:
    """Add up what was counted in all groups."""
    return round(sum(counts))
