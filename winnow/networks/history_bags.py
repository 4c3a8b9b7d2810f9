"""A watch history summarised as several weighted averages of its most recent watches.

Shape legend: B histories, N watches of all histories together, K bags, L history_length, E embedding_dim; in training
also C targets of a chunk and S = L + C watches of a chunk with the context before it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.networks.packed import PackedTensor


class HistoryBags(nn.Module):
    """K averages of the last L watches, in which a watch weighs exp(log_weights[bag, lag]); lag 0 is the latest watch.

    Whatever the weights, a bag is linear in the item embeddings. It is the zero vector for an empty history.
    """

    def __init__(self, history_length: int, decays: Sequence[float] | None) -> None:
        """Begin bag k with weights exp(-decays[k] * lag), which are learned; None is one plain average, not learned.

        Raises ValueError that names an invalid argument.
        """
        super().__init__()
        if isinstance(history_length, bool) or not isinstance(history_length, int) or history_length < 1:
            raise ValueError(f"history_length is {history_length!r}: it has to be an integer of at least 1")
        if decays is not None and not decays:
            raise ValueError("bag_decays is empty: it has to hold one number a bag")
        self.history_length = history_length
        lags_L = torch.arange(history_length, dtype=torch.float32)
        log_weights_KL = -torch.tensor(decays or [0.0], dtype=torch.float32).unsqueeze(1) * lags_L
        self.log_weights: Tensor
        if decays is None:
            self.register_buffer("log_weights", log_weights_KL)
        else:
            self.log_weights = nn.Parameter(log_weights_KL)

    @property
    def n_bags(self) -> int:
        """The number K of averages."""
        return self.log_weights.shape[0]

    def forward(self, table: Tensor, histories: PackedTensor) -> Tensor:
        """Summarise packed histories: table [n_items, E] -> float [B, K * E]."""
        lengths_B = histories.lengths
        ends_N = histories.offsets[1:].repeat_interleave(lengths_B, output_size=len(histories.rows))
        lags_N = ends_N - 1 - torch.arange(len(histories.rows), device=ends_N.device)
        weights_KL = self.log_weights.exp()
        weights_KN = weights_KL[:, lags_N.clamp(max=self.history_length - 1)] * (lags_N < self.history_length)
        bags = [
            F.embedding_bag(
                histories.rows,
                table,
                histories.offsets,
                mode="sum",
                per_sample_weights=weights_N.to(table.dtype),
                include_last_offset=True,
            )
            for weights_N in weights_KN
        ]
        sums_BKE = torch.stack(bags, dim=1)
        return (sums_BKE / self._normalisers(weights_KL, lengths_B)).flatten(1)

    def of_chunks(self, watched_BSE: Tensor, history_lengths_BC: Tensor) -> Tensor:
        """Summarise the history before every target of B chunks at once, float [B, C, K * E].

        `watched_BSE` embeds the L watches before a chunk and its C targets, in time order; where a user has no such
        watch it is zero. `history_lengths_BC` (integer) counts all the watches before each target. Target c of a chunk
        stands at position L + c, so one banded Toeplitz matrix a bag, weights[c, s] = exp(log_weights[L + c - s - 1]),
        does the work of C gathers of L rows.
        """
        limit, span = self.history_length, watched_BSE.shape[1]
        chunk_length = span - limit
        device = watched_BSE.device
        lags_CS = torch.arange(chunk_length, device=device).unsqueeze(1) + limit - 1
        lags_CS = lags_CS - torch.arange(span, device=device)
        visible_CS = (lags_CS >= 0) & (lags_CS < limit)
        weights_KL = self.log_weights.exp()
        weights_KCS = weights_KL[:, lags_CS.clamp(0, limit - 1)] * visible_CS
        sums_BRE = torch.matmul(weights_KCS.flatten(0, 1).to(watched_BSE.dtype), watched_BSE)
        sums_BCKE = sums_BRE.view(len(sums_BRE), self.n_bags, chunk_length, -1).transpose(1, 2)
        return (sums_BCKE / self._normalisers(weights_KL, history_lengths_BC)).flatten(2)

    def _normalisers(self, weights_KL: Tensor, history_lengths: Tensor) -> Tensor:
        """Sum the weights of each history: [...] -> [..., K, 1]; any positive number where a history is empty."""
        totals_LK: Tensor = weights_KL.cumsum(1).T
        return totals_LK[history_lengths.clamp(1, self.history_length) - 1].unsqueeze(-1)
