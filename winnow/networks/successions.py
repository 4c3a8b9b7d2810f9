"""What follows what: how much more often than by chance a candidate follows each of the latest watches.

The candidate network compresses this into vectors of about a hundred numbers. For the few hundred candidates of a
request, ranking can look up every pair.

Shape legend: B users, N candidates of all users together, I items, P pairs of items, L latest watches, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.networks.options import SuccessionOptions
from winnow.networks.packed import PackedTensor

HIDDEN_DIM = 32
# The position of the candidate network's logit among the features.
MATCHING_FEATURE = -2
# The pair (watch, candidate) has the key watch * PAIR_KEY_BASE + candidate, however many items there are.
PAIR_KEY_BASE = 2**32


class Successions(nn.Module):
    """Corrects the candidate network's logit of each candidate by a small ReLU network over F features.

    The features are the lift of the candidate after each of the L latest watches, their maximum and their mean, the
    candidate network's logit, and the candidate's popularity. A lift is the logarithm of a ratio: 0 by chance, negative
    for items that avoid each other. The features depend on one history and one candidate, not on the rest of the batch.
    """

    def __init__(self, n_items: int, options: SuccessionOptions) -> None:
        """Draw the layers and allocate the table. Its content comes from `fill`, or from a release."""
        super().__init__()
        self.latest_count = options.latest_count
        # Keys rise, for a binary search.
        self.pair_keys: Tensor
        self.pair_lifts: Tensor
        self.unseen_lifts: Tensor
        self.log_popularity: Tensor
        self.feature_means: Tensor
        self.feature_scales: Tensor
        feature_count = options.latest_count + 4
        self.register_buffer("pair_keys", torch.zeros(options.pair_count, dtype=torch.int64))
        self.register_buffer("pair_lifts", torch.zeros(options.pair_count))
        self.register_buffer("unseen_lifts", torch.zeros(n_items))
        self.register_buffer("log_popularity", torch.zeros(n_items))
        self.register_buffer("feature_means", torch.zeros(feature_count))
        self.register_buffer("feature_scales", torch.ones(feature_count))
        self.hidden = nn.Linear(feature_count, HIDDEN_DIM)
        self.output = nn.Linear(HIDDEN_DIM, 1)
        self.direct = nn.Linear(feature_count, 1, bias=False)
        # Training begins without a correction.
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        nn.init.zeros_(self.direct.weight)

    def fill(self, keys_P: Tensor, lifts_P: Tensor, unseen_lifts_I: Tensor, log_popularity_I: Tensor) -> None:
        """Set the table: pairs by rising key, and after each item the lift of any other that the table lacks."""
        self.pair_keys.copy_(keys_P)
        self.pair_lifts.copy_(lifts_P)
        self.unseen_lifts.copy_(unseen_lifts_I)
        self.log_popularity.copy_(log_popularity_I)

    def forward(self, histories: PackedTensor, candidates: PackedTensor, matching_N: Tensor) -> Tensor:
        """Return the correction of every candidate's logit, [N]; `matching_N` are the candidate network's logits."""
        features_NF = (self.features(histories, candidates, matching_N) - self.feature_means) / self.feature_scales
        correction_N1: Tensor = self.output(F.relu(self.hidden(features_NF))) + self.direct(features_NF)
        return correction_N1.squeeze(1)

    def features(self, histories: PackedTensor, candidates: PackedTensor, matching_N: Tensor) -> Tensor:
        """Return the features of every candidate, float [N, F], before they are standardised."""
        user_N = candidates.list_of_each_row()
        positions_BL = histories.offsets[1:, None] - 1 - torch.arange(self.latest_count, device=user_N.device)
        present_BL = positions_BL >= histories.offsets[:-1, None]
        rows = histories.rows.long()
        # Where no history has a watch, there is no row to read at position 0.
        latest_BL = rows[positions_BL.clamp(min=0)] if len(rows) else torch.zeros_like(positions_BL)
        lifts_NL = self.lifts(latest_BL[user_N], candidates.rows.long()) * present_BL[user_N]
        popularity_N = self.log_popularity[candidates.rows]
        summary = (lifts_NL.amax(dim=1), lifts_NL.mean(dim=1), matching_N, popularity_N)
        return torch.cat([lifts_NL, torch.stack(summary, dim=1)], dim=1)

    def lifts(self, watched_NL: Tensor, candidates_N: Tensor) -> Tensor:
        """Look up the lift of each candidate after each of L watches, float [N, L]; both integers."""
        keys_NL = watched_NL * PAIR_KEY_BASE + candidates_N.unsqueeze(1)
        at_NL = torch.searchsorted(self.pair_keys, keys_NL).clamp_(max=len(self.pair_keys) - 1)
        return torch.where(self.pair_keys[at_NL] == keys_NL, self.pair_lifts[at_NL], self.unseen_lifts[watched_NL])
