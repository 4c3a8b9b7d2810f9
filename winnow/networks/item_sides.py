"""What is known of every item besides which one it is: its genres, its author.

Shape legend: I items, P values of an item, S side_dim, D sides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Stands where an item has fewer values than others.
NO_VALUE = 0


class ItemSides(nn.Module):
    """Vectors of the items' values: of each side the average of the item's, one side after the other.

    They stand beside the item's embedding in every watch, so that the history bags average them too. As the bags are
    linear in embeddings, so are they in these. An item without a value is the zero vector of that side.
    """

    def __init__(self, n_items: int, side_shapes: Sequence[Sequence[int]], side_dim: int) -> None:
        """`side_shapes` has, for each side, how many values there are and how many of them one item has at most.

        Which items have which values is for `fill`, or a release. Raises ValueError that names an invalid argument.
        """
        super().__init__()
        if side_dim < 1:
            raise ValueError(f"side_dim is {side_dim}: it has to be at least 1")
        if any(len(shape) != 2 or min(shape) < 1 for shape in side_shapes):
            raise ValueError(f"side_shapes are {side_shapes}: two numbers of at least 1 are needed for each")
        self.width = side_dim * len(side_shapes)
        self.vectors = nn.ModuleList(
            nn.Embedding(value_count + 1, side_dim, padding_idx=NO_VALUE) for value_count, _ in side_shapes
        )
        for number, (_, values_per_item) in enumerate(side_shapes):
            self.register_buffer(f"values_{number}", torch.zeros(n_items, values_per_item, dtype=torch.int32))

    def fill(self, values: Sequence[Tensor]) -> None:
        """Say which values every item has: of each side integer [I, P], from 1, NO_VALUE where there is none."""
        for number, values_IP in enumerate(values):
            self.get_buffer(f"values_{number}").copy_(values_IP)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the vectors of items, rows [N] -> float [N, D * S]."""
        sides = []
        for number, vectors in enumerate(self.vectors):
            values_NP = self.get_buffer(f"values_{number}")[rows]
            sides.append(F.embedding_bag(values_NP, vectors.get_parameter("weight"), mode="mean", padding_idx=NO_VALUE))
        return torch.cat(sides, dim=1)
