"""Features of the user's earlier impressions without a click: how many were of the candidate, its author, category."""

from torch import Tensor

from winnow.networks.features.batch import FeatureBatch


def item_unclicked(batch: FeatureBatch) -> Tensor:
    """How often the candidate was shown without a click."""
    return batch.same_item.unclicked_counts_N


def author_unclicked(batch: FeatureBatch) -> Tensor:
    """How often items by the candidate's author were shown without a click."""
    return batch.same_author.unclicked_counts_N


def category_unclicked(batch: FeatureBatch) -> Tensor:
    """How often items of the candidate's category were shown without a click."""
    return batch.same_category.unclicked_counts_N
