"""Golden requests: a few real histories with the answers that the networks gave when the release was made.

Each service recomputes them before it offers a release, so that a broken file, device or library is found there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.numpy import load_file, save_file

from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories
from winnow.release.golden_filters import GoldenFilter, GoldenMismatchError

# Float32 on other hardware sums in another order; what is broken differs by far more.
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenRequests:
    """Histories, the best candidates of each with their logits, and the ranking score of each candidate.

    Each history was also searched within the rows that match `filter`, which is empty where the items have no
    attributes.
    """

    histories: WatchHistories
    contexts: RequestContexts
    candidates: RaggedRows
    candidate_scores: NDArray[np.float32]
    ranking_scores: NDArray[np.float32]
    filters: Sequence[GoldenFilter]
    filter: str
    filtered_candidates: RaggedRows
    filtered_scores: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write all arrays into one safetensors file."""
        save_file(
            {
                "history_rows": self.histories.rows,
                "history_lengths": self.histories.lengths,
                "history_weights": self.histories.weights,
                "history_timestamps": self.histories.timestamps,
                "request_times": self.contexts.times,
                "unclicked_rows": self.contexts.unclicked.rows,
                "unclicked_lengths": self.contexts.unclicked.lengths,
                "candidate_rows": self.candidates.rows,
                "candidate_lengths": self.candidates.lengths,
                "candidate_scores": self.candidate_scores,
                "ranking_scores": self.ranking_scores,
                "filtered_rows": self.filtered_candidates.rows,
                "filtered_lengths": self.filtered_candidates.lengths,
                "filtered_scores": self.filtered_scores,
                "filters": np.frombuffer(_FILTERS.dump_json(self._stored_filters()), dtype=np.uint8),
            },
            path,
        )

    def _stored_filters(self) -> "_StoredFilters":
        return _StoredFilters(filter=self.filter, filters=list(self.filters))

    @classmethod
    def load(cls, path: Path, item_count: int) -> "GoldenRequests":
        """Read what `save` wrote. Raises KeyError or ValueError where the file is something else."""
        tensors = load_file(path)
        histories = WatchHistories.from_lengths(
            tensors["history_rows"],
            tensors["history_lengths"],
            tensors["history_weights"],
            tensors["history_timestamps"],
        )
        unclicked = RaggedRows.from_lengths(tensors["unclicked_rows"], tensors["unclicked_lengths"])
        candidates = RaggedRows.from_lengths(tensors["candidate_rows"], tensors["candidate_lengths"])
        filtered = RaggedRows.from_lengths(tensors["filtered_rows"], tensors["filtered_lengths"])
        lists_by_name = {
            "histories": histories,
            "unclicked": unclicked,
            "candidates": candidates,
            "filtered candidates": filtered,
        }
        for name, lists in lists_by_name.items():
            lists.check_rows(item_count, name)
        stored = _FILTERS.validate_json(tensors["filters"].tobytes())
        return cls(
            histories=histories,
            contexts=RequestContexts(tensors["request_times"], unclicked),
            candidates=candidates,
            candidate_scores=tensors["candidate_scores"],
            ranking_scores=tensors["ranking_scores"],
            filters=stored.filters,
            filter=stored.filter,
            filtered_candidates=filtered,
            filtered_scores=tensors["filtered_scores"],
        )


@dataclass(frozen=True, kw_only=True)
class _StoredFilters:
    filter: str
    filters: list[GoldenFilter]


_FILTERS = TypeAdapter(_StoredFilters)


def check_scores(
    stage: str, expected: NDArray[np.float32], found: NDArray[np.float32], tolerance: float = TOLERANCE
) -> None:
    """Raise GoldenMismatchError unless the scores agree; scale-free, since logits have no fixed scale."""
    if expected.shape != found.shape:
        raise GoldenMismatchError(f"{stage}: {found.size} scores for golden requests that have {expected.size}")
    if not np.isfinite(found).all():
        raise GoldenMismatchError(f"{stage}: a golden request gives a score that is not finite")
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    worst = float(np.abs(expected - found).max(initial=0.0))
    if worst > tolerance * scale:
        raise GoldenMismatchError(f"{stage}: a golden score is off by {worst:.3g}, more than {tolerance * scale:.3g}")
