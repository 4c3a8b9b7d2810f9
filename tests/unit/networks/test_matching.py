"""The candidate network inside the ranking network: frozen, and its logit is added to the tower's."""

import pytest
import torch

from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.matching import Matching
from winnow.networks.options import MatchingOptions, RankingOptions, SuccessionOptions
from winnow.networks.packed import PackedTensor, pack
from winnow.networks.ranking import DeepRankingModel

CANDIDATE = DeepCandidateGenerationModel(12, 7, 3, 2, seed=9)


@pytest.fixture
def requests() -> tuple[PackedTensor, PackedTensor]:
    lists = RaggedRows.from_lists([[7, 3, 9], [], [1]]), RaggedRows.from_lists([[0, 11], [4], [5, 5, 2]])
    histories, candidates = (pack(rows, torch.device("cpu")) for rows in lists)
    return histories, candidates


def test_the_logit_is_added(requests: tuple[PackedTensor, PackedTensor]) -> None:
    network = DeepRankingModel(12, 5, 4, 2, 3, RankingOptions(matching=MatchingOptions(network=CANDIDATE.config)))
    assert network.candidate_network is not None
    network.candidate_network.load_state_dict(CANDIDATE.state_dict())
    added = network.logits(*requests) - DeepRankingModel(12, 5, 4, 2, seed=3).logits(*requests)
    torch.testing.assert_close(added, CANDIDATE.candidate_logits(*requests))


def test_a_network_that_is_there_for_features_adds_nothing(requests: tuple[PackedTensor, PackedTensor]) -> None:
    matching = Matching(MatchingOptions(network=CANDIDATE.config, adds_logit=False))
    logits = torch.randn(6)
    assert matching(logits, *requests) is logits


def test_only_the_correction_is_trained() -> None:
    successions = SuccessionOptions(pair_count=4, latest_count=2)
    matching = Matching(MatchingOptions(network=CANDIDATE.config, successions=successions))
    trained = {name.split(".")[0] for name, weights in matching.named_parameters() if weights.requires_grad}
    assert trained == {"successions"}
