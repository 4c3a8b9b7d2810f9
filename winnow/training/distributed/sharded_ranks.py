"""Ranks and best candidates among all items, where each process scores those whose vectors it has.

Shape legend: P held-out watches of each process in a block, Q those of all processes, I items, J items of this process,
K candidates.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.evaluation.rank_figures import NOT_FOUND, Ranks
from winnow.history import RaggedRows
from winnow.logs.split import WATCHES_PER_BLOCK, HeldOut
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork


@torch.inference_mode()
def sharded_candidate_ranks(network: ShardedCandidateNetwork, own: HeldOut, processes: Processes) -> Ranks:
    """Rank the targets of this process's held-out watches as `candidate_ranks` does."""
    ranks = [np.empty(0, dtype=np.int64)]
    for block in equal_blocks(own, processes):
        scores_QJ, seen_QJ = scores_of_all(network, block.histories, processes)
        scores_QJ.masked_fill_(seen_QJ, -torch.inf)
        targets = torch.from_numpy(block.targets).to(processes.device)
        positions_Q = network.layout.positions(torch.cat(processes.gather(targets))) - network.layout.own_start
        here_Q = (positions_Q >= 0) & (positions_Q < scores_QJ.shape[1])
        # The score of a target is known where its vector is.
        target_scores_Q = scores_QJ.new_full((len(scores_QJ),), -torch.inf)
        target_scores_Q[here_Q] = scores_QJ[here_Q, positions_Q[here_Q]]
        processes.largest(target_scores_Q)
        better_Q = processes.total((scores_QJ >= target_scores_Q.unsqueeze(1)).sum(dim=1)) - 1
        ranks_Q = better_Q.masked_fill(torch.isneginf(target_scores_Q), NOT_FOUND)
        ranks.append(_own_stretch(ranks_Q, len(block), processes).cpu().numpy())
    return np.concatenate(ranks)


@torch.inference_mode()
def sharded_top_candidates(
    network: ShardedCandidateNetwork, histories: RaggedRows, processes: Processes, *, candidate_count: int
) -> Tensor:
    """Return what `top_candidates` returns for the histories of this process, int64 [P, K]."""
    lengths = torch.cat(processes.gather(torch.tensor([len(histories)], device=processes.device))).tolist()
    scores_QJ, seen_QJ = scores_of_all(network, histories, processes)
    # Seen items come last, but before what fills up the lists of a process with few items.
    scores_QJ.masked_fill_(seen_QJ, torch.finfo(scores_QJ.dtype).min)
    count = min(candidate_count, network.layout.stretch)
    best = scores_QJ.topk(min(count, scores_QJ.shape[1]), dim=1)
    scores_QK = scores_QJ.new_full((len(scores_QJ), count), -torch.inf)
    rows_QK = torch.zeros(len(scores_QJ), count, dtype=torch.int64, device=processes.device)
    scores_QK[:, : best.values.shape[1]] = best.values
    rows_QK[:, : best.values.shape[1]] = network.layout.own_rows.to(processes.device)[best.indices]
    # Each process gets the lists of its own histories, one from every process.
    shape = processes.count, len(histories), count
    back = [len(histories)] * processes.count
    scores_KP = processes.exchange(scores_QK, lengths, back).view(shape).transpose(0, 1).flatten(1)
    rows_KP = processes.exchange(rows_QK, lengths, back).view(shape).transpose(0, 1).flatten(1)
    return rows_KP.gather(1, scores_KP.topk(min(candidate_count, network.n_items), dim=1).indices)


def scores_of_all(
    network: ShardedCandidateNetwork, histories: RaggedRows, processes: Processes
) -> tuple[Tensor, Tensor]:
    """Score the items of this process for the histories of all processes: float [Q, J], and which are seen, bool."""
    users = torch.cat(processes.gather(network.user_vectors(network.pack(histories))))
    scores_QJ = network.logits(users)
    lengths = torch.cat(processes.gather(torch.from_numpy(histories.lengths).to(processes.device)))
    rows = torch.cat(processes.gather(torch.from_numpy(histories.rows).to(processes.device)))
    positions = network.layout.positions(rows) - network.layout.own_start
    here = (positions >= 0) & (positions < scores_QJ.shape[1])
    users_of_rows = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    seen_QJ = torch.zeros_like(scores_QJ, dtype=torch.bool)
    seen_QJ[users_of_rows[here], positions[here]] = True
    return scores_QJ, seen_QJ


def equal_blocks(own: HeldOut, processes: Processes) -> list[HeldOut]:
    """Cut into as many blocks as the process with most has; the last ones may be empty.

    The blocks of all processes together are as large as one of a single process.
    """
    length = max(1, WATCHES_PER_BLOCK // processes.count)
    blocks = [own.slice(start, min(start + length, len(own))) for start in range(0, len(own), length)]
    count = int(processes.largest(torch.tensor([len(blocks)], device=processes.device)))
    return blocks + [own.slice(0, 0)] * (count - len(blocks))


def gathered_ranks(
    own_ranks: Ranks, own_users: NDArray[np.int64], processes: Processes
) -> tuple[Ranks, NDArray[np.int64]]:
    """Return the ranks of all processes, and the users whose watches they are of."""
    ranks, users = (
        torch.cat(processes.gather(torch.from_numpy(values).to(processes.device))).cpu().numpy()
        for values in (own_ranks, own_users)
    )
    return ranks, users


def _own_stretch(values_Q: Tensor, own_count: int, processes: Processes) -> Tensor:
    counts = torch.cat(processes.gather(torch.tensor([own_count], device=processes.device))).tolist()
    begin = sum(counts[: processes.rank])
    return values_Q[begin : begin + own_count]
