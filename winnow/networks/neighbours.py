"""Which items stand beside the watched ones in the log: the sums of a nearest-neighbour recommender, inside ranking.

Nothing here is trained by gradients: the table is counted, and one weight is chosen on validation.

Shape legend: B users, N candidates of all users together, I items, K neighbours of an item, W watches of some users.
"""

import torch
from torch import Tensor, nn

from winnow.networks.options import NeighbourOptions
from winnow.networks.packed import PackedTensor

# A sum that is much smaller than this counts as none.
SMALLEST_SUM = 0.01
# The sums of all items of some users are held at once: 16 MB.
NUMBERS_AT_ONCE = 4 * 1024 * 1024


class Neighbours(nn.Module):
    """Adds `weight` * log(1 + sum / SMALLEST_SUM) to the logit of each candidate.

    The sum is over the L latest watches of which the candidate is a neighbour, each with the value of that pair times
    what its lag counts. It depends on one history and one candidate, not on the rest of the batch.
    """

    def __init__(self, n_items: int, options: NeighbourOptions) -> None:
        """Allocate the table. Its content comes from `fill`, or from a release."""
        super().__init__()
        self.n_items = n_items
        self.options = options
        self.rows: Tensor
        self.values: Tensor
        self.weight: Tensor
        # An item with fewer neighbours has some of value 0. Of equal width, they are found in one step.
        shape = n_items, options.neighbour_count
        self.register_buffer("rows", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("values", torch.zeros(shape))
        self.register_buffer("weight", torch.zeros(()))

    def fill(self, rows_IK: Tensor, values_IK: Tensor, *, weight: float) -> None:
        """Set the table: the neighbours of each item, integer, and their values of at least 0."""
        self.rows.copy_(rows_IK)
        self.values.copy_(values_IK)
        self.weight.fill_(weight)

    def forward(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return what is added to the logit of every candidate, [N]."""
        return self.weight * self.strengths(histories, candidates)

    def strengths(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return log(1 + sum / SMALLEST_SUM) of every candidate, float [N]."""
        return (self.sums(histories, candidates) / SMALLEST_SUM).log1p()

    def sums(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the sum of every candidate, float [N]."""
        users_at_once = max(1, NUMBERS_AT_ONCE // self.n_items)
        user_count = len(histories.offsets) - 1
        found = [
            self._sums_of_users(histories, candidates, first, min(first + users_at_once, user_count))
            for first in range(0, user_count, users_at_once)
        ]
        return found[0] if len(found) == 1 else torch.cat([*found, self.values.new_empty(0)])

    def _sums_of_users(self, histories: PackedTensor, candidates: PackedTensor, first: int, stop: int) -> Tensor:
        lengths_B = histories.lengths[first:stop].clamp_max(self.options.latest_count)
        users_W = torch.arange(stop - first, device=lengths_B.device).repeat_interleave(lengths_B)
        ends_W = histories.offsets[first + 1 : stop + 1][users_W]
        # The last watch of a user has the lag 0.
        lags_W = lengths_B.cumsum(0)[users_W] - 1 - torch.arange(len(users_W), device=lengths_B.device)
        watched_W = histories.rows[ends_W - 1 - lags_W]
        places_WK = self.rows.index_select(0, watched_W) + (users_W * self.n_items).int().unsqueeze(1)
        values_WK = self.values.index_select(0, watched_W)
        if self.options.recency_decay != 1:
            values_WK = values_WK * (self.options.recency_decay ** lags_W.to(values_WK.dtype)).unsqueeze(1)
        sums_BI = self.values.new_zeros((stop - first) * self.n_items)
        sums_BI.index_add_(0, places_WK.flatten(), values_WK.flatten())
        of_users = slice(int(candidates.offsets[first]), int(candidates.offsets[stop]))
        user_N = candidates.list_of_each_row()[of_users] - first
        return sums_BI[user_N * self.n_items + candidates.rows[of_users]]
