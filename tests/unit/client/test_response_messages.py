"""Answers hold all that the gateway sent, in plain types."""

import dataclasses
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.unit.client.fake_gateway import FakeGateway
from winnow.client import (
    CandidateSource,
    Degradation,
    DegradationStep,
    Item,
    ItemSource,
    Move,
    MoveReason,
    RankedItems,
    Recommendations,
    RetrievedItems,
    ScoredItem,
    ScoreType,
    Timing,
    WinnowClient,
)
from winnow.v1 import catalogue_pb2, recommendation_pb2

TIMING = recommendation_pb2.Timing(
    total_microseconds=9500,
    wait_microseconds=0,
    retrieve_microseconds=4000,
    retrieve_compute_microseconds=2000,
    rank_microseconds=3000,
    rank_compute_microseconds=1000,
    select_microseconds=100,
    sources_microseconds=300,
)
ITEMS = [recommendation_pb2.ScoredItem(item_id="a", score=0.75), recommendation_pb2.ScoredItem(item_id="b", score=0.5)]
SCORED = (
    ScoredItem(item_id="a", score=0.75, sources=(), move=None),
    ScoredItem(item_id="b", score=0.5, sources=(), move=None),
)


def test_recommendations_are_wholly_filled(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.RecommendItemsResponse(
        items=ITEMS,
        release_id="release-1",
        score_type=recommendation_pb2.SCORE_TYPE_WATCH_SECONDS,
        candidate_source=recommendation_pb2.CANDIDATE_SOURCE_POPULAR,
        retrieved_count=200,
        ranked_count=150,
        unknown_history_count=3,
        unknown_allowed_count=6,
        unknown_excluded_count=4,
        unknown_candidate_count=5,
        unknown_pinned_count=7,
        excluded_pinned_count=8,
        degradation=recommendation_pb2.Degradation(
            step=recommendation_pb2.DEGRADATION_STEP_POPULAR_RANKED, reason="candidate: UNAVAILABLE"
        ),
        timing=TIMING,
        recommendation_id="id-1",
        experiment_arm="b",
    )
    answer = client.recommend([])
    assert answer == Recommendations(
        items=SCORED,
        release_id="release-1",
        score_type=ScoreType.WATCH_SECONDS,
        candidate_source=CandidateSource.POPULAR,
        retrieved_count=200,
        ranked_count=150,
        unknown_history_count=3,
        unknown_allowed_count=6,
        unknown_excluded_count=4,
        unknown_candidate_count=5,
        unknown_pinned_count=7,
        excluded_pinned_count=8,
        degradation=Degradation(step=DegradationStep.POPULAR_RANKED, reason="candidate: UNAVAILABLE"),
        timing=Timing(
            total_milliseconds=9.5,
            users_milliseconds=None,
            wait_milliseconds=0.0,
            retrieve_milliseconds=4.0,
            retrieve_compute_milliseconds=2.0,
            rank_milliseconds=3.0,
            rank_compute_milliseconds=1.0,
            select_milliseconds=0.1,
            sources_milliseconds=0.3,
            explain_milliseconds=None,
        ),
        recommendation_id="id-1",
        experiment_arm="b",
    )
    assert answer.degraded


def test_items_name_the_sources_that_proposed_them(client: WinnowClient, gateway: FakeGateway) -> None:
    item = recommendation_pb2.ScoredItem(
        item_id="a",
        score=1,
        sources=[
            recommendation_pb2.ItemSource(source="network", place=7),
            recommendation_pb2.ItemSource(source="editors", place=1),
        ],
    )
    gateway.response = recommendation_pb2.RecommendItemsResponse(items=[item, *ITEMS])
    named, *others = client.recommend([]).items
    assert named.sources == (ItemSource(source="network", place=7), ItemSource(source="editors", place=1))
    assert tuple(others) == SCORED


def test_items_that_moved_say_why(client: WinnowClient, gateway: FakeGateway) -> None:
    moves = [
        recommendation_pb2.Move(reasons=[recommendation_pb2.MOVE_REASON_PINNED]),
        recommendation_pb2.Move.FromString(b"\x0a\x03\x03\x04\x63\x10\x07"),  # reasons 3, 4 and 99
    ]
    gateway.response = recommendation_pb2.RecommendItemsResponse(
        items=[
            *ITEMS[:1],
            *(recommendation_pb2.ScoredItem(item_id=f"m{n}", move=move) for n, move in enumerate(moves)),
        ]
    )
    assert [item.move for item in client.recommend([]).items] == [
        None,
        Move(reasons=(MoveReason.PINNED,), ranked_position=None),
        Move(reasons=(MoveReason.OTHERS_CAPPED, MoveReason.DIVERSITY, MoveReason.UNKNOWN), ranked_position=7),
    ]


def test_retrieved_items_are_wholly_filled(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.RetrieveItemsResponse(
        items=ITEMS,
        release_id="release-1",
        score_type=recommendation_pb2.SCORE_TYPE_CANDIDATE_LOGIT,
        candidate_source=recommendation_pb2.CANDIDATE_SOURCE_NETWORK,
        unknown_history_count=3,
        unknown_allowed_count=6,
        unknown_excluded_count=4,
        timing=recommendation_pb2.Timing(total_microseconds=1500, retrieve_microseconds=1000),
        recommendation_id="id-1",
        experiment_arm="b",
    )
    answer = client.retrieve([])
    assert answer == RetrievedItems(
        items=SCORED,
        release_id="release-1",
        score_type=ScoreType.CANDIDATE_LOGIT,
        candidate_source=CandidateSource.NETWORK,
        unknown_history_count=3,
        unknown_allowed_count=6,
        unknown_excluded_count=4,
        timing=answer.timing,
        recommendation_id="id-1",
        experiment_arm="b",
    )
    # None where the call did not take the step; 0 would say that it took no time.
    assert (answer.timing.retrieve_milliseconds, answer.timing.rank_milliseconds) == (1.0, None)


def test_ranked_items_are_wholly_filled(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.RankItemsResponse(
        items=ITEMS,
        release_id="release-1",
        score_type=recommendation_pb2.SCORE_TYPE_WATCH_PROBABILITY,
        unknown_history_count=3,
        unknown_item_count=4,
        timing=TIMING,
        recommendation_id="id-1",
        experiment_arm="b",
    )
    answer = client.rank([], ["a"])
    assert answer == RankedItems(
        items=SCORED,
        release_id="release-1",
        score_type=ScoreType.WATCH_PROBABILITY,
        unknown_history_count=3,
        unknown_item_count=4,
        timing=answer.timing,
        recommendation_id="id-1",
        experiment_arm="b",
    )


@pytest.mark.parametrize(
    ("answer_class", "message_class"),
    [
        (Recommendations, recommendation_pb2.RecommendItemsResponse),
        (RetrievedItems, recommendation_pb2.RetrieveItemsResponse),
        (RankedItems, recommendation_pb2.RankItemsResponse),
        (Degradation, recommendation_pb2.Degradation),
        (ScoredItem, recommendation_pb2.ScoredItem),
        (ItemSource, recommendation_pb2.ItemSource),
        (Item, catalogue_pb2.Item),
    ],
)
def test_answers_have_the_fields_of_their_message_and_no_defaults(
    answer_class: Any, message_class: type[Message]
) -> None:
    fields = dataclasses.fields(answer_class)
    assert [field.name for field in fields] == [field.name for field in message_class.DESCRIPTOR.fields]
    assert all(field.default is dataclasses.MISSING for field in fields)


def test_an_answer_cannot_be_changed(client: WinnowClient) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        client.recommend([]).release_id = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("members", "numbers"),
    [
        (ScoreType, recommendation_pb2.ScoreType),
        (CandidateSource, recommendation_pb2.CandidateSource),
        (DegradationStep, recommendation_pb2.DegradationStep),
    ],
)
def test_enums_have_the_members_of_the_contract(members: Any, numbers: Any) -> None:
    names = [name.split("_", 2)[2] for name in numbers.keys()]  # noqa: SIM118 - not a mapping
    assert [member.name for member in members] == [*names[1:], "UNKNOWN"]


def test_a_not_degraded_answer_says_so(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.RecommendItemsResponse(
        degradation=recommendation_pb2.Degradation(step=recommendation_pb2.DEGRADATION_STEP_NONE)
    )
    answer = client.recommend([])
    assert answer.degradation == Degradation(step=DegradationStep.NONE, reason="")
    assert not answer.degraded


def test_what_a_newer_gateway_says_is_unknown_and_not_taken_for_fine(
    client: WinnowClient, gateway: FakeGateway
) -> None:
    response = recommendation_pb2.RecommendItemsResponse()
    # Enums of proto3 are open: 99 stands for a value that this client was not built with.
    response.MergeFromString(b"\x18\x63\x20\x63\x4a\x02\x08\x63")
    assert (response.score_type, response.candidate_source, response.degradation.step) == (99, 99, 99)
    gateway.response = response
    answer = client.recommend([])
    assert answer.score_type is ScoreType.UNKNOWN
    assert answer.candidate_source is CandidateSource.UNKNOWN
    assert answer.degradation.step is DegradationStep.UNKNOWN
    assert answer.degraded
