"""A client process reaches the gateway over as many connections as it is told to."""

import queue
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.client.fake_gateway import FakeGateway, fake_gateway
from winnow.loadtest.caller import run_client
from winnow.loadtest.load import Load
from winnow.loadtest.measured import Measured


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as running:
        yield running


def run(gateway: FakeGateway, *, request: bytes = b"", **kind: Any) -> Measured:
    """Put a load on the gateway with one client process, which is this one."""
    load = Load(
        target=gateway.target,
        requests=[request],
        answer_length=0,
        seconds=1.0,
        warm_up_seconds=0,
        timeout_seconds=5,
        **kind,
    )
    results: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    run_client(load.share(0), threading.Barrier(1), SimpleNamespace(value=time.monotonic() + 0.2), results)  # type: ignore[arg-type]
    return Measured.decode(results.get())


@pytest.mark.parametrize(("connection_per_caller", "connections"), [(False, 2), (True, 5)])
def test_callers_share_connections_or_have_one_each(
    gateway: FakeGateway, connection_per_caller: bool, connections: int
) -> None:
    measured = run(gateway, concurrency=5, connections=2, connection_per_caller=connection_per_caller)
    assert measured.failures == {}
    assert measured.answered_count >= 5
    assert len(set(gateway.peers)) == connections


def test_an_open_loop_uses_all_connections(gateway: FakeGateway) -> None:
    assert run(gateway, rate_per_second=100, connections=3).failures == {}
    assert len(set(gateway.peers)) == 3


def test_failures_are_counted_by_status(gateway: FakeGateway) -> None:
    measured = run(gateway, request=b"not a message", concurrency=1)
    assert measured.answered_count == 0
    assert measured.failures.keys() == {"INTERNAL"}
