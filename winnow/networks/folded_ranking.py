"""The ranking network as it is served: what does not depend on the request is computed once per release.

Shape legend: B users, N candidates of all users together, I items, D width of the first layer, C candidates of a block.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.networks.packed import PackedTensor
from winnow.networks.ranking import DeepRankingModel

Arithmetic = Literal["float32", "bfloat16"]

# Numbers computed at once: 256 x 1024 float32 are 1 MiB, the second-level cache of a core, so all passes over the first
# layer's output stay in it. A GPU needs larger blocks to be busy.
BLOCK_NUMBERS_CPU = 256 * 1024
BLOCK_NUMBERS_GPU = 256 * BLOCK_NUMBERS_CPU
# Items whose halves are computed at once to fill the table.
TABLE_BLOCK_ITEMS = 16_384


class FoldedRanking:
    """Scores like the DeepRankingModel that it is built from, with about half the arithmetic.

    The first layer is linear in [user; item], so its output is the sum of a user's half, computed once per request,
    and an item's half, looked up in a table of the whole catalogue. `arithmetic` is that of the layers above, except
    for the last layer, which is always float32, so that close scores stay apart.
    """

    def __init__(self, network: DeepRankingModel, table_ID: Tensor, arithmetic: Arithmetic = "float32") -> None:
        """`table_ID` is what `item_half_table` returned for this network."""
        dtype = getattr(torch, arithmetic)
        self._network = network
        self._table_ID = table_ID
        self._weights = [layer.get_parameter("weight").to(dtype) for layer in network.tower[1:]]
        on_cpu = table_ID.device.type == "cpu"
        self._block_rows = (BLOCK_NUMBERS_CPU if on_cpu else BLOCK_NUMBERS_GPU) // table_ID.shape[1]
        self._dtype = dtype

    def logits(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """See DeepRankingModel.logits."""
        user_BD = self._network.user_halves(histories)
        columns_NC = self._network.feature_columns(histories, candidates)
        offsets = candidates.offsets.tolist()
        logits = [self._block(user_BD, columns_NC, candidates.rows, offsets, *block) for block in self._blocks(offsets)]
        logits_N = torch.cat([*logits, user_BD.new_empty(0)])
        return self._network.with_matching(logits_N, histories, candidates)

    def _blocks(self, offsets: list[int]) -> Iterator[tuple[int, int]]:
        """Cut the queries into runs: as many whole queries as a block holds, at least one."""
        first = 0
        for query in range(1, len(offsets)):
            last = query == len(offsets) - 1
            if last or offsets[query + 1] - offsets[first] > self._block_rows:
                yield first, query
                first = query

    def _block(
        self,
        user_BD: Tensor,
        columns_NC: Tensor | None,
        rows_N: Tensor,
        offsets: list[int],
        first: int,
        stop: int,
    ) -> Tensor:
        start = offsets[first]
        hidden_CD = self._table_ID.index_select(0, rows_N[start : offsets[stop]]).float()
        if self._network.features is not None and columns_NC is not None:
            hidden_CD += self._network.features(columns_NC[start : offsets[stop]])
        for query in range(first, stop):
            hidden_CD[offsets[query] - start : offsets[query + 1] - start] += user_BD[query]
        if not self._network.tower:
            return self._network.above_first_layer(hidden_CD)
        hidden = hidden_CD.relu_().to(self._dtype)
        for weight in self._weights:
            hidden = F.linear(hidden, weight).relu_()
        logits_C: Tensor = self._network.output(hidden.float()).squeeze(1)
        return logits_C


def item_half_table(network: DeepRankingModel, budget_bytes: int) -> Tensor | None:
    """Compute the items' halves of the first layer, [I, D]: float32 within the budget, else float16, else None.

    float16 keeps 11 bits of each number, which changes the fourth digit of the scores.
    """
    dtype = item_half_dtype(network.n_items, network.first_layer_width, budget_bytes)
    if dtype is None:
        return None
    table_ID = torch.empty(
        network.n_items, network.first_layer_width, dtype=dtype, device=network.embedding.weight.device
    )
    for start in range(0, network.n_items, TABLE_BLOCK_ITEMS):
        rows = slice(start, start + TABLE_BLOCK_ITEMS)
        table_ID[rows] = network.item_halves(rows)
    return table_ID


def item_half_dtype(item_count: int, width: int, budget_bytes: int) -> torch.dtype | None:
    """Return the type of the table of item halves, [item_count, width], within the budget; None if none fits."""
    for dtype in (torch.float32, torch.float16):
        if item_count * width * dtype.itemsize <= budget_bytes:
            return dtype
    return None
