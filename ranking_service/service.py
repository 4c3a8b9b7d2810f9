"""The ranking service over gRPC: messages <-> arrays, and nothing else."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import torch
from numpy.typing import NDArray

from ranking_service.ranker import RELEASE_FILES, Ranker, RankingQueries
from ranking_service.settings import RankingSettings
from winnow.release.reader import Release
from winnow.rpc.violations import Violation
from winnow.serving.boundary import Gatekeeper
from winnow.serving.errors import InvalidRequestError
from winnow.serving.metrics import Metrics
from winnow.serving.releases import ReleaseStatus
from winnow.serving.server import remaining_seconds
from winnow.serving.stage import Stage
from winnow.serving.wire import pack_float32, unpack_contexts, unpack_histories, unpack_rows
from winnow.v1 import ranking_pb2, ranking_pb2_grpc


class RankingService(ranking_pb2_grpc.RankingServiceServicer):
    """Implements winnow.v1.RankingService."""

    name = "ranking_service"
    grpc_service_names = (ranking_pb2.DESCRIPTOR.services_by_name["RankingService"].full_name,)

    def __init__(self, settings: RankingSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._stage: Stage[RankingQueries, NDArray[np.float32]] = Stage(
            "ranking", settings, self._build, metrics, files=RELEASE_FILES
        )

    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""
        ranking_pb2_grpc.add_RankingServiceServicer_to_server(self, server)

    async def load(self) -> None:
        """See Service.load."""
        await self._stage.keeper.load_current()

    async def watch(self) -> None:
        """See Service.watch."""
        await self._stage.keeper.watch()

    def look_now(self) -> None:
        """See Service.look_now."""
        self._stage.keeper.look_now()

    def releases(self) -> Sequence[ReleaseStatus]:
        """See Service.releases."""
        return self._stage.keeper.status()

    def gatekeepers(self) -> Sequence[Gatekeeper]:
        """See Service.gatekeepers: only the gateway's edge has any."""
        return ()

    def alive(self) -> bool:
        """See Service.alive."""
        return self._stage.alive()

    async def close(self) -> None:
        """See Service.close."""
        await self._stage.close()

    async def RankCandidates(
        self, request: ranking_pb2.RankCandidatesRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> ranking_pb2.RankCandidatesResponse:
        """Answer every query of the call from the release that it is pinned to."""
        deadline = asyncio.get_running_loop().time() + remaining_seconds(context, self._settings)
        with self._stage.pinned(request.release_id) as model:
            try:
                queries = self._queries(request, model.item_count)
            except ValueError as error:
                raise InvalidRequestError([Violation("request", str(error))]) from None
            if not len(queries.candidates.rows):
                return ranking_pb2.RankCandidatesResponse()
            computed = await model.batcher.submit(queries, deadline=deadline, weight=len(queries))
        return ranking_pb2.RankCandidatesResponse(
            scores=pack_float32(computed.answers), compute_microseconds=computed.compute_microseconds
        )

    def _queries(self, request: ranking_pb2.RankCandidatesRequest, item_count: int) -> RankingQueries:
        histories = unpack_histories(request.histories, request.history_weights, request.history_timestamps)
        candidates = unpack_rows(request.candidates, "candidates")
        contexts = unpack_contexts(request.request_times, request.unclicked, len(histories))
        if len(histories) != len(candidates):
            raise ValueError(f"{len(histories)} histories and {len(candidates)} lists of candidates")
        if len(histories) > self._settings.max_batch_queries:
            raise ValueError(f"{len(histories)} queries: a call carries at most {self._settings.max_batch_queries}")
        most = int(candidates.lengths.max(initial=0))
        if most > self._settings.max_candidates:
            raise ValueError(f"{most} candidates for one query: at most {self._settings.max_candidates}")
        histories.check_rows(item_count, "histories")
        candidates.check_rows(item_count, "candidates")
        if contexts is not None:
            contexts.unclicked.check_rows(item_count, "unclicked")
        return RankingQueries(histories=histories, candidates=candidates, contexts=contexts)

    def _build(self, release: Release) -> Ranker:
        torch.set_num_threads(self._settings.torch_threads)
        return Ranker.from_release(
            release,
            torch.device(self._settings.device),
            table_budget_bytes=self._settings.item_table_mebibytes * 2**20,
            arithmetic=self._settings.arithmetic,
        )
