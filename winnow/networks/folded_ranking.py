"""The ranking network as it is served: what does not depend on the request is computed once per release.

Shape legend: B users, N candidates of all users together, I items, D width of the first layer, C candidates of a block.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.networks.folded_history import FoldedHistory, FoldedUserVectors
from winnow.networks.options import Arithmetic
from winnow.networks.packed import PackedTensor
from winnow.networks.ranking import DeepRankingModel

# Numbers computed at once: 256 x 1024 float32 are 1 MiB, the second-level cache of a core, so all passes over the first
# layer's output stay in it. A GPU needs larger blocks to be busy.
BLOCK_NUMBERS_CPU = 256 * 1024
BLOCK_NUMBERS_GPU = 256 * BLOCK_NUMBERS_CPU
# oneDNN on weights in its own order, with ReLU in the same pass, is a sixth faster than F.linear in float32 and a third
# in bfloat16, but takes some 20 microseconds a call: it pays from this many weights on.
SMALLEST_REORDERED_LAYER = 64 * 1024
# Items whose halves are computed at once to fill the table.
TABLE_BLOCK_ITEMS = 16_384


class FoldedRanking:
    """Scores like the DeepRankingModel that it is built from, in fewer operations and, with a table, in half the time.

    The first layer is linear in [user; item], so its output is the sum of a user's half, computed once per request,
    and an item's half: looked up in a table of the whole catalogue, or computed where there is none. `arithmetic` is
    that of the products for each candidate, except for the last layer, which is always float32, so that close scores
    stay apart.

    On a CPU, FoldedHistory summarises the histories, for the candidate network inside as well.
    """

    def __init__(self, network: DeepRankingModel, table_ID: Tensor | None, arithmetic: Arithmetic = "float32") -> None:
        """`table_ID` is what `item_half_table` returned for this network."""
        self._network = network
        self._table_ID = table_ID
        self._dtype = getattr(torch, arithmetic) if network.tower else torch.float32
        on_cpu = network.embedding.weight.device.type == "cpu"
        self._block_rows = (BLOCK_NUMBERS_CPU if on_cpu else BLOCK_NUMBERS_GPU) // network.first_layer_width
        # Where nothing but the user's half is added to it, that is the bias of a product for each query.
        self._user_is_bias = table_ID is None and bool(network.tower) and network.features is None
        self._first_layer = _product(network.item_weights.to(self._dtype), self._block_rows, relu=self._user_is_bias)
        self._layers = [
            _product(layer.get_parameter("weight").to(self._dtype), self._block_rows, relu=True)
            for layer in network.tower[1:]
        ]
        self._history = FoldedHistory(network.embedding.weight, network.bags) if on_cpu else None
        self._matching_users: FoldedUserVectors | None = None
        self._matching_items_IH: Tensor | None = None
        if on_cpu and network.matching is not None and network.matching.adds_logit:
            self._matching_users = FoldedUserVectors(network.matching.network)
            self._matching_items_IH = network.matching.network.item_vectors_IH

    def logits(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """See DeepRankingModel.logits."""
        network = self._network
        if self._history is None:
            user_BD = network.user_halves(histories)
        else:
            user_BD = network.user_halves_of_summaries(self._history.summaries(histories))
        columns_NC = network.feature_columns(histories, candidates)
        offsets = candidates.offsets.tolist()
        logits = [self._block(user_BD, columns_NC, candidates.rows, offsets, *block) for block in self._blocks(offsets)]
        logits_N = logits[0] if len(logits) == 1 else torch.cat([*logits, user_BD.new_empty(0)])
        return network.with_matching(logits_N, histories, candidates, self._matching(histories, candidates, offsets))

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
        rows_C = rows_N[start : offsets[stop]]
        within = [(query, offsets[query] - start, offsets[query + 1] - start) for query in range(first, stop)]
        if self._user_is_bias:
            item_CE = self._network.embedding.weight.index_select(0, rows_C).to(self._dtype)
            parts = [self._first_layer(item_CE[begin:end], user_BD[query]) for query, begin, end in within]
            hidden = parts[0] if len(parts) == 1 else torch.cat(parts)
        else:
            hidden_CD = self._item_halves(rows_C)
            if self._network.features is not None and columns_NC is not None:
                hidden_CD += self._network.features(columns_NC[start : offsets[stop]])
            for query, begin, end in within:
                hidden_CD[begin:end] += user_BD[query]
            if not self._network.tower:
                return self._network.above_first_layer(hidden_CD)
            hidden = hidden_CD.relu_().to(self._dtype)
        for layer in self._layers:
            hidden = layer(hidden, None)
        logits_C: Tensor = self._network.output(hidden.float()).squeeze(1)
        return logits_C

    def _item_halves(self, rows_C: Tensor) -> Tensor:
        """W_item v of each candidate, float32 [C, D]."""
        if self._table_ID is not None:
            return self._table_ID.index_select(0, rows_C).float()
        item_CE = self._network.embedding.weight.index_select(0, rows_C)
        return self._first_layer(item_CE.to(self._dtype), None).float()

    def _matching(self, histories: PackedTensor, candidates: PackedTensor, offsets: list[int]) -> Tensor | None:
        """The candidate network's logit of each candidate, [N]; None where Matching computes it itself, if at all."""
        if self._matching_users is None or self._matching_items_IH is None:
            return None
        matching_N = self._matching_items_IH.new_empty(len(candidates.rows))
        for user_H, (start, stop) in zip(self._matching_users(histories), pairwise(offsets), strict=True):
            items_CH = self._matching_items_IH.index_select(0, candidates.rows[start:stop])
            torch.mv(items_CH, user_H, out=matching_N[start:stop])
        return matching_N


def _product(weight: Tensor, rows: int, *, relu: bool) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return the product with `weight` of inputs of about so many rows, plus a float32 bias, with or without ReLU."""
    if weight.numel() >= SMALLEST_REORDERED_LAYER and _reorders(weight):
        # What torch's own compiler calls for this.
        reordered = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        after = "relu" if relu else "none"
        return lambda inputs, bias: torch.ops.mkldnn._linear_pointwise(inputs, reordered, bias, after, [], "")

    def product(inputs: Tensor, bias: Tensor | None) -> Tensor:
        outputs = F.linear(inputs, weight, None if bias is None else bias.to(weight.dtype))
        return outputs.relu_() if relu else outputs

    return product


def _reorders(weight: Tensor) -> bool:
    """Whether oneDNN has a product with such a weight."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return weight.dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def gains_from_bfloat16(widths: Sequence[int]) -> bool:
    """Whether bfloat16 is faster: `widths` are those of the layers; narrow ones take as long to convert."""
    return any(before * after >= SMALLEST_REORDERED_LAYER for before, after in pairwise(widths))


def item_half_table(network: DeepRankingModel, budget_bytes: int, arithmetic: Arithmetic = "float32") -> Tensor | None:
    """Compute the items' halves of the first layer, [I, D], in `item_half_dtype`; None where none fits the budget.

    float16 keeps 11 bits of each number, which changes the fourth digit of the scores.
    """
    dtype = item_half_dtype(network.n_items, network.first_layer_width, budget_bytes, arithmetic)
    if dtype is None:
        return None
    table_ID = torch.empty(
        network.n_items, network.first_layer_width, dtype=dtype, device=network.embedding.weight.device
    )
    for start in range(0, network.n_items, TABLE_BLOCK_ITEMS):
        rows = slice(start, start + TABLE_BLOCK_ITEMS)
        table_ID[rows] = network.item_halves(rows)
    return table_ID


def item_half_dtype(
    item_count: int, width: int, budget_bytes: int, arithmetic: Arithmetic = "float32"
) -> torch.dtype | None:
    """Return the type of the table of item halves, [item_count, width], within the budget; None if none fits.

    It is float32, else float16; where the layers above are bfloat16, which keeps 8 bits, float16 at once.
    """
    for dtype in (torch.float32, torch.float16)[arithmetic == "bfloat16" :]:
        if item_count * width * dtype.itemsize <= budget_bytes:
            return dtype
    return None
