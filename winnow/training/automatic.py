"""The preset `auto`: settings that follow from the statistics of a log.

`RULES` are applied one after the other, each to what the ones before it have made of BASIS. Every rule says what it
found and what that leads to; the training report has these sentences. docs/adr/0015 has the measurements behind them.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from winnow.logs.statistics import LogStatistics
from winnow.networks.options import HistoryOptions
from winnow.networks.watch_features import WatchFeatures
from winnow.training.presets import (
    DEMO,
    GAP_EDGES_SECONDS,
    TrainingSettings,
)

NAME = "auto"
# What no statistics change, and what the rules begin with.
BASIS = DEMO

# From this many watches on, a log is large: BASIS was chosen on one.
LARGE_LOG = 500_000
# Above this many watches, histories are not copied: copies are in memory.
LARGEST_COPIED_LOG = 20_000_000
# Below this many watches of a user, histories are short.
SHORT_HISTORY = 16
RANGES_OF_RATINGS = 100
# Examples that all epochs have together, at most.
EXAMPLES_OF_A_RUN = 5_000_000
FEWEST_EPOCHS, MOST_EPOCHS = 2, 6
# Epochs without better validation after which a network is not trained further.
PATIENCE = 2

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one rule found in the log and what it did."""

    found: str
    leads_to: str
    settings: TrainingSettings

    def __str__(self) -> str:
        return f"{self.found}: {self.leads_to}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Settings, and how they came about."""

    settings: TrainingSettings
    statistics: LogStatistics
    decisions: tuple[str, ...]
    """What each rule found in the log, and what that leads to."""

    def as_json(self) -> Mapping[str, Any]:
        """Return what the manifest of a release holds of it."""
        return {"statistics": asdict(self.statistics), "decisions": list(self.decisions)}


def choose(statistics: LogStatistics) -> Choice:
    """Apply all rules to the statistics of the watches that are trained on."""
    settings, decisions = BASIS, []
    for rule in RULES:
        decision = rule(statistics, settings)
        settings = decision.settings
        decisions.append(str(decision))
    return Choice(settings=settings, statistics=statistics, decisions=tuple(decisions))


def order(log: LogStatistics, settings: TrainingSettings) -> Decision:
    """Where the order says nothing, histories are sets: one plain average, and examples in random order."""
    if log.order_known:
        lags = () if log.watch_count >= LARGE_LOG else (0, 1)
        history = replace(settings.candidate.options.history, bag_lags=lags)
        return Decision(
            found=f"the order of the watches says something ({log.order_reason})",
            leads_to="bags of all, of the latest and of the last few watches"
            + (", and one for each of the last two" if lags else ""),
            settings=_of_history(settings, history),
        )
    plain = HistoryOptions(history_length=settings.candidate.history_length, bag_decays=(0.0,))
    unordered = _of_history(settings, plain)
    # The copies are in memory.
    copies = 0 if log.watch_count > LARGEST_COPIED_LOG else 3
    copied = (
        "three shuffled copies of each history" if copies else "no shuffled copies, which would not fit into memory"
    )
    return Decision(
        found=f"the order of the watches says nothing ({log.order_reason})",
        leads_to=f"one average of all watches, {copied}, no successions",
        settings=_with(unordered, candidate={"shuffled_copies": copies}, ranking={"latest_count": 0}),
    )


def watch_features(log: LogStatistics, settings: TrainingSettings) -> Decision:
    """Features of a watch are read where the log has them: gaps where there are times, weights where they differ."""
    gaps = GAP_EDGES_SECONDS if log.times_known else ()
    history = settings.candidate.options.history
    found = f"{'there are' if gaps else 'no'} times between watches, {log.weights_in_words}"
    if not gaps and log.weights == "none":
        return Decision(
            found=found,
            leads_to="only the items of watches are read",
            settings=_of_history(settings, replace(history, watch_features=None)),
        )
    # Ranges are cut at quantiles. So many of them give each step of a scale its own.
    ranges = RANGES_OF_RATINGS if log.weights == "ratings" else BASIS.candidate.weight_range_count
    read = ["gaps"] if gaps else []
    if log.weights == "ratings":
        read.append("each step of the ratings")
    elif log.weights == "amounts":
        read.append(f"the amounts in {ranges} ranges of equal frequency")
    changed = _of_history(settings, replace(history, watch_features=WatchFeatures(gap_edges_seconds=gaps)))
    return Decision(
        found=found,
        leads_to=f"{' and '.join(read)} are read",
        settings=_with(changed, candidate={"weight_range_count": ranges}),
    )


def size(log: LogStatistics, settings: TrainingSettings) -> Decision:
    """Little data needs more steps in an epoch, of fewer examples each, and a smaller step size."""
    if log.watch_count >= LARGE_LOG:
        return Decision(
            found=f"{log.watch_count:,} watches are many",
            leads_to=f"step size {settings.candidate.learning_rate:g}",
            settings=settings,
        )
    return Decision(
        found=f"{log.watch_count:,} watches are few",
        leads_to="half the step size, a quarter of the examples in a step",
        settings=_with(settings, candidate={"learning_rate": 2e-3, "chunks_per_batch": 8}),
    )


def length(log: LogStatistics, settings: TrainingSettings) -> Decision:
    """Short histories are cut into short chunks: the number of examples in a step stays."""
    if log.median_length >= SHORT_HISTORY:
        return Decision(
            found=f"histories are long ({log.median_length} watches)",
            leads_to=f"the latest {settings.candidate.history_length} watches are read",
            settings=settings,
        )
    chunk_length, history_length = 8, 32
    per_step = settings.candidate.chunk_length * settings.candidate.chunks_per_batch
    history = replace(settings.candidate.options.history, history_length=history_length)
    return Decision(
        found=f"histories are short ({log.median_length} watches)",
        leads_to=f"the latest {history_length} watches are read",
        settings=_with(
            _of_history(settings, history),
            candidate={"chunk_length": chunk_length, "chunks_per_batch": per_step // chunk_length},
        ),
    )


def epochs(log: LogStatistics, settings: TrainingSettings) -> Decision:
    """As many epochs as the examples of a run allow; both networks stop earlier where validation does."""
    examples = max(log.watch_count, 1) * (1 + settings.candidate.shuffled_copies)
    count = min(max(EXAMPLES_OF_A_RUN // examples, FEWEST_EPOCHS), MOST_EPOCHS)
    of_ranking = BASIS.ranking.epochs if log.watch_count >= LARGE_LOG else 2 * BASIS.ranking.epochs
    return Decision(
        found=f"{examples:,} examples an epoch",
        leads_to=f"at most {count} epochs, {of_ranking} of ranking; none after {PATIENCE} without better validation",
        settings=_with(
            settings,
            candidate={"epochs": count, "patience": PATIENCE},
            ranking={"epochs": of_ranking, "patience": PATIENCE},
        ),
    )


RULES: tuple[Callable[[LogStatistics, TrainingSettings], Decision], ...] = (order, watch_features, size, length, epochs)


def _of_history(settings: TrainingSettings, history: HistoryOptions) -> TrainingSettings:
    return _with(settings, candidate={"options": replace(settings.candidate.options, history=history)})


def _with(
    settings: TrainingSettings, *, candidate: Mapping[str, Any] = NOTHING, ranking: Mapping[str, Any] = NOTHING
) -> TrainingSettings:
    """Return the settings with other values of fields of the two stages."""
    return replace(
        settings,
        candidate=replace(settings.candidate, **candidate),
        ranking=replace(settings.ranking, **ranking),
    )
