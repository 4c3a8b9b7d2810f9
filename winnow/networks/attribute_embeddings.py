"""Embeddings of what is known of every item besides its identity, such as its genres or its author.

Shape legend: I items, N items that are looked up, P values per item, A attributes, D attribute_dim.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.catalogue.item_facts import NO_VALUE
from winnow.networks.options import CandidateOptions


class AttributeEmbeddings(nn.Module):
    """For each attribute, the average embedding of the item's values; all attributes concatenated.

    A watch is embedded as [item embedding; attribute embeddings], so the history bags average both. The result is
    linear in these embeddings, too. An item without a value has the zero vector for that attribute.
    """

    def __init__(self, n_items: int, options: CandidateOptions) -> None:
        """Draw the embeddings. Which values an item has comes from `fill`, or from a release."""
        super().__init__()
        self.vectors = nn.ModuleList(
            nn.Embedding(shape.value_count + 1, options.attribute_dim, padding_idx=NO_VALUE)
            for shape in options.attributes
        )
        for number, shape in enumerate(options.attributes):
            self.register_buffer(f"values_{number}", torch.zeros(n_items, shape.values_per_item, dtype=torch.int32))
        with torch.no_grad():
            for vectors in self.vectors:
                vectors.get_parameter("weight").mul_(options.embedding_std)

    def fill(self, values: Sequence[Tensor]) -> None:
        """Set the values of every item: one integer [I, P] per attribute, counted from 1, padded with NO_VALUE."""
        for number, values_IP in enumerate(values):
            self.get_buffer(f"values_{number}").copy_(values_IP)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the embeddings of items, rows [N] -> float [N, A * D]."""
        embeddings = []
        for number, vectors in enumerate(self.vectors):
            values_NP = self.get_buffer(f"values_{number}")[rows]
            weights = vectors.get_parameter("weight")
            embeddings.append(F.embedding_bag(values_NP, weights, mode="mean", padding_idx=NO_VALUE))
        return torch.cat(embeddings, dim=1)
