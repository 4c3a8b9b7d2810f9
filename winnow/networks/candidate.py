"""The candidate-generation network (paper, section 3): a watch history -> a probability for every item.

Shape legend: B users, N watches of all users together, I items, E embedding_dim, H hidden_dim.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from winnow.networks.packed import PackedTensor, average, pack_tensors
from winnow.networks.tower import build_tower, check_shape, climb


class DeepCandidateGenerationModel(nn.Module):
    """Extreme multi-class classifier over the catalogue.

    The average embedding of the watched items goes through a narrowing ReLU tower; what comes out is the user vector,
    whose product with the output table gives one logit an item. No layer has a bias, so the logits of an empty history
    are all zero. At serving time the softmax is not needed: the best candidates are the largest logits, that is a
    maximum-inner-product search for the user vector in `item_vectors_IH`.
    """

    def __init__(self, n_items: int, embedding_dim: int, hidden_dim: int, n_hidden_layers: int, seed: int) -> None:
        """Draw all weights from `seed`. Raises ValueError that names an argument that is not an integer >= 1."""
        super().__init__()
        check_shape(
            n_items=n_items, embedding_dim=embedding_dim, hidden_dim=hidden_dim, n_hidden_layers=n_hidden_layers
        )
        self.n_items = n_items
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(n_items, embedding_dim)
            self.tower = build_tower(embedding_dim, hidden_dim, n_hidden_layers)
            self.output = nn.Linear(hidden_dim, n_items, bias=False)

    @property
    def item_vectors_IH(self) -> Tensor:  # noqa: N802 - shapes are capitals
        """What the index searches: float [I, H]."""
        return self.output.weight

    def forward(self, user_histories: Sequence[Tensor]) -> Tensor:
        """Return the probability of every item for each user, [B, I], from integer vectors of watched rows.

        An empty history is the zero vector. Raises ValueError that names the first invalid row.
        """
        histories = pack_tensors(user_histories, self.n_items, "user_histories")
        return torch.softmax(self.logits(self.user_vectors(histories)), dim=1)

    def user_vectors(self, histories: PackedTensor) -> Tensor:
        """Return the user vector of each packed history, [B, H]."""
        return self.user_vectors_of_summaries(average(self.embedding.weight, histories))

    def user_vectors_of_summaries(self, summary_BE: Tensor) -> Tensor:  # noqa: N803
        """Return the user vector of each summarised history, [..., E] -> [..., H]."""
        return climb(self.tower, summary_BE)

    def logits(self, user_BH: Tensor) -> Tensor:  # noqa: N803
        """Return the logit of every item, [B, H] -> [B, I]."""
        return self.output(user_BH)
