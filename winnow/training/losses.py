"""Softmax over the catalogue, the whole of it or a shared sample of it; and logistic regression by watch time.

Shape legend: N examples, I items, H hidden_dim, S sampled negatives.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def full_softmax_loss(user_NH: Tensor, items_IH: Tensor, targets_N: Tensor, excluded_NI: Tensor | None) -> Tensor:
    """Mean cross entropy of the targets among all items, a scalar.

    `targets_N` is int64. `excluded_NI` (bool) takes items out of an example's softmax; a target is never taken out.
    """
    loss: Tensor = _FullSoftmax.apply(user_NH, items_IH, targets_N, excluded_NI)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    """Forms the gradient in the forward pass, in the memory of the logits.

    [N, I] is by far the largest tensor of a step. Autograd would keep it and allocate two more of its size, and a CPU
    spends longer on touching that much new memory than on the softmax.
    """

    @staticmethod
    def forward(ctx: Any, user_NH: Tensor, items_IH: Tensor, targets_N: Tensor, excluded_NI: Tensor | None) -> Tensor:
        # Indexed by pairs: gather and scatter_ along a dimension copy the whole of [N, I] on a CPU.
        at_targets = torch.arange(len(targets_N), device=targets_N.device), targets_N
        logits_NI = user_NH @ items_IH.T
        if excluded_NI is not None:
            target_logits_N = logits_NI[at_targets]
            logits_NI.masked_fill_(excluded_NI, -torch.inf)
            logits_NI[at_targets] = target_logits_N
        probabilities_NI = torch.softmax(logits_NI, dim=1, out=logits_NI)
        # A bfloat16 probability can underflow to zero.
        target_probabilities_N = probabilities_NI[at_targets].float().clamp_min(torch.finfo(torch.float32).tiny)
        loss = -target_probabilities_N.log().mean()
        gradient_NI = probabilities_NI
        gradient_NI[at_targets] -= 1
        gradient_NI.div_(len(targets_N))
        ctx.save_for_backward(gradient_NI @ items_IH, gradient_NI.T @ user_NH)
        return loss

    @staticmethod
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        user_gradient, items_gradient = ctx.saved_tensors
        return user_gradient * loss_gradient, items_gradient * loss_gradient, None, None


def sampled_softmax_loss(
    user_NH: Tensor,
    target_vectors_NH: Tensor,
    targets_N: Tensor,
    negative_vectors_SH: Tensor,
    negatives_S: Tensor,
    log_expected_counts_S: Tensor,
) -> Tensor:
    """Mean cross entropy of the targets among the target and negatives that all examples share, a scalar.

    A negative that is expected `q` times among the S draws stands for 1/q of itself: its logit is lowered by log q. The
    exponentials then sum, in expectation, to those of all other items, so that the loss is the full softmax's estimated
    by importance sampling. A negative that is an example's own target is left out of that example's sum.
    """
    target_logits_N = (user_NH * target_vectors_NH).sum(dim=1, dtype=torch.float32)
    negative_logits_NS = (user_NH @ negative_vectors_SH.T).float() - log_expected_counts_S
    accidental_NS = targets_N.unsqueeze(1) == negatives_S
    negative_logits_NS = negative_logits_NS.masked_fill(accidental_NS, -torch.inf)
    logits = torch.cat([target_logits_N.unsqueeze(1), negative_logits_NS], dim=1)
    return F.cross_entropy(logits, torch.zeros_like(targets_N))


def click_loss(logits_N: Tensor, clicked_N: Tensor) -> Tensor:
    """Mean logistic loss of impressions: the odds e^logit that one is clicked. A scalar; `clicked_N` is bool."""
    return F.binary_cross_entropy_with_logits(logits_N, clicked_N.to(logits_N.dtype))


def watch_time_loss(logits_N: Tensor, clicked_N: Tensor, watch_seconds_N: Tensor, *, calibrated: bool) -> Tensor:
    """Mean logistic loss of impressions, clicks weighted by their watch time (paper, section 4.2). A scalar.

    In the paper's form an impression is either a positive of weight T, or a negative of weight 1: among N impressions
    with k clicks the odds e^logit become sum(T) / (N - k), which is close to the mean watch time of an impression only
    where clicks are rare. `calibrated` makes every impression a negative of weight 1, and a click a further positive of
    weight T: the odds become sum(T) / N exactly.
    """
    positive_weights_N = watch_seconds_N * clicked_N
    negative_weights_N = torch.ones_like(positive_weights_N) if calibrated else (~clicked_N).to(logits_N.dtype)
    losses_N = negative_weights_N * F.softplus(logits_N) + positive_weights_N * F.softplus(-logits_N)
    return losses_N.mean()


class NegativeSampler:
    """Draws items, with replacement, half by how often they are watched and half uniformly.

    The watched ones are the hard negatives; the uniform half bounds the importance weight of every other item.
    """

    def __init__(self, watch_counts_I: Tensor, *, sample_count: int, generator: torch.Generator) -> None:
        """`watch_counts_I` (any real dtype) must not be all zero."""
        share_I = watch_counts_I.double()
        probabilities_I = 0.5 * share_I / share_I.sum() + 0.5 / len(share_I)
        self._cumulative_I = probabilities_I.cumsum(0)
        self._log_expected_counts_I = (probabilities_I * sample_count).log().float()
        self._sample_count = sample_count
        self._generator = generator

    def draw(self, _targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return S rows (int64) and the logarithm of how often each is expected among them (float32)."""
        uniform_S = torch.rand(self._sample_count, dtype=torch.float64, generator=self._generator)
        rows_S = torch.searchsorted(self._cumulative_I, uniform_S).clamp_max(len(self._cumulative_I) - 1)
        return rows_S, self._log_expected_counts_I[rows_S]


class MixedSampler:
    """Takes the targets of the step itself, and as many items as asked for uniformly: see Yang et al., WWW 2020 (MNS).

    The targets are the watched items as often as they are watched, and their vectors are needed anyway; the uniform
    ones are there for all the others.
    """

    def __init__(self, watch_counts_I: Tensor, *, sample_count: int, generator: torch.Generator) -> None:
        """`watch_counts_I` (any real dtype) must not be all zero; `sample_count` is that of the uniform ones."""
        self._share_I = watch_counts_I.double() / watch_counts_I.double().sum()
        self._sample_count = sample_count
        self._generator = generator

    def draw(self, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return N + sample_count rows (int64) and the logarithm of how often each is expected (float32)."""
        item_count = len(self._share_I)
        uniform_S = torch.randint(item_count, (self._sample_count,), generator=self._generator)
        rows_S = torch.cat([targets_N.cpu(), uniform_S])
        expected_S = len(targets_N) * self._share_I[rows_S] + self._sample_count / item_count
        return rows_S, expected_S.log().float()
