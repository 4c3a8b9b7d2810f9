"""Recalibration of a trained ranking network: factors and shifts of its logits become part of its weights."""

from typing import NamedTuple

import torch

from winnow.networks.ranking import DeepRankingModel


class CorrectionFactors(NamedTuple):
    """How much of each part of the correction of the candidate network's logit is used; 1 is all of it."""

    tower: float
    successions: float


NO_CORRECTION = CorrectionFactors(0.0, 0.0)
WHOLE_CORRECTION = CorrectionFactors(1.0, 1.0)


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
def scale_correction(network: DeepRankingModel, factors: CorrectionFactors, shift: float) -> None:
    """Change the weights so that factors of what is added to the candidate network's logit are added, plus `shift`.

    With factors of 0, the order is exactly that of the candidates. Constants that are the same for all candidates are
    not scaled. Raises ValueError where the logit does not include the candidate network's.
    """
    matching = network.matching
    if matching is None or not matching.adds_logit:
        raise ValueError("the logit does not include the candidate network's: there is no correction to scale")
    network.output.weight.mul_(factors.tower)
    network.output.bias.add_(shift)
    if matching.successions is not None:
        matching.successions.output.weight.mul_(factors.successions)
        matching.successions.direct.weight.mul_(factors.successions)
    if network.features is not None and not network.tower:
        network.features.layer.weight.mul_(factors.tower)
