"""The part of an item's vectors that follows from its attributes: all there is of an item that came after the training.

Shape legend: I items, N items that are looked up, P values per item, W width of a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.catalogue.item_facts import NO_VALUE
from winnow.networks.options import AttributeShape, CandidateConfig


class AttributePart(nn.Module):
    """One vector for all items, plus for each attribute the average vector of the item's values.

    A missing value adds nothing: an item of which nothing is known has the vector of all.
    """

    def __init__(self, shapes: Sequence[AttributeShape], width: int) -> None:
        """Begin with zeros: nothing is drawn."""
        super().__init__()
        self.base = nn.Parameter(torch.zeros(width))
        self.vectors = nn.ParameterList(torch.zeros(shape.value_count + 1, width) for shape in shapes)

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        """Return the part of each item, [N, W]: `values` is one integer [N, P] per attribute, from 1, padded with 0."""
        parts = [
            F.embedding_bag(values_NP, vectors, mode="mean", padding_idx=NO_VALUE)
            for values_NP, vectors in zip(values, self.vectors, strict=True)
        ]
        return torch.stack(parts).sum(dim=0) + self.base


class ItemParts(nn.Module):
    """The attribute parts of a candidate network's two tables.

    A row of a table is the item's own part plus its attribute part. In training the tables hold the own parts, which
    are left out of some items in each step, so that attribute parts learn to do alone. Then `fold` adds both, and
    nothing that reads the tables knows of parts.
    """

    def __init__(self, config: CandidateConfig) -> None:
        super().__init__()
        shapes = config.options.parts
        self.embedding = AttributePart(shapes, config.embedding_dim)
        self.output = None if config.options.tied_tables else AttributePart(shapes, config.hidden_dim)

    @torch.no_grad()
    def fold(self, embedding_IE: Tensor, output_IH: Tensor, values: Sequence[Tensor]) -> None:
        """Add the attribute parts of all items to the tables, in place; the output table may be the embeddings."""
        embedding_IE += self.embedding(values)
        if self.output is not None:
            output_IH += self.output(values)
