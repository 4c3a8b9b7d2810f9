"""Which items stand beside the watched ones in the log: the sums of a nearest-neighbour recommender, in both networks.

Nothing here is trained by gradients: the tables are counted, and one weight of each is chosen on validation.

Shape legend: B users, N candidates of all users together, I items, K neighbours of an item, W watches of some users, P
pairs of a watch and a neighbour, T items that have a sum above zero, of all users together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from winnow.history import RaggedRows
from winnow.networks.options import NeighbourOptions
from winnow.networks.packed import PackedTensor
from winnow.queries import Candidates

# Numbers that are held at once for some users: 16 MB.
NUMBERS_AT_ONCE = 4 * 1024 * 1024
# Up to so many items, the sums of all items are held for each user. Beyond, the pairs are sorted, which takes less.
LARGEST_DENSE = 65_536


class ItemScores(NamedTuple):
    """Some items of each user, by rising user and row, none twice: users and rows, int64 [T], and scores, float [T]."""

    users: Tensor
    rows: Tensor
    scores: Tensor

    def lists(self, user_count: int) -> Candidates:
        """Return them as one list a user, which is ordered by row."""
        lengths_B = torch.bincount(self.users, minlength=user_count)
        rows = RaggedRows.from_lengths(self.rows.int().cpu().numpy(), lengths_B.cpu().numpy())
        return Candidates(rows, self.scores.cpu().numpy())


class Neighbours(nn.Module):
    """Scores items by `weight` * log(1 + sum / scale), which is added to a logit.

    The sum is over the L latest watches of which the item is a neighbour, each with the value of that pair times what
    its lag counts. It depends on one history and one item, not on the rest of the batch. No score is below zero.
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

    def changed(self, *, scale: float | None = None, weight: float | None = None) -> "Neighbours":
        """Return this table with another scale or weight. What it counts is shared, not copied."""
        options = self.options if scale is None else replace(self.options, scale=scale)
        with torch.device("meta"):
            other = Neighbours(self.n_items, options)
        own = self.weight.clone() if weight is None else torch.full_like(self.weight, weight)
        other.load_state_dict({**self.state_dict(), "weight": own}, assign=True)
        return other

    def check(self) -> None:
        """Raise ValueError unless all rows lie in [0, I), and neither a value nor the weight is negative."""
        least, largest = self.rows.aminmax()
        if least < 0 or largest >= self.n_items:
            raise ValueError(f"neighbours are rows {int(least)} to {int(largest)}: rows lie in [0, {self.n_items})")
        if self.values.amin() < 0 or self.weight < 0:
            raise ValueError("a value or the weight of neighbours is negative")

    def forward(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the score of every candidate, [N]."""
        return self.weight * self.strengths(histories, candidates)

    def strengths(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return log(1 + sum / scale) of every candidate, float [N]."""
        return self.strengths_of(self.sums(histories, candidates))

    def strengths_of(self, sums: Tensor) -> Tensor:
        """Return log(1 + sum / scale), of the same shape as the sums."""
        return (sums / self.options.scale).log1p()

    def sums(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the sum of every candidate, float [N]."""
        found = [self._sums_of_users(histories, candidates, *users) for users in _blocks_of_users([self], histories)]
        return found[0] if len(found) == 1 else torch.cat([*found, self.values.new_empty(0)])

    def found(self, histories: PackedTensor, first: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the items of users first..stop that have a sum above zero, and the sums, float [T].

        The items are rising keys, int64 [T]: the number of the user, counted from `first`, times I, plus the row.
        """
        return _sums_by_key(*self._pairs(histories, first, stop), stop - first, self.n_items)

    def _sums_of_users(self, histories: PackedTensor, candidates: PackedTensor, first: int, stop: int) -> Tensor:
        of_users = slice(int(candidates.offsets[first]), int(candidates.offsets[stop]))
        user_N = candidates.list_of_each_row()[of_users] - first
        keys_N = user_N * self.n_items + candidates.rows[of_users]
        keys_P, values_P = self._pairs(histories, first, stop)
        if self.n_items <= LARGEST_DENSE:
            return _dense_sums(keys_P, values_P, (stop - first) * self.n_items)[keys_N]
        keys_T, sums_T = _sums_by_key(keys_P, values_P, stop - first, self.n_items)
        if not len(keys_T):
            return self.values.new_zeros(len(keys_N))
        at_N = torch.searchsorted(keys_T, keys_N).clamp_(max=len(keys_T) - 1)
        return torch.where(keys_T[at_N] == keys_N, sums_T[at_N], 0.0)

    def _pairs(self, histories: PackedTensor, first: int, stop: int) -> tuple[Tensor, Tensor]:
        """The key of each neighbour of each watch of users first..stop, see `found`, and what it counts, both [P]."""
        lengths_B = histories.lengths[first:stop].clamp_max(self.options.latest_count)
        users_W = torch.arange(stop - first, device=lengths_B.device).repeat_interleave(lengths_B)
        ends_W = histories.offsets[first + 1 : stop + 1][users_W]
        # The last watch of a user has the lag 0.
        lags_W = lengths_B.cumsum(0)[users_W] - 1 - torch.arange(len(users_W), device=lengths_B.device)
        watched_W = histories.rows[ends_W - 1 - lags_W]
        keys_WK = self.rows.index_select(0, watched_W) + (users_W * self.n_items).unsqueeze(1)
        values_WK = self.values.index_select(0, watched_W)
        if self.options.recency_decay != 1:
            values_WK = values_WK * (self.options.recency_decay ** lags_W.to(values_WK.dtype)).unsqueeze(1)
        return keys_WK.flatten(), values_WK.flatten()


class NeighbourTables(nn.ModuleList):
    """Any number of Neighbours of the same items, whose scores are added up."""

    def __init__(self, n_items: int, options: Sequence[NeighbourOptions]) -> None:
        """Allocate the tables."""
        super().__init__([Neighbours(n_items, of_table) for of_table in options])

    @property
    def tables(self) -> list[Neighbours]:
        """They themselves."""
        return [table for table in self if isinstance(table, Neighbours)]

    def add(self, logits_N: Tensor, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the logits of candidates with their scores added, [N]."""
        for table in self.tables:
            logits_N = logits_N + table(histories, candidates)
        return logits_N

    def item_scores(self, histories: PackedTensor) -> ItemScores:
        """Return the items that have a score in any of the tables, of which there is at least one."""
        tables = self.tables
        item_count = tables[0].n_items
        blocks: list[ItemScores] = []
        for first, stop in _blocks_of_users(tables, histories):
            of_tables = []
            for table in tables:
                keys_T, sums_T = table.found(histories, first, stop)
                of_tables.append((keys_T, table.weight * table.strengths_of(sums_T)))
            keys_T, scores_T = of_tables[0]
            if len(tables) > 1:
                keys_P, scores_P = (torch.cat(columns) for columns in zip(*of_tables, strict=True))
                keys_T, scores_T = _sums_by_key(keys_P, scores_P, stop - first, item_count)
            users_T = keys_T.div(item_count, rounding_mode="floor")
            blocks.append(ItemScores(users_T + first, keys_T - users_T * item_count, scores_T))
        if not blocks:
            nothing = histories.offsets.new_empty(0, dtype=torch.long)
            return ItemScores(nothing, nothing, nothing.float())
        return blocks[0] if len(blocks) == 1 else ItemScores(*map(torch.cat, zip(*blocks, strict=True)))


def _blocks_of_users(tables: list[Neighbours], histories: PackedTensor) -> Iterator[tuple[int, int]]:
    """Cut the users into runs of whom neither sums nor pairs are too many to be held at once."""
    user_count = len(histories.offsets) - 1
    longest = int(histories.lengths.max()) if user_count else 0
    pairs = max(min(longest, table.options.latest_count) * table.options.neighbour_count for table in tables)
    of_user = max(pairs, tables[0].n_items if tables[0].n_items <= LARGEST_DENSE else 1)
    users_at_once = max(1, NUMBERS_AT_ONCE // of_user)
    for first in range(0, user_count, users_at_once):
        yield first, min(first + users_at_once, user_count)


def _sums_by_key(keys_P: Tensor, values_P: Tensor, user_count: int, item_count: int) -> tuple[Tensor, Tensor]:
    """Sum the values of each key: return the keys, rising, and the sums that are above zero, both [T]."""
    if item_count <= LARGEST_DENSE:
        sums = _dense_sums(keys_P, values_P, user_count * item_count)
        keys_T = sums.nonzero().squeeze(1)
        return keys_T, sums[keys_T]
    # Stable, so that equal keys are summed in the order of the watches, as in the other way.
    sorted_P, order_P = keys_P.sort(stable=True)
    keys_T, places_P = torch.unique_consecutive(sorted_P, return_inverse=True)
    sums_T = values_P.new_zeros(len(keys_T)).index_add_(0, places_P, values_P[order_P])
    above_T = sums_T > 0
    return keys_T[above_T], sums_T[above_T]


def _dense_sums(keys_P: Tensor, values_P: Tensor, size: int) -> Tensor:
    return values_P.new_zeros(size).index_add_(0, keys_P, values_P)
