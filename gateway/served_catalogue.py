"""What the gateway holds of a release: ids, popularity and titles; no network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.answers import ScoreType
from winnow.catalogue.items import ItemCatalogue
from winnow.catalogue.title_index import TitleIndex
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import Rows
from winnow.release.manifest import ITEMS_FILE, POPULARITY_FILE, TITLE_INDEX_FILE, VOCABULARY_FILE
from winnow.release.reader import Release, popular_rows

RELEASE_FILES = frozenset({VOCABULARY_FILE, POPULARITY_FILE, ITEMS_FILE, TITLE_INDEX_FILE})
"""What is read of a release."""

RANKING_SCORE_TYPES = {
    "probability": ScoreType.WATCH_PROBABILITY,
    "watch_seconds": ScoreType.WATCH_SECONDS,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedCatalogue:
    """The items of one release, as the gateway sees them."""

    release_id: str
    vocabulary: Vocabulary
    popularity: NDArray[np.float32]
    """Each item's share of all watches, by row."""
    popular_rows: Rows
    """All rows, the most popular first."""
    items: ItemCatalogue
    title_index: TitleIndex
    """Its positions are those of `popular_rows`."""
    ranking_reads_contexts: bool
    """Whether ranking depends on when a request is made and on what was shown before it."""
    ranking_score_type: ScoreType

    @classmethod
    def load(cls, release: Release) -> "ServedCatalogue":
        """Load what the gateway needs. Raises ReleaseError that says what is wrong with it."""
        popularity = release.popularity()
        return cls(
            release_id=release.release_id,
            vocabulary=release.vocabulary(),
            popularity=popularity,
            popular_rows=popular_rows(popularity),
            items=release.items(),
            title_index=release.title_index(),
            ranking_reads_contexts=release.manifest.ranking_reads_contexts,
            ranking_score_type=RANKING_SCORE_TYPES[release.manifest.ranking_score],
        )

    def popular(self, count: int, excluded_rows: Rows) -> Rows:
        """Return the `count` most popular rows that are not excluded; fewer where the catalogue has no more."""
        # Enough of the list that `count` remain even if every excluded row is among them.
        head = self.popular_rows[: count + len(excluded_rows)]
        return head[~np.isin(head, excluded_rows)][:count]
