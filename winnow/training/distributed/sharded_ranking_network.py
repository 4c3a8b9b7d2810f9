"""The ranking network over sharded tables, which are those of the candidate network inside it.

Shape legend: B users, D width of the first layer, I items, S width of a summarised history.
"""

from typing import Any

from torch import Tensor, nn

from winnow.networks.matching import Matching
from winnow.networks.options import MatchingOptions, RankingOptions
from winnow.networks.packed import PackedTensor
from winnow.networks.ranking import PLAIN, DeepRankingModel
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork, summaries_by
from winnow.training.distributed.sharded_table import draw_own_rows

# What does not change in training, and is not part of the state: the tables, and what is counted in the log.
FIXED = (
    "embedding.",
    "matching.network.",
    "matching.successions.pair_keys",
    "matching.successions.pair_lifts",
    "matching.successions.unseen_lifts",
    "matching.successions.log_popularity",
)


class ShardedRankingNetwork(DeepRankingModel):
    """Computes what the plain network with `matching` computes; all its methods are collective.

    Its embeddings are the candidate network's own, not a copy. `item_halves` has the rows of this process only. Its
    state is what training changes: see FIXED.
    """

    def __init__(
        self,
        candidate_network: ShardedCandidateNetwork,
        n_items: int,
        embedding_dim: int,
        hidden_dim: int,
        n_hidden_layers: int,
        seed: int,
        options: RankingOptions = PLAIN,
    ) -> None:
        """Draw the weights that the plain network has."""
        # In a tuple, since it comes before nn.Module's constructor, which needs it.
        self._given = (candidate_network,)
        super().__init__(n_items, embedding_dim, hidden_dim, n_hidden_layers, seed, options)
        self.register_state_dict_post_hook(_leave_out_fixed)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_do_not_miss_fixed)  # type: ignore[no-untyped-call]

    def _build_embedding(self) -> nn.Embedding:
        [candidate_network] = self._given
        width = self.config.embedding_dim
        # Not used: but what is drawn after them has to be drawn after them.
        draw_own_rows(lambda count: nn.Embedding(count, width), width, candidate_network.layout)
        return candidate_network.embedding

    def _build_matching(self, options: MatchingOptions) -> Matching:
        return Matching(options, *self._given)

    def user_halves(self, histories: PackedTensor) -> Tensor:
        """See DeepRankingModel.user_halves."""
        return self.user_halves_of_summaries(summaries_by(self.embedding, self.bags, histories))

    def fixed_tensors(self) -> dict[str, Tensor]:
        """Return what is not part of the state but of a release, besides the tables and the candidate network."""
        successions = None if self.matching is None else self.matching.successions
        if successions is None:
            return {}
        names = (name for name in FIXED if name.startswith("matching.successions."))
        return {name: self.get_buffer(name) for name in names}


def _leave_out_fixed(_network: nn.Module, state: dict[str, Any], _prefix: str, _metadata: Any) -> None:
    for name in list(state):
        if name.startswith(FIXED):
            del state[name]


def _do_not_miss_fixed(_network: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if not name.startswith(FIXED)]
