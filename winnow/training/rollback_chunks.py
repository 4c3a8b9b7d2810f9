"""Next-watch examples by rollback: the history of each watch is what the same user had watched before it.

Paper, section 3.4: predicting a held-out watch from the watches on both sides leaks the future; rollback does not. All
examples of a user share one sequence, so it is cut into chunks of consecutive targets instead of being copied.

Shape legend: B chunks in a batch, C targets per chunk, L history_length, S = L + C watches per chunk with its context,
N watches of all histories, F features of a watch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows, WatchHistories
from winnow.logs.blocks import blocks_of_lengths, slices
from winnow.networks.watch_features import WatchFeatures


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkBatch:
    """Targets, and the watches before them.

    `rows`, int64 [B, S], has L watches of context and then the C targets, in time order; where `present`, bool [B, S],
    is unset there is no watch, and the row is 0. Target c of chunk b is `rows[b, L + c]`; it is an example where
    `labelled`, bool [B, C], is set. `history_lengths`, int64 [B, C], counts all watches before each target, also those
    beyond the context. `users`, int64 [B], says whose chunk it is. `targets`, int64 [B, C], is the position of each
    target among all N watches, 0 where there is none. `codes`, int64 [B, S, F], are those of WatchFeatures, if any.
    """

    rows: NDArray[np.int64]
    present: NDArray[np.bool_]
    history_lengths: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    codes: NDArray[np.int64] | None


class RollbackChunks:
    """All next-watch examples of a set of histories, one list per user, oldest first."""

    def __init__(
        self,
        histories: RaggedRows,
        *,
        chunk_length: int,
        history_length: int,
        features: WatchFeatures | None = None,
        targets: NDArray[np.bool_] | None = None,
    ) -> None:
        """Cut into chunks. `targets`, bool [N], says which watches may be examples; None is all of them."""
        self._histories = histories
        # Computed once: there may be millions.
        self._lengths = histories.lengths
        self._targets_N = np.ones(len(histories.rows), dtype=np.bool_) if targets is None else targets
        self._codes_NF = None if features is None else _codes(histories, features)
        self._chunk_length = chunk_length
        self._history_length = history_length
        counts = chunk_counts(self._lengths, chunk_length)
        self._users = np.repeat(np.arange(len(histories)), counts)
        firsts = np.cumsum(counts) - counts
        self._starts = (np.arange(len(self._users)) - np.repeat(firsts, counts)) * chunk_length

    def __len__(self) -> int:
        """The number of chunks."""
        return len(self._users)

    def batch(self, chunks: NDArray[np.int64]) -> ChunkBatch:
        """Gather the given chunks, int64 [B] of positions in [0, len(self))."""
        users = self._users[chunks]
        lengths = self._lengths[users, None]
        begins = self._histories.offsets[users, None]
        positions_BC = self._starts[chunks, None] + np.arange(self._chunk_length)
        positions_BS = self._starts[chunks, None] + np.arange(-self._history_length, self._chunk_length)
        present_BS = (positions_BS >= 0) & (positions_BS < lengths)
        at_BS = np.where(present_BS, begins + positions_BS, 0)
        rows_BS = np.where(present_BS, self._histories.rows[at_BS], 0)
        targets_BC = at_BS[:, self._history_length :]
        return ChunkBatch(
            rows=rows_BS.astype(np.int64),
            present=present_BS,
            history_lengths=positions_BC,
            labelled=(positions_BC > 0) & (positions_BC < lengths) & self._targets_N[targets_BC],
            users=users,
            targets=targets_BC,
            codes=None if self._codes_NF is None else self._codes_NF[at_BS].astype(np.int64),
        )

    def watched_before(self, chunks: ChunkBatch) -> RaggedRows:
        """Return the items that were watched before each example of a batch, each item once: one list per example."""
        chunk, _ = np.nonzero(chunks.labelled)
        distinct, distinct_before = self._distinct
        begins = distinct_before[self._histories.offsets[chunks.users[chunk]]]
        ends = distinct_before[chunks.targets[chunks.labelled]]
        return distinct.take(begins, ends - begins)

    @cached_property
    def _distinct(self) -> tuple[RaggedRows, NDArray[np.int64]]:
        """The first watch of each item by each user, and how many of these are before each watch, int64 [N + 1]."""
        first_N = _first_watches(self._histories)
        distinct = RaggedRows(self._histories.rows[first_N], np.array([0, first_N.sum()]))
        before = np.zeros(len(first_N) + 1, dtype=np.int64)
        np.cumsum(first_N, out=before[1:])
        return distinct, before


def _codes(histories: RaggedRows, features: WatchFeatures) -> NDArray[np.unsignedinteger]:
    """Return the codes of all watches, [N, F], in the smallest type that holds them: there may be many watches."""
    codes_NF = np.empty((len(histories.rows), len(features.sizes)), dtype=np.min_scalar_type(max(features.sizes)))
    for first, last in blocks_of_lengths(histories.lengths):
        codes_NF[histories.offsets[first] : histories.offsets[last]] = features.codes(histories.slice(first, last))
    return codes_NF


def chunk_counts(lengths: NDArray[np.int64], chunk_length: int) -> NDArray[np.int64]:
    """Return how many chunks histories of these lengths are cut into, int64 [B]."""
    # A list of a single watch has no target with a history.
    return np.where(lengths > 1, -(-lengths // chunk_length), 0)


def _first_watches(histories: RaggedRows) -> NDArray[np.bool_]:
    """Say of each watch whether it is its user's first one of the item, bool [N]."""
    first_N = np.ones(len(histories.rows), dtype=np.bool_)
    for first, last in blocks_of_lengths(histories.lengths):
        block = histories.slice(first, last)
        users = np.repeat(np.arange(len(block)), block.lengths)
        order = np.lexsort((block.rows, users))  # stable: equal pairs stay in time order
        users, rows = users[order], block.rows[order]
        repeats = order[1:][(users[1:] == users[:-1]) & (rows[1:] == rows[:-1])]
        first_N[repeats + histories.offsets[first]] = False
    return first_N


def time_span(training: WatchHistories) -> tuple[int, int]:
    """Return the times of the earliest and the latest watch, in seconds since 1970; 0 and 0 without watches."""
    times = training.timestamps
    return (int(times.min()), int(times.max())) if len(times) else (0, 0)


def example_ages(training: WatchHistories, span: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Return the age of each watch as a share of the log's time span, float32 [N]: 0 for the latest watch.

    All timestamps must be known; `span` is from the earliest to the latest watch of the log, None if these are all. The
    network is told the age of an example, so that it does not learn the average popularity over the whole span (paper,
    section 3.3).
    """
    earliest, latest = time_span(training) if span is None else span
    ages = np.empty(len(training.timestamps), dtype=np.float32)
    for block in slices(len(ages)):
        ages[block] = (latest - training.timestamps[block]) / max(latest - earliest, 1)
    return ages
