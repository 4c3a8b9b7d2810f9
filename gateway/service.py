"""The gateway over gRPC: messages <-> queries and answers, and nothing else."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import structlog

from gateway.catalogue import Catalogue
from gateway.channels import open_channel
from gateway.pipeline import Pipeline, Recommendation
from gateway.requests import RequestReader
from gateway.settings import GatewaySettings
from gateway.stages import CandidateStage, RankingStage
from winnow.serving.errors import UnavailableError
from winnow.serving.server import remaining_seconds
from winnow.v1 import catalogue_pb2, catalogue_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc

_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext


class GatewayService(
    recommendation_pb2_grpc.RecommendationServiceServicer, catalogue_pb2_grpc.CatalogueServiceServicer
):
    """Implements winnow.v1.RecommendationService and winnow.v1.CatalogueService."""

    name = "gateway"
    grpc_service_names = (
        recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name,
        catalogue_pb2.DESCRIPTOR.services_by_name["CatalogueService"].full_name,
    )

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._reader = RequestReader(settings)
        self._channels = [
            open_channel(target, settings) for target in (settings.candidate_target, settings.ranking_target)
        ]
        self._catalogue: Catalogue | None = None
        self._stages: tuple[CandidateStage, RankingStage] | None = None
        self._pipeline: Pipeline | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""
        recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(self, server)
        catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(self, server)

    async def load(self) -> None:
        """See Service.load."""
        catalogue = await asyncio.to_thread(Catalogue.load_current, self._settings.releases)
        candidate_channel, ranking_channel = self._channels
        self._stages = (
            CandidateStage(candidate_channel, catalogue.release_id, self._settings),
            RankingStage(ranking_channel, catalogue.release_id, self._settings),
        )
        self._pipeline = Pipeline(catalogue, *self._stages, self._settings)
        self._catalogue = catalogue
        _log.info("release loaded", release_id=catalogue.release_id, item_count=len(catalogue.vocabulary))

    async def close(self) -> None:
        """See Service.close."""
        for stage in self._stages or ():
            await stage.close()
        for channel in self._channels:
            await channel.close()

    async def RecommendItems(
        self, request: recommendation_pb2.RecommendItemsRequest, context: "Context[Any, Any]"
    ) -> recommendation_pb2.RecommendItemsResponse:
        """Retrieve candidates for the history, rank them, return the best."""
        started = time.perf_counter_ns()
        catalogue, pipeline = self._ready()
        query = self._reader.recommend(request, catalogue)
        answer = await pipeline.recommend(query, self._deadline(context))
        return recommendation_pb2.RecommendItemsResponse(
            items=_scored_items(answer, catalogue),
            release_id=catalogue.release_id,
            score_origin=answer.score_origin,
            candidate_origin=answer.candidate_origin,
            candidate_count=answer.candidate_count,
            unknown_history_count=query.unknown_history_count,
            unknown_excluded_count=query.unknown_excluded_count,
            degradation=recommendation_pb2.Degradation(step=answer.degradation, reason=answer.degradation_reason),
            timing=_timing(answer, started),
        )

    async def RetrieveItems(
        self, request: recommendation_pb2.RetrieveItemsRequest, context: "Context[Any, Any]"
    ) -> recommendation_pb2.RetrieveItemsResponse:
        """Retrieve candidates only."""
        started = time.perf_counter_ns()
        catalogue, pipeline = self._ready()
        query = self._reader.retrieve(request, catalogue)
        answer = await pipeline.retrieve(query, self._deadline(context))
        return recommendation_pb2.RetrieveItemsResponse(
            items=_scored_items(answer, catalogue),
            release_id=catalogue.release_id,
            score_origin=answer.score_origin,
            candidate_origin=answer.candidate_origin,
            unknown_history_count=query.unknown_history_count,
            unknown_excluded_count=query.unknown_excluded_count,
            timing=_timing(answer, started),
        )

    async def RankItems(
        self, request: recommendation_pb2.RankItemsRequest, context: "Context[Any, Any]"
    ) -> recommendation_pb2.RankItemsResponse:
        """Score the caller's items."""
        started = time.perf_counter_ns()
        catalogue, pipeline = self._ready()
        query = self._reader.rank(request, catalogue)
        answer = await pipeline.rank(query, self._deadline(context))
        return recommendation_pb2.RankItemsResponse(
            items=_scored_items(answer, catalogue),
            release_id=catalogue.release_id,
            unknown_history_count=query.unknown_history_count,
            unknown_item_count=query.unknown_item_count,
            timing=_timing(answer, started),
        )

    async def GetItems(
        self, request: catalogue_pb2.GetItemsRequest, context: "Context[Any, Any]"
    ) -> catalogue_pb2.GetItemsResponse:
        """Return titles and further columns of the given items."""
        catalogue, _ = self._ready()
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
        catalogue, _ = self._ready()
        title_contains, count = self._reader.search_items(request)
        # Off the event loop: it reads titles until enough match, and nobody's recommendation should wait for that.
        rows = await asyncio.to_thread(catalogue.items.rows_by_title, title_contains, catalogue.popular_rows, count)
        return catalogue_pb2.SearchItemsResponse(items=_items(catalogue, rows), release_id=catalogue.release_id)

    def _ready(self) -> tuple[Catalogue, Pipeline]:
        if self._catalogue is None or self._pipeline is None:
            raise UnavailableError("the release is being loaded")
        return self._catalogue, self._pipeline

    def _deadline(self, context: "Context[Any, Any]") -> float:
        return asyncio.get_running_loop().time() + remaining_seconds(context, self._settings)


def _scored_items(answer: Recommendation, catalogue: Catalogue) -> list[recommendation_pb2.ScoredItem]:
    return [
        recommendation_pb2.ScoredItem(item_id=item_id, score=score)
        for item_id, score in zip(
            catalogue.vocabulary.item_ids(answer.rows.tolist()), answer.scores.tolist(), strict=True
        )
    ]


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
