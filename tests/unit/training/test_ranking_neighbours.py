"""What nearest neighbours know is added to the chain where validation says that it helps, and only there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.unit.training.planted import planted_histories, planted_successions
from tests.unit.training.settings import TINY
from tests.unit.training.trainees import ITEM_COUNT, NOWHERE, context_in
from winnow.evaluation.baselines import co_watch_cosines
from winnow.evaluation.rank_figures import Ranks, gains
from winnow.evaluation.ranks import chain_ranks
from winnow.evaluation.simple_rivals import learn_rivals
from winnow.logs.split import HeldOut, LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_ranking import FoldedRanking
from winnow.networks.neighbours import Neighbours
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.training import neighbour_tables as tables_module
from winnow.training import ranking_neighbours
from winnow.training.candidate_neighbours import add_to_candidates
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.loop import train
from winnow.training.neighbour_tables import neighbour_tables
from winnow.training.ranking_neighbours import add_neighbours
from winnow.training.ranking_network import with_neighbours
from winnow.training.watch_ranking_trainee import build_ranking_network

COUNT = 28


def networks(split: LogSplit, directory: Path, *, epochs: int) -> tuple[DeepCandidateGenerationModel, DeepRankingModel]:
    """A candidate network, and a ranking network that keeps its order."""
    candidate = CandidateTrainee(
        split, split.watch_counts(ITEM_COUNT), replace(TINY.candidate, epochs=max(epochs, 1)), NOWHERE
    )
    if epochs:
        train(candidate, context_in(directory))
    network = candidate.network.eval().requires_grad_(requires_grad=False)
    return network, build_ranking_network(network, TINY.ranking, None, seed=1).eval().requires_grad_(
        requires_grad=False
    )


@torch.inference_mode()
def ranked(candidate: DeepCandidateGenerationModel, ranking: DeepRankingModel, part: HeldOut) -> Ranks:
    return chain_ranks(candidate, ranking, part, candidate_count=COUNT)


def tables(split: LogSplit) -> dict[str, Neighbours]:
    rivals = learn_rivals(split, ITEM_COUNT, Console(quiet=True))
    found = neighbour_tables(rivals, split.training, ITEM_COUNT)
    assert set(found) == {"co_watches", "succession-knn", "ease"}
    return found


def test_planted_successions_are_used(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.8))
    candidate, before = networks(split, tmp_path, epochs=0)
    after, weights = add_neighbours(candidate, before, tables(split), split.validation, candidate_count=COUNT)
    assert weights["succession-knn"] > 0
    gained = gains(ranked(candidate, after, split.test)) - gains(ranked(candidate, before, split.test))
    assert gained.mean() > 0.3
    histories, everything = split.test.histories, pack(split.test.histories, torch.device("cpu"))
    requests = after.pack(histories), everything
    torch.testing.assert_close(FoldedRanking(after, None).logits(*requests), after.logits(*requests))


@pytest.mark.parametrize("seed", range(3))
def test_validation_is_never_worse(seed: int, tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_histories(seed))
    candidate, before = networks(split, tmp_path, epochs=8)
    after, weights = add_neighbours(candidate, before, tables(split), split.validation, candidate_count=COUNT)
    if not any(weights.values()):
        assert after is before
    gained = gains(ranked(candidate, after, split.validation)) - gains(ranked(candidate, before, split.validation))
    assert gained.mean() >= -1e-9


def test_where_all_items_are_candidates_those_that_were_seen_do_not_count(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.8))
    candidate, before = networks(split, tmp_path, epochs=0)
    after, weights = add_neighbours(candidate, before, tables(split), split.validation, candidate_count=ITEM_COUNT)
    assert weights["succession-knn"] > 0
    found = [chain_ranks(candidate, network, split.test, candidate_count=ITEM_COUNT) for network in (before, after)]
    assert (gains(found[1]) - gains(found[0])).mean() > 0.3


def test_a_table_of_weight_zero_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.8))
    candidate, before = networks(split, tmp_path, epochs=0)
    monkeypatch.setattr(ranking_neighbours, "fit_weights", lambda *_, **__: {"ease": 0.0, "co_watches": 0.5})
    after, _ = add_neighbours(candidate, before, tables(split), split.validation, candidate_count=COUNT)
    assert after.matching is not None
    [table] = after.matching.neighbours
    assert isinstance(table, Neighbours)
    assert float(table.weight) == 0.5
    assert table.rows.shape == (ITEM_COUNT, table.options.neighbour_count)
    assert np.isfinite(ranked(candidate, after, split.test)).all()


def test_the_candidate_network_keeps_its_own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks may have the same tables, with other weights."""
    split = LogSplit.leave_last_out(planted_successions(1, share=0.8))
    candidate, before = networks(split, tmp_path, epochs=0)
    added = add_to_candidates(candidate, tables(split), split.validation, candidate_count=COUNT)
    own = [float(table.weight) for table in added.network.neighbours.tables]
    assert own
    assert sorted(own) == pytest.approx(sorted(weight for weight in added.weights.values() if weight))
    ranking = with_neighbours(before, added.network.neighbours.tables)
    monkeypatch.setattr(ranking_neighbours, "fit_weights", lambda *_, **__: dict.fromkeys(added.tables, 123.0))
    after, _ = add_neighbours(added.network, ranking, added.tables, split.validation, candidate_count=COUNT)
    assert after.matching is not None
    assert [float(table.weight) for table in after.matching.neighbours.tables] == [123.0] * len(added.tables)
    assert [float(table.weight) for table in added.network.neighbours.tables] == own


def test_a_table_holds_the_largest_numbers_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.5))
    monkeypatch.setattr(tables_module, "NEIGHBOURS_PER_ITEM", 3)
    cosines = co_watch_cosines(split.training, ITEM_COUNT).toarray()
    table = tables(split)["co_watches"]
    assert table.values.shape == (ITEM_COUNT, 3)
    np.testing.assert_allclose(table.values, -np.sort(-cosines, axis=1)[:, :3], rtol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosines, table.rows.numpy().astype(int), axis=1), table.values)
