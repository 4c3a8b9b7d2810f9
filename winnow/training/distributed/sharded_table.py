"""A table of which each process has some rows. Looking rows up asks the processes that have them.

Shape legend: U different rows, E width of a row, R rows that other processes ask for.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.training.distributed.processes import Processes
from winnow.training.distributed.table_layout import TableLayout

# Numbers in a block of rows that are drawn at once.
BLOCK_NUMBERS = 2**22


class ShardedTable(nn.Embedding):
    """The rows of one process, in the order of the layout; `weight` is float [own rows, E].

    Looking up is collective. Its gradient is sparse, goes back to the processes that have the rows, and is the mean
    over all processes, as that of DistributedDataParallel.
    """

    def __init__(self, own_rows: Tensor, layout: TableLayout, processes: Processes) -> None:
        super().__init__(len(own_rows), own_rows.shape[1], _weight=own_rows)
        self._layout = layout
        self._processes = processes

    def forward(self, rows: Tensor) -> Tensor:
        """Return the vectors of rows, integer of any shape -> [..., E]."""
        vectors_UE, places = self.distinct(rows)
        return F.embedding(places, vectors_UE)

    def distinct(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors of the different ones among the rows, [U, E], and which of them each row is."""
        distinct_U, places = torch.unique(rows, return_inverse=True)
        vectors_UE: Tensor = _Lookup.apply(self.weight, distinct_U, self._layout, self._processes)  # type: ignore[no-untyped-call]
        return vectors_UE, places


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows_U: Tensor, layout: TableLayout, processes: Processes) -> Tensor:
        positions_U, order = layout.positions(rows_U).sort()
        counts = torch.bincount(positions_U // layout.stretch, minlength=processes.count)
        ones = [1] * processes.count
        counts_back = processes.exchange(counts, ones, ones).tolist()
        asked_R = processes.exchange(positions_U, counts.tolist(), counts_back) - layout.own_start
        vectors_UE = processes.exchange(weight[asked_R], counts_back, counts.tolist())
        ctx.save_for_backward(asked_R, order)
        ctx.sent = counts.tolist(), counts_back, weight.shape, processes
        # Back into the order of the rows.
        return torch.empty_like(vectors_UE).index_copy_(0, order, vectors_UE)

    @staticmethod
    def backward(ctx: Any, gradient_UE: Tensor) -> tuple[Tensor, None, None, None]:
        asked_R, order = ctx.saved_tensors
        counts, counts_back, shape, processes = ctx.sent
        gradient_RE = processes.exchange(gradient_UE[order], counts, counts_back) / processes.count
        return torch.sparse_coo_tensor(asked_R[None], gradient_RE, shape, check_invariants=False), None, None, None


def draw_own_rows(build_table: Callable[[int], nn.Embedding | nn.Linear], width: int, layout: TableLayout) -> Tensor:
    """Return the rows of this process, [own rows, width], of the table that would be drawn at once.

    `build_table` draws a table of some rows. Every process draws all rows, block by block, and keeps its own, so that
    tables do not depend on how many processes there are.
    """
    own_rows, own_order = layout.own_rows.sort()
    own = torch.empty(len(own_rows), width)
    # Draws of a multiple of 16 numbers continue each other; the last, smaller block is drawn with the one before it.
    block = max(16, BLOCK_NUMBERS // width // 16 * 16)
    starts = list(range(0, max(layout.item_count - block, 1), block))
    for start, stop in zip(starts, [*starts[1:], layout.item_count], strict=True):
        drawn = build_table(stop - start).weight.detach()
        begin, end = torch.searchsorted(own_rows, torch.tensor([start, stop])).tolist()
        own[own_order[begin:end]] = drawn[own_rows[begin:end] - start]
    return own
