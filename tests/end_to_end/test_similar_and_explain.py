"""Similar items and explanations through all services: those of the plain computation, or a clear error."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import local_stack
from tests.end_to_end.test_stack import assert_same, random_history, stop
from tests.reference import DirectRecommender
from tests.releases import FIRST_YEAR, ITEM_COUNT, YEARS, item_id, write_random_release
from winnow.client import (
    AbsenceReason,
    CandidateSource,
    Explanation,
    RecommendationRequest,
    ScoreType,
    Watch,
    WinnowClient,
    WinnowError,
)
from winnow.history import WatchHistories
from winnow.networks.options import HistoryOptions
from winnow.networks.watch_features import WatchFeatures
from winnow.rpc.violations import violations_of
from winnow.serving.local_stack import LocalStack
from winnow.v1 import recommendation_pb2, recommendation_pb2_grpc

FEATURED = HistoryOptions(
    history_length=12,
    bag_decays=(0.0, 0.3),
    watch_features=WatchFeatures(weight_edges=(2.0, 4.0), gap_edges_seconds=(60.0, 3600.0)),
)
RETRIEVED = 200
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def featured_releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("featured-releases")
    write_random_release(directory, history=FEATURED)
    return directory


@pytest.fixture(scope="module")
def featured_client(featured_releases: Path) -> Iterator[WinnowClient]:
    """Networks that read twelve watches, with weights and gaps."""
    with (
        local_stack(featured_releases) as started,
        WinnowClient(started.gateway_target, timeout_seconds=10) as opened,
    ):
        yield opened


def history_of(direct: DirectRecommender, watches: Sequence[Watch]) -> WatchHistories:
    rows, _ = direct.vocabulary.rows(watch.item_id for watch in watches)
    weights = np.array([np.nan if watch.weight is None else watch.weight for watch in watches], np.float32)
    times = np.array([watch.time or 0 for watch in watches], np.int64)
    known = watches and watches[0].time is not None
    return WatchHistories.of_one(rows, weights, times if known else None)


def assert_explains(
    answer: Explanation, direct: DirectRecommender, watches: Sequence[Watch], row: int, read_count: int
) -> None:
    """The scores and contributions are those of the networks, asked one history at a time."""
    whole = history_of(direct, watches)
    logits = direct.logits(whole)
    assert answer.ranking is not None
    [score] = direct.scores(whole, [row]).tolist()
    assert answer.retrieval.score == pytest.approx(float(logits[row]), abs=TOLERANCE)
    assert answer.ranking.score == pytest.approx(score, abs=TOLERANCE)

    unwatched = [other for other in logits.argsort(descending=True).tolist() if other not in whole.rows]
    candidates = unwatched[:RETRIEVED]
    assert answer.retrieval.place == (candidates.index(row) + 1 if row in candidates else None)
    assert answer.retrieval.cut_score == pytest.approx(float(logits[candidates[-1]]), abs=TOLERANCE)
    better = (direct.scores(whole, candidates) > score).sum()
    assert answer.ranking.place == better + 1
    assert (answer.retrieval.retrieved_count, answer.ranking.ranked_count) == (RETRIEVED, RETRIEVED)

    assert [found.position for found in answer.contributions] == list(range(len(watches)))[-read_count:]
    for found in answer.contributions:
        without = history_of(direct, [*watches[: found.position], *watches[found.position + 1 :]])
        logit = float(direct.logits(without)[row]) if len(watches) > 1 else 0.0
        [ranking_score] = direct.scores(without, [row]).tolist()
        assert found.item_id == watches[found.position].item_id
        assert found.candidate_logit == pytest.approx(float(logits[row]) - logit, abs=TOLERANCE)
        assert found.ranking_score == pytest.approx(score - ranking_score, abs=TOLERANCE)


@pytest.mark.parametrize("seed", range(6))
def test_an_explanation_is_that_of_the_plain_computation(client: WinnowClient, releases: Path, seed: int) -> None:
    direct = DirectRecommender(releases)
    watches = [Watch(watched) for watched in random_history(seed)]
    unwatched = [row for row in range(ITEM_COUNT) if item_id(row) not in {watch.item_id for watch in watches}]
    for row in unwatched[seed::60]:
        answer = client.explain(RecommendationRequest(watches), item_id(row), watch_count=50)
        assert answer.release_id == direct.release_id
        assert answer.retrieval.candidate_source is CandidateSource.NETWORK
        assert answer.retrieval.score_type is ScoreType.CANDIDATE_LOGIT
        assert_explains(answer, direct, watches, row, read_count=50)


@pytest.mark.parametrize("length", [1, 5, 12, 13, 14, 40])
def test_what_is_known_of_watches_is_part_of_what_they_contribute(
    featured_client: WinnowClient, featured_releases: Path, length: int
) -> None:
    """Where one of the twelve watches that are read is left out, an earlier one moves up."""
    direct, rng = DirectRecommender(featured_releases), np.random.default_rng(length)
    weights, times = rng.uniform(0, 6, length).astype(np.float32).tolist(), rng.integers(1, 9000, length).cumsum()
    rows = rng.permutation(ITEM_COUNT - 1)[:length].tolist()
    watches = list(map(Watch, map(item_id, rows), weights, times.tolist()))
    answer = featured_client.explain(RecommendationRequest(watches), item_id(ITEM_COUNT - 1), watch_count=50)
    assert_explains(answer, direct, watches, ITEM_COUNT - 1, read_count=12)


def test_the_place_is_that_in_the_lists_that_callers_get(client: WinnowClient) -> None:
    asked: dict[str, Any] = {"filter": "year >= 2000", "excluded_item_ids": [item_id(row) for row in range(20)]}
    history = random_history(2)
    candidates = [item.item_id for item in client.retrieve(history, count=RETRIEVED, **asked).items]
    ranked = client.recommend(history, count=100, **asked).items
    for number in (0, 7, 60):
        answer = client.explain(RecommendationRequest(history, **asked), ranked[number].item_id)
        assert answer.ranking is not None
        assert answer.ranking.place == number + 1
        assert answer.ranking.score == pytest.approx(ranked[number].score, abs=TOLERANCE)
        assert answer.retrieval.place == candidates.index(ranked[number].item_id) + 1
        assert answer.retrieval.absence_reasons == ()


def test_why_not(client: WinnowClient) -> None:
    history = [item_id(3), "no such item", item_id(8)]

    def reasons(explained: str, **asked: Any) -> tuple[AbsenceReason, ...]:
        answer = client.explain(RecommendationRequest(history, **asked), explained)
        assert (answer.retrieval.place is None) is bool(answer.retrieval.absence_reasons)
        assert answer.known is (answer.retrieval.score is not None)
        assert answer.unknown_history_count == 1
        return answer.retrieval.absence_reasons

    assert reasons("no such item") == (AbsenceReason.UNKNOWN,)
    assert reasons(item_id(8)) == (AbsenceReason.WATCHED,)
    assert AbsenceReason.WATCHED not in reasons(item_id(8), include_watched=True)
    assert reasons(item_id(5), excluded_item_ids=[item_id(5)]) == (AbsenceReason.EXCLUDED,)
    assert reasons(item_id(5), allowed_item_ids=[item_id(6)]) == (AbsenceReason.NOT_ALLOWED,)
    assert reasons(item_id(8), filter="year > 2000", excluded_item_ids=[item_id(8)]) == (
        AbsenceReason.EXCLUDED,
        AbsenceReason.WATCHED,
        AbsenceReason.FILTERED,
    )
    candidates = {item.item_id for item in client.retrieve(history, count=RETRIEVED).items}
    below = next(item_id(row) for row in range(ITEM_COUNT) if item_id(row) not in {*candidates, *history})
    answer = client.explain(RecommendationRequest(history), below)
    assert answer.retrieval.absence_reasons == (AbsenceReason.BELOW_CUT,)
    assert answer.retrieval.score is not None
    assert answer.retrieval.cut_score is not None
    assert answer.retrieval.score < answer.retrieval.cut_score


def test_the_conditions_that_are_not_met_are_named(client: WinnowClient) -> None:
    text = "genres:Comedy AND year >= 2000 AND NOT adult = true"
    answer = client.explain(RecommendationRequest([item_id(1)], filter=text), item_id(4))
    assert answer.retrieval.absence_reasons == (AbsenceReason.FILTERED,)
    assert answer.retrieval.unmet_conditions == ("NOT adult = true", "year >= 2000")


def test_positions_are_those_of_the_history_that_was_sent(client: WinnowClient) -> None:
    history = ["no such item", item_id(3), "nor this", item_id(3), item_id(8)]
    answer = client.explain(RecommendationRequest(history), item_id(5), watch_count=2)
    assert [(found.position, found.item_id) for found in answer.contributions] == [(3, item_id(3)), (4, item_id(8))]


def test_an_item_for_an_empty_history_is_explained_by_popularity(client: WinnowClient) -> None:
    answer = client.explain(RecommendationRequest([]), item_id(17))
    assert answer.retrieval.place == 18
    assert answer.retrieval.candidate_source is CandidateSource.POPULAR
    assert answer.retrieval.score_type is ScoreType.POPULARITY
    assert answer.contributions == ()
    assert client.explain(RecommendationRequest([]), item_id(250)).retrieval.absence_reasons == (
        AbsenceReason.BELOW_CUT,
    )


@pytest.mark.parametrize("given_rows", [[5], [9, 4], [3, 8, 3, 200]])
def test_similar_items_are_those_of_the_plain_computation(
    client: WinnowClient, releases: Path, given_rows: list[int]
) -> None:
    direct = DirectRecommender(releases)
    logits = direct.logits(WatchHistories.of_one(np.array(given_rows, dtype=np.int32)))

    def expected(left_out: set[int]) -> list[int]:
        return [row for row in logits.argsort(descending=True).tolist() if row not in left_out]

    ids = list(map(item_id, given_rows))
    answer = client.similar([*ids, "no such item"], count=30)
    assert [item.item_id for item in answer.items] == list(map(item_id, expected(set(given_rows))[:30]))
    assert [item.score for item in answer.items] == pytest.approx(
        [float(logits[row]) for row in expected(set(given_rows))[:30]], abs=TOLERANCE
    )
    assert (answer.unknown_item_count, answer.release_id) == (1, direct.release_id)
    assert answer.candidate_source is CandidateSource.NETWORK

    allowed, excluded = range(0, ITEM_COUNT, 2), range(0, 100, 4)
    answer = client.similar(
        ids,
        count=100,
        filter=f"year < {FIRST_YEAR + 20}",
        allowed_item_ids=map(item_id, allowed),
        excluded_item_ids=map(item_id, excluded),
    )
    matching = [row for row in expected({*given_rows, *excluded}) if row in allowed and row % YEARS < 20]
    assert [item.item_id for item in answer.items] == list(map(item_id, matching[:100]))


def test_items_similar_to_nothing_that_is_known_are_popular_ones(client: WinnowClient) -> None:
    answer = client.similar(["no such item"], count=3)
    assert [item.item_id for item in answer.items] == [item_id(0), item_id(1), item_id(2)]
    assert answer.candidate_source is CandidateSource.POPULAR
    assert answer.unknown_item_count == 1


@pytest.mark.parametrize(
    ("message", "field", "description"),
    [
        ({"item_ids": []}, "item_ids", "is empty: there is nothing to be similar to"),
        ({"item_ids": ["x"] * 101}, "item_ids", "has 101 ids: at most 100"),
        ({"item_ids": ["x", ""]}, "item_ids[1]", "is empty"),
        ({"item_ids": ["x"], "item_count": -1}, "item_count", "is -1: it has to be from 0 (the default, 20) to 100"),
        ({"item_ids": ["x"], "excluded_item_ids": ["x"] * 1001}, "excluded_item_ids", "has 1001 ids: at most 1000"),
        ({"item_ids": ["x"], "allowed_item_ids": ["x"] * 10_001}, "allowed_item_ids", "has 10001 ids: at most 10000"),
        ({"item_id": ""}, "item_id", "is empty"),
        ({"item_id": "x" * 513}, "item_id", "is 513 bytes long: at most 512"),
        ({"item_id": "x", "watch_count": -1}, "watch_count", "is -1: it has to be from 0 (the default, 20) to 50"),
        ({"item_id": "x", "request": {"history": [{"item_id": ""}]}}, "request.history[0].item_id", "is empty"),
        (
            {"item_id": "x", "request": {"history": [{"item_id": "x"}] * 1001}},
            "request.history",
            "has 1001 watches: at most 1000",
        ),
        (
            {"item_id": "x", "request": {"item_count": -1}},
            "request.item_count",
            "is -1: it has to be from 0 (the default, 20) to 100",
        ),
    ],
)
def test_the_field_is_named(
    stub: recommendation_pb2_grpc.RecommendationServiceStub, message: dict[str, Any], field: str, description: str
) -> None:
    def ask() -> Any:
        if "item_id" in message:
            return stub.ExplainItem(recommendation_pb2.ExplainItemRequest(**message), timeout=5)
        return stub.SimilarItems(recommendation_pb2.SimilarItemsRequest(**message), timeout=5)

    with pytest.raises(grpc.RpcError) as failure:
        ask()
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [(found.field, found.description) for found in violations_of(failure.value)] == [(field, description)]


ids = st.one_of(
    st.integers(0, ITEM_COUNT - 1).map(item_id),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.sampled_from(["", "x" * 600, "\u0000"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    explained=ids,
    history=st.lists(ids, max_size=30),
    excluded=st.lists(ids, max_size=5),
    allowed=st.lists(ids, max_size=5),
    text=st.sampled_from(["", "year >= 2000", "genres:Comedy -adult = true", "year >= soon"]),
    include_watched=st.booleans(),
    watch_count=st.one_of(st.integers(-2, 60), st.integers(-(2**31), 2**31 - 1)),
)
def test_every_explanation_is_valid_or_an_invalid_argument(
    stub: recommendation_pb2_grpc.RecommendationServiceStub,
    explained: str,
    history: list[str],
    excluded: list[str],
    allowed: list[str],
    text: str,
    include_watched: bool,
    watch_count: int,
) -> None:
    asked: dict[str, Any] = {
        "history": [recommendation_pb2.Watch(item_id=watched) for watched in history],
        "excluded_item_ids": excluded,
        "allowed_item_ids": allowed,
        "filter": text,
        "include_watched": include_watched,
    }
    request = recommendation_pb2.RecommendItemsRequest(**asked, item_count=100)
    try:
        answer = stub.ExplainItem(
            recommendation_pb2.ExplainItemRequest(item_id=explained, request=request, watch_count=watch_count),
            timeout=5,
        )
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        invalid_id = any(not 1 <= len(other.encode()) <= 512 for other in [explained, *history, *excluded, *allowed])
        assert invalid_id or not 0 <= watch_count <= 50 or text == "year >= soon"
        return
    found = stub.RetrieveItems(recommendation_pb2.RetrieveItemsRequest(**asked, item_count=RETRIEVED), timeout=5)
    candidates = [item.item_id for item in found.items]
    retrieval = answer.retrieval
    assert retrieval.HasField("place") is (explained in candidates)
    assert bool(retrieval.absence_reasons) is not retrieval.HasField("place")
    assert retrieval.place == (candidates.index(explained) + 1 if explained in candidates else 0)
    assert len(answer.contributions) <= min(len(history), watch_count or 20, 50)
    numbers = [retrieval.score, retrieval.cut_score, answer.ranking.score]
    numbers += [number for watch in answer.contributions for number in (watch.candidate_logit, watch.ranking_score)]
    assert np.isfinite(numbers).all()
    assert all(history[watch.position] == watch.item_id for watch in answer.contributions)
    assert answer.recommendation_id


def test_many_explanations_at_once_do_not_change_what_others_get(client: WinnowClient, releases: Path) -> None:
    direct = DirectRecommender(releases)

    def explain(number: int) -> None:
        history = [item_id(row) for row in range(number, number + 60)]
        try:
            answer = client.explain(RecommendationRequest(history), item_id(250), watch_count=50)
        except WinnowError as error:
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            return
        logits = direct.logits(WatchHistories.of_one(direct.vocabulary.rows(history)[0]))
        assert answer.retrieval.score == pytest.approx(float(logits[250]), abs=TOLERANCE)
        assert len(answer.contributions) == 50

    def recommend(number: int) -> None:
        history = random_history(number)
        assert_same(client.recommend(history, count=10), direct.recommend(history, 10))

    with ThreadPoolExecutor(max_workers=64) as callers:
        explained = [callers.submit(explain, number) for number in range(64)]
        recommended = [callers.submit(recommend, number) for number in range(64)]
        for call in (*explained, *recommended):
            call.result()


def test_without_a_stage_callers_are_told_which(releases: Path) -> None:
    asked = RecommendationRequest(random_history(7))
    with (
        local_stack(releases) as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=5) as client,
    ):
        similar = client.similar([item_id(3)]).items
        stop(stack, "ranking_service")
        assert client.similar([item_id(3)]).items == similar
        with pytest.raises(WinnowError, match="ranking: UNAVAILABLE") as failure:
            client.explain(asked, item_id(3))
        assert failure.value.code is grpc.StatusCode.UNAVAILABLE
        stop(stack, "candidate_service")
        for ask in (lambda: client.explain(asked, item_id(3)), lambda: client.similar([item_id(3)])):
            with pytest.raises(WinnowError, match="candidate: UNAVAILABLE") as failure:
                ask()
            assert failure.value.code is grpc.StatusCode.UNAVAILABLE
        # Nothing that a stage would have to compute.
        assert client.explain(asked, "no such item").retrieval.absence_reasons == (AbsenceReason.UNKNOWN,)


def winnow(stack: LocalStack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "winnow.cli", arguments[0], f"--target={stack.gateway_target}", *arguments[1:]]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "120"}
    )


def test_the_commands_print_tables(stack: LocalStack) -> None:
    similar = winnow(stack, "similar", "item-4", "--title", "title 12", "--count=3", "--filter", "year >= 2000")
    assert similar.returncode == 0, similar.stderr
    assert "Similar to: Title 4, Title 12" in similar.stdout
    explained = winnow(stack, "explain", "item-4", "--title", "title 12", "--item-title", "title 30")
    assert explained.returncode == 0, explained.stderr
    assert "Item: Title 30" in explained.stdout
    assert "Title 12" in explained.stdout
