"""What is logged, and what is not: nothing that a caller sent, and nothing ten thousand times."""

import asyncio
import json
import logging
from collections.abc import Callable

import pytest
import structlog

from tests.unit.serving.conftest import Configure
from winnow.serving.logs import EQUAL_EVENTS, EQUAL_EVENTS_SECONDS, MAX_KEYS, EqualEvents, LogFormat


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Everything logged since the last call."""
    return lambda: capsys.readouterr().err


def test_library_records_are_json_lines_and_cancelled_streams_are_no_news(
    configure: Configure, logged: Callable[[], str]
) -> None:
    configure("json", "info")
    logging.getLogger("some.library").warning("look")
    try:
        raise asyncio.CancelledError
    except asyncio.CancelledError:
        logging.getLogger("grpc._cython.cygrpc").exception("a stream ended with the server")
    try:
        raise ValueError("real")
    except ValueError:
        logging.getLogger("grpc._cython.cygrpc").exception("this is news")
    events = [json.loads(line)["event"] for line in logged().splitlines()]
    assert events == ["look", "this is news"]


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_tracebacks_are_without_the_values_of_variables(
    configure: Configure, logged: Callable[[], str], log_format: LogFormat
) -> None:
    def fail(history: list[str]) -> None:
        raise ValueError(f"{len(history)} watches")

    configure(log_format, "info")
    try:
        fail([f"item-{4 * 6173}"])
    except ValueError:
        structlog.get_logger().exception("ours")
        logging.getLogger("some.library").exception("theirs")
    log = logged()
    assert log.count("fail(") >= 2
    assert log.count("ValueError: 1 watches") == 2
    assert "item-24692" not in log


def test_equal_warnings_are_logged_a_few_times(configure: Configure, logged: Callable[[], str]) -> None:
    configure("json", "info")
    log = structlog.get_logger()
    for number in range(1000):
        log.warning("stage call failed", stage="ranking", details=f"differs: {number}")
        logging.getLogger("some.library").warning("failed %d times", number)
    log.warning("stage call failed", stage="candidate")
    events = [json.loads(line) for line in logged().splitlines()]
    assert len([event for event in events if event.get("stage") == "ranking"]) == EQUAL_EVENTS
    assert len([event for event in events if event.get("stage") == "candidate"]) == 1
    assert len([event for event in events if "times" in event["event"]]) == EQUAL_EVENTS


def test_other_events_are_always_logged(configure: Configure, logged: Callable[[], str]) -> None:
    configure("json", "info")
    for _ in range(3 * EQUAL_EVENTS):
        structlog.get_logger().info("release loaded")
    assert len(logged().splitlines()) == 3 * EQUAL_EVENTS


def test_the_id_that_a_caller_was_given_is_always_found(configure: Configure, logged: Callable[[], str]) -> None:
    configure("json", "info")
    ids = [f"{number:x}" for number in range(3 * EQUAL_EVENTS)]
    for error_id in ids:
        structlog.get_logger().error("internal error", error_id=error_id, stack="many lines")
    events = [json.loads(line) for line in logged().splitlines()]
    assert [event["error_id"] for event in events] == ids
    assert sum("stack" in event for event in events) == EQUAL_EVENTS


def test_the_next_event_says_how_many_were_not_logged() -> None:
    now = 0.0
    equal = EqualEvents(lambda: now)
    assert [equal.suppressed_before("a") for _ in range(EQUAL_EVENTS + 3)] == [0] * EQUAL_EVENTS + [None] * 3
    assert equal.suppressed_before("b") == 0
    now = EQUAL_EVENTS_SECONDS
    assert [equal.suppressed_before("a") for _ in range(2)] == [3, 0]


def test_the_memory_for_different_events_is_bounded() -> None:
    equal = EqualEvents(lambda: 0.0)
    for key in range(10 * MAX_KEYS):
        assert equal.suppressed_before(key) == 0
    assert len(equal._windows) <= MAX_KEYS
