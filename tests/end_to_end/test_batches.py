"""Batches give what single calls give, request by request."""

import asyncio
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import local_stack
from tests.end_to_end.test_stack import random_history
from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT, item_id
from winnow.client import (
    AsyncWinnowClient,
    DegradationStep,
    RecommendationRequest,
    Recommendations,
    Watch,
    WinnowClient,
    WinnowError,
)
from winnow.rpc.violations import Violation
from winnow.serving.local_stack import LocalStack
from winnow.v1 import recommendation_pb2, recommendation_pb2_grpc
from winnow.v1.recommendation_pb2 import BatchRecommendItemsRequest, RecommendItemsRequest


def answers(outcomes: list[Recommendations | WinnowError]) -> list[Recommendations]:
    found = [outcome for outcome in outcomes if isinstance(outcome, Recommendations)]
    assert len(found) == len(outcomes), outcomes
    return found


def same(one: Recommendations, other: Recommendations) -> bool:
    """Whether two answers are the same, but for the times, the ids, and the arithmetic of batches of another size."""
    return (
        [item.item_id for item in one.items] == [item.item_id for item in other.items]
        and all(abs(a.score - b.score) < 1e-5 for a, b in zip(one.items, other.items, strict=True))
        and (one.release_id, one.score_type, one.candidate_source, one.degradation, one.unknown_history_count)
        == (other.release_id, other.score_type, other.candidate_source, other.degradation, other.unknown_history_count)
        and one.unknown_excluded_count == other.unknown_excluded_count
    )


item_ids = st.one_of(st.integers(0, ITEM_COUNT - 1).map(item_id), st.sampled_from(["unknown", "", "x" * 600]))
watches = st.builds(
    Watch,
    item_ids,
    weight=st.none() | st.floats(0, 5, width=32) | st.just(-1.0),
    time=st.none() | st.integers(0, 2_000_000_000),
)
requests_ = st.builds(
    RecommendationRequest,
    st.lists(watches, max_size=30),
    count=st.integers(1, 100),
    excluded_item_ids=st.lists(item_ids, max_size=10),
    include_watched=st.booleans(),
    require_ranked=st.booleans(),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(requests_, min_size=1, max_size=12))
def test_a_batch_equals_single_calls_item_for_item(client: WinnowClient, requests: list[RecommendationRequest]) -> None:
    for request, outcome in zip(requests, client.recommend_many(requests), strict=True):
        try:
            alone = client.recommend(
                request.history,
                count=request.count,
                excluded_item_ids=request.excluded_item_ids,
                include_watched=request.include_watched,
                require_ranked=request.require_ranked,
            )
        except WinnowError as error:
            assert isinstance(outcome, WinnowError)
            assert (outcome.code, outcome.message, outcome.violations) == (error.code, error.message, error.violations)
        else:
            assert isinstance(outcome, Recommendations)
            assert same(outcome, alone)


def test_a_full_batch_gets_the_plain_computation_and_ids_of_its_own(client: WinnowClient, releases: Path) -> None:
    direct = DirectRecommender(releases)
    # Equal requests among them.
    histories = [random_history(seed % 100) for seed in range(256)]
    found = answers(client.recommend_many([RecommendationRequest(history, count=10) for history in histories]))
    for history, answer in zip(histories, found, strict=True):
        assert [item.item_id for item in answer.items] == [wanted for wanted, _ in direct.recommend(history, 10)]
    assert len({answer.recommendation_id for answer in found}) == 256


def test_one_bad_request_among_good_ones_is_named_by_its_place(
    stub: recommendation_pb2_grpc.RecommendationServiceStub,
) -> None:
    good = RecommendItemsRequest(item_count=3)
    bad = RecommendItemsRequest(
        history=[recommendation_pb2.Watch(item_id="a"), recommendation_pb2.Watch(item_id="b", weight=-1)]
    )
    results = stub.BatchRecommendItems(BatchRecommendItemsRequest(requests=[good, good, good, bad, good])).results
    assert [result.WhichOneof("outcome") for result in results] == ["response"] * 3 + ["status", "response"]
    assert results[3].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [(found.field, found.description) for found in results[3].status.violations] == [
        ("requests[3].history[1].weight", "is -1: a finite number of at least 0 is needed")
    ]


def test_a_request_that_cannot_be_read_spoils_no_other(stack: LocalStack) -> None:
    good = RecommendItemsRequest(item_count=3).SerializeToString()
    bad = b"\x0a\x04\x0a\x02\xff\xfe"  # an item id that is not UTF-8
    data = b"".join(b"\x0a" + bytes([len(part)]) + part for part in (good, bad, good))
    with grpc.insecure_channel(stack.gateway_target) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/winnow.v1.RecommendationService/BatchRecommendItems"
        )
        answer = recommendation_pb2.BatchRecommendItemsResponse.FromString(method(data, timeout=5))
    assert [result.WhichOneof("outcome") for result in answer.results] == ["response", "status", "response"]
    assert answer.results[1].status.violations[0].field == "requests[1].history[0].item_id"


@pytest.mark.parametrize(
    ("count", "description"), [(0, "is empty: there is nothing to answer"), (257, "has more than 256 requests")]
)
def test_a_batch_has_1_to_256_requests(
    stub: recommendation_pb2_grpc.RecommendationServiceStub, count: int, description: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        stub.BatchRecommendItems(BatchRecommendItemsRequest(requests=[RecommendItemsRequest()] * count), timeout=5)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.details() == f"requests: {description}"


def test_more_than_256_take_several_calls(client: WinnowClient) -> None:
    histories = [random_history(seed) for seed in range(300)]
    found = answers(client.recommend_many(RecommendationRequest(history, count=1) for history in histories))
    assert len(found) == 300
    assert same(found[299], client.recommend(histories[299], count=1))


def test_both_clients_and_coalesced_calls_answer_alike(stack: LocalStack, client: WinnowClient) -> None:
    requests = [RecommendationRequest(random_history(seed), count=10) for seed in range(80)]
    expected = answers(client.recommend_many(requests))

    async def ask() -> list[list[Recommendations]]:
        async with (
            AsyncWinnowClient(stack.gateway_target, timeout_seconds=10) as plain,
            AsyncWinnowClient(stack.gateway_target, timeout_seconds=10, coalesce=True) as coalescing,
        ):
            many = answers(await plain.recommend_many(requests))
            single, coalesced = [
                await asyncio.gather(*(client.recommend(request.history, count=10) for request in requests))
                for client in (plain, coalescing)
            ]
            return [many, single, coalesced]

    for found in asyncio.run(ask()):
        assert all(map(same, found, expected))


def test_after_a_hang_up_during_a_batch_all_is_as_before(stack: LocalStack, client: WinnowClient) -> None:
    async def hang_up() -> None:
        requests = [RecommendationRequest(random_history(seed)) for seed in range(256)]
        async with AsyncWinnowClient(stack.gateway_target, timeout_seconds=10) as leaving:
            for pause in (0.0, 0.001, 0.005, 0.02):
                asking = asyncio.create_task(leaving.recommend_many(requests))
                await asyncio.sleep(pause)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking

    before = client.recommend(random_history(1))
    asyncio.run(hang_up())
    assert same(client.recommend(random_history(1)), before)


def test_degraded_answers_within_a_batch_say_so_and_refused_ones_fail_alone(releases: Path) -> None:
    history = random_history(7)
    with (
        local_stack(releases) as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=5) as client,
    ):
        stack.processes["ranking_service"].kill()
        stack.processes["ranking_service"].wait()
        degraded, refused, wrong = client.recommend_many(
            [
                RecommendationRequest(history),
                RecommendationRequest(history, require_ranked=True),
                RecommendationRequest([""]),
            ]
        )
    assert isinstance(degraded, Recommendations)
    assert degraded.degradation.step is DegradationStep.CANDIDATE_ORDER
    assert isinstance(refused, WinnowError)
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert isinstance(wrong, WinnowError)
    assert wrong.violations == (Violation("history[0].item_id", "is empty"),)
