"""A watch history summarised as several weighted averages of its most recent watches.

Shape legend: B histories, N watches of all histories together, K bags, L history_length, E embedding_dim, A width of
the attribute embeddings, F features of a watch, V codes of all features together; in training also C targets of a chunk
and S = L + C watches of a chunk including its context.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.networks.options import HistoryOptions
from winnow.networks.packed import PackedTensor

# The logarithmic weight of the other watches in a bag that initially holds one watch: small, but it can be learned.
FAINT_LOG_WEIGHT = -6.0


class HistoryBags(nn.Module):
    """K averages of the last L watches, in which a watch weighs exp(log_weights[bag, lag]); the latest has lag 0.

    The bags of `bag_lags` come first, then those of `bag_decays`. All weights are learned, unless `bag_decays` is None.

    Watch features enter twice: a vector for each code of a watch is added to its item embedding, and its weight is
    multiplied by a factor for each code. Factors may be negative. They do not change the divisor of the average, so a
    bag grows with the weights of its watches. Factors are initially 1; in the `signed_bags` they rise from -1 to 1 over
    the codes of the watch's weight, and are 0 where the weight is unknown.

    Whatever the weights, a bag is linear in the embeddings. It is the zero vector for an empty history.
    """

    def __init__(self, options: HistoryOptions, embedding_dim: int) -> None:
        """`options` limit the history. Nothing is drawn."""
        super().__init__()
        assert options.history_length is not None  # noqa: S101 - see build_history_bags
        self.history_length = options.history_length
        lags_L = torch.arange(self.history_length, dtype=torch.float32)
        alone_KL = FAINT_LOG_WEIGHT * (torch.tensor(options.bag_lags, dtype=torch.float32).unsqueeze(1) != lags_L)
        decays_K = torch.tensor(options.bag_decays or (0.0,), dtype=torch.float32)
        log_weights_KL = torch.cat([alone_KL, -decays_K.unsqueeze(1) * lags_L])
        self.log_weights: Tensor
        if options.bag_decays is None:
            self.register_buffer("log_weights", log_weights_KL)
        else:
            self.log_weights = nn.Parameter(log_weights_KL)
        self.code_factors: nn.Parameter | None = None
        if options.watch_features is None:
            return
        self.sizes = options.watch_features.sizes
        factors_KV = torch.ones(self.bag_count, sum(self.sizes))
        weight_codes = self.sizes[0]
        rising = torch.cat([torch.zeros(1), torch.linspace(-1.0, 1.0, weight_codes - 1)])
        factors_KV[self.bag_count - options.signed_bags :, :weight_codes] = rising
        self.code_factors = nn.Parameter(factors_KV)
        self.code_embedding = nn.Parameter(torch.zeros(sum(self.sizes), embedding_dim))

    @property
    def bag_count(self) -> int:
        """The number K of averages."""
        return self.log_weights.shape[0]

    def forward(self, table: Tensor, histories: PackedTensor, attributes_NA: Tensor | None = None) -> Tensor:
        """Summarise packed histories: table [n_items, E] -> float [B, K * (E + A)].

        `attributes_NA` are the attribute embeddings of every watch's item; A is 0 without them.
        """
        lengths_B, count = histories.lengths, len(histories.rows)
        ends_N = histories.offsets[1:].repeat_interleave(lengths_B, output_size=count)
        lags_N = ends_N - 1 - torch.arange(count, device=ends_N.device)
        weights_KL = self.log_weights.exp()
        weights_KN = weights_KL[:, lags_N.clamp(max=self.history_length - 1)] * (lags_N < self.history_length)
        rows, bag_table = histories.rows, table
        if self.code_factors is not None:
            codes_NF = histories.codes
            if codes_NF is None:
                codes_NF = torch.zeros(count, len(self.sizes), dtype=torch.int64, device=rows.device)
            weights_KN = weights_KN * self.factors(codes_NF)
            # Every watch has a vector of its own: the bags are over those instead of the table.
            bag_table = F.embedding(rows, table) + self.code_vectors(codes_NF)
        if attributes_NA is not None:
            item_vectors_NE = F.embedding(rows, table) if bag_table is table else bag_table
            bag_table = torch.cat([item_vectors_NE, attributes_NA], dim=1)
        if bag_table is not table:
            rows = torch.arange(count, device=rows.device, dtype=histories.offsets.dtype)
        bags = [
            F.embedding_bag(
                rows,
                bag_table,
                histories.offsets,
                mode="sum",
                per_sample_weights=weights_N.to(table.dtype),
                include_last_offset=True,
            )
            for weights_N in weights_KN
        ]
        sums_BKE = torch.stack(bags, dim=1)
        return (sums_BKE / self._divisors(weights_KL, lengths_B)).flatten(1)

    def of_chunks(self, watched_BSE: Tensor, history_lengths_BC: Tensor, codes_BSF: Tensor | None = None) -> Tensor:
        """Summarise the history before every target of B chunks at once, float [B, C, K * E], E the width of a watch.

        `watched_BSE` embeds the L watches before a chunk and its C targets, in time order, with `code_vectors` added
        and attribute embeddings concatenated; it is zero where a user has no such watch. `history_lengths_BC` (integer)
        counts all watches before each target. Target c of a chunk is at position L + c, so one banded Toeplitz matrix
        per bag, weights[c, s] = exp(log_weights[L + c - s - 1]), replaces C gathers of L rows. With `codes_BSF`, each
        column of the matrix is multiplied by the factor of that watch.
        """
        limit, span = self.history_length, watched_BSE.shape[1]
        chunk_length = span - limit
        device = watched_BSE.device
        lags_CS = torch.arange(chunk_length, device=device).unsqueeze(1) + limit - 1
        lags_CS = lags_CS - torch.arange(span, device=device)
        visible_CS = (lags_CS >= 0) & (lags_CS < limit)
        weights_KL = self.log_weights.exp()
        weights_KCS = (weights_KL[:, lags_CS.clamp(0, limit - 1)] * visible_CS).to(watched_BSE.dtype)
        if codes_BSF is None:
            sums_BRE = torch.matmul(weights_KCS.flatten(0, 1), watched_BSE)
        else:
            factors_BKS = self.factors(codes_BSF).to(watched_BSE.dtype).transpose(0, 1)
            sums_BRE = torch.bmm((weights_KCS * factors_BKS.unsqueeze(2)).flatten(1, 2), watched_BSE)
        sums_BCKE = sums_BRE.view(len(sums_BRE), self.bag_count, chunk_length, sums_BRE.shape[2]).transpose(1, 2)
        return (sums_BCKE / self._divisors(weights_KL, history_lengths_BC)).flatten(2)

    def factors(self, codes: Tensor) -> Tensor:
        """Return what the weight of each watch is multiplied by in each bag: codes [..., F] -> [K, ...]."""
        assert self.code_factors is not None  # noqa: S101 - only called where there are watch features
        weight_size = self.sizes[0]
        of_weight, of_gap = self.code_factors[:, :weight_size], self.code_factors[:, weight_size:]
        return of_weight[:, codes[..., 0]] * of_gap[:, codes[..., 1]]

    def code_vectors(self, codes: Tensor) -> Tensor:
        """Return what is added to the embedding of each watch's item: codes [..., F] -> [..., E]."""
        vectors_VE = self.code_embedding
        return F.embedding(codes[..., 0], vectors_VE) + F.embedding(codes[..., 1] + self.sizes[0], vectors_VE)

    def _divisors(self, weights_KL: Tensor, history_lengths: Tensor) -> Tensor:
        """Sum the weights of each history: [...] -> [..., K, 1]; any positive number where a history is empty."""
        totals_LK: Tensor = weights_KL.cumsum(1).T
        return totals_LK[history_lengths.clamp(1, self.history_length) - 1].unsqueeze(-1)


def build_history_bags(options: HistoryOptions, embedding_dim: int) -> HistoryBags | None:
    """Return the bags of a network; None, the plain average of all watches, where the history is not limited."""
    return None if options.history_length is None else HistoryBags(options, embedding_dim)
