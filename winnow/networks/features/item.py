"""Features of the candidate itself: its age, popularity and duration."""

import torch
from torch import Tensor

from winnow.networks.features.batch import FeatureBatch, seconds_between


def item_age_seconds(batch: FeatureBatch) -> Tensor:
    """Seconds from the upload of the candidate to the request."""
    return seconds_between(batch.items.uploaded[batch.rows_N], batch.request_times_N)


def popularity(batch: FeatureBatch) -> Tensor:
    """The candidate's share of all watches."""
    return batch.items.popularity[batch.rows_N]


def duration_seconds(batch: FeatureBatch) -> Tensor:
    """How long the candidate takes to watch."""
    durations_N = batch.items.durations[batch.rows_N]
    return durations_N.masked_fill(durations_N < 0, torch.nan)
