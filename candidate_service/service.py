"""The candidate service over gRPC: messages <-> arrays, and nothing else."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import torch

from candidate_service.retriever import RELEASE_FILES, RetrievalQueries, Retriever
from candidate_service.settings import CandidateSettings
from winnow.index.protocol import Retrieved
from winnow.release.reader import Release
from winnow.rpc.violations import Violation
from winnow.serving.boundary import Gatekeeper
from winnow.serving.errors import InvalidRequestError
from winnow.serving.metrics import Metrics
from winnow.serving.releases import ReleaseStatus
from winnow.serving.server import remaining_seconds
from winnow.serving.stage import Stage
from winnow.serving.wire import pack_float32, pack_rows, unpack_histories, unpack_int32, unpack_rows
from winnow.v1 import candidate_pb2, candidate_pb2_grpc


class CandidateService(candidate_pb2_grpc.CandidateServiceServicer):
    """Implements winnow.v1.CandidateService."""

    name = "candidate_service"
    grpc_service_names = (candidate_pb2.DESCRIPTOR.services_by_name["CandidateService"].full_name,)

    def __init__(self, settings: CandidateSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._stage: Stage[RetrievalQueries, Retrieved] = Stage(
            "candidate", settings, self._build, metrics, files=RELEASE_FILES
        )

    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""
        candidate_pb2_grpc.add_CandidateServiceServicer_to_server(self, server)

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

    async def RetrieveCandidates(
        self, request: candidate_pb2.RetrieveCandidatesRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> candidate_pb2.RetrieveCandidatesResponse:
        """Answer every query of the call from the release that it is pinned to."""
        deadline = asyncio.get_running_loop().time() + remaining_seconds(context, self._settings)
        with self._stage.pinned(request.release_id) as model:
            try:
                queries = self._queries(request, model.item_count)
            except ValueError as error:
                raise InvalidRequestError([Violation("request", str(error))]) from None
            if not len(queries.counts):
                return candidate_pb2.RetrieveCandidatesResponse()
            computed = await model.batcher.submit(queries, deadline=deadline, weight=len(queries))
        return candidate_pb2.RetrieveCandidatesResponse(
            candidates=pack_rows(computed.answers.rows),
            scores=pack_float32(computed.answers.scores),
            compute_microseconds=computed.compute_microseconds,
        )

    def _queries(self, request: candidate_pb2.RetrieveCandidatesRequest, item_count: int) -> RetrievalQueries:
        histories = unpack_histories(request.histories, request.history_weights, request.history_timestamps)
        exclusions = unpack_rows(request.exclusions, "exclusions")
        counts = unpack_int32(request.counts, "counts")
        if not len(histories) == len(exclusions) == len(counts):
            raise ValueError(
                f"{len(histories)} histories, {len(exclusions)} exclusions and {len(counts)} counts: "
                "a query has one of each"
            )
        if len(counts) > self._settings.max_batch_queries:
            raise ValueError(f"{len(counts)} queries: a call carries at most {self._settings.max_batch_queries}")
        invalid = (counts < 1) | (counts > self._settings.max_candidates)
        if invalid.any():
            first = int(np.argmax(invalid))
            raise ValueError(f"counts[{first}] is {int(counts[first])}: it lies in 1..{self._settings.max_candidates}")
        histories.check_rows(item_count, "histories")
        exclusions.check_rows(item_count, "exclusions")
        return RetrievalQueries(histories=histories, counts=counts, exclusions=exclusions)

    def _build(self, release: Release) -> Retriever:
        torch.set_num_threads(self._settings.torch_threads)
        return Retriever.from_release(
            release, torch.device(self._settings.device), exact_search=self._settings.exact_search
        )
