"""The most popular items of the release: for histories that say nothing, and where the network gives no answer."""

from gateway.answers import CandidateSource
from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.gathered import Gathered
from gateway.stage_calls import StageFailure


class PopularSource:
    """Answers from memory."""

    def __init__(self, catalogue: ServedCatalogue) -> None:
        self._catalogue = catalogue

    def gather(
        self, request: CandidateRequest, failure: StageFailure | None = None, microseconds: int | None = None
    ) -> Gathered:
        """Return popular items; `failure` says why the network gave none, `microseconds` how long it was waited for."""
        rows = self._catalogue.popular(request.candidate_count, request.excluded, request.permitted)
        return Gathered(
            rows=rows,
            scores=self._catalogue.popularity[rows],
            source=CandidateSource.POPULAR,
            failure=failure,
            microseconds=microseconds,
        )
