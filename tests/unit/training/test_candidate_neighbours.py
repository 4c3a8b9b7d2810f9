"""What nearest neighbours know is added to the candidate network where more of the watches are found with it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.planted import planted_histories, planted_successions
from tests.unit.training.test_ranking_neighbours import networks, tables
from tests.unit.training.trainees import ITEM_COUNT
from winnow.evaluation.rank_figures import gains, hits
from winnow.evaluation.ranks import candidate_ranks, chain_ranks
from winnow.logs.split import LogSplit
from winnow.networks.recalibration import NO_CORRECTION, scale_correction
from winnow.training import candidate_neighbours as module
from winnow.training.candidate_neighbours import add_to_candidates
from winnow.training.ranking_neighbours import add_neighbours
from winnow.training.ranking_network import with_neighbours

COUNT = 5


def test_planted_successions_are_found(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.8))
    before, _ = networks(split, tmp_path, epochs=0)
    added = add_to_candidates(before, tables(split), split.validation, candidate_count=COUNT)
    assert added.weights["succession-knn"] > 0
    found = [hits(candidate_ranks(network, split.test), COUNT).mean() for network in (before, added.network)]
    assert found[1] > found[0] + 0.4
    for figures, network in zip(added.figures, (before, added.network), strict=True):
        ranks = candidate_ranks(network, split.validation)
        assert figures == pytest.approx({"hr_at_5": hits(ranks, COUNT).mean(), "ndcg_at_10": gains(ranks).mean()})
    used = [name for name, weight in added.weights.items() if weight]
    assert all(f"{name} {added.weights[name]:.3g}" in added.in_words() for name in used)
    assert [table.options.scale for table in added.network.neighbours.tables] == [
        added.tables[name].options.scale for name in used
    ]


@pytest.mark.parametrize("seed", range(3))
def test_on_validation_no_list_is_worse(seed: int, tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_histories(seed))
    before, _ = networks(split, tmp_path, epochs=8)
    added = add_to_candidates(before, tables(split), split.validation, candidate_count=COUNT)
    without, with_them = (sum(figures.values()) for figures in added.figures)
    assert with_them >= without
    if not any(added.weights.values()):
        assert added.network is before
        assert added.in_words() == "weights of neighbours: none"


def test_the_best_set_of_tables_is_used_where_it_gains_enough() -> None:
    assert module._best([0.5, 0.6, 0.55, 0.61]) == 3
    # Among equals, the first and smallest.
    assert module._best([0.5, 0.6, 0.6, 0.6]) == 1
    # So little is not worth it.
    assert module._best([0.5, 0.51, 0.5, 0.515]) == 0


def test_without_a_correction_ranking_keeps_the_order_with_neighbours(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.8))
    before, ranking = networks(split, tmp_path, epochs=0)
    added = add_to_candidates(before, tables(split), split.validation, candidate_count=COUNT)
    changed = with_neighbours(ranking, added.network.neighbours.tables)
    scale_correction(changed, NO_CORRECTION, 0.0)
    with torch.inference_mode():
        by_candidates = candidate_ranks(added.network, split.test)
        by_chain = chain_ranks(added.network, changed, split.test, candidate_count=ITEM_COUNT)
    np.testing.assert_array_equal(by_chain, by_candidates)
    # Other weights than in the candidate network are used only where they order validation better.
    ordered, weights = add_neighbours(added.network, changed, added.tables, split.validation, candidate_count=COUNT)
    found = [
        gains(chain_ranks(added.network, network, split.validation, candidate_count=COUNT)).mean()
        for network in (changed, ordered)
    ]
    assert found[1] >= found[0] - 1e-9
    if found[1] == found[0]:
        assert weights == pytest.approx(added.weights)
    assert with_neighbours(with_neighbours(ranking, []), []) is ranking
