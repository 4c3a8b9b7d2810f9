"""All sources beside the network, and the union of what they propose."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gateway.answers import CandidateSource, SourcePlaces
from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.caller import CallerSource
from gateway.sources.gathered import Gathered
from gateway.sources.proposed import Proposed, Source, numbered
from winnow.history import Rows
from winnow.serving.metrics import Metrics

Proposals = Sequence[Proposed]
"""What the sources that took part propose for one request, in a fixed order."""

_NAMES = {CandidateSource.NETWORK: "network", CandidateSource.POPULAR: "popular"}


class FurtherSources:
    """Asks every source at once."""

    def __init__(self, sources: Sequence[Source], catalogue: ServedCatalogue, metrics: Metrics) -> None:
        """Ask these for every request, and take the candidates that callers send."""
        self._sources = sources
        self._caller = CallerSource(catalogue, metrics)

    def ask(self, requests: Sequence[CandidateRequest], deadline: float) -> "asyncio.Task[list[Proposals]] | None":
        """Ask for candidates for each request, by the deadline (event-loop time); None where no source takes part."""
        sources = self._sources
        if any(request.own_candidates is not None for request in requests):
            sources = [*sources, self._caller]
        return asyncio.create_task(_ask(sources, requests, deadline)) if sources else None


async def _ask(sources: Sequence[Source], requests: Sequence[CandidateRequest], deadline: float) -> list[Proposals]:
    answers = await asyncio.gather(*(source.propose(requests, deadline) for source in sources))
    return [[proposed for proposed in of_one if proposed is not None] for of_one in zip(*answers, strict=True)]


def unite(gathered: Gathered, proposals: Proposals) -> Gathered:
    """Return all candidates of a request, each once; their scores are NaN where `gathered` does not have them.

    They are in the order of their relative place: whatever part of them is ranked, each source has its share of it.
    """
    own = Proposed(_NAMES[gathered.source], gathered.rows, numbered(len(gathered.rows)))
    lists = [own, *proposals]
    rows = np.concatenate([proposed.rows for proposed in lists])
    scores = np.full(len(rows), np.nan, dtype=np.float32)
    scores[: len(gathered.rows)] = gathered.scores
    depths = np.concatenate([(np.arange(len(proposed.rows)) + 0.5) / max(1, len(proposed.rows)) for proposed in lists])
    # The first of equal rows is the one of `gathered`, whose score is known; it moves to where its best place is.
    distinct, firsts, which = np.unique(rows, return_index=True, return_inverse=True)
    best_depths = np.full(len(distinct), np.inf)
    np.minimum.at(best_depths, which, depths)
    order = np.lexsort((firsts, best_depths))
    return replace(gathered, rows=distinct[order], scores=scores[firsts[order]], proposed=lists)


def places_of(rows: Rows, proposals: Proposals) -> list[SourcePlaces]:
    """Return where the sources have the rows of an answer."""
    found = []
    for proposed in proposals:
        equal = rows[:, np.newaxis] == proposed.rows
        positions = equal.argmax(axis=1) if len(proposed.rows) else np.zeros(len(rows), dtype=np.intp)
        places = np.append(proposed.places, np.int32(0))
        positions[~equal.any(axis=1)] = len(proposed.rows)
        found.append(SourcePlaces(proposed.source, places[positions]))
    return found
