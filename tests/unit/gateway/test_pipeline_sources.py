"""Candidates of several sources meet in ranking; a source that fails costs its own candidates only."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest

from gateway.answers import CandidateSource, DegradationStep, Recommendation, ScoreType
from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.proposed import Proposed, Source, numbered
from gateway.sources.trending import TrendingSource
from tests.unit.gateway.stages import Chain, candidate_request, rows, status
from winnow.rpc.errors import StageUnavailableError
from winnow.serving.metrics import Metrics

INTERNAL = status(grpc.StatusCode.INTERNAL)


@dataclass
class LateSource:
    """Proposes row 250 after a while, or by the deadline nothing."""

    seconds: float
    name: str = "late"

    async def propose(self, requests: Sequence[CandidateRequest], deadline: float) -> list[Proposed]:
        remaining = deadline - asyncio.get_running_loop().time()
        await asyncio.sleep(min(self.seconds, remaining))
        found = rows(250) if self.seconds < remaining else rows()
        return [Proposed(self.name, found, numbered(len(found))) for _ in requests]


def recommend(chain: Chain, *watched: int, **asked: Any) -> Recommendation:
    async def ask() -> Recommendation:
        return await chain.pipeline.recommend(candidate_request(*watched, **asked), other_release=False)

    return asyncio.run(ask())


def places(answer: Recommendation) -> dict[str, list[int]]:
    return {source: of_source.tolist() for source, of_source in answer.places}


def trending(catalogue: ServedCatalogue, *listed: int) -> Source:
    return TrendingSource(replace(catalogue, trending_rows=rows(*listed)), len(listed), Metrics())


def test_the_union_is_ranked_together_and_says_who_proposed_what(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue, further_sources=[trending(catalogue, 290, 5)])
    # The network proposes 1 to 10.
    answer = recommend(chain, 0, own_candidates=[280, 0, 10], item_count=4)
    assert answer.rows.tolist() == [290, 280, 10, 9]
    assert answer.scores.tolist() == [290, 280, 10, 9]
    assert answer.score_type is ScoreType.WATCH_PROBABILITY
    assert answer.source is CandidateSource.NETWORK
    assert answer.degradation is DegradationStep.NONE
    assert (answer.retrieved_count, answer.ranked_count) == (12, 12)
    assert places(answer) == {"network": [0, 0, 10, 9], "trending": [1, 0, 0, 0], "caller": [0, 1, 3, 0]}
    assert answer.timing.sources is not None


def test_without_further_sources_nothing_changes(catalogue: ServedCatalogue) -> None:
    answer = recommend(Chain(catalogue), 0)
    assert answer.places == []
    assert answer.timing.sources is None


def test_a_request_with_candidates_of_its_own_changes_nothing_for_others_of_its_batch(
    catalogue: ServedCatalogue,
) -> None:
    chain = Chain(catalogue)

    async def both() -> tuple[Recommendation, Recommendation]:
        return await asyncio.gather(
            chain.pipeline.recommend(candidate_request(0), other_release=False),
            chain.pipeline.recommend(candidate_request(0, own_candidates=[270]), other_release=False),
        )

    plain, own = asyncio.run(both())
    assert plain.rows.tolist() == [10, 9, 8]
    assert plain.places == []
    assert plain.timing.sources is None
    assert own.rows.tolist() == [270, 10, 9]
    assert len(chain.ranking.requests) == 1


def test_popular_items_of_an_empty_history_are_joined_too(catalogue: ServedCatalogue) -> None:
    answer = recommend(Chain(catalogue), own_candidates=[270])
    assert answer.rows.tolist() == [270, 9, 8]
    assert places(answer) == {"popular": [0, 10, 9], "caller": [1, 0, 0]}
    assert answer.degradation is DegradationStep.NONE


def test_where_the_network_fails_the_answer_is_degraded_whatever_others_propose(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue, further_sources=[trending(catalogue, 290)])
    chain.candidate.outcomes = [INTERNAL] * 2
    answer = recommend(chain, 0)
    assert answer.rows.tolist() == [290, 10, 9]
    assert answer.source is CandidateSource.POPULAR
    assert answer.degradation is DegradationStep.POPULAR_RANKED
    assert answer.degradation_reason == "candidate: INTERNAL"
    assert places(answer)["trending"] == [1, 0, 0]
    with pytest.raises(StageUnavailableError):
        recommend(chain, 0, require_ranked=True)


def test_without_ranking_the_answer_is_that_of_the_network_alone(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue, further_sources=[trending(catalogue, 290)])
    chain.ranking.outcomes = [INTERNAL]
    answer = recommend(chain, 0, own_candidates=[280])
    assert answer.rows.tolist() == [1, 2, 3]
    assert answer.scores.tolist() == [-1, -2, -3]
    assert answer.score_type is ScoreType.CANDIDATE_LOGIT
    assert answer.degradation is DegradationStep.CANDIDATE_ORDER
    assert answer.places == []


def test_a_source_that_is_late_costs_its_own_candidates(catalogue: ServedCatalogue) -> None:
    answer = recommend(Chain(catalogue, further_sources=[LateSource(9.0), trending(catalogue, 290)]), 0, seconds=0.2)
    assert answer.rows.tolist() == [290, 10, 9]
    assert answer.degradation is DegradationStep.NONE
    assert places(answer)["late"] == [0, 0, 0]


def test_what_waits_for_a_source_is_not_said_to_wait_for_a_stage(catalogue: ServedCatalogue) -> None:
    answer = recommend(Chain(catalogue, further_sources=[LateSource(0.1)]), 0)
    assert answer.rows.tolist() == [250, 10, 9]
    assert answer.timing.sources is not None
    assert answer.timing.sources > 50_000
    assert answer.timing.wait is not None
    assert answer.timing.wait < 50_000


def test_a_deadline_that_passes_while_a_source_hangs_leaves_what_the_network_found(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue, further_sources=[LateSource(9.0)])

    async def two_requests_in_one_batch() -> tuple[Recommendation, Recommendation]:
        short = chain.pipeline.recommend(candidate_request(0, seconds=0.1), other_release=False)
        long = chain.pipeline.recommend(candidate_request(0, seconds=1), other_release=False)
        return await asyncio.gather(short, long)

    short, long = asyncio.run(two_requests_in_one_batch())
    assert short.rows.tolist() == [1, 2, 3]
    assert short.degradation is DegradationStep.CANDIDATE_ORDER
    assert short.degradation_reason == "ranking: DEADLINE_EXCEEDED"
    assert long.degradation is DegradationStep.NONE


def test_the_wait_for_sources_is_a_step_of_its_own(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue, further_sources=[trending(catalogue, 290)])
    recommend(chain, 0)
    labels = {"step": "sources", "outcome": "completed"}
    assert chain.metrics.registry.get_sample_value("winnow_step_seconds_count", labels) == 1
