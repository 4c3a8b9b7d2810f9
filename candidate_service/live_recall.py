"""Live recall: some requests are searched exactly as well, after their answer, to see what the index has missed."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import structlog
import torch

from winnow.history import Rows
from winnow.queries import Candidates, RetrievalQuery
from winnow.serving.metrics import Metrics
from winnow.serving.priority import give_way_to_serving

_log = structlog.get_logger(__name__)

RECALL_DEPTH = 200


class ExactRetriever(Protocol):
    """What answered the query, and can answer it exactly."""

    @property
    def exact(self) -> bool:
        """Whether its answers are exact anyway."""

    def retrieve_exactly(self, query: RetrievalQuery) -> Candidates:
        """Answer by a full scan; called from another thread."""


class LiveRecall:
    """Measures `winnow_live_recall_at_200`. `consider` and `close` are called on the event loop.

    One query at a time is searched, in a thread of low priority; what is sampled meanwhile is dropped and counted.
    Requests for fewer than 200 candidates have no recall at 200 and are not sampled, nor are those with a list of
    allowed items: every index searches these exactly.
    """

    def __init__(self, share: float, metrics: Metrics, generator: np.random.Generator | None = None) -> None:
        """Sample this share of the requests, from 0 to 1."""
        self._share = share
        self._observe = metrics.live_recall_at_200.observe
        self._drop = metrics.live_recall_dropped.inc
        self._generator = np.random.default_rng() if generator is None else generator
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live-recall", initializer=_begin)
        self._searching: Future[None] | None = None

    def consider(self, retriever: ExactRetriever, query: RetrievalQuery, answer: Candidates) -> None:
        """Sample the requests of a call, whose answer is there, and search one of them exactly."""
        if retriever.exact:
            return
        sampled = np.flatnonzero((query.counts >= RECALL_DEPTH) & (self._generator.random(len(query)) < self._share))
        positions = [
            position
            for position in sampled.tolist()
            if (restriction := query.restrictions.get(position)) is None or restriction.allowed is None
        ]
        if not positions:
            return
        if self._searching is not None and not self._searching.done():
            self._drop(len(positions))
            return
        self._drop(len(positions) - 1)
        position = positions[int(self._generator.integers(len(positions)))]
        self._searching = self._thread.submit(
            self._measure, retriever, query.only(position), answer.rows[position][:RECALL_DEPTH]
        )

    def close(self) -> None:
        """End the thread, without waiting for a search."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _measure(self, retriever: ExactRetriever, query: RetrievalQuery, found: Rows) -> None:
        try:
            best = retriever.retrieve_exactly(query).rows[0][:RECALL_DEPTH]
        except Exception:
            # Nobody waits for this thread's result.
            _log.exception("live recall could not be measured")
            return
        if len(best):
            self._observe(float(np.isin(best, found).mean()))


def _begin() -> None:
    give_way_to_serving()
    # A setting of the calling thread: without it, the search would take all cores.
    torch.set_num_threads(1)
