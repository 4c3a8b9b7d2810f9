"""How long work is expected to take, by how long it took of late."""

import pytest

from winnow.throughput import Throughput

LARGE = 10


def after(batch_count: int, weight: int = LARGE, seconds: float = 1.0, idle_seconds: float = 0.0) -> Throughput:
    """What is known after so many batches, one after the other."""
    throughput, now = Throughput(LARGE), 0.0
    for _ in range(batch_count):
        throughput.began(now)
        throughput.completed(weight, now + seconds)
        throughput.ended(now + seconds)
        now += seconds + idle_seconds
    return throughput


def test_nothing_is_known_at_first() -> None:
    throughput = Throughput(LARGE)
    assert throughput.seconds(100) == 0
    throughput.began(now=1.0)
    assert throughput.seconds(100) == 0


def test_what_is_saturated_goes_on_as_before() -> None:
    assert after(50).seconds(2 * LARGE) == pytest.approx(2)


def test_what_has_nothing_to_do_most_of_the_time_could_do_more() -> None:
    assert after(50, idle_seconds=99).seconds(2 * LARGE) == pytest.approx(1, rel=0.05)


def test_so_could_one_that_is_busy_with_small_batches() -> None:
    assert after(50, weight=1).seconds(10) == pytest.approx(5.5)


def test_batches_side_by_side_are_one_stream() -> None:
    throughput = Throughput(LARGE)
    throughput.began(now=0.0)
    for second in range(1, 50):
        for _ in range(4):
            throughput.completed(LARGE, now=float(second))
    assert throughput.seconds(4 * LARGE) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_change_shows_within_some_batches(factor: float) -> None:
    throughput, now = Throughput(LARGE), 0.0
    throughput.began(now)
    for _ in range(100):
        throughput.completed(LARGE, now := now + 1)
    for _ in range(60):
        throughput.completed(LARGE, now := now + factor)
    assert throughput.seconds(LARGE) == pytest.approx(factor, rel=0.2)


def test_one_batch_that_waited_for_a_dead_peer_is_no_change() -> None:
    throughput = after(100)
    throughput.began(now=100.0)
    throughput.completed(LARGE, now=1100.0)
    assert throughput.seconds(LARGE) < 2


def test_batches_that_fail_say_nothing_but_take_time() -> None:
    throughput = after(100)
    throughput.began(now=100.0)
    assert throughput.seconds(LARGE) == pytest.approx(1)
    throughput.completed(LARGE, now=105.0)  # of six side by side, the only one that did not fail
    assert throughput.seconds(LARGE) == pytest.approx(1.2, rel=0.01)
