"""The candidate network: the best items for a watch history, from the candidate service."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gateway.answers import CandidateSource
from gateway.requests import CandidateRequest
from gateway.sources.gathered import Gathered
from gateway.sources.popular import PopularSource
from gateway.stage_calls import StageFailure
from gateway.stage_clients import CandidateStageClient
from gateway.steps import Steps
from winnow.history import RaggedRows, WatchHistories
from winnow.queries import RetrievalQuery


class NetworkSource:
    """Asks the candidate stage for many requests in one call; where it gives no answer, takes from the fallback."""

    def __init__(self, stage: CandidateStageClient, fallback: PopularSource, steps: Steps) -> None:
        self._stage = stage
        self._fallback = fallback
        self._steps = steps

    async def gather(self, requests: Sequence[CandidateRequest], deadline: float) -> list[Gathered]:
        """Return the candidates of each request; the network's, or the fallback's with the failure as the reason."""
        query = RetrievalQuery(
            histories=WatchHistories.concatenate([request.history for request in requests]),
            counts=np.array([request.candidate_count for request in requests], dtype=np.int32),
            exclusions=RaggedRows.from_lists([request.excluded for request in requests]),
            restrictions={at: request.restriction for at, request in enumerate(requests) if request.restriction},
        )

        def check(found: RaggedRows) -> None:
            for at in query.restrictions:
                permitted = requests[at].permitted
                if permitted is not None and not permitted.includes(found[at]).all():
                    raise ValueError("a candidate does not match the filter or is not on the list of allowed items")

        try:
            with self._steps("retrieve") as clock:
                (lists, scores), compute_microseconds = await self._stage.retrieve(query, deadline, check)
        except StageFailure as failure:
            return [self._fallback.gather(request, failure, clock.microseconds) for request in requests]
        return [
            Gathered(
                rows=lists.rows[start:stop],
                scores=scores[start:stop],
                source=CandidateSource.NETWORK,
                microseconds=clock.microseconds,
                compute_microseconds=compute_microseconds,
            )
            for start, stop in pairwise(lists.offsets.tolist())
        ]
