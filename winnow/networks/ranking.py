"""The ranking network (paper, section 4): a watch history and an item -> the probability of a watch.

Shape legend: B users, N candidates of all users together, E embedding_dim, H hidden_dim.
"""

import torch
from torch import Tensor, nn

from winnow.networks.packed import PackedTensor, average, pack_tensors
from winnow.networks.tower import build_tower, check_shape, climb


class DeepRankingModel(nn.Module):
    """Logistic regression on top of a ReLU tower over [average of the watched items; scored item].

    Both halves use one embedding table (paper, section 4.1.2: embeddings are shared between features).
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
            # The notebook's author drew an unused layer here: 36 numbers for hidden_dim 6. Its printed outputs follow
            # from the same seed only if they are drawn too; at other sizes any count would do.
            torch.rand(hidden_dim * hidden_dim)
            self.tower = build_tower(2 * embedding_dim, hidden_dim, n_hidden_layers)
            self.output = nn.Linear(hidden_dim, 1)

    def forward(self, user_history: Tensor, scored_item: Tensor) -> Tensor:
        """Return the probability of each scored item for one user, [N, 1], from two integer vectors of rows.

        An empty history is the zero vector. Raises ValueError that names the first invalid row.
        """
        histories = pack_tensors([user_history], self.n_items, "user_history")
        candidates = pack_tensors([scored_item], self.n_items, "scored_item")
        return torch.sigmoid(self.logits(histories, candidates)).unsqueeze(1)

    def logits(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the logit of every candidate, [N]: list b of `candidates` is scored for history b."""
        user_BE = average(self.embedding.weight, histories)  # noqa: N806
        user_NE = user_BE.repeat_interleave(candidates.lengths, dim=0, output_size=len(candidates.rows))  # noqa: N806
        item_NE = self.embedding(candidates.rows)  # noqa: N806
        hidden_NH = climb(self.tower, torch.cat([user_NE, item_NE], dim=1))  # noqa: N806
        return self.output(hidden_NH).squeeze(1)
