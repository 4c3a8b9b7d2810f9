"""What the two stages are asked: the same arrays from the gateway to the index and the ranking network.

Shape legend: B queries, N candidates of all queries together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, Rows, WatchHistories


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Restriction:
    """Which rows one query may return: those that match the filter and are on the list, as far as there is either."""

    filter: str = ""
    """In canonical form; empty matches every row."""
    allowed: Rows | None = None
    """Rows, int32, in any order; None allows every row."""

    def __bool__(self) -> bool:
        return bool(self.filter) or self.allowed is not None


NO_RESTRICTIONS: Mapping[int, Restriction] = MappingProxyType({})
# A restricted query takes up to so many times as long as one without: where few rows of a large catalogue match.
RESTRICTED_WORK = 8


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RetrievalQuery:
    """B queries for candidates; one request's is a batch of one.

    `counts`, int32 [B], says how many candidates each query wants. List b of `exclusions` holds the rows that must not
    be among the candidates of query b. `restrictions` are those of the queries that have one, by position.
    """

    histories: WatchHistories
    counts: NDArray[np.int32]
    exclusions: RaggedRows
    restrictions: Mapping[int, Restriction] = field(default_factory=lambda: NO_RESTRICTIONS)

    @classmethod
    def without_histories(cls, counts: NDArray[np.int32], exclusions: RaggedRows | None = None) -> Self:
        """Queries for an index, which is given user vectors and reads no histories. None excludes nothing."""
        nothing = WatchHistories.empty(len(counts))
        return cls(histories=nothing, counts=counts, exclusions=nothing if exclusions is None else exclusions)

    @classmethod
    def concatenate(cls, parts: Sequence["RetrievalQuery"]) -> "RetrievalQuery":
        """All queries of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            histories=WatchHistories.concatenate([part.histories for part in parts]),
            counts=np.concatenate([part.counts for part in parts]),
            exclusions=RaggedRows.concatenate([part.exclusions for part in parts]),
            restrictions={
                first + position: restriction
                for first, part in zip(accumulate(map(len, parts), initial=0), parts, strict=False)
                for position, restriction in part.restrictions.items()
            },
        )

    def only(self, position: int) -> "RetrievalQuery":
        """One of the queries, as a batch of one."""
        restriction = self.restrictions.get(position)
        return RetrievalQuery(
            histories=self.histories.slice(position, position + 1),
            counts=self.counts[position : position + 1],
            exclusions=self.exclusions.slice(position, position + 1),
            restrictions=NO_RESTRICTIONS if restriction is None else {0: restriction},
        )

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def work(self) -> tuple[int, ...]:
        """The quantities that the time to compute these queries grows with."""
        return len(self), 1 + RESTRICTED_WORK * len(self.restrictions)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RankingQuery:
    """B queries for scores; one request's is a batch of one.

    List b of `candidates` holds the rows to score for history b. `contexts` is None if the network does not read it.
    """

    histories: WatchHistories
    candidates: RaggedRows
    contexts: RequestContexts | None = None

    @classmethod
    def concatenate(cls, parts: Sequence["RankingQuery"]) -> "RankingQuery":
        """All queries of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        contexts = None
        if any(part.contexts is not None for part in parts):
            contexts = RequestContexts.concatenate(
                [part.contexts or RequestContexts.unknown(len(part)) for part in parts]
            )
        return cls(
            histories=WatchHistories.concatenate([part.histories for part in parts]),
            candidates=RaggedRows.concatenate([part.candidates for part in parts]),
            contexts=contexts,
        )

    def __len__(self) -> int:
        return len(self.histories)

    @property
    def work(self) -> tuple[int, ...]:
        """The quantities that the time to compute these queries grows with."""
        return len(self), len(self.candidates.rows)


class Candidates(NamedTuple):
    """The best rows of each query, best first, and the score of each of them, float32 [N]."""

    rows: RaggedRows
    scores: NDArray[np.float32]

    @classmethod
    def concatenate(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """The candidates of all queries of all parts, in order."""
        return cls(
            RaggedRows.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts])
        )

    def split(self, query_counts: Sequence[int]) -> list["Candidates"]:
        """Split into parts with the given numbers of queries, in order."""
        ends = accumulate(query_counts, initial=0)
        offsets = self.rows.offsets
        return [
            Candidates(self.rows.slice(start, stop), self.scores[offsets[start] : offsets[stop]])
            for start, stop in pairwise(ends)
        ]
