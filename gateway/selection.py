"""From scored candidates to what is answered: sort and cut."""

import numpy as np
from numpy.typing import NDArray

from gateway.ranking import Ranked
from gateway.sources.gathered import Gathered
from winnow.history import Rows


def select(gathered: Gathered, ranked: Ranked, count: int) -> tuple[Rows, NDArray[np.float32]]:
    """Return the best rows with their scores: by ranking, or in candidate order where ranking gave no scores."""
    if ranked.scores is None:
        return gathered.rows[:count], gathered.scores[:count]
    chosen = best(ranked.scores, count)
    return gathered.rows[chosen], ranked.scores[chosen]


def best(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` highest scores, descending; equal scores keep their order."""
    negative = -scores
    order = np.argsort(negative)
    # Sorting without regard to the order of equal scores takes half the time, and there are hardly ever any.
    head = negative[order[: count + 1]]
    if (head[1:] == head[:-1]).any():
        order = np.argsort(negative, kind="stable")
    return order[:count]
