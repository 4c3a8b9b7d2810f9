"""A ranking replica that hangs for one release: `python -m tests.faults.hanging_release PORT GOOD_REPLICA RELEASE_ID`.

It passes every other call on to a good replica, and empty calls for the release too: it says that it holds it.
"""

import asyncio
import sys
from typing import Any

from tests.faults.faulty_stage import FaultyStage, serve
from winnow.v1 import ranking_pb2


class HangingRelease(FaultyStage):
    """The ranking stage."""

    def __init__(self, good_replica: str, release_id: str) -> None:
        super().__init__("slow", good_replica)
        self._release_id = release_id

    async def RankCandidates(self, request: ranking_pb2.RankCandidatesRequest, context: Any) -> Any:
        self.bad = request.release_id == self._release_id
        return await super().RankCandidates(request, context)


async def main(port: int, good_replica: str, release_id: str) -> None:
    await serve(port, HangingRelease(good_replica, release_id))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
