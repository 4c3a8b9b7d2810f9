"""What the candidate service needs of an index."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from winnow.history import RaggedRows


class Retrieved(NamedTuple):
    """The best rows of each query, best first, and the score of each of them: `scores` float32 [N]."""

    rows: RaggedRows
    scores: NDArray[np.float32]


class CandidateIndex(Protocol):
    """Finds the items whose vectors have the largest inner products with a user vector."""

    @property
    def exact(self) -> bool:
        """Whether the rows are always those that a full scan would give."""

    def search(self, user_BH: Tensor, counts: NDArray[np.int32], exclusions: RaggedRows) -> Retrieved:
        """Return the `counts[b]` best rows for each of B user vectors, none of list b of `exclusions` among them.

        A list is shorter than asked only where fewer items remain in the catalogue. Scores are the true inner products,
        even where the rows were found approximately.
        """
