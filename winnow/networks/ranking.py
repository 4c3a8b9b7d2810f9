"""The ranking network (paper, section 4): a watch history and an item -> the probability of a watch.

Shape legend: B users, N candidates of all users together, I items, D width of the first layer, C columns of the
continuous features.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.contexts import RequestContexts
from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.continuous import ContinuousFeatures
from winnow.networks.history_bags import build_history_bags
from winnow.networks.matching import Matching
from winnow.networks.options import MatchingOptions, RankingConfig, RankingOptions, Score
from winnow.networks.packed import PackedTensor, average, pack_histories, pack_tensors, with_contexts
from winnow.networks.scores import scores_of_logits
from winnow.networks.tower import Dropout, apply_tower, build_embedding, build_tower, draws_from

PLAIN = RankingOptions()


class DeepRankingModel(nn.Module):
    """Logistic regression on top of a ReLU tower over [average of the watched items; scored item].

    Both halves of the input share one embedding table (paper, section 4.1.2). The first layer is linear in them,
    W [u; v] = W_user u + W_item v, so the two products are computed separately: a user's once for all candidates of a
    request, and an item's, where wanted, once for all requests.

    RankingOptions add to this: HistoryBags replace the average, ContinuousFeatures add a third part to the first layer,
    and Matching adds the logit of a trained candidate network to the tower's.
    """

    def __init__(
        self,
        n_items: int,
        embedding_dim: int,
        hidden_dim: int,
        n_hidden_layers: int,
        seed: int,
        options: RankingOptions = PLAIN,
    ) -> None:
        """Draw all weights from `seed`. Raises ValueError that names an invalid argument."""
        super().__init__()
        config = RankingConfig(n_items, embedding_dim, hidden_dim, n_hidden_layers, seed, options)
        self.config = config
        self.n_items = n_items
        input_dim = config.summary_dim + embedding_dim
        self.bags = build_history_bags(options.history, embedding_dim)
        with draws_from(seed):
            self.embedding = self._build_embedding()
            # The notebook draws an unused layer here, 36 numbers for its hidden_dim of 6. Its printed outputs need the
            # same draws; at other sizes any count would do.
            torch.rand(hidden_dim * hidden_dim)
            self.tower = build_tower(input_dim, hidden_dim, n_hidden_layers)
            # Without hidden layers, this is the first layer as well.
            self.output = nn.Linear(hidden_dim if n_hidden_layers else input_dim, 1)
            self.matching = None if options.matching is None else self._build_matching(options.matching)
            self.features = None
            if options.features:
                self.features = ContinuousFeatures(
                    n_items, options.features, self.first_layer_width, has_candidate_network=self.matching is not None
                )

    def _build_embedding(self) -> nn.Embedding:
        return build_embedding(self.n_items, self.config.embedding_dim, self.config.options.embedding_std)

    def _build_matching(self, options: MatchingOptions) -> Matching:
        return Matching(options)

    @classmethod
    def from_config(cls, config: RankingConfig) -> Self:
        """Build the network that has this `config`."""
        return cls(**vars(config))

    @property
    def score(self) -> Score:
        """What `scores` are."""
        return self.config.options.score

    @property
    def reads_contexts(self) -> bool:
        """Whether scores depend on RequestContexts."""
        return self.features is not None and self.features.read_contexts

    @property
    def candidate_network(self) -> DeepCandidateGenerationModel | None:
        """The candidate network that is part of this one."""
        return None if self.matching is None else self.matching.network

    def pack(self, histories: RaggedRows, contexts: RequestContexts | None = None) -> PackedTensor:
        """Bring histories, and what else is known of each request, into the form that `logits` reads.

        Rows have to be valid.
        """
        watch_features = self.config.options.history.watch_features
        device = self.embedding.weight.device
        packed = pack_histories(histories, self.config.history_length, watch_features, device)
        return with_contexts(packed, histories, contexts) if self.reads_contexts else packed

    def forward(self, user_history: Tensor, scored_item: Tensor) -> Tensor:
        """Return the score of each scored item for one user, [N, 1], from two integer vectors of rows.

        An empty history is the zero vector. Raises ValueError that names the first invalid row.
        """
        histories = pack_tensors([user_history], self.n_items, "user_history")
        candidates = pack_tensors([scored_item], self.n_items, "scored_item")
        return self.scores(self.logits(histories, candidates)).unsqueeze(1)

    def scores(self, logits: Tensor) -> Tensor:
        """Turn logits into what the network answers: probabilities, or seconds."""
        return scores_of_logits(logits, self.score)

    def logits(
        self,
        histories: PackedTensor,
        candidates: PackedTensor,
        item_halves_ID: Tensor | None = None,
        *,
        columns_NC: Tensor | None = None,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Return the logit of every candidate, [N]: list b of `candidates` is scored for history b.

        `item_halves_ID` and `columns_NC` are what `item_halves` returned for these weights and `feature_columns` for
        these requests; without them, those of the candidates are computed. `dropout` is for training: it is applied
        between two layers.
        """
        user_ND = F.embedding(candidates.list_of_each_row(), self.user_halves(histories))
        if item_halves_ID is None:
            item_ND = F.linear(self.embedding(candidates.rows), self.item_weights)
        else:
            item_ND = F.embedding(candidates.rows, item_halves_ID)
        first_ND = user_ND + item_ND
        if self.features is not None:
            columns_NC = self.feature_columns(histories, candidates) if columns_NC is None else columns_NC
            first_ND = first_ND + self.features(columns_NC)
        return self.with_matching(self.above_first_layer(first_ND, dropout), histories, candidates)

    def user_halves(self, histories: PackedTensor) -> Tensor:
        """Return W_user u of each history, [B, D]."""
        table = self.embedding.weight
        summaries = average(table, histories) if self.bags is None else self.bags(table, histories)
        return self.user_halves_of_summaries(summaries)

    def user_halves_of_summaries(self, summaries_BS: Tensor) -> Tensor:
        """Return W_user u of each summarised history, [B, D]."""
        return F.linear(summaries_BS, self._first_layer_weights[:, : -self.embedding.embedding_dim])

    def item_halves(self, rows: slice = slice(None)) -> Tensor:
        """Return W_item v of each item, [I, D], or of some `rows` only."""
        return F.linear(self.embedding.weight[rows], self.item_weights)

    def feature_columns(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor | None:
        """Return the features' columns of the first layer's input for every candidate, [N, C]; None without features.

        They depend on nothing that is trained: training computes them once for all its epochs.
        """
        return None if self.features is None else self.features.columns(histories, candidates, self.candidate_network)

    def above_first_layer(self, first_ND: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Return the tower's logits of candidates, [N], from the first layer's output before its ReLU."""
        if not self.tower:
            return first_ND.squeeze(1) + self.output.bias
        hidden_ND = torch.relu(first_ND)
        if dropout is not None:
            hidden_ND = dropout(hidden_ND)
        logits_N: Tensor = self.output(apply_tower(self.tower[1:], hidden_ND, dropout)).squeeze(1)
        return logits_N

    def with_matching(
        self, logits_N: Tensor, histories: PackedTensor, candidates: PackedTensor, matching_N: Tensor | None = None
    ) -> Tensor:
        """Return the tower's logits with what Matching adds to them, [N]; for `matching_N`, see there."""
        if self.matching is None:
            return logits_N
        matched_N: Tensor = self.matching(logits_N, histories, candidates, matching_N)
        return matched_N

    @property
    def first_layer_width(self) -> int:
        """D, the width of the first layer."""
        return len(self._first_layer_weights)

    @property
    def item_weights(self) -> Tensor:
        """W_item, [D, E]: the part of the first layer that reads the scored item."""
        return self._first_layer_weights[:, -self.embedding.embedding_dim :]

    @property
    def _first_layer_weights(self) -> Tensor:
        return (self.tower[0] if self.tower else self.output).get_parameter("weight")
