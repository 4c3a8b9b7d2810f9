"""The gateway over gRPC: messages <-> queries and answers, and nothing else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc

from gateway.answers import Recommendation
from gateway.calls import Method, StageCaller, StageFailure
from gateway.catalogue import RELEASE_FILES, Catalogue
from gateway.chain import Chain
from gateway.channels import StageChannels
from gateway.pipeline import Pipeline
from gateway.requests import Query, RequestReader
from gateway.settings import GatewaySettings
from gateway.stages import CandidateStage, RankingStage
from gateway.tokens import TokenCheck
from winnow.release.reader import Release
from winnow.serving.boundary import Gatekeeper
from winnow.serving.metrics import Metrics
from winnow.serving.releases import HeldRelease, ReleaseKeeper
from winnow.serving.server import remaining_seconds, run_service
from winnow.v1 import (
    candidate_pb2_grpc,
    catalogue_pb2,
    catalogue_pb2_grpc,
    ranking_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

Response = TypeVar("Response")
Context = grpc.aio.ServicerContext


class _ScoredItems(Protocol):
    """The repeated field of a response."""

    def add(self, *, item_id: str, score: float) -> Any:
        """Append an item."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedRelease:
    """A release with everything that answers from it."""

    catalogue: Catalogue
    candidate_stage: CandidateStage
    ranking_stage: RankingStage
    chain: Chain
    pipeline: Pipeline

    async def close(self) -> None:
        """Wait for calls under way."""
        await self.chain.close()
        await self.candidate_stage.close()
        await self.ranking_stage.close()


class GatewayService(
    recommendation_pb2_grpc.RecommendationServiceServicer, catalogue_pb2_grpc.CatalogueServiceServicer
):
    """Implements winnow.v1.RecommendationService and winnow.v1.CatalogueService."""

    name = "gateway"
    grpc_service_names = (
        recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name,
        catalogue_pb2.DESCRIPTOR.services_by_name["CatalogueService"].full_name,
    )

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        """Raise ValueError where a TLS file cannot be read."""
        self._settings = settings
        self._metrics = metrics
        self._reader = RequestReader(settings)
        self._channels = StageChannels(settings)
        self._candidate_caller = StageCaller("candidate", self._candidate_method(), settings, metrics)
        self._ranking_caller = StageCaller("ranking", self._ranking_method(), settings, metrics)
        self.keeper: ReleaseKeeper[ServedRelease] = ReleaseKeeper(
            settings, RELEASE_FILES, self._load, metrics, adopt=_held_by_both_stages
        )

    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""
        recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(self, server)
        catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(self, server)

    async def watch(self) -> None:
        """See Service.watch."""
        await asyncio.gather(
            self.keeper.watch(), self._channels.watch(self._use_new_channels), self._keep_current_release_in_use()
        )

    def gatekeepers(self) -> Sequence[Gatekeeper]:
        """See Service.gatekeepers. Raises ValueError where the tokens file cannot be read."""
        return [TokenCheck(self._settings.tokens_file)] if self._settings.tokens_file else []

    def alive(self) -> bool:
        """See Service.alive: the gateway computes on its event loop, and whoever asks has found that going."""
        return True

    async def close(self) -> None:
        """See Service.close."""
        await self.keeper.close()
        await self._channels.close()

    async def RecommendItems(
        self, request: recommendation_pb2.RecommendItemsRequest, context: "Context[Any, Any]"
    ) -> recommendation_pb2.RecommendItemsResponse:
        """Retrieve candidates for the history, rank them, return the best."""
        started = time.perf_counter_ns()
        deadline = self._deadline(context)

        async def recommend(release: ServedRelease, another: bool) -> recommendation_pb2.RecommendItemsResponse:
            query = self._reader.recommend(request, release.catalogue)
            answer = await release.pipeline.recommend(query, deadline, another_release=another)
            self._count(query, answer)
            response = recommendation_pb2.RecommendItemsResponse(
                release_id=release.catalogue.release_id,
                score_origin=answer.score_origin,
                candidate_origin=answer.candidate_origin,
                candidate_count=answer.candidate_count,
                retrieved_count=answer.retrieved_count,
                unknown_history_count=query.unknown_history_count,
                unknown_excluded_count=query.unknown_excluded_count,
                degradation=recommendation_pb2.Degradation(step=answer.degradation, reason=answer.degradation_reason),
                timing=_timing(answer, started),
            )
            _add_items(response.items, answer, release.catalogue)
            return response

        return await self._from_one_release(recommend)

    async def RetrieveItems(
        self, request: recommendation_pb2.RetrieveItemsRequest, context: "Context[Any, Any]"
    ) -> recommendation_pb2.RetrieveItemsResponse:
        """Retrieve candidates only."""
        started = time.perf_counter_ns()
        deadline = self._deadline(context)

        async def retrieve(release: ServedRelease, another: bool) -> recommendation_pb2.RetrieveItemsResponse:
            query = self._reader.retrieve(request, release.catalogue)
            answer = await release.pipeline.retrieve(query, deadline, another_release=another)
            response = recommendation_pb2.RetrieveItemsResponse(
                release_id=release.catalogue.release_id,
                score_origin=answer.score_origin,
                candidate_origin=answer.candidate_origin,
                unknown_history_count=query.unknown_history_count,
                unknown_excluded_count=query.unknown_excluded_count,
                timing=_timing(answer, started),
            )
            _add_items(response.items, answer, release.catalogue)
            return response

        return await self._from_one_release(retrieve)

    async def RankItems(
        self, request: recommendation_pb2.RankItemsRequest, context: "Context[Any, Any]"
    ) -> recommendation_pb2.RankItemsResponse:
        """Score the caller's items."""
        started = time.perf_counter_ns()
        deadline = self._deadline(context)

        async def rank(release: ServedRelease, another: bool) -> recommendation_pb2.RankItemsResponse:
            query = self._reader.rank(request, release.catalogue)
            answer = await release.pipeline.rank(query, deadline, another_release=another)
            response = recommendation_pb2.RankItemsResponse(
                release_id=release.catalogue.release_id,
                unknown_history_count=query.unknown_history_count,
                unknown_item_count=query.unknown_item_count,
                score_origin=answer.score_origin,
                timing=_timing(answer, started),
            )
            _add_items(response.items, answer, release.catalogue)
            return response

        return await self._from_one_release(rank)

    async def GetItems(
        self, request: catalogue_pb2.GetItemsRequest, context: "Context[Any, Any]"
    ) -> catalogue_pb2.GetItemsResponse:
        """Return titles and further columns of the given items."""
        catalogue = self.keeper.current.loaded.catalogue
        item_ids = self._reader.get_items(request)
        rows, unknown_item_count = catalogue.vocabulary.rows(item_ids)
        return catalogue_pb2.GetItemsResponse(
            items=_items(catalogue, rows.tolist()),
            unknown_item_count=unknown_item_count,
            release_id=catalogue.release_id,
        )

    async def SearchItems(
        self, request: catalogue_pb2.SearchItemsRequest, context: "Context[Any, Any]"
    ) -> catalogue_pb2.SearchItemsResponse:
        """Find items by a part of their title."""
        catalogue = self.keeper.current.loaded.catalogue
        title_contains, count = self._reader.search_items(request)
        # Off the event loop: it reads titles until enough match, and nobody's recommendation should wait for that.
        rows = await asyncio.to_thread(catalogue.items.rows_by_title, title_contains, catalogue.popular_rows, count)
        return catalogue_pb2.SearchItemsResponse(items=_items(catalogue, rows), release_id=catalogue.release_id)

    async def _from_one_release(self, respond: "Callable[[ServedRelease, bool], Awaitable[Response]]") -> "Response":
        """Answer from the current release; as a whole from another one that is held, where a replica lacks this one.

        Behind a load balancer nobody knows what the replica that will be met holds: it may be the first with a new
        release, or the last without.
        """
        releases = [self.keeper.current, *self.keeper.others()]
        for position, held in enumerate(releases):
            another = position + 1 < len(releases)
            try:
                with held as release:
                    return await respond(release, another)
            except StageFailure as failure:
                if not (failure.release_missing and another):
                    raise
        raise AssertionError("the last release is answered from, whatever it takes")

    def _count(self, query: Query, answer: Recommendation) -> None:
        if query.unknown_history_count:
            self._metrics.unknown_ids.labels("history").inc(query.unknown_history_count)
        if query.unknown_excluded_count:
            self._metrics.unknown_ids.labels("excluded_item_ids").inc(query.unknown_excluded_count)
        if answer.degradation:
            step = recommendation_pb2.DegradationStep.Name(answer.degradation).removeprefix("DEGRADATION_STEP_")
            self._metrics.degraded.labels(step, answer.degradation_reason).inc()
        if answer.candidate_count < answer.retrieved_count:
            self._metrics.candidates_left_unranked.inc(answer.retrieved_count - answer.candidate_count)

    def _load(self, release: Release) -> ServedRelease:
        catalogue = Catalogue.load(release)
        candidate_stage = CandidateStage(
            self._candidate_caller, catalogue.release_id, len(catalogue.vocabulary), self._settings, self._metrics
        )
        ranking_stage = RankingStage(self._ranking_caller, catalogue.release_id, self._settings, self._metrics)
        chain = Chain(catalogue, candidate_stage, ranking_stage, self._settings, self._metrics)
        return ServedRelease(
            catalogue=catalogue,
            candidate_stage=candidate_stage,
            ranking_stage=ranking_stage,
            chain=chain,
            pipeline=Pipeline(chain, candidate_stage, ranking_stage, self._settings, catalogue.ranking_origin),
        )

    async def _keep_current_release_in_use(self) -> None:
        """Stages drop what nobody uses: in a quiet hour that would be the release that this gateway pins."""
        while True:
            await asyncio.sleep(self._settings.release_poll_seconds)
            release = self.keeper.current.loaded
            await asyncio.gather(release.candidate_stage.say_in_use(), release.ranking_stage.say_in_use())

    def _use_new_channels(self) -> None:
        self._candidate_caller.use_method(self._candidate_method())
        self._ranking_caller.use_method(self._ranking_method())

    def _candidate_method(self) -> Method:
        return candidate_pb2_grpc.CandidateServiceStub(self._channels.candidate).RetrieveCandidates

    def _ranking_method(self) -> Method:
        return ranking_pb2_grpc.RankingServiceStub(self._channels.ranking).RankCandidates

    def _deadline(self, context: "Context[Any, Any]") -> float:
        return asyncio.get_running_loop().time() + remaining_seconds(context, self._settings)


def run_gateway(settings: GatewaySettings) -> int:
    """Serve in this process; return the exit status."""
    return run_service(GatewayService, settings)


async def _held_by_both_stages(held: HeldRelease[ServedRelease]) -> bool:
    release = held.loaded
    return all(await asyncio.gather(release.candidate_stage.held_by_all(), release.ranking_stage.held_by_all()))


def _add_items(items: _ScoredItems, answer: Recommendation, catalogue: Catalogue) -> None:
    """Append the answer's items to a response: half the time of making a list of messages, which would be copied."""
    add = items.add
    for item_id, score in zip(catalogue.vocabulary.item_ids(answer.rows.tolist()), answer.scores.tolist(), strict=True):
        add(item_id=item_id, score=score)


def _items(catalogue: Catalogue, rows: Sequence[int]) -> list[catalogue_pb2.Item]:
    item_ids = catalogue.vocabulary.item_ids(rows)
    return [
        catalogue_pb2.Item(item_id=item_id, title=item.title, attributes=item.attributes)
        for item_id, item in zip(item_ids, map(catalogue.items.__getitem__, rows), strict=True)
    ]


def _timing(answer: Recommendation, started_nanoseconds: int) -> recommendation_pb2.Timing:
    return recommendation_pb2.Timing(
        total_microseconds=(time.perf_counter_ns() - started_nanoseconds) // 1000,
        candidate_microseconds=answer.timing.candidate,
        candidate_compute_microseconds=answer.timing.candidate_compute,
        ranking_microseconds=answer.timing.ranking,
        ranking_compute_microseconds=answer.timing.ranking_compute,
    )
