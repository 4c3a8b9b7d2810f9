"""The ranking network learns what is planted from the candidates of a trained candidate network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.settings import TINY
from tests.unit.training.trainees import NOWHERE, SPLIT, candidate_trainee, context_in, ranking_trainee
from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.ranks import candidate_ranks, chain_ranks
from winnow.history import RaggedRows, WatchHistories
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_ranking import FoldedRanking
from winnow.networks.packed import pack_histories
from winnow.training.loop import train
from winnow.training.watch_ranking_trainee import WatchRankingTrainee, build_ranking_network


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> DeepCandidateGenerationModel:
    trainee = candidate_trainee()
    train(trainee, context_in(tmp_path_factory.mktemp("checkpoints")))
    return trainee.network


@pytest.mark.parametrize("matching", [False, True])
def test_ranking_prefers_the_users_group(trained: DeepCandidateGenerationModel, matching: bool, tmp_path: Path) -> None:
    # All unseen items are candidates: those of the other group have to be ranked last.
    # Without matching, a tower has to learn from random numbers that a user and an item are of one group.
    epochs = 3 if matching else 30
    settings = replace(TINY.ranking, matching=matching, candidate_count=29, epochs=epochs, hidden_dim=16)
    trainee = ranking_trainee(trained, settings)
    train(trainee, context_in(tmp_path))
    ranks = chain_ranks(trained, trainee.network, SPLIT.test, candidate_count=29)
    assert np.mean(ranks < 9) > 0.9


def test_matching_begins_with_the_order_of_the_candidates(trained: DeepCandidateGenerationModel) -> None:
    network = build_ranking_network(trained, TINY.ranking, None, seed=5)
    by_chain = chain_ranks(trained, network, SPLIT.test, candidate_count=29)
    np.testing.assert_array_equal(by_chain, candidate_ranks(trained, SPLIT.test))


def test_matching_needs_the_width_of_the_candidate_network(trained: DeepCandidateGenerationModel) -> None:
    with pytest.raises(ValueError, match="embedding_dim is 8: with matching it must be 16"):
        build_ranking_network(trained, replace(TINY.ranking, embedding_dim=8), None, seed=5)


def test_examples_weigh_what_the_log_says() -> None:
    # A candidate network that does not see the weights itself.
    history = replace(TINY.candidate.options.history, watch_features=None, signed_bags=0)
    options = replace(TINY.candidate.options, history=history)
    blind = candidate_trainee(replace(TINY.candidate, options=options)).network
    by_log = replace(TINY.ranking, positive_weight=1.0, weighted=True)
    training = SPLIT.training
    tenfold = WatchHistories(training.rows, training.offsets, 10 * training.weights, training.timestamps)
    by_setting = replace(TINY.ranking, positive_weight=10.0, weighted=False)
    torch.manual_seed(0)
    first, _ = next(ranking_trainee(blind, by_log, replace(SPLIT, training=tenfold)).losses(0))
    torch.manual_seed(0)
    second, _ = next(ranking_trainee(blind, by_setting).losses(0))
    torch.testing.assert_close(first, second)


def test_a_user_gives_no_more_examples_than_the_limit(trained: DeepCandidateGenerationModel) -> None:
    trainee = ranking_trainee(trained, replace(TINY.ranking, examples_per_user=3))
    assert sum(count for _, count in trainee.losses(0)) == 3 * len(SPLIT.training)


def test_watches_that_are_held_back_are_the_examples(trained: DeepCandidateGenerationModel) -> None:
    held_back = np.zeros(len(SPLIT.training.rows), dtype=np.bool_)
    # Of the first user the first watch, which has no history, and two more.
    held_back[[0, 3, 5]] = True
    trainee = WatchRankingTrainee(SPLIT, trained, TINY.ranking, NOWHERE, held_back=held_back)
    assert sum(count for _, count in trainee.losses(0)) == 2


def test_all_watches_are_examples_where_none_that_is_held_back_has_a_history(
    trained: DeepCandidateGenerationModel,
) -> None:
    held_back = np.zeros(len(SPLIT.training.rows), dtype=np.bool_)
    held_back[0] = True
    trainee = WatchRankingTrainee(SPLIT, trained, TINY.ranking, NOWHERE, held_back=held_back)
    assert sum(count for _, count in trainee.losses(0)) == TINY.ranking.examples_per_user * len(SPLIT.training)


def test_what_a_user_watches_later_is_no_negative(trained: DeepCandidateGenerationModel) -> None:
    """Of users who watch the whole catalogue there are no negatives: the loss is that of their targets alone."""
    everything = WatchHistories.of(RaggedRows.from_lists([np.roll(np.arange(40), user).tolist() for user in range(8)]))
    split = replace(SPLIT, training=everything)
    settings = replace(TINY.ranking, candidate_count=40, weighted=False, positive_weight=1.0, latest_count=0)
    trainee = ranking_trainee(trained, settings, split)
    for loss, _ in trainee.losses(0):
        # One candidate is the target, whose share of the list is one: only the logistic regression is left.
        assert 0 < loss.item() < 2
        with torch.no_grad():
            trainee.network.output.bias.fill_(50.0)
    *_, (last, _) = trainee.losses(0)
    assert last.item() < 0.1


def test_continuous_features_are_learned_from_and_served_as_trained(
    trained: DeepCandidateGenerationModel, tmp_path: Path
) -> None:
    """The category of an item is its group: how many watches are of it says what a tower alone learns in 30 epochs."""
    counts = SPLIT.watch_counts(40)
    facts = replace(
        ItemFacts.unknown((counts / counts.sum()).astype(np.float32)),
        categories=(np.arange(40) % 2).astype(np.int32),
    )
    settings = replace(
        TINY.ranking, matching=False, candidate_count=29, epochs=6, features=("category_watches", "popularity")
    )
    nothing = np.zeros(len(SPLIT.training.rows), dtype=np.bool_)
    trainee = WatchRankingTrainee(SPLIT, trained, settings, NOWHERE, held_back=nothing, facts=facts)
    assert not trainee.network.reads_contexts
    train(trainee, context_in(tmp_path))
    ranks = chain_ranks(trained, trainee.network, SPLIT.test, candidate_count=29)
    assert np.mean(ranks < 9) > 0.9
    histories, candidates = trainee.network.pack(SPLIT.test.histories.slice(0, 3)), [[1, 2, 3], [4], [5, 39]]
    packed = pack_histories(RaggedRows.from_lists(candidates), None, None, torch.device("cpu"))
    with torch.inference_mode():
        served = FoldedRanking(trainee.network, None).logits(histories, packed)
        torch.testing.assert_close(served, trainee.network.logits(histories, packed))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("popularity", "item_age_seconds"), "item_age_seconds: only a log of impressions has"),
        (("colour",), "features: colour: they are some of"),
    ],
)
def test_features_that_a_log_of_watches_cannot_give_are_refused(
    trained: DeepCandidateGenerationModel, names: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        build_ranking_network(trained, replace(TINY.ranking, features=names), None, seed=5)
