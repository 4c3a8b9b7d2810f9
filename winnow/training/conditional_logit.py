"""The likeliest weights of what is added to a network's logits.

Shape legend: N held-out watches, K items that each chooses from, C columns.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# The logit of an item that cannot be chosen.
NEVER = -1e4


class Likeliest(NamedTuple):
    """Weights by name, and the mean loss with them."""

    weights: Mapping[str, float]
    loss: float


def likeliest_weights(places_N: Tensor, columns_NKC: Tensor, names: Sequence[str]) -> Likeliest:
    """Return the weights above zero with which a softmax over K items expects the targets, at `places_N`, most.

    The first column holds the network's logits, the others what is weighted, by name. This is a conditional logit:
    concave, and less moved by chance than a figure of the first ten. The logits have a factor of their own, by which
    the weights are divided: they may be too sure. A column whose weight would not be above zero is left out.
    """
    if not names or not len(places_N):
        return Likeliest({}, math.inf)
    # Copies, since tensors of the inference mode cannot be learned from.
    with torch.inference_mode(mode=False):
        places_N, columns_NKC = places_N.clone(), columns_NKC.clone()
        factors_C = torch.zeros(1 + len(names), device=columns_NKC.device)
        factors_C[0] = 1
        factors_C.requires_grad_()
        optimizer = torch.optim.LBFGS([factors_C], max_iter=50, line_search_fn="strong_wolfe")

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(columns_NKC @ factors_C, places_N)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with torch.enable_grad():
            optimizer.step(step)  # type: ignore[no-untyped-call]
            loss = float(step().detach())
        own, *others = factors_C.detach().tolist()
    if own <= 0 or not all(map(math.isfinite, (own, *others))):
        return Likeliest({}, math.inf)
    if min(others) <= 0:
        kept = [number for number, factor in enumerate(others) if factor > 0]
        return likeliest_weights(
            places_N, columns_NKC[..., [0, *(1 + number for number in kept)]], [names[number] for number in kept]
        )
    return Likeliest({name: factor / own for name, factor in zip(names, others, strict=True)}, loss)
