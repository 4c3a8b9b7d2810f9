"""ItemFacts as buffers of a network: they are saved with its weights and move to its device.

Shape legend: I items.
"""

import torch
from torch import Tensor, nn

from winnow.catalogue.item_facts import NO_GROUP, UNKNOWN_DURATION, ItemFacts
from winnow.history import UNKNOWN_TIME


class ItemTables(nn.Module):
    """What is known of each of I items; nothing, until `fill` or a release says so. For the dtypes see ItemFacts."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.authors: Tensor
        self.categories: Tensor
        self.uploaded: Tensor
        self.durations: Tensor
        self.popularity: Tensor
        self.register_buffer("authors", torch.full((n_items,), NO_GROUP, dtype=torch.int32))
        self.register_buffer("categories", torch.full((n_items,), NO_GROUP, dtype=torch.int32))
        self.register_buffer("uploaded", torch.full((n_items,), int(UNKNOWN_TIME), dtype=torch.int64))
        self.register_buffer("durations", torch.full((n_items,), float(UNKNOWN_DURATION)))
        self.register_buffer("popularity", torch.zeros(n_items))

    def fill(self, facts: ItemFacts) -> None:
        """Set what is known of the items."""
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.from_numpy(getattr(facts, name)))
