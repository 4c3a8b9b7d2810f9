"""Each stage alone: what it answers, and how it refuses what it cannot."""

from collections.abc import Iterator
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
from winnow.history import RaggedRows
from winnow.serving.wire import pack_int32, pack_rows, unpack_float32, unpack_rows
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


def retrieval(
    direct: DirectRecommender, histories: list[list[int]], count: int
) -> candidate_pb2.RetrieveCandidatesRequest:
    return candidate_pb2.RetrieveCandidatesRequest(
        release_id=direct.release_id,
        histories=pack_rows(RaggedRows.from_lists(histories)),
        exclusions=pack_rows(RaggedRows.from_lists(histories)),
        counts=pack_int32(np.full(len(histories), count)),
    )


def test_candidates_equal_the_plain_network(candidate_service: RunningService, direct: DirectRecommender) -> None:
    stub = candidate_pb2_grpc.CandidateServiceStub(candidate_service.channel)
    response = stub.RetrieveCandidates(retrieval(direct, HISTORIES, 50), timeout=5)
    found = unpack_rows(response.candidates, "candidates")
    scores = unpack_float32(response.scores, "scores")
    for query, history in enumerate(HISTORIES):
        probabilities = direct.candidate_network([torch.tensor(history, dtype=torch.long)])[0]
        start, end = found.offsets[query : query + 2]
        assert len(found[query]) == 50
        assert not set(found[query].tolist()) & set(history)
        if history:  # of an empty one all logits are equal, and any order is right
            probabilities[history] = -1
            assert found[query].tolist() == probabilities.argsort(descending=True)[:50].tolist()
        relative = probabilities[found[query].tolist()].log().numpy()
        np.testing.assert_allclose(np.diff(scores[start:end]), np.diff(relative), atol=1e-4)


def test_ranking_equals_the_plain_network(ranking_service: RunningService, direct: DirectRecommender) -> None:
    candidates = [[4, 5, 6], [1], [], list(range(ITEM_COUNT))]
    stub = ranking_pb2_grpc.RankingServiceStub(ranking_service.channel)
    response = stub.RankCandidates(
        ranking_pb2.RankCandidatesRequest(
            release_id=direct.release_id,
            histories=pack_rows(RaggedRows.from_lists(HISTORIES)),
            candidates=pack_rows(RaggedRows.from_lists(candidates)),
        ),
        timeout=5,
    )
    expected = [
        direct.ranking_network(torch.tensor(history, dtype=torch.long), torch.tensor(rows, dtype=torch.long))[:, 0]
        for history, rows in zip(HISTORIES, candidates, strict=True)
    ]
    np.testing.assert_allclose(unpack_float32(response.scores, "scores"), torch.cat(expected).numpy(), atol=1e-5)


def test_no_queries_get_no_answers(candidate_service: RunningService, direct: DirectRecommender) -> None:
    stub = candidate_pb2_grpc.CandidateServiceStub(candidate_service.channel)
    response = stub.RetrieveCandidates(retrieval(direct, [], 5), timeout=5)
    assert not response.candidates.rows


def failure_of(call: object, request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as failure:
        call(request, timeout=5)  # type: ignore[operator]
    return failure.value.code(), failure.value.details() or ""


def test_another_release_is_a_failed_precondition(
    candidate_service: RunningService, ranking_service: RunningService
) -> None:
    for call, request in [
        (
            candidate_pb2_grpc.CandidateServiceStub(candidate_service.channel).RetrieveCandidates,
            candidate_pb2.RetrieveCandidatesRequest(release_id="another"),
        ),
        (
            ranking_pb2_grpc.RankingServiceStub(ranking_service.channel).RankCandidates,
            ranking_pb2.RankCandidatesRequest(release_id="another"),
        ),
    ]:
        code, text = failure_of(call, request)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "'another' is not held" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": pack_int32(np.array([1]))}, "2 histories, 2 exclusions and 1 counts"),
        ({"counts": pack_int32(np.array([1, 0]))}, "counts[1] is 0: it lies in 1..2000"),
        ({"counts": b"abc"}, "counts has 3 bytes"),
        ({"histories": pack_rows(RaggedRows.from_lists([[1], [ITEM_COUNT]]))}, "histories[1][0] is row 300"),
        ({"exclusions": pack_rows(RaggedRows.from_lists([[-1], []]))}, "exclusions[0][0] is row -1"),
        ({"histories": packed_pb2.PackedRows(lengths=pack_int32(np.array([9, 9])))}, "histories: lengths sum to 18"),
    ],
)
def test_what_is_wrong_with_a_call_is_named(
    candidate_service: RunningService, direct: DirectRecommender, change: dict[str, object], message: str
) -> None:
    request = retrieval(direct, [[1], [2]], 5)
    for field, value in change.items():
        request.ClearField(field)  # type: ignore[arg-type]
        request.MergeFrom(candidate_pb2.RetrieveCandidatesRequest(**{field: value}))  # type: ignore[arg-type]
    code, text = failure_of(
        candidate_pb2_grpc.CandidateServiceStub(candidate_service.channel).RetrieveCandidates, request
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in text


def test_too_many_queries_in_one_call_are_refused(candidate_service: RunningService, direct: DirectRecommender) -> None:
    stub = candidate_pb2_grpc.CandidateServiceStub(candidate_service.channel)
    code, text = failure_of(stub.RetrieveCandidates, retrieval(direct, [[1]] * 257, 5))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "257 queries: a call carries at most 256" in text


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
