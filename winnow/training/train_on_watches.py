"""Trains both networks on watches: the candidate network, then the ranking network on the candidates it returns."""

from collections.abc import Sequence

from winnow.evaluation.ranks import stage_figures
from winnow.history import RaggedRows, WatchHistories
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.loop import train
from winnow.training.presets import TrainingSettings
from winnow.training.run_context import RunContext
from winnow.training.trained_networks import SAMPLE_COUNT, TUNING_COUNT, TrainedNetworks, evenly_spread
from winnow.training.watch_ranking_trainee import WatchRankingTrainee


def train_on_watches(
    split: LogSplit,
    item_count: int,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    context: RunContext,
    *,
    parts: Sequence[SideValues] = (),
) -> TrainedNetworks:
    """Train both networks on the training part, and measure them on the held-out parts.

    Raises CheckpointError where a checkpoint to resume from is of another run.
    """
    context.console.print(f"Split: {split.description}")
    watch_counts = split.watch_counts(item_count)
    candidate = CandidateTrainee(split, watch_counts, settings.candidate, context, sides=sides, parts=parts)
    candidate_epochs = train(candidate, context)
    candidate.fold()
    context = context.also_from(context.identity(settings.candidate))
    ranking = WatchRankingTrainee(split, candidate.network, settings.ranking, context, held_back=candidate.held_back)
    ranking_epochs = train(ranking, context)
    count = settings.ranking.candidate_count
    figures = {
        name: stage_figures(held_out, watch_counts, candidate.network, ranking.network, candidate_count=count)
        for name, held_out in split.held_out.items()
    }
    samples = _spread(split.test.histories if len(split.test) else split.training, SAMPLE_COUNT)
    return TrainedNetworks(
        candidate_network=candidate.network,
        ranking_network=ranking.network,
        epochs={"candidate": candidate_epochs, "ranking": ranking_epochs},
        figures=figures,
        max_training_timestamp=int(split.training.timestamps.max(initial=0)),
        sample_histories=samples.last(settings.candidate.history_length),
        tuning_histories=_spread(split.validation.histories, TUNING_COUNT),
    )


def _spread(histories: RaggedRows, count: int) -> WatchHistories:
    chosen = evenly_spread(len(histories), count)
    return WatchHistories.of(histories).take(histories.offsets[chosen], histories.lengths[chosen])
