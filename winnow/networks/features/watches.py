"""Features of the user's earlier watches of the candidate's author or category: how many, and how long ago."""

import torch
from torch import Tensor

from winnow.networks.features.batch import FeatureBatch, GroupMatcher, seconds_between


def author_watches(batch: FeatureBatch) -> Tensor:
    """How many watches of the history are of the candidate's author."""
    return batch.same_author.watches.counts


def category_watches(batch: FeatureBatch) -> Tensor:
    """How many watches of the history are of the candidate's category."""
    return batch.same_category.watches.counts


def seconds_since_author_watch(batch: FeatureBatch) -> Tensor:
    """Seconds from the latest watch of the candidate's author to the request."""
    return _seconds_since(batch, batch.same_author)


def seconds_since_category_watch(batch: FeatureBatch) -> Tensor:
    """Seconds from the latest watch of the candidate's category to the request."""
    return _seconds_since(batch, batch.same_category)


def _seconds_since(batch: FeatureBatch, group: GroupMatcher) -> Tensor:
    watched_at_W, now_N = batch.histories.timestamps, batch.request_times_N
    if watched_at_W is None or not len(watched_at_W):
        return torch.full_like(now_N, torch.nan, dtype=torch.float64)
    counts_N, latest_N = group.watches
    return seconds_between(watched_at_W[latest_N], now_N).masked_fill(counts_N == 0, torch.nan)
