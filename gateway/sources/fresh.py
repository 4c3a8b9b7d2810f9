"""The newest items, by a timestamp attribute of the release."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.proposed import Inspection, Proposed
from winnow.catalogue.value_columns import MISSING_TIMESTAMP
from winnow.history import Rows
from winnow.serving.metrics import Metrics

# Enough to find some that match a filter. As many that are still to come are kept too: their time may come.
MOST_ROWS = 10_000
MICROSECONDS_PER_SECOND = 1_000_000

Clock = Callable[[], float]


class NewestRows:
    """The rows of a release whose moment has come, the newest first."""

    def __init__(self, moments: NDArray[np.int64], clock: Clock = time.time) -> None:
        """`moments`, by row, are in microseconds since 1970, MISSING_TIMESTAMP where there is none."""
        self._clock = clock
        known = np.flatnonzero(moments != MISSING_TIMESTAMP)
        order = known[np.argsort(-moments[known], kind="stable")]
        ages = -moments[order]
        now = self._first_past(ages)
        kept = slice(max(0, now - MOST_ROWS), now + MOST_ROWS)
        self._rows: Rows = order[kept].astype(np.int32)
        self._ages = ages[kept]
        """Ascending: the negative moments of the rows."""

    def rows(self) -> Rows:
        """Return them, int32; an item of the future is not new yet."""
        return self._rows[self._first_past(self._ages) :]

    def _first_past(self, ages: NDArray[np.int64]) -> int:
        return int(np.searchsorted(ages, -int(self._clock() * MICROSECONDS_PER_SECOND)))


class FreshSource:
    """Answers from memory."""

    name = "fresh"

    def __init__(self, newest: NewestRows, count: int, catalogue: ServedCatalogue, metrics: Metrics) -> None:
        """Propose the `count` newest rows that may be in an answer."""
        self._newest = newest
        self._count = count
        self._inspection = Inspection(self.name, catalogue, metrics)

    async def propose(self, requests: Sequence[CandidateRequest], deadline: float) -> Sequence[Proposed | None]:
        """See Source.propose."""
        rows = self._newest.rows()
        return [self._inspection.first(request, rows, self._count) for request in requests]
