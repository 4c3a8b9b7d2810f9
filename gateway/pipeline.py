"""The path of a request: gather -> rank -> select.

Requests that arrive together travel together: one call to each stage for all of them. Every step takes a batch and
returns values. A request whose deadline passes on the way is answered with what its batch has until then.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TypeVar

import grpc
import numpy as np

from gateway import ladder
from gateway.admission import check_time
from gateway.answers import Recommendation, RetrievedRows, ScoredRows, Timing
from gateway.explanation import Explainer, ExplainRequest, Explanation
from gateway.leave_one_out import LeaveOneOut
from gateway.ranking import NOT_IN_TIME, Ranked, RankingStep
from gateway.requests import CandidateRequest, RankRequest
from gateway.selection import best, enough_for_caps, select
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from gateway.sources.further import FurtherSources, Proposals, places_of, unite
from gateway.sources.gathered import Gathered
from gateway.sources.network import NetworkSource
from gateway.sources.popular import PopularSource
from gateway.sources.proposed import Source
from gateway.stage_calls import StageFailure
from gateway.stage_clients import CandidateStageClient, RankingStageClient
from gateway.steps import Steps
from winnow.batching import BatchingLimits, IncompleteBatchError, MicroBatcher
from winnow.history import NO_ROWS, Rows
from winnow.rpc.errors import DeadlineError, StageUnavailableError
from winnow.serving.metrics import Metrics

Request = TypeVar("Request", CandidateRequest, RankRequest)
Result = TypeVar("Result")


class Pipeline:
    """Answers requests from one release. Deadlines are event-loop times."""

    def __init__(
        self,
        catalogue: ServedCatalogue,
        candidate_stage: CandidateStageClient,
        ranking_stage: RankingStageClient,
        settings: GatewaySettings,
        metrics: Metrics,
        further_sources: Sequence[Source] = (),
    ) -> None:
        """`further_sources` are asked beside the candidate stage, for every recommendation."""
        self._catalogue = catalogue
        self._score_type = catalogue.ranking_score_type
        self._filters = catalogue.filters
        self._candidate_timeout_share = settings.candidate_timeout_share
        self._steps = Steps(metrics)
        self._popular = PopularSource(catalogue)
        self._network = NetworkSource(candidate_stage, self._popular, self._steps)
        self._further = FurtherSources(further_sources, catalogue, metrics)
        self._ranking = RankingStep(ranking_stage, self._steps)
        limits = BatchingLimits(
            max_batch_weight=settings.max_batch_queries,
            max_batches_in_flight=settings.max_batches_in_flight,
            max_queued_weight=settings.max_queued_queries,
        )
        self._recommend_batches = MicroBatcher[CandidateRequest, tuple[Gathered, Ranked]](
            self._recommend, limits, metrics.queue("recommend")
        )
        self._retrieve_batches = MicroBatcher[CandidateRequest, Gathered](
            self._retrieve, limits, metrics.queue("retrieve")
        )
        self._rank_batches = MicroBatcher[RankRequest, Ranked](self._rank, limits, metrics.queue("rank"))
        leave_one_out = LeaveOneOut(
            candidate_stage, ranking_stage, catalogue.history_length, self._steps, settings, metrics
        )
        self._explainer = Explainer(catalogue, leave_one_out)

    def check_time(self, deadline: float) -> None:
        """Raise OverloadedError where the recommendations under way leave too little time for another."""
        check_time(self._recommend_batches.expected_seconds(), deadline)

    @property
    def requests_wait(self) -> bool:
        """Whether so much is under way that a further recommendation would have to wait."""
        return self._recommend_batches.expected_seconds() > 0

    async def recommend(self, request: CandidateRequest, *, other_release: bool) -> Recommendation:
        """Gather, rank, select. Falls back step by step where a stage, or the store, gives no answer, and says so.

        Raises StageUnavailableError where the caller refuses a degraded answer, OverloadedError where too much work is
        waiting, and StageFailure where a replica does not hold the release and there is an `other_release` to try.
        """
        request.permitted = await self._filters.permitted(request.restriction)
        excluded_pinned_count = _leave_out_excluded_pins(request, self._catalogue)
        submitted_at = time.perf_counter_ns()
        gathered, ranked = await self._gather_and_rank(request)
        wait = _wait(submitted_at, gathered.microseconds, gathered.sources_microseconds, ranked.microseconds)
        missing_history = None if request.stored is None else request.stored.failure
        failures = [failure for failure in (missing_history, gathered.failure, ranked.failure) if failure is not None]
        for failure in failures:
            _try_other_release(failure, other_release=other_release)
            if request.require_ranked:
                raise StageUnavailableError(f"the full chain gave no answer ({failure.reason})") from failure
        with self._steps("select") as clock:
            selected = select(gathered, ranked, request.item_count, request.rules, self._catalogue)
        has_scores = ranked.scores is not None
        return Recommendation(
            rows=selected.rows,
            scores=selected.scores,
            score_type=self._score_type if has_scores else ladder.unranked_score_type(gathered.source),
            source=gathered.source,
            retrieved_count=len(gathered.rows),
            ranked_count=0 if ranked.scores is None else len(ranked.scores) - len(_pinned(request)),
            degradation=ladder.degradation(
                gathered.source,
                ranked=has_scores,
                failed=bool(failures),
                history_missing=missing_history is not None,
            ),
            degradation_reason=", ".join(failure.reason for failure in failures),
            moves=selected.moves,
            excluded_pinned_count=excluded_pinned_count,
            timing=Timing(
                users=_reading(request),
                wait=wait,
                retrieve=gathered.microseconds,
                retrieve_compute=gathered.compute_microseconds,
                rank=ranked.microseconds,
                rank_compute=ranked.compute_microseconds,
                select=clock.microseconds,
                sources=gathered.sources_microseconds,
            ),
            places=places_of(selected.rows, gathered.proposed),
        )

    async def retrieve(self, request: CandidateRequest, *, other_release: bool) -> RetrievedRows:
        """Retrieve only. Raises StageUnavailableError where the candidate stage gives none; else as `recommend`."""
        _refuse_missing_history(request)
        request.permitted = await self._filters.permitted(request.restriction)
        submitted_at = time.perf_counter_ns()
        try:
            gathered = await _submit(self._retrieve_batches, request)
        except DeadlineError:
            raise StageUnavailableError(_NO_CANDIDATES_IN_TIME.reason) from None
        if gathered.failure is not None:
            _try_other_release(gathered.failure, other_release=other_release)
            raise StageUnavailableError(gathered.failure.reason) from gathered.failure
        return RetrievedRows(
            rows=gathered.rows,
            scores=gathered.scores,
            score_type=ladder.unranked_score_type(gathered.source),
            source=gathered.source,
            timing=Timing(
                users=_reading(request),
                wait=_wait(submitted_at, gathered.microseconds),
                retrieve=gathered.microseconds,
                retrieve_compute=gathered.compute_microseconds,
            ),
        )

    async def rank(self, request: RankRequest, *, other_release: bool) -> ScoredRows:
        """Score the caller's items. Raises StageUnavailableError where the ranking stage gives none; else as above."""
        _refuse_missing_history(request)
        submitted_at = time.perf_counter_ns()
        try:
            ranked = await _submit(self._rank_batches, request)
        except DeadlineError:
            ranked = NOT_IN_TIME
        if ranked.scores is None:
            assert ranked.failure is not None  # noqa: S101 - there is one or the other
            _try_other_release(ranked.failure, other_release=other_release)
            raise StageUnavailableError(ranked.failure.reason) from ranked.failure
        wait = _wait(submitted_at, ranked.microseconds)
        with self._steps("select") as clock:
            order = best(ranked.scores, len(ranked.scores))
        return ScoredRows(
            rows=request.rows[order],
            scores=ranked.scores[order],
            score_type=self._score_type,
            timing=Timing(
                users=_reading(request),
                wait=wait,
                rank=ranked.microseconds,
                rank_compute=ranked.compute_microseconds,
                select=clock.microseconds,
            ),
        )

    async def explain(self, request: ExplainRequest, *, other_release: bool) -> Explanation:
        """Say why an item is or is not recommended: see Explainer.explain."""
        _refuse_missing_history(request.recommendation)
        self.check_time(request.recommendation.deadline)
        return await self._explainer.explain(request, self._gather_and_rank, other_release=other_release)

    async def close(self) -> None:
        """Wait for batches in flight."""
        await self._explainer.close()
        for batches in (self._recommend_batches, self._retrieve_batches, self._rank_batches):
            await batches.close()

    async def _gather_and_rank(self, request: CandidateRequest) -> tuple[Gathered, Ranked]:
        """Take a request through both stages, in a batch with others."""
        try:
            return await _submit(self._recommend_batches, request)
        except DeadlineError:
            return self._popular.gather(request, _NO_CANDIDATES_IN_TIME), NOT_IN_TIME

    async def _recommend(
        self, requests: Sequence[CandidateRequest], deadline: float
    ) -> AsyncIterator[list[tuple[Gathered, Ranked]]]:
        """Take a batch through both stages. The first result is what a request has whose deadline passes after it."""
        now = asyncio.get_running_loop().time()
        gathering_ends = now + self._candidate_timeout_share * (deadline - now)
        further = self._further.ask(requests, gathering_ends)
        gathered = await self._gather(requests, gathering_ends)
        yield [(found, NOT_IN_TIME) for found in gathered]
        candidates = gathered if further is None else await self._unite(gathered, further)
        rows = [
            self._rows_to_rank(request, found.rows, deadline)
            for request, found in zip(requests, candidates, strict=True)
        ]
        ranked = await self._ranking.rank(requests, rows, deadline)
        yield [
            # Only ranking can compare what different sources have found.
            (first if outcome.scores is None else united, outcome)
            for first, united, outcome in zip(gathered, candidates, ranked, strict=True)
        ]
        _report([found.failure or outcome.failure for found, outcome in zip(gathered, ranked, strict=True)])

    def _rows_to_rank(self, request: CandidateRequest, candidates: Rows, deadline: float) -> Rows:
        """As many candidates as the time left allows, and the pinned rows, whether or not they are candidates."""
        rows = self._ranking.affordable(request, candidates, deadline)
        if request.rules is None:
            return rows
        if len(rows) < len(candidates):
            enough = enough_for_caps(candidates, request.item_count, request.rules, self._catalogue)
            rows = candidates[: max(len(rows), enough)]
        return np.concatenate([rows, request.rules.pinned])

    async def _retrieve(self, requests: Sequence[CandidateRequest], deadline: float) -> AsyncIterator[list[Gathered]]:
        gathered = await self._gather(requests, deadline)
        yield gathered
        _report([found.failure for found in gathered])

    async def _rank(self, requests: Sequence[RankRequest], deadline: float) -> AsyncIterator[list[Ranked]]:
        ranked = await self._ranking.rank(requests, [request.rows for request in requests], deadline)
        yield ranked
        _report([outcome.failure for outcome in ranked])

    async def _gather(self, requests: Sequence[CandidateRequest], deadline: float) -> list[Gathered]:
        """Candidates for each request: the network's, or popular items where a history holds no known item."""
        # The user vector of an empty history is zero: every item would score the same.
        asking = [request for request in requests if len(request.history.rows)]
        found = iter(await self._network.gather(asking, deadline) if asking else ())
        return [next(found) if len(request.history.rows) else self._popular.gather(request) for request in requests]

    async def _unite(self, gathered: Sequence[Gathered], further: "asyncio.Task[list[Proposals]]") -> list[Gathered]:
        """Add what further sources propose to the candidates of each request in whose answer one takes part."""
        with self._steps("sources") as clock:
            united = [
                unite(found, proposals) if proposals else found
                for found, proposals in zip(gathered, await further, strict=True)
            ]
        return [
            replace(found, sources_microseconds=clock.microseconds) if found.proposed else found for found in united
        ]


async def _submit(batches: MicroBatcher[Request, Result], request: Request) -> Result:
    check_time(batches.expected_seconds(), request.deadline)
    return await batches.submit(request, deadline=request.deadline)


_NO_CANDIDATES_IN_TIME = StageFailure("candidate", grpc.StatusCode.DEADLINE_EXCEEDED)


def _refuse_missing_history(request: CandidateRequest | RankRequest) -> None:
    """Raise StageUnavailableError where the stored history of the user could not be read."""
    if request.stored is not None and request.stored.failure is not None:
        raise StageUnavailableError(request.stored.failure.reason) from request.stored.failure


def _reading(request: CandidateRequest | RankRequest) -> int | None:
    return None if request.stored is None else request.stored.microseconds


def _pinned(request: CandidateRequest) -> Rows:
    return NO_ROWS if request.rules is None else request.rules.pinned


def _leave_out_excluded_pins(request: CandidateRequest, catalogue: ServedCatalogue) -> int:
    """Unpin rows that are excluded, retired or not permitted, and return how many there are."""
    pinned = _pinned(request)
    if request.rules is None or not len(pinned):
        return 0
    kept = ~np.isin(pinned, request.excluded) & catalogue.permits(pinned, request.permitted)
    request.rules = request.rules.keep_pinned(kept)
    return len(pinned) - int(np.count_nonzero(kept))


def _wait(submitted_at: int, *step_microseconds: int | None) -> int:
    """Return the microseconds since `submitted_at` (perf_counter_ns) that no step accounts for."""
    return max(0, (time.perf_counter_ns() - submitted_at) // 1000 - sum(filter(None, step_microseconds)))


def _try_other_release(failure: StageFailure, *, other_release: bool) -> None:
    if failure.release_missing and other_release:
        raise failure


def _report(failures: Sequence[StageFailure | None]) -> None:
    """Raise IncompleteBatchError if a stage has failed or every request was late. Some may be late in any batch."""
    reasons = [failure for failure in failures if failure is not None]
    of_stages = [failure for failure in reasons if failure is not NOT_IN_TIME.failure]
    if of_stages or len(reasons) == len(failures):
        overloaded = any(failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED for failure in of_stages)
        raise IncompleteBatchError(reasons[0].reason, overloaded=overloaded)
