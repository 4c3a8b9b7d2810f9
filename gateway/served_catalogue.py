"""What the gateway holds of a release: ids, popularity, titles, attributes and similarity; no network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.answers import ScoreType
from gateway.filters import PermittedRows, RequestFilters
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.items import ItemCatalogue
from winnow.catalogue.schema import Schema
from winnow.catalogue.title_index import TitleIndex
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import Rows
from winnow.release.golden_filters import check_filters
from winnow.release.manifest import (
    ATTRIBUTES_FILE,
    GOLDEN_FILE,
    POPULARITY_FILE,
    RETIRED_FILE,
    SIMILARITY_FILE,
    TITLE_INDEX_FILE,
    TRENDING_FILE,
    VOCABULARY_FILE,
)
from winnow.release.reader import Release, popular_rows

RELEASE_FILES = frozenset(
    {
        VOCABULARY_FILE,
        POPULARITY_FILE,
        TRENDING_FILE,
        ATTRIBUTES_FILE,
        SIMILARITY_FILE,
        GOLDEN_FILE,
        TITLE_INDEX_FILE,
        RETIRED_FILE,
    }
)
"""What is read of a release."""

DEFAULT_FILTER_CACHE_BYTES = 64 * 2**20

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
    retired: Rows
    """The rows that are never recommended, ascending. Histories may hold them, and they can be looked up."""
    popular_rows: Rows
    """All rows that are not retired, the most popular first."""
    trending_rows: Rows
    """Rows that were watched more of late than usual and are not retired, those that rose the most first."""
    schema: Schema
    """Name and type of each attribute."""
    attributes: Attributes
    """The attributes of the items."""
    similarity_vectors: NDArray[np.int8]
    """Vectors whose products say how alike two items are, by row."""
    filters: RequestFilters
    items: ItemCatalogue
    title_index: TitleIndex
    """Its positions are those of `popular_rows`."""
    history_length: int | None
    """How many of the latest watches either network reads; None is all of them."""
    ranking_reads_contexts: bool
    """Whether ranking depends on when a request is made and on what was shown before it."""
    ranking_score_type: ScoreType

    @classmethod
    def load(cls, release: Release, filter_cache_bytes: int = DEFAULT_FILTER_CACHE_BYTES) -> "ServedCatalogue":
        """Load what the gateway needs. Raises ValueError that says what is wrong with it."""
        popularity, vocabulary, attributes = release.popularity(), release.vocabulary(), release.attributes()
        retired, trending_rows = release.retired(), release.trending().rows
        check_filters(release.golden_requests().filters, attributes)
        return cls(
            release_id=release.release_id,
            vocabulary=vocabulary,
            popularity=popularity,
            retired=retired,
            popular_rows=popular_rows(popularity, retired),
            trending_rows=trending_rows[~np.isin(trending_rows, retired)],
            schema=attributes.schema,
            attributes=attributes,
            similarity_vectors=release.similarity_vectors(),
            filters=RequestFilters(attributes, filter_cache_bytes, retired),
            items=ItemCatalogue(attributes, vocabulary),
            title_index=release.title_index(),
            history_length=release.manifest.history_length,
            ranking_reads_contexts=release.manifest.ranking_reads_contexts,
            ranking_score_type=RANKING_SCORE_TYPES[release.manifest.ranking_score],
        )

    def popular(self, count: int, excluded_rows: Rows, permitted: PermittedRows | None = None) -> Rows:
        """Return the `count` most popular rows that are permitted and not excluded; fewer where there are no more.

        None permits all rows that are not retired.
        """
        # Enough of the list that `count` remain even if every excluded row is among them.
        enough = count + len(excluded_rows)
        if permitted is None:
            head = self.popular_rows[:enough]
        else:
            head = permitted.most_popular(enough, self.popularity, self.popular_rows)
        return head[~np.isin(head, excluded_rows)][:count]

    def permits(self, rows: Rows, permitted: PermittedRows | None) -> NDArray[np.bool_]:
        """Whether each row may be in an answer, exclusions apart. None permits all rows that are not retired."""
        return ~np.isin(rows, self.retired) if permitted is None else permitted.includes(rows)

    def is_retired(self, row: int) -> bool:
        """Whether an item is never recommended any more."""
        return bool(np.isin(row, self.retired))
