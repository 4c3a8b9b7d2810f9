"""Which items stand beside the watched ones in the log: the sums of a nearest-neighbour recommender, inside ranking.

Nothing here is trained by gradients: the table is counted, and one weight is chosen on validation.

Shape legend: B users, N candidates of all users together, I items, P stored pairs of items, L latest watches, M pairs
of all watches of some users.
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
        # The neighbours of item i are those from offsets[i] to offsets[i + 1].
        self.offsets: Tensor
        self.rows: Tensor
        self.values: Tensor
        self.weight: Tensor
        self.register_buffer("offsets", torch.zeros(n_items + 1, dtype=torch.int64))
        self.register_buffer("rows", torch.zeros(options.pair_count, dtype=torch.int32))
        self.register_buffer("values", torch.zeros(options.pair_count))
        self.register_buffer("weight", torch.zeros(()))

    def fill(self, offsets: Tensor, rows_P: Tensor, values_P: Tensor, *, weight: float) -> None:
        """Set the table: `offsets` integer [I + 1], integer rows, and values of at least 0."""
        self.offsets.copy_(offsets)
        self.rows.copy_(rows_P)
        self.values.copy_(values_P)
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
        ends_B = histories.offsets[first + 1 : stop + 1].long()
        counts_B = histories.lengths[first:stop].long().clamp_max(self.options.latest_count)
        watches, users = _stretches(ends_B - counts_B, counts_B)
        decays = self.options.recency_decay ** (ends_B[users] - 1 - watches).to(self.values.dtype)
        watched = histories.rows[watches].long()
        begins = self.offsets[watched]
        pairs_M, watches_M = _stretches(begins, self.offsets[watched + 1] - begins)
        sums_BI = self.values.new_zeros((stop - first) * self.n_items)
        places_M = users[watches_M] * self.n_items + self.rows[pairs_M]
        sums_BI.index_add_(0, places_M, self.values[pairs_M] * decays[watches_M])
        bounds = candidates.offsets[first], candidates.offsets[stop]
        of_users = slice(int(bounds[0]), int(bounds[1]))
        user_N = candidates.list_of_each_row()[of_users] - first
        return sums_BI[user_N * self.n_items + candidates.rows[of_users]]


def _stretches(begins: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return begins[b], begins[b] + 1, ... for lengths[b] elements, of all b, and the b of each element."""
    of_each = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    within = torch.arange(len(of_each), device=lengths.device) - (lengths.cumsum(0) - lengths)[of_each]
    return begins[of_each] + within, of_each
