"""Recalibration of a trained ranking network: a factor and a shift of its logits become part of its weights."""

import torch

from winnow.networks.ranking import DeepRankingModel


@torch.no_grad()
def rescale(network: DeepRankingModel, factor: float, shift: float) -> None:
    """Change the weights so that every logit becomes `factor` times as large, plus `shift`.

    Raises ValueError where the logit includes that of the candidate network, which cannot be scaled.
    """
    if network.matching is not None and network.matching.adds_logit:
        raise ValueError("the logit includes the candidate network's, which is frozen: it cannot be rescaled")
    network.output.weight.mul_(factor)
    network.output.bias.mul_(factor).add_(shift)
    # Without hidden layers, the features' layer belongs to the last one.
    if network.features is not None and not network.tower:
        network.features.layer.weight.mul_(factor)
