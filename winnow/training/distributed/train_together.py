"""Trains both networks on watches by several processes; the first of them measures them and returns both."""

from collections.abc import Sequence

from torch.distributed.device_mesh import init_device_mesh

from winnow.catalogue.item_facts import ItemFacts
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit, held_back
from winnow.training.candidate_trainee import complete_options
from winnow.training.distributed.gathered_network import gather_candidate_network
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes, ShareDone
from winnow.training.distributed.sharded_candidate_trainee import ShardedCandidateTrainee
from winnow.training.distributed.sharded_checkpoint import ShardedCheckpoints
from winnow.training.loop import train
from winnow.training.presets import TrainingSettings
from winnow.training.run_context import RunContext
from winnow.training.train_on_watches import finish
from winnow.training.trained_networks import TrainedNetworks
from winnow.training.watch_ranking_trainee import WatchRankingTrainee


def train_together(
    split: LogSplit,
    user_ids: Sequence[str],
    item_count: int,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    context: RunContext,
    processes: Processes,
    facts: ItemFacts | None,
) -> TrainedNetworks:
    """Train as `train_on_watches` does. Raises ShareDone in all processes but the first."""
    context.console.print(f"Split: {split.description}")
    own = OwnPart.of(split, user_ids, processes)
    watch_counts = split.watch_counts(item_count)
    options = complete_options(settings.candidate, split.training.weights, sides, ())
    candidate = ShardedCandidateTrainee(
        own, watch_counts, settings.candidate, context, processes, options=options, sides=sides
    )
    store = ShardedCheckpoints(
        directory=context.checkpoints,
        item_count=item_count,
        mesh=init_device_mesh(context.device.type, (processes.count,)),
        processes=processes,
    )
    candidate_epochs = train(candidate, context, store)
    network = gather_candidate_network(candidate.network, context.checkpoints, processes)
    if network is None:
        raise ShareDone
    context = context.also_from(context.identity(settings.candidate))
    all_held_back = held_back(len(split.training.rows), settings.candidate.held_back_share, seed=context.seed)
    ranking = WatchRankingTrainee(split, network, settings.ranking, context, held_back=all_held_back, facts=facts)
    ranking_epochs = train(ranking, context)
    return finish(
        split,
        item_count,
        settings,
        context,
        candidate_network=network,
        ranking_network=ranking.network,
        factors=ranking.use_correction(),
        epochs={"candidate": candidate_epochs, "ranking": ranking_epochs},
    )
