"""Counts and histograms of several client processes add up, and a load is shared out without losing a caller."""

from collections import Counter
from pathlib import Path

import pytest

from winnow.loadtest.histories import read_histories
from winnow.loadtest.load import Load
from winnow.loadtest.measured import PARTS, Measured, added_over_time
from winnow.loadtest.summary import Point, plot_latency_over_rate


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
    decoded = Measured.decode(original.encode())
    assert decoded.as_json() == original.as_json()
    assert decoded.goodput_per_second == 0.5


@pytest.mark.parametrize(("concurrency", "processes"), [(1, 1), (7, 3), (64, 2)])
def test_every_caller_belongs_to_one_process(concurrency: int, processes: int) -> None:
    load = Load(target="", requests=[b""], answer_length=20, seconds=1, concurrency=concurrency, processes=processes)
    callers = [load.share(number).callers for number in range(processes)]
    assert sum(callers) == concurrency
    assert max(callers) - min(callers) <= 1


def test_an_open_loop_is_shared_out_by_rate() -> None:
    load = Load(target="", requests=[b""], answer_length=20, seconds=1, rate_per_second=900, processes=3)
    assert [(share.callers, share.rate_per_second) for share in map(load.share, range(3))] == [(0, 300)] * 3


@pytest.mark.parametrize("wrong", [{}, {"concurrency": 4, "rate_per_second": 1.0}])
def test_a_load_is_either_open_or_closed(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exactly one of concurrency and rate_per_second"):
        Load(target="", requests=[b""], answer_length=20, seconds=1, **wrong)  # type: ignore[arg-type]


def test_histories_are_read_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "histories.jsonl"
    path.write_text('["a", "b"]\n[]\n')
    assert read_histories(path) == [["a", "b"], []]
    path.write_text('["a"]\n["b", 3]\n')
    with pytest.raises(ValueError, match="line 2: not a list of item ids"):
        read_histories(path)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no history"):
        read_histories(path)


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    points = [
        Point(offered=f"{rate}/s", rate_per_second=rate, measured=measured([int(rate)] * 10)) for rate in (100.0, 200.0)
    ]
    plot_latency_over_rate({"winnow": points}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
