"""Features that the candidate network computes: its logit, and how similar the candidate is to the latest watches.

Shape legend: B requests, N candidates of all requests together, W watches of all histories together, I items, E
embedding_dim.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.batch import FeatureBatch

# How many of the latest watches `similarity` reads.
SIMILAR_WATCHES = 10


def candidate_score(batch: FeatureBatch) -> Tensor:
    """The candidate network's logit; unknown for an empty history, where all logits are zero."""
    return (
        _network(batch)
        .candidate_logits(batch.histories, batch.candidates)
        .masked_fill(batch.history_is_empty_N, torch.nan)
    )


def similarity(batch: FeatureBatch) -> Tensor:
    """The cosine between the candidate's embedding and the average of the latest watches'; unknown without any."""
    embedding_IE = _network(batch).embedding.weight
    histories = batch.histories
    ends_W = histories.offsets[1:].repeat_interleave(histories.lengths, output_size=len(histories.rows))
    from_end_W = ends_W - torch.arange(len(histories.rows), device=ends_W.device)
    weights_W = (from_end_W <= SIMILAR_WATCHES).to(embedding_IE.dtype)
    # The sum has the direction of the average.
    sum_BE = F.embedding_bag(
        histories.rows,
        embedding_IE,
        histories.offsets,
        mode="sum",
        per_sample_weights=weights_W,
        include_last_offset=True,
    )
    cosines_N = F.cosine_similarity(sum_BE[batch.requests_N], F.embedding(batch.rows_N, embedding_IE), dim=1)
    return cosines_N.masked_fill(batch.history_is_empty_N, torch.nan)


def _network(batch: FeatureBatch) -> DeepCandidateGenerationModel:
    assert batch.network is not None  # noqa: S101 - ContinuousFeatures has checked it
    return batch.network
