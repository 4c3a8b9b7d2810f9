"""The candidates that a request brings along."""

from collections.abc import Sequence

from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.proposed import Inspection, Proposed
from winnow.serving.metrics import Metrics


class CallerSource:
    """Takes part in the requests that have candidates of their own."""

    name = "caller"

    def __init__(self, catalogue: ServedCatalogue, metrics: Metrics) -> None:
        self._inspection = Inspection(self.name, catalogue, metrics)

    async def propose(self, requests: Sequence[CandidateRequest], deadline: float) -> Sequence[Proposed | None]:
        """See Source.propose."""
        return [
            None if request.own_candidates is None else self._inspection.admit(request, *request.own_candidates)
            for request in requests
        ]
