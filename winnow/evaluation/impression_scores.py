"""Scores of logged impressions, each as a service would have given it at that time."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.contexts import RequestContexts
from winnow.logs.impressions import Impressions
from winnow.networks.packed import PackedTensor, pack
from winnow.networks.ranking import DeepRankingModel

# Bounds the memory that their features and scores take.
IMPRESSIONS_PER_BLOCK = 8192


def impression_scores(network: DeepRankingModel, impressions: Impressions) -> NDArray[np.float32]:
    """Score every impression by itself, float32 [N]."""
    scores: NDArray[np.float32] = network.scores(impression_logits(network, impressions)).cpu().numpy()
    return scores


def impression_logits(network: DeepRankingModel, impressions: Impressions) -> Tensor:
    """Return the logit of every impression, float [N], without gradients."""
    return by_block(impressions, lambda block: network.logits(*pack_impressions(network, block, block.contexts())))


@torch.no_grad()
def by_block(impressions: Impressions, compute: Callable[[Impressions], Tensor]) -> Tensor:
    """Compute something of every impression, a block at a time, without gradients."""
    starts = range(0, len(impressions), IMPRESSIONS_PER_BLOCK)
    return torch.cat([compute(impressions.take(slice(start, start + IMPRESSIONS_PER_BLOCK))) for start in starts])


def pack_impressions(
    network: DeepRankingModel, impressions: Impressions, contexts: RequestContexts | None
) -> tuple[PackedTensor, PackedTensor]:
    """Return the histories and the candidates that the network reads: one candidate per impression."""
    # One watch more than the network reads: a feature of a watch is the time since the one before it.
    read = network.config.history_length
    limit = None if read is None else read + 1
    device = network.embedding.weight.device
    return (
        network.pack(impressions.histories(limit), contexts),
        pack(impressions.candidates(), device),
    )
