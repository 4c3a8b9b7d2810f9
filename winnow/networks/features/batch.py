"""What features are computed from: the requests of a batch, and what several features share of them.

Shape legend: B requests, N candidates and W watches of all requests together, I items.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from winnow.catalogue.item_facts import NO_GROUP
from winnow.history import UNKNOWN_TIME
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.item_tables import ItemTables
from winnow.networks.packed import PackedTensor


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureBatch:
    """B requests with their candidates. A property is computed once, when the first feature reads it."""

    histories: PackedTensor
    candidates: PackedTensor
    items: ItemTables
    network: DeepCandidateGenerationModel | None
    """The candidate network, for the features that read it."""

    @cached_property
    def rows_N(self) -> Tensor:
        """The row of each candidate, int64."""
        return self.candidates.rows.long()

    @cached_property
    def requests_N(self) -> Tensor:
        """The request of each candidate."""
        return self.candidates.list_of_each_row()

    @cached_property
    def requests_W(self) -> Tensor:
        """The request of each watch."""
        return self.histories.list_of_each_row()

    @cached_property
    def request_times_N(self) -> Tensor:
        """The time of each candidate's request, int64, in seconds since 1970, UNKNOWN_TIME where unknown."""
        times_B = self.histories.request_times
        return torch.full_like(self.rows_N, int(UNKNOWN_TIME)) if times_B is None else times_B[self.requests_N]

    @cached_property
    def history_is_empty_N(self) -> Tensor:
        """Whether there are no watches before each candidate."""
        return (self.histories.lengths == 0)[self.requests_N]

    @cached_property
    def same_item(self) -> "GroupMatcher":
        """What was watched and shown of each candidate itself."""
        return GroupMatcher(self, None)

    @cached_property
    def same_author(self) -> "GroupMatcher":
        """What was watched and shown of each candidate's author."""
        return GroupMatcher(self, self.items.authors)

    @cached_property
    def same_category(self) -> "GroupMatcher":
        """What was watched and shown of each candidate's category."""
        return GroupMatcher(self, self.items.categories)


class Matches(NamedTuple):
    """What each candidate's group has in common with the watches, or the impressions, of its request; both [N]."""

    counts: Tensor
    """How many of them are of the group."""
    latest: Tensor
    """The position of the last one among those of all requests; any number where there is none."""


class GroupMatcher:
    """Finds the watches and impressions of each candidate's request that are of the candidate's group."""

    def __init__(self, batch: FeatureBatch, groups_I: Tensor | None) -> None:
        """`groups_I` is the group of each item, NO_GROUP where it has none; None: each item is a group."""
        self._batch = batch
        self._groups_I = groups_I
        self._candidate_keys_N = self._keys(batch.requests_N, batch.rows_N, NO_GROUP)

    @cached_property
    def watches(self) -> Matches:
        """The watches of the candidate's group."""
        return self._matches(self._batch.requests_W, self._batch.histories.rows)

    @cached_property
    def unclicked_counts_N(self) -> Tensor:
        """How many impressions without a click there were of the candidate's group; 0 where nobody said."""
        shown = self._batch.histories.unclicked
        if shown is None:
            return torch.zeros_like(self._candidate_keys_N)
        return self._matches(shown.list_of_each_row(), shown.rows).counts

    def _matches(self, requests: Tensor, rows: Tensor) -> Matches:
        # Not NO_GROUP: one missing group does not match another.
        ordered, order = self._keys(requests, rows.long(), NO_GROUP - 1).sort(stable=True)
        stops_N = torch.searchsorted(ordered, self._candidate_keys_N, right=True)
        counts_N = stops_N - torch.searchsorted(ordered, self._candidate_keys_N)
        return Matches(counts_N, order[(stops_N - 1).clamp_min(0)] if len(order) else stops_N)

    def _keys(self, requests: Tensor, rows: Tensor, missing: int) -> Tensor:
        """Return one number per request and group; `missing`, which is negative, where an item has no group."""
        groups = rows if self._groups_I is None else self._groups_I[rows].long()
        return (requests * 2**32 + groups).masked_fill(groups < 0, missing)


def seconds_between(earlier: Tensor, later: Tensor) -> Tensor:
    """Return the seconds from one time to another, 0 where they are in the wrong order, NaN where one is unknown."""
    known = (earlier != int(UNKNOWN_TIME)) & (later != int(UNKNOWN_TIME))
    # Floats do not overflow, whatever times a caller sends.
    return (later.double() - earlier.double()).clamp_min(0).masked_fill(~known, torch.nan)
