"""What the two networks have in common: a checked shape and a narrowing tower of ReLU layers."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def check_shape(*, smallest: int = 1, **dimensions: int) -> None:
    """Raise ValueError, naming the argument, unless every dimension is an integer of at least `smallest`."""
    for name, value in dimensions.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}: it has to be an integer")
        if value < smallest:
            raise ValueError(f"{name} is {value}: it has to be at least {smallest}")


def tower_widths(input_dim: int, hidden_dim: int, n_hidden_layers: int) -> list[int]:
    """Widths from the input to the last layer: each hidden layer is twice as wide as the next (paper, section 3.5)."""
    return [input_dim, *(hidden_dim * 2**power for power in reversed(range(n_hidden_layers)))]


def build_tower(input_dim: int, hidden_dim: int, n_hidden_layers: int) -> nn.ModuleList:
    """Bias-free linear layers, drawn from the generator in order from the input to the output."""
    widths = tower_widths(input_dim, hidden_dim, n_hidden_layers)
    return nn.ModuleList(nn.Linear(before, after, bias=False) for before, after in pairwise(widths))


def climb(tower: nn.ModuleList, x: Tensor, dropout: float = 0.0) -> Tensor:
    """Apply every layer of the tower, each followed by ReLU, the last one too.

    `dropout` is for training: the share of what passes from one layer to the next that is zeroed.
    """
    for depth, layer in enumerate(tower):
        if dropout and depth:
            x = drop(x, dropout)
        x = torch.relu(layer(x))
    return x


def drop(x: Tensor, share: float) -> Tensor:
    """Dropout: zero a share of the numbers, in steps of 1/256 on a CPU, and scale up the others.

    On a CPU torch's own draws for every number by itself, a sixth of a training step: here eight share a draw.
    """
    if x.device.type != "cpu":
        return F.dropout(x, share)
    threshold = round(256 * share)
    draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return x * kept.to(x.dtype).mul_(256 / (256 - threshold))
