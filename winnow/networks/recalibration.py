"""Recalibration of a trained ranking network: factors and shifts of its logits become part of its weights."""

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


@torch.no_grad()
def scale_correction(network: DeepRankingModel, factor: float, shift: float) -> None:
    """Change the weights so that `factor` times as much is added to the candidate network's logit, plus `shift`.

    With the factor 0, the order is exactly that of the candidates. Constants that are the same for all candidates are
    not scaled. Raises ValueError where the logit does not include the candidate network's.
    """
    matching = network.matching
    if matching is None or not matching.adds_logit:
        raise ValueError("the logit does not include the candidate network's: there is no correction to scale")
    network.output.weight.mul_(factor)
    network.output.bias.add_(shift)
    if matching.successions is not None:
        matching.successions.output.weight.mul_(factor)
        matching.successions.direct.weight.mul_(factor)
    if network.features is not None and not network.tower:
        network.features.layer.weight.mul_(factor)
