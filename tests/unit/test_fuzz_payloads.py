"""A request of the fuzzer can be sent again: it follows from its seed."""

import pytest
from google.protobuf.message import Message

from benchmarks.fuzz_edge.payloads import PayloadMaker
from winnow.v1.candidate_pb2 import RetrieveCandidatesRequest
from winnow.v1.ranking_pb2 import RankCandidatesRequest
from winnow.v1.recommendation_pb2 import BatchRecommendItemsRequest, RecommendItemsRequest
from winnow.v1.status_pb2 import GetStatusRequest


@pytest.mark.parametrize(
    "message_class",
    [
        RecommendItemsRequest,
        BatchRecommendItemsRequest,
        RetrieveCandidatesRequest,
        RankCandidatesRequest,
        GetStatusRequest,
    ],
)
def test_requests_follow_from_their_seeds(message_class: type[Message]) -> None:
    maker = PayloadMaker(message_class, "release", 100, ["a", "b"])
    payloads = [maker.make(f"1/service/{number}") for number in range(20)]
    assert [maker.make(f"1/service/{number}") for number in range(20)] == payloads
    assert len({payload.kind for payload in payloads}) > 3
    assert max(len(payload.data) for payload in payloads) > 1_000_000
