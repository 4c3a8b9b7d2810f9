"""Ragged lists on a device: the form in which training and serving feed the networks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories, stretches
from winnow.networks.watch_features import WatchFeatures


class PackedTensor(NamedTuple):
    """B lists of catalogue rows: `rows` integer [N], `offsets` integer [B + 1] of the same dtype.

    Histories may have `codes`, integer [N, F]: see WatchFeatures. None is UNKNOWN_CODE for every watch. For continuous
    features they may have the `timestamps` of the watches, int64 [N], and the RequestContexts: `request_times`, int64
    [B], and `unclicked`, B lists. None means that all of them are unknown.
    """

    rows: Tensor
    offsets: Tensor
    codes: Tensor | None = None
    timestamps: Tensor | None = None
    request_times: Tensor | None = None
    unclicked: "PackedTensor | None" = None

    @property
    def lengths(self) -> Tensor:
        """The length of each list, [B]."""
        return self.offsets.diff()

    def list_of_each_row(self) -> Tensor:
        """The position of the list that each row is in, [N]."""
        lists_B = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return lists_B.repeat_interleave(self.lengths, output_size=len(self.rows))


def pack(lists: RaggedRows, device: torch.device) -> PackedTensor:
    """Move lists to the device. Whoever got them from outside has checked their rows: see RaggedRows.check_rows."""
    # Converted by NumPy: each operation of torch takes some microseconds more where the caches are cold.
    offsets = lists.offsets.astype(np.int32)
    return PackedTensor(torch.from_numpy(lists.rows).to(device), torch.from_numpy(offsets).to(device))


def pack_histories(
    histories: RaggedRows, limit: int | None, features: WatchFeatures | None, device: torch.device
) -> PackedTensor:
    """Keep the `limit` latest watches of each history, encode their features, and move them to the device."""
    recent = histories.last(limit)
    packed = pack(recent, device)
    if features is None or not isinstance(histories, WatchHistories):
        return packed
    # Encoded before the cut: the gap of the earliest watch that is kept is the time since the watch before it.
    lengths = recent.lengths
    kept = stretches(histories.offsets[1:] - lengths, lengths)
    return packed._replace(codes=torch.from_numpy(features.codes(histories)[kept]).to(device))


def with_contexts(packed: PackedTensor, histories: RaggedRows, contexts: RequestContexts | None) -> PackedTensor:
    """Add timestamps and contexts to `packed`, which `pack_histories` made of the same histories."""
    device = packed.rows.device
    if isinstance(histories, WatchHistories):
        lengths = packed.lengths.cpu().numpy().astype(np.int64)
        kept = histories.timestamps[stretches(histories.offsets[1:] - lengths, lengths)]
        packed = packed._replace(timestamps=torch.from_numpy(kept).to(device))
    if contexts is None:
        return packed
    return packed._replace(
        request_times=torch.from_numpy(contexts.times).to(device),
        unclicked=pack(contexts.unclicked, device),
    )


def pack_tensors(lists: Sequence[Tensor], item_count: int, name: str) -> PackedTensor:
    """Pack integer tensors of rows, one per list, as the notebook passes them.

    Raises ValueError that names the first element that is not an integer vector or the first row outside the catalogue.
    """
    for position, rows in enumerate(lists):
        if rows.dim() != 1 or rows.is_floating_point() or rows.dtype == torch.bool:
            found = f"shape {tuple(rows.shape)} and dtype {rows.dtype}"
            raise ValueError(f"{name}[{position}] has {found}: it has to be a vector of integers")
        outside = (rows < 0) | (rows >= item_count)
        if bool(outside.any()):
            within = int(outside.nonzero()[0])
            raise ValueError(f"{name}[{position}][{within}] is row {int(rows[within])}: rows lie in [0, {item_count})")
    offsets = torch.tensor([0, *(len(rows) for rows in lists)]).cumsum(0)
    rows = torch.cat([rows.long() for rows in lists]) if lists else torch.empty(0, dtype=torch.long)
    return PackedTensor(rows, offsets.to(rows.device))


def average(table: Tensor, lists: PackedTensor) -> Tensor:
    """Average the table's rows over each list: [n_items, D] -> [B, D]; an empty list gives the zero vector."""
    return F.embedding_bag(lists.rows, table, lists.offsets, mode="mean", include_last_offset=True)
