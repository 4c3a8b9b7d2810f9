"""The plain networks from the parts of all processes, in the first of them.

Tables are written into files, stretch by stretch, and mapped: no process has a whole table in its own memory.
"""

from itertools import zip_longest
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.loader import build_network
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork
from winnow.training.distributed.sharded_ranking_network import ShardedRankingNetwork
from winnow.training.distributed.sharded_table import ShardedTable

# Of a table, sent at once.
ROWS_SENT = 65_536
TABLE_FILE = "gathered-table"


def gather_networks(
    candidate_network: ShardedCandidateNetwork,
    ranking_network: ShardedRankingNetwork,
    directory: Path,
    processes: Processes,
) -> tuple[DeepCandidateGenerationModel, DeepRankingModel] | None:
    """Return the plain networks in process 0, None in the others.

    Their tables are mapped files in `directory` that have no name any more: they are gone when the networks are.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in candidate_network.state_dict().items()}
    for name, module in candidate_network.named_modules():
        if isinstance(module, ShardedTable):
            weights[f"{name}.weight"] = gather_table(candidate_network, module, directory, processes)
    # The ranking network has a copy of its own of the embeddings: a file cannot hold one tensor twice.
    embeddings = gather_table(candidate_network, candidate_network.embedding, directory, processes)
    if processes.rank:
        return None
    of_ranking = {
        **{name: tensor.detach().cpu() for name, tensor in ranking_network.state_dict().items()},
        **{name: tensor.cpu() for name, tensor in ranking_network.fixed_tensors().items()},
        **{f"matching.network.{name}": tensor for name, tensor in weights.items()},
        "embedding.weight": embeddings,
    }
    return (
        build_network(DeepCandidateGenerationModel.from_config, candidate_network.config, weights),
        build_network(DeepRankingModel.from_config, ranking_network.config, of_ranking),
    )


def gather_table(
    network: ShardedCandidateNetwork, table: nn.Embedding, directory: Path, processes: Processes
) -> Tensor:
    """Return the whole table, float [I, W], mapped from a file, in process 0; the own rows in the others."""
    layout, own_rows = network.layout, table.weight.detach()
    width = own_rows.shape[1]
    if processes.rank:
        for block in torch.split(own_rows, ROWS_SENT):
            dist.send(block.contiguous(), dst=0)
        return own_rows
    path = directory / TABLE_FILE
    path.unlink(missing_ok=True)
    size = layout.item_count * width
    mapped = torch.from_file(str(path), shared=True, size=size, dtype=own_rows.dtype)
    path.unlink()
    whole: Tensor = mapped.view(layout.item_count, width)
    whole[layout.own_rows] = own_rows.cpu()
    blocks = [torch.split(layout.rows_of(rank), ROWS_SENT) for rank in range(1, processes.count)]
    # By turns, so that no process waits until all rows of the others have been written.
    for of_turn in zip_longest(*blocks):
        for rank, rows in enumerate(of_turn, start=1):
            if rows is not None:
                received = torch.empty(len(rows), width, dtype=own_rows.dtype, device=own_rows.device)
                dist.recv(received, src=rank)
                whole[rows] = received.cpu()
    return whole
