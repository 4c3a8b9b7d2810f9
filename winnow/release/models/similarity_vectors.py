"""Short vectors whose products say how alike two items are: the principal components of the network's item vectors.

The gateway compares the candidates of an answer by them, without a network and without its tables.
Shape legend: I items, H width of an item vector, C components.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COMPONENTS = 32
# A unit vector's components, as int8: products of two of them are within about a hundredth of those in float32.
SCALE = 127
BLOCK_ITEMS = 65_536


@torch.inference_mode()
def similarity_vectors(item_vectors_IH: Tensor, components: int = COMPONENTS) -> NDArray[np.int8]:
    """Return the direction of each item vector from the mean of all, in `components` dimensions or H, int8 [I, C].

    Each vector has the length SCALE; one that does not differ from the mean is zero.
    """
    vectors_IH = item_vectors_IH.detach().cpu()
    mean_H = vectors_IH.mean(dim=0, dtype=torch.float64)
    # Spread over the catalogue, whose rows are ordered by popularity. More items hardly change the components.
    sample = vectors_IH[:: -(-len(vectors_IH) // BLOCK_ITEMS)].double() - mean_H
    # Eigenvalues ascend.
    directions_HC = torch.linalg.eigh(sample.T @ sample).eigenvectors[:, -components:]
    found = []
    for block in torch.split(vectors_IH, BLOCK_ITEMS):
        projected = (block.double() - mean_H) @ directions_HC
        lengths = projected.norm(dim=1, keepdim=True)
        unit = torch.where(lengths > 1e-9 * (1 + mean_H.norm()), projected / lengths, torch.zeros_like(projected))
        found.append((unit * SCALE).round().to(torch.int8))
    vectors: NDArray[np.int8] = torch.cat(found).numpy()
    return vectors
