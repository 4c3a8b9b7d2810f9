"""What `similar` and `explain` send and read, in both clients."""

import asyncio
from typing import Any

import pytest

from tests.unit.client.fake_gateway import FakeGateway
from winnow.client import (
    AbsenceReason,
    AsyncWinnowClient,
    CandidateSource,
    Explanation,
    ItemSource,
    RankingExplanation,
    RecommendationRequest,
    RetrievalExplanation,
    ScoredItem,
    ScoreType,
    SimilarItems,
    Timing,
    Watch,
    WatchContribution,
    WinnowClient,
)
from winnow.v1 import recommendation_pb2

TIMING = Timing(
    total_milliseconds=9.5,
    users_milliseconds=None,
    wait_milliseconds=None,
    retrieve_milliseconds=4.0,
    retrieve_compute_milliseconds=None,
    rank_milliseconds=None,
    rank_compute_milliseconds=None,
    select_milliseconds=None,
    sources_milliseconds=None,
    explain_milliseconds=5.0,
)
SIMILAR_ASKED: dict[str, Any] = {
    "count": 7,
    "filter": "year > 1990",
    "allowed_item_ids": ["a", "b"],
    "excluded_item_ids": ["b"],
}
EXPLAIN_ASKED: dict[str, Any] = {
    "filter": "year > 1990",
    "allowed_item_ids": ["a", "b"],
    "excluded_item_ids": ["b"],
    "include_watched": True,
    "request_time": 5,
    "unclicked_item_ids": ["c"],
}
NOTHING = RecommendationRequest([])
HISTORY: list[str | Watch] = ["x", Watch("y", weight=2.0, time=9)]


def ask_both(client: WinnowClient, gateway: FakeGateway, method: str, *given: Any, **asked: Any) -> list[Any]:
    """The answers of the blocking and of the asynchronous client."""

    async def ask() -> Any:
        async with AsyncWinnowClient(gateway.target, timeout_seconds=5) as other:
            return await getattr(other, method)(*given, **asked)

    return [getattr(client, method)(*given, **asked), asyncio.run(ask())]


def test_everything_said_of_similar_items_is_sent(client: WinnowClient, gateway: FakeGateway) -> None:
    ask_both(client, gateway, "similar", ["x", "y"], **SIMILAR_ASKED)
    assert gateway.requests == 2 * [
        recommendation_pb2.SimilarItemsRequest(
            item_ids=["x", "y"],
            item_count=7,
            filter="year > 1990",
            allowed_item_ids=["a", "b"],
            excluded_item_ids=["b"],
        )
    ]


def test_everything_said_of_an_explanation_is_sent(client: WinnowClient, gateway: FakeGateway) -> None:
    ask_both(client, gateway, "explain", RecommendationRequest(HISTORY, **EXPLAIN_ASKED), "z", watch_count=3)
    for sent in gateway.requests:
        assert (sent.item_id, sent.watch_count) == ("z", 3)
        assert [watch.item_id for watch in sent.request.history] == ["x", "y"]
        assert (sent.request.history[1].weight, sent.request.history[1].timestamp_seconds) == (2, 9)
        assert sent.request.filter == "year > 1990"
        assert list(sent.request.allowed_item_ids) == ["a", "b"]
        assert list(sent.request.excluded_item_ids) == ["b"]
        assert list(sent.request.unclicked_item_ids) == ["c"]
        assert sent.request.include_watched
        assert sent.request.request_timestamp_seconds == 5
        assert sent.request.item_count == 20


@pytest.mark.parametrize(
    ("method", "given", "asked", "message"),
    [
        ("similar", ("x",), {}, "item_ids is 'x': a list of item ids is needed"),
        ("similar", (["x"],), {"count": 101}, "count is 101: it has to be from 1 to 100"),
        ("similar", (["x"],), {"allowed_item_ids": []}, "allowed_item_ids is empty"),
        ("explain", (["x"], "y"), {}, "request is of type list: a RecommendationRequest is needed"),
        ("explain", (NOTHING, 5), {}, "item_id is of type int: str is needed"),
        ("explain", (NOTHING, "y"), {"watch_count": 51}, "watch_count is 51: it has to be from 1 to 50"),
        ("explain", (RecommendationRequest("x"), "y"), {}, "history is 'x': a list of item ids or of Watch objects"),
    ],
)
def test_what_makes_no_sense_is_not_sent(
    client: WinnowClient, gateway: FakeGateway, method: str, given: tuple[Any, ...], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(client, method)(*given, **asked)
    assert not gateway.requests


def test_similar_items_are_wholly_filled(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.SimilarItemsResponse(
        items=[recommendation_pb2.ScoredItem(item_id="a", score=0.75)],
        release_id="release-1",
        score_type=recommendation_pb2.SCORE_TYPE_CANDIDATE_LOGIT,
        candidate_source=recommendation_pb2.CANDIDATE_SOURCE_NETWORK,
        unknown_item_count=1,
        unknown_excluded_count=2,
        unknown_allowed_count=3,
        timing=recommendation_pb2.Timing(
            total_microseconds=9500, retrieve_microseconds=4000, explain_microseconds=5000
        ),
        recommendation_id="id-1",
    )
    expected = SimilarItems(
        items=(ScoredItem(item_id="a", score=0.75, sources=(), move=None),),
        release_id="release-1",
        score_type=ScoreType.CANDIDATE_LOGIT,
        candidate_source=CandidateSource.NETWORK,
        unknown_item_count=1,
        unknown_excluded_count=2,
        unknown_allowed_count=3,
        timing=TIMING,
        recommendation_id="id-1",
    )
    assert ask_both(client, gateway, "similar", ["x"]) == [expected, expected]


def test_an_explanation_is_wholly_filled(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.ExplainItemResponse(
        release_id="release-1",
        retrieval=recommendation_pb2.RetrievalExplanation(
            absence_reasons=[
                recommendation_pb2.ABSENCE_REASON_WATCHED,
                recommendation_pb2.ABSENCE_REASON_FILTERED,
                99,  # type: ignore[list-item]
            ],
            unmet_conditions=["year >= 2000"],
            score=-0.5,
            cut_score=0.25,
            score_type=recommendation_pb2.SCORE_TYPE_CANDIDATE_LOGIT,
            candidate_source=recommendation_pb2.CANDIDATE_SOURCE_NETWORK,
            retrieved_count=200,
            sources=[recommendation_pb2.ItemSource(source="fresh", place=4)],
        ),
        ranking=recommendation_pb2.RankingExplanation(
            score=0.5, score_type=recommendation_pb2.SCORE_TYPE_WATCH_SECONDS, place=7, ranked_count=150
        ),
        contributions=[
            recommendation_pb2.WatchContribution(position=3, item_id="a", candidate_logit=0.5, ranking_score=-0.25)
        ],
        unknown_history_count=1,
        unknown_excluded_count=2,
        unknown_allowed_count=3,
        timing=recommendation_pb2.Timing(
            total_microseconds=9500, retrieve_microseconds=4000, explain_microseconds=5000
        ),
        recommendation_id="id-1",
        experiment_arm="b",
    )
    expected = Explanation(
        release_id="release-1",
        retrieval=RetrievalExplanation(
            place=None,
            absence_reasons=(AbsenceReason.WATCHED, AbsenceReason.FILTERED, AbsenceReason.OTHER),
            unmet_conditions=("year >= 2000",),
            score=-0.5,
            cut_score=0.25,
            score_type=ScoreType.CANDIDATE_LOGIT,
            candidate_source=CandidateSource.NETWORK,
            retrieved_count=200,
            sources=(ItemSource(source="fresh", place=4),),
        ),
        ranking=RankingExplanation(score=0.5, score_type=ScoreType.WATCH_SECONDS, place=7, ranked_count=150),
        contributions=(WatchContribution(position=3, item_id="a", candidate_logit=0.5, ranking_score=-0.25),),
        unknown_history_count=1,
        unknown_excluded_count=2,
        unknown_allowed_count=3,
        timing=TIMING,
        recommendation_id="id-1",
        experiment_arm="b",
    )
    assert ask_both(client, gateway, "explain", NOTHING, "y") == [expected, expected]
    assert expected.known


def test_of_an_unknown_item_nothing_else_is_known(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.ExplainItemResponse(
        retrieval=recommendation_pb2.RetrievalExplanation(absence_reasons=[recommendation_pb2.ABSENCE_REASON_UNKNOWN])
    )
    answer = client.explain(NOTHING, "y")
    assert not answer.known
    found = answer.retrieval
    assert (found.score, found.cut_score, found.score_type, found.candidate_source) == (None, None, None, None)
