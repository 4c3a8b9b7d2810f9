"""What the candidate service needs of an index."""

from typing import Protocol

from torch import Tensor

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import Rows
from winnow.index.selection import Selection
from winnow.queries import Candidates, RetrievalQuery


class CandidateIndex(Protocol):
    """Finds the items whose vectors have the largest inner products with a user vector.

    Retired items are never found, whatever is asked: an index is told of them when it is made.
    """

    @property
    def exact(self) -> bool:
        """Whether the rows are always those that a full scan would give."""

    @property
    def full_scan_count(self) -> int:
        """How many queries were answered by a full scan for want of items in the index itself; 0 if it is exact."""

    def search(self, user_BH: Tensor, query: RetrievalQuery) -> Candidates:
        """Return the best candidates of B queries, of whose histories `user_BH` holds the user vectors.

        A list is shorter than its query asks only where no more items are left that are neither excluded nor retired.
        Scores are the true inner products, even where the rows were found approximately. Restrictions of the query are
        not looked at: see winnow.index.restricted.
        """

    def select(self, compiled: CompiledFilter) -> Selection:
        """Prepare a filter for `search_selected`: once, however often it is searched."""

    def search_selected(self, user_BH: Tensor, query: RetrievalQuery, selection: Selection) -> Candidates:
        """As `search`, within the rows that match a filter, the same for all queries."""

    def search_rows(self, user_BH: Tensor, query: RetrievalQuery, rows: Rows) -> Candidates:
        """As `search`, within some rows, ascending and none twice, the same for all queries. Exact in every index."""
