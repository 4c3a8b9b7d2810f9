"""Each stage alone: what it answers, and how it refuses what it cannot."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT
from tests.service.process import RunningService, running
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories
from winnow.queries import RankingQuery, Restriction, RetrievalQuery
from winnow.serving.wire import pack_ranking_query, pack_retrieval_query, unpack_candidates, unpack_scores
from winnow.v1 import candidate_pb2, candidate_pb2_grpc, packed_pb2, ranking_pb2, ranking_pb2_grpc

HISTORIES: list[list[int]] = [[1, 2, 3], [], [7], [5, 5, 9, 200]]


@pytest.fixture(scope="module")
def candidate_service(releases: Path) -> Iterator[RunningService]:
    with running("candidate_service", releases) as service:
        yield service


@pytest.fixture(scope="module")
def ranking_service(releases: Path) -> Iterator[RunningService]:
    with running("ranking_service", releases) as service:
        yield service


@pytest.fixture(scope="module")
def direct(releases: Path) -> DirectRecommender:
    return DirectRecommender(releases)


def retrieval(histories: list[list[int]], count: int) -> RetrievalQuery:
    watched = WatchHistories.from_lists(histories)
    return RetrievalQuery(histories=watched, counts=np.full(len(histories), count, dtype=np.int32), exclusions=watched)


def ranking(histories: list[list[int]], candidates: list[list[int]]) -> RankingQuery:
    return RankingQuery(histories=WatchHistories.from_lists(histories), candidates=RaggedRows.from_lists(candidates))


def retrieve(
    service: RunningService, query: RetrievalQuery, release_id: str
) -> candidate_pb2.RetrieveCandidatesResponse:
    stub = candidate_pb2_grpc.CandidateServiceStub(service.channel)
    return stub.RetrieveCandidates(pack_retrieval_query(query, release_id), timeout=5)


def rank(service: RunningService, query: RankingQuery, release_id: str) -> ranking_pb2.RankCandidatesResponse:
    stub = ranking_pb2_grpc.RankingServiceStub(service.channel)
    return stub.RankCandidates(pack_ranking_query(query, release_id), timeout=5)


def test_candidates_equal_the_plain_network(candidate_service: RunningService, direct: DirectRecommender) -> None:
    found = unpack_candidates(retrieve(candidate_service, retrieval(HISTORIES, 50), direct.release_id))
    for history, candidates in zip(HISTORIES, found.split([1] * len(HISTORIES)), strict=True):
        probabilities = direct.candidate_network([torch.tensor(history, dtype=torch.long)])[0]
        rows = candidates.rows[0].tolist()
        assert len(rows) == 50
        assert not set(rows) & set(history)
        if history:  # of an empty one all logits are equal, and any order is right
            probabilities[history] = -1
            assert rows == probabilities.argsort(descending=True)[:50].tolist()
        relative = probabilities[rows].log().numpy()
        np.testing.assert_allclose(np.diff(candidates.scores), np.diff(relative), atol=1e-4)


def test_restricted_candidates_equal_the_plain_network(
    candidate_service: RunningService, direct: DirectRecommender
) -> None:
    query = retrieval([[1, 2, 3], [7], [5, 5, 9, 200]], ITEM_COUNT)
    allowed = np.array([9, 30, 31, 60], dtype=np.int32)
    restrictions = {0: Restriction(filter="year >= 2010"), 2: Restriction(filter="year = 1990", allowed=allowed)}
    query = replace(query, restrictions=restrictions)
    found = unpack_candidates(retrieve(candidate_service, query, direct.release_id)).rows
    possible = [[row for row in range(ITEM_COUNT) if row % 30 >= 20], list(range(ITEM_COUNT)), [30, 60]]
    for position, rows in enumerate(possible):
        history = query.histories[position].tolist()
        probabilities = direct.candidate_network([torch.tensor(history, dtype=torch.long)])[0]
        left = [row for row in rows if row not in history]
        assert found[position].tolist() == sorted(left, key=lambda row: -float(probabilities[row]))


@pytest.mark.parametrize(
    ("restriction", "message"),
    [
        (Restriction(filter="yeer = 1"), "character 1: there is no attribute 'yeer'"),
        (Restriction(filter="year ="), "character 7: unexpected end of the filter"),
        (Restriction(allowed=np.array([ITEM_COUNT], dtype=np.int32)), r"allowed of query 0\[0\]\[0\] is row 300"),
    ],
)
def test_a_restriction_that_does_not_fit_the_release_is_refused(
    candidate_service: RunningService, direct: DirectRecommender, restriction: Restriction, message: str
) -> None:
    query = replace(retrieval([[1]], 5), restrictions={0: restriction})
    with pytest.raises(grpc.RpcError, match=message) as refused:
        retrieve(candidate_service, query, direct.release_id)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_ranking_equals_the_plain_network(ranking_service: RunningService, direct: DirectRecommender) -> None:
    candidates = [[4, 5, 6], [1], [], list(range(ITEM_COUNT))]
    query = ranking(HISTORIES, candidates)
    scores = unpack_scores(rank(ranking_service, query, direct.release_id), query)
    expected = [
        direct.ranking_network(torch.tensor(history, dtype=torch.long), torch.tensor(rows, dtype=torch.long))[:, 0]
        for history, rows in zip(HISTORIES, candidates, strict=True)
    ]
    np.testing.assert_allclose(scores, torch.cat(expected).numpy(), atol=1e-5)


def test_a_call_that_asks_nothing_is_answered_with_nothing(
    candidate_service: RunningService, ranking_service: RunningService, direct: DirectRecommender
) -> None:
    found = retrieve(candidate_service, retrieval([], 5), direct.release_id)
    assert found == candidate_pb2.RetrieveCandidatesResponse()
    for query in (ranking([], []), ranking([[1], [2]], [[], []])):
        assert rank(ranking_service, query, direct.release_id) == ranking_pb2.RankCandidatesResponse()


def test_another_release_is_a_failed_precondition(
    candidate_service: RunningService, ranking_service: RunningService
) -> None:
    with pytest.raises(grpc.RpcError) as not_retrieved:
        retrieve(candidate_service, retrieval([], 5), "another")
    with pytest.raises(grpc.RpcError) as not_ranked:
        rank(ranking_service, ranking([], []), "another")
    for failure in (not_retrieved.value, not_ranked.value):
        assert failure.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "'another' is not held" in (failure.details() or "")


VALID_RETRIEVAL = retrieval([[1], [2]], 5)
VALID_RANKING = ranking([[1], [2]], [[3], [4]])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (retrieval([[1], [ITEM_COUNT]], 5), "histories[1][0] is row 300"),
        (replace(VALID_RETRIEVAL, exclusions=RaggedRows.from_lists([[-1], []])), "exclusions[0][0] is row -1"),
        (replace(VALID_RETRIEVAL, counts=np.array([1, 0])), "counts[1] is 0: it lies in 1..2000"),
        (replace(VALID_RETRIEVAL, counts=np.array([2001, 1])), "counts[0] is 2001: it lies in 1..2000"),
        (replace(VALID_RETRIEVAL, counts=np.array([1])), "counts has 1 entries for 2 histories"),
        (retrieval([[1]] * 257, 5), "257 queries: a call carries at most 256"),
    ],
)
def test_what_is_wrong_with_a_retrieval_is_named(
    candidate_service: RunningService, direct: DirectRecommender, query: RetrievalQuery, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        retrieve(candidate_service, query, direct.release_id)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (failure.value.details() or "")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (ranking([[1], [-1]], [[3], [4]]), "histories[1][0] is row -1"),
        (ranking([[1], [2]], [[3], [4, ITEM_COUNT]]), "candidates[1][1] is row 300"),
        (
            replace(VALID_RANKING, contexts=RequestContexts(np.zeros(2, np.int64), RaggedRows.from_lists([[], [300]]))),
            "unclicked[1][0] is row 300",
        ),
        (ranking([[1]], [[1] * 2001]), "2001 candidates for one query: at most 2000"),
        (ranking([[1], [2]], [[3]]), "candidates has 1 entries for 2 histories"),
        (ranking([[1]] * 257, [[1]] * 257), "257 queries: a call carries at most 256"),
    ],
)
def test_what_is_wrong_with_a_ranking_is_named(
    ranking_service: RunningService, direct: DirectRecommender, query: RankingQuery, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        rank(ranking_service, query, direct.release_id)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (failure.value.details() or "")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.binary(max_size=24),
    lengths=st.binary(max_size=12),
    counts=st.binary(max_size=12),
    garbage=st.binary(max_size=40),
)
def test_no_bytes_make_a_stage_fail(
    candidate_service: RunningService,
    direct: DirectRecommender,
    rows: bytes,
    lengths: bytes,
    counts: bytes,
    garbage: bytes,
) -> None:
    packed = packed_pb2.PackedRows(rows=rows, lengths=lengths)
    request = candidate_pb2.RetrieveCandidatesRequest(
        release_id=direct.release_id, histories=packed, exclusions=packed, counts=counts
    )
    raw: grpc.UnaryUnaryMultiCallable[bytes, bytes] = candidate_service.channel.unary_unary(
        "/winnow.v1.CandidateService/RetrieveCandidates"
    )
    for data in (request.SerializeToString(), garbage):
        try:
            raw(data, timeout=5)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
