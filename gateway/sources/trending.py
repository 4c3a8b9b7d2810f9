"""Items that were watched more of late than usual, as the release lists them."""

from collections.abc import Sequence

from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.proposed import Inspection, Proposed
from winnow.serving.metrics import Metrics


class TrendingSource:
    """Answers from memory."""

    name = "trending"

    def __init__(self, catalogue: ServedCatalogue, count: int, metrics: Metrics) -> None:
        """Propose the first `count` of the release's trending rows that may be in an answer."""
        self._rows = catalogue.trending_rows
        self._count = count
        self._inspection = Inspection(self.name, catalogue, metrics)

    async def propose(self, requests: Sequence[CandidateRequest], deadline: float) -> Sequence[Proposed | None]:
        """See Source.propose."""
        return [self._inspection.first(request, self._rows, self._count) for request in requests]
