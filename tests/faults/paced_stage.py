"""A stage of known capacity: `python -m tests.faults.paced_stage PORT GOOD_REPLICA`.

It passes calls on to a good replica and takes its time for them, as the stages of the benchmark's preset `paper` do for
their computations. So its capacity does not depend on the machine or on what else runs there.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from tests.faults.faulty_stage import FaultyStage, passed_on, serve
from winnow.batching import BatchingLimits, MicroBatcher, NoMetrics
from winnow.rpc.errors import ServiceError
from winnow.v1 import candidate_pb2, packed_pb2, ranking_pb2

SECONDS_PER_COMPUTATION = 0.002
SECONDS_PER_RETRIEVAL = 0.003
SECONDS_PER_RANKING = 0.005
"""So the ranking stage does almost 200 queries a second."""


class PacedStage(FaultyStage):
    """Both stages."""

    def __init__(self, good_replica: str) -> None:
        super().__init__("paced", good_replica)
        # As a stage batches its computations.
        self._batcher = MicroBatcher[tuple[int, float], None](
            self._compute,
            BatchingLimits(max_batch_weight=256, max_batches_in_flight=1, max_queued_weight=2048),
            NoMetrics(),
        )

    async def RetrieveCandidates(self, request: candidate_pb2.RetrieveCandidatesRequest, context: Any) -> Any:
        await self._wait(request.histories, SECONDS_PER_RETRIEVAL, context)
        return await passed_on(self.good_candidates.RetrieveCandidates, request, context)

    async def RankCandidates(self, request: ranking_pb2.RankCandidatesRequest, context: Any) -> Any:
        await self._wait(request.histories, SECONDS_PER_RANKING, context)
        return await passed_on(self.good_ranking.RankCandidates, request, context)

    async def _wait(self, histories: packed_pb2.PackedRows, seconds_per_query: float, context: Any) -> None:
        query_count = len(histories.lengths) // 4
        if not query_count:
            return
        deadline = asyncio.get_running_loop().time() + context.time_remaining()
        try:
            await self._batcher.submit((query_count, seconds_per_query), deadline=deadline, weight=query_count)
        except ServiceError as error:
            await context.abort(error.code, str(error))

    async def _compute(self, calls: Sequence[tuple[int, float]], _deadline: float) -> Sequence[None]:
        await asyncio.sleep(SECONDS_PER_COMPUTATION + sum(count * seconds for count, seconds in calls))
        return [None] * len(calls)


async def main(port: int, good_replica: str) -> None:
    await serve(port, PacedStage(good_replica))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
