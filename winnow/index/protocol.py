"""What the candidate service needs of an index."""

from typing import Protocol

from torch import Tensor

from winnow.queries import Candidates, RetrievalQuery


class CandidateIndex(Protocol):
    """Finds the items whose vectors have the largest inner products with a user vector."""

    @property
    def exact(self) -> bool:
        """Whether the rows are always those that a full scan would give."""

    def search(self, user_BH: Tensor, query: RetrievalQuery) -> Candidates:
        """Return the best candidates of B queries, of whose histories `user_BH` holds the user vectors.

        A list is shorter than its query asks only where the catalogue has no more items that are not excluded. Scores
        are the true inner products, even where the rows were found approximately.
        """
