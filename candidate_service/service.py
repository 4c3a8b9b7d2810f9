"""The candidate service over gRPC: messages <-> queries, and which queries are allowed."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import grpc
import numpy as np
import torch

from candidate_service.live_recall import LiveRecall
from candidate_service.retriever import RELEASE_FILES, Retriever
from candidate_service.settings import CandidateSettings
from winnow.history import RaggedRows
from winnow.networks.folded_history import folded_bytes
from winnow.queries import Candidates, RetrievalQuery
from winnow.release.manifest import CANDIDATE_NETWORK_FILE, Manifest
from winnow.release.models.loader import OUTPUT_TABLE, appended_bytes, output_table_bytes
from winnow.release.reader import Release
from winnow.serving.metrics import Metrics
from winnow.serving.release_loader import MEMORY_PER_FILE_BYTE
from winnow.serving.stage_host import StageHost, StageModel
from winnow.serving.wire import pack_candidates, unpack_retrieval_query
from winnow.v1 import candidate_pb2, candidate_pb2_grpc

if TYPE_CHECKING:
    from candidate_service.engine import Engine


@runtime_checkable
class FilteringModel(Protocol):
    """A model that prepares filters."""

    async def prepare(self, query: RetrievalQuery) -> None:
        """Prepare the filters of a query. Raises FilterError where one does not fit the release."""


class CandidateService(
    StageHost[CandidateSettings, RetrievalQuery, Candidates], candidate_pb2_grpc.CandidateServiceServicer
):
    """Implements winnow.v1.CandidateService."""

    name = "candidate_service"
    grpc_service_names = (candidate_pb2.DESCRIPTOR.services_by_name["CandidateService"].full_name,)
    release_files = RELEASE_FILES

    def __init__(self, settings: CandidateSettings, metrics: Metrics) -> None:
        self._engine: Engine | None = None
        if settings.engine == "milvus":
            # Here, and not where a release is loaded: who lacks the extra is told at once.
            from candidate_service import engine

            self._engine = engine.Engine(settings)
            self.release_files, self.left_out = engine.ENGINE_FILES, {CANDIDATE_NETWORK_FILE: OUTPUT_TABLE}
        super().__init__(settings, metrics)
        self._live_recall = LiveRecall(settings.live_recall_share, metrics) if settings.live_recall_share else None
        self._on_full_scans = metrics.index_full_scans.inc

    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""
        candidate_pb2_grpc.add_CandidateServiceServicer_to_server(self, server)

    def build(self, release: Release) -> StageModel[RetrievalQuery, Candidates]:
        """See StageHost.build."""
        torch.set_num_threads(self._settings.torch_threads)
        device = torch.device(self._settings.device)
        if self._engine is not None:
            return self._engine.retriever(release, device, self._settings.filter_cache_mebibytes * 2**20)
        return Retriever.from_release(
            release,
            device,
            exact_search=self._settings.exact_search,
            filter_cache_bytes=self._settings.filter_cache_mebibytes * 2**20,
            on_full_scans=self._on_full_scans,
        )

    def derived_bytes(self, manifest: Manifest) -> int:
        """See StageHost.derived_bytes."""
        folded = folded_bytes(manifest.candidate_network) if self._settings.device == "cpu" else 0
        appended = appended_bytes(manifest, CANDIDATE_NETWORK_FILE)
        if self._engine is None:
            return folded + appended
        left_out = output_table_bytes(manifest)
        return folded + max(appended - left_out, 0) - MEMORY_PER_FILE_BYTE * left_out

    def check(self, query: RetrievalQuery, item_count: int) -> None:
        """See StageHost.check."""
        invalid = (query.counts < 1) | (query.counts > self._settings.max_candidates)
        if invalid.any():
            first = int(np.argmax(invalid))
            raise ValueError(
                f"counts[{first}] is {int(query.counts[first])}: it lies in 1..{self._settings.max_candidates}"
            )
        query.histories.check_rows(item_count, "histories")
        query.exclusions.check_rows(item_count, "exclusions")
        for position, restriction in query.restrictions.items():
            if restriction.allowed is not None:
                RaggedRows.from_lists([restriction.allowed]).check_rows(item_count, f"allowed of query {position}")

    async def prepare(self, model: StageModel[RetrievalQuery, Candidates], query: RetrievalQuery) -> None:
        """See StageHost.prepare."""
        if query.restrictions and isinstance(model, FilteringModel):
            await model.prepare(query)

    def answered(
        self, model: StageModel[RetrievalQuery, Candidates], query: RetrievalQuery, answer: Candidates
    ) -> None:
        """See StageHost.answered."""
        if self._live_recall is not None and isinstance(model, Retriever):
            # Later: the answer goes first.
            asyncio.get_running_loop().call_soon(self._live_recall.consider, model, query, answer)

    async def start(self) -> None:
        """See Service.start."""
        if self._engine is not None:
            self._engine.open()
        await super().start()

    async def close(self) -> None:
        """See Service.close."""
        await super().close()
        if self._engine is not None:
            await self._engine.close()
        if self._live_recall is not None:
            self._live_recall.close()

    async def RetrieveCandidates(
        self, request: candidate_pb2.RetrieveCandidatesRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> candidate_pb2.RetrieveCandidatesResponse:
        """Answer every query of the call from the release that it is pinned to."""
        answer = await self.answer(request.release_id, partial(unpack_retrieval_query, request), context)
        return candidate_pb2.RetrieveCandidatesResponse() if answer is None else pack_candidates(*answer)
