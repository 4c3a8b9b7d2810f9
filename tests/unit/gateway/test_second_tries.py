"""How often a stage call may be made again, and when it is overdue."""

import pytest

from gateway.second_tries import SHORTEST_OVERDUE_SECONDS, OverdueTime, RetryBudget


def test_the_budget_allows_a_share_of_calls_after_what_was_saved_up() -> None:
    budget = RetryBudget(0.1)
    saved_up = sum(budget.take() for _ in range(100))
    assert saved_up == 10
    retried = 0
    for _ in range(1000):
        budget.on_call()
        retried += budget.take()
    assert retried == pytest.approx(100, abs=1)


def test_before_any_answer_half_of_the_time_left_is_waited() -> None:
    assert OverdueTime().seconds(0.8) == 0.4


def test_answers_that_take_as_long_as_each_other_are_soon_expected() -> None:
    overdue = OverdueTime()
    for _ in range(50):
        overdue.answered(0.2)
    assert overdue.seconds(10) == pytest.approx(0.2, rel=0.01)


def test_answers_that_vary_are_given_more_time() -> None:
    overdue = OverdueTime()
    for at in range(100):
        overdue.answered(0.1 if at % 2 else 0.3)
    assert overdue.seconds(10) > 0.5


def test_a_moment_is_nothing() -> None:
    overdue = OverdueTime()
    for _ in range(50):
        overdue.answered(0.001)
    assert overdue.seconds(10) == SHORTEST_OVERDUE_SECONDS
