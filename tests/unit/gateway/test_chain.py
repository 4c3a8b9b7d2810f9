"""A request whose deadline passes is answered with what it has got until then."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.answers import Recommendation, recommendation
from gateway.calls import StageCaller
from gateway.catalogue import Catalogue
from gateway.chain import Chain, Passage
from gateway.requests import Query
from gateway.settings import GatewaySettings
from gateway.stages import Candidates, CandidateStage, RankingStage
from tests.releases import write_random_release
from winnow.history import WatchHistories
from winnow.release.reader import open_release
from winnow.serving.metrics import Metrics
from winnow.v1.recommendation_pb2 import (
    CANDIDATE_ORIGIN_NETWORK,
    CANDIDATE_ORIGIN_POPULAR,
    DEGRADATION_STEP_CANDIDATE_ORDER,
    DEGRADATION_STEP_POPULAR,
    DEGRADATION_STEP_UNSPECIFIED,
)

FOUND = Candidates(np.array([7, 3, 5], dtype=np.int32), np.array([3.0, 2.0, 1.0], dtype=np.float32), 0)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue.load(open_release(tmp_path / write_random_release(tmp_path)))


def answer_after_the_deadline(catalogue: Catalogue, **got: Any) -> Recommendation:
    """What is answered to a request that has got so much when its deadline passes; no stage is asked any more."""

    async def never(*_arguments: object, **_named: object) -> None:
        raise AssertionError("asked for a request that nobody waits for")

    async def main() -> Recommendation:
        settings, metrics = GatewaySettings(), Metrics()
        callers = [StageCaller(stage, never, settings, metrics) for stage in ("candidate", "ranking")]
        candidate_stage = CandidateStage(callers[0], "r", len(catalogue.vocabulary), settings, metrics)
        chain = Chain(catalogue, candidate_stage, RankingStage(callers[1], "r", settings, metrics), settings, metrics)
        watched = np.array([1, 2], dtype=np.int32)
        query = Query(
            history=WatchHistories.of_one(watched),
            count=2,
            excluded=watched,
            unknown_history_count=0,
            unknown_excluded_count=0,
        )
        passage = Passage(query=query, candidate_count=3, **got)
        await chain.take(passage, deadline=asyncio.get_running_loop().time() - 1)
        assert passage.over
        return recommendation(passage, catalogue.ranking_origin)

    return asyncio.run(main())


def test_with_nothing_by_then_popular_items(catalogue: Catalogue) -> None:
    answer = answer_after_the_deadline(catalogue)
    assert answer.rows.tolist() == catalogue.popular(2, np.array([1, 2])).tolist()
    assert answer.candidate_origin == CANDIDATE_ORIGIN_POPULAR
    assert answer.degradation == DEGRADATION_STEP_POPULAR
    assert answer.degradation_reason == "candidate: DEADLINE_EXCEEDED, ranking: DEADLINE_EXCEEDED"


def test_with_candidates_by_then_those_in_their_order(catalogue: Catalogue) -> None:
    answer = answer_after_the_deadline(catalogue, candidates=FOUND)
    assert answer.rows.tolist() == [7, 3]
    assert answer.candidate_origin == CANDIDATE_ORIGIN_NETWORK
    assert answer.degradation == DEGRADATION_STEP_CANDIDATE_ORDER
    assert answer.degradation_reason == "ranking: DEADLINE_EXCEEDED"


def test_with_scores_by_then_the_full_answer(catalogue: Catalogue) -> None:
    answer = answer_after_the_deadline(catalogue, candidates=FOUND, scores=np.array([0.1, 0.2, 0.3], dtype=np.float32))
    assert answer.rows.tolist() == [5, 3]
    assert answer.candidate_origin == CANDIDATE_ORIGIN_NETWORK
    assert answer.degradation == DEGRADATION_STEP_UNSPECIFIED
    assert answer.degradation_reason == ""
