"""What both networks are built of: seeded draws, an embedding table and a narrowing tower of ReLU layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Dropout = Callable[[Tensor], Tensor]
"""Zeroes a share of the numbers, float [N, W], for training: `apply_dropout` with a share."""


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


def build_output(hidden_dim: int, n_items: int) -> nn.Linear:
    """An output table without biases: one row of weights an item."""
    return nn.Linear(hidden_dim, n_items, bias=False)


def tower_widths(input_dim: int, hidden_dim: int, n_hidden_layers: int) -> list[int]:
    """Widths from the input to the last layer: each hidden layer is twice as wide as the next (paper, section 3.5)."""
    return [input_dim, *(hidden_dim * 2**power for power in reversed(range(n_hidden_layers)))]


def build_tower(input_dim: int, hidden_dim: int, n_hidden_layers: int) -> nn.ModuleList:
    """Bias-free linear layers, drawn in order from the input to the output."""
    widths = tower_widths(input_dim, hidden_dim, n_hidden_layers)
    return nn.ModuleList(nn.Linear(before, after, bias=False) for before, after in pairwise(widths))


def apply_tower(tower: nn.ModuleList, x: Tensor, dropout: Dropout | None = None) -> Tensor:
    """Apply every layer of the tower, each followed by ReLU, the last one too.

    `dropout` is for training: it is applied between two layers.
    """
    for depth, layer in enumerate(tower):
        if dropout is not None and depth:
            x = dropout(x)
        x = torch.relu(layer(x))
    return x


def dropout_of(share: float) -> Dropout | None:
    """Return the dropout of a share; None for a share of 0."""
    return partial(apply_dropout, share=share) if share else None


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
