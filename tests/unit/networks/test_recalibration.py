from dataclasses import replace

import pytest
import torch

from tests.unit.networks.features.requests import PLAIN, network_of, packed, some_requests
from winnow.networks.options import MatchingOptions, RankingOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import rescale


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
