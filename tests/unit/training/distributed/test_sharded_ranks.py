import numpy as np
import pytest
import torch

from tests.unit.training.trainees import SPLIT
from winnow.evaluation.ranks import candidate_ranks, top_candidates
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import CandidateConfig, CandidateOptions, HistoryOptions
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork
from winnow.training.distributed.sharded_ranks import sharded_candidate_ranks, sharded_top_candidates

BAGS = HistoryOptions(history_length=8, bag_decays=(0.0, 0.5))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("history", [HistoryOptions(), BAGS])
def test_ranks_and_candidates_are_those_of_the_plain_network(
    tied: bool, history: HistoryOptions, alone: Processes
) -> None:
    config = CandidateConfig(40, 16, 16, 1, 3, CandidateOptions(tied_tables=tied, history=history))
    plain, sharded = DeepCandidateGenerationModel.from_config(config), ShardedCandidateNetwork(config, alone)
    np.testing.assert_array_equal(
        sharded_candidate_ranks(sharded, SPLIT.validation, alone), candidate_ranks(plain, SPLIT.validation)
    )
    # Users have seen ten of the forty items: of forty candidates, the last ones are seen.
    for count in (5, 40, 100):
        expected = top_candidates(plain, SPLIT.validation.histories, candidate_count=count)
        found = sharded_top_candidates(sharded, SPLIT.validation.histories, alone, candidate_count=count)
        assert found.shape == expected.shape
        unseen = min(count, 30)
        assert torch.equal(found[:, :unseen], expected[:, :unseen])
        assert torch.equal(found.sort(dim=1).values, expected.sort(dim=1).values)
