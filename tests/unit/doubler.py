"""What the tests of the batcher dispatch to."""

import asyncio
from collections.abc import Sequence

from winnow.batching import BatchingLimits

FOREVER = 1e9


class Doubler:
    """Doubles numbers, `seconds` a batch, and remembers the batches."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.batches: list[list[int]] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def dispatch(self, items: Sequence[int], deadline: float) -> list[int]:
        self.batches.append(list(items))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.seconds)
        self.in_flight -= 1
        return [2 * item for item in items]


def limits(weight: int = 8, in_flight: int = 1, queued: int = 1000) -> BatchingLimits:
    return BatchingLimits(max_batch_weight=weight, max_batches_in_flight=in_flight, max_queued_weight=queued)
