from gateway.circuit_breaker import CircuitBreaker


def opened(now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(3):
        assert not breaker.open
        opens = breaker.failed(now)
    assert opens
    assert breaker.open
    return breaker


def test_it_opens_after_three_failures_in_a_row_or_after_many_among_good_answers() -> None:
    opened()
    breaker = CircuitBreaker()
    for _ in range(20):
        breaker.failed(0)
        breaker.answered()
    assert breaker.open


def test_it_stays_closed_if_one_call_in_ten_fails() -> None:
    breaker = CircuitBreaker()
    for number in range(1_000):
        if number % 10:
            breaker.answered()
        else:
            breaker.failed(0)
    assert not breaker.open


def test_there_is_one_probe_at_a_time_each_later_than_the_one_before() -> None:
    breaker = opened(now=0)
    assert not breaker.take_probe(0.9)
    assert breaker.take_probe(1)
    assert not breaker.take_probe(100)
    pauses = []
    now = 1.0
    for _ in range(6):
        breaker.probed(now, good=False)
        pause = next(tenths / 10 for tenths in range(1, 200) if breaker.take_probe(now + tenths / 10))
        pauses.append(pause)
        now += pause
    assert pauses == [2, 4, 8, 10, 10, 10]


def test_calls_that_were_under_way_when_it_opened_do_not_keep_it_open() -> None:
    breaker = opened(now=0)
    assert not breaker.failed(5)
    assert breaker.take_probe(5)


def test_a_good_probe_closes_it_and_everything_is_forgotten() -> None:
    breaker = opened()
    assert breaker.take_probe(1)
    breaker.probed(1, good=True)
    assert not breaker.open
    assert not breaker.take_probe(1_000)
    breaker.failed(2)
    assert not breaker.open
