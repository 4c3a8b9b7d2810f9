"""All continuous features by name: the only list that a new one is added to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from winnow.networks.features import candidate_network, item, unclicked, watches
from winnow.networks.features.batch import FeatureBatch


@dataclass(frozen=True)
class Feature:
    """A feature, named like its function."""

    compute: Callable[[FeatureBatch], Tensor]
    """Returns one number per candidate, real of any dtype, [N]; NaN where it is unknown."""
    reads_context: bool = False
    """It depends on RequestContexts, which only the caller knows."""
    reads_candidate_network: bool = False

    @property
    def name(self) -> str:
        """What options, presets and releases call it."""
        return self.compute.__name__


FEATURES: Mapping[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature(watches.seconds_since_author_watch, reads_context=True),
        Feature(watches.author_watches),
        Feature(watches.seconds_since_category_watch, reads_context=True),
        Feature(watches.category_watches),
        Feature(unclicked.item_unclicked, reads_context=True),
        Feature(unclicked.author_unclicked, reads_context=True),
        Feature(unclicked.category_unclicked, reads_context=True),
        Feature(item.item_age_seconds, reads_context=True),
        Feature(item.popularity),
        Feature(item.duration_seconds),
        Feature(candidate_network.similarity, reads_candidate_network=True),
        Feature(candidate_network.candidate_score, reads_candidate_network=True),
    )
}
