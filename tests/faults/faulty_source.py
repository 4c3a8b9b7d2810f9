"""An external candidate source that turns bad: `python -m tests.faults.faulty_source PORT MODE`.

It proposes always the same items until SIGUSR1; from then on it misbehaves in the way of its mode, up and healthy all
the while.
"""

import asyncio
import signal
import sys
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from tests.releases import ITEM_COUNT, item_id
from winnow.v1 import source_pb2

MODES = ("hangs", "slow", "internal", "garbage", "too_few_lists", "not_finite", "huge", "wrong_ids")
PROPOSED = [item_id(row) for row in range(ITEM_COUNT - 50, ITEM_COUNT)]
# Longer than the gateway waits.
SLOW_SECONDS = 0.3
NO_MESSAGE = b"\xff" * 9


class FaultySource:
    """A CandidateSourceService whose answers may be any bytes."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self.bad = False

    async def propose(self, request: source_pb2.ProposeCandidatesRequest, context: Any) -> bytes:
        mode = self._mode if self.bad else ""
        if mode == "garbage":
            return NO_MESSAGE
        if mode == "internal":
            await context.abort(grpc.StatusCode.INTERNAL, "a text that says nothing")
        if mode in ("hangs", "slow"):
            await asyncio.sleep(30 if mode == "hangs" else SLOW_SECONDS)
        response = source_pb2.ProposeCandidatesResponse(
            proposals=[source_pb2.ProposedCandidates(item_ids=PROPOSED) for _ in request.queries]
        )
        if mode == "too_few_lists":
            del response.proposals[-1]
        for query, proposal in zip(request.queries, response.proposals, strict=False):
            if mode == "not_finite":
                proposal.scores.extend([float("nan")] * len(PROPOSED))
            elif mode == "huge":
                proposal.item_ids.extend([""] * 1_000_000)
            elif mode == "wrong_ids":
                wrong = [*(f"unknown {number}" for number in range(40)), *query.history_item_ids, *PROPOSED[:5]]
                proposal.item_ids[:] = [*wrong, *PROPOSED]
        return response.SerializeToString()


async def main(port: int, mode: str) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    source = FaultySource(mode)
    handler = grpc.unary_unary_rpc_method_handler(
        source.propose, source_pb2.ProposeCandidatesRequest.FromString, lambda answer: answer
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("winnow.v1.CandidateSourceService", {"ProposeCandidates": handler})]
    )
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, setattr, source, "bad", True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
