"""A stage that is healthy but answers wrongly: `python -m tests.faults.faulty_stage STAGE PORT MODE`."""

import asyncio
import sys
import time
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2_grpc

from winnow.history import RaggedRows
from winnow.queries import Candidates
from winnow.serving.wire import pack_candidates, pack_scores, unpack_ranking_query, unpack_retrieval_query
from winnow.v1 import candidate_pb2, candidate_pb2_grpc, ranking_pb2, ranking_pb2_grpc

MODES = ("slow", "blocked", "garbage", "not_finite", "wrong_lengths", "another_release", "exception", "duplicates")


class FaultyStage(candidate_pb2_grpc.CandidateServiceServicer, ranking_pb2_grpc.RankingServiceServicer):
    """Both stages; the mode says how every answer is wrong."""

    def __init__(self, mode: str) -> None:
        self._mode = mode

    async def _misbehave(self, context: Any) -> None:
        if self._mode == "slow":
            await asyncio.sleep(30)
        elif self._mode == "blocked":
            time.sleep(1)  # noqa: ASYNC251 - this is the fault: the event loop is blocked
            await context.abort(grpc.StatusCode.UNAVAILABLE, "awake again")
        elif self._mode == "another_release":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another release is held")
        elif self._mode == "exception":
            raise RuntimeError("a secret text that no caller may see")

    async def RetrieveCandidates(
        self, request: candidate_pb2.RetrieveCandidatesRequest, context: Any
    ) -> candidate_pb2.RetrieveCandidatesResponse:
        if not request.counts and self._mode != "another_release":
            return candidate_pb2.RetrieveCandidatesResponse()
        await self._misbehave(context)
        counts = unpack_retrieval_query(request).counts
        if self._mode == "garbage":
            return candidate_pb2.RetrieveCandidatesResponse(scores=b"\x01\x02\x03")
        rows = [np.zeros(count, dtype=np.int32) if self._mode == "duplicates" else np.arange(count) for count in counts]
        if self._mode == "wrong_lengths":
            rows = rows[:-1]
        scores = np.zeros(sum(map(len, rows)), dtype=np.float32)
        if self._mode == "not_finite":
            scores[:] = np.nan
        return pack_candidates(Candidates(RaggedRows.from_lists(rows), scores), 0)

    async def RankCandidates(
        self, request: ranking_pb2.RankCandidatesRequest, context: Any
    ) -> ranking_pb2.RankCandidatesResponse:
        if not request.candidates.rows and self._mode != "another_release":
            return ranking_pb2.RankCandidatesResponse()
        await self._misbehave(context)
        if self._mode == "garbage":
            return ranking_pb2.RankCandidatesResponse(scores=b"\x01\x02\x03")
        scores = np.zeros(len(unpack_ranking_query(request).candidates.rows), dtype=np.float32)
        if self._mode == "wrong_lengths":
            scores = scores[:-1]
        if self._mode in ("not_finite", "duplicates"):
            scores[:] = np.inf
        return pack_scores(scores, 0)


async def main(stage: str, port: int, mode: str) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    if stage == "candidate_service":
        candidate_pb2_grpc.add_CandidateServiceServicer_to_server(FaultyStage(mode), server)
    else:
        ranking_pb2_grpc.add_RankingServiceServicer_to_server(FaultyStage(mode), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
