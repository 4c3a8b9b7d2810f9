"""A stage of known capacity: `python -m tests.faults.paced_stage PORT GOOD_REPLICA`.

It passes calls on to a good replica, one after the other, and takes its time for each: about as long as the stages of
the benchmark's preset `paper` compute. So its capacity does not depend on the machine or on what else runs there.
"""

import asyncio
import sys
from typing import Any

from tests.faults.faulty_stage import FaultyStage, passed_on, serve
from winnow.v1 import candidate_pb2, ranking_pb2

SECONDS_PER_CALL = 0.002
SECONDS_PER_RETRIEVAL = 0.003
SECONDS_PER_RANKING = 0.005
"""So the ranking stage does almost 200 queries a second."""


class PacedStage(FaultyStage):
    """Both stages."""

    def __init__(self, good_replica: str) -> None:
        super().__init__("paced", good_replica)
        self._free = asyncio.Lock()

    async def RetrieveCandidates(self, request: candidate_pb2.RetrieveCandidatesRequest, context: Any) -> Any:
        await self._compute(len(request.histories.lengths) // 4, SECONDS_PER_RETRIEVAL)
        return await passed_on(self.good_candidates.RetrieveCandidates, request, context)

    async def RankCandidates(self, request: ranking_pb2.RankCandidatesRequest, context: Any) -> Any:
        await self._compute(len(request.histories.lengths) // 4, SECONDS_PER_RANKING)
        return await passed_on(self.good_ranking.RankCandidates, request, context)

    async def _compute(self, query_count: int, seconds_per_query: float) -> None:
        if query_count:
            async with self._free:
                await asyncio.sleep(SECONDS_PER_CALL + seconds_per_query * query_count)


async def main(port: int, good_replica: str) -> None:
    await serve(port, PacedStage(good_replica))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
