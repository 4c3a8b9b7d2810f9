"""Trains both networks on watches by several processes; the first of them returns both."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.device_mesh import init_device_mesh

from winnow.history import RaggedRows, stretches
from winnow.logs.side_values import SideValues
from winnow.logs.split import held_back
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.training.candidate_trainee import complete_options
from winnow.training.checkpoint import EpochLog
from winnow.training.distributed.gathered_network import gather_networks
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import ShareDone
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork
from winnow.training.distributed.sharded_candidate_trainee import ShardedCandidateTrainee
from winnow.training.distributed.sharded_checkpoint import ShardedCheckpoints, check_shared
from winnow.training.distributed.sharded_quantiles import sharded_quantile_edges
from winnow.training.distributed.sharded_ranking_trainee import ShardedRankingTrainee
from winnow.training.estimate import peak_memory_bytes
from winnow.training.loop import train
from winnow.training.presets import RankingSettings, TrainingSettings
from winnow.training.run_context import RunContext
from winnow.training.succession_counts import SuccessionTable, count_successions, drawn_users
from winnow.training.watch_ranking_trainee import COUNTED_WATCHES

Trained = tuple[DeepCandidateGenerationModel, DeepRankingModel, Mapping[str, EpochLog]]


def train_together(
    own: OwnPart,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    context: RunContext,
) -> Trained:
    """Train as `train_on_watches` does, and return both networks and their epochs.

    Raises ShareDone in all processes but the first.
    """
    processes = own.processes
    context.console.print(f"Split: {own.split.description}")
    check_shared(context.checkpoints, processes)
    item_count = len(own.vocabulary)
    weight_edges = partial(sharded_quantile_edges, own.split.training.weights, processes=processes)
    candidate = ShardedCandidateTrainee(
        own,
        own.watch_counts(),
        settings.candidate,
        context,
        processes,
        options=complete_options(settings.candidate, weight_edges, sides, ()),
        sides=sides,
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
    of_all = held_back(int(own.lengths.sum()), settings.candidate.held_back_share, seed=context.seed)
    ranking = ShardedRankingTrainee(
        own,
        candidate_network,
        settings.ranking,
        context,
        processes,
        held_back=of_all,
        successions=_count_successions(own, of_all, settings.ranking, context.seed),
    )
    ranking_epochs = train(ranking, context, store)
    context.console.print(_shares(own, candidate_network), soft_wrap=True)
    networks = gather_networks(candidate_network, ranking.network, context.checkpoints, processes)
    if networks is None:
        raise ShareDone
    return *networks, {"candidate": candidate_epochs, "ranking": ranking_epochs}


def _shares(own: OwnPart, network: ShardedCandidateNetwork) -> str:
    """Say what each process has had. Collective."""
    processes = own.processes
    had = [len(network.layout.own_rows), int(own.log_lengths[own.users].sum()), peak_memory_bytes()]
    had_by_all = torch.cat(processes.gather(torch.tensor([had], device=processes.device)))
    rows, watches, peaks = had_by_all.T.tolist()
    return (
        f"{processes.count} processes: rows of each table {', '.join(f'{count:,}' for count in rows)}; "
        f"watches {', '.join(f'{count:,}' for count in watches)}; "
        f"peak memory {', '.join(f'{peak / 2**20:,.0f} MiB' for peak in peaks)}"
    )


def _count_successions(
    own: OwnPart, held_back: NDArray[np.bool_], settings: RankingSettings, seed: int
) -> SuccessionTable | None:
    """Count what `successions_in` counts, in every process. Collective."""
    if not settings.latest_count:
        return None
    users = drawn_users(own.lengths, COUNTED_WATCHES, seed=seed)
    lengths = own.lengths[users]
    rows = own.gathered(own.split.training.rows, users)
    watches = stretches((np.cumsum(own.lengths) - own.lengths)[users], lengths)
    return count_successions(
        RaggedRows.from_lengths(rows, lengths),
        ~held_back[watches],
        len(own.vocabulary),
        successors_per_item=settings.successors_per_item,
    )
