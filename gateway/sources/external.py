"""Items that a server of the operator's proposes."""

from collections.abc import Sequence
from typing import Protocol

from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import ExternalSourceSettings
from gateway.sources.proposed import Inspection, Proposed, numbered
from winnow.serving.metrics import Metrics


class ProposingClient(Protocol):
    """See ExternalSourceClient."""

    settings: ExternalSourceSettings

    async def propose(self, histories: Sequence[Sequence[str]], deadline: float) -> list[list[str]] | None:
        """Return item ids for each history, best first; None where there is no usable answer in time."""


class ExternalSource:
    """Turns what the server proposes into rows of one release. Where it gives no usable answer, it proposes nothing."""

    def __init__(self, client: ProposingClient, catalogue: ServedCatalogue, metrics: Metrics) -> None:
        self.name = client.settings.name
        self._client = client
        self._vocabulary = catalogue.vocabulary
        self._inspection = Inspection(self.name, catalogue, metrics)

    async def propose(self, requests: Sequence[CandidateRequest], deadline: float) -> Sequence[Proposed | None]:
        """See Source.propose."""
        lists = await self._client.propose([self._latest_watches(request) for request in requests], deadline)
        if lists is None:
            return [Proposed(self.name, request.history.rows[:0], numbered(0)) for request in requests]
        return [self._admit(request, item_ids) for request, item_ids in zip(requests, lists, strict=True)]

    def _latest_watches(self, request: CandidateRequest) -> list[str]:
        rows = request.history.rows
        return self._vocabulary.item_ids(rows[max(0, len(rows) - self._client.settings.history_count) :].tolist())

    def _admit(self, request: CandidateRequest, item_ids: Sequence[str]) -> Proposed:
        rows, places = self._vocabulary.rows_and_places(item_ids)
        self._inspection.count_unknown(len(item_ids) - len(rows))
        return self._inspection.admit(request, rows, places)
