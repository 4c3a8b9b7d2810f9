"""One stage call: its deadline, its one retry, and the budget for retries."""

import asyncio
from typing import Any

import grpc
import pytest

from gateway.settings import GatewaySettings
from gateway.stage_calls import RetryBudget, StageCaller, StageFailure
from tests.unit.gateway.stages import FakeRankingStage, status
from winnow.serving.metrics import Metrics
from winnow.v1 import ranking_pb2


def call(stage: FakeRankingStage, *, seconds: float = 1.0, **settings: Any) -> Any:
    async def main() -> Any:
        caller = StageCaller("ranking", stage, GatewaySettings(**settings), Metrics())
        deadline = asyncio.get_running_loop().time() + seconds
        return await caller.call(ranking_pb2.RankCandidatesRequest(), deadline)

    return asyncio.run(main())


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION])
def test_another_replica_is_tried_where_it_may_do_better(code: grpc.StatusCode) -> None:
    stage = FakeRankingStage(outcomes=[status(code)])
    assert call(stage).compute_microseconds == 9
    assert len(stage.requests) == 2


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION])
def test_but_only_once(code: grpc.StatusCode) -> None:
    stage = FakeRankingStage(outcomes=[status(code)] * 3)
    with pytest.raises(StageFailure, match=f"^ranking: {code.name}$"):
        call(stage)
    assert len(stage.requests) == 2


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT]
)
def test_what_would_fail_again_is_not_tried_again(code: grpc.StatusCode) -> None:
    stage = FakeRankingStage(outcomes=[status(code)])
    with pytest.raises(StageFailure):
        call(stage)
    assert len(stage.requests) == 1


def test_nothing_is_asked_after_the_deadline() -> None:
    stage = FakeRankingStage()
    with pytest.raises(StageFailure, match="DEADLINE_EXCEEDED"):
        call(stage, seconds=0)
    assert not stage.requests


def test_no_retries_without_a_share() -> None:
    stage = FakeRankingStage(outcomes=[status(grpc.StatusCode.UNAVAILABLE)])
    with pytest.raises(StageFailure):
        call(stage, retry_share=0)
    assert len(stage.requests) == 1


def test_the_budget_allows_a_share_of_calls_after_what_was_saved_up() -> None:
    budget = RetryBudget(0.1)
    saved_up = sum(budget.take() for _ in range(100))
    assert saved_up == 10
    retried = 0
    for _ in range(1000):
        budget.on_call()
        retried += budget.take()
    assert retried == pytest.approx(100, abs=1)
