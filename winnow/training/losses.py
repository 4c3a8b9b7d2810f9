"""Every loss: of the candidate network, of ranking on watches and of ranking on impressions.

Shape legend: N examples, I items, H hidden_dim, S sampled negatives.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Of the logistic regression beside the softmax over a candidate list, on which the order depends.
LOGISTIC_WEIGHT = 0.1


class LogitMemory:
    """The memory of [N, I] logits, kept from step to step: a CPU needs as long to touch new memory as to multiply."""

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def __call__(self, example_count: int, item_count: int, like: Tensor) -> Tensor:
        """Return an uninitialised tensor of this shape, [N, I], on the device and of the dtype of `like`."""
        needed = example_count * item_count
        if len(self._kept) < needed or self._kept.dtype != like.dtype or self._kept.device != like.device:
            self._kept = torch.empty(0)  # before the larger one is there
            self._kept = like.new_empty(needed)
        return self._kept[:needed].view(example_count, item_count)


def full_softmax_loss(
    user_NH: Tensor, items_IH: Tensor, targets_N: Tensor, excluded_NI: Tensor | None, memory: LogitMemory
) -> Tensor:
    """Return the mean cross entropy of the targets among all items, a scalar.

    `targets_N` is int64. `excluded_NI`, a sparse COO tensor, has an element for each item that is not in the softmax of
    an example; a target always stays.
    """
    loss: Tensor = _FullSoftmax.apply(user_NH, items_IH, targets_N, excluded_NI, memory)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    """Computes the gradient in the forward pass, in the memory of the logits.

    [N, I] is by far the largest tensor of a step. Autograd would keep it and allocate two more of the same size.
    """

    @staticmethod
    def forward(
        ctx: Any,
        user_NH: Tensor,
        items_IH: Tensor,
        targets_N: Tensor,
        excluded_NI: Tensor | None,
        memory: LogitMemory,
    ) -> Tensor:
        # Indexed by pairs: on a CPU, gather and scatter_ copy the whole of [N, I].
        at_targets = torch.arange(len(targets_N), device=targets_N.device), targets_N
        logits_NI = torch.mm(user_NH, items_IH.T, out=memory(len(user_NH), len(items_IH), user_NH))
        if excluded_NI is not None:
            target_logits_N = logits_NI[at_targets]
            # Few elements of each row: a mask would be as large as the logits and cost more than their softmax.
            logits_NI[tuple(excluded_NI._indices())] = -torch.inf
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
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        user_gradient, items_gradient = ctx.saved_tensors
        return user_gradient * loss_gradient, items_gradient * loss_gradient, None, None, None


def sampled_softmax_loss(
    user_NH: Tensor,
    target_vectors_NH: Tensor,
    targets_N: Tensor,
    negative_vectors_SH: Tensor,
    negatives_S: Tensor,
    log_expected_counts_S: Tensor,
) -> Tensor:
    """Return the mean cross entropy of each target among itself and the shared negatives, a scalar.

    The logit of a negative is lowered by log q, where q is its expected count among the S draws. The exponentials then
    sum, in expectation, to those of all other items: importance sampling of the full softmax. A negative that is the
    target of an example is left out of that example's sum.
    """
    target_logits_N = (user_NH * target_vectors_NH).sum(dim=1, dtype=torch.float32)
    negative_logits_NS = (user_NH @ negative_vectors_SH.T).float() - log_expected_counts_S
    accidental_NS = targets_N.unsqueeze(1) == negatives_S
    negative_logits_NS = negative_logits_NS.masked_fill(accidental_NS, -torch.inf)
    logits = torch.cat([target_logits_N.unsqueeze(1), negative_logits_NS], dim=1)
    return F.cross_entropy(logits, torch.zeros_like(targets_N))


def candidate_list_loss(logits: Tensor, positive_weights_N: Tensor, negative_weights_NS: Tensor) -> Tensor:
    """Return the mean loss of ranking one target among sampled candidates, a scalar; `logits` is [N, 1 + S].

    Column 0 is the target. The loss is the sum of a logistic regression, which makes the score a probability, and a
    softmax over the candidates, which is about their order alone. A negative counts for as many candidates of the list
    as its weight says; the target counts once in the softmax, and `positive_weights_N` times in the loss.
    """
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    terms = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    weights = torch.cat([positive_weights_N.unsqueeze(1), negative_weights_NS], dim=1)
    counts = torch.cat([torch.ones_like(logits[:, :1]), negative_weights_NS], dim=1)
    log_shares_N = logits[:, 0] - (logits + counts.log()).logsumexp(dim=1)
    logistic, order = (terms * weights).sum(), -(log_shares_N * positive_weights_N).sum()
    # Of no examples, the loss is zero.
    return (LOGISTIC_WEIGHT * logistic + order) / max(len(logits), 1)


def click_loss(logits_N: Tensor, clicked_N: Tensor) -> Tensor:
    """Return the mean logistic loss of impressions, in which e^logit is the odds of a click; `clicked_N` is bool."""
    return F.binary_cross_entropy_with_logits(logits_N, clicked_N.to(logits_N.dtype))


def watch_time_loss(logits_N: Tensor, clicked_N: Tensor, watch_seconds_N: Tensor, *, calibrated: bool) -> Tensor:
    """Return the mean logistic loss of impressions with clicks weighted by watch time T (paper, section 4.2).

    In the paper's form an impression is either a positive of weight T or a negative of weight 1. The odds e^logit of N
    impressions with k clicks become sum(T) / (N - k), which is close to the mean watch time only where clicks are rare.
    With `calibrated`, every impression is a negative of weight 1 and a click is also a positive of weight T: the odds
    become sum(T) / N exactly.
    """
    positive_weights_N = watch_seconds_N * clicked_N
    negative_weights_N = torch.ones_like(positive_weights_N) if calibrated else (~clicked_N).to(logits_N.dtype)
    losses_N = negative_weights_N * F.softplus(logits_N) + positive_weights_N * F.softplus(-logits_N)
    return losses_N.mean()
