"""What a training run will take, measured on a few real steps of networks that are then thrown away."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from statistics import median

import torch

from winnow.catalogue.item_facts import ItemFacts
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.impression_ranking_trainee import ImpressionRankingTrainee
from winnow.training.loop import Trainee, take_step
from winnow.training.presets import CandidateSettings, ImpressionSettings, TrainingSettings
from winnow.training.run_context import RunContext
from winnow.training.watch_ranking_trainee import WatchRankingTrainee

# After a first one, which allocates memory.
MEASURED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """How long one network is trained."""

    name: str
    epochs: int
    steps_per_epoch: int
    epoch_seconds: float
    """With validation."""

    def __str__(self) -> str:
        return (
            f"{self.name} network: {self.epochs} epochs of {self.steps_per_epoch:,} steps, "
            f"about {duration(self.epoch_seconds)} each"
        )


def describe(plans: Sequence[NetworkPlan]) -> str:
    """Say in one line a network, and one for all, what a run will take."""
    seconds = sum(plan.epochs * plan.epoch_seconds for plan in plans)
    return "\n".join([f"Plan: about {duration(seconds)} of training", *(f"  {plan}" for plan in plans)])


def duration(seconds: float) -> str:
    """Return a time for people, in the largest unit of which it has two."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else "1 second"


def plan_on_watches(
    split: LogSplit, item_count: int, sides: Sequence[SideValues], settings: TrainingSettings, context: RunContext
) -> list[NetworkPlan]:
    """Measure both networks of `train_on_watches`."""
    shortened, blocks = _shortened(split)
    candidate = CandidateTrainee(shortened, split.watch_counts(item_count), settings.candidate, context, sides=sides)
    plans = [_plan(candidate, blocks, context)]
    # Counting successions takes long, and the steps are about the same without.
    settings_of_ranking = replace(settings.ranking, latest_count=0)
    ranking = WatchRankingTrainee(
        shortened, candidate.network, settings_of_ranking, context, held_back=candidate.held_back
    )
    return [*plans, _plan(ranking, blocks, context)]


def plan_on_impressions(
    log: ImpressionLog,
    facts: ItemFacts,
    sides: Sequence[SideValues],
    candidate_settings: CandidateSettings,
    settings: ImpressionSettings,
    context: RunContext,
) -> list[NetworkPlan]:
    """Measure both networks of `train_on_impressions`; the validation of the ranking network is not counted."""
    shortened, blocks = _shortened(log.earlier_watches)
    counts = log.earlier_watches.watch_counts(len(log.popularity))
    candidate = CandidateTrainee(shortened, counts, candidate_settings, context, sides=sides)
    plans = [_plan(candidate, blocks, context)]
    ranking = ImpressionRankingTrainee(log.impressions, candidate.network, facts, settings, context)
    return [*plans, _plan(ranking, 0, context)]


def _shortened(split: LogSplit) -> tuple[LogSplit, float]:
    """Return the split with one block of the validation, and how many of that there are."""
    block = next(split.validation.blocks())
    return replace(split, validation=block), len(split.validation) / len(block)


def _plan(trainee: Trainee, validation_blocks: float, context: RunContext) -> NetworkPlan:
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        trainee.network.train()
        times = [time.monotonic()]
        for loss, _ in islice(trainee.losses(0), 1 + MEASURED_STEPS):
            take_step(trainee.optimizers, loss)
            loss.item()
            times.append(time.monotonic())
        trainee.network.eval()
        validation_seconds = 0.0
        if validation_blocks:
            began = time.monotonic()
            trainee.validate()
            validation_seconds = validation_blocks * (time.monotonic() - began)
    steps = [after - before for before, after in pairwise(times)]
    return NetworkPlan(
        name=trainee.name,
        epochs=trainee.settings.epochs,
        steps_per_epoch=trainee.steps_per_epoch,
        epoch_seconds=trainee.steps_per_epoch * median(steps[1:] or steps) + validation_seconds,
    )
