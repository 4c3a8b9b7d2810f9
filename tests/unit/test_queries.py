"""What several callers ask in one batch is what each of them asks, and so are the answers."""

from dataclasses import replace

import numpy as np

from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.queries import Candidates, RankingQuery, Restriction, RetrievalQuery


def lists_of(rows: RaggedRows) -> list[list[int]]:
    return [rows[position].tolist() for position in range(len(rows))]


def retrieval(*histories: list[int]) -> RetrievalQuery:
    rows = WatchHistories.from_lists(histories)
    return RetrievalQuery(histories=rows, counts=np.full(len(rows), 5, dtype=np.int32), exclusions=rows)


def ranking(*candidates: list[int], contexts: RequestContexts | None = None) -> RankingQuery:
    return RankingQuery(
        histories=WatchHistories.empty(len(candidates)), candidates=RaggedRows.from_lists(candidates), contexts=contexts
    )


def test_retrieval_queries_are_concatenated_in_order() -> None:
    together = RetrievalQuery.concatenate([retrieval([1, 2]), retrieval([], [3])])
    assert lists_of(together.histories) == lists_of(together.exclusions) == [[1, 2], [], [3]]
    assert together.counts.tolist() == [5, 5, 5]
    assert together.work == (3, 1)


def test_restrictions_stay_with_their_queries() -> None:
    first, second = Restriction(filter="year = 1"), Restriction(allowed=np.array([3, 4], dtype=np.int32))
    parts = [
        replace(retrieval([1], [2]), restrictions={1: first}),
        retrieval([3]),
        replace(retrieval([4], [5]), restrictions={0: second, 1: first}),
    ]
    together = RetrievalQuery.concatenate(parts)
    assert together.restrictions == {1: first, 3: second, 4: first}
    assert together.work > RetrievalQuery.concatenate([retrieval([1])] * 5).work


def test_only_what_restricts_is_a_restriction() -> None:
    assert not Restriction()
    assert Restriction(filter="year = 1")
    assert Restriction(allowed=np.empty(0, dtype=np.int32))


def test_ranking_queries_are_concatenated_in_order() -> None:
    together = RankingQuery.concatenate([ranking([1, 2], []), ranking([3])])
    assert lists_of(together.candidates) == [[1, 2], [], [3]]
    assert together.contexts is None
    assert together.work == (3, 3)


def test_contexts_that_only_some_callers_sent_are_unknown_for_the_others() -> None:
    known = RequestContexts(np.array([7]), RaggedRows.from_lists([[9]]))
    together = RankingQuery.concatenate([ranking([1], [2]), ranking([3], contexts=known)])
    assert together.contexts is not None
    assert together.contexts.times.tolist() == [UNKNOWN_TIME, UNKNOWN_TIME, 7]
    assert lists_of(together.contexts.unclicked) == [[], [], [9]]


def test_one_query_is_not_copied() -> None:
    alone = retrieval([1])
    assert RetrievalQuery.concatenate([alone]) is alone


def test_candidates_are_split_and_put_together_again() -> None:
    all_of_them = Candidates(RaggedRows.from_lists([[1, 2], [], [3]]), np.array([3, 2, 1], dtype=np.float32))
    first, nobody, others = parts = all_of_them.split([1, 0, 2])
    assert (lists_of(first.rows), first.scores.tolist()) == ([[1, 2]], [3, 2])
    assert (lists_of(nobody.rows), nobody.scores.tolist()) == ([], [])
    assert (lists_of(others.rows), others.scores.tolist()) == ([[], [3]], [1])
    together = Candidates.concatenate(parts)
    assert lists_of(together.rows) == [[1, 2], [], [3]]
    assert together.scores.tolist() == [3, 2, 1]


def test_queries_for_user_vectors_exclude_nothing_unless_told_to() -> None:
    query = RetrievalQuery.without_histories(np.array([5, 6], dtype=np.int32))
    assert lists_of(query.histories) == lists_of(query.exclusions) == [[], []]
