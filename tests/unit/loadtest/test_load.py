"""A load is shared among client processes without losing a caller, a connection or a request."""

import pytest

from winnow.loadtest.load import Load


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


@pytest.mark.parametrize(("connection_per_caller", "connections"), [(False, [3, 3]), (True, [4, 3])])
def test_callers_share_connections_or_have_one_each(connection_per_caller: bool, connections: list[int]) -> None:
    load = Load(
        target="", requests=[b""], answer_length=20, seconds=1, concurrency=7, processes=2, connections=3,
        connection_per_caller=connection_per_caller,
    )  # fmt: skip
    assert [load.share(number).connections for number in range(2)] == connections


def test_an_open_loop_has_no_callers_to_connect() -> None:
    with pytest.raises(ValueError, match="connection_per_caller needs concurrency"):
        Load(target="", requests=[b""], answer_length=20, seconds=1, rate_per_second=9.0, connection_per_caller=True)
