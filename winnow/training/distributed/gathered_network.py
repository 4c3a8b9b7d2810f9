"""The plain network from the parts of all processes, in the first of them.

Tables are written into files, stretch by stretch, and mapped: no process has a whole table in its own memory.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.release.models.loader import build_network
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork
from winnow.training.distributed.sharded_table import ShardedTable

# Of a table, sent at once.
ROWS_SENT = 65_536


def gather_candidate_network(
    network: ShardedCandidateNetwork, directory: Path, processes: Processes
) -> DeepCandidateGenerationModel | None:
    """Return the plain network in process 0, None in the others.

    Its tables are mapped files in `directory` that have no name any more: they are gone when the network is.
    """
    weights: dict[str, Tensor] = {}
    tables = {name: module for name, module in network.named_modules() if isinstance(module, ShardedTable)}
    for name, tensor in network.state_dict().items():
        table = tables.get(name.removesuffix(".weight"))
        if table is None:
            weights[name] = tensor.detach().cpu()
        else:
            whole = gather_table(network, table.weight.detach(), directory / f"{name}.bin", processes)
            if whole is not None:
                weights[name] = whole
    if processes.rank:
        return None
    return build_plain_network(network, weights)


def build_plain_network(
    network: ShardedCandidateNetwork, weights: Mapping[str, Tensor]
) -> DeepCandidateGenerationModel:
    """Return a plain network with these weights, which are not copied."""
    return build_network(DeepCandidateGenerationModel.from_config, network.config, weights)


def gather_table(network: ShardedCandidateNetwork, own_rows: Tensor, path: Path, processes: Processes) -> Tensor | None:
    """Return the whole table, float [I, W], mapped from a new file, in process 0; None in the others."""
    layout, width = network.layout, own_rows.shape[1]
    if processes.rank:
        for block in torch.split(own_rows, ROWS_SENT):
            dist.send(block.contiguous(), dst=0)
        return None
    path.unlink(missing_ok=True)
    size = layout.item_count * width
    whole = torch.from_file(str(path), shared=True, size=size, dtype=own_rows.dtype).view(layout.item_count, width)
    path.unlink()
    whole[layout.own_rows] = own_rows.cpu()
    for rank in range(1, processes.count):
        for rows in torch.split(layout.rows_of(rank), ROWS_SENT):
            received = torch.empty(len(rows), width, dtype=own_rows.dtype, device=own_rows.device)
            dist.recv(received, src=rank)
            whole[rows] = received.cpu()
    return whole
