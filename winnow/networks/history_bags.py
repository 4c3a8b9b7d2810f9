"""A watch history summarised as several weighted averages of its most recent watches.

Shape legend: B histories, N watches of all histories together, K bags, L history_length, E embedding_dim, D width of
what is known of an item besides its embedding, F features of a watch, V codes of all features together; in training
also C targets of a chunk and S = L + C watches of a chunk with the context before it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.networks.packed import PackedTensor
from winnow.networks.watch_features import WatchFeatures

# In a bag that begins as a single watch, the logarithmic weight of the others: little, but enough to learn from.
FAINT_LOG_WEIGHT = -6.0


class HistoryBags(nn.Module):
    """K averages of the last L watches, in which a watch weighs exp(log_weights[bag, lag]); lag 0 is the latest watch.

    With features, what is known of a watch enters twice: a vector for each of its codes is added to the embedding of
    its item, and its weight is multiplied by a factor for each of its codes, which may be negative. They leave the
    divisor alone, so that a bag grows with the weight of the watches in it.

    Whatever the weights, a bag is linear in the embeddings. It is the zero vector for an empty history.
    """

    def __init__(
        self,
        history_length: int,
        decays: Sequence[float] | None,
        *,
        lags: Sequence[int] = (),
        signed_bags: int = 0,
        features: WatchFeatures | None = None,
        embedding_dim: int | None = None,
    ) -> None:
        """Begin with a bag for each lag that is about all that watch, then one for each decay: exp(-decay * lag).

        All weights are learned, except with `decays` None: one plain average. The factors of codes begin as 1; in the
        last `signed_bags` they rise over the codes of the watch's weight from -1 to 1, and are 0 where it is unknown.
        `embedding_dim` is needed with `features` only. Raises ValueError that names an invalid argument.
        """
        super().__init__()
        if isinstance(history_length, bool) or not isinstance(history_length, int) or history_length < 1:
            raise ValueError(f"history_length is {history_length!r}: it has to be an integer of at least 1")
        if decays is not None and not decays:
            raise ValueError("bag_decays is empty: it has to hold one number a bag")
        if any(not 0 <= lag < history_length for lag in lags):
            raise ValueError(f"bag_lags are {list(lags)}: they lie in [0, {history_length})")
        self.history_length = history_length
        lags_L = torch.arange(history_length, dtype=torch.float32)
        alone_KL = FAINT_LOG_WEIGHT * (torch.tensor(lags, dtype=torch.float32).unsqueeze(1) != lags_L)
        decaying_KL = -torch.tensor(decays or [0.0], dtype=torch.float32).unsqueeze(1) * lags_L
        log_weights_KL = torch.cat([alone_KL, decaying_KL])
        self.log_weights: Tensor
        if decays is None:
            self.register_buffer("log_weights", log_weights_KL)
        else:
            self.log_weights = nn.Parameter(log_weights_KL)
        self.code_factors: nn.Parameter | None = None
        if not 0 <= signed_bags <= (0 if features is None else self.n_bags):
            raise ValueError(f"signed_bags is {signed_bags}: it counts some of {self.n_bags} bags with watch_features")
        if features is None:
            return
        if embedding_dim is None:
            raise ValueError("embedding_dim is None: watch_features need it")
        self.sizes = features.sizes
        factors_KV = torch.ones(self.n_bags, sum(self.sizes))
        weight_codes = self.sizes[0]
        rising = torch.cat([torch.zeros(1), torch.linspace(-1.0, 1.0, weight_codes - 1)])
        factors_KV[self.n_bags - signed_bags :, :weight_codes] = rising
        self.code_factors = nn.Parameter(factors_KV)
        self.code_embedding = nn.Embedding(sum(self.sizes), embedding_dim)
        nn.init.zeros_(self.code_embedding.weight)

    @property
    def n_bags(self) -> int:
        """The number K of averages."""
        return self.log_weights.shape[0]

    def forward(self, table: Tensor, histories: PackedTensor, sides_ND: Tensor | None = None) -> Tensor:
        """Summarise packed histories: table [n_items, E] -> float [B, K * (E + D)].

        `sides_ND` are further vectors of every watch's item; D is 0 without them.
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
        if sides_ND is not None:
            item_vectors_NE = F.embedding(rows, table) if bag_table is table else bag_table
            bag_table = torch.cat([item_vectors_NE, sides_ND], dim=1)
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
        return (sums_BKE / self._normalisers(weights_KL, lengths_B)).flatten(1)

    def of_chunks(self, watched_BSE: Tensor, history_lengths_BC: Tensor, codes_BSF: Tensor | None = None) -> Tensor:
        """Summarise the history before every target of B chunks at once, float [B, C, K * E], E the width of a watch.

        `watched_BSE` embeds the L watches before a chunk and its C targets, in time order, `code_vectors` added and
        further vectors of the items beside them; where a user has no such watch it is zero. `history_lengths_BC`
        (integer) counts all the watches before each target. Target c of a chunk stands at position L + c, so one banded
        Toeplitz matrix a bag, weights[c, s] = exp(log_weights[L + c - s - 1]), does the work of C gathers of L rows;
        with `codes_BSF`, each of its columns times the factor of that watch.
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
        sums_BCKE = sums_BRE.view(len(sums_BRE), self.n_bags, chunk_length, -1).transpose(1, 2)
        return (sums_BCKE / self._normalisers(weights_KL, history_lengths_BC)).flatten(2)

    def factors(self, codes: Tensor) -> Tensor:
        """Return what the weight of each watch is multiplied by in each bag: codes [..., F] -> [K, ...]."""
        assert self.code_factors is not None  # noqa: S101 - asked for with features only
        weight_size = self.sizes[0]
        of_weight, of_gap = self.code_factors[:, :weight_size], self.code_factors[:, weight_size:]
        return of_weight[:, codes[..., 0]] * of_gap[:, codes[..., 1]]

    def code_vectors(self, codes: Tensor) -> Tensor:
        """Return what is added to the embedding of each watch's item: codes [..., F] -> [..., E]."""
        vectors = self.code_embedding.weight
        return F.embedding(codes[..., 0], vectors) + F.embedding(codes[..., 1] + self.sizes[0], vectors)

    def _normalisers(self, weights_KL: Tensor, history_lengths: Tensor) -> Tensor:
        """Sum the weights of each history: [...] -> [..., K, 1]; any positive number where a history is empty."""
        totals_LK: Tensor = weights_KL.cumsum(1).T
        return totals_LK[history_lengths.clamp(1, self.history_length) - 1].unsqueeze(-1)


def build_history_bags(
    history_length: int | None,
    decays: Sequence[float] | None,
    *,
    lags: Sequence[int],
    signed_bags: int,
    features: WatchFeatures | None,
    embedding_dim: int,
) -> HistoryBags | None:
    """Return the bags of a network, or None, the plain average of all watches, where none of them is asked for.

    Raises ValueError that names an invalid argument.
    """
    if history_length is None:
        for name, value in (("bag_decays", decays), ("bag_lags", lags), ("watch_features", features)):
            if value:
                raise ValueError(f"history_length is None: {name} needs a history of limited length")
        return None
    return HistoryBags(
        history_length,
        decays,
        lags=lags,
        signed_bags=signed_bags,
        features=features,
        embedding_dim=embedding_dim,
    )
