"""Trains both networks where there is a log of impressions: one on the watches before them, one on them."""

from collections.abc import Sequence

import numpy as np

from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.figures_table import IMPRESSIONS
from winnow.evaluation.impression_figures import impression_figures
from winnow.evaluation.rank_figures import rank_figures
from winnow.evaluation.ranks import stage_ranks
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.items_file import facts_fingerprint
from winnow.logs.side_values import SideValues
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.checkpoint import EpochLog
from winnow.training.impression_ranking_trainee import ImpressionRankingTrainee
from winnow.training.loop import train
from winnow.training.presets import CandidateSettings, ImpressionSettings
from winnow.training.run_context import RunContext
from winnow.training.trained_networks import SAMPLE_COUNT, TUNING_COUNT, TrainedNetworks, evenly_spread


def train_on_impressions(
    log: ImpressionLog,
    facts: ItemFacts,
    sides: Sequence[SideValues],
    candidate_settings: CandidateSettings,
    settings: ImpressionSettings,
    context: RunContext,
    *,
    parts: Sequence[SideValues] = (),
) -> TrainedNetworks:
    """Train both networks and measure them: the candidate network on watches, the ranking network on impressions.

    Raises CheckpointError where a checkpoint to resume from is of another run.
    """
    split = log.impressions
    context.console.print(
        f"{len(split.training):,} impressions to train on, {len(split.validation):,} later ones for validation, "
        f"{len(split.test):,} after those for the test"
    )
    candidate_network, candidate_epochs = train_candidate_network(log, sides, candidate_settings, context, parts=parts)
    context = context.also_from(context.identity(candidate_settings))
    ranking_network, ranking_epochs = train_ranking_network(log, facts, candidate_network, settings, context)
    samples = split.test.take(evenly_spread(len(split.test), SAMPLE_COUNT))
    with_history = np.flatnonzero(split.validation.history_lengths)
    tuning = split.validation.take(with_history[evenly_spread(len(with_history), TUNING_COUNT)])
    return TrainedNetworks(
        candidate_network=candidate_network,
        ranking_network=ranking_network,
        epochs={"candidate": candidate_epochs, "ranking": ranking_epochs},
        figures=_figures(log, candidate_network, ranking_network),
        max_training_timestamp=int(log.earlier_watches.training.timestamps.max(initial=0)),
        sample_histories=samples.histories(candidate_settings.history_length),
        sample_contexts=samples.contexts(),
        tuning_histories=tuning.histories(None),
    )


def train_candidate_network(
    log: ImpressionLog,
    sides: Sequence[SideValues],
    settings: CandidateSettings,
    context: RunContext,
    *,
    parts: Sequence[SideValues] = (),
) -> tuple[DeepCandidateGenerationModel, EpochLog]:
    """Train the candidate network on the watches before the impressions."""
    watches = log.earlier_watches
    watch_counts = watches.watch_counts(len(log.popularity))
    trainee = CandidateTrainee(watches, watch_counts, settings, context, sides=sides, parts=parts)
    epochs = train(trainee, context)
    trainee.fold()
    return trainee.network, epochs


def train_ranking_network(
    log: ImpressionLog,
    facts: ItemFacts,
    candidate_network: DeepCandidateGenerationModel,
    settings: ImpressionSettings,
    context: RunContext,
) -> tuple[DeepRankingModel, EpochLog]:
    """Train the ranking network on the training impressions; choose the epoch and recalibrate on the validation.

    The data of the context must identify the candidate network; the facts are added here.
    """
    context = context.also_from(facts_fingerprint(facts))
    trainee = ImpressionRankingTrainee(log.impressions, candidate_network, facts, settings, context)
    epochs = train(trainee, context)
    trainee.recalibrate()
    return trainee.network, epochs


def _figures(
    log: ImpressionLog, candidate_network: DeepCandidateGenerationModel, ranking_network: DeepRankingModel
) -> dict[str, dict[str, dict[str, float]]]:
    watches = log.earlier_watches
    watch_counts = watches.watch_counts(len(log.popularity))
    return {
        name: {
            **{
                stage: rank_figures(ranks, held_out.users)
                for stage, ranks in stage_ranks(held_out, watch_counts, candidate_network).items()
            },
            IMPRESSIONS: impression_figures(ranking_network, log.impressions.held_out[name]),
        }
        for name, held_out in watches.held_out.items()
    }
