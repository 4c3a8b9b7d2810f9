"""Items that were watched more of late than usual, as the release lists them."""

from collections.abc import Sequence

from gateway.requests import CandidateRequest
from gateway.sources.proposed import Inspection, Proposed
from winnow.history import Rows
from winnow.serving.metrics import Metrics


class TrendingSource:
    """Answers from memory."""

    name = "trending"

    def __init__(self, rows: Rows, count: int, metrics: Metrics) -> None:
        """Propose the first `count` of these rows that may be in an answer."""
        self._rows = rows
        self._count = count
        self._inspection = Inspection(self.name, metrics)

    async def propose(self, requests: Sequence[CandidateRequest], deadline: float) -> Sequence[Proposed | None]:
        """See Source.propose."""
        return [self._inspection.first(request, self._rows, self._count) for request in requests]
