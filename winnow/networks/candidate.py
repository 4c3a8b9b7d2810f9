"""The candidate-generation network (paper, section 3): a watch history -> a probability for every item.

Shape legend: B users, N watches or candidates of all users together, I items, H hidden_dim, S width of a summarised
history, embedding_dim in the plain network.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.history import RaggedRows
from winnow.networks.attribute_embeddings import AttributeEmbeddings
from winnow.networks.example_age import ExampleAge
from winnow.networks.history_bags import build_history_bags
from winnow.networks.item_parts import ItemParts
from winnow.networks.neighbours import NeighbourTables
from winnow.networks.options import CandidateConfig, CandidateOptions
from winnow.networks.packed import PackedTensor, average, pack_histories, pack_tensors
from winnow.networks.tower import apply_dropout, apply_tower, build_embedding, build_tower, draws_from

PLAIN = CandidateOptions()


class DeepCandidateGenerationModel(nn.Module):
    """Extreme multi-class classifier over the catalogue.

    The plain network averages the embeddings of the watched items. A narrowing tower of ReLU layers turns the average
    into the user vector, and the product of the user vector and the output table is one logit per item. No layer has a
    bias, so all logits of an empty history are zero. Serving needs no softmax: the best candidates have the largest
    logits, which is a maximum-inner-product search for the user vector in `item_vectors_IH`.

    CandidateOptions add to this: HistoryBags replace the average, AttributeEmbeddings extend the embedding of each
    watch, ExampleAge shifts the summarised history in training, `skip` is a linear map beside the tower, and ItemParts
    say what an item's rows of the two tables owe to its attributes. Neighbours, which are added after the training,
    raise the logits of some items for each history: then the candidates are those with the largest scores, which are
    the sums.
    """

    def __init__(
        self,
        n_items: int,
        embedding_dim: int,
        hidden_dim: int,
        n_hidden_layers: int,
        seed: int,
        options: CandidateOptions = PLAIN,
    ) -> None:
        """Draw all weights from `seed`. Raises ValueError that names an invalid argument."""
        super().__init__()
        config = CandidateConfig(n_items, embedding_dim, hidden_dim, n_hidden_layers, seed, options)
        self.config = config
        self.n_items = n_items
        self.output: nn.Linear  # Absent where the tables are tied: see `item_vectors_IH`.
        self.bags = build_history_bags(options.history, embedding_dim)
        with draws_from(seed):
            self.embedding = build_embedding(n_items, embedding_dim, options.embedding_std)
            self.tower = build_tower(config.summary_dim, hidden_dim, n_hidden_layers)
            if not options.tied_tables:
                self.output = nn.Linear(hidden_dim, n_items, bias=False)
            self.skip = nn.Linear(config.summary_dim, hidden_dim, bias=False) if options.linear_skip else None
            self.attributes = AttributeEmbeddings(n_items, options) if options.attributes else None
            self.example_age = ExampleAge(config.summary_dim) if options.example_age else None
        self.parts = ItemParts(config) if options.parts else None
        self.neighbours = NeighbourTables(n_items, options.neighbours)

    @classmethod
    def from_config(cls, config: CandidateConfig) -> Self:
        """Build the network that has this `config`."""
        return cls(**vars(config))

    @property
    def item_vectors_IH(self) -> Tensor:
        """The output table, which the index searches: float [I, H]."""
        return self.embedding.weight if self.config.options.tied_tables else self.output.weight

    def forward(self, user_histories: Sequence[Tensor]) -> Tensor:
        """Return the probability of every item for each user, [B, I], from integer vectors of watched rows.

        An empty history is the zero vector. Raises ValueError that names the first invalid row.
        """
        histories = pack_tensors(user_histories, self.n_items, "user_histories")
        return torch.softmax(self.scores(histories), dim=1)

    def pack(self, histories: RaggedRows) -> PackedTensor:
        """Bring histories, whose rows are valid, into the form that `user_vectors` reads."""
        watch_features = self.config.options.history.watch_features
        device = self.embedding.weight.device
        return pack_histories(histories, self.config.history_length, watch_features, device)

    def user_vectors(self, histories: PackedTensor) -> Tensor:
        """Return the user vector of each packed history, [B, H]."""
        return self.user_vectors_of_summaries(self.summaries(histories))

    def summaries(self, histories: PackedTensor) -> Tensor:
        """Return the average, or the averages, of each packed history, [B, S]."""
        if self.bags is None:
            return average(self.embedding.weight, histories)
        attributes_NA = None if self.attributes is None else self.attributes(histories.rows)
        summaries_BS: Tensor = self.bags(self.embedding.weight, histories, attributes_NA)
        return summaries_BS

    def user_vectors_of_summaries(
        self, summaries: Tensor, dropout: float = 0.0, example_ages: Tensor | None = None
    ) -> Tensor:
        """Return the user vector of each summarised history, [..., S] -> [..., H].

        Two arguments are for training: `dropout`, the share of the inputs of every layer that is zeroed, and
        `example_ages`, float [...] in [0, 1], which ExampleAge reads; None is zero.
        """
        if self.example_age is not None and example_ages is not None:
            summaries = self.example_age(summaries, example_ages)
        summaries = apply_dropout(summaries, dropout) if dropout else summaries
        if self.skip is None:
            return apply_tower(self.tower, summaries, dropout)
        linear: Tensor = self.skip(summaries)
        return linear + apply_tower(self.tower, summaries, dropout) if len(self.tower) else linear

    def logits(self, user_BH: Tensor) -> Tensor:
        """Return the logit of every item, [B, H] -> [B, I]."""
        return F.linear(user_BH, self.item_vectors_IH)

    def candidate_logits(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the logits of some items only, [N]: list b of `candidates` is looked up for history b."""
        user_NH = F.embedding(candidates.list_of_each_row(), self.user_vectors(histories))
        return (user_NH * F.embedding(candidates.rows, self.item_vectors_IH)).sum(dim=1)

    def scores(self, histories: PackedTensor) -> Tensor:
        """Return the score of every item, by which candidates are chosen: its logit and what Neighbours add, [B, I]."""
        logits_BI = self.logits(self.user_vectors(histories))
        if not self.neighbours:
            return logits_BI
        users_T, rows_T, scores_T = self.neighbours.item_scores(histories)
        return logits_BI.index_put((users_T, rows_T), scores_T, accumulate=True)

    def candidate_scores(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the scores of some items only, [N]; see `candidate_logits`."""
        return self.neighbours.add(self.candidate_logits(histories, candidates), histories, candidates)
