"""Quantiles of values of which each process has some."""

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.training.distributed.processes import Processes

# Floats that are not negative have the order of their bits, of which the first is zero.
BITS = 31


def sharded_quantile_edges(
    own_values: NDArray[np.float32], range_count: int, processes: Processes
) -> tuple[float, ...]:
    """Return `quantile_edges` of the values of all processes, float32, 0 or more, without gathering them. Collective.

    For each quantile, the bits of the value are found one after the other, by counting the smaller values.
    """
    own = np.sort(own_values)
    count = int(processes.total(torch.tensor(len(own), device=processes.device)))
    # The first is the smallest value, and the others those that numpy's "nearest" takes.
    ranks = np.rint((count - 1) * (np.arange(range_count) / range_count)).astype(np.int64)
    bits = np.zeros(range_count, dtype=np.int32)
    for bit in reversed(range(BITS)):
        tried = bits | np.int32(1 << bit)
        smaller = torch.from_numpy(np.searchsorted(own, tried.view(np.float32))).to(processes.device)
        bits = np.where(processes.total(smaller).cpu().numpy() <= ranks, tried, bits)
    smallest, *quantiles = bits.view(np.float32).tolist()
    return tuple(sorted({edge for edge in quantiles if edge > smallest}))
