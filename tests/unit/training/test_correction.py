"""Ranking never makes the candidates' order worse: where there is nothing to learn, it is kept, and else improved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.planted import planted_histories, planted_successions
from tests.unit.training.settings import TINY
from tests.unit.training.trainees import ITEM_COUNT, NOWHERE, context_in
from winnow.evaluation.rank_figures import NOT_FOUND, Ranks, gains
from winnow.evaluation.ranks import candidate_ranks, chain_logits, chain_ranks, corrected_ranks
from winnow.logs.split import HeldOut, LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.recalibration import NO_CORRECTION, WHOLE_CORRECTION, CorrectionFactors, scale_correction
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.correction import fit_correction, possible_factors, shift_to_hits, use_correction
from winnow.training.loop import train
from winnow.training.presets import RankingSettings
from winnow.training.watch_ranking_trainee import WatchRankingTrainee

COUNT = 28
SETTINGS = replace(TINY.ranking, candidate_count=COUNT, weighted=False, positive_weight=1.0)


def trainees(
    split: LogSplit, directory: Path, *, candidate_epochs: int, ranking: RankingSettings = SETTINGS, seed: int = 5
) -> tuple[DeepCandidateGenerationModel, WatchRankingTrainee]:
    """A candidate network, and the ranking network in training on it."""
    settings = replace(TINY.candidate, epochs=max(candidate_epochs, 1))
    candidate = CandidateTrainee(split, split.watch_counts(ITEM_COUNT), settings, NOWHERE)
    if candidate_epochs:
        train(candidate, context_in(directory, seed=seed))
    network = candidate.network.eval().requires_grad_(requires_grad=False)
    return network, WatchRankingTrainee(split, network, ranking, NOWHERE, held_back=candidate.held_back)


def both(network: DeepCandidateGenerationModel, trainee: WatchRankingTrainee, part: HeldOut) -> tuple[Ranks, Ranks]:
    with torch.inference_mode():
        return candidate_ranks(network, part), chain_ranks(network, trainee.network, part, candidate_count=COUNT)


def used(network: DeepCandidateGenerationModel, trainee: WatchRankingTrainee, split: LogSplit) -> CorrectionFactors:
    return use_correction(network, trainee.network, split.validation, candidate_count=COUNT)


@pytest.mark.parametrize("seed", range(4))
def test_where_there_is_nothing_to_learn_the_candidates_order_is_not_made_worse(seed: int, tmp_path: Path) -> None:
    """Within a group, the next watch is drawn at random: the candidate network knows the groups."""
    split = LogSplit.leave_last_out(planted_histories(seed))
    network, trainee = trainees(split, tmp_path, candidate_epochs=8, seed=seed)
    train(trainee, context_in(tmp_path, seed=seed))
    factors = used(network, trainee, split)
    by_candidates, by_chain = both(network, trainee, split.validation)
    assert gains(by_chain).mean() >= gains(by_candidates).mean() - 1e-9
    by_candidates, by_chain = both(network, trainee, split.test)
    if factors == NO_CORRECTION:
        np.testing.assert_array_equal(by_chain, np.where(by_candidates < COUNT, by_candidates, NOT_FOUND))
    else:
        differences = gains(by_chain) - gains(by_candidates)
        assert differences.mean() > -2 * differences.std() / np.sqrt(len(differences))


def test_where_there_is_much_to_learn_the_chain_gains(tmp_path: Path) -> None:
    """What follows is planted, and the candidate network, which has not been trained, does not know it."""
    split = LogSplit.leave_last_out(planted_successions(1, share=0.8))
    network, trainee = trainees(split, tmp_path, candidate_epochs=0, ranking=replace(SETTINGS, learning_rate=0.03))
    train(trainee, context_in(tmp_path))
    assert used(network, trainee, split).successions > 0
    by_candidates, by_chain = both(network, trainee, split.test)
    assert gains(by_chain).mean() > gains(by_candidates).mean() + 0.2


def test_a_training_that_only_harms_does_not_make_the_order_worse(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.0))
    harmful = replace(SETTINGS, learning_rate=3.0, examples_per_user=1, epochs=1, negative_count=1)
    network, trainee = trainees(split, tmp_path, candidate_epochs=3, ranking=harmful)
    train(trainee, context_in(tmp_path))
    used(network, trainee, split)
    by_candidates, by_chain = both(network, trainee, split.validation)
    assert gains(by_chain).mean() >= gains(by_candidates).mean() - 1e-9


def test_factors_are_what_scaling_the_network_gives(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.5))
    network, trainee = trainees(split, tmp_path, candidate_epochs=2)
    train(trainee, context_in(tmp_path))
    validation = split.validation
    factors = possible_factors(trainee.network)
    assert (factors[0], factors[-1]) == (NO_CORRECTION, WHOLE_CORRECTION)
    found = corrected_ranks(network, trainee.network, validation, candidate_count=COUNT, factors=factors)
    by_candidates = candidate_ranks(network, validation)
    np.testing.assert_array_equal(found[0], np.where(by_candidates < COUNT, by_candidates, NOT_FOUND))
    np.testing.assert_array_equal(found[-1], chain_ranks(network, trainee.network, validation, candidate_count=COUNT))
    fitted = fit_correction(network, trainee.network, validation, candidate_count=COUNT)
    np.testing.assert_array_equal(fitted.ranks, found[factors.index(fitted.factors)])
    assert used(network, trainee, split) == fitted.factors
    scaled = chain_ranks(network, trainee.network, validation, candidate_count=COUNT)
    np.testing.assert_array_equal(scaled, fitted.ranks)


def test_probabilities_sum_to_the_watches_that_are_candidates(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_successions(1, share=0.5))
    network, trainee = trainees(split, tmp_path, candidate_epochs=1)
    shift = shift_to_hits(network, trainee.network, split.validation, candidate_count=COUNT)
    scale_correction(trainee.network, WHOLE_CORRECTION, shift)
    logits, hits = chain_logits(network, trainee.network, split.validation, candidate_count=COUNT)
    assert 0 < int(hits.sum()) < len(hits)
    assert float(torch.sigmoid(logits).sum()) == pytest.approx(int(hits.sum()), rel=1e-3)
    assert shift_to_hits(network, trainee.network, split.validation, candidate_count=COUNT) == pytest.approx(
        0, abs=1e-3
    )
