"""Ragged lists of catalogue rows as flat arrays: watch histories, candidates, exclusions.

Shape legend: B lists in a batch, N rows in all lists together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.float32, np.int64)

Rows = NDArray[np.int32]
Offsets = NDArray[np.int64]
Weights = NDArray[np.float32]
Timestamps = NDArray[np.int64]

NO_ROWS: Rows = np.empty(0, dtype=np.int32)
NO_ROWS.flags.writeable = False
# The weight of a watch whose weight is unknown, and the time of one whose time is unknown.
UNKNOWN_WEIGHT = np.float32(np.nan)
UNKNOWN_TIME = np.iinfo(np.int64).min
# One watch of 3e38 seconds would outweigh all others of a log. Milliseconds taken for seconds are found, too.
LONGEST_WATCH_SECONDS = 7 * 86_400


# Prepared once and read-only: the gateway needs them for every request without weights or times.
_UNKNOWN_WEIGHTS = np.full(1024, UNKNOWN_WEIGHT)
_UNKNOWN_TIMES = np.full(1024, UNKNOWN_TIME)
_UNKNOWN_WEIGHTS.flags.writeable = _UNKNOWN_TIMES.flags.writeable = False


@dataclass(frozen=True, eq=False)
class RaggedRows:
    """B lists of catalogue rows, stored one after the other.

    `rows` is int32 [N], `offsets` int64 [B + 1], starting at 0 and never falling; list i is
    `rows[offsets[i]:offsets[i + 1]]`. A watch history is ordered oldest first.
    """

    rows: Rows
    offsets: Offsets

    @classmethod
    def from_lengths(cls, rows: Rows, lengths: NDArray[np.integer]) -> Self:
        """Build from rows [N] and the length of each list [B].

        Raises ValueError where a length is negative or the lengths do not sum to N.
        """
        if lengths.size and int(lengths.min()) < 0:
            position = int(np.argmax(lengths < 0))
            raise ValueError(f"lengths[{position}] is {int(lengths[position])}: a length cannot be negative")
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        if offsets[-1] != len(rows):
            raise ValueError(f"lengths sum to {int(offsets[-1])}, but there are {len(rows)} rows")
        return cls(rows, offsets)

    @classmethod
    def from_lists(cls, lists: Iterable[Sequence[int] | Rows]) -> Self:
        """Build from one sequence of rows a list."""
        arrays = [np.asarray(rows, dtype=np.int32) for rows in lists]
        lengths = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        return cls.from_lengths(np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int32), lengths)

    @classmethod
    def empty(cls, count: int) -> Self:
        """`count` lists without rows."""
        return cls.from_lengths(np.empty(0, dtype=np.int32), np.zeros(count, dtype=np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence["RaggedRows"]) -> Self:
        """All lists of all parts, in order."""
        return cls.from_lengths(
            np.concatenate([part.rows for part in parts]), np.concatenate([part.lengths for part in parts])
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> Rows:
        return self.rows[self.offsets[position] : self.offsets[position + 1]]

    @property
    def lengths(self) -> Offsets:
        """The length of each list, int64 [B]."""
        # np.diff takes ten times as long for the few lists of a request.
        return self.offsets[1:] - self.offsets[:-1]

    def slice(self, start: int, stop: int) -> "RaggedRows":
        """Lists start..stop without copying their rows."""
        offsets = self.offsets[start : stop + 1]
        return RaggedRows(self.rows[offsets[0] : offsets[-1]], offsets - offsets[0])

    def last(self, limit: int | None) -> Self:
        """Keep the last `limit` rows of each list, the most recent watches of a history; None keeps all."""
        lengths = self.lengths
        if limit is None or int(lengths.max(initial=0)) <= limit:
            return self
        return self.take(self.offsets[1:] - np.minimum(lengths, limit), np.minimum(lengths, limit))

    def take(self, begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> Self:
        """Copy stretches of `rows`: list b is `rows[begins[b]:begins[b] + lengths[b]]`."""
        return self.from_lengths(self.rows[stretches(begins, lengths)], lengths)

    def check_rows(self, item_count: int, name: str) -> None:
        """Raise ValueError, naming the first offender, unless every row lies in [0, item_count)."""
        # One unsigned comparison sees negative rows too: they wrap to the top of the range.
        outside = self.rows.view(np.uint32) >= np.uint32(item_count)
        if outside.any():
            position = int(np.argmax(outside))
            list_position = int(np.searchsorted(self.offsets, position, side="right")) - 1
            within = position - int(self.offsets[list_position])
            raise ValueError(
                f"{name}[{list_position}][{within}] is row {int(self.rows[position])}: rows lie in [0, {item_count})"
            )


@dataclass(frozen=True, eq=False)
class WatchHistories(RaggedRows):
    """Watch histories, oldest first, with what is known of each watch.

    `weights`, float32 [N], says how much a watch counts (a rating, seconds watched); UNKNOWN_WEIGHT where that is
    unknown. `timestamps`, int64 [N], are seconds since 1970; UNKNOWN_TIME where that is unknown.
    """

    weights: Weights
    timestamps: Timestamps

    @classmethod
    def from_lengths(
        cls,
        rows: Rows,
        lengths: NDArray[np.integer],
        weights: Weights | None = None,
        timestamps: Timestamps | None = None,
    ) -> Self:
        """Build from rows [N] and the length of each list [B]. None means unknown for every watch.

        Raises ValueError where a length is negative or the lengths do not sum to N.
        """
        lists = RaggedRows.from_lengths(rows, lengths)
        return cls(
            lists.rows,
            lists.offsets,
            np.full(len(rows), UNKNOWN_WEIGHT) if weights is None else weights,
            np.full(len(rows), UNKNOWN_TIME) if timestamps is None else timestamps,
        )

    @classmethod
    def of_one(cls, rows: Rows, weights: Weights | None = None, timestamps: Timestamps | None = None) -> Self:
        """One history. None means unknown for every watch."""
        return cls(
            rows,
            np.array([0, len(rows)]),
            _unknown(_UNKNOWN_WEIGHTS, len(rows)) if weights is None else weights,
            _unknown(_UNKNOWN_TIMES, len(rows)) if timestamps is None else timestamps,
        )

    @classmethod
    def of(cls, lists: RaggedRows) -> "WatchHistories":
        """The same lists, with unknown weights and times unless they have some."""
        return lists if isinstance(lists, WatchHistories) else cls.from_lengths(lists.rows, lists.lengths)

    @classmethod
    def concatenate(cls, parts: Sequence[RaggedRows]) -> Self:
        """All lists of all parts, in order."""
        histories = [WatchHistories.of(part) for part in parts]
        if len(histories) == 1:
            [alone] = histories
            return cls(alone.rows, alone.offsets, alone.weights, alone.timestamps)
        return cls.from_lengths(
            np.concatenate([part.rows for part in histories]),
            np.concatenate([part.lengths for part in histories]),
            np.concatenate([part.weights for part in histories]),
            np.concatenate([part.timestamps for part in histories]),
        )

    def slice(self, start: int, stop: int) -> "WatchHistories":
        """Lists start..stop without copying their watches."""
        offsets = self.offsets[start : stop + 1]
        kept = slice(offsets[0], offsets[-1])
        return WatchHistories(self.rows[kept], offsets - offsets[0], self.weights[kept], self.timestamps[kept])

    def take(self, begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> Self:
        """Copy stretches of the watches: history b is number `begins[b]` to `begins[b] + lengths[b]` of all N."""
        positions = stretches(begins, lengths)
        return self.from_lengths(self.rows[positions], lengths, self.weights[positions], self.timestamps[positions])


def stretches(begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """begins[b], begins[b] + 1, ... for lengths[b] elements, of all b, one after the other."""
    return np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))


def _unknown(prepared: NDArray[Number], count: int) -> NDArray[Number]:
    return prepared[:count] if count <= len(prepared) else np.full(count, prepared[0])
