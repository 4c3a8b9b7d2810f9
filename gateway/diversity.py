"""Diversity: items of an answer that differ from each other, by maximal marginal relevance.

Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998): the next item is the one with the
largest `(1 - diversity) * relevance - diversity * similarity`, where the similarity is that to the most similar item
chosen so far.

Shape legend: N items, C components of a vector.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class MarginalRelevance:
    """The relevance of N items, and their similarity to what has been chosen. Items are named by their position."""

    def __init__(self, vectors_NC: NDArray[Any], relevance_N: NDArray[np.float32], diversity: float) -> None:
        """`diversity` lies in [0, 1]. The similarity of two items is the cosine of their vectors, 0 where it is less.

        A vector that is zero is similar to none.
        """
        vectors = vectors_NC.astype(np.float32)
        lengths = np.sqrt(np.einsum("nc,nc->n", vectors, vectors))
        self._vectors = vectors / np.where(lengths > 0, lengths, 1)[:, None]
        self._relevance = np.float32(1 - diversity) * relevance_N
        self._diversity = np.float32(diversity)
        self._similarity = np.zeros(len(vectors), dtype=np.float32)

    def take(self, item: int) -> None:
        """Note that an item is chosen."""
        np.maximum(self._similarity, self._vectors @ self._vectors[item], out=self._similarity)

    def best(self, open_N: NDArray[np.bool_]) -> int:
        """Return the best item of those that may be chosen, at least one; the first of equally good ones."""
        marginal = self._relevance - self._diversity * self._similarity
        marginal[~open_N] = -np.inf
        return int(marginal.argmax())


def relevance_of_ranks(count: int) -> NDArray[np.float32]:
    """Return the relevance of the items of a ranked list by their place, from 1 downwards.

    Scores of different types, networks and users do not compare; places do.
    """
    return (1 / np.log2(np.arange(2, count + 2))).astype(np.float32)
