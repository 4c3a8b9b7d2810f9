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
    covariance_HH = torch.zeros(len(mean_H), len(mean_H), dtype=torch.float64)
    blocks = torch.split(vectors_IH, BLOCK_ITEMS)
    for block in blocks:
        centred = block.double() - mean_H
        covariance_HH += centred.T @ centred
    # Eigenvalues ascend.
    directions_HC = torch.linalg.eigh(covariance_HH).eigenvectors[:, -components:]
    found = []
    for block in blocks:
        projected = (block.double() - mean_H) @ directions_HC
        lengths = projected.norm(dim=1, keepdim=True)
        unit = torch.where(lengths > 1e-9 * (1 + mean_H.norm()), projected / lengths, torch.zeros_like(projected))
        found.append((unit * SCALE).round().to(torch.int8))
    vectors: NDArray[np.int8] = torch.cat(found).numpy()
    return vectors
