"""Which process has which row of a table.

Rows are ordered by popularity, so neighbouring ones go to different processes: row r has the position r * a modulo the
number of items, with a near .618 of it, and each process has a stretch of positions. Positions do not depend on how
many processes there are, so that a checkpoint can be read by another number of them.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class TableLayout:
    """The rows of one process, number `rank` of `process_count`, of tables of `item_count` rows."""

    item_count: int
    rank: int
    process_count: int

    @cached_property
    def _factor(self) -> int:
        factor = max(1, round(self.item_count * GOLDEN_RATIO))
        while math.gcd(factor, self.item_count) != 1:
            factor += 1
        return factor

    @property
    def stretch(self) -> int:
        """How many positions a process has; the last processes may have fewer, or none. As torch.chunk cuts."""
        return -(-self.item_count // self.process_count)

    def positions(self, rows: Tensor) -> Tensor:
        """Return the position of each row, int64."""
        return rows.long() * self._factor % self.item_count

    def rows_of(self, rank: int) -> Tensor:
        """Return the rows of a process in the order in which it has them, int64."""
        begin = min(rank * self.stretch, self.item_count)
        positions = torch.arange(begin, min(begin + self.stretch, self.item_count))
        return positions * pow(self._factor, -1, self.item_count) % self.item_count

    @cached_property
    def own_rows(self) -> Tensor:
        """The rows of this process, int64, in the order in which it has them."""
        return self.rows_of(self.rank)

    @property
    def own_start(self) -> int:
        """The position of the first row of this process."""
        return min(self.rank * self.stretch, self.item_count)
