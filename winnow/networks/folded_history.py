"""Watch histories summarised as they are served on a CPU: what no history changes is computed once a release.

Shape legend: B histories, N watches of all histories together, K bags, L history_length, I items, E embedding_dim, A
width of the attribute embeddings, W = E + A, V combinations of the codes of a watch.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.networks.attribute_embeddings import AttributeEmbeddings
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.history_bags import HistoryBags
from winnow.networks.options import CandidateConfig
from winnow.networks.packed import PackedTensor

# Items whose attributes are embedded at once.
BLOCK_ITEMS = 65_536


class _Bags(NamedTuple):
    """The weights of HistoryBags for everything that it can be asked."""

    lag_weights: NDArray[np.float32]
    """The weight of a watch at each lag, [K, L + 1]; the last column, 0, is for all watches that are too old."""
    totals: NDArray[np.float32]
    """What the average of a history of each length is divided by, [K, L + 1]; 1 for an empty one."""
    code_factors: NDArray[np.float32] | None
    """The factor of each combination of codes, [K, V]."""
    code_vectors: Tensor | None
    """What each combination of codes adds to the embedding of the item, [V, E]."""
    gap_count: int
    """Combination (weight, gap) is number weight * gap_count + gap."""


class FoldedHistory:
    """Summarises histories like `average` or HistoryBags: one small matrix product a history.

    The numbers come from the modules themselves, which are asked for every lag, combination of codes and item. A
    network's own form takes some thirty operations for a history, each of which is short and, in a process that shares
    its cores, cold in the caches.
    """

    def __init__(
        self, table_IE: Tensor, bags: HistoryBags | None, attributes: AttributeEmbeddings | None = None
    ) -> None:
        """`table_IE` is the embedding table, on the CPU. Without `bags`, a summary is the average of all watches."""
        self._table_IE = table_IE
        self._bags = None if bags is None else _fold(bags)
        self._attributes_IA = None
        if attributes is not None:
            starts = range(0, len(table_IE), BLOCK_ITEMS)
            blocks = [torch.arange(start, min(start + BLOCK_ITEMS, len(table_IE))) for start in starts]
            self._attributes_IA = torch.cat([attributes(rows) for rows in blocks])

    def summaries(self, histories: PackedTensor) -> Tensor:
        """Return the average, or the averages, of each history, float [B, K * W]."""
        offsets = histories.offsets.numpy()
        lengths_B = offsets[1:] - offsets[:-1]
        combinations_N = self._combinations(histories)
        if self._bags is None:
            weights_KN = np.repeat(1 / np.maximum(lengths_B, 1).astype(np.float32), lengths_B)[np.newaxis]
        else:
            weights_KN = _weights(self._bags, offsets, lengths_B, combinations_N)
        vectors_NW, weights = self._vectors(histories.rows, combinations_N), torch.from_numpy(weights_KN)
        if len(lengths_B) == 1:
            return torch.mm(weights, vectors_NW).view(1, -1)
        summaries_BKW = vectors_NW.new_empty(len(lengths_B), len(weights), vectors_NW.shape[1])
        for position, (start, stop) in enumerate(pairwise(offsets.tolist())):
            torch.mm(weights[:, start:stop], vectors_NW[start:stop], out=summaries_BKW[position])
        return summaries_BKW.flatten(1)

    def _combinations(self, histories: PackedTensor) -> NDArray[np.int64] | None:
        """The number of each watch's combination of codes, [N]; None where the bags read no codes."""
        if self._bags is None or self._bags.code_factors is None:
            return None
        if histories.codes is None:
            return np.zeros(len(histories.rows), dtype=np.int64)
        codes_NF = histories.codes.numpy()
        combinations_N: NDArray[np.int64] = codes_NF[:, 0] * self._bags.gap_count + codes_NF[:, 1]
        return combinations_N

    def _vectors(self, rows_N: Tensor, combinations_N: NDArray[np.int64] | None) -> Tensor:
        """The embedding of each watch, [N, W]."""
        vectors_NE = self._table_IE.index_select(0, rows_N)
        if combinations_N is not None and self._bags is not None and self._bags.code_vectors is not None:
            vectors_NE += self._bags.code_vectors.index_select(0, torch.from_numpy(combinations_N))
        if self._attributes_IA is None:
            return vectors_NE
        return torch.cat([vectors_NE, self._attributes_IA.index_select(0, rows_N)], dim=1)


class FoldedUserVectors:
    """Computes what `user_vectors` of a candidate network on the CPU does."""

    def __init__(self, network: DeepCandidateGenerationModel) -> None:
        self._network = network
        self._history = FoldedHistory(network.embedding.weight, network.bags, network.attributes)

    def __call__(self, histories: PackedTensor) -> Tensor:
        """Return the user vector of each packed history, [B, H]."""
        return self._network.user_vectors_of_summaries(self._history.summaries(histories))


def folded_bytes(config: CandidateConfig) -> int:
    """Return how much memory FoldedUserVectors takes besides its network: that of the attributes."""
    return 4 * config.n_items * config.options.attribute_dim * len(config.options.attributes)


def _weights(
    bags: _Bags, offsets: NDArray[np.int32], lengths_B: NDArray[np.int32], combinations_N: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """What each watch contributes to each average, [K, N]."""
    longest = bags.lag_weights.shape[1] - 1
    lags_N = np.repeat(offsets[1:] - 1, lengths_B) - np.arange(offsets[-1])
    weights_KN: NDArray[np.float32] = bags.lag_weights.take(np.minimum(lags_N, longest), axis=1)
    if combinations_N is not None and bags.code_factors is not None:
        weights_KN *= bags.code_factors.take(combinations_N, axis=1)
    weights_KN /= np.repeat(bags.totals.take(np.minimum(lengths_B, longest), axis=1), lengths_B, axis=1)
    return weights_KN


def _fold(bags: HistoryBags) -> _Bags:
    weights_KL = bags.log_weights.exp()
    lags_KL = torch.nn.functional.pad(weights_KL, (0, 1))
    totals_KL = torch.cat([torch.ones(bags.bag_count, 1), weights_KL.cumsum(1)], dim=1)
    if bags.code_factors is None:
        return _Bags(_numbers(lags_KL), _numbers(totals_KL), None, None, 0)
    codes_VF = torch.cartesian_prod(*(torch.arange(size) for size in bags.sizes))
    return _Bags(
        _numbers(lags_KL), _numbers(totals_KL), _numbers(bags.factors(codes_VF)), bags.code_vectors(codes_VF),
        gap_count=bags.sizes[1],
    )  # fmt: skip


def _numbers(values: Tensor) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = values.float().contiguous().numpy()
    return numbers
