"""What `python -m benchmarks.similar_items` measures: its lists, and the figures of lists that are known."""

import numpy as np
import pytest
import torch

from benchmarks.similar_items import ITEM_KNN, LIST_LENGTH, measure, similar_lists
from winnow.history import RaggedRows
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel

ITEM_COUNT = 60


def test_every_way_lists_the_best_other_items() -> None:
    network = DeepCandidateGenerationModel(ITEM_COUNT, 6, 5, 2, seed=1).requires_grad_(requires_grad=False)
    rng = np.random.default_rng(1)
    training = RaggedRows.from_lists([rng.integers(0, ITEM_COUNT, 9).tolist() for _ in range(50)])
    lists = similar_lists(network, training)
    for lists_IK in lists.values():
        assert lists_IK.shape == (ITEM_COUNT, LIST_LENGTH)
        for row, listed in enumerate(lists_IK.tolist()):
            assert len({row, *listed}) == LIST_LENGTH + 1
    probabilities = network([torch.tensor([7])])[0]
    cosines = torch.cosine_similarity(network.item_vectors_IH, network.item_vectors_IH[7:8])
    for name, scores_I in (("history of the item", probabilities), ("output vectors, cosine", cosines)):
        scores_I[7] = -2
        assert lists[name][7].tolist() == scores_I.argsort(descending=True)[:LIST_LENGTH].tolist()


def test_figures_count_the_watches_after_an_item() -> None:
    mine = np.tile(np.arange(LIST_LENGTH), (3, 1))
    theirs = np.where(mine < 5, mine + 100, mine)
    held_out = HeldOut(
        # The last watch of each is 2, 0 and 1; one user has none.
        histories=RaggedRows.from_lists([[1, 2], [0], [], [2, 1]]),
        targets=np.array([3, 15, 0, 99], dtype=np.int32),
        users=np.array([0, 1, 2, 3]),
    )
    figures = measure({"mine": mine, ITEM_KNN: theirs}, held_out)["mine"]
    assert figures["hr_at_10"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["hr_at_20"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["overlap_at_20"] == 0.75
    assert figures["hr_at_10_low"] <= figures["hr_at_10"] <= figures["hr_at_10_high"]
