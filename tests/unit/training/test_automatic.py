"""Which settings follow from which log."""

from dataclasses import replace

import numpy as np
import pytest

from winnow.logs.statistics import LogStatistics
from winnow.networks.watch_features import quantile_edges
from winnow.training.automatic import BASIS, choose
from winnow.training.presets import DEMO, TrainingSettings

MOVIES = LogStatistics(
    user_count=6_040,
    item_count=3_416,
    watch_count=987_531,
    median_length=94,
    tied_share=0.53,
    repetition_count=1_000_000,
    succession_excess=9.3,
    excess_deviations=5864.0,
    weight_direction=0.5,
    item_direction=0.7,
    weight_count=5,
    lightest=1.0,
    heaviest=5.0,
    whole_weights=True,
)
REVIEWS = replace(
    MOVIES,
    user_count=22_000,
    item_count=12_000,
    watch_count=150_000,
    median_length=5,
    tied_share=0.0,
    weight_count=1,
    heaviest=1.0,
)
PLAYS = replace(
    REVIEWS,
    item_count=1_600,
    watch_count=45_000,
    tied_share=1.0,
    succession_excess=0.02,
    excess_deviations=2.0,
    weight_count=4_000,
    lightest=0.1,
    heaviest=11_754.0,
    whole_weights=False,
)


def settings_of(log: LogStatistics) -> TrainingSettings:
    return choose(log).settings


def test_movielens_is_learned_as_by_the_preset_that_was_chosen_on_it() -> None:
    chosen = settings_of(MOVIES)
    # Ratings have few steps: more ranges cut them in no other way.
    assert chosen.candidate.weight_range_count > DEMO.candidate.weight_range_count
    ratings = np.repeat(np.arange(1.0, 6.0), [56, 107, 261, 349, 227])
    for count in (DEMO.candidate.weight_range_count, chosen.candidate.weight_range_count):
        assert quantile_edges(ratings, count) == (2, 3, 4, 5)
    candidate = replace(chosen.candidate, weight_range_count=DEMO.candidate.weight_range_count, patience=0)
    assert replace(chosen, candidate=candidate, ranking=replace(chosen.ranking, patience=0)) == DEMO


def test_a_small_log_is_learned_in_smaller_steps_and_its_weights_are_not_read_where_they_say_nothing() -> None:
    candidate = settings_of(REVIEWS).candidate
    assert candidate.chunk_length * candidate.chunks_per_batch < (
        BASIS.candidate.chunk_length * BASIS.candidate.chunks_per_batch
    )
    assert candidate.learning_rate < BASIS.candidate.learning_rate
    assert candidate.history_length < BASIS.candidate.history_length
    features = candidate.options.history.watch_features
    assert features is not None
    assert features.gap_edges_seconds
    assert not features.weight_edges


def test_a_log_without_order_is_learned_from_shuffled_histories() -> None:
    chosen = settings_of(PLAYS)
    assert chosen.candidate.shuffled_copies > 0
    assert chosen.candidate.options.history.bag_decays == (0.0,)
    assert chosen.candidate.options.history.bag_lags == ()
    assert chosen.ranking.latest_count == 0
    features = chosen.candidate.options.history.watch_features
    assert features is not None
    assert features.gap_edges_seconds == ()


def test_a_log_of_nothing_but_items_has_no_watch_features() -> None:
    nothing = replace(PLAYS, weight_count=1)
    assert settings_of(nothing).candidate.options.history.watch_features is None


@pytest.mark.parametrize("log", [MOVIES, REVIEWS, PLAYS])
def test_what_the_log_is_read_by_and_the_seed_are_not_chosen_and_both_stages_stop_early(log: LogStatistics) -> None:
    chosen = settings_of(log)
    for name in ("vocabulary_size", "min_item_count", "split", "seed"):
        assert getattr(chosen, name) == getattr(BASIS, name)
    assert chosen.candidate.patience > 0
    assert chosen.ranking.patience > 0


def test_the_larger_the_log_the_fewer_its_epochs() -> None:
    counts = [10, 100_000, 1_000_000, 10_000_000, 1_000_000_000]
    epochs = [settings_of(replace(MOVIES, watch_count=count)).candidate.epochs for count in counts]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] >= 1


def test_every_decision_says_what_was_found_and_what_it_leads_to() -> None:
    choice = choose(PLAYS)
    assert choice.decisions[0] == (
        "the order of the watches says nothing (successions repeat +2% as compared with shuffled histories): "
        "one average of all watches, three shuffled copies of each history, no successions"
    )
    assert choice.as_json()["statistics"]["watch_count"] == 45_000
    assert len(choice.as_json()["decisions"]) == len(choice.decisions) > 3


def test_histories_of_a_large_log_without_an_order_are_not_copied() -> None:
    large = replace(PLAYS, watch_count=20_000_001)
    assert choose(PLAYS).settings.candidate.shuffled_copies == 3
    choice = choose(large)
    assert choice.settings.candidate.shuffled_copies == 0
    assert "no shuffled copies, which would not fit into memory" in choice.decisions[0]
