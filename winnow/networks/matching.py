"""The trained candidate network inside the ranking network.

Ranking begins with the order of the candidates, and its tower learns what to correct in it. All of this is computed
from the same histories, so callers send nothing more.

Shape legend: N candidates of all users together.
"""

from torch import Tensor, nn

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import NeighbourTables
from winnow.networks.options import MatchingOptions
from winnow.networks.packed import PackedTensor
from winnow.networks.successions import Successions


class Matching(nn.Module):
    """Adds the logit of a frozen candidate network to the tower's, corrected by Successions and Neighbours if asked."""

    def __init__(self, options: MatchingOptions) -> None:
        super().__init__()
        self.network = DeepCandidateGenerationModel.from_config(options.network).requires_grad_(requires_grad=False)
        self.adds_logit = options.adds_logit
        self.successions = None
        if options.successions is not None:
            self.successions = Successions(options.network.n_items, options.successions)
        self.neighbours = NeighbourTables(options.network.n_items, options.neighbours)

    def forward(
        self, logits_N: Tensor, histories: PackedTensor, candidates: PackedTensor, matching_N: Tensor | None = None
    ) -> Tensor:
        """Return the tower's logits with those of the candidate network added, where they are to be added, [N].

        `matching_N` are the candidate network's; without them, they are computed.
        """
        if not self.adds_logit:
            return logits_N
        if matching_N is None:
            matching_N = self.network.candidate_logits(histories, candidates)
        if self.successions is not None:
            logits_N = logits_N + self.successions(histories, candidates, matching_N)
        return self.neighbours.add(logits_N, histories, candidates) + matching_N
