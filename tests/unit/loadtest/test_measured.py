"""Answers are counted and their latency is split into parts; what several client processes saw adds up."""

from collections import Counter
from pathlib import Path

import pytest

from winnow.loadtest.measured import PARTS, Measured, added_over_time
from winnow.loadtest.summary import Point, plot_latency_over_rate
from winnow.v1 import recommendation_pb2

NOT_DEGRADED = recommendation_pb2.Degradation(step=recommendation_pb2.DEGRADATION_STEP_NONE)


def response(
    item_count: int = 20,
    degradation: recommendation_pb2.Degradation = NOT_DEGRADED,
    timing: recommendation_pb2.Timing | None = None,
) -> recommendation_pb2.RecommendItemsResponse:
    return recommendation_pb2.RecommendItemsResponse(
        items=[recommendation_pb2.ScoredItem()] * item_count, degradation=degradation, timing=timing
    )


def measured(latencies_microseconds: list[int], seconds: float = 2.0) -> Measured:
    made = Measured(seconds=seconds, answered_count=len(latencies_microseconds), failures=Counter(UNAVAILABLE=1))
    for value in latencies_microseconds:
        made.latency.record_value(value)
        for part in PARTS:
            made.parts[part].record_value(value // 5)
    return made


def test_processes_add_up_in_the_same_seconds() -> None:
    total = measured([1000] * 50)
    total.add(measured([9000] * 50))
    assert total.rate_per_second == 50
    assert total.failures == {"UNAVAILABLE": 2}
    assert total.milliseconds("p50") == pytest.approx(1.0, rel=1e-3)
    assert total.milliseconds("p99") == pytest.approx(9.0, rel=1e-3)


def test_rounds_add_up_to_a_longer_run() -> None:
    total = added_over_time([measured([1000] * 50), measured([2000] * 150)])
    assert (total.seconds, total.answered_count, total.rate_per_second) == (4.0, 200, 50)


def test_what_is_encoded_for_another_process_is_the_same_when_decoded() -> None:
    original = measured([700, 1500, 90_000])
    original.degraded_count = 2
    original.client_cpu_seconds = 0.25
    decoded = Measured.decode(original.encode())
    assert decoded.as_json() == original.as_json()
    assert decoded.goodput_per_second == 0.5
    assert decoded.client_cpu_seconds == 0.25


def test_the_parts_of_a_call_add_up_to_its_latency() -> None:
    recorded = Measured(seconds=1)
    timing = recommendation_pb2.Timing(
        total_microseconds=9_000,
        wait_microseconds=1_000,
        retrieve_microseconds=4_000,
        retrieve_compute_microseconds=2_500,
        rank_microseconds=3_000,
        rank_compute_microseconds=2_000,
        select_microseconds=200,
    )
    recorded.record(response(timing=timing), microseconds=10_000, length=20)
    parts = {part: recorded.parts[part].get_mean_value() for part in PARTS}
    expected = {"outside": 1_000, "gateway": 1_000, "wait": 1_000, "queue": 2_500, "retrieve": 2_500, "rank": 2_000}
    assert parts == pytest.approx(expected, rel=1e-3)
    assert sum(parts.values()) == pytest.approx(10_000, rel=1e-3)


def test_an_answer_that_does_not_say_where_its_time_went_has_a_latency_only() -> None:
    recorded = Measured(seconds=1)
    recorded.record(response(), microseconds=10_000, length=20)
    assert recorded.milliseconds("p50") == pytest.approx(10, rel=1e-3)
    assert set(recorded.as_json()["parts_mean_milliseconds"].values()) == {None}


def test_degraded_answers_count_as_answers_but_not_as_goodput() -> None:
    recorded = Measured(seconds=1)
    degraded = recommendation_pb2.Degradation(step=recommendation_pb2.DEGRADATION_STEP_POPULAR)
    for answer in (response(), response(degradation=degraded), response()):
        recorded.record(answer, microseconds=1_000, length=20)
    assert (recorded.answered_count, recorded.degraded_count, recorded.goodput_per_second) == (3, 1, 2)


def test_an_answer_of_another_length_is_a_failure_unless_any_length_will_do() -> None:
    recorded = Measured(seconds=1)
    recorded.record(response(item_count=19), microseconds=1_000, length=20)
    assert (recorded.answered_count, recorded.failures) == (0, {"INVALID_ANSWER": 1})
    recorded.record(response(item_count=19), microseconds=1_000, length=0)
    assert recorded.answered_count == 1


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    points = [
        Point(offered=f"{rate}/s", rate_per_second=rate, measured=measured([int(rate)] * 10)) for rate in (100.0, 200.0)
    ]
    plot_latency_over_rate({"winnow": points}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
