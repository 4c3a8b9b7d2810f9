"""What `python -m benchmarks.neighbours_in_retrieval` measures: a candidate network with EASE's scores added."""

import numpy as np
import pytest
import torch

from benchmarks.neighbours_in_retrieval import WithNeighbours
from winnow.evaluation.baselines import DenseSimilarity, ease
from winnow.evaluation.best_unseen import most_watched_first
from winnow.evaluation.recommenders import CandidateOrder
from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel

ITEM_COUNT, COUNT = 60, 20


@pytest.fixture(scope="module")
def training() -> RaggedRows:
    rng = np.random.default_rng(1)
    return RaggedRows.from_lists([rng.permutation(ITEM_COUNT)[:9].tolist() for _ in range(50)])


@pytest.fixture(scope="module")
def network() -> DeepCandidateGenerationModel:
    return DeepCandidateGenerationModel(ITEM_COUNT, 6, 5, 2, seed=1).requires_grad_(requires_grad=False)


def test_a_factor_goes_from_the_networks_order_to_that_of_ease(
    training: RaggedRows, network: DeepCandidateGenerationModel
) -> None:
    similar: DenseSimilarity = ease(training, ITEM_COUNT)
    preferred_I = most_watched_first(training, ITEM_COUNT)

    def top(factor: float, shortlist: int | None = None) -> list[list[int]]:
        way = WithNeighbours(network, similar.scores, factor, preferred_I, shortlist)
        return way.top(training, COUNT).tolist()  # type: ignore[no-any-return]

    by_network = CandidateOrder(network).top(training, COUNT).tolist()
    assert top(0.0) == by_network
    assert top(1e6) == similar.top(training, COUNT).tolist()
    for shortened, listed in zip(top(1e6, COUNT), by_network, strict=True):
        assert {*shortened} == {*listed}
    torch.testing.assert_close(top(0.0, COUNT), by_network)
