"""Copies of histories hold the same watches in another order, and are examples beside the histories."""

from dataclasses import replace

import numpy as np

from tests.unit.training.planted import planted_histories
from tests.unit.training.settings import TINY
from tests.unit.training.trainees import SPLIT, candidate_trainee
from winnow.training.shuffled_copies import at_positions, positions_of_copies


def test_a_copy_has_the_same_watches_with_their_weights_and_times_in_another_order() -> None:
    histories = planted_histories()
    weighted = replace(histories, weights=np.arange(len(histories.rows), dtype=np.float32))
    positions = positions_of_copies(weighted, 2, np.random.default_rng(1))
    copies = at_positions(weighted, positions)
    assert len(copies) == 3 * len(histories)
    for user in range(len(histories)):
        own = histories[user].tolist()
        first, second, third = (copies[user + copy * len(histories)].tolist() for copy in range(3))
        assert first == own
        assert sorted(second) == sorted(third) == sorted(own)
        assert not own == second == third
    np.testing.assert_array_equal(copies.rows, weighted.rows[copies.weights.astype(int)])
    np.testing.assert_array_equal(copies.timestamps, weighted.timestamps[copies.weights.astype(int)])


def test_no_copies_are_the_histories_themselves() -> None:
    histories = planted_histories()
    assert at_positions(histories, positions_of_copies(histories, 0, np.random.default_rng(1))) is histories


def test_every_epoch_learns_from_all_copies_but_never_to_predict_what_is_held_back() -> None:
    plain = candidate_trainee()
    settings = replace(TINY.candidate, shuffled_copies=3, options=replace(TINY.candidate.options, example_age=True))
    shuffled = candidate_trainee(settings)
    assert shuffled.steps_per_epoch == 4 * plain.steps_per_epoch
    with_history = len(SPLIT.training.rows) - len(SPLIT.training)
    counts = [sum(count for _, count in shuffled.losses(epoch)) for epoch in range(2)]
    assert counts[0] != counts[1]
    held_back = int(shuffled.held_back.sum())
    for count in counts:
        # The first watch of a copy is no example, whether it is held back or not.
        assert 4 * (with_history - held_back) <= count <= 4 * (len(SPLIT.training.rows) - held_back)


def test_examples_per_user_limit_the_copies_too() -> None:
    trainee = candidate_trainee(replace(TINY.candidate, shuffled_copies=1, examples_per_user=2))
    assert 0 < sum(count for _, count in trainee.losses(0)) <= 2 * 2 * len(SPLIT.training)
