"""The rows of a log that cannot be used, where they are left out instead of being an error."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.logs.file_formats import FileContent

SHOWN_ROWS = 10


class SkippedRows:
    """Collects rows that cannot be used, and why, column by column."""

    def __init__(self, row_count: int) -> None:
        self._usable = np.ones(row_count, dtype=np.bool_)
        self._reasons: dict[int, str] = {}

    @property
    def usable(self) -> NDArray[np.bool_]:
        """The rows that are left."""
        return self._usable

    def add(self, rows: NDArray[np.integer], reasons: Sequence[str]) -> None:
        """Leave out rows, which rise; `reasons` are those of the first ones."""
        self._usable[rows] = False
        for row, reason in zip(rows.tolist(), reasons, strict=False):
            self._reasons.setdefault(row, reason)

    def first(self, content: FileContent) -> list[str]:
        """Say what is wrong with the first SHOWN_ROWS rows of the file that were left out."""
        rows = sorted(self._reasons)[:SHOWN_ROWS]
        found = [(place, self._reasons[row]) for place, row in zip(content.places(rows), rows, strict=True)]
        found += [(f"line {wrong.line}", wrong.reason) for wrong in content.malformed[:SHOWN_ROWS]]
        found.sort(key=lambda one: int(one[0].split()[1]))
        return [f"{place}: {reason}" for place, reason in found[:SHOWN_ROWS]]


@dataclass(frozen=True, kw_only=True)
class RowsRead:
    """What became of the rows of a log."""

    row_count: int
    """All rows of the file."""
    skipped_count: int = 0
    first_skipped: Sequence[str] = ()
    """Where the first of them are, and what is wrong with them."""
    repeated_count: int = 0
    """Rows with the user, the item and the time of an earlier one. They are used."""
    dropped_item_count: int = 0
    """Items that are too rare for the vocabulary."""
    dropped_row_count: int = 0
    """The rows of these items."""

    def and_then(self, later: "RowsRead") -> "RowsRead":
        """Return what became of these rows and of later ones, in the same file or another."""
        return RowsRead(
            row_count=self.row_count + later.row_count,
            skipped_count=self.skipped_count + later.skipped_count,
            first_skipped=[*self.first_skipped, *later.first_skipped][:SHOWN_ROWS],
            repeated_count=self.repeated_count + later.repeated_count,
        )

    def remarks(self) -> Iterator[str]:
        """Say what a person should know of it, line by line."""
        if self.skipped_count:
            yield f"Rows that cannot be read and are left out: {self.skipped_count:,} of {self.row_count:,}. The first:"
            yield from (f"  {row}" for row in self.first_skipped)
        if self.repeated_count:
            yield f"Rows that repeat the user, item and time of another: {self.repeated_count:,}. All of them count."
        if self.dropped_item_count:
            yield f"Rare items that are left out: {self.dropped_item_count:,}, with {self.dropped_row_count:,} watches."
