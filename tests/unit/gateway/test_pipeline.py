"""The path of a request over stages that answer, fail, hang and answer nonsense."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway.answers import CandidateSource, DegradationStep, Move, MoveReason, Recommendation, ScoreType
from gateway.checks import Violations
from gateway.pace import RankingPace
from gateway.pipeline import Pipeline
from gateway.selection_rules import SelectionRules
from gateway.served_catalogue import ServedCatalogue
from gateway.stage_calls import StageFailure
from tests.unit.gateway.stages import Chain, candidate_request, rank_request, rows, status
from winnow.queries import Restriction
from winnow.rpc.errors import StageUnavailableError
from winnow.serving.wire import FLOAT32, pack_array

UNAVAILABLE = status(grpc.StatusCode.UNAVAILABLE)
INTERNAL = status(grpc.StatusCode.INTERNAL)
NOT_HELD = status(grpc.StatusCode.FAILED_PRECONDITION)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await work()

    return asyncio.run(main())


def recommend(chain: Chain, *watched: int, other_release: bool = False, **asked: Any) -> Recommendation:
    async def ask() -> Recommendation:
        return await chain.pipeline.recommend(candidate_request(*watched, **asked), other_release=other_release)

    answer: Recommendation = run(ask)
    return answer


def test_the_full_chain(catalogue: ServedCatalogue) -> None:
    answer = recommend(Chain(catalogue), 0, 2)
    # Candidates are 1, 3, 4 ... 11; ranking turns their order round.
    assert answer.rows.tolist() == [11, 10, 9]
    assert answer.scores.tolist() == [11, 10, 9]
    assert answer.score_type is ScoreType.WATCH_PROBABILITY
    assert answer.source is CandidateSource.NETWORK
    assert answer.degradation is DegradationStep.NONE
    assert answer.degradation_reason == ""
    assert (answer.retrieved_count, answer.ranked_count) == (10, 10)
    assert answer.timing.retrieve_compute == 7
    assert answer.timing.rank_compute == 9
    assert None not in (answer.timing.wait, answer.timing.retrieve, answer.timing.rank, answer.timing.select)


def test_popular_items_are_the_full_answer_to_an_empty_history(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    answer = recommend(chain)
    assert answer.rows.tolist() == [9, 8, 7]
    assert answer.source is CandidateSource.POPULAR
    assert answer.score_type is ScoreType.WATCH_PROBABILITY
    assert answer.degradation is DegradationStep.NONE
    assert answer.timing.retrieve is None
    assert not chain.candidate.requests


def test_without_ranking_candidates_in_their_own_order(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    chain.ranking.outcomes = [INTERNAL]
    answer = recommend(chain, 0)
    assert answer.rows.tolist() == [1, 2, 3]
    assert answer.score_type is ScoreType.CANDIDATE_LOGIT
    assert answer.degradation is DegradationStep.CANDIDATE_ORDER
    assert answer.degradation_reason == "ranking: INTERNAL"
    assert answer.ranked_count == 0


def test_without_candidates_popular_items_are_ranked(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes = [INTERNAL]
    answer = recommend(chain, 0)
    assert answer.rows.tolist() == [10, 9, 8]
    assert answer.source is CandidateSource.POPULAR
    assert answer.degradation is DegradationStep.POPULAR_RANKED
    assert answer.degradation_reason == "candidate: INTERNAL"
    assert answer.timing.retrieve is not None
    assert answer.timing.retrieve_compute is None


def test_without_either_stage_popular_items(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes, chain.ranking.outcomes = [INTERNAL], [INTERNAL]
    answer = recommend(chain, 0)
    assert answer.rows.tolist() == [1, 2, 3]
    assert answer.score_type is ScoreType.POPULARITY
    assert answer.degradation is DegradationStep.POPULAR
    assert answer.degradation_reason == "candidate: INTERNAL, ranking: INTERNAL"


def test_unavailable_is_tried_once_more(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes, chain.ranking.outcomes = [UNAVAILABLE], [UNAVAILABLE]
    assert recommend(chain, 0).degradation is DegradationStep.NONE
    assert len(chain.candidate.requests) == len(chain.ranking.requests) == 2


def test_a_degraded_answer_is_refused_if_the_caller_says_so_and_clients_are_told_not_to_retry(
    catalogue: ServedCatalogue,
) -> None:
    chain = Chain(catalogue)
    chain.ranking.outcomes = [INTERNAL]
    with pytest.raises(StageUnavailableError, match=r"ranking: INTERNAL") as refused:
        recommend(chain, 0, require_ranked=True)
    code, _, metadata = refused.value.status()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert ("grpc-retry-pushback-ms", "-1") in metadata


@pytest.mark.parametrize("stage", ["candidate", "ranking"])
def test_a_release_that_a_stage_does_not_hold_is_left_to_another_one_if_there_is_one(
    catalogue: ServedCatalogue, stage: str
) -> None:
    chain = Chain(catalogue)
    getattr(chain, stage).outcomes = [NOT_HELD] * 4
    with pytest.raises(StageFailure) as failure:
        recommend(chain, 0, other_release=True)
    assert failure.value.release_missing
    assert recommend(chain, 0, other_release=False).degradation is not DegradationStep.NONE


def test_a_deadline_that_passes_while_ranking_hangs_leaves_the_candidates(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)

    async def two_requests_in_one_batch() -> tuple[Recommendation, Recommendation]:
        chain.ranking.outcomes = [0.3]
        short = chain.pipeline.recommend(candidate_request(0, seconds=0.1), other_release=False)
        long = chain.pipeline.recommend(candidate_request(0, seconds=5), other_release=False)
        return await asyncio.gather(short, long)

    short, long = run(two_requests_in_one_batch)
    assert short.rows.tolist() == [1, 2, 3]
    assert short.degradation is DegradationStep.CANDIDATE_ORDER
    assert short.degradation_reason == "ranking: DEADLINE_EXCEEDED"
    assert long.rows.tolist() == [10, 9, 8]
    assert long.degradation is DegradationStep.NONE
    assert len(chain.ranking.requests) == 1


def test_a_deadline_that_passes_while_retrieval_hangs_leaves_popular_items_and_nothing_is_ranked_for_it(
    catalogue: ServedCatalogue,
) -> None:
    chain = Chain(catalogue)

    async def two_requests_in_one_batch() -> tuple[Recommendation, Recommendation]:
        chain.candidate.outcomes = [0.3]
        short = chain.pipeline.recommend(candidate_request(0, seconds=0.1), other_release=False)
        long = chain.pipeline.recommend(candidate_request(0, seconds=5), other_release=False)
        return await asyncio.gather(short, long)

    short, long = run(two_requests_in_one_batch)
    assert short.degradation is DegradationStep.POPULAR
    assert short.degradation_reason == "candidate: DEADLINE_EXCEEDED, ranking: DEADLINE_EXCEEDED"
    assert long.degradation is DegradationStep.NONE
    [ranked] = chain.ranking.requests
    assert len(ranked.histories.lengths) == 4  # one query


@pytest.mark.parametrize(("seconds", "measured_count"), [((0.1, 5), 1), ((0.1, 0.1), 0)])
def test_a_batch_says_how_long_batches_take_although_some_of_its_requests_are_late(
    catalogue: ServedCatalogue, seconds: tuple[float, float], measured_count: int
) -> None:
    chain = Chain(catalogue)

    async def requests_in_one_batch() -> None:
        chain.candidate.outcomes = [0.3]
        requests = [candidate_request(0, seconds=each) for each in seconds]
        await asyncio.gather(*(chain.pipeline.recommend(request, other_release=False) for request in requests))
        await chain.pipeline.close()

    run(requests_in_one_batch)
    measured = chain.metrics.registry.get_sample_value("winnow_batch_seconds_count", {"queue": "recommend"})
    assert measured == measured_count


def test_requests_that_arrive_together_share_one_call_to_each_stage(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)

    async def many() -> list[Recommendation]:
        return await asyncio.gather(
            *(chain.pipeline.recommend(candidate_request(watched), other_release=False) for watched in range(20))
        )

    alone = [recommend(Chain(catalogue), watched).rows.tolist() for watched in range(20)]
    assert [answer.rows.tolist() for answer in run(many)] == alone
    assert len(chain.candidate.requests) == len(chain.ranking.requests) == 1


def repeat_a_candidate(answer: Any) -> None:
    answer.candidates.rows = answer.candidates.rows[:4] + answer.candidates.rows[:-4]


def return_a_watched_item(answer: Any) -> None:
    answer.candidates.rows = (0).to_bytes(4, "little") + answer.candidates.rows[4:]


def return_an_unknown_row(answer: Any) -> None:
    answer.candidates.rows = (300).to_bytes(4, "little") + answer.candidates.rows[4:]


def drop_a_score(answer: Any) -> None:
    answer.scores = answer.scores[:-4]


def score_with_nan(answer: Any) -> None:
    answer.scores = pack_array(np.full(len(answer.scores) // 4, np.nan), FLOAT32)


def claim_a_longer_list(answer: Any) -> None:
    answer.candidates.lengths = (11).to_bytes(4, "little")


def cut_a_number(answer: Any) -> None:
    answer.candidates.rows = answer.candidates.rows[:-1]


@pytest.mark.parametrize(
    "change",
    [
        repeat_a_candidate, return_a_watched_item, return_an_unknown_row, drop_a_score, score_with_nan,
        claim_a_longer_list, cut_a_number,
    ],
)  # fmt: skip
def test_nonsense_of_the_candidate_stage_is_not_passed_on(catalogue: ServedCatalogue, change: Any) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes = [change]
    answer = recommend(chain, 0)
    assert answer.degradation is DegradationStep.POPULAR_RANKED
    assert answer.degradation_reason == "candidate: INTERNAL"


@pytest.mark.parametrize("change", [drop_a_score, score_with_nan])
def test_nonsense_of_the_ranking_stage_is_not_passed_on(catalogue: ServedCatalogue, change: Any) -> None:
    chain = Chain(catalogue)
    chain.ranking.outcomes = [change]
    answer = recommend(chain, 0)
    assert answer.degradation is DegradationStep.CANDIDATE_ORDER
    assert answer.degradation_reason == "ranking: INTERNAL"


def years(catalogue: ServedCatalogue, *wanted: int) -> Restriction:
    """Rows 0 and 30 are of 1990, rows 1 and 31 of 1991, and so on."""
    return Restriction(filter=catalogue.filters.read(f"year = ({' OR '.join(map(str, wanted))})", Violations()))


def test_a_restriction_goes_along_to_the_stage_and_its_candidates_are_checked(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    restriction = years(catalogue, 1990, 1991)
    # This stage takes no notice of filters: the smallest rows are of ten different years.
    answer = recommend(chain, 2, restriction=restriction)
    [asked] = chain.candidate.requests
    assert [filtered.filter for filtered in asked.filters] == [restriction.filter]
    assert answer.degradation is DegradationStep.POPULAR_RANKED
    assert answer.degradation_reason == "candidate: INTERNAL"
    assert answer.rows.tolist() == [121, 120, 91]  # of 20 that match, the ten most popular were ranked
    # What happens to match is no worse for that.
    assert recommend(chain, 2, restriction=years(catalogue, *range(1990, 2020))).degradation is DegradationStep.NONE


def test_a_stage_that_takes_no_notice_of_an_allow_list_gives_no_usable_answer(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    chain.candidate.heeds_allowed = False
    answer = recommend(chain, 2, restriction=Restriction(allowed=rows(250, 4)))
    assert answer.degradation_reason == "candidate: INTERNAL"
    assert answer.rows.tolist() == [250, 4]


def test_without_either_stage_popular_items_are_of_the_filter(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes, chain.ranking.outcomes = [INTERNAL], [INTERNAL]
    answer = recommend(chain, 0, restriction=years(catalogue, 1990))
    assert answer.degradation is DegradationStep.POPULAR
    assert answer.rows.tolist() == [30, 60, 90]


def test_popular_items_of_an_empty_history_are_of_the_filter(catalogue: ServedCatalogue) -> None:
    answer = recommend(Chain(catalogue), restriction=years(catalogue, 1990))
    assert answer.degradation is DegradationStep.NONE
    assert answer.rows.tolist() == [270, 240, 210]
    nothing = recommend(Chain(catalogue), restriction=years(catalogue, 1800))
    assert (nothing.rows.tolist(), nothing.degradation) == ([], DegradationStep.NONE)


def pins(*pinned: int) -> SelectionRules:
    return SelectionRules(pinned=rows(*pinned), places=list(range(len(pinned))))


def test_pinned_items_are_ranked_with_the_candidates_and_not_counted_as_such(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    answer = recommend(chain, 0, rules=pins(200, 3))
    assert answer.rows.tolist() == [200, 3, 10]
    assert answer.scores.tolist() == [200, 3, 10]
    assert (answer.retrieved_count, answer.ranked_count) == (10, 10)
    assert answer.moves[0] == Move(reasons=(MoveReason.PINNED,), ranked_position=None)
    assert answer.moves[1] == Move(reasons=(MoveReason.PINNED,), ranked_position=8)
    assert answer.excluded_pinned_count == 0


def test_what_the_request_rules_out_is_not_pinned(catalogue: ServedCatalogue) -> None:
    # Row 0 has been watched; 1990 are the rows 0, 30, 60 ...
    answer = recommend(Chain(catalogue), 0, rules=pins(0, 5, 60), restriction=years(catalogue, 1990))
    assert answer.rows.tolist()[-1] == 60
    assert not {0, 5} & set(answer.rows.tolist())
    assert answer.excluded_pinned_count == 2


def test_pinned_items_of_one_request_do_not_change_another_in_its_batch(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)

    async def both() -> tuple[Recommendation, Recommendation]:
        return await asyncio.gather(
            chain.pipeline.recommend(candidate_request(0, rules=pins(200)), other_release=False),
            chain.pipeline.recommend(candidate_request(0), other_release=False),
        )

    pinned, plain = run(both)
    assert pinned.rows.tolist() == [200, 10, 9]
    assert plain.rows.tolist() == [10, 9, 8]
    assert plain.moves == {}
    assert len(chain.ranking.requests) == 1


def test_a_capped_answer_is_full_where_little_time_is_left_for_ranking(
    catalogue: ServedCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RankingPace, "affordable", lambda *_: 0)
    # Row and year go together up to row 29; row 30 is of the same year as row 0.
    asked: dict[str, Any] = {"item_count": 30, "candidate_count": 200}
    assert recommend(Chain(catalogue), 0, **asked).ranked_count == 30
    capped = recommend(Chain(catalogue), 0, rules=SelectionRules(caps=[("year", 1)]), **asked)
    assert len(capped.rows) == 30
    capped = recommend(Chain(catalogue), 29, 30, rules=SelectionRules(caps=[("year", 1)]), **asked)
    assert (len(capped.rows), capped.ranked_count) == (30, 58)


@pytest.mark.parametrize(
    ("candidate", "ranking", "expected"),
    [([], [], [200, 10, 9]), ([], [INTERNAL], [200, 1, 2]), ([INTERNAL], [], [200, 10, 9]),
     ([INTERNAL], [INTERNAL], [200, 1, 2])],
)  # fmt: skip
def test_degraded_answers_keep_to_the_rules(
    catalogue: ServedCatalogue, candidate: list[Any], ranking: list[Any], expected: list[int]
) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes, chain.ranking.outcomes = list(candidate), list(ranking)
    assert recommend(chain, 0, rules=pins(200)).rows.tolist() == expected
    chain.candidate.outcomes, chain.ranking.outcomes = list(candidate), list(ranking)
    capped = recommend(chain, 0, rules=SelectionRules(caps=[("adult", 1)]))
    shown = [catalogue.attributes["adult"][row] for row in capped.rows.tolist()]
    assert shown.count(True) <= 1
    assert shown.count(False) <= 1


def test_retrieve_alone(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    answer = run(lambda: chain.pipeline.retrieve(candidate_request(0, candidate_count=4), other_release=False))
    assert answer.rows.tolist() == [1, 2, 3, 4]
    assert answer.score_type is ScoreType.CANDIDATE_LOGIT
    assert answer.timing.rank is None
    assert not chain.ranking.requests


def test_rank_alone(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    answer = run(lambda: chain.pipeline.rank(rank_request(5, 8, 6), other_release=False))
    assert answer.rows.tolist() == [8, 6, 5]
    assert answer.score_type is ScoreType.WATCH_PROBABILITY
    assert not chain.candidate.requests


def test_nothing_to_rank_asks_nobody(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    answer = run(lambda: chain.pipeline.rank(rank_request(), other_release=False))
    assert answer.rows.tolist() == []
    assert not chain.ranking.requests


@pytest.mark.parametrize("outcome", [INTERNAL, 9.0])
def test_retrieve_and_rank_alone_fail_where_their_stage_gives_no_answer(
    catalogue: ServedCatalogue, outcome: grpc.aio.AioRpcError | float
) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes, chain.ranking.outcomes = [outcome], [outcome]
    with pytest.raises(StageUnavailableError, match=r"^candidate: "):
        run(lambda: chain.pipeline.retrieve(candidate_request(0, seconds=0.1), other_release=False))
    with pytest.raises(StageUnavailableError, match=r"^ranking: "):
        run(lambda: chain.pipeline.rank(rank_request(5, seconds=0.1), other_release=False))


def test_each_step_is_timed_and_counted_by_its_name(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    recommend(chain, 0)
    chain.ranking.outcomes = [INTERNAL]
    recommend(chain, 0)
    registry: CollectorRegistry = chain.metrics.registry

    def count(step: str, outcome: str) -> float | None:
        return registry.get_sample_value("winnow_step_seconds_count", {"step": step, "outcome": outcome})

    assert count("retrieve", "completed") == 2
    assert count("rank", "completed") == 1
    assert count("rank", "failed") == 1
    assert count("select", "completed") == 2


def test_a_closed_pipeline_is_freed_without_the_garbage_collector(catalogue: ServedCatalogue) -> None:
    async def main() -> "weakref.ref[Pipeline]":
        chain = Chain(catalogue)
        await chain.pipeline.recommend(candidate_request(0), other_release=False)
        await chain.pipeline.close()
        return weakref.ref(chain.pipeline)

    gc.disable()
    try:
        assert run(main)() is None
    finally:
        gc.enable()
