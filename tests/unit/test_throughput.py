"""How long work is expected to take, by how long it took of late."""

import pytest

from winnow.throughput import Throughput

LARGE = 10


def after(batch_count: int, weight: int = LARGE, seconds: float = 1.0) -> Throughput:
    """What is known after so many batches, one after the other; the last one is completed at `batch_count` seconds."""
    throughput = Throughput(LARGE)
    for number in range(1, batch_count + 1):
        throughput.completed(weight, number * seconds)
    return throughput


def test_nothing_is_known_at_first_nor_by_the_first_batch() -> None:
    """How long a batch is in flight says little about how many are completed side by side."""
    assert after(0).seconds(100) == 0
    assert after(1).seconds(100) == 0
    assert after(2).seconds(2 * LARGE) == pytest.approx(2)


def test_what_is_busy_goes_on_as_before() -> None:
    assert after(50).seconds(2 * LARGE) == pytest.approx(2)


def test_small_batches_say_nothing_about_large_ones() -> None:
    assert after(50, weight=LARGE - 1).seconds(LARGE) == 0


def test_a_small_batch_says_how_much_can_be_done_at_least() -> None:
    throughput = after(50)
    for number in range(100):
        throughput.completed(LARGE // 2, now=50 + 0.1 * (number + 1))
    assert throughput.seconds(LARGE) == pytest.approx(0.2, rel=0.1)


def test_those_who_refuse_batches_do_less_and_are_known_to() -> None:
    throughput = after(50)
    for number in range(20):
        throughput.refused(now=50.5 + number)
        throughput.completed(LARGE, now=51.0 + number)
        throughput.refused(now=51.5 + number)
    assert throughput.seconds(LARGE) == pytest.approx(1, rel=0.3)
    for number in range(20):
        throughput.refused(now=71.0 + number)
    assert throughput.seconds(LARGE) > 1.5


def test_where_nothing_is_done_nothing_more_is_expected() -> None:
    throughput = Throughput(LARGE)
    for number in range(5):
        throughput.refused(now=float(number))
    assert throughput.seconds(LARGE) == 4 * LARGE


def test_nothing_is_known_after_a_quiet_time() -> None:
    throughput = after(50)
    throughput.forget()
    assert throughput.seconds(LARGE) == 0


def test_batches_side_by_side_are_one_stream() -> None:
    throughput = Throughput(LARGE)
    for second in range(1, 50):
        for _ in range(4):
            throughput.completed(LARGE, now=float(second))
    assert throughput.seconds(4 * LARGE) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_change_shows_within_some_batches(factor: float) -> None:
    throughput, now = after(100), 100.0
    for _ in range(60):
        throughput.completed(LARGE, now := now + factor)
    assert throughput.seconds(LARGE) == pytest.approx(factor, rel=0.2)


def test_one_batch_that_waited_for_a_dead_peer_is_no_change() -> None:
    throughput = after(100)
    throughput.completed(LARGE, now=1100.0)
    assert throughput.seconds(LARGE) < 2
