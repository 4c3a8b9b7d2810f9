"""Histories without each watch, and what asking for them may cost others."""

import asyncio

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.leave_one_out import MAX_BATCHES_IN_FLIGHT, ItemScores, LeaveOneOut, without_each
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from gateway.stage_calls import StageFailure
from gateway.stage_clients import CandidateStageClient, RankingStageClient
from gateway.steps import Steps
from tests.unit.gateway.stages import FakeCandidateStage, FakeRankingStage, caller_of, candidate_request, status
from winnow.history import WatchHistories
from winnow.rpc.errors import OverloadedError
from winnow.serving import wire
from winnow.serving.metrics import Metrics


class Stages:
    """Two fake stages behind LeaveOneOut."""

    def __init__(
        self, catalogue: ServedCatalogue, settings: GatewaySettings | None = None, history_length: int | None = None
    ) -> None:
        settings, metrics = settings or GatewaySettings(), Metrics()
        self.candidate, self.ranking = FakeCandidateStage(), FakeRankingStage()
        release_id, item_count = catalogue.release_id, len(catalogue.vocabulary)
        self.leave_one_out = LeaveOneOut(
            CandidateStageClient(caller_of("candidate", self.candidate), release_id, item_count),
            RankingStageClient(caller_of("ranking", self.ranking), release_id),
            history_length,
            Steps(metrics),
            settings,
            metrics,
        )

    def scores(self, *watched: int, watch_count: int = 50) -> ItemScores | StageFailure:
        async def ask() -> ItemScores | StageFailure:
            return await self.leave_one_out.scores(candidate_request(*watched), 7, watch_count)

        return asyncio.run(ask())

    def histories_asked(self) -> list[list[int]]:
        [request] = self.candidate.requests
        histories = wire.unpack_retrieval_query(request).histories
        return [histories[position].tolist() for position in range(len(histories))]


@given(st.lists(st.integers(0, 299), max_size=12), st.integers(0, 12))
def test_each_of_the_latest_watches_is_left_out_once(watched: list[int], count: int) -> None:
    count = min(count, len(watched))
    history = WatchHistories.of_one(
        np.array(watched, dtype=np.int32),
        np.arange(len(watched), dtype=np.float32),
        np.arange(len(watched), dtype=np.int64) + 1000,
    )
    found = without_each(history, count)
    assert len(found) == 1 + count
    assert found[0].tolist() == watched
    for number, left_out in enumerate(range(len(watched) - count, len(watched)), start=1):
        kept = [position for position in range(len(watched)) if position != left_out]
        one = found.slice(number, number + 1)
        assert one.rows.tolist() == [watched[position] for position in kept]
        assert one.weights.tolist() == kept
        assert one.timestamps.tolist() == [1000 + position for position in kept]


def test_one_call_to_each_stage_asks_for_the_item_alone(catalogue: ServedCatalogue) -> None:
    stages = Stages(catalogue)
    scores = stages.scores(1, 2, 3)
    assert isinstance(scores, ItemScores)
    assert stages.histories_asked() == [[1, 2, 3], [2, 3], [1, 3], [1, 2]]
    assert scores.candidate_logits.tolist() == [-7] * 4
    assert scores.ranking_scores.tolist() == [7] * 4
    [ranked] = stages.ranking.requests
    assert wire.unpack_rows(ranked.candidates, "candidates").rows.tolist() == [7] * 4


def test_an_empty_history_has_no_logit_to_ask_for(catalogue: ServedCatalogue) -> None:
    stages = Stages(catalogue)
    scores = stages.scores(1)
    assert isinstance(scores, ItemScores)
    assert scores.candidate_logits.tolist() == [-7, 0]
    assert stages.histories_asked() == [[1]]
    nothing = Stages(catalogue)
    scores = nothing.scores()
    assert isinstance(scores, ItemScores)
    assert (scores.candidate_logits.tolist(), scores.ranking_scores.tolist()) == ([0], [7])
    assert not nothing.candidate.requests


def test_only_what_the_networks_read_is_asked_for(catalogue: ServedCatalogue) -> None:
    stages = Stages(catalogue, history_length=3)
    stages.scores(*range(20))
    # The three that are read, the one that moves up, and the one before it.
    assert stages.histories_asked() == [[15, 16, 17, 18, 19], [15, 16, 18, 19], [15, 16, 17, 19], [15, 16, 17, 18]]


@pytest.mark.parametrize("max_batch_queries", [1, 2, 5])
def test_no_explanation_asks_for_more_than_one_call_carries(catalogue: ServedCatalogue, max_batch_queries: int) -> None:
    stages = Stages(catalogue, GatewaySettings(max_batch_queries=max_batch_queries))
    scores = stages.scores(*range(20))
    assert isinstance(scores, ItemScores)
    assert len(scores.candidate_logits) == max_batch_queries


def test_long_histories_are_asked_for_less_often(catalogue: ServedCatalogue) -> None:
    stages = Stages(catalogue)
    stages.scores(*[1] * 30_000)
    assert [len(history) for history in stages.histories_asked()] == [30_000, 29_999, 29_999]


def test_explanations_wait_for_each_other_and_the_queue_is_bounded(catalogue: ServedCatalogue) -> None:
    stages = Stages(catalogue, GatewaySettings(max_queued_queries=64))
    most_in_flight = 0

    async def ask_many() -> list[ItemScores | StageFailure | BaseException]:
        nonlocal most_in_flight
        stages.candidate.outcomes = [0.05] * 10
        asked = [
            asyncio.create_task(stages.leave_one_out.scores(candidate_request(*range(50)), 7, 50)) for _ in range(10)
        ]
        await asyncio.sleep(0.03)
        most_in_flight = len(stages.candidate.requests)
        return list(await asyncio.gather(*asked, return_exceptions=True))

    outcomes = asyncio.run(ask_many())
    assert most_in_flight <= MAX_BATCHES_IN_FLIGHT
    assert {type(outcome) for outcome in outcomes} == {ItemScores, OverloadedError}


@pytest.mark.parametrize("stage", ["candidate", "ranking"])
def test_a_stage_that_fails_is_named(catalogue: ServedCatalogue, stage: str) -> None:
    stages = Stages(catalogue)
    getattr(stages, stage).outcomes = [status(grpc.StatusCode.INTERNAL)]
    failure = stages.scores(1, 2)
    assert isinstance(failure, StageFailure)
    assert failure.reason == f"{stage}: INTERNAL"


def test_a_candidate_that_was_not_asked_for_is_no_answer(catalogue: ServedCatalogue) -> None:
    stages = Stages(catalogue)

    def other_row(answer: object) -> None:
        answer.candidates.rows = wire.pack_array(np.array([7, 8, 7]), wire.INT32)  # type: ignore[attr-defined]

    stages.candidate.outcomes = [other_row]
    failure = stages.scores(1, 2)
    assert isinstance(failure, StageFailure)
    assert failure.reason == "candidate: INTERNAL"
