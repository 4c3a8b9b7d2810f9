"""The negatives of a sampled softmax: items that all examples of a step share.

Shape legend: N examples, I items, S negatives.
"""

import torch
from torch import Tensor


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
