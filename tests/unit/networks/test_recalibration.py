from dataclasses import replace

import pytest
import torch

from tests.unit.networks.features.requests import PLAIN, network_of, packed, some_requests
from winnow.history import RaggedRows
from winnow.networks.folded_ranking import FoldedRanking
from winnow.networks.options import MatchingOptions, RankingOptions, SuccessionOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import (
    NO_CORRECTION,
    WHOLE_CORRECTION,
    CorrectionFactors,
    rescale,
    scale_correction,
)


@pytest.mark.parametrize("n_hidden_layers", [0, 2])
@torch.inference_mode()
def test_every_logit_is_rescaled(n_hidden_layers: int) -> None:
    network = network_of(n_hidden_layers, replace(PLAIN, score="watch_seconds"))
    requests = packed(network, *some_requests(5, seed=9))
    before = network.logits(*requests)
    rescale(network, 0.5, 2.0)
    torch.testing.assert_close(network.logits(*requests), 0.5 * before + 2.0)


def test_the_candidate_networks_logit_cannot_be_rescaled() -> None:
    assert PLAIN.matching is not None
    options = RankingOptions(matching=MatchingOptions(network=PLAIN.matching.network))
    with pytest.raises(ValueError, match="it cannot be rescaled"):
        rescale(DeepRankingModel(30, 8, 6, 2, 1, options), 0.5, 2.0)


def network_with_matching(n_hidden_layers: int, *, successions: bool) -> DeepRankingModel:
    assert PLAIN.matching is not None
    options = SuccessionOptions(pair_count=3, latest_count=2) if successions else None
    matching = MatchingOptions(network=PLAIN.matching.network, successions=options)
    network = DeepRankingModel(30, 8, 6, n_hidden_layers, 1, replace(PLAIN, matching=matching, features=()))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return network.eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("n_hidden_layers", [0, 2])
@pytest.mark.parametrize("successions", [False, True])
@pytest.mark.parametrize("factors", [NO_CORRECTION, WHOLE_CORRECTION, CorrectionFactors(0.25, 0.5)])
@torch.inference_mode()
def test_what_is_added_to_the_candidate_logit_is_scaled(
    n_hidden_layers: int, successions: bool, factors: CorrectionFactors
) -> None:
    network = network_with_matching(n_hidden_layers, successions=successions)
    requests = packed(network, *some_requests(5, seed=9))
    assert network.matching is not None
    matching = network.matching.network.candidate_logits(*requests)
    followed = torch.zeros_like(matching)
    constants = network.output.bias.clone()
    if network.matching.successions is not None:
        followed = network.matching.successions(*requests, matching) - network.matching.successions.output.bias
        constants += network.matching.successions.output.bias
    tower = network.logits(*requests) - matching - followed - constants
    scale_correction(network, factors, 2.0)
    expected = matching + factors.tower * tower + factors.successions * followed + constants + 2.0
    torch.testing.assert_close(network.logits(*requests), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(FoldedRanking(network, None).logits(*requests), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_without_its_correction_ranking_keeps_the_order_of_the_candidates() -> None:
    network = network_with_matching(2, successions=True)
    scale_correction(network, NO_CORRECTION, -1.5)
    histories, contexts, _ = some_requests(5, seed=9)
    everything = RaggedRows.from_lists([list(range(30))] * 5)
    requests = packed(network, histories, contexts, everything)
    assert network.matching is not None
    by_candidates = network.matching.network.candidate_logits(*requests).view(5, 30).argsort(dim=1, stable=True)
    for logits in (network.logits(*requests), FoldedRanking(network, None).logits(*requests)):
        assert logits.view(5, 30).argsort(dim=1, stable=True).equal(by_candidates)


def test_a_logit_without_the_candidate_networks_has_no_correction() -> None:
    with pytest.raises(ValueError, match="there is no correction to scale"):
        scale_correction(network_of(), WHOLE_CORRECTION, 0.0)
