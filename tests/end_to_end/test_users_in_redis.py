"""Two gateways and one Valkey or Redis server: shared histories, and answers while the server is killed or hangs."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.conftest import local_stack
from tests.redis_server import RedisServer, redis_server
from tests.releases import item_id
from tests.service.process import running
from winnow.client import DegradationStep, Event, Recommendations, WinnowClient, WinnowError

WATCHES = [Event(user_id="ann", item_id=item_id(row), time=1_700_000_000 + row) for row in (3, 7, 12)]
HISTORY = [event.item_id for event in WATCHES]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(scope="module")
def client(releases: Path, server: RedisServer) -> Iterator[WinnowClient]:
    flags = [f"--users-store={server.address}", "--users-timeout-seconds=1"]
    with (
        local_stack(releases, gateway=flags) as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=5) as opened,
    ):
        opened.write_events(WATCHES)
        yield opened


def eventually(client: WinnowClient, step: DegradationStep, reason: str) -> Recommendations:
    give_up = time.monotonic() + 30
    while True:
        answer = client.recommend(user_id="ann")
        if (answer.degradation.step, answer.degradation.reason) == (step, reason):
            return answer
        assert time.monotonic() < give_up, answer.degradation
        time.sleep(0.05)


def ids(answer: Recommendations) -> list[str]:
    return [item.item_id for item in answer.items]


def test_gateways_share_the_histories(client: WinnowClient, releases: Path, server: RedisServer) -> None:
    assert client.history("ann") == WATCHES
    with (
        running("gateway", releases, f"--users-store={server.address}") as other,
        WinnowClient(other.target, timeout_seconds=5) as second,
    ):
        assert second.history("ann") == WATCHES
        second.write_events([Event(user_id="bob", item_id="x")])
        assert len(client.history("bob")) == 1
        assert client.delete_user("bob") == 1
        assert second.history("bob") == []


@pytest.mark.parametrize("hangs", [False, True])
def test_answers_go_on_without_the_server(client: WinnowClient, server: RedisServer, hangs: bool) -> None:
    full = client.recommend(user_id="ann")
    assert not full.degraded
    assert server.process is not None
    if hangs:
        server.process.send_signal(signal.SIGSTOP)
    else:
        server.kill()
    reason = "users: DEADLINE_EXCEEDED" if hangs else "users: UNAVAILABLE"
    assert ids(eventually(client, DegradationStep.POPULAR_RANKED, reason)) == ids(client.recommend([]))
    assert not client.recommend(HISTORY).degraded
    with pytest.raises(WinnowError) as raised:
        client.write_events([Event(user_id="carl", item_id=item_id(1))])
    assert raised.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if hangs:
        server.process.send_signal(signal.SIGCONT)
    else:
        server.start()
    assert ids(eventually(client, DegradationStep.NONE, "")) == ids(full)
    assert client.history("ann") == WATCHES
