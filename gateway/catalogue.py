"""What the gateway holds of a release: ids, popularity and titles; no network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.items import ItemCatalogue
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import Rows
from winnow.release.manifest import ITEMS_FILE, POPULARITY_FILE, VOCABULARY_FILE
from winnow.release.reader import Release, popular_rows
from winnow.v1.recommendation_pb2 import SCORE_ORIGIN_RANKING, SCORE_ORIGIN_WATCH_SECONDS, ScoreOrigin

RELEASE_FILES = frozenset({VOCABULARY_FILE, POPULARITY_FILE, ITEMS_FILE})
"""What is read of a release."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """One release as the gateway sees it."""

    release_id: str
    vocabulary: Vocabulary
    popularity: NDArray[np.float32]
    """Each item's share of all watches, by row."""
    popular_rows: Rows
    """All rows, the most popular first."""
    items: ItemCatalogue
    ranking_reads_contexts: bool
    """Whether the ranking network has features that depend on when a request is made and what was shown before it."""
    ranking_origin: ScoreOrigin.ValueType
    """What the ranking network's scores are: probabilities, or an expected watch time."""

    @classmethod
    def load(cls, release: Release) -> "Catalogue":
        """Load what the gateway needs. Raises ReleaseError that says what is wrong with it."""
        popularity = release.popularity()
        in_seconds = release.manifest.ranking_score == "watch_seconds"
        return cls(
            release_id=release.release_id,
            vocabulary=release.vocabulary(),
            popularity=popularity,
            popular_rows=popular_rows(popularity),
            items=release.items(),
            ranking_reads_contexts=release.manifest.ranking_reads_contexts,
            ranking_origin=SCORE_ORIGIN_WATCH_SECONDS if in_seconds else SCORE_ORIGIN_RANKING,
        )

    def popular(self, count: int, excluded_rows: Rows) -> Rows:
        """Return the `count` most popular rows that are not excluded; fewer where the catalogue has no more."""
        # Enough of the list that `count` remain even if every excluded row is among them.
        head = self.popular_rows[: count + len(excluded_rows)]
        return head[~np.isin(head, excluded_rows)][:count]
