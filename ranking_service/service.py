"""The ranking service over gRPC: messages <-> queries, and which queries are allowed."""

from functools import partial
from typing import Any

import grpc
import numpy as np
import torch
from numpy.typing import NDArray

from ranking_service.ranker import RELEASE_FILES, Ranker, choose_arithmetic, table_bytes
from ranking_service.settings import RankingSettings
from winnow.networks.options import Arithmetic
from winnow.queries import RankingQuery
from winnow.release.manifest import RANKING_NETWORK_FILE, Manifest
from winnow.release.models.loader import appended_bytes
from winnow.release.reader import Release
from winnow.serving.stage_host import StageHost
from winnow.serving.wire import pack_scores, unpack_ranking_query
from winnow.v1 import ranking_pb2, ranking_pb2_grpc


class RankingService(
    StageHost[RankingSettings, RankingQuery, NDArray[np.float32]], ranking_pb2_grpc.RankingServiceServicer
):
    """Implements winnow.v1.RankingService."""

    name = "ranking_service"
    grpc_service_names = (ranking_pb2.DESCRIPTOR.services_by_name["RankingService"].full_name,)
    release_files = RELEASE_FILES

    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""
        ranking_pb2_grpc.add_RankingServiceServicer_to_server(self, server)

    def build(self, release: Release) -> Ranker:
        """See StageHost.build."""
        torch.set_num_threads(self._settings.torch_threads)
        return Ranker.from_release(
            release,
            torch.device(self._settings.device),
            table_budget_bytes=self._table_budget_bytes,
            arithmetic=self._arithmetic(release.manifest),
        )

    def derived_bytes(self, manifest: Manifest) -> int:
        """See StageHost.derived_bytes: the table of item halves, which takes a GPU's own memory where there is one."""
        appended = appended_bytes(manifest, RANKING_NETWORK_FILE)
        if self._settings.device != "cpu":
            return appended
        return appended + table_bytes(manifest, self._table_budget_bytes, self._arithmetic(manifest))

    def check(self, query: RankingQuery, item_count: int) -> None:
        """See StageHost.check."""
        most = int(query.candidates.lengths.max(initial=0))
        if most > self._settings.max_candidates:
            raise ValueError(f"{most} candidates for one query: at most {self._settings.max_candidates}")
        query.histories.check_rows(item_count, "histories")
        query.candidates.check_rows(item_count, "candidates")
        if query.contexts is not None:
            query.contexts.unclicked.check_rows(item_count, "unclicked")

    def _arithmetic(self, manifest: Manifest) -> Arithmetic:
        return choose_arithmetic(self._settings.arithmetic, manifest, torch.device(self._settings.device))

    @property
    def _table_budget_bytes(self) -> int:
        return self._settings.item_table_mebibytes * 2**20

    async def RankCandidates(
        self, request: ranking_pb2.RankCandidatesRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> ranking_pb2.RankCandidatesResponse:
        """Answer every query of the call from the release that it is pinned to."""
        answer = await self.answer(request.release_id, partial(unpack_ranking_query, request), context)
        return ranking_pb2.RankCandidatesResponse() if answer is None else pack_scores(*answer)
