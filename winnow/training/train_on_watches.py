"""Trains both networks on watches: the candidate network, then the ranking network on the candidates it returns."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.compare import SEED
from winnow.evaluation.figures_table import GAIN_OF_RANKING
from winnow.evaluation.rank_figures import Ranks, rank_figures
from winnow.evaluation.ranks import stage_ranks
from winnow.evaluation.recommender_figures import gain
from winnow.evaluation.recommenders import Recommender
from winnow.evaluation.simple_rivals import learn_rivals, rival_ranks
from winnow.history import RaggedRows, WatchHistories
from winnow.logs.items_file import facts_fingerprint
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import WHOLE_CORRECTION, scale_correction
from winnow.training.candidate_neighbours import add_to_candidates
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.checkpoint import EpochLog
from winnow.training.correction import shift_to_hits, use_correction
from winnow.training.loop import train
from winnow.training.neighbour_tables import neighbour_tables
from winnow.training.presets import TrainingSettings
from winnow.training.ranking_neighbours import add_neighbours
from winnow.training.ranking_network import with_neighbours
from winnow.training.run_context import RunContext
from winnow.training.trained_networks import (
    SAMPLE_COUNT,
    TUNING_COUNT,
    TrainedNetworks,
    Validated,
    evenly_spread,
)
from winnow.training.warm_start import WarmStart
from winnow.training.watch_ranking_trainee import WatchRankingTrainee

# Validation watches that the last few numbers are fitted on: all logits of their candidates are in memory at once.
FITTED_COUNT = 50_000


def train_on_watches(
    split: LogSplit,
    item_count: int,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    context: RunContext,
    *,
    parts: Sequence[SideValues] = (),
    facts: ItemFacts | None = None,
    start: WarmStart | None = None,
    rivals: Mapping[str, Recommender] | None = None,
) -> TrainedNetworks:
    """Train both networks on the training part, and measure them on the held-out parts.

    `facts` is what the continuous features of ranking read of the items. `start` has the weights that training begins
    with; without it they are drawn. `rivals` are the baselines that have learned from the training part, see
    `learn_rivals`; without them, they learn here.

    Raises CheckpointError where a checkpoint to resume from is of another run.
    """
    context.console.print(f"Split: {split.description}")
    watch_counts = split.watch_counts(item_count)
    candidate = CandidateTrainee(split, watch_counts, settings.candidate, context, sides=sides, parts=parts)
    if start is not None:
        context = context.also_from(start.release_id)
        start.of_candidate(candidate.network, context.console)
    candidate_epochs = train(candidate, context)
    candidate.fold()
    context = context.also_from(context.identity(settings.candidate))
    if facts is not None:
        context = context.also_from(facts_fingerprint(facts))
    ranking = WatchRankingTrainee(
        split, candidate.network, settings.ranking, context, held_back=candidate.held_back, facts=facts
    )
    if start is not None:
        start.of_ranking(ranking.network, context.console)
    ranking_epochs = train(ranking, context)
    return finish(
        split,
        item_count,
        settings,
        context,
        candidate_network=candidate.network,
        ranking_network=ranking.network,
        epochs={"candidate": candidate_epochs, "ranking": ranking_epochs},
        rivals=rivals,
    )


def finish(
    split: LogSplit,
    item_count: int,
    settings: TrainingSettings,
    context: RunContext,
    *,
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    epochs: Mapping[str, EpochLog],
    rivals: Mapping[str, Recommender] | None = None,
) -> TrainedNetworks:
    """Fit what is fitted on validation beside the epochs, and measure the networks and their rivals."""
    count = settings.ranking.candidate_count
    rivals = learn_rivals(split, item_count, context.console) if rivals is None else rivals
    fitted_on = split.validation.slice(0, min(FITTED_COUNT, len(split.validation)))
    candidate_neighbours, tables = None, dict[str, Neighbours]()
    if settings.ranking.neighbours:
        tables = neighbour_tables(rivals, split.training, item_count)
    if tables:
        added = add_to_candidates(candidate_network, tables, fitted_on, candidate_count=count)
        candidate_network, tables, candidate_neighbours = added.network, dict(added.tables), added.as_json()
        context.console.print(f"candidate network: {added.in_words()}", soft_wrap=True)
        # Ranking is trained without them: in the log that they are counted in, they know the targets.
        ranking_network = with_neighbours(ranking_network, candidate_network.neighbours.tables)
    factors = use_correction(candidate_network, ranking_network, split.validation, candidate_count=count)
    context.console.print(
        "ranking network: weights of its corrections of the candidates' order: "
        f"tower {factors.tower:g}, successions {factors.successions:g}",
        soft_wrap=True,
    )
    neighbour_weights = dict[str, float]()
    if settings.ranking.matching:
        ranking_network, neighbour_weights = add_neighbours(
            candidate_network, ranking_network, tables, fitted_on, candidate_count=count
        )
        shown = ", ".join(f"{name} {weight:g}" for name, weight in neighbour_weights.items())
        context.console.print(f"ranking network: weights of neighbours: {shown or 'none'}", soft_wrap=True)
        shift = shift_to_hits(candidate_network, ranking_network, fitted_on, candidate_count=count)
        scale_correction(ranking_network, WHOLE_CORRECTION, shift)
    watch_counts = split.watch_counts(item_count)
    of_rivals = rival_ranks(rivals, split, item_count)
    ranks = {
        part: {
            **{name: of_parts[part] for name, of_parts in of_rivals.items()},
            **stage_ranks(held_out, watch_counts, candidate_network, ranking_network, candidate_count=count),
        }
        for part, held_out in split.held_out.items()
    }
    samples = _spread(split.test.histories if len(split.test) else split.training, SAMPLE_COUNT)
    return TrainedNetworks(
        candidate_network=candidate_network,
        ranking_network=ranking_network,
        epochs=epochs,
        figures={part: _figures(of_part, split.held_out[part].users) for part, of_part in ranks.items()},
        max_training_timestamp=int(split.training.timestamps.max(initial=0)),
        sample_histories=samples.last(settings.candidate.history_length),
        tuning_histories=_spread(split.validation.histories, TUNING_COUNT),
        correction_factors=factors,
        candidate_neighbours=candidate_neighbours,
        neighbour_weights=neighbour_weights,
        validated=Validated(
            held_out=split.validation,
            chain=ranks["validation"]["chain"],
            baselines={name: ranks["validation"][name] for name in ("popularity", *of_rivals)},
        ),
    )


def _figures(ranks: Mapping[str, Ranks], users: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Return the figures of one part: of the baselines and the stages, and what the chain adds to the candidates."""
    names = ["popularity", *(name for name in ranks if name != "popularity")]
    gained = gain(ranks["chain"], ranks["candidate"], users, seed=SEED)
    return {**{name: rank_figures(ranks[name], users) for name in names}, GAIN_OF_RANKING: gained}


def _spread(histories: RaggedRows, count: int) -> WatchHistories:
    chosen = evenly_spread(len(histories), count)
    return WatchHistories.of(histories).take(histories.offsets[chosen], histories.lengths[chosen])
