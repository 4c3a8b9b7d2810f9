"""What a source beside the network proposes for one request, as far as it may be in the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from winnow.history import Rows
from winnow.serving.metrics import Metrics

Places = NDArray[np.int32]

# Enough for most quotas at once, few enough to cost little.
BLOCK_ROWS = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Proposed:
    """Candidates of one source for one request, best first. `places`, int32, are those in the list of the source."""

    source: str
    rows: Rows
    places: Places


class Source(Protocol):
    """A candidate source beside the network. It may give fewer candidates than its quota, or none, and never fails."""

    name: str

    async def propose(self, requests: Sequence[CandidateRequest], deadline: float) -> Sequence[Proposed | None]:
        """Return candidates for each request by the deadline, event-loop time; None where it takes no part."""


class Inspection:
    """Drops candidates of a source that may not be in the answer, and counts what becomes of them all."""

    def __init__(self, source: str, catalogue: ServedCatalogue, metrics: Metrics) -> None:
        self._source = source
        self._permits = catalogue.permits
        used, unknown, excluded, filtered = (
            metrics.source_candidates.labels(source, outcome) for outcome in ("used", "unknown", "excluded", "filtered")
        )
        self._used, self.count_unknown, self._excluded, self._filtered = (
            used.inc,
            unknown.inc,
            excluded.inc,
            filtered.inc,
        )

    def admit(self, request: CandidateRequest, rows: Rows, places: Places) -> Proposed:
        """Return what may be in the answer, in the order given."""
        permitted = self._permits(rows, request.permitted)
        kept = permitted & ~np.isin(rows, request.excluded)
        permitted_count, kept_count = int(permitted.sum()), int(kept.sum())
        self._filtered(len(rows) - permitted_count)
        self._excluded(permitted_count - kept_count)
        self._used(kept_count)
        if kept_count < len(rows):
            rows, places = rows[kept], places[kept]
        return Proposed(self._source, rows, places)

    def first(self, request: CandidateRequest, rows: Rows, count: int) -> Proposed:
        """Return the first `count` rows that may be in the answer, with places from 1."""
        found: list[Rows] = [rows[:0]]
        missing = count
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            kept = self._permits(block, request.permitted) & ~np.isin(block, request.excluded)
            found.append(block[kept][:missing])
            missing -= len(found[-1])
            if not missing:
                break
        chosen = np.concatenate(found)
        self._used(len(chosen))
        return Proposed(self._source, chosen, numbered(len(chosen)))


def numbered(count: int) -> Places:
    """The places from 1 to `count`."""
    return np.arange(1, count + 1, dtype=np.int32)
