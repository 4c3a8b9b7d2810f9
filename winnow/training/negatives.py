"""Negatives: those of a sampled softmax, which all examples of a step share, and what is none.

Shape legend: N examples, I items, S negatives.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.history import RaggedRows, stretches


class NegativeSampler:
    """Draws items with replacement, half of them in proportion to their watches and half uniformly.

    Watched items are the hard negatives; the uniform half bounds the importance weight of every other item.
    """

    def __init__(self, watch_counts_I: Tensor, *, sample_count: int, generator: torch.Generator) -> None:
        """Prepare for draws of `sample_count` items; `watch_counts_I`, of any real dtype, must not be all zero."""
        share_I = watch_counts_I.double()
        probabilities_I = 0.5 * share_I / share_I.sum() + 0.5 / len(share_I)
        self._cumulative_I = probabilities_I.cumsum(0)
        self._log_expected_counts_I = (probabilities_I * sample_count).log().float()
        self._sample_count = sample_count
        self._generator = generator

    def draw(self, _targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return S rows (int64), and the logarithm of the expected count of each among them (float32)."""
        uniform_S = torch.rand(self._sample_count, dtype=torch.float64, generator=self._generator)
        rows_S = torch.searchsorted(self._cumulative_I, uniform_S).clamp_max(len(self._cumulative_I) - 1)
        return rows_S, self._log_expected_counts_I[rows_S]


class MixedSampler:
    """Takes the targets of the step and some uniformly drawn items: mixed negative sampling, Yang et al., WWW 2020.

    Targets occur in proportion to their watches, and their vectors are needed anyway; the uniform draws cover the other
    items.
    """

    def __init__(self, watch_counts_I: Tensor, *, sample_count: int, generator: torch.Generator) -> None:
        """Prepare for `sample_count` uniform draws; `watch_counts_I`, of any real dtype, must not be all zero."""
        self._share_I = watch_counts_I.double() / watch_counts_I.double().sum()
        self._sample_count = sample_count
        self._generator = generator

    def draw(self, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return N + sample_count rows (int64), and the logarithm of the expected count of each (float32)."""
        item_count = len(self._share_I)
        uniform_S = torch.randint(item_count, (self._sample_count,), generator=self._generator)
        rows_S = torch.cat([targets_N.cpu(), uniform_S])
        expected_S = len(targets_N) * self._share_I[rows_S] + self._sample_count / item_count
        return rows_S, expected_S.log().float()


class WatchedItems:
    """Tells which items a user watches anywhere in a log: what is watched later is no negative."""

    def __init__(self, histories: RaggedRows, item_count: int, device: torch.device) -> None:
        """`histories` has one list per user."""
        self._histories = histories
        self._lengths = histories.lengths
        self._item_count = item_count
        self._device = device

    def among(self, users_N: NDArray[np.int64], rows_NS: Tensor) -> Tensor:
        """Return which of the rows each user watches, bool [N, S]."""
        # Those of the whole log would not fit into memory where the log does not.
        begins_N, lengths_N = self._histories.offsets[users_N], self._lengths[users_N]
        rows_M = self._histories.rows[stretches(begins_N, lengths_N)]
        # The pair (example, item) has the key example * item_count + item. Keys rise, for a binary search.
        examples_M = np.repeat(np.arange(len(users_N)), lengths_N)
        keys = torch.from_numpy(np.unique(examples_M * self._item_count + rows_M)).to(self._device)
        if not len(keys):
            return torch.zeros_like(rows_NS, dtype=torch.bool)
        keys_NS = torch.arange(len(users_N), device=self._device).unsqueeze(1) * self._item_count + rows_NS
        at_NS = torch.searchsorted(keys, keys_NS).clamp_(max=len(keys) - 1)
        return keys[at_NS] == keys_NS
