"""Trains both networks on watches by several processes; the first of them measures them and returns both."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.device_mesh import init_device_mesh

from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit, held_back
from winnow.training.candidate_trainee import complete_options
from winnow.training.distributed.gathered_network import gather_networks
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes, ShareDone
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork
from winnow.training.distributed.sharded_candidate_trainee import ShardedCandidateTrainee
from winnow.training.distributed.sharded_checkpoint import ShardedCheckpoints, check_shared
from winnow.training.distributed.sharded_ranking_trainee import ShardedRankingTrainee
from winnow.training.estimate import peak_memory_bytes
from winnow.training.loop import train
from winnow.training.presets import RankingSettings, TrainingSettings
from winnow.training.run_context import RunContext
from winnow.training.succession_counts import SuccessionTable
from winnow.training.train_on_watches import finish
from winnow.training.trained_networks import TrainedNetworks
from winnow.training.watch_ranking_trainee import successions_in


def train_together(
    split: LogSplit,
    user_ids: Sequence[str],
    item_count: int,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    context: RunContext,
    processes: Processes,
) -> TrainedNetworks:
    """Train as `train_on_watches` does. Raises ShareDone in all processes but the first."""
    context.console.print(f"Split: {split.description}")
    check_shared(context.checkpoints, processes)
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
    candidate_network = candidate.network
    # With the state of its optimizers, which is larger than the network.
    del candidate
    context = context.also_from(context.identity(settings.candidate))
    of_all = held_back(len(split.training.rows), settings.candidate.held_back_share, seed=context.seed)
    ranking = ShardedRankingTrainee(
        own,
        candidate_network,
        settings.ranking,
        context,
        processes,
        held_back=of_all,
        successions=_count_successions(split, of_all, item_count, settings.ranking, context.seed),
    )
    ranking_epochs = train(ranking, context, store)
    context.console.print(_shares(candidate_network, processes), soft_wrap=True)
    networks = gather_networks(candidate_network, ranking.network, context.checkpoints, processes)
    if networks is None:
        raise ShareDone
    del candidate_network, ranking
    return finish(
        split,
        item_count,
        settings,
        context,
        candidate_network=networks[0],
        ranking_network=networks[1],
        epochs={"candidate": candidate_epochs, "ranking": ranking_epochs},
    )


def _shares(network: ShardedCandidateNetwork, processes: Processes) -> str:
    """Say what each process has had. Collective."""
    own = torch.tensor([[len(network.layout.own_rows), peak_memory_bytes()]], device=processes.device)
    rows, peaks = torch.cat(processes.gather(own)).T.tolist()
    return (
        f"{processes.count} processes: rows of each table {', '.join(f'{count:,}' for count in rows)}; "
        f"peak memory {', '.join(f'{peak / 2**20:,.0f} MiB' for peak in peaks)}"
    )


def _count_successions(
    split: LogSplit, held_back: NDArray[np.bool_], item_count: int, settings: RankingSettings, seed: int
) -> SuccessionTable | None:
    if not settings.latest_count:
        return None
    return successions_in(split.training, held_back, item_count, settings, seed=seed)
