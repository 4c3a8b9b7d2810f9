"""What both networks are built of: seeded draws, an embedding table and a narrowing tower of ReLU layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def draws_from(seed: int) -> Iterator[None]:
    """Draw the weights of the modules that are built inside from `seed`; torch's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_embedding(n_items: int, embedding_dim: int, std: float) -> nn.Embedding:
    """An embedding table, drawn from a normal distribution of this standard deviation."""
    embedding = nn.Embedding(n_items, embedding_dim)
    with torch.no_grad():
        embedding.weight.mul_(std)
    return embedding


def tower_widths(input_dim: int, hidden_dim: int, n_hidden_layers: int) -> list[int]:
    """Widths from the input to the last layer: each hidden layer is twice as wide as the next (paper, section 3.5)."""
    return [input_dim, *(hidden_dim * 2**power for power in reversed(range(n_hidden_layers)))]


def build_tower(input_dim: int, hidden_dim: int, n_hidden_layers: int) -> nn.ModuleList:
    """Bias-free linear layers, drawn in order from the input to the output."""
    widths = tower_widths(input_dim, hidden_dim, n_hidden_layers)
    return nn.ModuleList(nn.Linear(before, after, bias=False) for before, after in pairwise(widths))


def apply_tower(tower: nn.ModuleList, x: Tensor, dropout: float = 0.0) -> Tensor:
    """Apply every layer of the tower, each followed by ReLU, the last one too.

    `dropout` is for training: the share of the numbers between two layers that is zeroed.
    """
    for depth, layer in enumerate(tower):
        if dropout and depth:
            x = apply_dropout(x, dropout)
        x = torch.relu(layer(x))
    return x


def apply_dropout(x: Tensor, share: float) -> Tensor:
    """Zero a share of the numbers, on a CPU in steps of 1/256, and scale up the others.

    On a CPU, torch's dropout draws one random number per element, which takes a sixth of a training step. Here eight
    elements share a draw.
    """
    if x.device.type != "cpu":
        return F.dropout(x, share)
    threshold = round(256 * share)
    draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return x * kept.to(x.dtype).mul_(256 / (256 - threshold))
