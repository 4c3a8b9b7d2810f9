"""A replica that turns bad: `python -m tests.faults.faulty_stage PORT GOOD_REPLICA MODE`.

It passes calls on to a good replica, and so answers as well as that, until SIGUSR1; from then on it misbehaves in the
way of its mode, up and healthy all the while. SIGUSR2 makes it good again.
"""

import asyncio
import signal
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

MODES = (
    "slow", "blocked", "internal", "garbage", "malformed", "not_finite", "wrong_lengths", "another_release",
    "exception", "duplicates",
)  # fmt: skip
NO_MESSAGE = b"\xff" * 9


class FaultyStage(candidate_pb2_grpc.CandidateServiceServicer, ranking_pb2_grpc.RankingServiceServicer):
    """Both stages."""

    def __init__(self, mode: str, good_replica: str) -> None:
        self._mode = mode
        self.bad = False
        channel = grpc.aio.insecure_channel(good_replica)
        self.good_candidates = candidate_pb2_grpc.CandidateServiceStub(channel)
        self.good_ranking = ranking_pb2_grpc.RankingServiceStub(channel)

    async def _misbehave(self, context: Any) -> None:
        if self._mode == "slow":
            await asyncio.sleep(30)
        elif self._mode == "blocked":
            time.sleep(1)  # noqa: ASYNC251 - this is the fault: the event loop is blocked
            await context.abort(grpc.StatusCode.UNAVAILABLE, "awake again")
        elif self._mode == "internal":
            await context.abort(grpc.StatusCode.INTERNAL, "an id that says nothing")
        elif self._mode == "another_release":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another release is held")
        elif self._mode == "exception":
            raise RuntimeError("a secret text that no caller may see")

    async def RetrieveCandidates(self, request: candidate_pb2.RetrieveCandidatesRequest, context: Any) -> Any:
        if not self.bad:
            return await passed_on(self.good_candidates.RetrieveCandidates, request, context)
        if not request.counts and self._mode != "another_release":
            return candidate_pb2.RetrieveCandidatesResponse()
        await self._misbehave(context)
        counts = unpack_retrieval_query(request).counts
        if self._mode == "malformed":
            return NO_MESSAGE
        if self._mode == "garbage":
            return candidate_pb2.RetrieveCandidatesResponse(scores=b"\x01\x02\x03")
        rows = [np.zeros(count, dtype=np.int32) if self._mode == "duplicates" else np.arange(count) for count in counts]
        if self._mode == "wrong_lengths":
            rows = rows[:-1]
        scores = np.zeros(sum(map(len, rows)), dtype=np.float32)
        if self._mode == "not_finite":
            scores[:] = np.nan
        return pack_candidates(Candidates(RaggedRows.from_lists(rows), scores), 0)

    async def RankCandidates(self, request: ranking_pb2.RankCandidatesRequest, context: Any) -> Any:
        if not self.bad:
            return await passed_on(self.good_ranking.RankCandidates, request, context)
        if not request.candidates.rows and self._mode != "another_release":
            return ranking_pb2.RankCandidatesResponse()
        await self._misbehave(context)
        if self._mode == "malformed":
            return NO_MESSAGE
        if self._mode == "garbage":
            return ranking_pb2.RankCandidatesResponse(scores=b"\x01\x02\x03")
        scores = np.zeros(len(unpack_ranking_query(request).candidates.rows), dtype=np.float32)
        if self._mode == "wrong_lengths":
            scores = scores[:-1]
        if self._mode in ("not_finite", "duplicates"):
            scores[:] = np.inf
        return pack_scores(scores, 0)


async def passed_on(method: Any, request: Any, context: Any) -> Any:
    try:
        return await method(request, timeout=context.time_remaining())
    except grpc.aio.AioRpcError as error:
        await context.abort(error.code(), error.details() or "")


def _serialized(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _handlers(servicer: FaultyStage) -> list[grpc.GenericRpcHandler]:
    """As the generated code has them, but that an answer may be any bytes."""
    return [
        grpc.method_handlers_generic_handler(
            service, {name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name), parse, _serialized)}
        )
        for service, name, parse in [
            ("winnow.v1.CandidateService", "RetrieveCandidates", candidate_pb2.RetrieveCandidatesRequest.FromString),
            ("winnow.v1.RankingService", "RankCandidates", ranking_pb2.RankCandidatesRequest.FromString),
        ]
    ]


async def serve(port: int, servicer: FaultyStage) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(_handlers(servicer))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    for number, bad in [(signal.SIGUSR1, True), (signal.SIGUSR2, False)]:
        asyncio.get_running_loop().add_signal_handler(number, setattr, servicer, "bad", bad)
    await server.start()
    await server.wait_for_termination()


async def main(port: int, good_replica: str, mode: str) -> None:
    await serve(port, FaultyStage(mode, good_replica))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
